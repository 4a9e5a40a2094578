"""Dynamics 365 through the Dataverse Web API: tables, pages of what changed in them, and their records.

Written against Web API v9.2; the names in quotes are titles of Microsoft's pages.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from d365_campaign.changes import ChangePage
from d365_campaign.clients.dataverse_faults import accepted, judge
from d365_campaign.clients.dataverse_pages import NEXT_LINK, is_delta_link, read_page
from d365_campaign.clients.dataverse_tables import definition_of, read_table
from d365_campaign.clients.dataverse_writes import MAX_PARALLEL, DataverseRows
from d365_campaign.clients.http import Answer, ApiSession, Tokens
from d365_campaign.clients.throttle import RetryPolicy, ThrottleGate
from d365_campaign.clients.wire import WireSettings
from d365_campaign.errors import ConfigurationError, DeltaTokenExpired, RetriableError
from d365_campaign.schemas import SourceColumn, SourceTable

API_PATH = "/api/data/v9.2"
MAX_PAGE_SIZE = 5000
HEADERS = {"Accept": "application/json", "OData-Version": "4.0", "OData-MaxVersion": "4.0", "If-None-Match": "null"}


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """The application user that Dynamics takes us for, and its environment."""

    user_id: str
    organization_id: str


class DataverseClient:
    """One Dynamics environment. Thread-safe; fits `flows.ports.ChangeSource`. Nothing but `rows` ever writes.

    *url* is the environment's, e.g. `https://contoso.crm4.dynamics.com`. *max_parallel* bounds how many batches of
    writes travel at once, whatever Dynamics recommends.
    """

    def __init__(
        self,
        url: str,
        tokens: Tokens,
        *,
        page_size: int = MAX_PAGE_SIZE,
        max_parallel: int = MAX_PARALLEL,
        gate: ThrottleGate | None = None,
        retry: RetryPolicy | None = None,
        wire: WireSettings | None = None,
    ) -> None:
        self._page_size, self._max_parallel = page_size, max_parallel
        self._retry = retry or RetryPolicy()
        self._session = ApiSession(
            "Dynamics",
            url.rstrip("/") + API_PATH,
            tokens,
            headers=HEADERS,
            judge=judge,
            gate=gate,
            retry=self._retry,
            wire=wire,
        )

    def close(self) -> None:
        """Close the kept connections."""
        self._session.close()

    def describe(self, table: str) -> SourceTable:
        """The table and its readable columns, with labels and targets; one request ("Query schema definitions").

        Raises ConfigurationError for a table that isn't there.
        """
        return self._session.get(
            definition_of(table), f"table {table}", accepted(table, lambda answer: read_table(answer, table))
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

    def rows(self, table: SourceTable, columns: Sequence[SourceColumn]) -> DataverseRows:
        """Records of *table*, to be read and written one version at a time; *columns* are all that is seen of them."""
        return DataverseRows(self._session, table, columns, retry=self._retry, max_parallel=self._max_parallel)

    def has_changes(self, delta_link: str) -> bool:
        """Whether anything changed since *delta_link*; also True when it has expired, as then all must be read.

        One small request, and nothing is moved on: the same link still brings the same changes.
        """
        read = accepted("delta link", _waiting)
        try:
            return self._session.get(delta_link, "delta link", read, headers={"Prefer": "odata.maxpagesize=1"})
        except DeltaTokenExpired:
            return True

    def who_am_i(self) -> WhoAmI:
        """Proves token and application user; needs no right to any table ("WhoAmI function")."""
        return self._session.get("WhoAmI", "WhoAmI", accepted("WhoAmI", _identity))

    def clock_skew_seconds(self) -> float | None:
        """How far Dynamics' clock is ahead of ours, to about a second; None when its answer bears no date."""
        return self._session.get("WhoAmI", "WhoAmI", accepted("WhoAmI", Answer.clock_skew_seconds))

    def try_read(self, table: SourceTable) -> None:
        """Read one record as a pull does. Raises ConfigurationError when a right or change tracking is missing."""
        columns = [table.columns[table.primary_id]]
        asked = f"{table.entity_set}?$select={_select(columns)}"
        self._page(asked, table, columns, "odata.track-changes,odata.maxpagesize=1")

    def record_count(self, table: str) -> int | None:
        """How many records a snapshot tells, which may be a day old ("RetrieveTotalRecordCount function").

        None when it tells nothing of the table. Good for an estimate, never for comparing both systems.
        """
        names = quote(json.dumps([table]), safe="")
        asked = f"RetrieveTotalRecordCount(EntityNames=@p1)?@p1={names}"
        return self._session.get(asked, f"count of {table}", accepted(table, lambda answer: _count(answer, table)))

    def delta_token_days(self) -> int | None:
        """Days for which the environment knows a delta token ("Use change tracking to synchronize data with external
        systems"); None where it doesn't tell, or our user may not read it."""
        name = "expirechangetrackingindays"
        try:
            return self._session.get(
                f"organizations?$select={name}", "organization", accepted("organization", lambda a: _first(a, name))
            )
        except ConfigurationError:
            return None

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
        read = accepted(table.name, lambda answer: read_page(answer, table, columns, changed_only=changed_only))
        return self._session.get(link, f"table {table.name}", read, headers={"Prefer": prefer})

    def _check_links(self, page: ChangePage, table: SourceTable) -> None:
        """Before a page is given out, so that no foreign link is ever stored."""
        for link in (page.next_link, page.delta_link):
            if link is not None:
                self._session.locate(link, f"table {table.name}")


def _with_key(table: SourceTable, columns: Sequence[SourceColumn]) -> Sequence[SourceColumn]:
    has_key = any(column.name == table.primary_id for column in columns)
    return columns if has_key else [table.columns[table.primary_id], *columns]


def _select(columns: Sequence[SourceColumn]) -> str:
    return ",".join(column.wire_name for column in columns)


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


def _identity(answer: Answer) -> WhoAmI:
    body = answer.json()
    if not isinstance(body, dict) or not body.get("UserId") or not body.get("OrganizationId"):
        raise RetriableError("WhoAmI: Dynamics sent something else than a user.")
    return WhoAmI(str(body["UserId"]), str(body["OrganizationId"]))


def _first(answer: Answer, name: str) -> int | None:
    body = answer.json()
    rows = body.get("value") if isinstance(body, dict) else None
    value = rows[0].get(name) if rows else None
    return value if isinstance(value, int) and value > 0 else None


def _count(answer: Answer, table: str) -> int | None:
    body = answer.json()
    counted = body.get("EntityRecordCountCollection") if isinstance(body, dict) else None
    if not isinstance(counted, dict):
        raise RetriableError(f"count of {table}: Dynamics sent something else than counts.")
    return dict(zip(counted["Keys"], counted["Values"], strict=True)).get(table)
