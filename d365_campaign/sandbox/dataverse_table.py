"""One table of the Dataverse stand-in: its rows and the indexes that reading and tracking need.

Rows stand in the order of their last change: a change moves a row to the end. Both "what changed since version v" and
"modified since" then read only the tail. A row's values are a tuple in column order, so a million rows stay small.
"""

import random
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any
from uuid import UUID

from .dataverse_schema import Column, TableDefinition
from .dataverse_values import Reference


class Row:
    """One row as of one version; a change makes a new one."""

    __slots__ = ("id", "values", "version")

    def __init__(self, row_id: str, values: tuple[Any, ...], version: int) -> None:
        self.id, self.values, self.version = row_id, values, version

    @property
    def etag(self) -> str:
        return f'W/"{self.version}"'


class Table:
    """Virtual columns are described by the definition only: no row has them."""

    def __init__(self, definition: TableDefinition) -> None:
        self.definition = definition
        self.columns = tuple(column for column in definition.all_columns if column.stored)
        self.metadata_id = str(UUID(int=random.Random(definition.name).getrandbits(128), version=4))
        self.position = {column.name: index for index, column in enumerate(self.columns)}
        self.by_property = {column.property_name: index for index, column in enumerate(self.columns)}
        self.navigation = {
            name: (column, target) for column in self.columns for name, target in column.navigation_properties.items()
        }
        self.rows: dict[str, Row] = {}
        self.deletions: dict[str, int] = {}
        self.touched: dict[str, list[tuple[int, frozenset[int] | None]]] = {}
        """Versions of each row written through the API and the columns written; None for all of them."""
        self.expired_before = 0
        self._ids: list[str] = []
        self._ids_sorted = True
        self._keys: dict[tuple[str, ...], dict[tuple[Any, ...], str]] = {
            key.columns: {} for key in definition.keys if key.active
        }

    @property
    def ids(self) -> list[str]:
        """All primary keys in their order, the order of lists without `$orderby`."""
        self.sort_ids()
        return self._ids

    def sort_ids(self) -> None:
        if not self._ids_sorted:
            self._ids.sort()
            self._ids_sorted = True

    def column(self, name: str) -> Column:
        return self.columns[self.position[name]]

    # --- writing

    def put(self, row: Row) -> None:
        """Store a new or changed row as the latest change."""
        if self.rows.pop(row.id, None) is None:
            self.deletions.pop(row.id, None)
            insort(self.ids, row.id)
        self.rows[row.id] = row
        self._index(row)

    def put_many(self, rows: Sequence[Row]) -> None:
        """Store new rows at once; their keys are sorted when next asked for."""
        for row in rows:
            self.rows[row.id] = row
            self.deletions.pop(row.id, None)
            self._index(row)
        self._ids.extend(row.id for row in rows)
        self._ids_sorted = False

    def remove(self, row: Row, version: int) -> None:
        del self.rows[row.id]
        del self.ids[bisect_left(self.ids, row.id)]
        self.forget_keys(row)
        self.touched.pop(row.id, None)
        self.deletions[row.id] = version

    def restore(self, row_id: str, before: Row | None, deleted_at: int | None) -> None:
        """Undo one change; `in_version_order` has to follow."""
        current = self.rows.pop(row_id, None)
        if current is not None:
            self.forget_keys(current)
            del self.ids[bisect_left(self.ids, row_id)]
        self.deletions.pop(row_id, None)
        if deleted_at is not None:
            self.deletions[row_id] = deleted_at
        if before is not None:
            self.rows[row_id] = before
            insort(self.ids, row_id)
            self._index(before)

    def in_version_order(self) -> None:
        self.rows = dict(sorted(self.rows.items(), key=lambda item: item[1].version))
        self.deletions = dict(sorted(self.deletions.items(), key=lambda item: item[1]))

    # --- alternate keys

    def find(self, columns: tuple[str, ...], values: tuple[Any, ...]) -> str | None:
        return self._keys[columns].get(tuple(_folded(value) for value in values))

    def taken_key(self, row_id: str, values: Sequence[Any]) -> tuple[str, ...] | None:
        """The alternate key whose values another row already has."""
        for columns, index in self._keys.items():
            key = tuple(_folded(values[self.position[name]]) for name in columns)
            if None not in key and index.get(key, row_id) != row_id:
                return columns
        return None

    def has_duplicates(self, columns: tuple[str, ...]) -> bool:
        """Whether two rows share these values, so that no key can be made of the columns."""
        seen = set[tuple[Any, ...]]()
        for row in self.rows.values():
            key = self._key_of(row, columns)
            if None not in key and key in seen:
                return True
            seen.add(key)
        return False

    def forget_keys(self, row: Row) -> None:
        for columns, index in self._keys.items():
            key = self._key_of(row, columns)
            if index.get(key) == row.id:
                del index[key]

    def _index(self, row: Row) -> None:
        for columns, index in self._keys.items():
            index[self._key_of(row, columns)] = row.id

    def _key_of(self, row: Row, columns: tuple[str, ...]) -> tuple[Any, ...]:
        return tuple(_folded(row.values[self.position[name]]) for name in columns)

    # --- reading

    def in_order(self, after: str) -> Iterator[Row]:
        """Rows in primary-key order, those above *after*."""
        start = bisect_right(self.ids, after) if after else 0
        return (self.rows[row_id] for row_id in islice(self.ids, start, None))

    def changed_after(self, version: int) -> list[Row]:
        """Rows with a later version, earliest first."""
        tail = []
        for row in reversed(self.rows.values()):
            if row.version <= version:
                break
            tail.append(row)
        return tail[::-1]

    def changed_in(self, row: Row, columns: frozenset[int], version: int) -> bool:
        """Whether a change after *version* made the row or wrote one of *columns*."""
        later = [written for at, written in self.touched.get(row.id, ()) if at > version]
        return not later or any(written is None or written & columns for written in later)

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

    def referring(self, column: Column, row_id: str) -> Iterator[Row]:
        """Rows whose lookup points to this row of another table, in primary-key order."""
        index = self.position[column.name]
        return (row for row in self.in_order("") if getattr(row.values[index], "id", None) == row_id)

    def as_dict(self, row: Row) -> dict[str, Any]:
        values = zip(self.columns, row.values, strict=True)
        return {column.property_name: value.id if isinstance(value, Reference) else value for column, value in values}


def _folded(value: Any) -> Any:
    return value.casefold() if isinstance(value, str) else value
