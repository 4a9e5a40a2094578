"""`$batch`: many operations in one request ("Execute batch operations using the Web API")."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import orjson
from starlette.requests import Request
from starlette.responses import Response

from .dataverse_errors import BAD_REQUEST, DataverseError, unreadable
from .dataverse_http import ROOT, ok, preferences
from .dataverse_state import DataverseState
from .faults import Fault
from .multipart import (
    InnerRequest,
    MalformedBatch,
    Part,
    answer_part,
    boundary_of,
    inner_request,
    joined_parts,
    split_parts,
)
from .web import Rule, operation

LIMIT = 1000
TOO_MANY = (
    "The current batch message contains too many parts. A maximum number of '1000' query operations and change sets "
    "are allowed in a batch message."
)
_REFERENCE = re.compile(r"^/?\$([\w-]+)")
_SHOWN_HEADERS = (
    "odata-version",
    "odata-entityid",
    "location",
    "content-type",
    "etag",
    "preference-applied",
    "retry-after",
)
_SPELLED = {"odata-version": "OData-Version", "odata-entityid": "OData-EntityId", "etag": "ETag"}


class _Failed(Exception):
    """A change set's operation failed; its answer stands for the whole set."""

    def __init__(self, part: bytes, status: int) -> None:
        super().__init__(status)
        self.part, self.status = part, status


class BatchApi:
    """Operations run one after another, as if each had come alone; *answer* is how one alone is answered."""

    def __init__(self, state: DataverseState, answer: Callable[[Request, bytes], Response]) -> None:
        self._state, self._answer = state, answer

    def rules(self) -> list[Rule]:
        return [Rule("POST", ROOT + "/$batch", self.batch)]

    def batch(self, request: Request, body: bytes) -> Response:
        boundary = boundary_of(request.headers.get("content-type", ""))
        if boundary is None:
            raise DataverseError(BAD_REQUEST, "The Content-Type of a batch must be multipart/mixed with a boundary.")
        try:
            parts = split_parts(body, boundary)
            if self._size(parts) > LIMIT:
                return _too_many()
            answers, failure = self._run(request, parts)
        except MalformedBatch:
            raise unreadable() from None
        operation(request, "batch")
        mark = f"batchresponse_{uuid4()}"
        status = 200
        if failure is not None and not _continues(request):
            status = 400 if self._state.settings.batch_failure_status == "400" else failure
        return Response(joined_parts(answers, mark), status, media_type=f"multipart/mixed; boundary={mark}")

    def _size(self, parts: list[Part]) -> int:
        if self._state.settings.batch_counts == "parts":
            return len(parts)
        return sum(len(split_parts(part.content, part.boundary)) if part.boundary else 1 for part in parts)

    def _run(self, request: Request, parts: list[Part]) -> tuple[list[bytes], int | None]:
        """Answers so far and the first failure, which ends the batch unless it is to go on."""
        answers: list[bytes] = []
        failure = None
        for part in parts:
            if part.boundary is not None:
                answer, status = self._change_set(request, part, part.boundary)
            else:
                answer, status = self._single(request, part)
            answers.append(answer)
            if status >= 400:
                failure = failure or status
                if not _continues(request):
                    break
        return answers, failure

    def _single(self, request: Request, part: Part) -> tuple[bytes, int]:
        response = self._perform(request, inner_request(part))
        return _as_part(response, part.headers.get("content-id")), response.status_code

    def _change_set(self, request: Request, part: Part, boundary: str) -> tuple[bytes, int]:
        """All operations or none, and none of them a GET."""
        mark = f"changesetresponse_{uuid4()}"
        try:
            with self._state.transaction():
                answers = self._members(request, split_parts(part.content, boundary))
        except _Failed as failed:
            if self._state.settings.failed_change_set == "single_part":
                return failed.part, failed.status
            return _nested([failed.part], mark), failed.status
        return _nested(answers, mark), 200

    def _members(self, request: Request, members: list[Part]) -> list[bytes]:
        made: dict[str, str] = {}
        answers = []
        for member in members:
            inner, content_id = inner_request(member), member.headers.get("content-id")
            response = self._member(request, inner, content_id, made)
            if response.status_code >= 400:
                raise _Failed(_as_part(response, content_id), response.status_code)
            answers.append(_as_part(response, content_id))
            if content_id is not None:
                url = response.headers.get("OData-EntityId") or _referred(inner, made).url
                made[content_id] = urlsplit(url).path.removeprefix(ROOT)
        return answers

    def _member(self, request: Request, inner: InnerRequest, content_id: str | None, made: dict[str, str]) -> Response:
        if content_id is None:
            refusal = DataverseError(BAD_REQUEST, "Content-ID header not present in the change set.")
        elif inner.method == "GET":
            refusal = DataverseError(BAD_REQUEST, "A query operation can't be part of a change set.")
        else:
            try:
                return self._perform(request, _referred(inner, made))
            except DataverseError as error:
                refusal = error
        return ok({"error": {"code": refusal.code, "message": refusal.message}}, refusal.status)

    def _perform(self, request: Request, inner: InnerRequest) -> Response:
        path, query = _target(inner.url)
        if path == ROOT + "/$batch":
            raise DataverseError(BAD_REQUEST, "A batch can't contain another batch.")
        fault = request.scope["sandbox.faults"].take("dataverse", inner.method, path, in_batch=True)
        if fault is not None:
            return _faulty(fault)
        host = request.headers.get("host", "localhost")
        headers = {"host": host} | {name: value for name, value in inner.headers.items() if name != "host"}
        scope = {
            "type": "http",
            "method": inner.method,
            "scheme": "https",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [
                (name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()
            ],
            "server": request.scope["server"],
            "root_path": "",
        }
        return self._answer(Request(scope), inner.body)


def _faulty(fault: Fault) -> Response:
    headers = fault.headers | ({} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)})
    content = fault.body.encode() if isinstance(fault.body, str) else orjson.dumps(fault.body) if fault.body else b""
    return Response(content, fault.status or 500, headers, media_type=fault.content_type)


def _continues(request: Request) -> bool:
    return "odata.continue-on-error" in preferences(request)


def _target(url: str) -> tuple[str, str]:
    """Path and query; the URL may be absolute, relative to the host, or relative to the service root."""
    pieces = urlsplit(url)
    path = pieces.path
    if path.startswith("api/"):
        # As in DynamicsWebApi's issue 130: the segment after the first is taken for the version.
        raise DataverseError(BAD_REQUEST, f"Requested API Version '{path.split('/')[1]}' was not understood.")
    if not path.startswith("/"):
        path = f"{ROOT}/{path}"
    elif not path.startswith("/api/"):
        path = ROOT + path
    return path, pieces.query


def _referred(inner: InnerRequest, made: dict[str, str]) -> InnerRequest:
    """The request with `$n` in its URL and in its bindings replaced by what operation n made."""
    url = _resolved(inner.url, made)
    body = inner.body
    if b"$" in body:
        try:
            body = orjson.dumps(_rebound(orjson.loads(body), made))
        except orjson.JSONDecodeError:
            raise unreadable() from None
    return InnerRequest(inner.method, url, inner.headers, body)


def _rebound(value: Any, made: dict[str, str]) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        name: _resolved(item, made) if name.endswith(("@odata.bind", "@odata.id")) and isinstance(item, str) else item
        for name, item in value.items()
    }


def _resolved(text: str, made: dict[str, str]) -> str:
    match = _REFERENCE.match(text)
    if match is None:
        return text
    if match[1] not in made:
        raise DataverseError(BAD_REQUEST, f"Content-ID Reference: '${match[1]}' does not exist in the batch context.")
    return made[match[1]] + text[match.end() :]


def _as_part(response: Response, content_id: str | None) -> bytes:
    headers = [("OData-Version", "4.0")]
    for name in _SHOWN_HEADERS:
        if name in response.headers and not (name == "content-type" and not response.body):
            headers.append((_SPELLED.get(name, name.title()), response.headers[name]))
    return answer_part(response.status_code, headers, bytes(response.body), content_id)


def _nested(answers: list[bytes], mark: str) -> bytes:
    return f"Content-Type: multipart/mixed; boundary={mark}\r\n\r\n".encode() + joined_parts(answers, mark)


def _too_many() -> Response:
    """The one refusal reported in ASP.NET's shape."""
    facts = {"Message": "An error has occurred.", "ExceptionMessage": TOO_MANY}
    return ok(facts | {"ExceptionType": "Microsoft.OData.ODataException", "StackTrace": ""}, 400)
