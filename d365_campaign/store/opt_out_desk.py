"""The desk for opt-outs: what a person asks about them, answered by the staging file alone.

Neither system is reached, so the pairs are taken as they are configured, without being held against live metadata.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC

import duckdb

from d365_campaign.binding import MODIFIED_ON
from d365_campaign.errors import ConfigurationError
from d365_campaign.mapping import TableMapping
from d365_campaign.opt_out import CampaignWord, DynamicsWord, OptOuts
from d365_campaign.opt_out_changes import Export
from d365_campaign.store import sql_opt_outs as sql
from d365_campaign.store.opt_out_person import PersonOptOuts
from d365_campaign.store.opt_out_records import DECISIONS_OF, EXPORTS, decision_of, export_of
from d365_campaign.store.part import FilePart, utc
from d365_campaign.store.privacy import FORGOTTEN, Hold
from d365_campaign.store.sql import related
from d365_campaign.store.values import quote


@dataclass(frozen=True, slots=True)
class SetAside:
    """A row of a daily file that could not be read; line and key only where they are known."""

    file: str
    line: int | None
    key: str | None
    reason: str


class OptOutDesk(FilePart):
    """Opt-outs of the contacts in an open staging file. Raises ConfigurationError before their first run.

    *max_opt_ins* is of how many people a run may take opt-outs back.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, contact: TableMapping, opt_outs: OptOuts, max_opt_ins: int
    ) -> None:
        super().__init__(connection)
        self._contact, self._opt_outs, self._max_opt_ins = contact, opt_outs, max_opt_ins
        if not self._rows("select 1 from duckdb_tables() where schema_name = $1", [sql.SCHEMA]):
            raise ConfigurationError(
                "the staging file knows nothing of opt-outs yet. The first sync in which they are kept in step does: "
                f"d365-campaign sync {contact.name}"
            )

    def person(self, key: str) -> PersonOptOuts:
        """Everything that is known of one person's opt-outs.

        Raises ConfigurationError when no run has read the column of a pair yet.
        """
        campaign = self._campaign(key)
        return PersonOptOuts(
            key,
            self._opt_outs.direction,
            self._opt_outs.pairs,
            campaign=campaign and campaign[0],
            dynamics=self._dynamics(key),
            news=campaign[1] if campaign else frozenset(),
            in_doubt=bool(campaign and campaign[2]),
            compared=self._compared(key),
            ours=self._contact.adopt_existing == "by_key" or self._mirrored(key),
            takes_back=self.opt_ins() <= self._max_opt_ins,
            hold=self._hold(key),
            forgotten=bool(self._rows(f"select key from (select $1 as key) where {FORGOTTEN}", [key])),
            decisions=[decision_of(*row) for row in self._rows(DECISIONS_OF, [key])],
        )

    def opt_ins(self) -> int:
        """Of how many people an opt-out would be taken back, by the last comparison."""
        query = f"select count(*) from {sql.relation('open')} where opts_in and {sql.NOT_HELD}"
        return int(self._rows(query)[0][0])

    def exports(self, limit: int) -> Sequence[Export]:
        """What became of the latest daily files, last one first."""
        query = f"{EXPORTS} order by taken_at desc, name desc limit $1"
        return [export_of(*row) for row in self._rows(query, [limit])]

    def set_aside(self, files: Sequence[str]) -> Sequence[SetAside]:
        """The rows of these files that could not be read."""
        rows = self._rows(
            f"""select file, line, key, reason from {sql.relation("unreadable")}
                where list_contains($1, file) order by file desc, line, key""",
            [list(files)],
        )
        return [SetAside(*row) for row in rows]

    def _campaign(self, key: str) -> tuple[CampaignWord, frozenset[str], bool] | None:
        """Campaign's word, which opt-outs are news, and whether it is in doubt."""
        names = [pair.target for pair in self._opt_outs.pairs]
        columns = [quote(name + part) for part in ("", sql.AT, sql.NEWS) for name in names]
        selected = ", ".join(["changed_at", "in_doubt", *columns])
        rows = self._rows(f"select {selected} from {sql.relation('campaign')} where key = $1 limit 1", [key])
        if not rows:
            return None
        changed_at, in_doubt, *words = rows[0]
        values, stamps, news = (words[at * len(names) : (at + 1) * len(names)] for at in range(3))
        word = CampaignWord(
            dict(zip(names, values, strict=True)),
            dict(zip(names, map(utc, stamps), strict=True)),
            utc(changed_at),
        )
        return word, frozenset(name for name, new in zip(names, news, strict=True) if new), bool(in_doubt)

    def _dynamics(self, key: str) -> DynamicsWord | None:
        name, pairs = self._contact.name, self._opt_outs.pairs
        there = {
            column
            for (column,) in self._rows(
                "select column_name from duckdb_columns() where schema_name = $1 and table_name = 'snapshot'", [name]
            )
        }
        if missing := [pair.source for pair in pairs if pair.source not in there]:
            raise ConfigurationError(
                f"the staging file has no column {', '.join(missing)} of {name} yet. The next sync reads it: "
                f"d365-campaign sync {name}"
            )
        columns = ", ".join([quote(MODIFIED_ON), *map(sql.dynamics_value, pairs)])
        rows = self._rows(
            f"select {columns} from {related(name, 'snapshot')} as s where {quote(self._contact.key.source)} = $1",
            [key],
        )
        if not rows:
            return None
        changed_at, *values = rows[0]
        return DynamicsWord({p.target: bool(v) for p, v in zip(pairs, values, strict=True)}, utc(changed_at))

    def _compared(self, key: str) -> bool:
        directions = [direction for (direction,) in self._rows(f"select direction from {sql.relation('setting')}")]
        touched = self._rows(f"select 1 from {sql.relation('touched')} where key = $1 limit 1", [key])
        return directions == [self._opt_outs.direction.value] and not touched

    def _mirrored(self, key: str) -> bool:
        mirror = related(self._contact.name, "mirror")
        return bool(self._rows(f"select 1 from {mirror} where {quote(self._contact.key.target)} = $1 limit 1", [key]))

    def _hold(self, key: str) -> Hold | None:
        rows = self._rows("select key, since, held_by from main.privacy_hold where key = $1", [key])
        return next((Hold(held, since.replace(tzinfo=UTC), by) for held, since, by in rows), None)
