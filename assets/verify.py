"""Once a day, whatever runs in between: whether Campaign holds what it is known to hold, and Dynamics is followed.

Nothing is written to either system. It waits its turn for the staging file, so it never comes between the steps of a
sync.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from assets.jobs import QUIET
from assets.keys import campaign_resource, dynamics_table
from assets.steps import POOL, check_metadata, errors_as_failures, retries, severity_of
from d365_campaign import quality
from d365_campaign.checks import Verdict
from d365_campaign.config import Configuration
from d365_campaign.flows.allowance import Allowance
from d365_campaign.flows.apply import EngineCallBudget
from d365_campaign.flows.verify import up_to_date, verify
from d365_campaign.mapping import TableMapping
from resources.campaign import CampaignResource
from resources.dynamics import DynamicsResource
from resources.integration import OpenTable, open_table
from resources.staging import StagingResource

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

VERIFY = "verify"
DAILY = "verify_daily"


def daily_checks(mapping: TableMapping) -> Sequence[dg.AssetCheckKey]:
    """The checks of one table, on what lies outside: a sync takes the checks of its own assets along, and this is none
    of its business, nor its engine calls."""
    source, target = dynamics_table(mapping.source), campaign_resource(mapping.target)
    followed = [dg.AssetCheckKey(source, name) for name in ("snapshot_fresh", "token_age")]
    return [dg.AssetCheckKey(target, "mirror_drift"), *followed]


def verify_checks(integration: Configuration) -> list[dg.AssetChecksDefinition]:
    """A step for each table."""
    return [_checks(mapping, integration) for mapping in integration.tables]


def verify_job(integration: Configuration) -> "UnresolvedAssetJobDefinition":
    """The checks of all tables, one table after the other."""
    checks = [check for table in integration.tables for check in daily_checks(table)]
    return dg.define_asset_job(
        VERIFY,
        selection=dg.AssetSelection.checks(*checks),
        executor_def=dg.in_process_executor,
        config=QUIET,
        description="Read a sample back from Campaign, and see whether Dynamics' changes are followed; write nothing.",
    )


def verify_schedule(
    integration: Configuration, job: "UnresolvedAssetJobDefinition", *, starts_running: bool
) -> dg.ScheduleDefinition:
    """Once a day, in UTC as the budget's days are."""
    hour, minute = integration.settings.checks.verify_at.split(":")
    return dg.ScheduleDefinition(
        DAILY,
        job=job,
        cron_schedule=f"{int(minute)} {int(hour)} * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING if starts_running else dg.DefaultScheduleStatus.STOPPED,
        description="Looks once a day at what no run would notice: checks.verify_at says when.",
    )


def _checks(mapping: TableMapping, integration: Configuration) -> dg.AssetChecksDefinition:
    settings, drift, *followed = integration.settings, *daily_checks(mapping)
    sample = settings.checks.drift_sample

    @dg.multi_asset_check(
        name=f"verify_{mapping.name}",
        specs=[
            dg.AssetCheckSpec(
                drift.name,
                asset=drift.asset_key,
                description=f"{sample} records a day, chosen at random, are read back: an engine call each.",
            ),
            *(dg.AssetCheckSpec(check.name, asset=check.asset_key) for check in followed),
        ],
        description=f"What no run would notice about {mapping.source} and {mapping.target}.",
        pool=POOL,
        retry_policy=retries(settings.run),
    )
    def looked(
        dynamics: DynamicsResource, campaign: CampaignResource, staging: StagingResource
    ) -> Iterator[dg.AssetCheckResult]:
        with errors_as_failures(), open_table(mapping, integration, dynamics, campaign, staging) as table:
            verdicts = up_to_date(table.store, table.source, settings.checks, datetime.now(UTC))
            drifted = _drift(table, integration)
        for check, verdict in zip((drift, *followed), (drifted, *verdicts), strict=True):
            yield _result(check, verdict)

    return looked


def _drift(table: OpenTable, integration: Configuration) -> Verdict:
    """Of the day's sample, what an earlier look of today left over; without any, what that one found."""
    settings, store = integration.settings, table.store
    left = settings.checks.drift_sample - store.quality.verified_today()
    if left <= 0:
        found = store.quality.drifted()
        earlier = quality.DriftLook(store.quality.verified_today(), store.mirrored(), found)
        return quality.mirror_drift(earlier, settings.checks, table.bound.name)
    limits = settings.engine_calls
    budget = EngineCallBudget(limits.daily_budget, limits.monthly_budget, limits.other_calls)
    look = verify(
        store,
        table.target,
        sample=left,
        allowance=Allowance(budget.left(table.ledger)),
        workers=settings.campaign.workers,
        repair=settings.checks.repair_drift,
    )
    return quality.mirror_drift(look, settings.checks, table.bound.name)


def _result(check: dg.AssetCheckKey, verdict: Verdict) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=check.asset_key,
        check_name=verdict.name,
        passed=verdict.passed,
        severity=severity_of(verdict),
        description=verdict.description,
        metadata=check_metadata(verdict),
    )
