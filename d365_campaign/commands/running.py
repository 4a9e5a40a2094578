"""`plan` and `sync`: run a job here and now, and print what it made."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.table import Table

from d365_campaign import rehearsal
from d365_campaign.checks import BLOCKING
from d365_campaign.commands.output import console, json_option, print_json
from d365_campaign.commands.progress import shown_progress
from d365_campaign.errors import ConfigurationError, SyncError
from d365_campaign.mapping import CONTACT

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
OPT_OUTS_PLANNED = ("to_campaign", "to_dynamics", "in_doubt", "held")
OPT_OUTS_SYNCED = ("people", "opted_out", "opted_in", "gone", "refused", "unknown", "engine_calls")
SIDES = {"to_campaign": "opt_outs/to_campaign", "to_dynamics": "opt_outs/to_dynamics"}
STATE, EXPORTS = "opt_outs/state", "sftp/opt_out_exports"
HEADINGS = {"engine_calls_adobe": "Adobe's scheme", "to_campaign": "to Campaign", "to_dynamics": "to Dynamics"}
# Each run may set free what waited for another table's records; links go few tables deep.
MOST_RUNS = 1000

Numbers = Mapping[str, Mapping[str, Any]]


@click.command()
@click.argument("table", required=False)
@json_option("{TABLE: {to_insert, to_update, to_delete, refused, engine_calls, ...}, opt_outs}")
def plan(table: str | None, as_json: bool) -> None:
    """Show what a sync would write, and what it would cost.

    It reads both systems, and writes nothing but the staging file. Ends with 1 when a check would stop the sync.

    \b
    Example:  d365-campaign plan contact --json
    """
    with shown_progress(quiet=as_json):
        made, blocked = run_job("plan", table)
    _show_plan(made, as_json)
    if blocked:
        sys.exit(1)


def _show_plan(made: Numbers, as_json: bool) -> None:
    found = {name.partition("/")[2]: dict(it) for name, it in made.items() if name.startswith("change_set/")}
    opt_outs = made.get(STATE)
    if opt_outs and CONTACT in found:
        found[CONTACT]["scan_calls"] += opt_outs["scan_calls"]  # one scan serves both, and opt-outs come first
    if as_json:
        wanted = (*PLANNED, "busiest_fields", "sample_keys")
        shown: dict[str, Any] = {name: {k: it[k] for k in wanted} for name, it in found.items()}
        kept = {"opt_outs": {k: opt_outs[k] for k in OPT_OUTS_PLANNED}} if opt_outs else {}
        print_json(shown | kept)
        return
    page = console()
    page.print(in_columns("Plan", PLANNED, found))
    for name, it in found.items():
        for field, updates in it["busiest_fields"].items():
            page.print(f"{name}: {field} is part of {updates:,} updates", soft_wrap=True)
        for kind, keys in it["sample_keys"].items():
            page.print(f"{name}: {kind}, for instance {', '.join(keys)}", soft_wrap=True)
    if opt_outs:
        numbers = ", ".join(f"{opt_outs[figure]:,} {heading_of(figure)}" for figure in OPT_OUTS_PLANNED)
        page.print(f"Opt-outs by people: {numbers}", soft_wrap=True)


@click.command()
@click.argument("table", required=False)
@json_option("{TABLE: {inserted, updated, deleted, refused, backlog, engine_calls, ...}, opt_outs}")
def sync(table: str | None, as_json: bool) -> None:
    """Bring both systems into step now.

    It pulls, plans and writes until nothing is left that could be written. Ends with 1 when something is refused, waits
    to be written, or is blocked by a check.

    \b
    Example:  d365-campaign sync contact
    """
    with shown_progress(quiet=as_json):
        done = synced(table)
    if as_json:
        print_json(done.as_json())
    else:
        print_synced(console(), "Sync", done)
    if done.leaves_something:
        sys.exit(1)


class Synced(NamedTuple):
    """What the runs of one sync did, by table mapping, and of opt-outs where they are kept in step."""

    tables: dict[str, dict[str, Any]]
    opt_outs: dict[str, Any] | None
    blocked: Sequence[str] = ()

    @property
    def leaves_something(self) -> bool:
        """Whether anything is refused, or waits to be written, or a table is *blocked* by a check."""
        open_opt_outs = self.opt_outs is not None and self.opt_outs["open"]
        return bool(open_opt_outs or self.blocked) or any(it["refused"] or it["backlog"] for it in self.tables.values())

    def as_json(self) -> dict[str, Any]:
        """One object: each table under its name, and the opt-outs."""
        return self.tables | ({} if self.opt_outs is None else {"opt_outs": self.opt_outs})


def synced(table: str | None = None) -> Synced:
    """What the runs of one sync wrote and left over, by table mapping; *seconds* is the whole of it.

    Runs are short and follow one another, as under the sensor, as long as they write something and there is more.
    """
    began, total, opt_outs, blocked = time.monotonic(), dict[str, dict[str, Any]](), None, list[str]()
    for _ in range(MOST_RUNS):
        made, blocked = run_job("sync", table)
        latest = {name: dict(made[f"campaign/{it}"]) for name, it in _resources().items() if f"campaign/{it}" in made}
        for name, numbers in latest.items():
            total[name] = _added_up(total.get(name), numbers)
        of_this_run = _opt_outs_of(made)
        opt_outs = _opt_outs_added_up(opt_outs, of_this_run)
        if not (_goes_on(latest) or _opt_outs_go_on(made, of_this_run)):
            break
    seconds = round(time.monotonic() - began, 2)
    shown = (*WRITTEN, *LEFT, "stopped_by", "refused_sample", "deferred_sample")
    tables = {name: {k: it[k] for k in shown} | {"seconds": seconds} for name, it in total.items()}
    return Synced(tables, opt_outs, blocked)


def _opt_outs_of(made: Numbers) -> dict[str, Any] | None:
    """What one run did about opt-outs; None where they aren't kept in step, or contacts were not part of it."""
    if STATE not in made:
        return None
    sides = {side: made[asset] for side, asset in SIDES.items() if asset in made}
    exports = made.get(EXPORTS, {})
    return {
        **{side: {figure: it[figure] for figure in OPT_OUTS_SYNCED} for side, it in sides.items()},
        "files": exports.get("files", 0),
        "open": _opt_outs_open(made),
        "held": made[STATE]["held"],
        "refused_sample": {key: why for it in sides.values() for key, why in it["refused_sample"].items()},
    }


def _opt_outs_added_up(before: dict[str, Any] | None, latest: dict[str, Any] | None) -> dict[str, Any] | None:
    """The figures of several runs as those of one; what is left is what the last one left."""
    if before is None or latest is None:
        return latest or before
    sides = {
        side: {figure: before[side][figure] + number for figure, number in latest[side].items()}
        for side in SIDES
        if side in latest
    }
    return {**latest, **sides, "files": before["files"] + latest["files"]}


def _opt_outs_go_on(made: Numbers, opt_outs: Mapping[str, Any] | None) -> bool:
    """Whether another run could write opt-outs: some are open, and this run did write, ran out of time, or found new
    ones when it read the profiles."""
    if opt_outs is None or not opt_outs["open"]:
        return False
    sides = [made[asset] for asset in SIDES.values() if asset in made]
    return not sides[-1]["open"] or any(side["people"] or side["stopped_by"] for side in sides)


def _opt_outs_open(made: Numbers) -> int:
    """How many were open at the end of a run, which writes profiles last."""
    of_profiles = [it["opt_outs_open"] for asset, it in made.items() if it.get("opt_outs_open") is not None]
    return int(max(of_profiles) if of_profiles else [made[a] for a in SIDES.values() if a in made][-1]["open"])


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
    backlog = any(numbers["backlog"] for numbers in latest.values() if numbers["stopped_by"] not in BLOCKING)
    freed = any(n["deferred"] for n in latest.values()) and any(n["deleted"] for n in latest.values())
    return (wrote and backlog) or freed


def find_dagster_home() -> None:
    """Let Dagster keep its runs where DAGSTER_HOME says, or else here. Raises ConfigurationError outside a checkout."""
    if "DAGSTER_HOME" not in os.environ:
        if not Path("dagster.yaml").exists():
            raise ConfigurationError("there is no dagster.yaml here. Run this in the checkout, or set DAGSTER_HOME.")
        os.environ["DAGSTER_HOME"] = str(Path.cwd())
        (rehearsal.STATE / "dagster").mkdir(parents=True, exist_ok=True)


class Ran(NamedTuple):
    """What a run *made*: metadata by asset. *blocked* are the checks for which tables were not written."""

    made: dict[str, Any]
    blocked: list[str]


def run_job(job: str, table: str | None) -> Ran:
    """What the job made. Raises SyncError with what the run said when it failed."""
    from d365_campaign import definitions  # dagster takes seconds to import; --help should not

    find_dagster_home()
    report = definitions.run(job, table)
    for check in report.failed_checks:
        click.echo(f"check failed: {check}", err=True)
    if report.errors:
        raise SyncError("\n".join(report.errors))
    return Ran(dict(report.materialized), list(report.blocked))


def _resources() -> dict[str, str]:
    """Table mapping to Campaign resource, parents first."""
    from d365_campaign import definitions

    return {mapping.name: mapping.target for mapping in definitions.configuration().tables}


def print_synced(console: Console, title: str, done: Synced) -> None:
    """A table of what a sync did, a smaller one of opt-outs, and a few records that did not go out."""
    console.print(_synced_table(title, done.tables))
    for name, numbers in done.tables.items():
        for key, reason in numbers["refused_sample"].items():
            console.print(f"{name} {key} is refused: {reason}", soft_wrap=True, highlight=False)
        for key, awaited in numbers["deferred_sample"].items():
            console.print(f"{name} {key} waits for {awaited}", soft_wrap=True, highlight=False)
    if done.opt_outs is not None:
        _print_opt_outs(console, done.opt_outs)


def _print_opt_outs(console: Console, opt_outs: Mapping[str, Any]) -> None:
    sides = {heading_of(side): opt_outs[side] for side in SIDES if side in opt_outs}
    files = opt_outs["files"]
    title = f"Opt-outs ({files:,} daily file{'' if files == 1 else 's'})"
    if any(number for it in sides.values() for number in it.values()):
        console.print(in_rows(title, OPT_OUTS_SYNCED, sides))
    else:
        console.print(f"{title}: nobody was written.", highlight=False)
    for key, reason in opt_outs["refused_sample"].items():
        console.print(f"contact {key}: its opt-out is refused: {reason}", soft_wrap=True, highlight=False)
    if opt_outs["open"] or opt_outs["held"]:
        told = f"Still to be written or verified: {opt_outs['open']:,} people; on privacy hold: {opt_outs['held']:,}."
        console.print(told, highlight=False)


def _synced_table(title: str, done: Numbers) -> Table:
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
