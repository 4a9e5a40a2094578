"""The command line: parse, run a job, print. Exit codes: 0 done, 1 work refused or left over, 2 wrong use."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from d365_campaign import config, rehearsal
from d365_campaign.errors import ConfigurationError, SyncError

COLUMNS = ("inserted", "updated", "deleted", "unchanged", "refused", "engine_calls", "engine_calls_adobe", "seconds")
PLANNED = (
    "to_insert",
    "to_adopt",
    "to_update",
    "to_delete",
    "unchanged",
    "refused",
    "engine_calls",
    "engine_calls_adobe",
)
DEMO_CONTACTS = 1000
NEXT = """
What to look at next:
  make dev                     the sandbox and Dagster's UI, kept running
  config/tables/contact.yaml   which columns become which Campaign fields
  README.md                    how to rehearse, and how to use your own systems
"""
DEMO_CHANGES = {"update": 10, "create": 5, "delete": 2}


class _Group(click.Group):
    """Shows our own errors as a sentence instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SyncError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="Settings file; default config/sandbox.yaml."
)
def main(config_file: Path | None) -> None:
    """Keep Adobe Campaign Standard in step with Microsoft Dynamics 365.

    \b
    Example:  d365-campaign plan contact
    """
    if config_file:
        os.environ[rehearsal.CONFIG_VARIABLE] = str(config_file.resolve())


@main.command()
@click.argument("table", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def plan(table: str | None, as_json: bool) -> None:
    """Show what a sync would write and cost; writes nothing but the staging file.

    \b
    Example:  d365-campaign plan contact --json
    """
    found = {name: made for name, made in _run("plan", table).items() if name.startswith("change_set/")}
    if as_json:
        click.echo(json.dumps({_table(name): _planned(made) for name, made in found.items()}, indent=2))
        return
    shown = _numbers("Plan", PLANNED, {_table(name): made for name, made in found.items()})
    console = Console()
    console.print(shown)
    for name, made in found.items():
        for field, updates in made["busiest_fields"].items():
            console.print(f"{_table(name)}: {field} is part of {updates:,} updates", soft_wrap=True)
        for kind, keys in made["sample_keys"].items():
            console.print(f"{_table(name)}: {kind}, for instance {', '.join(keys)}", soft_wrap=True)


@main.command()
@click.argument("table", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def sync(table: str | None, as_json: bool) -> None:
    """Bring Campaign into step with Dynamics: pull, plan and write.

    \b
    Example:  d365-campaign sync contact
    """
    began = time.monotonic()
    done = _synced(_run("sync", table), time.monotonic() - began)
    if as_json:
        click.echo(json.dumps(done, indent=2))
    else:
        Console().print(_numbers("Sync", COLUMNS, done))
    if any(numbers["refused"] or numbers["backlog"] for numbers in done.values()):
        sys.exit(1)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def demo(as_json: bool) -> None:
    """Sync 1,000 contacts of a fresh sandbox, change some, and sync again."""
    rehearsal.start_afresh()
    with rehearsal.running_sandbox(DEMO_CONTACTS) as running:
        first = _timed_sync()
        rehearsal.ask(running.endpoints, "POST", "change", {"contacts": DEMO_CHANGES})
        second = _timed_sync()
    if as_json:
        click.echo(json.dumps({"syncs": [_columns_of(first), _columns_of(second)]}))
        return
    console = Console()
    syncs = {"first sync": first, "10 changed, 5 added, 2 deleted": second}
    columns = {f"{table}\n{label}": numbers for label, done in syncs.items() for table, numbers in done.items()}
    console.print(_numbers("Dynamics 365 to Adobe Campaign", COLUMNS, columns))
    console.print(NEXT, highlight=False)


@main.command()
@click.option("--port", default=3000, show_default=True, help="Port of Dagster's UI.")
@click.option("--contacts", default=DEMO_CONTACTS, show_default=True, help="Contacts in the sandbox.")
@click.option("--free-ports", is_flag=True, help="Give the sandbox any free ports instead of 8441 to 8444.")
def dev(port: int, contacts: int, free_ports: bool) -> None:
    """Keep a sandbox and `dagster dev` running: edit a contact and watch the run."""
    rehearsal.start_afresh()
    dagster = str(Path(sys.executable).with_name("dagster"))
    with rehearsal.running_sandbox(contacts, None if free_ports else rehearsal.FIXED_PORTS) as running:
        # The limit is set before first use: two runs that meet a new pool would both start.
        subprocess.run(
            [dagster, "instance", "concurrency", "set", "staging", "1"], check=True, stdout=subprocess.DEVNULL
        )
        click.echo(
            f"\nDagster's UI:    http://localhost:{port}\n"
            "Edit a contact:  curl --cacert .local/sandbox/ca.pem -X PATCH "
            f'{running.endpoints["admin"]}/dataverse/contacts/any -d \'{{"emailaddress1": "new@example.com"}}\'\n',
        )
        ui = subprocess.Popen([dagster, "dev", "-w", "workspace.yaml", "-p", str(port), "--log-level", "warning"])
        _wait_until_stopped(ui)


@main.command()
@click.option("--contacts", default=0, show_default=True, help="Contacts to begin with.")
@click.option("--free-ports", is_flag=True, help="Take any free ports instead of 8441 to 8444.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default=rehearsal.SANDBOX,
    show_default=True,
    help="Where endpoints.json, the certificate authority and the environment file go.",
)
def sandbox(contacts: int, free_ports: bool, directory: Path) -> None:
    """Run the stand-ins for Dynamics, Entra, Campaign and Adobe IMS until interrupted.

    \b
    Example:  d365-campaign sandbox --contacts 1000
    """
    ports = None if free_ports else rehearsal.FIXED_PORTS
    with rehearsal.running_sandbox(contacts, ports, directory) as running:
        for name in ("dataverse", "entra", "campaign", "ims", "admin", "ca_bundle"):
            click.echo(f"{name:<10} {running.endpoints[name]}")
        while running.process.poll() is None:
            time.sleep(0.2)


@main.command()
@click.option("--check", is_flag=True, help="Only tell whether the file is up to date.")
def schema(check: bool) -> None:
    """Write config/schema.json, from which editors complete and check the configuration files."""
    file, rendered = Path("config/schema.json"), config.render_json_schema()
    if not check:
        file.write_text(rendered, encoding="utf-8")
    elif not file.exists() or file.read_text(encoding="utf-8") != rendered:
        raise click.ClickException("config/schema.json is not what the models say. Run: d365-campaign schema")


def _run(job: str, table: str | None) -> dict[str, Any]:
    """Metadata by asset. Raises SyncError with what the run said when it failed."""
    from d365_campaign import definitions  # dagster takes seconds to import; --help should not

    if "DAGSTER_HOME" not in os.environ:
        if not Path("dagster.yaml").exists():
            raise ConfigurationError("there is no dagster.yaml here. Run this in the checkout, or set DAGSTER_HOME.")
        os.environ["DAGSTER_HOME"] = str(Path.cwd())
        (rehearsal.STATE / "dagster").mkdir(parents=True, exist_ok=True)
    report = definitions.run(job, table)
    for check in report.failed_checks:
        click.echo(f"check failed: {check}", err=True)
    if not report.success:
        raise SyncError("\n".join(report.errors))
    return dict(report.materialized)


def _timed_sync() -> dict[str, dict[str, Any]]:
    began = time.monotonic()
    return _synced(_run("sync", None), time.monotonic() - began)


def _synced(made: Mapping[str, Mapping[str, Any]], seconds: float) -> dict[str, dict[str, Any]]:
    """What was written, by table mapping; *seconds* is the whole run."""
    written = [numbers for name, numbers in made.items() if name.startswith("campaign/")]
    tables = [_table(name) for name in made if name.startswith("change_set/")]
    return {
        table: {name: numbers[name] for name in (*COLUMNS[:-1], "identical", "backlog")}
        | {"seconds": round(seconds, 2)}
        for table, numbers in zip(tables, written, strict=True)
    }


def _columns_of(done: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {table: {name: numbers[name] for name in COLUMNS} for table, numbers in done.items()}


def _planned(made: Mapping[str, Any]) -> dict[str, Any]:
    return {name: made[name] for name in (*PLANNED, "busiest_fields", "sample_keys")}


def _table(asset: str) -> str:
    return asset.partition("/")[2]


def _numbers(title: str, names: Sequence[str], columns: Mapping[str, Mapping[str, Any]]) -> Table:
    """A column for each of *columns*, a row for each of *names*."""
    shown = Table(title=title)
    shown.add_column("")
    for heading in columns:
        shown.add_column(heading, justify="right")
    for name in names:
        label = {"engine_calls_adobe": "by Adobe's own scheme"}.get(name, name.replace("_", " "))
        shown.add_row(label, *(f"{numbers[name]:,}" for numbers in columns.values()))
    return shown


def _wait_until_stopped(process: "subprocess.Popen[bytes]") -> None:
    """Until it ends by itself, or this process is told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()
