"""`plan` and `sync`: run a job here and now, and print what it made."""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from d365_campaign import rehearsal
from d365_campaign.errors import ConfigurationError, SyncError

PLANNED = (
    "to_insert",
    "to_adopt",
    "to_update",
    "to_delete",
    "unchanged",
    "filtered_out",
    "refused",
    "deferred",
    "held",
    "engine_calls",
    "engine_calls_adobe",
    "scan_calls",
)
WRITTEN = ("inserted", "updated", "deleted", "identical", "engine_calls", "engine_calls_adobe")
LEFT = ("unchanged", "refused", "deferred", "held", "backlog")
SYNCED = ("inserted", "updated", "deleted", "unchanged", "refused", "deferred", "engine_calls", "engine_calls_adobe")
HEADINGS = {"engine_calls_adobe": "Adobe's scheme"}
# Each run may set free what waited for another table's records; links go few tables deep.
MOST_RUNS = 1000

Numbers = Mapping[str, Mapping[str, Any]]


@click.command()
@click.argument("table", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def plan(table: str | None, as_json: bool) -> None:
    """Show what a sync would write and cost; writes nothing but the staging file.

    \b
    Example:  d365-campaign plan contact --json
    """
    found = {
        name.partition("/")[2]: made for name, made in run_job("plan", table).items() if name.startswith("change_set/")
    }
    if as_json:
        wanted = (*PLANNED, "busiest_fields", "sample_keys")
        click.echo(json.dumps({name: {k: made[k] for k in wanted} for name, made in found.items()}, indent=2))
        return
    console = Console()
    console.print(in_columns("Plan", PLANNED, found))
    for name, made in found.items():
        for field, updates in made["busiest_fields"].items():
            console.print(f"{name}: {field} is part of {updates:,} updates", soft_wrap=True)
        for kind, keys in made["sample_keys"].items():
            console.print(f"{name}: {kind}, for instance {', '.join(keys)}", soft_wrap=True)


@click.command()
@click.argument("table", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def sync(table: str | None, as_json: bool) -> None:
    """Bring Campaign into step with Dynamics: pull, plan and write, until nothing is left that could be written.

    \b
    Example:  d365-campaign sync contact
    """
    done = synced(table)
    if as_json:
        click.echo(json.dumps(done, indent=2))
    else:
        console = Console()
        console.print(synced_table("Sync", done))
        print_examples(console, done)
    if any(numbers["refused"] or numbers["backlog"] for numbers in done.values()):
        sys.exit(1)


def synced(table: str | None = None) -> dict[str, dict[str, Any]]:
    """What the runs of one sync wrote and left over, by table mapping; *seconds* is the whole of it.

    Runs are short and follow one another, as under the sensor, as long as they write something and there is more.
    """
    began, total = time.monotonic(), dict[str, dict[str, Any]]()
    for _ in range(MOST_RUNS):
        made = {n.removeprefix("campaign/"): v for n, v in run_job("sync", table).items() if n.startswith("campaign/")}
        latest = {name: dict(made[resource]) for name, resource in _resources().items() if resource in made}
        for name, numbers in latest.items():
            total[name] = _added_up(total.get(name), numbers)
        if not _goes_on(latest):
            break
    seconds = round(time.monotonic() - began, 2)
    shown = (*WRITTEN, *LEFT, "refused_sample", "deferred_sample")
    return {name: {k: numbers[k] for k in shown} | {"seconds": seconds} for name, numbers in total.items()}


def _added_up(before: Mapping[str, Any] | None, latest: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of several runs as those of one; what an earlier one wrote is in step by now, but not unchanged."""
    if before is None:
        return dict(latest)
    earlier = sum(before[figure] for figure in ("inserted", "updated", "identical"))
    written = {figure: before[figure] + latest[figure] for figure in WRITTEN}
    return {**latest, **written, "unchanged": latest["unchanged"] - earlier}


def _goes_on(latest: Numbers) -> bool:
    """Whether another run could write: something is left, nothing forbids it, and this run did write.

    Parents are written before their children in one run, and deleted after them in the next.
    """
    if any(numbers["stopped_by"] in ("budget", "blackout") for numbers in latest.values()):
        return False
    wrote = any(numbers[figure] for numbers in latest.values() for figure in WRITTEN[:4])
    backlog = any(numbers["backlog"] for numbers in latest.values())
    freed = any(n["deferred"] for n in latest.values()) and any(n["deleted"] for n in latest.values())
    return (wrote and backlog) or freed


def find_dagster_home() -> None:
    """Let Dagster keep its runs where DAGSTER_HOME says, or else here. Raises ConfigurationError outside a checkout."""
    if "DAGSTER_HOME" not in os.environ:
        if not Path("dagster.yaml").exists():
            raise ConfigurationError("there is no dagster.yaml here. Run this in the checkout, or set DAGSTER_HOME.")
        os.environ["DAGSTER_HOME"] = str(Path.cwd())
        (rehearsal.STATE / "dagster").mkdir(parents=True, exist_ok=True)


def run_job(job: str, table: str | None) -> dict[str, Any]:
    """Metadata by asset. Raises SyncError with what the run said when it failed."""
    from d365_campaign import definitions  # dagster takes seconds to import; --help should not

    find_dagster_home()
    report = definitions.run(job, table)
    for check in report.failed_checks:
        click.echo(f"check failed: {check}", err=True)
    if not report.success:
        raise SyncError("\n".join(report.errors))
    return dict(report.materialized)


def _resources() -> dict[str, str]:
    """Table mapping to Campaign resource, parents first."""
    from d365_campaign import definitions

    return {mapping.name: mapping.target for mapping in definitions.configuration().tables}


def print_examples(console: Console, done: Numbers) -> None:
    """A few records that did not go out, and why."""
    for name, numbers in done.items():
        for key, reason in numbers["refused_sample"].items():
            console.print(f"{name} {key} is refused: {reason}", soft_wrap=True, highlight=False)
        for key, awaited in numbers["deferred_sample"].items():
            console.print(f"{name} {key} waits for {awaited}", soft_wrap=True, highlight=False)


def synced_table(title: str, done: Numbers) -> Table:
    """What a sync did, a row for each table."""
    seconds = max((numbers["seconds"] for numbers in done.values()), default=0.0)
    return in_rows(f"{title} ({seconds:.1f} s)", SYNCED, done)


def in_columns(title: str, figures: Sequence[str], tables: Numbers) -> Table:
    """A column for each table, a row for each figure."""
    shown = Table(title=title)
    shown.add_column("")
    for heading in tables:
        shown.add_column(heading, justify="right")
    for figure in figures:
        shown.add_row(heading_of(figure), *(f"{numbers[figure]:,}" for numbers in tables.values()))
    return shown


def in_rows(title: str, figures: Sequence[str], tables: Numbers) -> Table:
    """A row for each table, a column for each figure."""
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False, collapse_padding=True)
    shown.add_column("", no_wrap=True)
    for figure in figures:
        shown.add_column(heading_of(figure).replace(" ", "\n"), justify="right", no_wrap=True)
    for name, numbers in tables.items():
        shown.add_row(name, *(f"{numbers[figure]:,}" for figure in figures))
    return shown


def heading_of(figure: str) -> str:
    """A figure's name as people read it."""
    return HEADINGS.get(figure, figure.replace("_", " "))
