"""`hold`, `release`, `holds` and `forget`: what this project does while you carry out a privacy request.

They work on the staging file, and `forget` on Dagster's runs too. None of them reaches Dynamics or Campaign.
"""

import time
from collections.abc import Mapping
from pathlib import Path

import click

from d365_campaign.commands.common import PATIENCE_SECONDS, configuration, record_key, staging
from d365_campaign.commands.output import json_option, print_json, say
from d365_campaign.commands.running import find_dagster_home
from d365_campaign.errors import RetriableError
from d365_campaign.store.rewrite import rewrite

REQUESTS = (
    "This is no privacy request: you make these yourself, first in Campaign through Adobe Experience Platform Privacy "
    "Service, then in Dynamics; docs/privacy.md has the steps."
)


@click.command(epilog=REQUESTS)
@click.argument("key", callback=record_key)
@click.option("--by", required=True, help="Who asks for it; `holds` shows the name.")
@json_option("{key, since, by, tables}")
def hold(key: str, by: str, as_json: bool) -> None:
    """Let nothing write a record until it is released.

    No sync, replay, delete or opt-out. Changes are read all the same, and wait. Put a person on hold before you begin
    with a privacy request.

    \b
    Example:  d365-campaign hold 5c1b2f0e-8d0a-4b7e-9a55-0c7d3f1f2a11 --by "Ada Lovelace"
    """
    with staging(_staging_path()) as file:
        placed = file.privacy.hold(key, by)
        known = file.privacy.tables_of(key)
    if as_json:
        print_json({"key": key, "since": placed.since, "by": placed.held_by, "tables": known})
        return
    say(f"{key} is on hold since {placed.since:%Y-%m-%d %H:%M} UTC, by {placed.held_by}.")
    if not known:
        click.echo("No table has read a record with this key so far: check that it is the contactid.", err=True)


@click.command()
@click.argument("key", callback=record_key)
@json_option("{key, tables}")
def release(key: str, as_json: bool) -> None:
    """End a hold: the next run writes what waits.

    \b
    Example:  d365-campaign release 5c1b2f0e-8d0a-4b7e-9a55-0c7d3f1f2a11
    """
    with staging(_staging_path()) as file:
        ended, tables = file.privacy.release(key), file.privacy.tables_of(key)
    if not ended:
        raise click.ClickException(f"{key} is not on hold. What is, tells: d365-campaign holds")
    if as_json:
        print_json({"key": key, "tables": tables})
        return
    say(f"{key} is released. The next run writes what waits; to start one now:")
    for table in tables or [""]:
        say(f"  d365-campaign sync {table}".rstrip())


@click.command()
@json_option("[{key, since, by}]")
def holds(as_json: bool) -> None:
    """List the records that are on hold, oldest first.

    \b
    Example:  d365-campaign holds --json
    """
    with staging(_staging_path()) as file:
        found = file.privacy.holds()
    if as_json:
        listed = [{"key": each.key, "since": each.since.isoformat(), "by": each.held_by} for each in found]
        print_json(listed)
        return
    for each in found:
        say(f"{each.key}  since {each.since:%Y-%m-%d %H:%M} UTC  by {each.held_by}")
    if not found:
        say("Nothing is on hold.")


@click.command(epilog=REQUESTS)
@click.argument("key", callback=record_key)
@click.option("--yes", is_flag=True, help="Don't ask.")
@json_option("{key, removed: {TABLE: records}, runs_deleted, runs_going_on}")
def forget(key: str, yes: bool, as_json: bool) -> None:
    """Forget a person who is gone from both systems.

    The record and what is linked to it leave the staging file, and Dagster's runs that tell of it. A salted hash is
    kept, so that nothing brings the person back; it can't be undone. Do it when the person is gone from both systems:
    neither is reached, and what is still there stays there.

    \b
    Example:  d365-campaign forget 5c1b2f0e-8d0a-4b7e-9a55-0c7d3f1f2a11
    """
    from d365_campaign import definitions  # dagster takes seconds to import; --help should not

    if as_json and not yes:
        raise click.UsageError("--json asks nothing back. Give --yes with it.")
    path = _staging_path()
    find_dagster_home()
    if not yes:
        with staging(path) as file:
            found = {table: len(keys) for table, keys in file.privacy.records_of(key).items()}
            there = any(file.desk(table).trace(key).in_dynamics for table in file.privacy.tables_of(key))
        click.echo(f"The staging file holds of it: {_counted(found)}.")
        if there:
            click.echo(
                "Dynamics still had it when it was last read. What is in either system from now on, stays there."
            )
        click.confirm("Forget it for good?", abort=True)
    with staging(path) as file:
        keys = {key, *(each for keys in file.privacy.records_of(key).values() for each in keys)}
        removed = file.privacy.forget(key)
    runs = definitions.forget(sorted(keys))
    _rewrite_when_free(path)
    if as_json:
        counts = {"runs_deleted": runs.deleted, "runs_going_on": runs.going_on}
        print_json({"key": key, "removed": dict(removed), **counts})
    else:
        say(f"Removed from the staging file: {_counted(removed)}. Deleted from Dagster: runs {runs.deleted}.")
    if runs.going_on:
        raise click.ClickException(f"{runs.going_on} runs that tell of it are going on. Forget it again after them.")


def _rewrite_when_free(path: Path) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return rewrite(path)
        except RetriableError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def _counted(records: Mapping[str, int]) -> str:
    return ", ".join(f"{table} {number}" for table, number in records.items()) or "nothing"


def _staging_path() -> Path:
    return configuration().settings.staging.path
