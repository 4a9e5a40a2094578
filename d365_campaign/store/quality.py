"""One table's part of the staging file, as the checks of data quality look at it, and what they remember there."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import duckdb
import polars as pl

from d365_campaign.binding import BoundMapping
from d365_campaign.changes import KeyFaults, Kind
from d365_campaign.checks import SAMPLE
from d365_campaign.quality import Drifted, Unfit, Waiting
from d365_campaign.store import sql_quality as sql
from d365_campaign.store.ledger import Ledger
from d365_campaign.store.part import FilePart, utc
from d365_campaign.store.sql import NOW, relation
from d365_campaign.store.values import TOO_LONG, faults

VERIFY = "verify"


class TableQuality(FilePart):
    """Each public method is one transaction or reads only."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, ledger: Ledger, table: BoundMapping) -> None:
        super().__init__(connection)
        self._ledger, self._table = ledger, table

    # --- keys -------------------------------------------------------------------------------------------------------

    def note_keys(self) -> KeyFaults:
        """What is wrong with the snapshot's keys; those that repeat are kept, so that the writer can look again.

        Repeated ones are found among what was touched since the last plan, and what was noted before: belongs after
        each pull.
        """
        with self._transaction():
            for statement in sql.note_repeated(self._table):
                self._run(statement)
        return self._key_faults("select key, too_many from repeated_now order by key")

    def standing_key_faults(self) -> KeyFaults:
        """What is still wrong with keys that were noted, or missing."""
        return self._key_faults(sql.standing_repeated(self._table))

    def _key_faults(self, query: str) -> KeyFaults:
        repeated = self._rows(query)
        missing = int(self._rows(sql.missing_keys(self._table))[0][0])
        return KeyFaults(sum(too_many for _, too_many in repeated), missing, tuple(key for key, _ in repeated[:SAMPLE]))

    # --- volume and freshness ---------------------------------------------------------------------------------------

    def usual_records(self, days: int) -> float | None:
        """How many records the table held on the last *days*; on its first day, what it began with."""
        usual = self._rows(sql.USUAL, {"table": self._table.name, "days": days})[0][0]
        return None if usual is None else float(usual)

    def note_caught_up(self, records: int) -> None:
        """Keep that all of Dynamics' changes were read now, and how many records that makes."""
        with self._transaction():
            self._run(sql.NOTE_PULLED, {"table": self._table.name, "records": records})
            self._run(sql.FORGET_PULLED)

    def caught_up_at(self) -> datetime | None:
        """When all of Dynamics' changes had last been read; None before the first time."""
        moment: datetime | None = self._rows(sql.CAUGHT_UP, {"table": self._table.name})[0][0]
        return utc(moment)

    def came_or_went(self, *, more: bool) -> Sequence[str]:
        """A few keys that only Dynamics has (*more*), or only Campaign."""
        rows = self._rows(sql.came_or_went(self._table, more=more), {"limit": SAMPLE})
        return [key for (key,) in rows]

    # --- what can't be sent, and what waits -------------------------------------------------------------------------

    def unfit(self) -> Sequence[Unfit]:
        """Values that can't be sent, by Campaign field and by what is wrong with them."""
        reasons = {
            f"{f.target.name} {reason}": (f.target.name, reason.startswith(TOO_LONG))
            for f in self._table.fields
            for _, reason in faults(f)
        }
        return [
            Unfit(*reasons[reason], number, keys)
            for reason, number, keys in self._rows(sql.unfit(self._table), {"limit": SAMPLE})
            if reason in reasons
        ]

    def note_waiting(self) -> Waiting:
        """What waits for another table's record; since when is kept. Belongs after each time that it was worked out."""
        with self._transaction():
            for statement in sql.note_waiting(self._table):
                self._run(statement)
        number, oldest, keys = self._rows(sql.waiting(self._table), {"limit": SAMPLE})[0]
        orphans = sorted({key for parent in self._table.parents for key in self._orphans_of(parent.table)})
        return Waiting(number, oldest, keys or (), len(orphans), orphans[:SAMPLE])

    def _orphans_of(self, parent: str) -> Sequence[str]:
        known = self._rows(
            """select source_key from main.table_mapping
               where name = $1 and name in (select schema_name from duckdb_tables() where table_name = 'snapshot')""",
            [parent],
        )
        return [key for (source,) in known for (key,) in self._rows(sql.orphans(self._table, parent, source))]

    # --- engine calls -----------------------------------------------------------------------------------------------

    def calls_of_today(self) -> tuple[int, int]:
        """Engine calls that today's changes of this table were predicted to take, and those that they took."""
        predicted, made = self._rows(
            f"""select coalesce(sum(predicted), 0)::bigint, coalesce(sum(calls), 0)::bigint from main.engine_calls
                where day = ({NOW})::date and table_name = $table and list_contains($operations, operation)""",
            {"table": self._table.name, "operations": [kind.value for kind in Kind]},
        )[0]
        return int(predicted), int(made)

    def verified_today(self) -> int:
        """Records of this table that were read back today."""
        rows = self._rows(
            f"""select coalesce(sum(calls), 0)::bigint from main.engine_calls
                where day = ({NOW})::date and table_name = $table and operation = $operation""",
            {"table": self._table.name, "operation": VERIFY},
        )
        return int(rows[0][0])

    # --- mirror drift -----------------------------------------------------------------------------------------------

    def drift_sample(self, size: int) -> Mapping[str, Mapping[str, object]]:
        """What some records are known to hold in Campaign, by key: another choice each time."""
        names = [f.target.name for f in self._table.fields]
        rows = self._rows(sql.drift_sample(self._table, size))
        return {key: dict(zip(names, values, strict=True)) for key, *values in rows}

    def begin_drift(self) -> None:
        """Forget what the last sample found."""
        self._run(f"delete from {relation(self._table, 'drift')}")

    def note_drift(
        self, drifted: Sequence[Drifted], held: Mapping[str, Mapping[str, object]], calls: int, *, repair: bool
    ) -> None:
        """Book the *calls* of a part of the sample, and keep what *drifted*; *held* is what Campaign holds by key.

        The mirror takes what was found in the fields that differ. With *repair* the next run reads these records and
        brings them into step. One that is missing stays as it was: a read that finds nothing proves too little.
        """
        names = [f.target.name for f in self._table.fields]
        changed = [each for each in drifted if not each.missing]
        frame = pl.DataFrame(
            [(d.key, list(d.fields), *(_text(held[d.key].get(name)) for name in names)) for d in changed],
            schema={"_key": pl.String, "_fields": pl.List(pl.String), **dict.fromkeys(names, pl.String)},
            orient="row",
        )
        rows = [(d.key, name) for d in drifted for name in d.fields or ("",)]
        noted = pl.DataFrame(rows, schema={"key": pl.String, "field": pl.String}, orient="row")
        with self._registered(drifted=frame, noted=noted), self._transaction():
            self._ledger.book(self._table.name, {VERIFY: (calls, calls)})
            self._run(f"insert into {relation(self._table, 'drift')} select key, field, {NOW} from noted")
            for statement in sql.learn(self._table) if changed else ():
                self._run(statement)
            if repair:
                self._run(sql.put_in_doubt(self._table))

    def drifted(self) -> Sequence[Drifted]:
        """What the last sample found."""
        rows = self._rows(
            f"select key, list(field order by field) from {relation(self._table, 'drift')} group by key order by key"
        )
        return [Drifted(key, () if fields == [""] else fields, missing=fields == [""]) for key, fields in rows]


def _text(value: object) -> str | None:
    """As the text of a JSON value; None for what is empty."""
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None or value == "" else str(value)
