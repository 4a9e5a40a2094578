"""Adobe's API gateway in front of Campaign: key, token, tenant, rate. Its errors are JSON ("API troubleshooting")."""

from collections import deque
from urllib.parse import unquote
from uuid import uuid4

from starlette.requests import Request

from .clock import Clock
from .settings import Settings
from .tokens import Application, TokenIssuer, bearer
from .web import Refusal, json_response

OOPS = "Oops. Something went wrong. Check your URI and try again."


class CampaignGateway:
    def __init__(self, settings: Settings, clock: Clock, tokens: TokenIssuer, application: Application) -> None:
        self._settings, self._clock, self._tokens, self._application = settings, clock, tokens, application
        self._admitted: deque[float] = deque()

    def admit(self, request: Request, tenant: str) -> list[str]:
        """The path's segments below `/{tenant}/campaign`, once the request has passed every check."""
        self._check_key(request.headers.get("x-api-key"))
        self._check_token(bearer(request.headers.get("authorization")))
        segments = _segments(request)
        if len(segments) < 2 or segments[1] != "campaign":
            raise _oops()
        if segments[0] != tenant:
            raise _oops() if self._settings.unknown_tenant == "500" else _refusal(403, "403023", "Profile is not valid")
        self._check_rate()
        return segments[2:]

    def _check_key(self, key: str | None) -> None:
        if not key:
            raise _refusal(403, "403000", "Api Key is required")
        if key != self._application.client_id:
            raise _refusal(403, "403003", "Api Key is invalid")

    def _check_token(self, token: str | None) -> None:
        if token is None:
            raise _refusal(403, "403010", "Oauth token is missing.")
        if not self._tokens.accepts(token):
            raise _refusal(401, "401013", "Oauth token is not valid")

    def _check_rate(self) -> None:
        limit = self._settings.campaign_requests_per_second
        if not limit:
            return
        now = self._clock.seconds()
        while self._admitted and self._admitted[0] <= now - 1:
            self._admitted.popleft()
        if len(self._admitted) >= limit:
            wait = str(self._settings.campaign_retry_after_seconds)
            raise _refusal(429, "429050", "Too many requests", {"Retry-After": wait})
        self._admitted.append(now)


def _segments(request: Request) -> list[str]:
    """The path's segments, decoded one by one: a key may hold a slash, sent as `%2F`.

    Two exceptions. A first segment below `campaign` with slashes is a whole relative address, as the JavaScript SDK's
    `getDataFromRelativeUrl` sends it. One that starts with `~` is the detour of random hrefs.
    """
    raw = request.scope["raw_path"].decode("latin-1").partition("?")[0]
    segments = [unquote(part) for part in raw.split("/") if part]
    if len(segments) == 3 and "/" in segments[2]:
        address, _, query = segments[2].partition("?")
        segments = segments[:2] + [unquote(part) for part in address.split("/") if part]
        request.scope["query_string"] = query.encode() or request.scope["query_string"]
    if len(segments) > 2 and segments[2].startswith("~"):
        del segments[2]
    return segments


def _refusal(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Refusal:
    body = {"error_code": code, "message": message}
    return Refusal(json_response(body, status, {"X-Request-Id": str(uuid4()), **(headers or {})}))


def _oops() -> Refusal:
    return Refusal(json_response({"code": 500, "message": OOPS}, 500, {"X-Request-Id": str(uuid4())}))
