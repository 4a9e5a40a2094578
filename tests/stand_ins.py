"""Both systems in ten lines each: dictionaries and scripts that fit `flows/ports.py`."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock

import polars as pl

from d365_campaign.changes import RECORD_KEY, ChangePage, FoundRecord, RowOutcome, RowResult, RowUpdate
from d365_campaign.errors import RecordRejected
from d365_campaign.schemas import SourceColumn, SourceTable
from tests.builders import source_table


@dataclass(frozen=True)
class Fault:
    """What one call meets instead of an answer; *lands* when the write took effect all the same."""

    error: BaseException
    lands: bool = False


@dataclass
class Campaign:
    """A Campaign resource as a dictionary, its records *held* by key. *faults* are met by operation and key, in order,
    None for a call that meets none; *watch* sees each call."""

    held: dict[str, dict[str, object]] = field(default_factory=dict)
    faults: Mapping[tuple[str, str], Sequence[Fault | None]] = field(default_factory=dict)
    watch: Callable[[str, str], object] = lambda operation, key: None
    units: Mapping[tuple[str, str], object] = field(default_factory=dict)
    data_policy: Callable[[object], object] = lambda value: value

    def __post_init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.sent: list[tuple[str, str, Mapping[str, object]]] = []
        self._lock = Lock()
        self._waiting = {at: deque(faults) for at, faults in self.faults.items()}

    def read(self, key: str) -> FoundRecord | None:
        self._call("read", key, lambda: None)
        return FoundRecord(dict(self.held[key]), handle=key) if key in self.held else None

    def create(self, key: str, values: Mapping[str, object]) -> Mapping[str, object] | None:
        def insert() -> None:
            if key in self.held:
                raise RecordRejected(f"Campaign holds {key} already.", duplicate_key=True)
            self.held[key] = self._stored(values)

        self._call("create", key, insert, values)

    def update(self, key: str, found: FoundRecord, values: Mapping[str, object]) -> None:
        self._call("update", key, lambda: self.held[found.handle].update(self._stored(values)), values)

    def delete(self, key: str) -> bool:
        was_there = key in self.held
        self._call("delete", key, lambda: self.held.pop(key, None))
        return was_there

    def unit(self, link: str, name: str) -> object:
        self._call("unit", name, lambda: None)
        return self.units[link, name]

    def records(self, fields: Sequence[str]) -> Iterator[pl.DataFrame]:
        rows = [
            {RECORD_KEY: key, **{name: _text(self.held[key].get(name)) for name in fields}} for key in sorted(self.held)
        ]
        yield pl.DataFrame(rows, schema=dict.fromkeys((RECORD_KEY, *fields), pl.String))

    def _stored(self, values: Mapping[str, object]) -> dict[str, object]:
        return {name: self.data_policy(value) for name, value in values.items()}

    def _call(
        self, operation: str, key: str, effect: Callable[[], object], values: Mapping[str, object] | None = None
    ) -> None:
        self.watch(operation, key)
        with self._lock:
            self.calls.append((operation, key))
            if values is not None:
                self.sent.append((operation, key, values))
            waiting = self._waiting.get((operation, key))
            fault = waiting.popleft() if waiting else None
            if fault is None or fault.lands:
                effect()
            if fault is not None:
                raise copy(fault.error)  # an error that is kept would keep its frames, and their store, alive


def _text(value: object) -> str | None:
    """A value as JSON writes it; None for an empty one."""
    if isinstance(value, bool):
        return str(value).lower()
    return None if value in (None, "") else str(value)


Served = ChangePage | BaseException


@dataclass
class Dynamics:
    """A table that serves scripted pages by link; an exception in a page's place is raised when its turn comes."""

    changed: Mapping[str | None, Served]
    swept: Mapping[str | None, Served] = field(default_factory=dict)
    watch: Callable[[str | None], object] = lambda link: None

    def __post_init__(self) -> None:
        self.asked: list[str | None] = []
        self.asked_since: list[datetime] = []

    def describe(self, table: str) -> SourceTable:
        return source_table()

    def changes(self, table: SourceTable, columns: Sequence[SourceColumn], link: str | None) -> Iterator[ChangePage]:
        return self._serve(self.changed, link)

    def modified_since(
        self, table: SourceTable, columns: Sequence[SourceColumn], since: datetime, link: str | None
    ) -> Iterator[ChangePage]:
        self.asked_since.append(since)
        return self._serve(self.swept, link)

    def _serve(self, pages: Mapping[str | None, Served], link: str | None) -> Iterator[ChangePage]:
        while True:
            self.asked.append(link)
            self.watch(link)
            page = pages[link]
            if isinstance(page, BaseException):
                raise copy(page)
            yield page
            if page.next_link is None:
                return
            link = page.next_link


@dataclass
class Rows:
    """A Dynamics table's records by key, each with its `versionnumber`. *met* are outcomes told instead of a write."""

    held: dict[str, dict[str, object]] = field(default_factory=dict)
    met: dict[str, RowOutcome] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.written: list[RowUpdate] = []

    def read(self, key: str) -> Mapping[str, object] | None:
        return dict(self.held[key]) if key in self.held else None

    def update(self, updates: Sequence[RowUpdate]) -> Iterator[RowOutcome]:
        for update in updates:
            met = self.met.pop(update.key, None)
            yield met or self._write(update)

    def _write(self, update: RowUpdate) -> RowOutcome:
        row = self.held.get(update.key)
        if row is None:
            return RowOutcome(update.key, RowResult.GONE)
        if row["versionnumber"] != update.version:
            return RowOutcome(update.key, RowResult.STALE)
        self.written.append(update)
        row.update(update.values, versionnumber=update.version + 1)
        return RowOutcome(update.key, RowResult.DONE, row=dict(row))
