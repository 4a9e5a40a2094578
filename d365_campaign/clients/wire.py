"""One exchange over TLS: verified, without cookies or environment, and over by a deadline."""

import logging
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.exceptions import NewConnectionError
from urllib3.exceptions import ProxyError as TunnelError

from d365_campaign.errors import ConfigurationError, RetriableError, UnknownOutcome

WIRE_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
PIECE = 1 << 16

# At DEBUG these print whole URLs, hence record keys and filters, and the second one client secrets as well.
TALKATIVE = ("urllib3.connectionpool", "requests_oauthlib.oauth2_session")


@dataclass(frozen=True, slots=True)
class WireSettings:
    """Time limits, trust and pool size of one system's connections.

    *total_timeout_seconds* bounds an answer that drips in so slowly that no single read ever times out. *ca_bundle*
    replaces the built-in certificate authorities; verification itself can't be switched off. *workers* is how many
    connections are kept open.
    """

    connect_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 60.0
    total_timeout_seconds: float = 180.0
    ca_bundle: Path | None = None
    proxy: str | None = None
    workers: int = 8

    @property
    def timeouts(self) -> tuple[float, float]:
        """Connecting and each single read, as `requests` takes them."""
        return self.connect_timeout_seconds, self.read_timeout_seconds


class DeadlineAdapter(HTTPAdapter):
    """Reads the body itself, piece by piece, and gives up when the whole exchange has taken too long."""

    def __init__(self, total_seconds: float, pool_size: int) -> None:
        super().__init__(pool_connections=1, pool_maxsize=pool_size, max_retries=0)
        self._total_seconds = total_seconds

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        until = time.monotonic() + self._total_seconds
        response = super().send(request, *args, **{**kwargs, "stream": True})
        try:
            body = b"".join(_pieces(response.raw, until))
        except BaseException:
            response.close()
            raise
        # `requests` takes a body that was read already only through this attribute.
        response._content = body
        return response


def _pieces(raw: urllib3.HTTPResponse, until: float) -> Iterator[bytes]:
    # `read1` returns after one read of the socket; `read` would wait for the whole piece, however slowly it comes.
    while piece := raw.read1(PIECE, decode_content=True):
        if time.monotonic() > until:
            raise requests.ReadTimeout("the answer took too long as a whole")
        yield piece


def prepare_session(session: requests.Session, settings: WireSettings) -> None:
    """Make *session* one that verifies, stores no cookies and ignores the environment.

    Cookies would pin all workers to one Dataverse web server ("Send parallel requests"). The environment is left out
    because REQUESTS_CA_BUNDLE and .netrc would override the CA bundle and the token; a proxy is a setting instead.
    """
    if settings.ca_bundle is not None and not settings.ca_bundle.exists():
        raise ConfigurationError(f"ca_bundle: there is no file {settings.ca_bundle}. Correct the path.")
    session.trust_env = False
    session.verify = str(settings.ca_bundle) if settings.ca_bundle else True
    session.proxies = {"https": settings.proxy} if settings.proxy else {}
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.mount("https://", DeadlineAdapter(settings.total_timeout_seconds, settings.workers))
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.INFO)


def wire_fault(error: Exception, host: str, doing: str, *, repeatable: bool) -> Exception:
    """What a failed exchange with *host* means for who was *doing* something.

    A write that may have arrived becomes UnknownOutcome, one that certainly did not a RetriableError. The original
    error's text holds the URL, so nothing of it is kept.
    """
    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return ConfigurationError(
            f"{doing}: the certificate of {host} can't be verified. If it is signed by a certificate authority of your "
            "own, point `ca_bundle` to that authority's certificate."
        )
    if any(isinstance(cause, requests.TooManyRedirects) for cause in causes):
        return ConfigurationError(f"{doing}: {host} answered with a redirect. Configure the address it leads to.")
    if never_sent(causes):
        return RetriableError(f"{doing}: {host} can't be reached ({_why(causes)}).")
    if repeatable:
        return RetriableError(f"{doing}: {host} gave no complete answer ({_why(causes)}).")
    return UnknownOutcome(
        f"{doing}: {host} gave no complete answer to a write ({_why(causes)}); it is to be read back."
    )


def never_sent(causes: list[BaseException]) -> bool:
    """Whether the failure came before the first byte of the request: no name, no connection, no tunnel."""
    before = (requests.ConnectTimeout, NewConnectionError, requests.exceptions.ProxyError, TunnelError)
    return any(isinstance(cause, before) for cause in causes)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """*error* and whatever it wraps, in `args`, `reason` or as its cause.

    Not its context: that may be an older error the caller is just dealing with, and it would make a lost write look
    like one that was never sent.
    """
    waiting, seen = [error], set[int]()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        wrapped = [*current.args, getattr(current, "reason", None), current.__cause__]
        waiting += [item for item in wrapped if isinstance(item, BaseException)]


REASONS: Mapping[type[BaseException], str] = {
    urllib3.exceptions.NameResolutionError: "unknown host name",
    ConnectionRefusedError: "connection refused",
    requests.exceptions.ProxyError: "the proxy failed",
    TunnelError: "the proxy failed",
    requests.ConnectTimeout: "no connection in time",
    requests.ReadTimeout: "timed out",
    urllib3.exceptions.ReadTimeoutError: "timed out",
    urllib3.exceptions.IncompleteRead: "the body was cut",
    ConnectionError: "connection lost",
}


def _why(causes: list[BaseException]) -> str:
    for kind, words in REASONS.items():
        if any(isinstance(cause, kind) for cause in causes):
            return words
    return type(causes[0]).__name__
