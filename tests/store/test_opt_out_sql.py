"""The decision as SQL is the decision as a function: one rule, said twice."""

from datetime import UTC, datetime, timedelta

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d365_campaign.opt_out import Decision, OptOutDirection, Standing, decide, decision_sql

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
PARTS = ("campaign", "campaign_at", "dynamics", "dynamics_at", "news")
SCHEMA = {
    "campaign": pl.Boolean(),
    "campaign_at": pl.Datetime("us"),
    "dynamics": pl.Boolean(),
    "dynamics_at": pl.Datetime("us"),
    "news": pl.Boolean(),
}

# Close together, so that two are often within one second or a microsecond apart; and a few from far away.
MOMENTS = st.none() | st.one_of(
    st.integers(-2_000_001, 2_000_001).map(lambda us: NOON + timedelta(microseconds=us)),
    st.sampled_from([-1_000_000, -1, 0, 1, 999_999, 1_000_000]).map(lambda us: NOON + timedelta(microseconds=us)),
    st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
)
STANDINGS = st.builds(Standing, st.booleans(), MOMENTS, st.booleans(), MOMENTS, st.booleans())


def decided_by_duckdb(direction: OptOutDirection, standings: list[Standing]) -> list[Decision]:
    rows = [[_naive(getattr(standing, part)) for part in PARTS] for standing in standings]
    sql = decision_sql(direction, {part: f"s.{part}" for part in PARTS})
    with duckdb.connect() as connection:
        connection.register("standings", pl.DataFrame(rows, schema=SCHEMA, orient="row").with_row_index("at"))
        found = connection.execute(
            f"select {sql.campaign}, {sql.dynamics}, {sql.rule} from standings as s order by s.at"
        ).fetchall()
    return [Decision(*row) for row in found]


def _naive(value: object) -> object:
    """Moments stand in the staging file without their time zone, in UTC."""
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


@pytest.mark.parametrize("direction", OptOutDirection)
@settings(max_examples=40, deadline=None)
@given(standings=st.lists(STANDINGS, min_size=20, max_size=100))
def test_sql_decides_as_the_function_does(direction: OptOutDirection, standings: list[Standing]) -> None:
    assert decided_by_duckdb(direction, standings) == [decide(direction, standing) for standing in standings]
