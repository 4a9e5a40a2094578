"""`check`: whether everything that a run needs is in place, on one page."""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from d365_campaign.clients.campaign import CampaignClient
from d365_campaign.clients.dataverse import DataverseClient
from d365_campaign.clients.throttle import RetryPolicy, ThrottleGate
from d365_campaign.clients.tokens import ClientCredentials, TokenSource
from d365_campaign.clients.wire import WireSettings
from d365_campaign.config import Configuration
from d365_campaign.errors import ConfigurationError
from d365_campaign.flows.findings import Finding, Judgement
from d365_campaign.flows.preflight import THREADS, preflight, refused_configuration
from d365_campaign.settings import CampaignSettings, DynamicsSettings, EnvironmentReference, Settings, Value

# A person waits for the page, so a system that doesn't answer is given up sooner than in a run.
PATIENCE = RetryPolicy(attempts=2, max_wait_seconds=5, longest_wait_seconds=2)
CONNECT_SECONDS, READ_SECONDS, TOTAL_SECONDS = 5.0, 20.0, 60.0
MARKS: dict[Judgement, tuple[str, str]] = {"fine": ("✓", "green"), "warning": ("!", "yellow"), "wrong": ("✗", "red")}


@click.command()
@click.argument("table", required=False)
@click.option(
    "--scan-keys", is_flag=True, help="Also look for doubled keys in Campaign, at an engine call for 1,000 records."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a page.")
def check(table: str | None, scan_keys: bool, as_json: bool) -> None:
    """Say of both systems and each table what is fine, what is wrong and how to put it right; only reads.

    Ends with 1 when something would stop a run; warnings don't.

    \b
    Example:  d365-campaign check contact
    """
    from d365_campaign import definitions  # dagster takes seconds to import; --help should not

    configured: Configuration | None = None
    try:
        configured = definitions.edited_configuration()
        findings = _looked_at(configured, table, scan_keys=scan_keys)
    except ConfigurationError as error:
        findings = refused_configuration(error)
    if as_json:
        _print_json(configured, findings)
    else:
        _print_page(configured, findings)
    sys.exit(1 if _worst(findings) == "wrong" else 0)


def _looked_at(configured: Configuration, table: str | None, *, scan_keys: bool) -> list[Finding]:
    if table is not None and table not in (mapping.name for mapping in configured.tables):
        named = ", ".join(mapping.name for mapping in configured.tables)
        raise click.BadParameter(f"there is no table mapping '{table}'; there are: {named}", param_hint="TABLE")
    with ExitStack() as stack:

        def dynamics() -> DataverseClient:
            client = _dynamics(configured.settings)
            stack.callback(client.close)
            return client

        def campaign() -> CampaignClient:
            client = _campaign(configured.settings)
            stack.callback(client.close)
            return client

        return preflight(configured, dynamics, campaign, table=table, scan_keys=scan_keys)


# --- the clients of a run, only less patient ------------------------------------------------------------------------


def _dynamics(settings: Settings) -> DataverseClient:
    system = settings.dynamics
    url, credentials, wire = _connection(settings, system, scope=None)
    return DataverseClient(url, TokenSource("Dynamics", credentials, wire), retry=PATIENCE, wire=wire)


def _campaign(settings: Settings) -> CampaignClient:
    system = settings.campaign
    url, credentials, wire = _connection(settings, system, scope=system.scope)
    tokens, gate = TokenSource("Campaign", credentials, wire), ThrottleGate(system.max_requests_per_second)
    return CampaignClient(url, credentials.client_id, tokens, gate=gate, retry=PATIENCE, wire=wire)


def _connection(
    settings: Settings, system: DynamicsSettings | CampaignSettings, *, scope: str | None
) -> tuple[str, ClientCredentials, WireSettings]:
    """Address, credentials and trust; without a *scope* it is the address's own, as Entra ID wants it."""
    values = (system.url, system.token_url, system.client_id, system.client_secret, settings.ca_bundle or "")
    url, token_url, client_id, client_secret, ca_bundle = _from_environment(values, settings.environment_file)
    wire = WireSettings(
        connect_timeout_seconds=CONNECT_SECONDS,
        read_timeout_seconds=min(READ_SECONDS, system.read_timeout_seconds),
        total_timeout_seconds=min(TOTAL_SECONDS, system.total_timeout_seconds),
        ca_bundle=Path(ca_bundle) if ca_bundle else None,
        proxy=settings.proxy,
        workers=THREADS,
    )
    scope = f"{url.rstrip('/')}/.default" if scope is None else scope
    return url, ClientCredentials(token_url, client_id, client_secret, scope), wire


def _from_environment(values: Sequence[Value], file: Path | None) -> Sequence[str]:
    """The values with those of environment variables. Raises ConfigurationError that names each one missing."""
    missing = [
        value.env for value in values if isinstance(value, EnvironmentReference) and not os.environ.get(value.env)
    ]
    if missing:
        variables, them = ("variables", "them") if len(missing) > 1 else ("variable", "it")
        are = "are" if len(missing) > 1 else "is"
        absent = "" if file is None or file.exists() else " (there is no such file)"
        into_file = f", or write {them} into {file.resolve()}{absent}" if file else ""
        raise ConfigurationError(f"environment {variables} {', '.join(missing)} {are} not set. Set {them}{into_file}.")
    return [value if isinstance(value, str) else os.environ[value.env] for value in values]


# --- the page -------------------------------------------------------------------------------------------------------


def _print_json(configured: Configuration | None, findings: Sequence[Finding]) -> None:
    shown = {
        "environment": configured and configured.settings.environment,
        "verdict": _worst(findings),
        "findings": [
            {
                "area": found.area,
                "subject": found.subject,
                "verdict": found.verdict,
                "words": found.words,
                "fix": found.fix,
            }
            for found in findings
        ],
    }
    click.echo(json.dumps(shown, indent=2))


def _worst(findings: Sequence[Finding]) -> Judgement:
    return max((found.verdict for found in findings), key=list(MARKS).index, default="fine")


def _print_page(configured: Configuration | None, findings: Sequence[Finding]) -> None:
    console = Console(highlight=False)
    headings = (
        {mapping.name: f"{mapping.name} > {mapping.target}" for mapping in configured.tables} if configured else {}
    )
    for area, found in groupby(findings, key=lambda finding: finding.area):
        console.print(Text(headings.get(area, area), style="bold"))
        if console.is_terminal:
            console.print(_rows(list(found)))
        else:
            for finding in found:
                _print_plainly(finding)
        console.print()
    wrong, warnings = (sum(found.verdict == verdict for found in findings) for verdict in ("wrong", "warning"))
    console.print(f"{wrong} wrong, {warnings} warning{'' if warnings == 1 else 's'}.", style="bold")


def _rows(findings: Sequence[Finding]) -> Table:
    """Marks beside words that wrap; a fix begins a line of its own."""
    rows = Table.grid(padding=(0, 1))
    rows.add_column()
    rows.add_column(overflow="fold")
    for found in findings:
        mark, colour = MARKS[found.verdict]
        words = Text.assemble((f"{found.subject}: ", "bold"), found.words)
        if found.fix:
            words.append(f"\n→ {found.fix}", style=colour)
        rows.add_row(Text(f"  {mark}", style=colour), words)
    return rows


def _print_plainly(found: Finding) -> None:
    """For files, pipes and mail: a line for what is, and one for what to do, however long they are."""
    click.echo(f"  {found.verdict:<8} {found.subject}: {found.words}")
    if found.fix:
        click.echo(f"  {'':<8} -> {found.fix}")
