"""Lists of Dataverse rows over HTTP: pages, deltas, counts."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from .dataverse_cookie import Cookie
from .dataverse_errors import BAD_REQUEST, PRIVILEGE_DENIED, TRACKING_OFF, DataverseError, not_here
from .dataverse_expand import expanded_rows, parse_expand
from .dataverse_filter import parse_filter
from .dataverse_http import JSON, ROOT, applied, context, following_link, preferences
from .dataverse_read import (
    COUNT_LIMIT,
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
)
from .dataverse_state import DataverseState
from .dataverse_table import Row, Table
from .web import Rule, operation, origin

OTHER_LANGUAGES = {
    "fetchxml": "FetchXML queries",
    "sql": "SQL queries",
    "savedquery": "saved views",
    "userquery": "saved personal views",
    "$apply": "aggregation with $apply",
}
UNSUPPORTED = ("$search", "$levels", "$compute")
"""Refused by Dataverse itself ("Query data using the Web API")."""
BOM = "\ufeff"


class ListApi:
    def __init__(self, state: DataverseState) -> None:
        self._state = state
        self._pages = PageCache()

    def rules(self) -> list[Rule]:
        return [
            Rule("GET", ROOT + "/{entity_set}/$count", self.count),
            Rule("GET", ROOT + "/{entity_set}", self.list_rows),
        ]

    def list_rows(self, request: Request, body: bytes) -> Response:
        return self.listed(request, self._state.table_of_set(request.path_params["entity_set"]))

    def listed(self, request: Request, table: Table, where: Callable[[Row], bool] | None = None) -> Response:
        """A page of a table, or of those rows that obey *where*."""
        options, wanted = dict(request.query_params), preferences(request)
        check_options(options)
        query = self._query(table, options, wanted, where)
        operation(request, "delta" if query.tracking else "list")
        selection = Selection.of(options.get("$select"), table)
        page = delta_page(query) if query.cookie.since is not None else list_page(query)
        content = self._page_json(request, query, selection, page, wanted.get("odata.include-annotations"))
        names = ("odata.track-changes", "odata.maxpagesize", "odata.include-annotations")
        return Response(content, 200, applied(wanted, names), media_type=JSON)

    def _query(
        self,
        table: Table,
        options: dict[str, str],
        wanted: Mapping[str, str],
        where: Callable[[Row], bool] | None,
    ) -> ListQuery:
        cookie = Cookie.decode(options["$skiptoken"]) if "$skiptoken" in options else Cookie()
        asked = "odata.track-changes" in wanted
        tracking = asked or "$deltatoken" in options or (cookie.tracking and not self._lost(cookie))
        if tracking:
            self._check_tracking(table)
            refuse_with_tracking(options)
            cookie = self._tracking_cookie(table, options, cookie)
        size = self._page_size(wanted.get("odata.maxpagesize", ""))
        if "$top" in options and "odata.maxpagesize" in wanted:
            options = {name: value for name, value in options.items() if name != "$top"}
        if not options.get("$top", "0").isdigit():
            raise DataverseError(BAD_REQUEST, "Invalid value for $top.")
        return ListQuery(table, options, size, cookie, tracking, self._state, where)

    def _lost(self, cookie: Cookie) -> bool:
        """Whether a load that was tracked stops being so, since this page did not ask for it again."""
        return self._state.settings.track_every_page and cookie.since is None

    def _check_tracking(self, table: Table) -> None:
        name = table.definition.name
        if not table.definition.change_tracking:
            raise DataverseError(TRACKING_OFF, f"Entity {name} isn't enabled for change tracking.")
        if not self._state.settings.change_tracking_privilege:
            raise DataverseError(
                PRIVILEGE_DENIED, f"Principal user is missing prvRead privilege on entity '{name}' at Global depth."
            )

    def _page_size(self, wanted: str) -> int:
        limit = self._state.settings.max_page_size
        if not wanted.isdigit() or int(wanted) == 0:
            return limit
        if int(wanted) > limit and self._state.settings.oversized_page == "refuse":
            raise DataverseError(BAD_REQUEST, f"The page size can't be larger than {limit}.")
        return min(int(wanted), limit)

    def _tracking_cookie(self, table: Table, options: Mapping[str, str], cookie: Cookie) -> Cookie:
        if "$skiptoken" in options:
            return cookie
        since = self._state.version_of_token(table, options["$deltatoken"]) if "$deltatoken" in options else None
        return Cookie(tracking=True, since=since, as_of=self._state.version)

    # --- the answer

    def _page_json(
        self, request: Request, query: ListQuery, selection: Selection, page: Page, annotations: str | None
    ) -> bytes:
        head = self._head(request, query, selection, page, annotations)
        rows = self._rows_json(request, query, selection, page, bool(annotations))
        if page.deletions:
            rows = _append(rows, [_deleted(request, query.table, row_id) for row_id in page.deletions])
        return b"".join((encode(head)[:-1], b',"value":', rows, b"}"))

    def _rows_json(self, request: Request, query: ListQuery, selection: Selection, page: Page, annotate: bool) -> bytes:
        text = query.options.get("$expand")
        if text:
            root = f"{origin(request)}{ROOT}/{query.table.definition.entity_set}"
            expansions = parse_expand(text, self._state, query.table)
            return encode(expanded_rows(self._state, selection, page.rows, expansions, annotate, root))
        if annotate:
            return encode([annotated_row(self._state, selection, row) for row in page.rows])
        return self._pages.rows_json(query.table, selection, page.rows)

    def _head(
        self, request: Request, query: ListQuery, selection: Selection, page: Page, annotations: str | None
    ) -> dict[str, Any]:
        entity_set = query.table.definition.entity_set
        named = f"({','.join(selection.named)})" if selection.named else ""
        suffix = "/$delta" if query.cookie.since is not None else ""
        head: dict[str, Any] = {"@odata.context": context(request, f"{entity_set}{named}{suffix}")}
        if query.options.get("$count", "").lower() == "true":
            number = count_rows(query.table, query.filter())
            head["@odata.count"] = min(number, COUNT_LIMIT)
        else:
            number = -1
        if annotations:
            head["@Microsoft.Dynamics.CRM.totalrecordcount"] = min(number, COUNT_LIMIT)
            head["@Microsoft.Dynamics.CRM.totalrecordcountlimitexceeded"] = number > COUNT_LIMIT
        if page.next is not None:
            token = page.next.encode(query.table.definition.primary_id)
            head["@odata.nextLink"] = following_link(request, f"$skiptoken={token}")
        elif query.tracking and self._links_on(query, page):
            token = quote(self._state.delta_token(self._token_version(query.cookie)), safe="")
            head["@odata.deltaLink"] = following_link(request, f"$deltatoken={token}")
        return head

    def _links_on(self, query: ListQuery, page: Page) -> bool:
        found = bool(page.rows or page.deletions) or query.cookie.since is None
        return found or self._state.settings.empty_delta_link

    def _token_version(self, cookie: Cookie) -> int:
        """A delta call's token stands for its start; that of an initial load for whichever the setting says."""
        at_start = cookie.since is not None or self._state.settings.delta_token_time == "load_start"
        return cookie.as_of if at_start else self._state.version

    def count(self, request: Request, body: bytes) -> Response:
        """A number as text ("Count rows using OData")."""
        operation(request, "count")
        table, options = self._state.table_of_set(request.path_params["entity_set"]), dict(request.query_params)
        settings = self._state.settings
        if "$deltatoken" in options:
            number = count_changes(table, self._state.version_of_token(table, options["$deltatoken"]))
        else:
            text = options.get("$filter")
            number = count_rows(table, parse_filter(text, self._state, table, options) if text else None)
            number = min(number, COUNT_LIMIT) if settings.count_segment_capped else number
        return Response(f"{BOM if settings.count_segment_bom else ''}{number}", media_type="text/plain")


def check_options(options: Mapping[str, str]) -> None:
    """Queries in languages the sandbox does not speak are refused, never answered as plain lists."""
    for name in options:
        if name.lower() in OTHER_LANGUAGES:
            raise not_here(OTHER_LANGUAGES[name.lower()])
        if name in UNSUPPORTED:
            raise DataverseError(BAD_REQUEST, f"The query option '{name}' is not supported.")


def _deleted(request: Request, table: Table, row_id: str) -> dict[str, str]:
    where = context(request, f"{table.definition.entity_set}/$deletedEntity")
    return {"@odata.context": where, "id": row_id, "reason": "deleted"}


def _append(rows: bytes, more: list[dict[str, str]]) -> bytes:
    inside = b",".join(part for part in (rows[1:-1], encode(more)[1:-1]) if part)
    return b"[" + inside + b"]"
