"""The Dataverse Web API over HTTP: routes, headers, paging links and error shapes."""

import re
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from . import dataverse_metadata as metadata
from .dataverse_errors import BAD_REQUEST, TRACKING_OFF, DataverseError, unknown_segment
from .dataverse_filter import parse_filter
from .dataverse_read import (
    COUNT_LIMIT,
    Cookie,
    ListQuery,
    Page,
    PageCache,
    Selection,
    annotated_row,
    count_changes,
    count_rows,
    delta_page,
    encode,
    list_page,
    refuse_with_tracking,
    rows_of,
)
from .dataverse_state import SYSTEM_USER, DataverseState, Row, Table
from .dataverse_throttle import Throttle
from .dataverse_write import Address, body_of, check_conditions, values_of
from .tokens import TokenIssuer, bearer
from .web import Answer, Refusal, Rule, operation, origin, routes

ROOT = "/api/data/v9.2"
_PREFERENCE = re.compile(r'([\w.-]+)(?:\s*=\s*("[^"]*"|[^,;\s]*))?')
_HEADERS = {"OData-Version": "4.0", "Cache-Control": "no-cache"}
_JSON = "application/json; odata.metadata=minimal"


class DataverseApi:
    def __init__(self, state: DataverseState, tokens: TokenIssuer) -> None:
        self._state, self._tokens = state, tokens
        self._pages = PageCache()
        self.throttle = Throttle(state.settings, state.clock)

    def app(self, lock: threading.RLock) -> Starlette:
        entity = ROOT + "/EntityDefinitions({key})"
        rules = [
            Rule("GET", ROOT, self.service_document),
            Rule("GET", ROOT + "/", self.service_document),
            Rule("GET", ROOT + "/WhoAmI", self.who_am_i),
            Rule("GET", ROOT + "/WhoAmI()", self.who_am_i),
            Rule("GET", ROOT + "/EntityDefinitions", self.entity_definitions),
            Rule("GET", entity, self.entity_definition),
            Rule("GET", entity + "/Attributes", self.attributes),
            Rule("GET", entity + "/Attributes/Microsoft.Dynamics.CRM.{cast}", self.attributes),
            Rule("GET", entity + "/Attributes(LogicalName='{column}')", self.attribute),
            Rule("GET", entity + "/ManyToOneRelationships", self.many_to_one),
            Rule("GET", entity + "/Keys", self.keys),
            Rule("GET", ROOT + "/organizations", self.organizations),
            Rule("GET", ROOT + "/RetrieveTotalRecordCount({names:path})", self.total_record_count),
            Rule("GET", ROOT + "/{entity_set}/$count", self.count),
            Rule("GET", ROOT + "/{entity_set}({key})", self.read),
            Rule("PATCH", ROOT + "/{entity_set}({key})", self.upsert),
            Rule("DELETE", ROOT + "/{entity_set}({key})", self.delete),
            Rule("PUT", ROOT + "/{entity_set}({key})/{column}", self.put_property),
            Rule("DELETE", ROOT + "/{entity_set}({key})/{column}", self.clear_property),
            Rule("DELETE", ROOT + "/{entity_set}({key})/{column}/$ref", self.clear_property),
            Rule("GET", ROOT + "/{entity_set}", self.list_rows),
            Rule("POST", ROOT + "/{entity_set}", self.create),
            Rule("GET", "/{anything:path}", self.unknown),
        ]
        return Starlette(routes=routes(rules, lock, self._guard))

    # --- around every request

    def _guard(self, request: Request, body: bytes, answer: Answer) -> Response:
        token = bearer(request.headers.get("authorization"))
        if token is None or not self._tokens.accepts(token):
            raise Refusal(self._unauthorized(request))
        try:
            self.throttle.admit()
            if "$skip" in request.query_params:
                raise DataverseError(BAD_REQUEST, "Skip Clause is not supported in CRM")
            response = answer(request, body)
        except DataverseError as error:
            response = self._failed(error)
        self._add_headers(response)
        return response

    def _unauthorized(self, request: Request) -> Response:
        challenge = f'Bearer authorization_uri="{origin(request)}", resource_id="{origin(request)}/"'
        return Response(b"", 401, {"WWW-Authenticate": challenge})

    def _failed(self, error: DataverseError) -> Response:
        headers = {"Retry-After": str(self.throttle.retry_after_seconds())} if error.status == 429 else {}
        content = encode({"error": {"code": error.code, "message": error.message}})
        return Response(content, error.status, headers, media_type=_JSON)

    def _add_headers(self, response: Response) -> None:
        request_id = str(uuid4())
        remaining, seconds = self.throttle.remaining()
        response.headers.update(
            _HEADERS
            | {
                "REQ_ID": request_id,
                "x-ms-service-request-id": request_id,
                "x-ms-dop-hint": str(self._state.settings.dop_hint),
                "x-ms-ratelimit-burst-remaining-xrm-requests": str(remaining),
                "x-ms-ratelimit-time-remaining-xrm-requests": f"{seconds:.2f}",
            }
        )

    def _table(self, request: Request) -> Table:
        return self._state.table_of_set(request.path_params["entity_set"])

    def unknown(self, request: Request, body: bytes) -> Response:
        raise unknown_segment(request.url.path.rsplit("/", 1)[-1])

    # --- organisation and metadata

    def service_document(self, request: Request, body: bytes) -> Response:
        sets = sorted(table.definition.entity_set for table in self._state.tables.values())
        entries = [{"name": name, "kind": "EntitySet", "url": name} for name in sets]
        return _ok({"@odata.context": _context(request, ""), "value": entries})

    def who_am_i(self, request: Request, body: bytes) -> Response:
        facts = {"BusinessUnitId": SYSTEM_USER.id[:-1] + "2", "UserId": SYSTEM_USER.id}
        facts["OrganizationId"] = SYSTEM_USER.id[:-1] + "3"
        return _ok({"@odata.context": _context(request, "Microsoft.Dynamics.CRM.WhoAmIResponse")} | facts)

    def organizations(self, request: Request, body: bytes) -> Response:
        row: dict[str, Any] = {"organizationid": SYSTEM_USER.id[:-1] + "3", "name": "sandbox"}
        row |= {"expirechangetrackingindays": self._state.settings.delta_token_days}
        return _ok({"@odata.context": _context(request, "organizations"), "value": [row]})

    def total_record_count(self, request: Request, body: bytes) -> Response:
        text = request.path_params["names"] + " ".join(request.query_params.values())
        names = [name for name in re.findall(r"\w+", text) if name in self._state.tables]
        counts = [len(self._state.tables[name].rows) for name in names]
        return _ok({"EntityRecordCountCollection": {"Keys": names, "Values": counts}})

    def entity_definitions(self, request: Request, body: bytes) -> Response:
        operation(request, "metadata")
        expanded = "Attributes" in request.query_params.get("$expand", "")
        tables = {table.metadata_id: table for table in self._state.tables.values()}
        items = [metadata.entity_definition(table) for table in tables.values()]
        found = metadata.select_where(items, request.query_params.get("$filter"))
        if expanded:
            for item in found:
                item["Attributes"] = metadata.attributes(tables[item["MetadataId"]], None, "", True)
        return self._metadata_set(request, "EntityDefinitions", found)

    def entity_definition(self, request: Request, body: bytes) -> Response:
        operation(request, "metadata")
        item = metadata.entity_definition(self._defined(request))
        if "Attributes" in request.query_params.get("$expand", ""):
            item["Attributes"] = metadata.attributes(self._defined(request), None, "", True)
        context = {"@odata.context": _context(request, "EntityDefinitions/$entity")}
        return _ok(context | metadata.project(item, request.query_params.get("$select")))

    def attributes(self, request: Request, body: bytes) -> Response:
        operation(request, "metadata")
        cast = request.path_params.get("cast")
        if cast is not None and cast not in metadata.CASTS:
            raise unknown_segment(f"Microsoft.Dynamics.CRM.{cast}")
        items = metadata.attributes(self._defined(request), cast, request.query_params.get("$expand", ""), cast is None)
        found = metadata.select_where(items, request.query_params.get("$filter"))
        return self._metadata_set(request, "EntityDefinitions/Attributes", found)

    def attribute(self, request: Request, body: bytes) -> Response:
        operation(request, "metadata")
        table, name = self._defined(request), request.path_params["column"]
        if name not in table.position:
            raise unknown_segment(name)
        item = metadata.typed_attribute(table, table.column(name))
        return _ok(metadata.project(item, request.query_params.get("$select")))

    def many_to_one(self, request: Request, body: bytes) -> Response:
        operation(request, "metadata")
        found = metadata.select_where(metadata.many_to_one(self._defined(request)), request.query_params.get("$filter"))
        return self._metadata_set(request, "EntityDefinitions/ManyToOneRelationships", found)

    def keys(self, request: Request, body: bytes) -> Response:
        operation(request, "metadata")
        return self._metadata_set(request, "EntityDefinitions/Keys", metadata.keys(self._defined(request)))

    def _defined(self, request: Request) -> Table:
        key = request.path_params["key"]
        named = re.fullmatch(r"LogicalName='(\w+)'", key)
        for table in self._state.tables.values():
            if (named and table.definition.name == named[1]) or table.metadata_id == key.lower():
                return table
        name = named[1] if named else key
        raise DataverseError("0x80040217", f"Could not find an entity with name {name} in the metadata cache.")

    def _metadata_set(self, request: Request, segment: str, items: list[dict[str, Any]]) -> Response:
        select = request.query_params.get("$select")
        found = [metadata.project(item, select) for item in items]
        return _ok({"@odata.context": _context(request, segment), "value": found})

    # --- lists

    def list_rows(self, request: Request, body: bytes) -> Response:
        table, options, preferences = self._table(request), dict(request.query_params), _preferences(request)
        if "$expand" in options and "$deltatoken" not in options and "odata.track-changes" not in preferences:
            raise DataverseError(BAD_REQUEST, "The sandbox does not expand navigation properties of rows.")
        query = self._query(table, options, preferences)
        operation(request, "delta" if query.tracking else "list")
        selection = Selection.of(options.get("$select"), table)
        is_delta = query.cookie.since is not None
        page = delta_page(query) if is_delta else list_page(query)
        annotations = preferences.get("odata.include-annotations")
        content = self._page_json(request, query, selection, page, annotations)
        applied = _applied(preferences, ("odata.track-changes", "odata.maxpagesize", "odata.include-annotations"))
        return Response(content, 200, applied, media_type=_JSON)

    def _query(self, table: Table, options: dict[str, str], preferences: Mapping[str, str]) -> ListQuery:
        cookie = Cookie.decode(options["$skiptoken"]) if "$skiptoken" in options else Cookie()
        tracking = "odata.track-changes" in preferences or "$deltatoken" in options or cookie.tracking
        if tracking:
            if not table.definition.change_tracking:
                name = table.definition.name
                raise DataverseError(TRACKING_OFF, f"Entity {name} isn't enabled for change tracking.")
            refuse_with_tracking(options)
            cookie = self._tracking_cookie(table, options, cookie)
        wanted = preferences.get("odata.maxpagesize", "")
        limit = self._state.settings.max_page_size
        size = min(int(wanted), limit) if wanted.isdigit() and int(wanted) > 0 else limit
        if "$top" in options and wanted:
            options = {name: value for name, value in options.items() if name != "$top"}
        if not options.get("$top", "0").isdigit():
            raise DataverseError(BAD_REQUEST, "Invalid value for $top.")
        return ListQuery(table, options, size, cookie, tracking)

    def _tracking_cookie(self, table: Table, options: Mapping[str, str], cookie: Cookie) -> Cookie:
        if "$skiptoken" in options:
            return cookie
        since = self._state.version_of_token(table, options["$deltatoken"]) if "$deltatoken" in options else None
        return Cookie(tracking=True, since=since, as_of=self._state.version)

    def _page_json(
        self, request: Request, query: ListQuery, selection: Selection, page: Page, annotations: str | None
    ) -> bytes:
        head = self._head(request, query, selection, page, annotations)
        if annotations:
            rows = encode([annotated_row(self._state, selection, row) for row in page.rows])
        else:
            rows = self._pages.rows_json(query.table, selection, page.rows)
        if page.deletions:
            rows = _append(rows, [self._deleted(request, query.table, row_id) for row_id in page.deletions])
        return b"".join((encode(head)[:-1], b',"value":', rows, b"}"))

    def _head(
        self, request: Request, query: ListQuery, selection: Selection, page: Page, annotations: str | None
    ) -> dict[str, Any]:
        entity_set = query.table.definition.entity_set
        named = f"({','.join(selection.named)})" if selection.named else ""
        suffix = "/$delta" if query.cookie.since is not None else ""
        head: dict[str, Any] = {"@odata.context": _context(request, f"{entity_set}{named}{suffix}")}
        if query.options.get("$count", "").lower() == "true":
            number = count_rows(query.table, query.filter())
            head["@odata.count"] = min(number, COUNT_LIMIT)
            if annotations:
                head["@Microsoft.Dynamics.CRM.totalrecordcount"] = min(number, COUNT_LIMIT)
                head["@Microsoft.Dynamics.CRM.totalrecordcountlimitexceeded"] = number > COUNT_LIMIT
        if page.next is not None:
            token = page.next.encode(query.table.definition.primary_id)
            head["@odata.nextLink"] = _link(request, f"$skiptoken={token}")
        elif query.tracking:
            token = quote(self._state.delta_token(self._token_version(query.cookie)), safe="")
            head["@odata.deltaLink"] = _link(request, f"$deltatoken={token}")
        return head

    def _token_version(self, cookie: Cookie) -> int:
        """A delta call's token stands for its start; that of an initial load for whichever the setting says."""
        at_start = cookie.since is not None or self._state.settings.delta_token_time == "load_start"
        return cookie.as_of if at_start else self._state.version

    def _deleted(self, request: Request, table: Table, row_id: str) -> dict[str, str]:
        context = _context(request, f"{table.definition.entity_set}/$deletedEntity")
        return {"@odata.context": context, "id": row_id, "reason": "deleted"}

    def count(self, request: Request, body: bytes) -> Response:
        operation(request, "count")
        table, options = self._table(request), dict(request.query_params)
        if "$deltatoken" in options:
            number = count_changes(table, self._state.version_of_token(table, options["$deltatoken"]))
        else:
            text = options.get("$filter")
            number = count_rows(table, parse_filter(text, table, options) if text else None)
        return Response(str(number), media_type="text/plain")

    # --- single rows

    def read(self, request: Request, body: bytes) -> Response:
        operation(request, "read")
        table = self._table(request)
        row = Address(table, request.path_params["key"]).existing()
        annotations = _preferences(request).get("odata.include-annotations")
        if request.headers.get("if-none-match") == row.etag and not annotations:
            return Response(b"", 304, {"ETag": row.etag})
        return self._row_response(request, table, row, 200, bool(annotations))

    def create(self, request: Request, body: bytes) -> Response:
        operation(request, "insert")
        table = self._table(request)
        values = values_of(self._state, table, body_of(body), creating=True)
        row_id = self._state.create(table.definition.name, values)
        return self._written(request, table, row_id, 201)

    def upsert(self, request: Request, body: bytes) -> Response:
        """PATCH updates a row or creates it; the conditions narrow it to one of the two."""
        table = self._table(request)
        address = Address(table, request.path_params["key"])
        check_conditions(address, request.headers.get("if-match"), request.headers.get("if-none-match"))
        name, content = table.definition.name, body_of(body)
        content.pop(table.definition.primary_id, None)
        if address.row is not None:
            operation(request, "update")
            self._state.update(name, address.row.id, values_of(self._state, table, content, creating=False))
            return self._written(request, table, address.row.id, 200)
        operation(request, "insert")
        values = address.values | values_of(self._state, table, content, creating=True)
        if address.id is not None:
            values[table.definition.primary_id] = address.id
        return self._written(request, table, self._state.create(name, values), 201)

    def delete(self, request: Request, body: bytes) -> Response:
        operation(request, "delete")
        table = self._table(request)
        address = Address(table, request.path_params["key"])
        check_conditions(address, request.headers.get("if-match"), None)
        self._state.delete(table.definition.name, address.existing().id)
        return Response(b"", 204)

    def put_property(self, request: Request, body: bytes) -> Response:
        content = {request.path_params["column"]: body_of(body).get("value")}
        return self._set_property(request, content)

    def clear_property(self, request: Request, body: bytes) -> Response:
        return self._set_property(request, {request.path_params["column"]: None})

    def _set_property(self, request: Request, content: dict[str, Any]) -> Response:
        operation(request, "update")
        table = self._table(request)
        row = Address(table, request.path_params["key"]).existing()
        values = values_of(self._state, table, content, creating=False)
        named = {table.navigation[n][0].name if n in table.navigation else n: v for n, v in values.items()}
        self._state.update(table.definition.name, row.id, named)
        return Response(b"", 204)

    def _written(self, request: Request, table: Table, row_id: str, echo_status: int) -> Response:
        row = self._state.row(table.definition.name, row_id)
        if _preferences(request).get("return") == "representation":
            return self._row_response(request, table, row, echo_status, False)
        entity_id = f"{origin(request)}{ROOT}/{table.definition.entity_set}({row_id})"
        return Response(b"", 204, {"OData-EntityId": entity_id, "Location": entity_id})

    def _row_response(self, request: Request, table: Table, row: Row, status: int, annotations: bool) -> Response:
        selection = Selection.of(request.query_params.get("$select"), table)
        named = f"({','.join(selection.named)})" if selection.named else ""
        context = {"@odata.context": _context(request, f"{table.definition.entity_set}{named}/$entity")}
        facts = annotated_row(self._state, selection, row) if annotations else rows_of(selection, [row])[0]
        applied = _applied(_preferences(request), ("return", "odata.include-annotations"))
        return Response(encode(context | facts), status, {"ETag": row.etag} | applied, media_type=_JSON)


def _ok(value: dict[str, Any]) -> Response:
    return Response(encode(value), media_type=_JSON)


def _context(request: Request, segment: str) -> str:
    return f"{origin(request)}{ROOT}/$metadata" + (f"#{segment}" if segment else "")


def _link(request: Request, token: str) -> str:
    """The request's own options, as it wrote them, and the token that leads on."""
    kept = [
        part
        for part in request.url.query.replace("%24", "$").split("&")
        if part and not part.startswith(("$skiptoken=", "$deltatoken=", "$count="))
    ]
    return f"{origin(request)}{request.url.path}?" + "&".join([*kept, token])


def _preferences(request: Request) -> dict[str, str]:
    """`Prefer` may hold several preferences, or come several times."""
    text = ",".join(request.headers.getlist("prefer"))
    return {match[1].lower(): (match[2] or "").strip('"') for match in _PREFERENCE.finditer(text)}


def _applied(preferences: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    honoured = [f"{name}={preferences[name]}" if preferences[name] else name for name in names if name in preferences]
    return {"Preference-Applied": ",".join(honoured)} if honoured else {}


def _append(rows: bytes, more: list[dict[str, str]]) -> bytes:
    inside = b",".join(part for part in (rows[1:-1], encode(more)[1:-1]) if part)
    return b"[" + inside + b"]"
