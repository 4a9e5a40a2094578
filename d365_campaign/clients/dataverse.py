"""Dynamics 365 through the Dataverse Web API: tables, and pages of what changed in them.

Written against Web API v9.2; the names in quotes are titles of Microsoft's pages.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

import polars as pl

from d365_campaign.changes import ChangePage
from d365_campaign.clients.http import Answer, ApiSession, Tokens, Verdict, by_status
from d365_campaign.clients.throttle import RetryPolicy, ThrottleGate, http_date
from d365_campaign.clients.wire import WireSettings
from d365_campaign.errors import ConfigurationError, DeltaTokenExpired, RetriableError, SyncError
from d365_campaign.field_types import HELD, LOOKUPS, source_type
from d365_campaign.schemas import SourceColumn, SourceTable

API_PATH = "/api/data/v9.2"
MAX_PAGE_SIZE = 5000
HEADERS = {"Accept": "application/json", "OData-Version": "4.0", "OData-MaxVersion": "4.0", "If-None-Match": "null"}

NEXT_LINK, DELTA_LINK = "@odata.nextLink", "@odata.deltaLink"
# Only the entry of a deleted record has a context of its own ("Use change tracking to synchronize data").
ENTRY_CONTEXT, REMOVED_KEY, REMOVED_REASON = "@odata.context", "id", "reason"

TABLE_PROPERTIES = "LogicalName,EntitySetName,PrimaryIdAttribute,ChangeTrackingEnabled"
COLUMN_PROPERTIES = "LogicalName,AttributeType,AttributeTypeName,IsValidForRead"
DATE_CAST = "Microsoft.Dynamics.CRM.DateTimeAttributeMetadata"
# The one kind of `Virtual` column that is a property of its rows; the others only accompany another column.
MULTI_CHOICE = "MultiSelectPicklist"


@dataclass(frozen=True, slots=True)
class DataverseFault:
    """What some error codes mean. *remedy* may name the {table}; *cites* adds the server's own words, which hold names
    of columns and no values."""

    codes: frozenset[str]
    error: type[SyncError]
    remedy: str
    cites: bool = False


# Codes: "Web service error codes".
FAULTS: tuple[DataverseFault, ...] = (
    DataverseFault(
        frozenset({"0x80044352"}), DeltaTokenExpired, "the delta token has expired; '{table}' is to be read anew"
    ),
    DataverseFault(
        frozenset({"0x80072491", "0x80072492"}),
        ConfigurationError,
        "change tracking is off for '{table}'. Switch on 'Track changes' in the table's properties and publish it.",
    ),
    DataverseFault(
        frozenset({"0x0"}),
        ConfigurationError,
        "a name is unknown to Dynamics. Check the mapping of '{table}'.",
        cites=True,
    ),
    DataverseFault(
        frozenset({"0x80040220", "0x80040231", "0x80040256", "0x80048306", "0x80048405"}),
        ConfigurationError,
        "the application user may not read '{table}'. Give it a security role with organization-level read on it.",
    ),
    DataverseFault(
        frozenset({"0x80072560"}),
        ConfigurationError,
        "the application has no user in this environment. Add an application user for dynamics.client_id there.",
    ),
    DataverseFault(
        frozenset({"0x80060888", "0x8006088a", "0x80040217", "0x80041102"}),
        ConfigurationError,
        "there is no table '{table}' here. Check the logical name, and that dynamics.url is the right environment.",
    ),
)
# Metadata locks and SQL time-outs: they pass, whatever status they come with.
PASSING = frozenset({"0x80040216", "0x80044151", "0x80044150"})


class DataverseClient:
    """One Dynamics environment, read-only. Thread-safe; fits `flows.ports.ChangeSource`.

    *url* is the environment's, e.g. `https://contoso.crm4.dynamics.com`.
    """

    def __init__(
        self,
        url: str,
        tokens: Tokens,
        *,
        page_size: int = MAX_PAGE_SIZE,
        gate: ThrottleGate | None = None,
        retry: RetryPolicy | None = None,
        wire: WireSettings | None = None,
    ) -> None:
        self._page_size = page_size
        self._session = ApiSession(
            "Dynamics",
            url.rstrip("/") + API_PATH,
            tokens,
            headers=HEADERS,
            judge=judge,
            gate=gate,
            retry=retry,
            wire=wire,
        )

    def close(self) -> None:
        """Close the kept connections."""
        self._session.close()

    def describe(self, table: str) -> SourceTable:
        """The table and its readable columns; three requests ("Query table definitions using the Web API").

        Raises ConfigurationError for a table that isn't there.
        """
        path = f"EntityDefinitions(LogicalName='{quote(table, safe='')}')"
        facts = self._metadata(f"{path}?$select={TABLE_PROPERTIES}", table)
        attributes = self._metadata(f"{path}/Attributes?$select={COLUMN_PROPERTIES}", table)
        dates = self._metadata(f"{path}/Attributes/{DATE_CAST}?$select=LogicalName,DateTimeBehavior", table)
        date_only = {a["LogicalName"] for a in dates["value"] if _value(a.get("DateTimeBehavior")) == "DateOnly"}
        found = (column_of(a, a["LogicalName"] in date_only) for a in attributes["value"] if a.get("IsValidForRead"))
        return SourceTable(
            name=facts["LogicalName"],
            entity_set=facts["EntitySetName"],
            primary_id=facts["PrimaryIdAttribute"],
            change_tracking=bool(facts.get("ChangeTrackingEnabled")),
            columns={column.name: column for column in found if column},
        )

    def changes(self, table: SourceTable, columns: Sequence[SourceColumn], link: str | None) -> Iterator[ChangePage]:
        """Pages from *link* on (a next link or a delta link); from the table's first record when it is None.

        Pages are asked for as they are taken. The last page alone has the delta link. Raises DeltaTokenExpired when
        only a full read can help.
        """
        columns = _with_key(table, columns)
        prefer = f"odata.track-changes,odata.maxpagesize={self._page_size}"
        asked = link or f"{table.entity_set}?$select={_select(columns)}"
        for page in self._pages(table, columns, asked, prefer):
            yield page if page.next_link or page.delta_link else _with_delta_link(page, table, link)

    def modified_since(
        self, table: SourceTable, columns: Sequence[SourceColumn], since: datetime, link: str | None
    ) -> Iterator[ChangePage]:
        """Pages of records whose `modifiedon` is not before *since*, or from *link* on; no deletions, no delta link."""
        columns = _with_key(table, columns)
        moment = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        asked = link or f"{table.entity_set}?$select={_select(columns)}&$filter=modifiedon%20ge%20{moment}"
        yield from self._pages(table, columns, asked, f"odata.maxpagesize={self._page_size}")

    def has_changes(self, delta_link: str) -> bool:
        """Whether anything changed since *delta_link*; also True when it has expired, as then all must be read.

        One small request, and nothing is moved on: the same link still brings the same changes.
        """
        read = _reader("delta link", _waiting)
        try:
            return bool(self._session.get(delta_link, "delta link", read, headers={"Prefer": "odata.maxpagesize=1"}))
        except DeltaTokenExpired:
            return True

    def _metadata(self, path: str, table: str) -> Any:
        return self._session.get(path, f"table {table}", _reader(table, Answer.json))

    def _pages(
        self, table: SourceTable, columns: Sequence[SourceColumn], first: str, prefer: str
    ) -> Iterator[ChangePage]:
        link: str | None = first
        seen: set[str] = set()
        while link:
            if link in seen:
                raise RetriableError(
                    f"table {table.name}: Dynamics sent a next link a second time; its pages don't end."
                )
            seen.add(link)
            page = self._page(link, table, columns, prefer)
            self._check_links(page, table)
            yield page
            link = page.next_link

    def _page(self, link: str, table: SourceTable, columns: Sequence[SourceColumn], prefer: str) -> ChangePage:
        changed_only = is_delta_link(link)
        read = _reader(table.name, lambda answer: read_page(answer, table, columns, changed_only=changed_only))
        page: ChangePage = self._session.get(link, f"table {table.name}", read, headers={"Prefer": prefer})
        return page

    def _check_links(self, page: ChangePage, table: SourceTable) -> None:
        """Before a page is given out, so that no foreign link is ever stored."""
        for link in (page.next_link, page.delta_link):
            if link is not None:
                self._session.locate(link, f"table {table.name}")


def judge(answer: Answer) -> Verdict:
    """Dataverse names passing faults by code as well, with any status."""
    if answer.status < 400:  # a page is megabytes: it is not parsed just to see that it is no error
        return by_status(answer)
    if answer.status >= 400 and error_of(answer)[0] in PASSING:
        return Verdict.UNSURE
    fault = _fault(answer)
    return Verdict.FINAL if answer.status == 500 and fault and not fault.cites else by_status(answer)


def error_of(answer: Answer) -> tuple[str, str]:
    """Code (lower case) and message of an error answer; empty where it has none, as a bare 401 or a proxy's page."""
    try:
        error = answer.json()["error"]
        return str(error.get("code", "")).lower(), str(error.get("message", ""))
    except (RetriableError, KeyError, TypeError, AttributeError):
        return "", ""


def _fault(answer: Answer) -> DataverseFault | None:
    code, _ = error_of(answer)
    # 410 is OData's own status for a delta link that no longer works.
    code = "0x80044352" if answer.status == 410 else code
    return next((fault for fault in FAULTS if code in fault.codes), None)


def _reader(table: str, read: Callable[[Answer], Any]) -> Callable[[Answer], Any]:
    """*read* for answers under 2xx; the error an answer stands for otherwise."""

    def checked(answer: Answer) -> Any:
        if not 200 <= answer.status < 300:
            raise refusal(answer, table)
        return read(answer)

    return checked


def refusal(answer: Answer, table: str) -> SyncError:
    """The error that a refused read of *table* stands for."""
    code, message = error_of(answer)
    seen = f"Dynamics answered {answer.status}" + (f" ({code})" if code else "")
    fault = _fault(answer)
    if fault is None and answer.status == 404:
        fault = next(f for f in FAULTS if "0x80060888" in f.codes)
    if fault is None:
        return ConfigurationError(
            f"{seen} to a read of '{table}'. Check dynamics.url and the application user's rights."
        )
    cited = f" {message}" if fault.cites else ""
    return fault.error(f"{seen}: {fault.remedy.format(table=table)}{cited}")


def column_of(attribute: Mapping[str, Any], date_only: bool) -> SourceColumn | None:
    """The column an attribute stands for; None for one that is no property of its rows."""
    name, kind = attribute["LogicalName"], attribute["AttributeType"]
    if kind == "Virtual" and _value(attribute.get("AttributeTypeName")) == f"{MULTI_CHOICE}Type":
        kind = MULTI_CHOICE
    held = source_type(kind, date_only)
    return None if held is None else SourceColumn(name, held, f"_{name}_value" if kind in LOOKUPS else name)


def _value(wrapped: Any) -> Any:
    """Metadata wraps some properties: `{"Value": "DateOnly"}`."""
    return wrapped.get("Value") if isinstance(wrapped, dict) else wrapped


def _with_key(table: SourceTable, columns: Sequence[SourceColumn]) -> Sequence[SourceColumn]:
    has_key = any(column.name == table.primary_id for column in columns)
    return columns if has_key else [table.columns[table.primary_id], *columns]


def _select(columns: Sequence[SourceColumn]) -> str:
    return ",".join(column.wire_name for column in columns)


def is_delta_link(link: str) -> bool:
    """Whether *link* asks for changes; clients and proxies are known to encode its `$`."""
    return "$deltatoken=" in unquote(link).lower()


def read_page(
    answer: Answer, table: SourceTable, columns: Sequence[SourceColumn], *, changed_only: bool = False
) -> ChangePage:
    """One page, straight from bytes to columns: no row ever becomes a Python object.

    "Nothing changed" (*changed_only*) may come without any `value` at all; other pages always have one.

    Raises RetriableError for a body that was cut, ConfigurationError for a value that has another type than the
    metadata told.
    """
    held = {column.wire_name: HELD[column.type].page for column in columns}
    held = {REMOVED_KEY: pl.String, REMOVED_REASON: pl.String, ENTRY_CONTEXT: pl.String, **held}
    envelope = _envelope(answer.body, held, table.name)
    if envelope.item(0, "value") is None and not changed_only:
        raise RetriableError(f"table {table.name}: Dynamics sent something else than a page.")
    next_link, delta_link = envelope.item(0, NEXT_LINK), envelope.item(0, DELTA_LINK)
    entries = _entries(envelope, held)
    removed = pl.col(ENTRY_CONTEXT).is_not_null() & pl.col(REMOVED_REASON).is_not_null()
    rows = entries.filter(~removed).select(_typed(column) for column in columns)
    removed_keys = entries.filter(removed)[REMOVED_KEY].cast(pl.String).str.to_lowercase()
    if rows[table.primary_id].null_count() or removed_keys.null_count():
        raise RetriableError(f"table {table.name}: Dynamics sent an entry without a key.")
    return ChangePage(
        rows=rows,
        removed=removed_keys.to_list(),
        next_link=next_link,
        delta_link=delta_link,
        served_at=http_date(answer.headers.get("Date", "")) or datetime.now(UTC),
    )


def _envelope(body: bytes, held: Mapping[str, type[pl.DataType]], table: str) -> pl.DataFrame:
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "value": pl.List(pl.Struct(held)),
        NEXT_LINK: pl.String,
        DELTA_LINK: pl.String,
    }
    try:
        # Polars also takes other JSON than an object, and then blames a value's type.
        envelope = pl.read_json(body, schema=schema) if body.lstrip()[:1] == b"{" else pl.DataFrame()
    except pl.exceptions.PolarsError as error:
        # The text of such an error quotes the value, so nothing of it is passed on.
        if "error deserializing value" in str(error):
            raise ConfigurationError(
                f"table {table}: a value has another type than its column. Was a column replaced by another type's?"
            ) from None
        raise RetriableError(f"table {table}: Dynamics sent a page that is no complete JSON.") from None
    if envelope.height != 1:
        raise RetriableError(f"table {table}: Dynamics sent something else than a page.")
    return envelope


def _entries(envelope: pl.DataFrame, held: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    """The entries as columns; none for an empty page."""
    value = envelope.item(0, "value")
    return pl.DataFrame(schema=held) if value is None or len(value) == 0 else value.struct.unnest()


def _typed(column: SourceColumn) -> pl.Expr:
    """Under its logical name. Ids in lower case: Dataverse sends them so, except inside paging cookies."""
    expression = pl.col(column.wire_name).alias(column.name)
    return expression.str.to_lowercase() if column.type == "reference" else expression


def _with_delta_link(page: ChangePage, table: SourceTable, asked: str | None) -> ChangePage:
    """A delta read without changes may end without a new link; then the one that was asked still holds."""
    if asked is None or not is_delta_link(asked):
        raise RetriableError(f"table {table.name}: the last page came without a delta link.")
    return ChangePage(page.rows, page.removed, None, asked, page.served_at)


def _waiting(answer: Answer) -> bool:
    body = answer.json()
    if not isinstance(body, dict):
        raise RetriableError("Dynamics sent something else than a page.")
    return bool(body.get("value") or body.get(NEXT_LINK))
