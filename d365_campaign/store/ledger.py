"""The engine-call ledger: what was spent per day, table and operation, and what was predicted for it."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime

import duckdb

from d365_campaign.changes import Spent
from d365_campaign.engine_calls import FieldCalls, MonthOfCalls, OperationCalls, month_after, month_of
from d365_campaign.store.part import FilePart
from d365_campaign.store.values import quote

# One row for each day, table and operation (or field), so that the ledger stays small over the years.
LEDGER = (
    """create table if not exists main.engine_calls (
  day date, table_name varchar, operation varchar, predicted bigint, calls bigint
)""",
    """create table if not exists main.field_updates (
  day date, table_name varchar, field varchar, updates bigint, calls bigint
)""",
    "create table if not exists main.adobe_calls (day date, table_name varchar, calls bigint)",
)
# Of a run that was killed: its calls may all have been made, so they count as spent.
UNSETTLED = "unsettled"
_IN_MONTH = "day >= $first and day < $end"


class Ledger(FilePart):
    """Engine calls in the staging file. Days are UTC days; every method works inside the caller's transaction."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        super().__init__(connection)
        for statement in LEDGER:
            self._run(statement)

    # --- booking ----------------------------------------------------------------------------------------------------

    def book(self, table: str, calls: Mapping[str, tuple[int, int]]) -> None:
        """Add (predicted, made) calls by operation to today's page."""
        self._add("engine_calls", "operation", ("predicted", "calls"), table, calls)

    def book_updates(self, table: str, updates: Mapping[str, tuple[int, int]]) -> None:
        """Add, by Campaign field, the updates it was part of, and the engine calls of those that changed only it."""
        self._add("field_updates", "field", ("updates", "calls"), table, updates)

    def book_adobe(self, table: str, calls: int) -> None:
        """Add what Adobe's own integration spends on the same changes of Dynamics."""
        self._run(
            """merge into main.adobe_calls as page using (select $table as table_name) as added
               on page.day = $day and page.table_name = added.table_name
               when matched then update set calls = page.calls + $calls
               when not matched then insert values ($day, $table, $calls)""",
            {"day": _today(), "table": table, "calls": calls},
        )

    def _add(
        self, page: str, name: str, figures: tuple[str, str], table: str, numbers: Mapping[str, tuple[int, int]]
    ) -> None:
        added = [(key, *pair) for key, pair in numbers.items() if any(pair)]
        if not added:
            return
        names, first, second = (list(column) for column in zip(*added, strict=True))
        one, other = figures
        self._run(
            f"""merge into main.{page} as page
                using (select unnest($names) as name, unnest($first) as first, unnest($second) as second) as added
                on page.day = $day and page.table_name = $table and page.{name} = added.name
                when matched then update set {one} = page.{one} + added.first, {other} = page.{other} + added.second
                when not matched then insert values ($day, $table, added.name, added.first, added.second)""",
            {"day": _today(), "table": table, "names": names, "first": first, "second": second},
        )

    # --- reading ----------------------------------------------------------------------------------------------------

    def spent(self) -> Spent:
        """What today and this month have cost so far."""
        today, this_month = self._rows(
            """select coalesce(sum(calls) filter (day = $today), 0), coalesce(sum(calls), 0)
               from main.engine_calls where day >= date_trunc('month', $today)""",
            {"today": _today()},
        )[0]
        reserved = sum(self._reserved().values())
        return Spent(int(today) + reserved, int(this_month) + reserved)

    def month(self, first: date) -> MonthOfCalls:
        """The month that begins on *first*. Calls that are reserved belong to today: they count as spent."""
        period = {"first": first, "end": month_after(first)}
        booked = self._rows(
            f"""select day, table_name, operation, predicted, calls from main.engine_calls where {_IN_MONTH}""", period
        )
        if month_of(_today()) == first:
            booked += [(_today(), table, UNSETTLED, calls, calls) for table, calls in self._reserved().items()]
        by_day: Counter[date] = Counter()
        predicted: Counter[tuple[str, str]] = Counter()
        made: Counter[tuple[str, str]] = Counter()
        for day, table, operation, expected, calls in booked:
            by_day[day] += calls
            predicted[table, operation] += expected
            made[table, operation] += calls
        adobe = self._rows(f"select sum(calls)::bigint from main.adobe_calls where {_IN_MONTH}", period)[0][0]
        since = self._rows("select min(day) from main.engine_calls")[0][0]
        return MonthOfCalls(
            first,
            by_day,
            [OperationCalls(*of, predicted[of], made[of]) for of in sorted(predicted)],
            self._fields(period),
            adobe,
            since,
        )

    def _fields(self, period: Mapping[str, date]) -> list[FieldCalls]:
        rows = self._rows(
            f"""select table_name, field, sum(updates)::bigint as updates, sum(calls)::bigint as calls
                from main.field_updates where {_IN_MONTH} group by table_name, field
                order by calls desc, updates desc, table_name, field""",
            period,
        )
        return [FieldCalls(*row) for row in rows]

    def _reserved(self) -> dict[str, int]:
        """By table, the calls of changes that are in flight, or of a run that was killed."""
        names = self._rows("select schema_name from duckdb_tables() where table_name = 'in_flight'")
        sums = {
            name: self._rows(f"select coalesce(sum(reserved), 0)::bigint from {quote(name)}.in_flight")[0][0]
            for (name,) in names
        }
        return {name: calls for name, calls in sums.items() if calls}


def _today() -> date:
    return datetime.now(UTC).date()
