"""`verify`: what the daily job looks at, now and for a person."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import click

from d365_campaign import quality
from d365_campaign.binding import bind
from d365_campaign.checks import Verdict
from d365_campaign.clients.campaign import CampaignClient
from d365_campaign.clients.dataverse import DataverseClient
from d365_campaign.commands import systems
from d365_campaign.commands.common import staging
from d365_campaign.commands.output import json_option, print_json, say
from d365_campaign.commands.progress import shown_progress
from d365_campaign.config import Configuration
from d365_campaign.flows.allowance import Allowance
from d365_campaign.flows.apply import EngineCallBudget
from d365_campaign.flows.verify import up_to_date
from d365_campaign.flows.verify import verify as look
from d365_campaign.mapping import TableMapping
from d365_campaign.store.staging import Staging

# A run can't open the staging file meanwhile, and tries again for a while.
MOST = 500


@click.command()
@click.argument("table", required=False)
@click.option(
    "--sample",
    type=click.IntRange(0, MOST),
    help="Records of each table to read back, an engine call each; default checks.drift_sample.",
)
@click.option("--repair", is_flag=True, help="Let the next sync bring what was changed back to what Dynamics says.")
@json_option("{TABLE: [{check, passed, description, keys, ...}]}")
def verify(table: str | None, sample: int | None, repair: bool, as_json: bool) -> None:
    """Read a random sample back from Campaign, and compare it.

    What Campaign holds is compared with what it is known to hold; neither system is written. It also tells whether
    Dynamics' changes are read, and how long the delta token lasts.
    The daily job does the same. Ends with 1 when a check fails.

    \b
    Example:  d365-campaign verify contact --sample 200
    """
    from d365_campaign import definitions  # dagster takes seconds to import; --help should not

    configured = definitions.edited_configuration()
    tables = configured.tables if table is None else [configured.table(table)]
    with ExitStack() as stack:
        stack.enter_context(shown_progress(quiet=as_json))
        dynamics, campaign = systems.dynamics(configured.settings), systems.campaign(configured.settings)
        stack.callback(dynamics.close)
        stack.callback(campaign.close)
        size = configured.settings.checks.drift_sample if sample is None else sample
        found = {each.name: _verdicts(each, configured, dynamics, campaign, size, repair=repair) for each in tables}
    if as_json:
        print_json({name: [*map(_as_json, verdicts)] for name, verdicts in found.items()})
    else:
        _print(found)
    if any(not verdict.passed for verdicts in found.values() for verdict in verdicts):
        sys.exit(1)


def _verdicts(
    mapping: TableMapping,
    configured: Configuration,
    dynamics: DataverseClient,
    campaign: CampaignClient,
    sample: int,
    *,
    repair: bool,
) -> Sequence[Verdict]:
    settings = configured.settings
    described = dynamics.describe(mapping.source), campaign.describe(mapping.target)
    bound = bind(mapping, *described, configured.tables, configured.opt_outs)
    repairs = repair or settings.checks.repair_drift
    checks = settings.checks.model_copy(update={"repair_drift": repairs})
    with staging(settings.staging.path) as file:
        file.desk(mapping.name)  # before a table's first run there is nothing to verify
        store = file.table(bound)
        found = look(
            store,
            campaign.target(bound.target, mapping.key.target),
            sample=sample,
            allowance=Allowance(_left(configured, file)),
            workers=settings.campaign.workers,
            repair=repairs,
        )
        told = quality.mirror_drift(found, checks, mapping.name)
        return [told, *up_to_date(store, dynamics, checks, datetime.now(UTC))]


def _left(configured: Configuration, file: Staging) -> int | None:
    limits = configured.settings.engine_calls
    return EngineCallBudget(limits.daily_budget, limits.monthly_budget, limits.other_calls).left(file.ledger)


def _as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "check": verdict.name,
        "passed": verdict.passed,
        "description": verdict.description,
        "keys": list(verdict.keys),
        **verdict.metadata,
    }


def _print(found: Mapping[str, Sequence[Verdict]]) -> None:
    for name, verdicts in found.items():
        for verdict in verdicts:
            keys = f" For instance {', '.join(verdict.keys)}." if verdict.keys else ""
            say(f"{name}: {'' if verdict.passed else 'FAILED: '}{verdict.description}{keys}")
