"""Dynamics to Campaign: three assets for each table mapping."""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple

import dagster as dg
from pydantic import Field

from assets.columns import Metadata, Shape
from assets.keys import dynamics_table
from assets.plan_table import plan_table
from assets.steps import POOL, URGENT, check_result, check_specs, errors_as_failures, retries
from d365_campaign import checks
from d365_campaign.blackout import blackout_end
from d365_campaign.changes import ApplySummary, Latency, Plan, PullSummary, Replay, Spent
from d365_campaign.config import Configuration
from d365_campaign.flows.allowance import Allowance
from d365_campaign.flows.apply import EngineCallBudget, Pace, apply
from d365_campaign.flows.deadline import Deadline
from d365_campaign.flows.guards import Guards
from d365_campaign.flows.plan import plan
from d365_campaign.flows.pull import pull
from d365_campaign.flows.quality import WRITTEN, planned_verdicts, pulled_verdicts, written_verdicts
from d365_campaign.mapping import CONTACT, TableMapping
from d365_campaign.settings import EngineCallSettings, Settings
from resources.campaign import CampaignResource
from resources.dynamics import DynamicsResource
from resources.integration import open_table
from resources.staging import StagingResource

# A table that is blocked is looked at again after so long: a person may have given their word.
BLOCKED_AGAIN_SECONDS = 60


class TableKeys(NamedTuple):
    """The asset keys of one table mapping, in the order in which they are made."""

    snapshot: dg.AssetKey
    change_set: dg.AssetKey
    target: dg.AssetKey

    @classmethod
    def of(cls, mapping: TableMapping) -> "TableKeys":
        return cls(
            dg.AssetKey(["dynamics", mapping.source]),
            dg.AssetKey(["change_set", mapping.name]),
            dg.AssetKey(["campaign", mapping.target]),
        )


class SnapshotConfig(dg.Config):
    """What a person may ask of one run."""

    replay: Replay | None = Field(
        default=None,
        description="Read every record again, and send what differs; FORCED looks at each of them in Campaign too.",
    )


def table_assets(mapping: TableMapping, integration: Configuration) -> list[dg.AssetsDefinition]:
    """Snapshot, change set and Campaign resource of *mapping*.

    Change sets and resources depend on those of the tables that links lead to: parents are planned and written first.
    They also depend on the change sets of their children, which are deleted before them.
    """
    tables = integration.tables
    parents = [TableKeys.of(table) for table in tables if table.name in {link.parent for link in mapping.links}]
    children = [TableKeys.of(table) for table in tables if mapping.name in {link.parent for link in table.links}]
    return [
        _snapshot(mapping, integration),
        _change_set(mapping, integration, [keys.change_set for keys in parents]),
        _target(mapping, integration, [*(keys.target for keys in parents), *(keys.change_set for keys in children)]),
    ]


def _snapshot(mapping: TableMapping, integration: Configuration) -> dg.AssetsDefinition:
    key, source, settings = TableKeys.of(mapping).snapshot, dynamics_table(mapping.source), integration.settings

    @dg.asset(
        key=key,
        deps=[source],
        group_name=mapping.name,
        kinds={"duckdb"},
        tags={"table": mapping.name},
        op_tags=URGENT if mapping.source == CONTACT and integration.opt_outs.pairs else None,
        pool=POOL,
        retry_policy=retries(settings.run),
        check_specs=check_specs(key, *checks.KEY_CHECKS, "volume"),
        description=(
            f"What Dynamics holds in **{mapping.source}**, one row per record, as of the last change it told us of. "
            "Kept in the staging file by change tracking: only what changed is read."
        ),
    )
    def snapshot(
        config: SnapshotConfig, dynamics: DynamicsResource, campaign: CampaignResource, staging: StagingResource
    ) -> dg.MaterializeResult:
        with errors_as_failures(), open_table(mapping, integration, dynamics, campaign, staging) as table:
            if config.replay is not None:
                table.store.desk.request_replay(config.replay, settings.guardrails.max_replay_records)
            pulled = pull(table.source, table.store, Deadline(settings.run.pull_seconds))
            return dg.MaterializeResult(
                metadata=_pull_metadata(pulled) | Shape.asked(table.bound).snapshot(source),
                check_results=[*map(check_result, pulled_verdicts(table.store, pulled, settings.checks))],
            )

    return snapshot


def _pull_metadata(pulled: PullSummary) -> Metadata:
    return {
        "dagster/row_count": pulled.records,
        "rows_read": pulled.rows,
        "rows_removed": pulled.removed,
        "pages": pulled.pages,
        "rows_per_second": round(pulled.rows / pulled.seconds, 1) if pulled.seconds else 0.0,
        "seconds": round(pulled.seconds, 3),
        "full_read": pulled.full_read,
        "caught_up": pulled.caught_up,
        "delta_link": pulled.delta_link or "",
    }


def _change_set(
    mapping: TableMapping, integration: Configuration, parents: Sequence[dg.AssetKey]
) -> dg.AssetsDefinition:
    keys, settings = TableKeys.of(mapping), integration.settings

    @dg.asset(
        key=keys.change_set,
        deps=[keys.snapshot, *parents],
        group_name=mapping.name,
        kinds={"duckdb"},
        tags={"table": mapping.name},
        pool=POOL,
        retry_policy=retries(settings.run),
        check_specs=check_specs(keys.change_set, *checks.GUARDS, "values_convert", "texts_fit"),
        description=(
            f"What differs between Dynamics **{mapping.source}** and Campaign **{mapping.target}**, one row per "
            "record, and the engine calls it takes to settle it. An unchanged record has no row and costs nothing."
        ),
    )
    def change_set(
        dynamics: DynamicsResource, campaign: CampaignResource, staging: StagingResource
    ) -> dg.MaterializeResult:
        with errors_as_failures(), open_table(mapping, integration, dynamics, campaign, staging) as table:
            allowance = Allowance(_budget(settings.engine_calls).left(table.ledger))
            planned = plan(table.store, table.target, allowance=allowance)
            return dg.MaterializeResult(
                metadata=_plan_metadata(mapping, planned) | Shape.asked(table.bound).change_set(keys.snapshot),
                check_results=[*map(check_result, planned_verdicts(table.store, guards_of(settings)))],
            )

    return change_set


def _plan_metadata(mapping: TableMapping, planned: Plan) -> Metadata:
    summary = planned.summary
    return {
        "plan": dg.MetadataValue.md(plan_table(planned, mapping.source, mapping.target)),
        "dagster/row_count": summary.open + summary.refused + summary.deferred + summary.held,
        "to_insert": summary.insert,
        "to_update": summary.update,
        "to_adopt": summary.adopt,
        "to_delete": summary.delete,
        "unchanged": summary.unchanged,
        "filtered_out": summary.filtered_out,
        "refused": summary.refused,
        "deferred": summary.deferred,
        "held": summary.held,
        "scanned": planned.scanned,
        "scan_calls": planned.scan_calls,
        "engine_calls": summary.engine_calls,
        "engine_calls_adobe": planned.engine_calls_adobe,
        "compared_everything": summary.full,
        "busiest_fields": dg.MetadataValue.json(dict(planned.busiest_fields)),
        "sample_keys": dg.MetadataValue.json(dict(planned.sample_keys)),
    }


def _target(mapping: TableMapping, integration: Configuration, linked: Sequence[dg.AssetKey]) -> dg.AssetsDefinition:
    keys, settings = TableKeys.of(mapping), integration.settings

    @dg.asset(
        key=keys.target,
        deps=[keys.change_set, *linked],
        group_name=mapping.name,
        kinds={"adobecampaign"},
        tags={"table": mapping.name},
        pool=POOL,
        retry_policy=retries(settings.run),
        check_specs=check_specs(keys.target, checks.NOT_BLOCKED, *WRITTEN, "daily_budget", "monthly_budget"),
        description=(
            f"Campaign **{mapping.target}** in step with Dynamics **{mapping.source}**: the change set written record "
            f"by record, paired by `{mapping.key.target}` = `{mapping.key.source}`. What is left is the backlog, which "
            "the next run takes up."
        ),
    )
    def target(
        context: dg.AssetExecutionContext,
        dynamics: DynamicsResource,
        campaign: CampaignResource,
        staging: StagingResource,
    ) -> dg.MaterializeResult:
        with errors_as_failures(), open_table(mapping, integration, dynamics, campaign, staging) as table:
            applied = apply(
                table.store,
                table.ledger,
                table.target,
                pace=_pace(settings),
                budget=_budget(settings.engine_calls),
                guards=guards_of(settings),
                deadline=Deadline(settings.run.write_seconds),
            )
            opt_outs = table.store.opt_outs.compare().open if table.store.opt_outs else 0
            for reject in applied.rejects:
                context.log.warning(f"{mapping.target} {reject.key}: {reject.reason}")
            return dg.MaterializeResult(
                metadata=_apply_metadata(applied)
                | {"resumes_at": _resumes_at(applied, settings), "opt_outs_open": opt_outs}
                | Shape.asked(table.bound).target(keys.change_set),
                check_results=[
                    *map(check_result, written_verdicts(table.store, applied, guards_of(settings), settings.checks)),
                    *map(check_result, _budget_verdicts(applied.spent, settings.engine_calls)),
                ],
            )

    return target


def _apply_metadata(applied: ApplySummary) -> Metadata:
    written = applied.inserted + applied.updated + applied.deleted + applied.identical
    return {
        "dagster/row_count": applied.mirrored,
        "inserted": applied.inserted,
        "updated": applied.updated,
        "deleted": applied.deleted,
        "identical": applied.identical,
        "unchanged": applied.unchanged,
        "refused": applied.refused,
        "deferred": applied.deferred,
        "held": applied.held,
        "backlog": applied.backlog,
        "engine_calls": applied.engine_calls,
        "engine_calls_adobe": applied.engine_calls_adobe,
        "engine_calls_saved": applied.engine_calls_adobe - applied.engine_calls,
        "rows_per_second": round(written / applied.seconds, 1) if applied.seconds else 0.0,
        "seconds": round(applied.seconds, 3),
        **_latency(applied.latency),
        "stopped_by": applied.stopped_by or "",
        "refused_sample": dg.MetadataValue.json({reject.key: reject.reason for reject in applied.rejects}),
        "deferred_sample": dg.MetadataValue.json(dict(applied.waiting)),
    }


def _latency(latency: Latency | None) -> Metadata:
    """From a change in Dynamics until it stood in Campaign; no figure where none was written."""
    if latency is None:
        return {}
    return {
        "latency_seconds": round(latency.longest_seconds, 3),
        "latency_seconds_median": round(latency.median_seconds, 3),
    }


def _budget_verdicts(spent: Spent, limits: EngineCallSettings) -> list[checks.Verdict]:
    this_month = spent.this_month + limits.other_calls
    return [
        checks.engine_call_budget(spent.today, limits.daily_budget, limits.warn_at, "daily"),
        checks.engine_call_budget(this_month, limits.monthly_budget, limits.warn_at, "monthly"),
    ]


def _resumes_at(applied: ApplySummary, settings: Settings) -> float:
    """The moment (epoch) before which another run could write nothing: the budget's next day, or a blackout's end.

    A run spends what was left on the day it began. Of a table that is blocked nobody knows; it is looked at now and
    then.
    """
    now = datetime.now(UTC)
    if applied.stopped_by in checks.BLOCKING:
        return now.timestamp() + BLOCKED_AGAIN_SECONDS
    if applied.stopped_by == "budget":
        began = (now - timedelta(seconds=applied.seconds)).date()
        return datetime.combine(began + timedelta(days=1), time.min, UTC).timestamp()
    end = blackout_end(settings.run.blackout_windows, now) if applied.stopped_by == "blackout" else None
    return end.timestamp() if end else 0.0


def _pace(settings: Settings) -> Pace:
    windows = settings.run.blackout_windows
    return Pace(
        workers=settings.campaign.workers,
        batch_size=settings.run.batch_size,
        max_attempts=settings.run.reject_attempts,
        blackout=lambda: blackout_end(windows, datetime.now(UTC)) is not None,
    )


def _budget(limits: EngineCallSettings) -> EngineCallBudget:
    return EngineCallBudget(limits.daily_budget, limits.monthly_budget, limits.other_calls)


def guards_of(settings: Settings) -> Guards:
    """What a plan may not do without a person's word."""
    limits = settings.guardrails
    return Guards(limits.max_delete_share, limits.min_deletes, limits.large_load_records, limits.max_initial_records)
