"""Dynamics to Campaign: three assets for each table mapping."""

from typing import NamedTuple

import dagster as dg

from assets import columns
from assets.steps import POOL, check_result, errors_as_failures, retries
from d365_campaign import checks
from d365_campaign.changes import ApplySummary, Plan, PullSummary, Spent
from d365_campaign.config import EngineCallSettings, Settings
from d365_campaign.flows.apply import EngineCallBudget, MassDeleteLimit, Pace, apply
from d365_campaign.flows.deadline import Deadline
from d365_campaign.flows.plan import plan
from d365_campaign.flows.pull import pull
from d365_campaign.mapping import TableMapping
from resources.campaign import CampaignResource
from resources.dynamics import DynamicsResource
from resources.integration import open_table
from resources.staging import StagingResource

OWNERS = ["team:crm"]


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


def table_assets(mapping: TableMapping, settings: Settings) -> list[dg.AssetsDefinition]:
    """Snapshot, change set and Campaign resource of *mapping*."""
    return [_snapshot(mapping, settings), _change_set(mapping, settings), _target(mapping, settings)]


def _snapshot(mapping: TableMapping, settings: Settings) -> dg.AssetsDefinition:
    key = TableKeys.of(mapping).snapshot

    @dg.asset(
        key=key,
        group_name=mapping.name,
        kinds={"dynamics365", "duckdb"},
        owners=OWNERS,
        tags={"table": mapping.name},
        pool=POOL,
        retry_policy=retries(settings.run),
        check_specs=[dg.AssetCheckSpec("keys_unique", asset=key, blocking=True)],
        description=(
            f"What Dynamics holds in **{mapping.source}**, one row per record, as of the last change it told us of. "
            "Kept in the staging file by change tracking: only what changed is read."
        ),
    )
    def snapshot(
        dynamics: DynamicsResource, campaign: CampaignResource, staging: StagingResource
    ) -> dg.MaterializeResult:
        with errors_as_failures(), open_table(mapping, dynamics, campaign, staging) as table:
            pulled = pull(table.source, table.store, Deadline(settings.run.pull_seconds))
            return dg.MaterializeResult(
                metadata=_pull_metadata(pulled) | columns.of_snapshot(table.bound),
                check_results=[check_result(checks.keys_unique(pulled.repeated))],
            )

    return snapshot


def _pull_metadata(pulled: PullSummary) -> columns.Metadata:
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


def _change_set(mapping: TableMapping, settings: Settings) -> dg.AssetsDefinition:
    keys = TableKeys.of(mapping)

    @dg.asset(
        key=keys.change_set,
        deps=[keys.snapshot],
        group_name=mapping.name,
        kinds={"duckdb"},
        owners=OWNERS,
        tags={"table": mapping.name},
        pool=POOL,
        retry_policy=retries(settings.run),
        check_specs=[dg.AssetCheckSpec("delete_share", asset=keys.change_set, blocking=True)],
        description=(
            f"What differs between Dynamics **{mapping.source}** and Campaign **{mapping.target}**, one row per "
            "record, and the engine calls it takes to settle it. An unchanged record has no row and costs nothing."
        ),
    )
    def change_set(
        dynamics: DynamicsResource, campaign: CampaignResource, staging: StagingResource
    ) -> dg.MaterializeResult:
        with errors_as_failures(), open_table(mapping, dynamics, campaign, staging) as table:
            planned = plan(table.store, table.target)
            verdict = _limit(settings).verdict(planned.summary, planned.mirrored)
            return dg.MaterializeResult(
                metadata=_plan_metadata(planned) | columns.of_change_set(table.bound, keys.snapshot),
                check_results=[check_result(verdict)],
            )

    return change_set


def _plan_metadata(planned: Plan) -> columns.Metadata:
    summary = planned.summary
    return {
        "dagster/row_count": summary.open + summary.refused,
        "to_insert": summary.insert,
        "to_update": summary.update,
        "to_adopt": summary.adopt,
        "to_delete": summary.delete,
        "unchanged": summary.unchanged,
        "refused": summary.refused,
        "engine_calls": summary.engine_calls,
        "engine_calls_adobe": planned.engine_calls_adobe,
        "compared_everything": summary.full,
        "busiest_fields": dg.MetadataValue.json(dict(planned.busiest_fields)),
        "sample_keys": dg.MetadataValue.json(dict(planned.sample_keys)),
    }


def _target(mapping: TableMapping, settings: Settings) -> dg.AssetsDefinition:
    keys = TableKeys.of(mapping)

    @dg.asset(
        key=keys.target,
        deps=[keys.change_set],
        group_name=mapping.name,
        kinds={"adobecampaign"},
        owners=OWNERS,
        tags={"table": mapping.name},
        pool=POOL,
        retry_policy=retries(settings.run),
        check_specs=[
            dg.AssetCheckSpec(name, asset=keys.target) for name in ("none_refused", "daily_budget", "monthly_budget")
        ],
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
        with errors_as_failures(), open_table(mapping, dynamics, campaign, staging) as table:
            applied = apply(
                table.store,
                table.ledger,
                table.target,
                pace=Pace(settings.campaign.workers, settings.run.batch_size),
                budget=EngineCallBudget(settings.engine_calls.daily_budget, settings.engine_calls.monthly_budget),
                mass_delete=_limit(settings),
                deadline=Deadline(settings.run.write_seconds),
            )
            for reject in applied.rejects:
                context.log.warning(f"{mapping.target} {reject.key}: {reject.reason}")
            return dg.MaterializeResult(
                metadata=_apply_metadata(applied) | columns.of_target(table.bound, keys.change_set),
                check_results=[
                    check_result(checks.none_refused(applied.refused)),
                    *map(check_result, _budget_verdicts(applied.spent, settings.engine_calls)),
                ],
            )

    return target


def _apply_metadata(applied: ApplySummary) -> columns.Metadata:
    written = applied.inserted + applied.updated + applied.deleted + applied.identical
    return {
        "dagster/row_count": applied.mirrored,
        "inserted": applied.inserted,
        "updated": applied.updated,
        "deleted": applied.deleted,
        "identical": applied.identical,
        "unchanged": applied.unchanged,
        "refused": applied.refused,
        "backlog": applied.backlog,
        "engine_calls": applied.engine_calls,
        "engine_calls_adobe": applied.engine_calls_adobe,
        "engine_calls_saved": applied.engine_calls_adobe - applied.engine_calls,
        "rows_per_second": round(written / applied.seconds, 1) if applied.seconds else 0.0,
        "seconds": round(applied.seconds, 3),
        "stopped_by": applied.stopped_by or "",
    }


def _budget_verdicts(spent: Spent, limits: EngineCallSettings) -> list[checks.Verdict]:
    return [
        checks.engine_call_budget(spent.today, limits.daily_budget, limits.warn_at, "daily"),
        checks.engine_call_budget(spent.this_month, limits.monthly_budget, limits.warn_at, "monthly"),
    ]


def _limit(settings: Settings) -> MassDeleteLimit:
    return MassDeleteLimit(settings.guardrails.max_delete_share, settings.guardrails.min_deletes)
