"""`engine-calls`: what a month costs, what it comes to by its end, and which fields it is spent on."""

from datetime import UTC, date, datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from d365_campaign.commands.common import configuration, staging
from d365_campaign.commands.output import console, json_option, print_json
from d365_campaign.engine_calls import BudgetOutlook, MonthOfCalls, Outlook, month_of, outlook
from d365_campaign.errors import ConfigurationError

# Fields of the page; `--json` has them all.
DEAREST = 10
COLOURS = {"fine": "", "warning": "yellow", "spent": "red"}


def _month(ctx: click.Context, param: click.Parameter, value: datetime | None) -> date:
    this_month = month_of(_now().date())
    first = month_of(value.date()) if value else this_month
    if first > this_month:
        raise click.BadParameter("that month has not begun. Give this one or an earlier one.", ctx, param)
    return first


@click.command("engine-calls")
@click.option(
    "--month",
    type=click.DateTime(["%Y-%m"]),
    metavar="YYYY-MM",
    callback=_month,
    help="Default this month; days and months are those of UTC.",
)
@json_option("{month, engine_calls, expected, budgets, days, operations, fields, ...}")
def engine_calls(month: date, as_json: bool) -> None:
    """Show a month's engine calls, forecast and causes.

    Neither system is reached. Predicted is what Adobe's formula says of a change before it is sent, measured what was
    really called. Of a field it tells the updates it was part of, and the engine calls of those that changed nothing
    else: without that column, they would have been spared.

    \b
    Example:  d365-campaign engine-calls --month 2026-11
    """
    settings = configuration().settings
    if not settings.staging.path.exists():
        raise ConfigurationError(f"there is no staging file {settings.staging.path} yet. The first sync makes it.")
    with staging(settings.staging.path) as file:
        booked = file.ledger.month(month)
    ahead = outlook(booked, settings.engine_calls, _now())
    if as_json:
        print_json(_as_json(booked, ahead))
    else:
        _print_page(console(), booked, ahead)


def _as_json(booked: MonthOfCalls, ahead: Outlook) -> dict[str, Any]:
    return {
        "month": f"{booked.first:%Y-%m}",
        "is_over": ahead.is_over,
        "engine_calls": ahead.calls,
        "other_calls": ahead.others,
        "expected": ahead.expected,
        "calls_a_day": round(ahead.pace, 1),
        "engine_calls_adobe": booked.adobe,
        "engine_calls_saved": _saved(booked),
        "budgets": {
            budget.period: {
                "budget": budget.budget,
                "spent": budget.spent,
                "expected": budget.expected,
                "spent_at": budget.spent_at and budget.spent_at.isoformat(timespec="minutes"),
                "status": budget.status,
            }
            for budget in ahead.budgets
        },
        "days": {str(day): calls for day, calls in sorted(booked.by_day.items())},
        "operations": [
            {"table": of.table, "operation": of.operation, "predicted": of.predicted, "measured": of.calls}
            for of in booked.operations
        ],
        "fields": [
            {"table": of.table, "field": of.field, "updates": of.updates, "engine_calls_alone": of.calls}
            for of in booked.fields
        ],
    }


def _print_page(page: Console, booked: MonthOfCalls, ahead: Outlook) -> None:
    if booked.operations:
        page.print(_operations(booked))
    if booked.fields:
        page.print()
        page.print(_fields(booked))
    page.print()
    for line in _sentences(booked, ahead):
        page.print(line, soft_wrap=True, highlight=False)
    for budget in ahead.budgets:
        page.print(_told(budget, ahead), soft_wrap=True, highlight=False, style=COLOURS[budget.status])
    if not ahead.budgets:
        page.print("No budget is set: engine_calls.daily_budget, engine_calls.monthly_budget.", soft_wrap=True)


def _operations(booked: MonthOfCalls) -> Table:
    shown = _table(f"Engine calls, {booked.first:%B %Y}", "table", "operation", "predicted", "measured")
    for of in booked.operations:
        shown.add_row(of.table, of.operation, f"{of.predicted:,}", f"{of.calls:,}")
    shown.add_section()
    shown.add_row("all", "", f"{sum(of.predicted for of in booked.operations):,}", f"{booked.calls:,}")
    return shown


def _fields(booked: MonthOfCalls) -> Table:
    shown = _table("What columns cost", "table", "field", "part of updates", "engine calls for it alone")
    for of in booked.fields[:DEAREST]:
        shown.add_row(of.table, of.field, f"{of.updates:,}", f"{of.calls:,}")
    return shown


def _table(title: str, *headings: str) -> Table:
    """The first two columns are names, the others figures."""
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        shown.add_column(heading, justify="left" if number < 2 else "right", no_wrap=True)
    return shown


def _sentences(booked: MonthOfCalls, ahead: Outlook) -> list[str]:
    month = f"{booked.first:%B %Y}"
    others = f", and {ahead.others:,} of others" if ahead.others else ""
    lines = [f"{month}: {ahead.calls:,} engine calls{'' if ahead.is_over else ' so far'}{others}."]
    if not ahead.is_over and ahead.calls:
        included = ", others included" if ahead.others else ""
        lines.append(f"At {ahead.pace:,.0f} a day it comes to {ahead.expected:,} by the end of the month{included}.")
    saved = _saved(booked)
    if booked.adobe is not None and saved is not None:
        told = f"{saved:,} fewer" if saved >= 0 else f"{-saved:,} more"
        lines.append(f"By Adobe's own scheme the same changes take {booked.adobe:,}: these are {told}.")
    return lines


def _told(budget: BudgetOutlook, ahead: Outlook) -> str:
    if ahead.is_over:
        return f"That is {_share(budget)} of a {budget.period} budget of {budget.budget:,}."
    told = budget.verdict.description
    return (
        f"{told} At this pace nothing is left from {budget.spent_at:%-d %B, %H:%M} UTC on." if budget.spent_at else told
    )


def _share(budget: BudgetOutlook) -> str:
    return f"{budget.spent / budget.budget:.0%}" if budget.budget else "more than all"


def _saved(booked: MonthOfCalls) -> int | None:
    return None if booked.adobe is None else booked.adobe - booked.calls


def _now() -> datetime:
    return datetime.now(UTC)
