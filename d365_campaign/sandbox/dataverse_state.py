"""Tables, rows, row versions and change tracking of the Dataverse stand-in. No HTTP here.

Rows of a table stand in the order of their last change: a change moves a row to the end. Both "what changed since
version v" and "modified since" then read only the tail.
"""

import random
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

from .clock import Clock
from .dataverse_errors import (
    DUPLICATE_KEY,
    DUPLICATE_RECORD,
    TOKEN_EXPIRED,
    DataverseError,
    does_not_exist,
    unknown_segment,
)
from .dataverse_schema import DEFAULT_TABLES, Column, TableDefinition
from .dataverse_values import Reference, guid, stored
from .settings import Settings

SYSTEM_USER = Reference("systemuser", "9a3c1f60-0000-4000-8000-000000000001")
CURRENCY = Reference("transactioncurrency", "9a3c1f60-0000-4000-8000-0000000000c1")
_TOKEN_STAMP = "%m/%d/%Y %H:%M:%S"


class Row:
    """One row; `values` follow the table's columns by position."""

    __slots__ = ("id", "values", "version")

    def __init__(self, row_id: str, values: list[Any], version: int) -> None:
        self.id, self.values, self.version = row_id, values, version

    @property
    def etag(self) -> str:
        return f'W/"{self.version}"'


class Table:
    """Rows of one table with the indexes that reading and tracking need."""

    def __init__(self, definition: TableDefinition) -> None:
        self.definition = definition
        self.columns = definition.all_columns
        self.metadata_id = str(UUID(int=random.Random(definition.name).getrandbits(128), version=4))
        self.position = {column.name: index for index, column in enumerate(self.columns)}
        self.by_property = {column.property_name: index for index, column in enumerate(self.columns)}
        self.navigation = {
            name: (column, target) for column in self.columns for name, target in column.navigation_properties.items()
        }
        self.rows: dict[str, Row] = {}
        self.deletions: dict[str, int] = {}
        self.expired_before = 0
        self._ids: list[str] = []
        self._ids_sorted = True
        self._keys: dict[tuple[str, ...], dict[tuple[Any, ...], str]] = {key.columns: {} for key in definition.keys}

    @property
    def ids(self) -> list[str]:
        """All primary keys in their order, the order of lists without `$orderby`."""
        if not self._ids_sorted:
            self._ids.sort()
            self._ids_sorted = True
        return self._ids

    def column(self, name: str) -> Column:
        return self.columns[self.position[name]]

    def put(self, row: Row) -> None:
        """Store a new or changed row as the latest change."""
        if self.rows.pop(row.id, None) is None:
            self.deletions.pop(row.id, None)
            insort(self.ids, row.id)
        self.rows[row.id] = row
        row.values[self.position["versionnumber"]] = row.version
        for columns, index in self._keys.items():
            index[self._key_of(row, columns)] = row.id

    def put_many(self, rows: Sequence[Row]) -> None:
        """Store new rows at once; their keys are sorted when next asked for."""
        position = self.position["versionnumber"]
        for row in rows:
            row.values[position] = row.version
            self.rows[row.id] = row
            self.deletions.pop(row.id, None)
            for columns, index in self._keys.items():
                index[self._key_of(row, columns)] = row.id
        self._ids.extend(row.id for row in rows)
        self._ids_sorted = False

    def remove(self, row: Row, version: int) -> None:
        del self.rows[row.id]
        del self.ids[bisect_left(self.ids, row.id)]
        self.forget_keys(row)
        self.deletions[row.id] = version

    def forget_keys(self, row: Row) -> None:
        for columns, index in self._keys.items():
            key = self._key_of(row, columns)
            if index.get(key) == row.id:
                del index[key]

    def find(self, columns: tuple[str, ...], values: tuple[Any, ...]) -> str | None:
        return self._keys[columns].get(tuple(_folded(value) for value in values))

    def taken_key(self, row_id: str, values: list[Any]) -> tuple[str, ...] | None:
        """The alternate key whose values another row already has."""
        for columns, index in self._keys.items():
            key = tuple(_folded(values[self.position[name]]) for name in columns)
            if None not in key and index.get(key, row_id) != row_id:
                return columns
        return None

    def ids_after(self, row_id: str) -> int:
        """Position of the first primary key above *row_id*."""
        return bisect_right(self.ids, row_id) if row_id else 0

    def in_order(self, after: str) -> Iterator[Row]:
        """Rows in primary-key order, those above *after*."""
        return (self.rows[row_id] for row_id in islice(self.ids, self.ids_after(after), None))

    def changed_after(self, version: int) -> list[Row]:
        """Rows with a later version, earliest first."""
        tail = []
        for row in reversed(self.rows.values()):
            if row.version <= version:
                break
            tail.append(row)
        return tail[::-1]

    def modified_since(self, stamp: str) -> list[Row]:
        """Rows whose `modifiedon` is *stamp* or later, in primary-key order."""
        position, tail = self.position["modifiedon"], []
        for row in reversed(self.rows.values()):
            if row.values[position] < stamp:
                break
            tail.append(row)
        return sorted(tail, key=lambda row: row.id)

    def deleted_after(self, version: int) -> list[tuple[str, int]]:
        """Primary key and version of each deletion later than *version*, earliest first."""
        tail = []
        for row_id, deleted_at in reversed(self.deletions.items()):
            if deleted_at <= version:
                break
            tail.append((row_id, deleted_at))
        return tail[::-1]

    def as_dict(self, row: Row) -> dict[str, Any]:
        values = zip(self.columns, row.values, strict=True)
        return {column.property_name: value.id if isinstance(value, Reference) else value for column, value in values}

    def _key_of(self, row: Row, columns: tuple[str, ...]) -> tuple[Any, ...]:
        return tuple(_folded(row.values[self.position[name]]) for name in columns)


def _folded(value: Any) -> Any:
    return value.casefold() if isinstance(value, str) else value


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
        self.reset()

    def reset(self) -> None:
        """Start again empty. Versions go on rising, so tokens from before are known to be expired."""
        with self.lock:
            self.tables = {}
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
            for row in old.rows.values():
                by_name = {column.name: value for column, value in zip(old.columns, row.values, strict=True)}
                values = [by_name.get(column.name, column.default) for column in table.columns]
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
            self._store(table, Row(row_id, row_values, 0))
            return row_id

    def update(self, table_name: str, row_id: str, values: Mapping[str, Any]) -> None:
        """Change a row. Unchanged values make a new version as well, as in Dataverse."""
        with self.lock:
            table = self.table(table_name)
            old = self.row(table_name, row_id)
            row_values = list(old.values)
            self._assign(table, row_values, values)
            self._store(table, Row(old.id, row_values, 0), old)

    def delete(self, table_name: str, row_id: str) -> None:
        with self.lock:
            table = self.table(table_name)
            table.remove(self.row(table_name, row_id), self.next_version())

    def load(self, table_name: str, rows: Iterable[tuple[str, list[Any]]]) -> None:
        """Insert many complete rows (`Table.columns` order) without validating each value again."""
        with self.lock:
            table, now = self.table(table_name), self.clock.dataverse_stamp()
            position = table.position["modifiedon"]
            made = []
            for row_id, values in rows:
                values[position] = now
                made.append(Row(row_id, values, self.next_version()))
            table.put_many(made)

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

    def _store(self, table: Table, row: Row, old: Row | None = None) -> None:
        taken = table.taken_key(row.id, row.values)
        if taken is not None:
            raise DataverseError(DUPLICATE_KEY, f"A record that has the attribute values {', '.join(taken)} exists.")
        if old is not None:
            table.forget_keys(old)
        for name, parts in table.definition.joined:
            words = (row.values[table.position[part]] for part in parts)
            row.values[table.position[name]] = " ".join(word for word in words if word) or None
        row.values[table.position["modifiedon"]] = self.clock.dataverse_stamp()
        row.version = self.next_version()
        table.put(row)

    def _assign(self, table: Table, row_values: list[Any], values: Mapping[str, Any]) -> None:
        """Set *values*, named by column or by property, converting each."""
        for name, value in values.items():
            index = table.position.get(name, table.by_property.get(name))
            if index is None:
                raise _invalid_property(name, table)
            row_values[index] = stored(table.columns[index], value)

    def _complete_new(self, table: Table, row_id: str, row_values: list[Any]) -> None:
        position = table.position
        row_values[0] = row_id
        created = row_values[position["overriddencreatedon"]] or self.clock.dataverse_stamp()
        row_values[position["createdon"]] = created
        row_values[position["ownerid"]] = row_values[position["ownerid"]] or SYSTEM_USER
        if "transactioncurrencyid" in position and row_values[position["transactioncurrencyid"]] is None:
            row_values[position["transactioncurrencyid"]] = CURRENCY


def _invalid_property(name: str, table: Table) -> DataverseError:
    return DataverseError(
        "0x0",
        "Error identified in Payload provided by the user for Entity :'"
        f"{table.definition.entity_set}', For more information on this error please follow this help link. "
        f"InnerException : Invalid property '{name}' was found in entity "
        f"'Microsoft.Dynamics.CRM.{table.definition.name}'.",
    )
