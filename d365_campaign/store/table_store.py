"""One table mapping's part of the staging file: absorb pages, compute the change set, settle outcomes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC
from typing import Any

import duckdb
import polars as pl

from d365_campaign.changes import Change, ChangePage, ChangeSummary, Kind, Outcome, Reading, Reject
from d365_campaign.errors import ConfigurationError
from d365_campaign.mapping import BoundMapping
from d365_campaign.store import sql
from d365_campaign.store.ledger import Ledger

STATE = (
    """create table if not exists main.table_mapping (
  name varchar, source varchar, target varchar, source_key varchar, target_key varchar,
  fingerprint varchar, compare_everything boolean, keys_scanned boolean, engine_calls_adobe bigint,
  pages bigint, planned_page bigint
)""",
    """create table if not exists main.reading (
  name varchar, phase varchar, generation integer, next_link varchar, delta_link varchar,
  started_at timestamp, caught_up boolean
)""",
)
_OUTCOME = {"key": pl.String, "kind": pl.String, "result": pl.String, "engine_calls": pl.Int64, "reason": pl.String}


class TableStore:
    """Snapshot, mirror and change set of one table mapping. Each public method is one transaction or reads only."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, ledger: Ledger, table: BoundMapping) -> None:
        self._connection = connection
        self._ledger = ledger
        self.table = table
        with self._transaction():
            self._prepare()

    # --- where we stand -------------------------------------------------------------------------------------------

    @property
    def reading(self) -> Reading:
        """Where the reading of this table stands; a fresh one means nothing was read yet."""
        rows = self._rows(
            "select phase, generation, next_link, delta_link, started_at, caught_up from main.reading where name = $1",
            [self.table.name],
        )
        if not rows:
            return Reading()
        phase, generation, next_link, delta_link, started_at, caught_up = rows[0]
        return Reading(
            phase, generation, next_link, delta_link, started_at and started_at.replace(tzinfo=UTC), caught_up
        )

    @property
    def keys_scanned(self) -> bool:
        """Whether the keys that Campaign held before the first write are known."""
        return bool(self._state("keys_scanned"))

    @property
    def planned(self) -> bool:
        """Whether the change set takes in everything that was read so far."""
        touched = self._rows(f"select count(*) from {self._relation('touched')}")[0][0]
        return not touched and not self._state("compare_everything")

    def summary(self) -> ChangeSummary:
        """The open change set as it stands."""
        rows = self._rows(sql.summary(self.table))
        counts = {kind: count for kind, rests, count in rows if not rests}
        return ChangeSummary(
            insert=counts.get(Kind.INSERT, 0),
            update=counts.get(Kind.UPDATE, 0),
            adopt=counts.get(Kind.ADOPT, 0),
            delete=counts.get(Kind.DELETE, 0),
            unchanged=self.records() - sum(count for kind, _, count in rows if kind != Kind.DELETE),
            refused=sum(count for _, rests, count in rows if rests),
        )

    def busiest_fields(self) -> dict[str, int]:
        """Campaign field to the number of open updates it is part of, most first."""
        return dict(self._rows(sql.busiest_fields(self.table)))

    def sample_keys(self, limit: int) -> dict[str, list[str]]:
        """Kind of change to up to *limit* keys."""
        return dict(self._rows(sql.sample_keys(self.table), {"limit": limit}))

    def rejects(self, limit: int) -> list[Reject]:
        """The records that Campaign refused last, latest first."""
        query = f"select key, reason from {self._relation('reject')} order by last_at desc, key limit $1"
        return [Reject(key, reason) for key, reason in self._rows(query, [limit])]

    def records(self) -> int:
        """How many records the snapshot holds."""
        return int(self._rows(f"select count(*) from {self._relation('snapshot')}")[0][0])

    def mirrored(self) -> int:
        """How many records Campaign is known to hold."""
        return int(self._rows(f"select count(*) from {self._relation('mirror')}")[0][0])

    def repeated_keys(self) -> int:
        """How many of the touched rows repeat another's key; there is no constraint that would forbid it."""
        key, touched = sql.quote(self.table.mapping.key.source), f"select key from {self._relation('touched')}"
        query = f"select count(*) - count(distinct {key}) from {self._relation('snapshot')} where {key} in ({touched})"
        return int(self._rows(query)[0][0])

    # --- pull -----------------------------------------------------------------------------------------------------

    def absorb(self, page: ChangePage, then: Reading) -> None:
        """Take in a page's rows and removals and move the reading to *then*, all or nothing.

        When *then* completes a full read and its sweep, records that neither met are removed with it.
        """
        name = self.table.mapping.key.source
        rows = page.rows.unique(subset=name, keep="last") if page.rows[name].is_duplicated().any() else page.rows
        gone = pl.Series("key", page.removed, dtype=pl.String)
        touched = pl.concat(
            [
                rows.select(key=name).with_columns(removed=False),
                gone.to_frame().with_columns(removed=True),
            ]
        )
        snapshot, key = self._relation("snapshot"), sql.quote(name)
        completes = self.reading.phase != "changes" and then.phase == "changes"
        with self._registered(page=rows, touched_now=touched), self._transaction():
            self._run(f"delete from {snapshot} where {key} in (select key from touched_now)")
            self._insert(then.generation)
            self._run(f"delete from {snapshot} where {key} in (select key from touched_now where removed)")
            self._run(f"insert into {self._relation('touched')} select key, removed from touched_now")
            if completes:
                self._drop_records_not_met(then.generation)
                self._set("compare_everything", True)
            self._move_to(then)

    def _insert(self, generation: int) -> None:
        try:
            self._set("pages", int(self._state("pages")) + 1)
            self._run(sql.insert_page(self.table), {"generation": generation, "page": self._state("pages")})
        except duckdb.DataError:  # its message holds the value
            raise ConfigurationError(
                f"a page of Dynamics table '{self.table.source.name}' holds a value that its column's type has no room "
                "for; nothing of that page is stored. Correct it in Dynamics, or take its column out of the mapping."
            ) from None

    def read_everything_again(self) -> Reading:
        """Start a full read: its end removes every record that it didn't meet."""
        fresh = Reading(generation=self.reading.generation + 1)
        with self._transaction():
            self._move_to(fresh)
        return fresh

    def _drop_records_not_met(self, generation: int) -> None:
        key = sql.quote(self.table.mapping.key.source)
        stale = f"from {self._relation('snapshot')} where {sql.GENERATION} < $1"
        self._run(f"insert into {self._relation('touched')} select {key}, true {stale}", [generation])
        self._run(f"delete {stale}", [generation])

    def _move_to(self, reading: Reading) -> None:
        self._run("delete from main.reading where name = $1", [self.table.name])
        self._run(
            "insert into main.reading values ($1, $2, $3, $4, $5, $6, $7)",
            [self.table.name, *asdict(reading).values()],
        )

    # --- plan -----------------------------------------------------------------------------------------------------

    def note_existing(self, pages: Iterator[Sequence[str]]) -> int:
        """Keep the keys that Campaign holds already, so that the plan tells adoptions from inserts.

        Raises ConfigurationError when a key stands there twice: it could not tell records apart.
        """
        with self._transaction():
            self._run(f"delete from {self._relation('existing')}")
            for keys in pages:
                with self._registered(found=pl.Series("key", keys, dtype=pl.String).to_frame()):
                    self._run(f"insert into {self._relation('existing')} select key from found")
            self._refuse_repeated_existing()
            self._set("keys_scanned", True)
            self._set("compare_everything", True)
        return int(self._rows(f"select count(*) from {self._relation('existing')}")[0][0])

    def _refuse_repeated_existing(self) -> None:
        repeated = self._rows(
            f"select key from {self._relation('existing')} group by key having count(*) > 1 order by key limit 5"
        )
        if repeated:
            mapping = self.table.mapping
            raise ConfigurationError(
                f"Campaign field '{mapping.key.target}' of '{mapping.target}' is not unique, for instance "
                f"{', '.join(key for (key,) in repeated)}. Merge these records, or map another identification key."
            )

    def plan(self, *, everything: bool = False) -> ChangeSummary:
        """Compare desired with mirror and keep the difference as the change set.

        Safe to repeat. It costs what was touched since the last plan; after a full read, a changed mapping or with
        *everything* it compares whole tables. Nothing is deleted before a full read and its sweep are through: what
        seems to be gone may just not have been read yet.
        """
        full = everything or bool(self._state("compare_everything"))
        deletes = self.table.mapping.apply_deletes and self.reading.phase == "changes"
        if full:
            compare = sql.compare_everything(self.table, deletes=deletes)
        else:
            compare = sql.compare_touched(self.table, planned_page=self._state("planned_page"), deletes=deletes)
        doubt = sql.doubt(self.table, deletes=deletes) if self._in_flight() else []
        with self._transaction():
            for statement in [*compare, *doubt, *sql.release_changed_rejects(self.table)]:
                self._run(statement)
            adobe = self._rows(sql.adobe_engine_calls(self.table))[0][0]
            self._set("engine_calls_adobe", self.engine_calls_adobe + int(adobe))
            self._run(f"truncate {self._relation('touched')}")
            self._set("planned_page", self._state("pages"))
            self._set("compare_everything", False)
        return replace(self.summary(), full=full)

    @property
    def engine_calls_adobe(self) -> int:
        """What Adobe's scheme would have spent on what was planned since the last sync."""
        return int(self._state("engine_calls_adobe"))

    def take_adobe_engine_calls(self) -> int:
        """The same, counted from now on anew."""
        spent = self.engine_calls_adobe
        with self._transaction():
            self._set("engine_calls_adobe", 0)
        return spent

    # --- apply ----------------------------------------------------------------------------------------------------

    def pending(self, limit: int, after: str = "") -> list[Change]:
        """The next open changes in key order, after key *after*; resting rejects are left out."""
        names = [f.target.name for f in self.table.fields]
        return [
            Change(key, Kind(kind), {} if kind == Kind.DELETE else dict(zip(names, values, strict=True)), changed or ())
            for key, kind, changed, *values in self._rows(sql.pending(self.table), {"limit": limit, "after": after})
        ]

    def claim(self, changes: Sequence[Change]) -> None:
        """Note that *changes* are about to be sent, and reserve their engine calls.

        Whatever is still noted when a later run starts was sent without an answer, and is read back first.
        """
        claimed = pl.DataFrame(
            {"key": [c.key for c in changes], "reserved": [c.engine_calls for c in changes]},
            schema={"key": pl.String, "reserved": pl.Int32},
        )
        with self._registered(claimed=claimed), self._transaction():
            self._run(f"insert into {self._relation('in_flight')} select key, reserved from claimed")

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Book what became of claimed changes: mirror, change set, rejects and ledger in one transaction."""
        rows = [(o.key, o.kind.value, o.result.value, o.engine_calls, o.reason) for o in outcomes]
        spent: Counter[str] = Counter()
        for outcome in outcomes:
            spent[outcome.kind.value] += outcome.engine_calls
        with self._registered(outcome=pl.DataFrame(rows, schema=_OUTCOME, orient="row")), self._transaction():
            for statement in sql.settle(self.table):
                self._run(statement)
            self._ledger.book(self.table.name, spent)

    def book_unsettled(self) -> int:
        """Count the engine calls of an earlier run that never told what it spent: they may all have been made.

        Returns how many of its changes are in doubt; the next plan reads their records back.
        """
        with self._transaction():
            query = f"select count(distinct key), coalesce(sum(reserved), 0) from {self._relation('in_flight')}"
            in_doubt, reserved = self._rows(query)[0]
            self._ledger.book(self.table.name, {"unsettled": int(reserved)})
            self._run(f"update {self._relation('in_flight')} set reserved = 0")
        return int(in_doubt)

    # --- the mapping as it was, and as it is ----------------------------------------------------------------------

    def _prepare(self) -> None:
        for statement in sql.create_relations(self.table):
            self._run(statement)
        self._remember_mapping()
        if self._fit_columns("snapshot", sql.snapshot_columns(self.table)) and self.reading != Reading():
            # Without the new column a record looks as if Dynamics had cleared it: none is compared before it is read.
            self._run(f"truncate {self._relation('snapshot')}")
            self._move_to(Reading(generation=self.reading.generation + 1))
        self._fit_columns("mirror", sql.mirror_columns(self.table))
        self._run(sql.create_desired(self.table))
        if self._state("fingerprint") != self.table.fingerprint():
            self._set("fingerprint", self.table.fingerprint())
            self._set("compare_everything", True)

    def _remember_mapping(self) -> None:
        identity = self.table.mapping.identity()
        known = self._rows(
            "select source, target, source_key, target_key from main.table_mapping where name = $1", [self.table.name]
        )
        if not known:
            self._run(
                "insert into main.table_mapping values ($1, $2, $3, $4, $5, '', true, false, 0, 0, 0)",
                [self.table.name, *identity.values()],
            )
        elif known[0] != tuple(identity.values()):
            was = ", ".join(f"{name} {old!r}" for name, old in zip(identity, known[0], strict=True))
            raise ConfigurationError(
                f"table mapping '{self.table.name}' was saved with {was}; tables and keys of a saved mapping can't "
                "change. Put them back, or start with another staging file to map this table anew."
            )

    def _fit_columns(self, name: str, wanted: dict[str, str]) -> bool:
        """Add, drop and retype columns; tell whether there are new ones, whose values are yet to be read."""
        there = dict(
            self._rows(
                "select column_name, lower(data_type) from duckdb_columns() where schema_name = $1 and table_name = $2",
                [self.table.name, name],
            )
        )
        wanted = {column: kind.replace(", ", ",") for column, kind in wanted.items()}
        fresh = [column for column, kind in wanted.items() if there.get(column) != kind]
        stale = [column for column, kind in there.items() if wanted.get(column) != kind]
        if fresh or stale:
            self._run(f"drop view if exists {self._relation('desired')}")
        for column in stale:
            self._run(f"alter table {self._relation(name)} drop column {sql.quote(column)}")
        for column in fresh:
            self._run(f"alter table {self._relation(name)} add column {sql.quote(column)} {wanted[column]}")
        return bool(fresh)

    # --- plumbing -------------------------------------------------------------------------------------------------

    def _in_flight(self) -> int:
        return int(self._rows(f"select count(*) from {self._relation('in_flight')}")[0][0])

    def _state(self, column: str) -> Any:
        return self._rows(f"select {sql.quote(column)} from main.table_mapping where name = $1", [self.table.name])[0][
            0
        ]

    def _set(self, column: str, value: object) -> None:
        self._run(f"update main.table_mapping set {sql.quote(column)} = $1 where name = $2", [value, self.table.name])

    def _relation(self, name: str) -> str:
        return sql.relation(self.table, name)

    def _rows(self, query: str, parameters: object = None) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, parameters).fetchall()

    def _run(self, statement: str, parameters: object = None) -> None:
        self._connection.execute(statement, parameters)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("begin")
        try:
            yield
        except BaseException:
            self._connection.execute("rollback")
            raise
        self._connection.execute("commit")

    @contextmanager
    def _registered(self, **frames: pl.DataFrame) -> Iterator[None]:
        for name, frame in frames.items():
            self._connection.register(name, frame)
        try:
            yield
        finally:
            for name in frames:
                self._connection.unregister(name)
