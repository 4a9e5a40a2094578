"""`status`, `start` and `stop`: the flows, and the switch of each. From `start` to `stop`, edits of the files wait."""

import re
import sys
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from d365_campaign.commands.output import console, json_option, print_json, say
from d365_campaign.commands.running import find_dagster_home

if TYPE_CHECKING:
    from d365_campaign.definitions import FlowStatus, Status

RELOAD = (
    "Services of Dagster that were up before go by the files of then: restart them, so that the sensor goes by these "
    "too."
)


@click.command()
@json_option("{flows: [{name, state, backlog, deferred, refused, since, last_error, tables, ...}], faults}")
def status(as_json: bool) -> None:
    """Show each flow's state, backlog and tables.

    Neither system is reached: it is told as of the last run. Ends with 1 when a flow has failed.

    \b
    Example:  d365-campaign status
    """
    from d365_campaign import definitions  # dagster takes seconds to import; --help should not

    find_dagster_home()
    found = definitions.flow_status()
    if as_json:
        print_json(_as_json(found))
    else:
        _print_page(console(), found)
    if any(flow.state == "FAILED" for flow in found.flows):
        sys.exit(1)


@click.command()
@json_option("what status --json prints, after the start.")
def start(as_json: bool) -> None:
    """Let the flows run by themselves from now on.

    Changes and opt-outs go from system to system as the configuration files say now. Until it is stopped, edits of the
    files change nothing; `d365-campaign status` tells whether there are some.

    \b
    Example:  d365-campaign start
    """
    from d365_campaign import definitions

    find_dagster_home()
    definitions.start()
    if as_json:
        print_json(_as_json(definitions.flow_status()))
    else:
        say(f"Started. {RELOAD}")


@click.command()
@click.option(
    "--wait",
    "wait_seconds",
    default=300.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Longest time, in seconds, to wait for the run that is on.",
)
@json_option("what status --json prints, after the stop.")
def stop(wait_seconds: float, as_json: bool) -> None:
    """Stop the flows, once the run that is on has ended.

    From then on nothing is written to either system by itself; what is left stays the backlog.

    \b
    Example:  d365-campaign stop
    """
    from d365_campaign import definitions

    find_dagster_home()
    definitions.stop(wait_seconds)
    if as_json:
        print_json(_as_json(definitions.flow_status()))
    else:
        say("Stopped. The next start goes by the files as they are then.")


def _as_json(found: "Status") -> dict[str, Any]:
    return {"flows": [_flow_as_json(flow, found) for flow in found.flows], "faults": found.faults}


def _flow_as_json(flow: "FlowStatus", found: "Status") -> dict[str, Any]:
    figures = {"backlog": flow.backlog, "deferred": flow.deferred, "refused": flow.refused}
    return {
        "name": flow.name,
        "state": flow.state,
        **figures,
        "since": flow.since,
        "last_error": flow.last_error,
        "pending_changes": found.pending,
        "by_files": found.by_files,
        "tables": [asdict(table) for table in flow.tables],
    }


def _print_page(page: Console, found: "Status") -> None:
    page.print(_flows(found))
    for flow in found.flows:
        if flow.last_error:
            page.print(f"{flow.name}: {_first_sentence(flow.last_error)}", soft_wrap=True, markup=False)
    if found.by_files and any(flow.state != "STOPPED" for flow in found.flows):
        page.print("Runs by configuration: no start is on record, and each run reads the files.", soft_wrap=True)
    if found.faults:
        page.print(f"The files are not fit to start with: {found.faults}", soft_wrap=True, markup=False)
    elif found.pending:
        page.print("The files were changed since the start. To let them take effect: stop, then start.")
    page.print()
    for flow in found.flows:
        if flow.tables:
            page.print(_tables(flow))


def _flows(found: "Status") -> Table:
    shown = _table("flow", "state", "backlog", "deferred", "refused", "since", "pending changes")
    for flow in found.flows:
        numbers = (f"{number:,}" for number in (flow.backlog, flow.deferred, flow.refused))
        pending = "yes" if found.pending else "no"
        shown.add_row(flow.name, flow.state, *numbers, _moment(flow.since), pending)
    return shown


def _tables(flow: "FlowStatus") -> Table:
    shown = _table("table", "last run", "caught up", "backlog")
    for table in flow.tables:
        caught_up = "yes" if table.caught_up else "no"
        shown.add_row(table.name, _moment(table.last_run) or "none yet", caught_up, f"{table.backlog:,}")
    return shown


def _table(*headings: str) -> Table:
    shown = Table(box=None, pad_edge=False, title_justify="left")
    for heading in headings:
        shown.add_column(heading, no_wrap=True, justify="right" if heading in ("backlog", "deferred") else "left")
    return shown


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else ""


def _first_sentence(words: str) -> str:
    """The beginning of an error; what to do about it stands in the whole of it, which `--json` has."""
    return re.split(r"(?<=[.]) (?=[A-Z])", " ".join(words.split()), maxsplit=1)[0]
