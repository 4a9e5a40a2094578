"""One table mapping's part of the staging file: absorb pages, compute the change set, settle outcomes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

import duckdb
import polars as pl

from d365_campaign.binding import MODIFIED_ON, BoundMapping
from d365_campaign.changes import (
    RECORD_KEY,
    Change,
    ChangePage,
    ChangeSummary,
    Kind,
    Latency,
    Outcome,
    Reading,
    Reject,
    Replay,
    Result,
)
from d365_campaign.errors import ConfigurationError
from d365_campaign.opt_out_files import ExportSettings
from d365_campaign.store import sql, sql_apply, sql_plan, sql_waiting
from d365_campaign.store.desk import TableDesk
from d365_campaign.store.exports import ExportStore
from d365_campaign.store.ledger import Ledger
from d365_campaign.store.opt_outs import OptOutStore
from d365_campaign.store.output_log import OutputLog
from d365_campaign.store.part import TablePart
from d365_campaign.store.privacy import forgotten
from d365_campaign.store.quality import TableQuality
from d365_campaign.store.table_setup import TableSetup
from d365_campaign.store.values import quote

_OUTCOME: dict[str, pl.DataType | type[pl.DataType]] = {
    "key": pl.String,
    "kind": pl.String,
    "result": pl.String,
    "engine_calls": pl.Int64,
    "identical": pl.Boolean,
    "reason": pl.String,
    "fields": pl.List(pl.String),
}


class TableStore(TablePart):
    """Snapshot, mirror and change set of one table mapping. Each public method is one transaction or reads only."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        ledger: Ledger,
        table: BoundMapping,
        output_log: OutputLog | None = None,
    ) -> None:
        super().__init__(connection, table.name)
        self._ledger, self._output_log = ledger, output_log
        self.table = table
        self.opt_outs = OptOutStore(connection, ledger, table, table.opt_outs, output_log) if table.opt_outs else None
        with self._transaction():
            TableSetup(connection, table, self.opt_outs).prepare()

    # --- where we stand -------------------------------------------------------------------------------------------

    @property
    def scanned(self) -> bool:
        """Whether it is known what Campaign held before the first write, and said of opt-outs when they began."""
        return bool(self._state("scanned")) and (self.opt_outs is None or self.opt_outs.baseline)

    @property
    def scanned_fields(self) -> Sequence[str]:
        """What is to be read of every record that Campaign holds."""
        return [*(f.target.name for f in self.table.fields), *(self.opt_outs.bound.attributes if self.opt_outs else ())]

    @property
    def planned(self) -> bool:
        """Whether the change set takes in everything that was read so far."""
        touched = self._rows(f"select count(*) from {self._relation('touched')}")[0][0]
        return not touched and not self._state("compare_everything")

    def summary(self) -> ChangeSummary:
        """The open change set as it stands."""
        rows = self._rows(sql_apply.summary(self.table))
        open_by_kind = {kind: count for kind, state, count in rows if state == "open"}
        by_state: Counter[str] = Counter()
        for _, state, count in rows:
            by_state[state] += count
        records, passing = self.records(), self._passing()
        return ChangeSummary(
            **{kind.value: open_by_kind.get(kind, 0) for kind in Kind},
            unchanged=passing - sum(count for kind, _, count in rows if kind != Kind.DELETE),
            refused=by_state["refused"],
            deferred=by_state["deferred"],
            held=by_state["held"],
            filtered_out=records - passing,
        )

    def busiest_fields(self) -> dict[str, int]:
        """Campaign field to the number of open updates it is part of, most first."""
        return dict(self._rows(sql_apply.busiest_fields(self.table)))

    def sample_keys(self, limit: int) -> dict[str, list[str]]:
        """Kind of change to up to *limit* keys."""
        return dict(self._rows(sql_apply.sample_keys(self.table), {"limit": limit}))

    def exports(self, settings: ExportSettings) -> ExportStore:
        """The way in for daily opt-out files. There is one where opt-outs are kept in step."""
        assert self.opt_outs is not None, f"{self.name} has no opt-outs"
        return ExportStore(self._connection, self.table, self.opt_outs, settings)

    @property
    def desk(self) -> TableDesk:
        """What a person may ask of this table."""
        return TableDesk(self._connection, self.name)

    def rejects(self, limit: int) -> Sequence[Reject]:
        """The changes that could not go out, latest first."""
        return self.desk.rejects(limit=limit)

    def waiting(self, limit: int) -> dict[str, str]:
        """A few keys of deferred changes, and the record each waits for."""
        query = f"select key, table_name, awaited from {self._relation('deferred')} order by key limit $1"
        return {key: f"{table} {awaited}" for key, table, awaited in self._rows(query, [limit])}

    def records(self) -> int:
        """How many records the snapshot holds."""
        return int(self._rows(f"select count(*) from {self._relation('snapshot')}")[0][0])

    def _passing(self) -> int:
        """How many of them pass the filter."""
        if self.table.mapping.filter is None:
            return self.records()
        query = f"select count(*) from {self._relation('snapshot')} where {sql.passes(self.table)}"
        return int(self._rows(query)[0][0])

    def records_of_all_tables(self) -> int:
        """How many records of all tables ought to be in Campaign."""
        schemas = self._rows("select schema_name from duckdb_views() where view_name = 'desired'")
        return sum(int(self._rows(f"select count(*) from {sql.related(n, 'desired')}")[0][0]) for (n,) in schemas)

    @property
    def large_load_acknowledged_by(self) -> str | None:
        """Who said that the load at hand may go on, however large it is."""
        acknowledged_by: str | None = self._state("large_load_acknowledged_by")
        return acknowledged_by

    def end_large_load(self) -> None:
        """An acknowledgement holds until nothing waits any more."""
        if self.large_load_acknowledged_by is not None:
            with self._transaction():
                self._set("large_load_acknowledged_by", None)
                self._set("large_load_acknowledged_at", None)

    def mirrored(self) -> int:
        """How many records Campaign is known to hold."""
        return int(self._rows(f"select count(*) from {self._relation('mirror')}")[0][0])

    @property
    def quality(self) -> TableQuality:
        """What checks of data quality ask of this table."""
        return TableQuality(self._connection, self._ledger, self.table)

    # --- pull -----------------------------------------------------------------------------------------------------

    def absorb(self, page: ChangePage, then: Reading) -> None:
        """Take in a page's rows and removals and move the reading to *then*, all or nothing.

        When *then* completes a full read and its sweep, records that neither met are removed with it.
        """
        name = self.table.mapping.key.source
        rows = page.rows.unique(subset=name, keep="last") if page.rows[name].is_duplicated().any() else page.rows
        rows = self._without_forgotten(rows, name, [link.source for link in self.table.mapping.links])
        gone = self._without_forgotten(pl.DataFrame({"key": page.removed}, schema={"key": pl.String}), "key")
        touched = pl.concat(
            [
                rows.select(key=name).with_columns(removed=False),
                gone.with_columns(removed=True),
            ]
        )
        snapshot, key = self._relation("snapshot"), quote(name)
        completes = self.reading.phase != "changes" and then.phase == "changes"
        with self._registered(page=rows, touched_now=touched), self._transaction():
            self._run(f"delete from {snapshot} where {key} in (select key from touched_now)")
            self._insert(then.generation)
            self._run(f"delete from {snapshot} where {key} in (select key from touched_now where removed)")
            self._run(f"insert into {self._relation('touched')} select key, removed from touched_now")
            if self.opt_outs:
                self.opt_outs.touch("select key from touched_now")
            if completes:
                self._drop_records_not_met(then.generation)
                self._set("compare_everything", True)
            self._move_to(then)

    def _without_forgotten(self, rows: pl.DataFrame, key: str, links: Sequence[str] = ()) -> pl.DataFrame:
        """Without people who were forgotten, and without the records that *links* tie to one of them.

        Of these people no more than a salted hash is kept. A record that is tied to somebody else later comes in then.
        """
        if not self._rows("select 1 from main.forgotten limit 1"):
            return rows
        columns = [key, *links]
        with self._registered(asked=rows.select(columns)):
            among = " or ".join(forgotten(quote(column)) for column in columns)
            known = self._rows(f"select {quote(key)} from asked where {among}")
        return rows.filter(~pl.col(key).is_in([key for (key,) in known]))

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

    def take_up_replay(self) -> bool:
        """Start the replay that was asked for, if there is one: a full read, after which every record is compared."""
        requested = self._state("replay_requested")
        if requested is None:
            return False
        with self._transaction():
            self._set("replay_requested", None)
            self._set("replaying", requested)
            self._move_to(Reading(generation=self.reading.generation + 1))
        return True

    def _drop_records_not_met(self, generation: int) -> None:
        key = quote(self.table.mapping.key.source)
        stale = f"from {self._relation('snapshot')} where {sql.GENERATION} < $1"
        self._run(f"insert into {self._relation('touched')} select {key}, true {stale}", [generation])
        self._run(f"delete {stale}", [generation])

    # --- plan -----------------------------------------------------------------------------------------------------

    def note_existing(self, pages: Iterator[pl.DataFrame]) -> tuple[int, int]:
        """Keep what Campaign holds already, so that the plan tells adoptions from inserts, and equals from both.

        *pages* are frames of text: `_key`, and a column for each mapped field. Returns the records and the pages, each
        of which was an engine call. Raises ConfigurationError when a key stands there twice: it could not tell records
        apart.
        """
        calls, mapping = 0, self.table.mapping
        foreign_keys = [mapping.foreign_key(link) for link in mapping.links]
        self._run(f"delete from {self._relation('existing')}")
        for page in pages:
            calls += 1
            found = self._without_forgotten(page, RECORD_KEY, foreign_keys)
            # Its call counts even where the scan ends here, and is begun anew by the next run.
            with self._registered(found=found), self._transaction():
                self._run(sql.insert_existing(self.table))
                if self.opt_outs:
                    self.opt_outs.note_baseline()
                self._ledger.book(self.name, {"scan": (1, 1)})
        with self._transaction():
            self._refuse_repeated_existing()
            for statement in sql_plan.refresh_mirror(self.table):
                self._run(statement)
            self._set("scanned", True)
            if self.opt_outs:
                self.opt_outs.end_baseline()
            self._set("compare_everything", True)
        return int(self._rows(f"select count(*) from {self._relation('existing')}")[0][0]), calls

    def _refuse_repeated_existing(self) -> None:
        key = quote(self.table.mapping.key.target)
        repeated = self._rows(
            f"select {key} from {self._relation('existing')} group by {key} having count(*) > 1 order by {key} limit 5"
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
        full = everything or bool(self._state("compare_everything")) or bool(self._replay_is_due)
        with self._transaction():
            if self._replay_is_due:
                self._run(f"delete from {self._relation('replay')}")
                self._run(sql_plan.replay_everything(self.table), {"forced": self._state("replaying") == Replay.FORCED})
                self._set("replaying", None)
            for statement in self._comparison(full=full):
                self._run(statement)
            adobe = self._rows(sql_plan.adobe_engine_calls(self.table))[0][0]
            self._set("engine_calls_adobe", self.engine_calls_adobe + int(adobe))
            if adobe:
                self._ledger.book_adobe(self.name, int(adobe))
            self._run(f"truncate {self._relation('touched')}")
            self._set("planned_page", self._state("pages"))
            self._set("compare_everything", False)
            self._defer(coming=True)
        return replace(self.summary(), full=full)

    def _comparison(self, *, full: bool) -> list[str]:
        table = self.table
        deletes = table.mapping.deletes and self.reading.phase == "changes"
        adopting = table.mapping.adopt_existing == "by_key" and self._any("existing")
        replaying = self._any("replay")
        if full:
            compare = sql_plan.compare_everything(table, deletes=deletes, replaying=replaying)
        else:
            compare = sql_plan.compare_touched(
                table, planned_page=self._state("planned_page"), deletes=deletes, replaying=replaying
            )
        return [
            *([sql_plan.adopt_existing(table, touched=not full)] if adopting else []),
            *compare,
            *(sql_plan.doubt(table, deletes=deletes) if self._any("in_flight") else []),
            *([sql_plan.forget_adopted(table, touched=not full)] if adopting else []),
            *([sql_plan.end_replay_of_equals(table)] if replaying else []),
            *(sql_waiting.release_changed_rejects(table) if self._any("reject") else []),
            *sql_waiting.hold_back_unfit(table, touched=not full),
        ]

    def _defer(self, *, coming: bool) -> None:
        """Parents and children that this file doesn't know yet hold nothing back but what waits for them."""
        known = {name for (name,) in self._rows("select name from main.table_mapping")}
        for parent in self.table.parents:
            if parent.table not in known:
                for statement in sql_waiting.stand_in_for_parent(parent):
                    self._run(statement)
        parents = [
            replace(parent, elsewhere=tuple(other for other in parent.elsewhere if other[0] in known))
            for parent in self.table.parents
        ]
        children = [child for child in self.table.children if child.table in known]
        for statement in sql_waiting.defer(self.table, parents, children, coming=coming):
            self._run(statement)

    @property
    def _replay_is_due(self) -> bool:
        """Whether a replay was asked for, and its full read is through."""
        return self._state("replaying") is not None and self.reading.phase == "changes"

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

    def begin_writing(self) -> None:
        """Look anew which changes wait for another record, and forget what an earlier run tried."""
        with self._transaction():
            self._defer(coming=False)
            for statement in sql_apply.open_window(self.table):
                self._run(statement)

    def take_window(self, limit: int) -> list[Change]:
        """Up to *limit* open changes that weren't taken since `begin_writing`, in key order.

        What rests, waits or is held is left out. Their desired values are kept for `settle`.
        """
        window, choose, note = sql_apply.take_window(self.table)
        self._run(window, {"limit": limit})
        self._run(choose)
        self._run(note)
        names = [f.target.name for f in self.table.fields]
        words = self.opt_outs.dynamics_words("select key from chosen") if self.opt_outs else {}
        return [
            Change(
                key,
                Kind(kind),
                {} if kind == Kind.DELETE else dict(zip(names, values, strict=True)),
                changed,
                words.get(key),
            )
            for key, kind, changed, *values in self._rows(sql_apply.CHOSEN)
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

    def settle(self, outcomes: Sequence[Outcome], max_attempts: int = 1) -> None:
        """Book what became of claimed changes: mirror, change set, rejects and ledger in one transaction.

        A change that was refused *max_attempts* times rests until it or its mapping changes.
        """
        rows = [
            (o.key, o.kind.value, o.result.value, o.engine_calls, o.identical, o.reason, list(o.fields))
            for o in outcomes
        ]
        turned_down = any(o.result in (Result.REFUSED, Result.DEFERRED) for o in outcomes)
        with self._registered(outcome=pl.DataFrame(rows, schema=_OUTCOME, orient="row")), self._transaction():
            self._book_calls()
            if self._output_log:
                self._output_log.note_changes(self.table)
            for statement in sql_apply.settle(self.table):
                self._run(statement)
            if self.opt_outs:
                self.opt_outs.note_seen({o.key: o.opt_outs for o in outcomes if o.opt_outs})
                self.opt_outs.note_decided({o.key: o.decided for o in outcomes})
                deleted = [o.key for o in outcomes if o.kind is Kind.DELETE and o.result is Result.DONE]
                self.opt_outs.forget_profiles(deleted)
            if turned_down:
                refuse, *keep = sql_waiting.book_rejects(self.table)
                self._run(refuse, {"max_attempts": max_attempts})
                for statement in keep:
                    self._run(statement)

    def _book_calls(self) -> None:
        """Before anything of the outcomes is settled: what was reserved for them is what was predicted."""
        spent = self._rows(
            f"""select o.kind, sum(coalesce(f.reserved, 0)), sum(o.engine_calls) from outcome as o
                left join {self._relation("in_flight")} as f on f.key = o.key and f.reserved > 0
                where o.engine_calls > 0 group by o.kind"""
        )
        self._ledger.book(self.name, {kind: (int(predicted), int(calls)) for kind, predicted, calls in spent})
        updates = self._rows(sql_apply.field_updates(self.table))
        self._ledger.book_updates(self.name, {field: (number, calls) for field, number, calls in updates})

    def latency(self, began: datetime) -> Latency | None:
        """How long what was written from *began* (UTC) on took to come; None where nothing tells."""
        followed = self.reading.started_at
        if followed is None or MODIFIED_ON not in self.table.source.columns:
            return None
        moments = {"began": began.replace(tzinfo=None), "followed": followed.replace(tzinfo=None)}
        median, longest = self._rows(sql_apply.latency(self.table), moments)[0]
        return None if longest is None else Latency(median, longest)

    def book_unsettled(self) -> int:
        """Count the engine calls of an earlier run that never told what it spent: they may all have been made.

        Returns how many of its changes are in doubt; the next plan reads their records back.
        """
        with self._transaction():
            query = f"select count(distinct key), coalesce(sum(reserved), 0) from {self._relation('in_flight')}"
            in_doubt, reserved = self._rows(query)[0]
            self._ledger.book(self.name, {"unsettled": (int(reserved), int(reserved))})
            self._run(f"update {self._relation('in_flight')} set reserved = 0")
        return int(in_doubt)
