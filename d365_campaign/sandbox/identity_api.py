"""The token endpoints of Microsoft Entra ID and Adobe IMS."""

import threading
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from urllib.parse import parse_qsl, unquote
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from .clock import Clock
from .settings import Settings
from .tokens import CAMPAIGN_APPLICATION, DATAVERSE_APPLICATION, TokenIssuer
from .web import Answer, Refusal, Rule, json_response, operation, routes


def _form(request: Request, body: bytes) -> dict[str, str]:
    """Fields from query and body; a client may send its id and secret as HTTP Basic instead."""
    fields = dict(request.query_params) | dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            client_id, _, secret = b64decode(credentials).decode().partition(":")
        except (Base64Error, UnicodeDecodeError):
            return fields
        fields |= {"client_id": unquote(client_id), "client_secret": unquote(secret)}
    return fields


def _log_as_token(request: Request, body: bytes, answer: Answer) -> Response:
    operation(request, "token")
    return answer(request, body)


class EntraApi:
    """Client credentials flow ("OAuth 2.0 client credentials flow on the Microsoft identity platform")."""

    def __init__(self, tokens: TokenIssuer, settings: Settings, clock: Clock, scopes: Callable[[], set[str]]) -> None:
        self._tokens, self._settings, self._clock, self._scopes = tokens, settings, clock, scopes

    def app(self, lock: threading.RLock) -> Starlette:
        rules = [Rule("POST", "/{tenant}/oauth2/v2.0/token", self.token)]
        return Starlette(routes=routes(rules, lock, _log_as_token))

    def token(self, request: Request, body: bytes) -> Response:
        form = _form(request, body)
        self._check(request.path_params["tenant"], form)
        lifetime = self._settings.entra_token_seconds
        answer: dict[str, object] = {"token_type": "Bearer", "expires_in": lifetime}
        if self._settings.entra_ext_expires_in:
            answer["ext_expires_in"] = lifetime
        return json_response(answer | {"access_token": self._tokens.issue(lifetime)})

    def _check(self, tenant: str, form: dict[str, str]) -> None:
        known, client = DATAVERSE_APPLICATION, form.get("client_id", "")
        refusals = (
            (tenant != known.tenant, 400, "invalid_request", 90002, f"Tenant '{tenant}' not found."),
            (
                form.get("grant_type") != "client_credentials",
                400,
                "unsupported_grant_type",
                70003,
                "The app requested an unsupported grant type.",
            ),
            (
                client != known.client_id,
                400,
                "unauthorized_client",
                700016,
                f"Application with identifier '{client}' was not found in the directory.",
            ),
            (
                form.get("client_secret") != known.client_secret,
                401,
                "invalid_client",
                7000215,
                "Invalid client secret provided.",
            ),
            (
                form.get("scope") not in self._scopes(),
                400,
                "invalid_scope",
                70011,
                "The provided value for the input parameter 'scope' is not valid.",
            ),
        )
        for refused, status, error, code, text in refusals:
            if refused:
                raise self._refusal(status, error, code, text)

    def _refusal(self, status: int, error: str, code: int, text: str) -> Refusal:
        trace, correlation, at = str(uuid4()), str(uuid4()), f"{self._clock.now():%Y-%m-%d %H:%M:%SZ}"
        description = f"AADSTS{code}: {text}\r\nTrace ID: {trace}\r\nCorrelation ID: {correlation}\r\nTimestamp: {at}"
        facts = {"error_codes": [code], "timestamp": at, "trace_id": trace, "correlation_id": correlation}
        return Refusal(json_response({"error": error, "error_description": description} | facts, status))


class ImsApi:
    """OAuth server-to-server tokens ("OAuth Server-to-Server credential API Reference", Adobe Developer Console)."""

    def __init__(self, tokens: TokenIssuer, settings: Settings) -> None:
        self._tokens, self._settings = tokens, settings

    def app(self, lock: threading.RLock) -> Starlette:
        rules = [Rule("POST", "/ims/token/v3", self.token), Rule("POST", "/ims/exchange/jwt", self.exchange_jwt)]
        return Starlette(routes=routes(rules, lock, _log_as_token))

    def token(self, request: Request, body: bytes) -> Response:
        form, known = _form(request, body), CAMPAIGN_APPLICATION
        if form.get("grant_type") != "client_credentials":
            raise _ims_refusal("unsupported_grant_type", "unsupported grant_type")
        if form.get("client_id") != known.client_id:
            raise _ims_refusal("invalid_client", "invalid client_id parameter")
        if form.get("client_secret") != known.client_secret:
            raise _ims_refusal("invalid_client", "invalid client_secret parameter")
        if "campaign_sdk" not in form.get("scope", "").replace(" ", "").split(","):
            raise _ims_refusal("invalid_scope", "invalid scope parameter")
        lifetime = self._settings.ims_token_seconds
        answer = {"access_token": self._tokens.issue(lifetime), "token_type": "bearer", "expires_in": lifetime}
        return json_response(answer)

    def exchange_jwt(self, request: Request, body: bytes) -> Response:
        """The JWT flow ended in 2025; a client that still uses it must see that."""
        raise _ims_refusal("unsupported_grant_type", "JWT credentials are deprecated, use OAuth server-to-server")


def _ims_refusal(error: str, description: str) -> Refusal:
    return Refusal(json_response({"error": error, "error_description": description}, 400))
