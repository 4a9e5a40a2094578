"""The engine-call ledger: what was spent, per day, table and operation, and what a budget still allows."""

from collections.abc import Mapping
from datetime import UTC, date, datetime

import duckdb

from d365_campaign.changes import Spent
from d365_campaign.store.sql import quote

LEDGER = """create table if not exists main.engine_calls (
  day date, table_name varchar, operation varchar, calls bigint
)"""


class Ledger:
    """Engine calls in the staging file. Days are UTC days; every method works inside the caller's transaction."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        connection.execute(LEDGER)

    def book(self, table: str, calls: Mapping[str, int]) -> None:
        """Add *calls*, by operation, to today's page."""
        spent = [(table, operation, n) for operation, n in calls.items() if n]
        if spent:
            self._connection.executemany(
                "insert into main.engine_calls values (cast(now() at time zone 'UTC' as date), $1, $2, $3)", spent
            )

    def spent(self) -> Spent:
        """What today and this month have cost so far."""
        rows = self._connection.execute(
            """select coalesce(sum(calls) filter (day = $today), 0), coalesce(sum(calls), 0)
               from main.engine_calls where day >= date_trunc('month', $today)""",
            {"today": _today()},
        ).fetchall()
        reserved = self._reserved()
        return Spent(int(rows[0][0]) + reserved, int(rows[0][1]) + reserved)

    def _reserved(self) -> int:
        schemas = self._connection.execute(
            "select schema_name from duckdb_tables() where table_name = 'in_flight'"
        ).fetchall()
        sums = [
            self._connection.execute(f"select coalesce(sum(reserved), 0) from {quote(name)}.in_flight").fetchall()[0][0]
            for (name,) in schemas
        ]
        return int(sum(sums))


def _today() -> date:
    return datetime.now(UTC).date()
