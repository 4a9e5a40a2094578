"""What all parts of the staging file do alike: statements, transactions, frames that SQL may name, a table's state."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import duckdb
import polars as pl

from d365_campaign.changes import Reading
from d365_campaign.store.sql import related
from d365_campaign.store.values import quote

STATE = (
    """create table if not exists main.table_mapping (
  name varchar, source varchar, target varchar, source_key varchar, target_key varchar,
  fingerprint varchar default '', schema_facts varchar default '{}', compare_everything boolean default true,
  scanned boolean default false, engine_calls_adobe bigint default 0, pages bigint default 0,
  planned_page bigint default 0, replay_requested varchar, replaying varchar,
  large_load_acknowledged_by varchar, large_load_acknowledged_at timestamp
)""",
    """create table if not exists main.reading (
  name varchar, phase varchar, generation integer, next_link varchar, delta_link varchar,
  started_at timestamp, caught_up boolean
)""",
)


class FilePart:
    """Some relations of the staging file, over the connection that all parts share."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def _rows(self, query: str, parameters: object = None) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, parameters).fetchall()

    def _run(self, statement: str, parameters: object = None) -> None:
        self._connection.execute(statement, parameters)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing."""
        self._run("begin")
        try:
            yield
        except BaseException:
            self._run("rollback")
            raise
        self._run("commit")

    @contextmanager
    def _registered(self, **frames: pl.DataFrame) -> Iterator[None]:
        """Let SQL name *frames* as relations."""
        for name, frame in frames.items():
            self._connection.register(name, frame)
        try:
            yield
        finally:
            # In a transaction that failed it can't be done, and needn't: the roll-back does it.
            with suppress(duckdb.TransactionException):
                for name in frames:
                    self._connection.unregister(name)


class TablePart(FilePart):
    """Relations of one table mapping, by its name, and where it stands."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        super().__init__(connection)
        self.name = name

    @property
    def reading(self) -> Reading:
        """Where the reading of this table stands; a fresh one means nothing was read yet."""
        rows = self._rows(
            "select phase, generation, next_link, delta_link, started_at, caught_up from main.reading where name = $1",
            [self.name],
        )
        if not rows:
            return Reading()
        phase, generation, next_link, delta_link, started_at, caught_up = rows[0]
        return Reading(phase, generation, next_link, delta_link, utc(started_at), caught_up)

    def _move_to(self, reading: Reading) -> None:
        self._run("delete from main.reading where name = $1", [self.name])
        self._run(
            "insert into main.reading values ($1, $2, $3, $4, $5, $6, $7)",
            [self.name, *asdict(reading).values()],
        )

    def _state(self, column: str) -> Any:
        """What stands in a column of the table's row in `main.table_mapping`."""
        return self._rows(f"select {quote(column)} from main.table_mapping where name = $1", [self.name])[0][0]

    def _set(self, column: str, value: object) -> None:
        self._run(f"update main.table_mapping set {quote(column)} = $1 where name = $2", [value, self.name])

    def _any(self, name: str) -> bool:
        """Whether there is anything in the relation of this name."""
        return bool(self._rows(f"select 1 from {self._relation(name)} limit 1"))

    def _relation(self, name: str) -> str:
        return related(self.name, name)


def utc(moment: datetime | None) -> datetime | None:
    """A moment of the staging file, which holds them without their offset."""
    return moment and moment.replace(tzinfo=UTC)


def naive(moment: datetime | None) -> datetime | None:
    """A moment as the staging file holds it, in UTC."""
    return moment and moment.astimezone(UTC).replace(tzinfo=None)
