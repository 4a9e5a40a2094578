"""What a month comes to: arithmetic that a person can do again on paper."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d365_campaign.engine_calls import MonthOfCalls, Outlook, month_after, month_of, outlook
from d365_campaign.settings import EngineCallSettings

APRIL = date(2026, 4, 1)


def of_month(by_day: Mapping[int, int], since: date | None = APRIL) -> MonthOfCalls:
    """April, thirty days long, with the calls of some of its days."""
    return MonthOfCalls(APRIL, {date(2026, 4, day): calls for day, calls in by_day.items()}, [], [], since=since)


def on(moment: str, by_day: Mapping[int, int], since: date | None = APRIL, **limits: Any) -> Outlook:
    """How it looks at a moment of April or later, e.g. `16T12:00`."""
    now = datetime.fromisoformat(f"2026-04-{moment}" if moment[2] == "T" else moment).replace(tzinfo=UTC)
    return outlook(of_month(by_day, since), EngineCallSettings(**limits), now)


@pytest.mark.parametrize(
    ("first", "after"),
    [(date(2026, 1, 1), date(2026, 2, 1)), (date(2026, 2, 1), date(2026, 3, 1)), (date(2026, 12, 1), date(2027, 1, 1))],
)
def test_months_follow_each_other(first: date, after: date) -> None:
    assert month_after(first) == after
    assert month_of(date(first.year, first.month, 28)) == first


# --- forecast -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "by_day", "pace", "expected"),
    [
        pytest.param("16T00:00", {1: 1000, 15: 500}, 100, 3000, id="half of it is over"),
        pytest.param("11T12:00", {1: 1050}, 100, 3000, id="hours count"),
        pytest.param("01T06:00", {1: 100}, 100, 3000, id="a first hour is not every hour"),
        pytest.param("02T00:00", {1: 100}, 100, 3000, id="just a day"),
        pytest.param("30T23:59:59.999999", {7: 900}, 30, 900, id="its last moment"),
        pytest.param("2026-06-10T12:00", {7: 900}, 30, 900, id="it is over"),
        pytest.param("16T00:00", {}, 0, 0, id="nothing was called"),
    ],
)
def test_month_goes_on_as_it_went(moment: str, by_day: Mapping[int, int], pace: float, expected: int) -> None:
    ahead = on(moment, by_day)

    assert (round(ahead.pace, 3), ahead.expected) == (pace, expected)
    assert ahead.calls == sum(by_day.values())


@pytest.mark.parametrize(
    ("moment", "began", "calls", "expected"),
    [
        pytest.param("21T00:00", 11, 300, 600, id="ten of twenty days are over"),
        pytest.param("15T12:00", 15, 200, 16 * 200, id="its first day"),
    ],
)
def test_ledger_that_began_within_the_month_is_not_taken_for_idle_before(
    moment: str, began: int, calls: int, expected: int
) -> None:
    assert on(moment, {began: calls}, since=date(2026, 4, began)).expected == expected


def test_ledger_that_is_older_than_the_month_counts_the_whole_of_it() -> None:
    assert on("16T00:00", {10: 300}, since=date(2025, 12, 24)).expected == 600


def test_month_before_the_ledger_began_is_empty() -> None:
    ahead = on("2026-06-10T12:00", {}, since=date(2026, 6, 1), other_calls=7)

    assert (ahead.calls, ahead.expected, ahead.is_over) == (0, 7, True)


def test_calls_of_others_come_on_top_whole_and_have_no_pace() -> None:
    assert on("16T00:00", {1: 1500}, other_calls=400).expected == 3400
    assert on("16T00:00", {1: 1500}, other_calls=400).pace == 100


@given(
    by_day=st.dictionaries(st.integers(1, 30), st.integers(0, 10**6)),
    minute=st.integers(0, 30 * 1440 - 1),
    others=st.integers(0, 10**6),
    budget=st.integers(0, 10**7),
)
def test_what_is_expected_is_never_less_than_what_was_spent(
    by_day: dict[int, int], minute: int, others: int, budget: int
) -> None:
    day, minute = 1 + minute // 1440, minute % 1440
    so_far = {past: calls for past, calls in by_day.items() if past <= day}
    moment = f"{day:02}T{minute // 60:02}:{minute % 60:02}"
    ahead = on(moment, so_far, monthly_budget=budget, daily_budget=budget, other_calls=others)

    assert ahead.expected >= ahead.calls + others
    monthly, daily = ahead.budgets
    assert monthly.spent == ahead.calls + others
    assert daily.spent == so_far.get(day, 0)
    for of in ahead.budgets:
        assert of.expected >= of.spent
        assert (of.spent_at is not None) == (of.spent < of.budget < of.expected)


# --- budgets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calls", "status"), [(790, "fine"), (800, "warning"), (999, "warning"), (1000, "spent"), (1001, "spent")]
)
def test_budget_warns_from_its_share_on_and_is_spent_at_the_whole(calls: int, status: str) -> None:
    [monthly] = on("29T00:00", {5: calls}, monthly_budget=1000).budgets
    [daily] = on("05T23:00", {5: calls}, daily_budget=1000).budgets

    assert (monthly.period, monthly.status, daily.period, daily.status) == ("monthly", status, "daily", status)


def test_share_from_which_it_warns_is_a_setting() -> None:
    [monthly] = on("29T00:00", {5: 500}, monthly_budget=1000, warn_at=0.5).budgets

    assert monthly.status == "warning"


def test_calls_of_others_count_against_the_monthly_budget_only() -> None:
    monthly, daily = on("16T00:00", {16: 300}, monthly_budget=1000, daily_budget=1000, other_calls=600).budgets

    assert (monthly.spent, monthly.status) == (900, "warning")
    assert (daily.spent, daily.status) == (300, "fine")


@pytest.mark.parametrize(
    ("budget", "others", "spent_at"),
    [
        pytest.param(2000, 0, "2026-04-21T00:00", id="five days from now"),
        pytest.param(2000, 250, "2026-04-18T12:00", id="others take some of it"),
        pytest.param(2999, 0, "2026-04-30T23:45", id="in its last minutes"),
        pytest.param(3000, 0, None, id="it just lasts"),
        pytest.param(1500, 0, None, id="it is spent already"),
        pytest.param(0, 0, None, id="there is none"),
    ],
)
def test_moment_is_told_at_which_nothing_is_left_of_the_month(budget: int, others: int, spent_at: str | None) -> None:
    """1,500 calls in 15 days."""
    [monthly] = on("16T00:00", {3: 1500}, monthly_budget=budget, other_calls=others).budgets

    told = monthly.spent_at and monthly.spent_at.replace(second=0, microsecond=0, tzinfo=None).isoformat("T", "minutes")
    assert told == spent_at


def test_moment_is_told_at_which_nothing_is_left_of_the_day() -> None:
    """2,400 calls in 15 days and a half: 155 a day, of which 50 are left at noon."""
    [daily] = on("16T12:00", {3: 2325, 16: 75}, daily_budget=125).budgets

    assert (daily.spent, daily.expected) == (75, 75 + 77)
    assert daily.spent_at is not None
    assert daily.spent_at.strftime("%d %H:%M") == "16 19:45"


def test_month_that_is_over_has_no_today() -> None:
    ahead = on("2026-05-01T00:00", {30: 500}, monthly_budget=400, daily_budget=1)

    assert ahead.is_over
    assert [(of.period, of.spent, of.spent_at) for of in ahead.budgets] == [("monthly", 500, None)]


def test_without_a_budget_there_is_nothing_to_go_against() -> None:
    assert on("16T00:00", {3: 1500}).budgets == []
