"""Access tokens: what Entra ID and Adobe IMS issue, and what Dataverse and Campaign accept."""

import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256

from .clock import Clock


@dataclass(frozen=True, slots=True)
class Application:
    """A registered client of one identity provider."""

    tenant: str
    client_id: str
    client_secret: str


DATAVERSE_APPLICATION = Application(
    "b2f1c0de-0000-4000-8000-00000000d365", "5a9db0c5-0000-4000-8000-00000000c11e", "sandbox-dataverse-secret"
)
CAMPAIGN_APPLICATION = Application("sandbox", "sandbox-api-key-0123456789abcdef", "sandbox-campaign-secret")
CAMPAIGN_SCOPE = (
    "openid,AdobeID,campaign_sdk,additional_info.projectedProductContext,"
    "campaign_config_server_general,deliverability_service_general"
)


_HEADER = urlsafe_b64encode(b'{"typ":"JWT","alg":"none"}').decode().rstrip("=")


class TokenIssuer:
    """Issues random bearer tokens and knows which still count."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._expiries: dict[str, float] = {}

    def issue(self, lifetime_seconds: int) -> str:
        token = f"{_HEADER}.{secrets.token_urlsafe(180)}.{secrets.token_urlsafe(32)}"
        self._expiries[token] = self._clock.seconds() + lifetime_seconds
        return token

    def accepts(self, token: str) -> bool:
        return self._expiries.get(token, 0.0) > self._clock.seconds()

    def expire_all(self) -> None:
        self._expiries.clear()


def bearer(authorization: str | None) -> str | None:
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def fingerprint(token: str | None) -> str | None:
    """Short hash for the call log, so that no log holds a usable token."""
    return sha256(token.encode()).hexdigest()[:12] if token else None
