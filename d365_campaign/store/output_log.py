"""What became of each record, until it is written to the SFTP server: keys, field names and results, never a value."""

from collections.abc import Sequence
from datetime import UTC, datetime

import duckdb
import polars as pl

from d365_campaign.binding import BoundMapping
from d365_campaign.changes import Kind
from d365_campaign.opt_out_changes import Written
from d365_campaign.store.part import FilePart, naive
from d365_campaign.store.privacy import FORGOTTEN
from d365_campaign.store.sql import NOW
from d365_campaign.store.values import text

RELATION = "main.output_log"
COLUMNS = ("time", "flow", "table", "key", "action", "fields", "result")
INGRESS, OPT_OUTS = "ingress", "opt_outs"
_ROW = {
    "key": pl.String(),
    "action": pl.String(),
    "fields": pl.List(pl.String()),
    "result": pl.String(),
}


class OutputLog(FilePart):
    """Rows of runs that are yet to be written. What it notes comes from the run with this id."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
        super().__init__(connection)
        self._run_id = run_id
        self._run(
            f"""create table if not exists {RELATION} (
  run_id varchar, noted_at timestamp, flow varchar, table_name varchar, key varchar, action varchar, fields varchar[],
  result varchar
)"""
        )

    # --- what became of records -----------------------------------------------------------------------------------

    def note_changes(self, table: BoundMapping) -> None:
        """Take in the frame `outcome`, of changes that still stand in their window. Belongs to the caller's
        transaction."""
        mapped = ", ".join(text(field.target.name) for field in table.fields)
        self._run(
            f"""insert into {RELATION}
select $1, {NOW}, '{INGRESS}', $2, o.key, o.kind,
       case when o.kind = '{Kind.DELETE}' or o.identical then [] when len(o.fields) > 0 then o.fields
            else coalesce(w._changed, [{mapped}]) end,
       concat_ws(': ', if(o.identical, 'identical', o.result), o.reason)
from outcome as o
left join change_window as w on w._key = o.key
where o.result <> 'unsent'""",
            [self._run_id, table.name],
        )

    def note_opt_outs(self, table: BoundMapping, results: Sequence[Written]) -> None:
        """Take in what was written of opt-outs. Belongs to the caller's transaction."""
        assert table.opt_outs is not None
        columns = {pair.target: pair.source for pair in table.opt_outs.pairs}
        rows = []
        for result in results:
            for side, name in (("campaign", str), ("dynamics", columns.__getitem__)):
                if fields := [name(d.attribute) for d in result.decided if d.written_to == side]:
                    rows.append((result.key, f"opt_out to {side}", fields, "done"))
            if result.refused:
                rows.append((result.key, "opt_out", [], f"refused: {result.refused}"))
            elif result.unknown or result.gone:
                rows.append((result.key, "opt_out", [], "unknown" if result.unknown else "gone"))
        if rows:
            with self._registered(noted=pl.DataFrame(rows, schema=_ROW, orient="row")):
                self._run(
                    f"insert into {RELATION} select $1, {NOW}, '{OPT_OUTS}', $2, * from noted where not {FORGOTTEN}",
                    [self._run_id, table.name],
                )

    # --- what is to be written ------------------------------------------------------------------------------------

    def runs(self) -> Sequence[tuple[str, datetime]]:
        """The runs of which rows wait, and when each began to have some (UTC); the oldest first."""
        query = f"select run_id, min(noted_at) from {RELATION} group by run_id order by min(noted_at), run_id"
        return [(run_id, at.replace(tzinfo=UTC)) for run_id, at in self._rows(query)]

    def of(self, run_id: str) -> pl.DataFrame:
        """The rows of a run, as its file has them."""
        rows = self._rows(
            f"""select strftime(noted_at, '%Y-%m-%dT%H:%M:%S.%gZ'), flow, table_name, key, action,
  array_to_string(fields, ' '), result
from {RELATION} where run_id = $1 order by noted_at, table_name, key""",
            [run_id],
        )
        return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")

    def drop(self, run_id: str) -> None:
        """The run's file is written."""
        self._run(f"delete from {RELATION} where run_id = $1", [run_id])

    def drop_before(self, moment: datetime) -> int:
        """Give up rows that waited since before *moment*; how many those were."""
        query = f"delete from {RELATION} where noted_at < $1 returning key"
        return len(self._rows(query, [naive(moment)]))
