"""Requests to one origin: the token, the gate, the retries, and the one check every URL goes through."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Protocol, TypeVar
from urllib.parse import SplitResult, urlsplit

import requests
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from d365_campaign.clients.throttle import RetryPolicy, ThrottleGate, http_date, retry_after_seconds
from d365_campaign.clients.wire import WIRE_ERRORS, WireSettings, prepare_session, wire_fault
from d365_campaign.errors import ConfigurationError, ForeignOrigin, RetriableError, UnknownOutcome

logger = logging.getLogger(__name__)

T = TypeVar("T")
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# A request's own headers; None leaves out one that all others have.
Headers = Mapping[str, str | None]


class Tokens(Protocol):
    """Where the access token comes from."""

    def current(self) -> str: ...
    def renew(self, refused: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. *headers* look names up whatever their case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """The body as JSON. Raises RetriableError when it was cut or is something else, e.g. a proxy's page."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise RetriableError(f"an answer ({self.status}) whose body is no complete JSON") from None

    @property
    def served_at(self) -> datetime | None:
        """The server's own clock (UTC), in whole seconds; None in an answer without a date."""
        return http_date(self.headers.get("Date", ""))

    def clock_skew_seconds(self) -> float | None:
        """How far the server's clock is ahead of ours, asked right after the answer came; good to about a second."""
        return None if self.served_at is None else (self.served_at - datetime.now(UTC)).total_seconds()


class Verdict(Enum):
    """What an answer means for sending the same request again."""

    FINAL = "the caller reads it"
    AGAIN = "it had no effect and may be sent again"
    UNSURE = "a read may be sent again; a write may have taken effect"


def by_status(answer: Answer) -> Verdict:
    """The verdict that holds for any HTTP server."""
    if answer.status == 429:
        return Verdict.AGAIN
    return Verdict.UNSURE if answer.status in (500, 502, 503, 504) else Verdict.FINAL


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: the only place a token may go to."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, parts: SplitResult) -> "Origin":
        """The origin of a URL. Raises ValueError for a port that is none."""
        return cls(parts.scheme.lower(), (parts.hostname or "").lower(), parts.port or 443)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    url: str = field(repr=False)
    subject: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    repeatable: bool

    @property
    def doing(self) -> str:
        """The only form in which a request shows up in messages and logs: URLs may hold PKeys and values."""
        return f"{self.method} {self.subject}"

    def signed(self, token: str) -> requests.PreparedRequest:
        prepared = requests.Request(self.method, self.url, headers=dict(self.headers), data=self.body).prepare()
        prepared.headers["Authorization"] = f"Bearer {token}"
        # `requests` re-encodes a URL while preparing it; links of the server are to be followed as they are. (urllib3
        # still writes the hex digits of escapes in upper case, which means the same.)
        prepared.url = self.url
        return prepared


class ApiSession:
    """Requests to one API under one base URL, with its token; shared by all workers.

    Whatever URL it is given must have the base URL's origin, or ForeignOrigin is raised before anything is sent.
    Redirects are never followed, cookies never kept, certificates always verified; proxies and certificate authorities
    come from `WireSettings`, never from the environment.
    """

    def __init__(
        self,
        system: str,
        base_url: str,
        tokens: Tokens,
        *,
        headers: Mapping[str, str],
        judge: Callable[[Answer], Verdict] = by_status,
        gate: ThrottleGate | None = None,
        retry: RetryPolicy | None = None,
        wire: WireSettings | None = None,
    ) -> None:
        self._system, self._tokens, self._headers, self._judge = system, tokens, headers, judge
        self._gate, self._retry, self._wire = gate or ThrottleGate(), retry or RetryPolicy(), wire or WireSettings()
        self._base = base_url.rstrip("/") + "/"
        parts = urlsplit(self._base)
        if parts.scheme != "https" or not parts.hostname:
            raise ConfigurationError(f"{system.lower()}.url must be an address that starts with https://.")
        self._origin, self._root = Origin.of(parts), f"https://{parts.netloc.rpartition('@')[2]}"
        self._session = requests.Session()
        prepare_session(self._session, self._wire)

    def close(self) -> None:
        """Close the kept connections."""
        self._session.close()

    def locate(self, where: str, subject: str) -> str:
        """The URL for a path under the base URL, or for a link of the server's. Raises ForeignOrigin.

        A link is put on our own root again, so it can't lead elsewhere even where two URL parsers disagree.
        """
        if where.startswith("/") and not where.startswith("//"):
            return self._root + where
        if "://" not in where.partition("?")[0] and not where.startswith("//"):
            return self._base + where
        parts = _split(where)
        if parts is None or Origin.of(parts) != self._origin or "@" in parts.netloc or "\\" in where:
            leads_to = "an address that can't be read" if parts is None else str(Origin.of(parts))
            raise ForeignOrigin(
                f"{self._system}, {subject}: a link in its answer leads to {leads_to} instead of {self._origin}; "
                "it was not followed. If both are the same environment, set "
                f"{self._system.lower()}.url to the one that its links use."
            )
        return self._root + (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def hold(self, seconds: float) -> None:
        """Let nobody send for *seconds*: what one part of an answer asked for holds for all."""
        self._gate.hold(seconds)

    def get(self, where: str, subject: str, read: Callable[[Answer], T], *, headers: Headers | None = None) -> T:
        """GET and *read* as one repeatable step: a RetriableError of *read* (a cut body) sends the request again."""
        return self._until_answered(self._request("GET", where, subject, headers, None, repeatable=True), read)

    def send(
        self,
        method: str,
        where: str,
        subject: str,
        *,
        json_body: object = None,
        body: bytes | None = None,
        headers: Headers | None = None,
        repeatable: bool,
    ) -> Answer:
        """Send once more only what had certainly no effect; everything transient if the request is *repeatable*.

        Raises UnknownOutcome for a write that may have taken effect. *subject* names the record or table in messages.
        A *body* of another kind than JSON says so in its *headers*.
        """
        content = body if json_body is None else json.dumps(json_body).encode()
        request = self._request(method, where, subject, headers, content, repeatable=repeatable)
        return self._until_answered(request, lambda answer: answer)

    def _request(
        self,
        method: str,
        where: str,
        subject: str,
        headers: Headers | None,
        body: bytes | None,
        *,
        repeatable: bool,
    ) -> _Request:
        named = {"User-Agent": "d365-campaign", "Accept-Encoding": "gzip", **self._headers, **(headers or {})}
        sent = {name: value for name, value in named.items() if value is not None}
        return _Request(method, self.locate(where, subject), subject, sent, body, repeatable)

    def _until_answered(self, request: _Request, read: Callable[[Answer], T]) -> T:
        policy = self._retry
        ends_at = time.monotonic() + policy.max_wait_seconds
        retrying = Retrying(
            retry=retry_if_exception(lambda e: isinstance(e, RetriableError) and not isinstance(e, UnknownOutcome)),
            stop=stop_after_attempt(policy.attempts) | stop_before_delay(policy.max_wait_seconds),
            wait=_asked_or(wait_random_exponential(policy.first_wait_seconds, policy.longest_wait_seconds)),
            before_sleep=self._log_retry,
            reraise=True,
        )
        return retrying(lambda: self._attempt(request, read, ends_at - time.monotonic()))

    def _log_retry(self, state: RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        logger.info("%s: attempt %d failed and is repeated: %s", self._system, state.attempt_number, error)

    def _attempt(self, request: _Request, read: Callable[[Answer], T], seconds_left: float) -> T:
        answer = self._authorised(request, seconds_left)
        logger.debug("%s: %s answered %d", self._system, request.doing, answer.status)
        self._refuse_redirect(request, answer)
        verdict = self._judge(answer)
        if verdict is not Verdict.FINAL:
            raise self._transient(request, answer, verdict)
        return read(answer)

    def _authorised(self, request: _Request, seconds_left: float) -> Answer:
        """Send; with a 401, once more with a new token. A 401 has no effect, so this holds for writes too."""
        self._gate.pass_through(seconds_left)
        token = self._tokens.current()
        answer = self._exchange(request, token)
        if answer.status != 401:
            return answer
        answer = self._exchange(request, self._tokens.renew(token))
        if answer.status == 401:
            raise ConfigurationError(
                f"{request.doing}: {self._origin.host} refuses a token that was issued just now (401). Check that "
                f"{self._system.lower()}.client_id and its scope belong to this environment."
            )
        return answer

    def _exchange(self, request: _Request, token: str) -> Answer:
        try:
            response = self._session.send(request.signed(token), timeout=self._wire.timeouts, allow_redirects=False)
        except WIRE_ERRORS as error:
            raise wire_fault(error, self._origin.host, request.doing, repeatable=request.repeatable) from None
        return Answer(response.status_code, response.headers, response.content)

    def _refuse_redirect(self, request: _Request, answer: Answer) -> None:
        if answer.status in REDIRECTS:
            self.locate(answer.headers.get("Location", ""), request.subject)
            raise ConfigurationError(
                f"{request.doing}: {self._origin.host} answered with a redirect ({answer.status}). Set "
                f"{self._system.lower()}.url to the address it leads to."
            )

    def _transient(self, request: _Request, answer: Answer, verdict: Verdict) -> RetriableError:
        asked = retry_after_seconds(answer.headers)
        if asked:
            self._gate.hold(asked)
        message = f"{request.doing}: {self._origin.host} answered {answer.status}"
        if request.repeatable or verdict is Verdict.AGAIN:
            return RetriableError(message, asked)
        return UnknownOutcome(f"{message} to a write; it is to be read back", asked)


def _split(url: str) -> SplitResult | None:
    """A URL in its parts; None where it has no readable origin."""
    try:
        parts = urlsplit(url)
        Origin.of(parts)
    except ValueError:
        return None
    return parts


def _asked_or(own: Callable[[RetryCallState], float]) -> Callable[[RetryCallState], float]:
    """The wait the server asked for, else our *own*."""

    def wait(state: RetryCallState) -> float:
        error = state.outcome and state.outcome.exception()
        asked = error.retry_after_seconds if isinstance(error, RetriableError) else None
        return own(state) if asked is None else asked

    return wait
