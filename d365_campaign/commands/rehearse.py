"""`demo`, `dev` and `sandbox`: try everything out on local stand-ins."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from d365_campaign import rehearsal
from d365_campaign.commands.common import configuration, staging
from d365_campaign.commands.demo_story import change_minds
from d365_campaign.commands.opt_out_explain import explained_as_json, print_explained
from d365_campaign.commands.opt_out_words import opt_out_desk
from d365_campaign.commands.output import console, json_option, print_json
from d365_campaign.commands.progress import shown_progress
from d365_campaign.commands.running import print_synced, synced
from d365_campaign.rehearsal import Seed
from d365_campaign.store.opt_out_desk import OptOutDesk

SEED = Seed(contacts=1000, accounts=40, purchases=400, story=True)
DEMO_CHANGES = {
    "accounts": {"update": 2, "create": 1},
    "contacts": {"update": 10, "create": 5, "delete": 2},
    "purchases": {"update": 4, "create": 6, "delete": 1},
    "activate": True,
}
NEXT = """
What to look at next:
  make dev                       the sandbox and Dagster's UI, kept running
  config/sandbox_tables/         which columns become which fields, and links
  README.md                      how to rehearse, and to use your own systems
"""


@click.command()
@json_option("{syncs: [first, second], budget: {spent, daily_budget}, explained}")
def demo(as_json: bool) -> None:
    """See it at work on a fresh sandbox.

    It syncs the sandbox, changes some of it, lets people opt out in either system, and syncs again.

    \b
    Example:  d365-campaign demo
    """
    rehearsal.start_afresh()
    with rehearsal.running_sandbox(SEED) as running, shown_progress(quiet=as_json):
        ask = partial(rehearsal.ask, running.endpoints)
        first = synced()
        story = change_minds(ask, ask("POST", "change", DEMO_CHANGES))
        second = synced()
        told = list(story.told(ask))
    with _opt_out_desk() as desk:
        explained = desk.person(story.contested)
    if as_json:
        syncs = [first.as_json(), second.as_json()]
        shown = {"syncs": syncs, "budget": _budget(), "explained": explained_as_json(explained)}
        print_json(shown)
        return
    page = console()
    for title, done in {"First sync": first, "Second sync, after some changes": second}.items():
        print_synced(page, title, done)
        page.print()
    _print_story(page, first.tables, second.tables)
    for sentence in told:
        page.print(sentence, soft_wrap=True, highlight=False)
    page.print()
    print_explained(page, explained)
    page.print(NEXT, highlight=False)


@contextmanager
def _opt_out_desk() -> Iterator[OptOutDesk]:
    configured = configuration()
    with staging(configured.settings.staging.path) as file:
        yield opt_out_desk(file, configured)


def _print_story(page: Console, first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    for name, numbers in first.items():
        for key, awaited in numbers["deferred_sample"].items():
            if key not in second[name]["deferred_sample"]:
                told = f"{name} {key} went out in the second sync, once {awaited} was there."
                page.print(told, soft_wrap=True, highlight=False)
    budget = _budget()
    told = f"{budget['spent']:,} of {budget['daily_budget']:,} engine calls of today's budget are spent."
    page.print(told, highlight=False)


@click.command()
@click.option("--port", default=3000, show_default=True, help="Port of Dagster's UI.")
@click.option("--contacts", default=SEED.contacts, show_default=True, help="Contacts in the sandbox.")
@click.option("--free-ports", is_flag=True, help="Give the sandbox any free ports instead of 8441 to 8445.")
def dev(port: int, contacts: int, free_ports: bool) -> None:
    """Keep a sandbox and Dagster's UI running.

    Edit a contact, and watch the run.

    \b
    Example:  d365-campaign dev --port 3001
    """
    rehearsal.start_afresh()
    dagster = str(Path(sys.executable).with_name("dagster"))
    seed = SEED._replace(contacts=contacts)
    with rehearsal.running_sandbox(seed, None if free_ports else rehearsal.FIXED_PORTS) as running:
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


@click.command()
@click.option("--contacts", default=0, show_default=True, help="Contacts to begin with.")
@click.option("--accounts", default=0, show_default=True, help="Accounts that they work for.")
@click.option("--purchases", default=0, show_default=True, help="Purchases that they made.")
@click.option("--free-ports", is_flag=True, help="Take any free ports instead of 8441 to 8445.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default=rehearsal.SANDBOX,
    show_default=True,
    help="Where endpoints.json, the certificate authority and the environment file go.",
)
def sandbox(contacts: int, accounts: int, purchases: int, free_ports: bool, directory: Path) -> None:
    """Run local stand-ins for both systems.

    For Dynamics, Entra, Campaign, its SFTP storage and Adobe IMS, until interrupted.

    \b
    Example:  d365-campaign sandbox --contacts 1000 --purchases 400
    """
    ports = None if free_ports else rehearsal.FIXED_PORTS
    with rehearsal.running_sandbox(Seed(contacts, accounts, purchases), ports, directory) as running:
        for name in ("dataverse", "entra", "campaign", "ims", "admin", "ca_bundle"):
            click.echo(f"{name:<10} {running.endpoints[name]}")
        click.echo(f"{'sftp':<10} {_sftp_command(running.endpoints['sftp'])}")
        while running.process.poll() is None:
            time.sleep(0.2)


def _sftp_command(sftp: Mapping[str, Any]) -> str:
    """What to type to look into Campaign's SFTP storage."""
    known = f"-o UserKnownHostsFile={sftp['known_hosts_file']}"
    return f"sftp -P {sftp['port']} -i {sftp['private_key_file']} {known} {sftp['user']}@{sftp['host']}"


def _wait_until_stopped(process: "subprocess.Popen[bytes]") -> None:
    """Until it ends by itself, or this process is told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()


def _budget() -> dict[str, Any]:
    """Engine calls of today against the configured budget."""
    configured = configuration()
    with staging(configured.settings.staging.path) as file:
        return {"spent": file.ledger.spent().today, "daily_budget": configured.settings.engine_calls.daily_budget}
