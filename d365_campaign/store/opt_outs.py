"""The opt-outs of all people in the staging file: both systems' words, what is open between them, what was decided."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb
import polars as pl

from d365_campaign.binding import MODIFIED_ON, VERSION, BoundMapping, BoundOptOuts
from d365_campaign.opt_out import ATTRIBUTES, CampaignWord, DynamicsWord
from d365_campaign.opt_out_changes import Decided, LedgerEntry, OpenOptOuts, OptOutSummary, Side, Written
from d365_campaign.store import sql_opt_outs as sql
from d365_campaign.store.ledger import Ledger
from d365_campaign.store.opt_out_records import DECISIONS_OF, decision_of
from d365_campaign.store.output_log import OutputLog
from d365_campaign.store.part import FilePart, naive, utc
from d365_campaign.store.values import quote

OPERATION, AUDIT = "opt_out", "audit"
# At most: the profile is read, written, and read back where a write got no answer.
MOST_CALLS = 3
_TYPES: Mapping[str, pl.DataType] = {
    "varchar": pl.String(),
    "boolean": pl.Boolean(),
    "timestamp": pl.Datetime("us"),
}
_WANTED: Mapping[Side, str] = {"campaign": "to_campaign or in_doubt", "dynamics": "to_dynamics and not in_doubt"}


class OptOutStore(FilePart):
    """The opt-outs' part of the staging file. Each public method is one transaction or reads only, if it doesn't say
    that it belongs to the caller's."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        ledger: Ledger,
        table: BoundMapping,
        opt_outs: BoundOptOuts,
        output_log: OutputLog | None = None,
    ) -> None:
        super().__init__(connection)
        self._ledger, self._table, self._output_log = ledger, table, output_log
        self.bound = opt_outs

    def prepare(self) -> None:
        """Make the relations, and take note of changed settings. Belongs to the caller's transaction."""
        for statement in sql.create_relations():
            self._run(statement)
        known = self._rows(f"select fingerprint, direction, baseline, since from {sql.relation('setting')}")
        fingerprint, direction, baseline, since = known[0] if known else (None, None, False, None)
        if direction != self.bound.direction:
            baseline, since = False, datetime.now(UTC).replace(tzinfo=None)
            self._run(sql.news_is_what_opts_out())
        if fingerprint != self.bound.fingerprint():
            self._run(f"delete from {sql.relation('setting')}")
            setting = [None, self.bound.direction.value, baseline, since]
            self._run(f"insert into {sql.relation('setting')} values ($1, $2, $3, $4)", setting)

    # --- what Campaign says ---------------------------------------------------------------------------------------

    @property
    def baseline(self) -> bool:
        """Whether it is known what Campaign said of everybody when opt-outs were switched on."""
        return bool(self._rows(f"select baseline from {sql.relation('setting')}")[0][0])

    def note_baseline(self) -> None:
        """Take in the frame `found`: profiles as a scan brings them, all text. Belongs to the caller's transaction."""
        self._run(f"create or replace temp table seen as {sql.seen_in_scan(self.bound)}")
        for statement in sql.merge_seen(live=False, baseline=True):
            self._run(statement)

    def end_baseline(self) -> None:
        """The scan is through. Belongs to the caller's transaction."""
        self._run(f"update {sql.relation('setting')} set baseline = true")

    def note_seen(self, seen: Mapping[str, CampaignWord], in_doubt: Sequence[str] = ()) -> None:
        """Take in what was read live, by key. Belongs to the caller's transaction."""
        if not seen:
            return
        rows = [_seen_row(key, word, key in in_doubt) for key, word in seen.items()]
        frame = pl.DataFrame(rows, schema={name: _TYPES[kind] for name, kind in sql.SEEN.items()}, orient="row")
        with self._registered(live=frame):
            self._run("create or replace temp table seen as select * from live")
        for statement in sql.merge_seen(live=True):
            self._run(statement)

    def forget_profiles(self, keys: Sequence[str]) -> None:
        """There are no such profiles any more. Belongs to the caller's transaction."""
        for name in ("campaign", "open"):
            self._run(f"delete from {sql.relation(name)} where key = any($1)", [list(keys)])

    def touch(self, keys: str) -> None:
        """Dynamics said something of these people (a query). Belongs to the caller's transaction."""
        self._run(f"insert into {sql.relation('touched')} {keys}")

    def dynamics_words(self, keys: str) -> Mapping[str, DynamicsWord]:
        """What Dynamics says of these people (a query), by key."""
        names = [pair.target for pair in self.bound.pairs]
        return {
            key: DynamicsWord(dict(zip(names, values, strict=True)), utc(modified))
            for key, modified, *values in self._rows(sql.dynamics_words(self._table, self.bound, keys))
        }

    # --- what is open ---------------------------------------------------------------------------------------------

    def compare(self, *, everything: bool = False) -> OptOutSummary:
        """Decide every opt-out about which either system said something since the last time; safe to repeat.

        After changed settings, or with *everything*, all people are compared.
        """
        known = self._rows(f"select fingerprint from {sql.relation('setting')}")[0][0]
        with self._transaction():
            self._compare(everything=everything or known != self.bound.fingerprint())
            self._run(f"update {sql.relation('setting')} set fingerprint = $1", [self.bound.fingerprint()])
        return self.summary()

    def _compare(self, *, everything: bool = False) -> None:
        for statement in sql.compare(self._table, self.bound, everything=everything):
            self._run(statement)

    def summary(self) -> OptOutSummary:
        """What is open."""
        return OptOutSummary(*self._rows(sql.summary())[0])

    def begin(self) -> None:
        """Forget what an earlier run tried. Of one that never told what became of it, count the calls, and put in doubt
        whatever Campaign said of the people whom it was writing there: they are read before long."""
        writing = f"select key from {sql.relation('writing')}"
        with self._transaction():
            self._run("create or replace temp table opt_outs_tried (key varchar)")
            if self._rows(f"{writing} limit 1"):
                for statement in sql.doubt(writing):
                    self._run(statement)
                self._run(f"truncate {sql.relation('writing')}")
                self._compare()
            reserved = self._rows(f"select coalesce(sum(reserved), 0)::bigint from {sql.relation('in_flight')}")[0][0]
            self._ledger.book(self._table.name, {"unsettled": (reserved, reserved)})
            self._run(f"truncate {sql.relation('in_flight')}")

    def take(self, side: Side, limit: int) -> Sequence[OpenOptOuts]:
        """Up to *limit* people to whose record on this side something is to be written, each once since `begin`.

        Their engine calls are reserved: at most `MOST_CALLS` each.
        """
        rows = self._rows(sql.take_open(self._table, self.bound, _WANTED[side]), {"limit": limit})
        taken = [self._open(*row) for row in rows]
        keys = pl.DataFrame({"key": [o.key for o in taken]}, schema={"key": pl.String})
        with self._transaction(), self._registered(taken=keys):
            self._run("insert into opt_outs_tried select key from taken")
            self._run(f"insert into {sql.relation('in_flight')} select key, {MOST_CALLS} from taken")
            if side == "campaign":
                self._run(f"insert into {sql.relation('writing')} select key from taken")
        return taken

    def _open(
        self, key: str, version: int, modified: datetime | None, changed: datetime | None, ours: bool, *parts: Any
    ) -> OpenOptOuts:
        names = [pair.target for pair in self.bound.pairs]
        dynamics, campaign, stamps, news = (dict(zip(names, parts[at::4], strict=True)) for at in range(4))
        return OpenOptOuts(
            key,
            version,
            CampaignWord(campaign, {name: utc(stamp) for name, stamp in stamps.items()}, utc(changed)),
            DynamicsWord(dynamics, utc(modified)),
            frozenset(name for name, new in news.items() if new),
            ours,
        )

    def settle(self, results: Sequence[Written]) -> None:
        """Book what became of people that were taken, and compare them anew. Who has no result was not written."""
        with self._transaction():
            self.note_seen({r.key: r.seen for r in results if r.seen}, [r.key for r in results if r.unknown])
            self.forget_profiles([r.key for r in results if r.gone])
            self._note_rows({r.key: r.row for r in results if r.row is not None})
            self._acted_on(results)
            calls = sum(result.engine_calls for result in results)
            self._ledger.book(self._table.name, {OPERATION: (calls, calls)})
            self.note_decided({r.key: r.decided for r in results})
            if self._output_log:
                self._output_log.note_opt_outs(self._table, results)
            touched = pl.DataFrame({"key": [r.key for r in results]}, schema={"key": pl.String})
            with self._registered(settled_keys=touched):
                self.touch("select key from settled_keys")
                self._run(f"delete from {sql.relation('in_flight')} where key in (select key from settled_keys)")
            self._run(f"truncate {sql.relation('writing')}")
            self._compare()

    def _note_rows(self, rows: Mapping[str, Mapping[str, object]]) -> None:
        """Dynamics' word as it is now, for contacts that were read or written by themselves."""
        types = {**dict.fromkeys((pair.source for pair in self.bound.pairs), pl.Boolean), VERSION: pl.Int64}
        types[MODIFIED_ON] = pl.String
        held = [(key, *(row.get(column) for column in types)) for key, row in rows.items()]
        if held:
            frame = pl.DataFrame(held, schema={"key": pl.String, **types}, orient="row")
            with self._registered(rows=frame):
                self._run(sql.update_snapshot(self._table, self.bound.pairs))

    def _acted_on(self, results: Sequence[Written]) -> None:
        """What was written to Dynamics because of Campaign's word is news no longer."""
        for pair in self.bound.pairs:
            keys = [
                r.key for r in results for d in r.decided if (d.attribute, d.written_to) == (pair.target, "dynamics")
            ]
            if keys:
                news = quote(pair.target + sql.NEWS)
                self._run(f"update {sql.relation('campaign')} set {news} = false where key = any($1)", [keys])

    def note_decided(self, decided_of: Mapping[str, Sequence[Decided]]) -> None:
        """Keep what was decided and written, by key. Belongs to the caller's transaction."""
        sources = {pair.target: pair.source for pair in self.bound.pairs}
        now = datetime.now(UTC).replace(tzinfo=None)
        rows = [
            (
                key, d.attribute, sources[d.attribute], self.bound.direction.value,
                d.standing.campaign, naive(d.standing.campaign_at),
                d.standing.dynamics, naive(d.standing.dynamics_at),
                d.decision.campaign, d.decision.dynamics, d.decision.rule, d.written_to, now,
            )
            for key, decided in decided_of.items()
            for d in decided
        ]  # fmt: skip
        if rows:
            schema = {name: _TYPES[kind] for name, kind in sql.RELATIONS["decision"].items()}
            with self._registered(decided=pl.DataFrame(rows, schema=schema, orient="row")):
                self._run(f"insert into {sql.relation('decision')} select * from decided")

    # --- what a person may ask ------------------------------------------------------------------------------------

    def of(self, key: str) -> OpenOptOuts | None:
        """What both systems are known to say of one person; None where one of them is not known to have them."""
        rows = self._rows(sql.one(self._table, self.bound), {"key": key})
        return self._open(*rows[0]) if rows else None

    def decisions(self, key: str) -> Sequence[LedgerEntry]:
        """What was decided about one person, oldest first."""
        return [decision_of(*row) for row in self._rows(DECISIONS_OF, [key])]

    def sample(self, size: int) -> Sequence[str]:
        """Keys of some people that both systems have, another choice each time."""
        query = f"select key from ({sql.both_sides(self._table)}) using sample {int(size)} rows"
        return [key for (key,) in self._rows(query)]

    def decided_by_rule(self) -> Mapping[str, int]:
        """How many decisions the ledger holds, by rule."""
        return Counter(dict(self._rows(f"select rule, count(*) from {sql.relation('decision')} group by rule")))

    def note_audit(self, seen: Mapping[str, CampaignWord], in_doubt: Sequence[str], engine_calls: int) -> None:
        """Take in what an audit read live, by key, and book its calls; those *in_doubt* are read again by a run."""
        with self._transaction():
            self.note_seen(seen, in_doubt)
            self._ledger.book(self._table.name, {AUDIT: (engine_calls, engine_calls)})


def switched_off(connection: duckdb.DuckDBPyConnection) -> None:
    """Opt-outs are not kept in step now: what Campaign says has to be read anew before they are again."""
    made = "select 1 from duckdb_tables() where schema_name = $1 and table_name = 'setting'"
    if connection.execute(made, [sql.SCHEMA]).fetchall():
        connection.execute(f"update {sql.relation('setting')} set baseline = false, fingerprint = null")


def _seen_row(key: str, word: CampaignWord, in_doubt: bool) -> tuple[object, ...]:
    words = (part for name in ATTRIBUTES for part in (word.values.get(name), naive(word.stamps.get(name))))
    return (key, naive(word.changed_at), in_doubt, *words)
