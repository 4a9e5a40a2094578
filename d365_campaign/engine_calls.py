"""Engine calls of a month: what was made and predicted, what it comes to by its end, and what budgets say to that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from d365_campaign import checks
from d365_campaign.settings import EngineCallSettings

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class OperationCalls:
    """One operation on a table: engine calls that the formula predicted, and those that were made."""

    table: str
    operation: str
    predicted: int
    calls: int


@dataclass(frozen=True, slots=True)
class FieldCalls:
    """One Campaign field: the updates it was part of, and the engine calls of those that changed nothing else.

    These *calls* would have been spared without it. An update costs the same whatever number of fields it changes, so
    one that two fields are part of is made as long as either is mapped.
    """

    table: str
    field: str
    updates: int
    calls: int


@dataclass(frozen=True, slots=True)
class MonthOfCalls:
    """What the ledger holds of the month that begins on *first*; *since* is the first day it holds anything of at all.

    *adobe* is what Adobe's own integration spends on the same changes of Dynamics, as far as that is known.
    """

    first: date
    by_day: Mapping[date, int]
    operations: Sequence[OperationCalls]
    fields: Sequence[FieldCalls]
    adobe: int | None = None
    since: date | None = None

    @property
    def calls(self) -> int:
        return sum(self.by_day.values())


@dataclass(frozen=True, slots=True)
class BudgetOutlook:
    """A budget against what counts for it, as it stands and by the end of its *period*.

    *spent_at* is the moment at which nothing is left of it at this pace, where that comes within the period. The
    *verdict* is the one that a run shows.
    """

    period: str
    budget: int
    spent: int
    expected: int
    spent_at: datetime | None
    verdict: checks.Verdict

    @property
    def status(self) -> str:
        """`fine`, `warning` or `spent`."""
        if self.verdict.passed:
            return "fine"
        return "warning" if self.verdict.warn else "spent"


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a month comes to. *pace* is our engine calls a day, *expected* the month's with those of *others*."""

    calls: int
    others: int
    pace: float
    expected: int
    is_over: bool
    budgets: Sequence[BudgetOutlook]


def month_of(day: date) -> date:
    """The first day of its month."""
    return day.replace(day=1)


def month_after(first: date) -> date:
    """The first day of the month after the one that begins on *first*."""
    return month_of(first + timedelta(days=31))


def outlook(month: MonthOfCalls, limits: EngineCallSettings, now: datetime) -> Outlook:
    """What the month comes to when it goes on as it went, on average, since it (or the ledger) began.

    At least a day counts as over, so that what the first hour brought isn't taken for every hour to come. The calls of
    others count whole from the first day on, as they do for the budget.
    """
    begin = _midnight(max(month.first, month.since or month.first))
    end = _midnight(month_after(month.first))
    pace = month.calls / (max(DAY, min(now, end) - begin) / DAY)
    expected = round(pace * ((end - begin) / DAY)) + limits.other_calls
    budgets = []
    if limits.monthly_budget is not None:
        spent = month.calls + limits.other_calls
        budgets.append(_against(limits.monthly_budget, "monthly", limits, now, spent, expected, pace))
    if limits.daily_budget is not None and month.first <= now.date() < month_after(month.first):
        spent = month.by_day.get(now.date(), 0)
        left_of_today = (_midnight(now.date()) + DAY - now) / DAY
        budgets.append(
            _against(limits.daily_budget, "daily", limits, now, spent, spent + round(pace * left_of_today), pace)
        )
    return Outlook(month.calls, limits.other_calls, pace, expected, now >= end, budgets)


def _against(
    budget: int, period: str, limits: EngineCallSettings, now: datetime, spent: int, expected: int, pace: float
) -> BudgetOutlook:
    runs_out = spent < budget < expected
    return BudgetOutlook(
        period,
        budget,
        spent,
        expected,
        now + DAY * ((budget - spent) / pace) if runs_out else None,
        checks.engine_call_budget(spent, budget, limits.warn_at, period),
    )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)
