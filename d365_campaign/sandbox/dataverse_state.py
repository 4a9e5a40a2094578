"""Tables, row versions, transactions and change tracking of the Dataverse stand-in. No HTTP here."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from .clock import Clock
from .dataverse_errors import (
    DUPLICATE_KEY,
    DUPLICATE_RECORD,
    TOKEN_EXPIRED,
    DataverseError,
    does_not_exist,
    unknown_segment,
)
from .dataverse_schema import DEFAULT_TABLES, TableDefinition
from .dataverse_table import Row, Table
from .dataverse_values import Reference, guid, stored
from .settings import Settings
from .webhooks import Change, Webhooks

SYSTEM_USER = Reference("systemuser", "9a3c1f60-0000-4000-8000-000000000001")
CURRENCY = Reference("transactioncurrency", "9a3c1f60-0000-4000-8000-0000000000c1")
_TOKEN_STAMP = "%m/%d/%Y %H:%M:%S"


class DataverseState:
    """One Dataverse environment. Its methods are safe to call from any thread."""

    def __init__(
        self,
        clock: Clock,
        settings: Settings,
        lock: threading.RLock,
        tables: Iterable[TableDefinition] = DEFAULT_TABLES,
    ) -> None:
        self.clock, self.settings, self.lock = clock, settings, lock
        self._version = 1_000_000
        self._initial = tuple(tables)
        self.tables: dict[str, Table] = {}
        self._undo: list[tuple[Table, str, Row | None, int | None]] | None = None
        self.jobs: dict[str, bool] = {}
        """System jobs by id, and whether each is done."""
        self._later: list[tuple[float, Callable[[], None]]] = []
        self.webhooks = Webhooks(clock)
        self._untold: list[Change] = []
        """Changes of the transaction that is on."""
        self.reset()

    def reset(self) -> None:
        """Start again empty. Versions go on rising, so tokens from before are known to be expired."""
        with self.lock:
            self.tables = {}
            self._later.clear()
            self.jobs.clear()
            self.webhooks.clear()
            self._version += 1
            for definition in self._initial:
                self.tables[definition.name] = Table(definition)
            self.expire_delta_tokens()

    def register(self, definition: TableDefinition) -> None:
        """Add a table, or publish a changed definition of one: its rows stay, its delta tokens may expire."""
        with self.lock:
            table, old = Table(definition), self.tables.get(definition.name)
            self.tables[definition.name] = table
            if old is None:
                return
            table.deletions, table.expired_before = old.deletions, old.expired_before
            sources = [(old.position.get(column.name), column.default) for column in table.columns]
            for row in old.rows.values():
                values = tuple(default if at is None else row.values[at] for at, default in sources)
                table.put_many([Row(row.id, values, row.version)])
            if self.settings.metadata_change_expires_tokens:
                self.expire_delta_tokens(definition.name)

    # --- rows

    def create(self, table_name: str, values: Mapping[str, Any]) -> str:
        """Insert a row; a given primary key is honoured."""
        with self.lock:
            table = self.table(table_name)
            given = values.get(table.definition.primary_id)
            row_id = str(uuid4()) if given is None else guid(given) or str(given)
            if row_id in table.rows:
                raise DataverseError(DUPLICATE_RECORD, "Cannot insert duplicate key.")
            row_values = [column.default for column in table.columns]
            self._assign(table, row_values, values)
            self._complete_new(table, row_id, row_values)
            self._store(table, row_id, row_values)
            return row_id

    def update(self, table_name: str, row_id: str, values: Mapping[str, Any]) -> None:
        """Change a row. Unchanged values make a new version as well, as in Dataverse."""
        with self.lock:
            table = self.table(table_name)
            old = self.row(table_name, row_id)
            row_values = list(old.values)
            written = self._assign(table, row_values, values)
            self._store(table, old.id, row_values, old, written)

    def delete(self, table_name: str, row_id: str) -> None:
        with self.lock:
            table, row = self.table(table_name), self.row(table_name, row_id)
            self._note(table, row.id)
            table.remove(row, self.next_version())
            self._tell(Change("Delete", table_name, row.id, {}))

    def load(self, table_name: str, rows: Iterable[tuple[str, list[Any]]]) -> None:
        """Insert many complete rows (`Table.columns` order) without validating each value again."""
        with self.lock:
            table, now = self.table(table_name), self.clock.dataverse_stamp()
            modified, numbered = table.position["modifiedon"], table.position["versionnumber"]
            made = []
            for row_id, values in rows:
                values[modified], values[numbered] = now, self.next_version()
                made.append(Row(row_id, tuple(values), values[numbered]))
            table.put_many(made)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: after an error every row is as before. Row versions used up stay used."""
        with self.lock:
            outer, self._undo = self._undo, []
            done, told_before = self._undo, len(self._untold)
            try:
                yield
            except BaseException:
                del self._untold[told_before:]
                for table, row_id, before, deleted_at in reversed(done):
                    table.restore(row_id, before, deleted_at)
                for table in {id(entry[0]): entry[0] for entry in done}.values():
                    table.in_version_order()
                done.clear()
                raise
            finally:
                self._undo = outer
                if outer is not None:
                    outer.extend(done)
            if outer is None:
                told, self._untold = self._untold, []
                for change in told:
                    self.webhooks.tell(change)

    def run_later(self, seconds: float, job: Callable[[], None]) -> None:
        """Have *job* done once the clock has moved on, as system jobs are; at once for 0 seconds."""
        if seconds <= 0:
            job()
        else:
            self._later.append((self.clock.seconds() + seconds, job))

    def run_due(self) -> None:
        now = self.clock.seconds()
        due = [job for at, job in self._later if at <= now]
        self._later = [(at, job) for at, job in self._later if at > now]
        for job in due:
            job()

    def rows(self, table_name: str) -> list[dict[str, Any]]:
        """All rows by property name, in primary-key order."""
        with self.lock:
            table = self.table(table_name)
            return [table.as_dict(table.rows[row_id]) for row_id in table.ids]

    def get(self, table_name: str, row_id: str) -> dict[str, Any]:
        with self.lock:
            return self.table(table_name).as_dict(self.row(table_name, row_id))

    def table(self, name: str) -> Table:
        try:
            return self.tables[name]
        except KeyError:
            raise unknown_segment(name) from None

    def table_of_set(self, entity_set: str) -> Table:
        """Entity set names are case-sensitive."""
        for table in self.tables.values():
            if table.definition.entity_set == entity_set:
                return table
        raise unknown_segment(entity_set)

    def row(self, table_name: str, row_id: str) -> Row:
        row = self.table(table_name).rows.get(guid(row_id) or row_id)
        if row is None:
            raise does_not_exist(table_name, row_id)
        return row

    # --- versions and delta tokens

    @property
    def version(self) -> int:
        """The latest row version of the environment."""
        return self._version

    def next_version(self) -> int:
        self._version += 1
        return self._version

    def delta_token(self, version: int | None = None) -> str:
        """`919042!08/22/2017 08:10:44`: a row version and the time it was issued."""
        return f"{self._version if version is None else version}!{self.clock.now():{_TOKEN_STAMP}}"

    def version_of_token(self, table: Table, token: str) -> int:
        """The row version a delta token stands for; refuses one that expired or is none."""
        number, _, stamp = token.replace("+", " ").partition("!")
        try:
            version, issued = int(number), datetime.strptime(stamp, _TOKEN_STAMP).replace(tzinfo=UTC)
        except ValueError:
            raise DataverseError("0x80060888", "The delta token is not valid.") from None
        age = self.clock.now() - issued
        if version < table.expired_before or age > timedelta(days=self.settings.delta_token_days):
            raise DataverseError(
                TOKEN_EXPIRED, "Version stamp associated with the client has expired. Please perform a full sync."
            )
        return version

    def expire_delta_tokens(self, table_name: str | None = None) -> None:
        """Make every token issued so far unusable, for one table or all."""
        with self.lock:
            version = self.next_version()
            for name, table in self.tables.items():
                if table_name in (None, name):
                    table.expired_before = version

    # --- inside

    def _store(
        self,
        table: Table,
        row_id: str,
        row_values: list[Any],
        old: Row | None = None,
        written: frozenset[int] | None = None,
    ) -> None:
        taken = table.taken_key(row_id, row_values)
        if taken is not None:
            raise DataverseError(DUPLICATE_KEY, f"A record that has the attribute values {', '.join(taken)} exists.")
        self._note(table, row_id)
        if old is not None:
            table.forget_keys(old)
        for name, parts in table.definition.joined:
            words = (row_values[table.position[part]] for part in parts)
            row_values[table.position[name]] = " ".join(word for word in words if word) or None
        version = self.next_version()
        row_values[table.position["modifiedon"]] = self.clock.dataverse_stamp()
        row_values[table.position["versionnumber"]] = version
        table.put(Row(row_id, tuple(row_values), version))
        table.touched.setdefault(row_id, []).append((version, written))
        named = range(len(row_values)) if written is None else sorted(written)
        values = {table.columns[at].name: row_values[at] for at in named if old or row_values[at] is not None}
        self._tell(Change("Update" if old else "Create", table.definition.name, row_id, values))

    def _tell(self, change: Change) -> None:
        """Let webhooks know, once the transaction has gone well."""
        if self._undo is None:
            self.webhooks.tell(change)
        else:
            self._untold.append(change)

    def _note(self, table: Table, row_id: str) -> None:
        """Remember how a row was, in case the transaction fails."""
        if self._undo is not None:
            self._undo.append((table, row_id, table.rows.get(row_id), table.deletions.get(row_id)))

    def _assign(self, table: Table, row_values: list[Any], values: Mapping[str, Any]) -> frozenset[int]:
        """Set *values*, named by column or by property, converting each; the positions written."""
        written = set()
        for name, value in values.items():
            index = table.position.get(name, table.by_property.get(name))
            if index is None:
                raise invalid_property(name, table)
            row_values[index] = stored(table.columns[index], value)
            written.add(index)
        return frozenset(written)

    def _complete_new(self, table: Table, row_id: str, row_values: list[Any]) -> None:
        position = table.position
        row_values[0] = row_id
        created = row_values[position["overriddencreatedon"]] or self.clock.dataverse_stamp()
        row_values[position["createdon"]] = created
        row_values[position["ownerid"]] = row_values[position["ownerid"]] or SYSTEM_USER
        if "transactioncurrencyid" in position and row_values[position["transactioncurrencyid"]] is None:
            row_values[position["transactioncurrencyid"]] = CURRENCY


def invalid_property(name: str, table: Table) -> DataverseError:
    return DataverseError(
        "0x0",
        "Error identified in Payload provided by the user for Entity :'"
        f"{table.definition.entity_set}', For more information on this error please follow this help link. "
        f"InnerException : Invalid property '{name}' was found in entity "
        f"'Microsoft.Dynamics.CRM.{table.definition.name}'.",
    )
