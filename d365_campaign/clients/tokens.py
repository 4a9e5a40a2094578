"""Access tokens by client credentials, from Entra ID and from Adobe IMS; one for all workers."""

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

import requests
from oauthlib.oauth2 import BackendApplicationClient, OAuth2Error
from requests_oauthlib import OAuth2Session

from d365_campaign.clients.throttle import retry_after_seconds
from d365_campaign.clients.wire import WIRE_ERRORS, WireSettings, prepare_session, wire_fault
from d365_campaign.errors import ConfigurationError, RetriableError, SyncError

System = Literal["Dynamics", "Campaign"]

MARGIN_SECONDS = 300.0
MARGIN_SHARE = 0.1
ASSUMED_LIFETIME_SECONDS = 600.0

# (what the refusal says, the settings to check). AADSTS codes: "Microsoft Entra authentication and authorization error
# codes"; the other texts are IMS's.
CREDENTIAL_FAULTS: tuple[tuple[str, str], ...] = (
    (r"AADSTS7000215|AADSTS7000222|invalid client_secret", "client_secret"),
    (r"AADSTS700016|unauthorized_client|invalid client_id", "client_id (and that it belongs to this tenant)"),
    (r"AADSTS90002|AADSTS900023", "tenant"),
    (r"AADSTS70011|AADSTS500011|invalid_scope", "url and scope"),
    (r"", "client_id and client_secret"),
)


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """An application's identity. *scope* is `<environment url>/.default` for Entra ID, names with commas for IMS."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str


@dataclass(frozen=True, slots=True)
class _Held:
    token: str = field(repr=False)
    renew_at: float


class TokenSource:
    """The current access token; fetched when first asked for, renewed before it ends or when it was refused.

    Thread-safe: workers that need a new token at the same time wait for one fetch.
    """

    def __init__(
        self,
        system: System,
        credentials: ClientCredentials,
        wire: WireSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._system, self._credentials, self._wire = system, credentials, wire or WireSettings()
        self._clock = clock
        self._lock = threading.Lock()
        self._held: _Held | None = None
        self._host = urlsplit(credentials.token_url).hostname or credentials.token_url
        if urlsplit(credentials.token_url).scheme != "https":
            raise ConfigurationError(f"{system.lower()}: the token URL must start with https:// ({self._host}).")

    def current(self) -> str:
        """A token that is good for a while yet."""
        with self._lock:
            if self._held is None or self._clock() >= self._held.renew_at:
                self._held = self._fetch()
            return self._held.token

    def renew(self, refused: str) -> str:
        """A token other than *refused*; a new one is fetched only if no other worker has done so already."""
        with self._lock:
            if self._held is None or self._held.token == refused:
                self._held = self._fetch()
            return self._held.token

    def _fetch(self) -> _Held:
        asked_at, statuses = self._clock(), list[int]()
        try:
            answer = self._ask(statuses)
        except OAuth2Error as error:
            raise self._refused(error, statuses[-1] if statuses else None) from None
        except SyncError:
            raise
        except (*WIRE_ERRORS, ValueError) as error:
            raise wire_fault(error, self._host, f"{self._system} token", repeatable=True) from None
        return _Held(str(answer["access_token"]), asked_at + _usable_seconds(answer))

    def _ask(self, statuses: list[int]) -> Mapping[str, object]:
        """One POST; the secret travels in its body and nowhere else."""
        credentials = self._credentials
        with OAuth2Session(client=BackendApplicationClient(credentials.client_id)) as session:
            prepare_session(session, self._wire)
            session.max_redirects = 0
            session.register_compliance_hook("access_token_response", lambda answer: self._checked(answer, statuses))
            # The scope is given per call: oauthlib then leaves it alone when the answer names another one, or none.
            return session.fetch_token(
                credentials.token_url,
                client_secret=credentials.client_secret,
                include_client_id=True,
                scope=credentials.scope,
                timeout=self._wire.timeouts,
            )

    def _checked(self, answer: requests.Response, statuses: list[int]) -> requests.Response:
        statuses.append(answer.status_code)
        if answer.status_code == 429 or answer.status_code >= 500:
            asked = retry_after_seconds(answer.headers)
            raise RetriableError(f"{self._system} token: {self._host} answered {answer.status_code}.", asked)
        return answer

    def _refused(self, error: OAuth2Error, status: int | None) -> SyncError:
        if status == 200:
            return RetriableError(f"{self._system} token: {self._host} answered 200 without a token.")
        said = f"{error.error} {error.description}"
        setting = next(setting for pattern, setting in CREDENTIAL_FAULTS if re.search(pattern, said))
        code = next(iter(re.findall(r"AADSTS\d+", said)), error.error)
        return ConfigurationError(
            f"{self._system} token: {self._host} refused the credentials ({status}, {code}). "
            f"Check {self._system.lower()}.{setting}."
        )


@lru_cache(maxsize=32)
def shared_tokens(system: System, credentials: ClientCredentials, wire: WireSettings) -> TokenSource:
    """The one source of these credentials in this process: a sensor that looks every few seconds needs one token."""
    return TokenSource(system, credentials, wire)


def _usable_seconds(answer: Mapping[str, object]) -> float:
    """How long the token is used: `expires_in` less a margin for requests under way and clocks that differ."""
    lifetime = float(str(answer.get("expires_in") or ASSUMED_LIFETIME_SECONDS))
    return lifetime - min(MARGIN_SECONDS, lifetime * MARGIN_SHARE)
