"""`check`: whether everything that a run needs is in place, on one page."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import groupby

import click
from rich.table import Table
from rich.text import Text

from d365_campaign.clients.campaign import CampaignClient
from d365_campaign.clients.dataverse import DataverseClient
from d365_campaign.commands import systems
from d365_campaign.commands.output import console, json_option, print_json
from d365_campaign.config import Configuration
from d365_campaign.errors import ConfigurationError
from d365_campaign.flows.findings import Finding, Judgement
from d365_campaign.flows.preflight import preflight, refused_configuration

MARKS: dict[Judgement, tuple[str, str]] = {"fine": ("✓", "green"), "warning": ("!", "yellow"), "wrong": ("✗", "red")}


@click.command()
@click.argument("table", required=False)
@click.option(
    "--scan-keys", is_flag=True, help="Also look for doubled keys in Campaign, at an engine call for 1,000 records."
)
@json_option("{environment, verdict, findings: [{area, subject, verdict, words, fix}]}")
def check(table: str | None, scan_keys: bool, as_json: bool) -> None:
    """Tell whether everything is in place, and what is not.

    It says of both systems and each table what is fine, what is wrong and how to put it right, and only reads. Ends
    with 1 when something would stop a run, warnings don't; with 2 when the configuration is refused.

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
    if configured is None:
        sys.exit(2)
    sys.exit(1 if _worst(findings) == "wrong" else 0)


def _looked_at(configured: Configuration, table: str | None, *, scan_keys: bool) -> list[Finding]:
    if table is not None and table not in (mapping.name for mapping in configured.tables):
        named = ", ".join(mapping.name for mapping in configured.tables)
        raise click.BadParameter(f"there is no table mapping '{table}'; there are: {named}", param_hint="TABLE")
    with ExitStack() as stack:

        def dynamics() -> DataverseClient:
            client = systems.dynamics(configured.settings, systems.PATIENCE)
            stack.callback(client.close)
            return client

        def campaign() -> CampaignClient:
            client = systems.campaign(configured.settings, systems.PATIENCE)
            stack.callback(client.close)
            return client

        def storage() -> systems.SftpStorage:
            return systems.sftp(configured.settings)

        return preflight(configured, dynamics, campaign, storage, table=table, scan_keys=scan_keys)


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
    print_json(shown)


def _worst(findings: Sequence[Finding]) -> Judgement:
    return max((found.verdict for found in findings), key=list(MARKS).index, default="fine")


def _print_page(configured: Configuration | None, findings: Sequence[Finding]) -> None:
    page = console()
    headings = (
        {mapping.name: f"{mapping.name} > {mapping.target}" for mapping in configured.tables} if configured else {}
    )
    for area, found in groupby(findings, key=lambda finding: finding.area):
        page.print(Text(headings.get(area, area), style="bold"))
        if page.is_terminal:
            page.print(_rows(list(found)))
        else:
            for finding in found:
                _print_plainly(finding)
        page.print()
    wrong, warnings = (sum(found.verdict == verdict for found in findings) for verdict in ("wrong", "warning"))
    page.print(f"{wrong} wrong, {warnings} warning{'' if warnings == 1 else 's'}.", style="bold")


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
