"""Reading Dataverse rows: pages, paging cookies, delta pages, counts and the JSON of a row."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice
from operator import itemgetter
from typing import Any

import orjson

from .dataverse_cookie import Cookie
from .dataverse_errors import BAD_REQUEST, DataverseError, unknown_property
from .dataverse_filter import Filter, parse_filter
from .dataverse_schema import Column
from .dataverse_state import DataverseState
from .dataverse_table import Row, Table
from .dataverse_values import Reference

COUNT_LIMIT = 5000
"""`$count=true` never tells more than this ("Count rows using OData")."""
ENCODED_AT_ONCE = 50
PAGE_CACHE_BYTES = 128 * 1024 * 1024
FORMATTED = "@OData.Community.Display.V1.FormattedValue"
LOOKUP_TABLE = "@Microsoft.Dynamics.CRM.lookuplogicalname"
NAVIGATION = "@Microsoft.Dynamics.CRM.associatednavigationproperty"


@dataclass(frozen=True, slots=True)
class Selection:
    """The columns a request asked for, with the primary key always among them."""

    columns: tuple[Column, ...]
    indexes: tuple[int, ...]
    named: tuple[str, ...]

    @staticmethod
    def of(select: str | None, table: Table) -> "Selection":
        """Every column when *select* is missing; Money drags its currency along ("Web API Properties")."""
        if not select:
            return Selection(table.columns, tuple(range(len(table.columns))), ())
        wanted = [name.strip() for name in select.split(",") if name.strip()]
        for name in wanted:
            if name not in table.by_property:
                raise unknown_property(name, table.definition.name)
        indexes = list(dict.fromkeys([*(table.by_property[name] for name in wanted), 0]))
        if any(table.columns[index].type == "Money" for index in indexes):
            indexes = list(dict.fromkeys([*indexes, table.position["transactioncurrencyid"]]))
        return Selection(tuple(table.columns[index] for index in indexes), tuple(indexes), tuple(wanted))


class PageCache:
    """Encoded pages, the least recently used dropped first.

    A page is known by its first and last key, its number of rows and its highest row version: any change to it
    raises the highest version or lowers the number.
    """

    def __init__(self, limit: int = PAGE_CACHE_BYTES) -> None:
        self._limit, self._size = limit, 0
        self._pages: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()

    def rows_json(self, table: Table, selection: Selection, rows: Sequence[Row]) -> bytes:
        if not rows:
            return b"[]"
        version = max(row.version for row in rows)
        key = (table.metadata_id, selection.indexes, rows[0].id, rows[-1].id, len(rows), version)
        page = self._pages.get(key)
        if page is None:
            page = _encoded_rows(selection, rows)
            self._keep(key, page)
        else:
            self._pages.move_to_end(key)
        return page

    def _keep(self, key: tuple[Any, ...], page: bytes) -> None:
        self._pages[key] = page
        self._size += len(page)
        while self._size > self._limit:
            self._size -= len(self._pages.popitem(last=False)[1])


def _encoded_rows(selection: Selection, rows: Sequence[Row]) -> bytes:
    """In small pieces, which stay in the processor's cache: a quarter faster than the page at once."""
    pieces = (rows[start : start + ENCODED_AT_ONCE] for start in range(0, len(rows), ENCODED_AT_ONCE))
    return b"[" + b",".join(encode(rows_of(selection, piece))[1:-1] for piece in pieces) + b"]"


def encode(value: Any) -> bytes:
    return orjson.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    """Decimals keep their scale, `20000.0000`; a lookup is its row's primary key."""
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f"))
    if isinstance(value, Reference):
        return value.id
    raise TypeError(type(value).__name__)


def rows_of(selection: Selection, rows: Iterable[Row]) -> list[dict[str, Any]]:
    names = ("@odata.etag", *(column.property_name for column in selection.columns))
    if len(selection.indexes) == 1:
        return [{"@odata.etag": row.etag, names[1]: row.values[0]} for row in rows]
    pick = itemgetter(*selection.indexes)
    return [dict(zip(names, (row.etag, *pick(row.values)), strict=True)) for row in rows]


def annotated_row(state: DataverseState, selection: Selection, row: Row) -> dict[str, Any]:
    """A row with formatted values and what its lookups point to, as `odata.include-annotations="*"` asks for."""
    result: dict[str, Any] = {"@odata.etag": row.etag}
    for column, index in zip(selection.columns, selection.indexes, strict=True):
        value, name = row.values[index], column.property_name
        result[name] = value
        if (text := _formatted(state, column, value)) is not None:
            result[name + FORMATTED] = text
        if isinstance(value, Reference):
            result[name + LOOKUP_TABLE] = value.table
            navigation = next((n for n, t in column.navigation_properties.items() if t == value.table), column.name)
            result[name + NAVIGATION] = column.name if column.type == "Owner" else navigation
    return result


def _formatted(state: DataverseState, column: Column, value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, Reference):
        return _primary_name(state, value)
    labels = {option.value: option.label for option in column.options}
    if column.type == "MultiSelectPicklist":
        return "; ".join(labels.get(int(number), number) for number in str(value).split(","))
    if labels or column.type == "Boolean":
        return labels.get(int(value), "Yes" if value else "No")
    if column.type == "Money":
        return f"${value:,.2f}"
    if column.type == "DateTime":
        year, month, date = value[:10].split("-")
        return f"{int(month)}/{int(date)}/{year}" + ("" if column.date_only else f" {value[11:16]}")
    return f"{value:,}" if column.type in ("Integer", "Decimal") else None


def _primary_name(state: DataverseState, reference: Reference) -> str | None:
    table = state.tables.get(reference.table)
    row = table.rows.get(reference.id) if table else None
    if table is None or row is None:
        return None
    name: str | None = row.values[table.position[table.definition.primary_name]]
    return name


# --- lists


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A list request without its HTTP: options by name, page size and how far it got."""

    table: Table
    options: Mapping[str, str]
    page_size: int
    cookie: Cookie
    tracking: bool
    state: DataverseState
    where: Callable[[Row], bool] | None = None
    """A condition besides `$filter`, such as belonging to one parent."""

    def filter(self) -> Filter | None:
        text = self.options.get("$filter")
        aliases = {name: value for name, value in self.options.items() if name.startswith("@")}
        wanted = parse_filter(text, self.state, self.table, aliases) if text else None
        where = self.where
        if where is None:
            return wanted
        if wanted is None:
            return Filter(where)
        matches = wanted.matches
        return Filter(lambda row: where(row) and matches(row), wanted.modified_since)

    def selected(self) -> frozenset[int] | None:
        """The columns whose changes count in a delta; None for all."""
        if self.state.settings.delta_unselected_changes or not self.options.get("$select"):
            return None
        return frozenset(Selection.of(self.options["$select"], self.table).indexes)


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of one page and, unless it is the last, where the next one starts."""

    rows: list[Row]
    next: Cookie | None
    deletions: tuple[str, ...] = ()


def matching(table: Table, wanted: Filter | None, after: str = "") -> Iterable[Row]:
    """Rows in primary-key order; a bound on `modifiedon` reads only the latest changes."""
    if wanted is None:
        return table.in_order(after)
    if wanted.modified_since is not None:
        candidates: Iterable[Row] = (row for row in table.modified_since(wanted.modified_since) if row.id > after)
    else:
        candidates = table.in_order(after)
    return filter(wanted.matches, candidates)


def list_page(query: ListQuery) -> Page:
    if "$orderby" in query.options:
        return _ordered_page(query)
    top = int(query.options["$top"]) if "$top" in query.options else None
    size = min(top, query.page_size) if top is not None else query.page_size
    rows = list(islice(matching(query.table, query.filter(), query.cookie.last), size + 1))
    more = len(rows) > size and top is None
    rows = rows[:size]
    return Page(rows, replace(query.cookie, page=query.cookie.page + 1, last=rows[-1].id) if more else None)


def _ordered_page(query: ListQuery) -> Page:
    top = int(query.options["$top"]) if "$top" in query.options else None
    rows = sort_rows(query.state, query.table, list(matching(query.table, query.filter())), query.options["$orderby"])
    start = query.cookie.position
    page = rows[start : start + min(query.page_size, query.page_size if top is None else top)]
    end = start + len(page)
    if top is not None or end >= len(rows):
        return Page(page, None)
    return Page(page, replace(query.cookie, page=query.cookie.page + 1, position=end, last=page[-1].id))


def sort_rows(state: DataverseState, table: Table, rows: list[Row], order: str) -> list[Row]:
    """Sort by the last key first, so that earlier keys win; nulls come first, as in SQL Server.

    Lookups sort by the name of the row they point to ("Order rows using OData").
    """
    for part in reversed(order.split(",")):
        name, _, direction = part.strip().partition(" ")
        value = _sort_value(state, table, name)
        rows.sort(key=lambda row: _sort_key(value(row)), reverse=direction.strip() == "desc")
    return rows


def _sort_value(state: DataverseState, table: Table, path: str) -> Callable[[Row], Any]:
    name, _, rest = path.partition("/")
    if rest and name in table.navigation:
        column, target = table.navigation[name]
        index, further = table.position[column.name], _sort_value(state, state.table(target), rest)
        rows = state.table(target).rows

        def beyond(row: Row) -> Any:
            value = row.values[index]
            found = rows.get(value.id) if isinstance(value, Reference) and value.table == target else None
            return further(found) if found else None

        return beyond
    at = table.by_property.get(path)
    if at is None:
        raise unknown_property(path, table.definition.name)
    position = at
    if table.columns[at].is_lookup:
        return lambda row: None if (value := row.values[position]) is None else _primary_name(state, value)
    return lambda row: row.values[position]


def _sort_key(value: Any) -> tuple[bool, Any]:
    return (value is not None, value.casefold() if isinstance(value, str) else 0 if value is None else value)


def count_rows(table: Table, wanted: Filter | None) -> int:
    return len(table.rows) if wanted is None else sum(1 for _ in matching(table, wanted))


# --- change tracking


def delta_page(query: ListQuery) -> Page:
    """Changed rows by version, then deletions; each row once, in its latest state.

    Source: "Use change tracking to synchronize data with external systems". Each page is evaluated when asked, so
    a row that changes meanwhile moves to a later page.
    """
    cookie = query.cookie
    since = cookie.since or 0
    reached = cookie.position or since
    rows = [] if cookie.in_deletions else query.table.changed_after(reached)
    selected = query.selected()
    if selected is not None:
        rows = [row for row in rows if query.table.changed_in(row, selected, since)]
    page = rows[: query.page_size]
    if len(rows) > len(page):
        return Page(page, replace(cookie, page=cookie.page + 1, position=page[-1].version))
    deletions = query.table.deleted_after(reached if cookie.in_deletions else since)
    gone = deletions[: query.page_size - len(page)]
    if len(deletions) == len(gone):
        return Page(page, None, tuple(row_id for row_id, _ in gone))
    position = gone[-1][1] if gone else since
    following = replace(cookie, page=cookie.page + 1, position=position, in_deletions=True)
    return Page(page, following, tuple(row_id for row_id, _ in gone))


def count_changes(table: Table, since: int) -> int:
    return len(table.changed_after(since)) + len(table.deleted_after(since))


def refuse_with_tracking(options: Mapping[str, str]) -> None:
    for name in ("$filter", "$orderby", "$expand", "$top"):
        if name in options:
            raise DataverseError(
                BAD_REQUEST, f'The "{name}" query parameter isn\'t supported when Change Tracking is enabled.'
            )
