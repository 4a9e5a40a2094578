"""The Dataverse Web API over HTTP: the way in, headers, limits and error shapes; the answers are in other modules."""

import threading
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .dataverse_batch import BatchApi
from .dataverse_bulk import BulkApi
from .dataverse_definitions import DefinitionsApi
from .dataverse_errors import (
    BAD_REQUEST,
    NOT_A_MEMBER,
    VERB_NOT_ALLOWED,
    DataverseError,
    error_body,
    error_status,
    unknown_segment,
)
from .dataverse_http import JSON, ROOT, preferences
from .dataverse_lists import ListApi
from .dataverse_read import encode
from .dataverse_relations import RelationApi
from .dataverse_rows import RowApi
from .dataverse_service import FUNCTIONS, ServiceApi
from .dataverse_state import DataverseState
from .dataverse_throttle import Throttle, time_text
from .tokens import TokenIssuer, bearer
from .web import Dispatcher, Refusal, WrongVerb, origin

_HEADERS = {"OData-Version": "4.0", "Cache-Control": "no-cache"}
_AFFINITY = "ARRAffinity=5a11dbc0ffee; path=/; secure; HttpOnly; SameSite=None"
METHODS = ["GET", "POST", "PATCH", "PUT", "DELETE"]


class DataverseApi:
    def __init__(self, state: DataverseState, tokens: TokenIssuer) -> None:
        self._state, self._tokens = state, tokens
        self.throttle = Throttle(state.settings, state.clock)
        lists = ListApi(state)
        self._dispatcher = Dispatcher(
            [
                *BatchApi(state, self._answered).rules(),
                *ServiceApi(state).rules(),
                *DefinitionsApi(state).rules(),
                *BulkApi(state).rules(),
                *RelationApi(state, lists).rules(),
                *RowApi(state).rules(),
                *lists.rules(),
            ]
        )

    def app(self, lock: threading.RLock) -> Starlette:
        async def endpoint(request: Request) -> Response:
            body = await request.body()
            with lock:
                try:
                    return self._admitted(request, body)
                except Refusal as refusal:
                    return refusal.response

        return Starlette(routes=[Route("/{path:path}", endpoint, methods=METHODS)])

    def _admitted(self, request: Request, body: bytes) -> Response:
        """The answer to a request from outside: token and limits come first."""
        token = bearer(request.headers.get("authorization"))
        if token is None or not self._tokens.accepts(token):
            raise Refusal(self._unauthorized(request))
        self._state.run_due()
        try:
            self.throttle.admit()
            if not self._state.settings.application_user:
                raise DataverseError(NOT_A_MEMBER, "The user is not a member of the organization.")
        except DataverseError as error:
            response = self._failed(request, error)
        else:
            response = self._answered(request, body)
        self._add_headers(response)
        return response

    def _answered(self, request: Request, body: bytes) -> Response:
        """The answer to one operation, whether it came alone or inside a batch."""
        try:
            return self._dispatch(request, body)
        except DataverseError as error:
            return self._failed(request, error)

    def _dispatch(self, request: Request, body: bytes) -> Response:
        path = request.scope["path"]
        if "$skip" in request.query_params:
            raise DataverseError(BAD_REQUEST, "Skip Clause is not supported in CRM")
        if request.method != "GET" and path.removeprefix(ROOT + "/").partition("(")[0] in FUNCTIONS:
            raise DataverseError("", f"No HTTP resource was found that matches the request URI '{request.url}'.", 404)
        try:
            found = self._dispatcher.find(request.method, path)
        except WrongVerb:
            raise DataverseError(
                VERB_NOT_ALLOWED, f"The requested resource does not support http method '{request.method}'."
            ) from None
        if found is None:
            raise unknown_segment(path.rsplit("/", 1)[-1])
        answer, request.scope["path_params"] = found
        return answer(request, body)

    def _unauthorized(self, request: Request) -> Response:
        challenge = f'Bearer authorization_uri="{origin(request)}", resource_id="{origin(request)}/"'
        headers = {"WWW-Authenticate": challenge}
        if self._state.settings.unauthorized_body == "empty":
            return Response(b"", 401, headers)
        body = {"error": {"code": "0x80044302", "message": "The request is not authenticated."}}
        return Response(encode(body), 401, headers, media_type=JSON)

    def _failed(self, request: Request, error: DataverseError) -> Response:
        status = error_status(error, self._state.settings)
        headers = {"Retry-After": str(self.throttle.retry_after_seconds())} if status == 429 else {}
        detailed = preferences(request).get("odata.include-annotations") == "*"
        return Response(encode(error_body(error, detailed)), status, headers, media_type=JSON)

    def _add_headers(self, response: Response) -> None:
        request_id, settings = str(uuid4()), self._state.settings
        remaining, seconds = self.throttle.remaining()
        response.headers.update(
            _HEADERS
            | {
                "REQ_ID": request_id,
                "x-ms-service-request-id": request_id,
                "x-ms-dop-hint": str(settings.dop_hint),
                "x-ms-ratelimit-burst-remaining-xrm-requests": str(remaining),
                "x-ms-ratelimit-time-remaining-xrm-requests": time_text(seconds, settings.time_remaining_format),
            }
        )
        if settings.affinity_cookie:
            response.headers["Set-Cookie"] = _AFFINITY
