"""Opt-outs: what both systems say flows into one state, and from there to where it is missing."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from assets.ingress import TableKeys
from assets.keys import sftp_folder
from assets.steps import POOL, URGENT, check_result, errors_as_failures, retries
from d365_campaign import opt_out_checks as checks
from d365_campaign.checks import Verdict
from d365_campaign.config import Configuration
from d365_campaign.errors import SyncError
from d365_campaign.flows.deadline import Deadline
from d365_campaign.flows.exports import Taken, take_exports
from d365_campaign.flows.guards import key_verdicts
from d365_campaign.flows.opt_outs import write_to_campaign, write_to_dynamics
from d365_campaign.flows.plan import scan
from d365_campaign.mapping import CONTACT, TableMapping
from d365_campaign.opt_out_changes import OptOutSummary, WriteBacks
from resources.campaign import CampaignResource
from resources.dynamics import DynamicsResource
from resources.integration import OpenTable, open_table
from resources.sftp import SftpResource
from resources.staging import StagingResource

GROUP = "opt_outs"
EXPORTS = dg.AssetKey(["sftp", "opt_out_exports"])
STATE = dg.AssetKey(["opt_outs", "state"])
TO_CAMPAIGN = dg.AssetKey(["opt_outs", "to_campaign"])
TO_DYNAMICS = dg.AssetKey(["opt_outs", "to_dynamics"])
# Fewer than nobody's: not even whoever turns out to have opted in again, once they were read.
NO_OPT_IN = -1
WATCHED = ("sftp_reachable", "exports_readable", "exports_fresh", "workflow_runs", "sftp_capacity")

Metadata = dict[str, Any]


def opt_out_keys(integration: Configuration) -> Sequence[dg.AssetKey]:
    """The assets of the configured direction, in the order in which they are made; none where it is disabled."""
    direction = integration.opt_outs.direction
    if not integration.opt_outs.pairs:
        return []
    return [
        *([EXPORTS] if direction.reads_exports else []),
        STATE,
        *([TO_CAMPAIGN] if direction.writes_campaign or direction.reads_exports else []),
        *([TO_DYNAMICS] if direction.reads_exports else []),
    ]


def opt_out_assets(integration: Configuration) -> list[dg.AssetsDefinition]:
    """Exports, state, and write-backs to both systems, as far as the direction has them.

    They come before everything else in a run, so that an opt-out never waits behind a large load.
    """
    made = {EXPORTS: _exports, STATE: _state, TO_CAMPAIGN: _to_campaign, TO_DYNAMICS: _to_dynamics}
    contact = next((table for table in integration.tables if table.name == CONTACT), None)
    return [made[key](contact, integration) for key in opt_out_keys(integration)] if contact else []


def _exports(contact: TableMapping, integration: Configuration) -> dg.AssetsDefinition:
    settings = integration.settings
    chosen = settings.opt_outs

    @dg.asset(
        key=EXPORTS,
        deps=[sftp_folder(chosen.exports.folder)],
        kinds={"csv", "sftp", "duckdb"},
        check_specs=[dg.AssetCheckSpec(name, asset=EXPORTS) for name in WATCHED],
        description=(
            f"Campaign's daily opt-out files: workflow **{chosen.workflow}** writes what changed to "
            f"`{chosen.exports.folder}`; each file is taken in once, whatever its name."
        ),
        group_name=GROUP,
        tags={"direction": integration.opt_outs.direction.value},
        op_tags=URGENT,
        pool=POOL,
        retry_policy=retries(integration.settings.run),
    )
    def exports(
        context: dg.AssetExecutionContext,
        dynamics: DynamicsResource,
        campaign: CampaignResource,
        staging: StagingResource,
        sftp: SftpResource,
    ) -> dg.MaterializeResult:
        with errors_as_failures(), open_table(contact, integration, dynamics, campaign, staging) as table:
            store = table.store.exports(chosen.exports)
            taken, used, unreachable = Taken(), None, None
            try:
                with sftp.open() as area:
                    taken = take_exports(area, store, chosen.exports, settings.staging.path)
                    used = area.used_bytes()
            except SyncError as error:  # what Dynamics says goes to Campaign all the same
                unreachable = str(error)
                context.log.error(unreachable)
            latest = store.latest_at()
            return dg.MaterializeResult(
                metadata=_exports_metadata(taken, latest) | {"reached": unreachable is None},
                check_results=[
                    check_result(checks.sftp_reachable(unreachable)),
                    check_result(checks.exports_readable(taken.exports, taken.hostile)),
                    check_result(checks.exports_fresh(latest, datetime.now(UTC), chosen.exports, chosen.workflow)),
                    check_result(workflow_runs(campaign, str(chosen.workflow))),
                    check_result(checks.sftp_capacity(used, settings.sftp.quota_gigabytes if settings.sftp else None)),
                ],
            )

    return exports


def workflow_runs(campaign: CampaignResource, workflow: str) -> Verdict:
    """Whether the workflow that exports opt-outs is on, as Campaign tells now."""
    try:
        return checks.workflow_runs(campaign.client.workflow_state(workflow), workflow)
    except SyncError as error:
        return checks.workflow_unknown(str(error))


def _exports_metadata(taken: Taken, latest: datetime) -> Metadata:
    return {
        "files": len(taken.exports),
        "rows": sum(export.rows for export in taken.exports),
        "unreadable": sum(export.unreadable for export in taken.exports),
        "without_key": sum(export.without_key for export in taken.exports),
        "refused": dg.MetadataValue.json({e.name: e.refused for e in taken.exports if e.refused}),
        "uploading": dg.MetadataValue.json(list(taken.uploading)),
        "latest_at": latest.timestamp(),
    }


def _state(contact: TableMapping, integration: Configuration) -> dg.AssetsDefinition:
    keys = TableKeys.of(contact)

    @dg.asset(
        key=STATE,
        deps=[keys.snapshot, *([EXPORTS] if integration.opt_outs.direction.reads_exports else [])],
        kinds={"duckdb"},
        check_specs=[dg.AssetCheckSpec("opt_ins", asset=STATE)],
        description=(
            "What both systems say of each opt-out of each person, and what is to be written where they disagree: "
            + "; ".join(f"`{pair.source}` = `{pair.target}`" for pair in integration.opt_outs.pairs)
        ),
        group_name=GROUP,
        tags={"direction": integration.opt_outs.direction.value},
        op_tags=URGENT,
        pool=POOL,
        retry_policy=retries(integration.settings.run),
    )
    def state(dynamics: DynamicsResource, campaign: CampaignResource, staging: StagingResource) -> dg.MaterializeResult:
        with errors_as_failures(), open_table(contact, integration, dynamics, campaign, staging) as table:
            _, calls = scan(table.store, table.target)  # opt-outs pass budgets, and this is what they go by
            summary = table.opt_outs.compare()
            return dg.MaterializeResult(
                metadata=_state_metadata(summary) | {"scan_calls": calls},
                check_results=[check_result(checks.opt_ins(summary, max(0, _max_opt_ins(table, integration))))],
            )

    return state


def _max_opt_ins(table: OpenTable, integration: Configuration) -> int:
    """How many people's opt-outs a run may take back: nobody's while the keys of contacts can't be trusted.

    Of a contact that stands in the snapshot twice it can't be told what Dynamics says. An opt-out is written all the
    same, for one too many does less harm than one that is missing; whom another check blocks keeps opt-outs in step.
    """
    trusted = all(verdict.passed for verdict in key_verdicts(table.store))
    return integration.settings.guardrails.max_opt_ins if trusted else NO_OPT_IN


def _state_metadata(summary: OptOutSummary) -> Metadata:
    return {
        "dagster/row_count": summary.profiles,
        "to_campaign": summary.to_campaign,
        "to_dynamics": summary.to_dynamics,
        "in_doubt": summary.in_doubt,
        "opt_ins": summary.opt_ins,
        "held": summary.held,
    }


def _to_campaign(contact: TableMapping, integration: Configuration) -> dg.AssetsDefinition:
    settings = integration.settings
    last = TO_DYNAMICS not in opt_out_keys(integration)

    @dg.asset(
        key=TO_CAMPAIGN,
        deps=[STATE],
        kinds={"adobecampaign"},
        check_specs=[dg.AssetCheckSpec("opt_outs_agree", asset=TO_CAMPAIGN)] if last else None,
        description="Opt-outs written to profiles; each is read first, so what is decided holds at that moment.",
        group_name=GROUP,
        tags={"direction": integration.opt_outs.direction.value},
        op_tags=URGENT,
        pool=POOL,
        retry_policy=retries(integration.settings.run),
    )
    def to_campaign(
        context: dg.AssetExecutionContext,
        dynamics: DynamicsResource,
        campaign: CampaignResource,
        staging: StagingResource,
    ) -> dg.MaterializeResult:
        with errors_as_failures(), open_table(contact, integration, dynamics, campaign, staging) as table:
            deadline = Deadline(settings.run.write_seconds)
            workers = settings.campaign.workers
            limit = _max_opt_ins(table, integration)
            written = write_to_campaign(
                table.opt_outs, table.target, workers=workers, deadline=deadline, max_opt_ins=limit
            )
            return _written(context, written, table.opt_outs.summary(), last=last)

    return to_campaign


def _to_dynamics(contact: TableMapping, integration: Configuration) -> dg.AssetsDefinition:
    settings = integration.settings

    @dg.asset(
        key=TO_DYNAMICS,
        deps=[STATE, TO_CAMPAIGN],
        kinds={"dynamics365"},
        check_specs=[dg.AssetCheckSpec("opt_outs_agree", asset=TO_DYNAMICS)],
        description="Opt-outs written to contacts, each only in the version of the record that was decided on.",
        group_name=GROUP,
        tags={"direction": integration.opt_outs.direction.value},
        op_tags=URGENT,
        pool=POOL,
        retry_policy=retries(integration.settings.run),
    )
    def to_dynamics(
        context: dg.AssetExecutionContext,
        dynamics: DynamicsResource,
        campaign: CampaignResource,
        staging: StagingResource,
    ) -> dg.MaterializeResult:
        with errors_as_failures(), open_table(contact, integration, dynamics, campaign, staging) as table:
            written = write_to_dynamics(
                table.opt_outs,
                table.rows,
                table.target,
                workers=settings.campaign.workers,
                deadline=Deadline(settings.run.write_seconds),
                max_opt_ins=_max_opt_ins(table, integration),
            )
            return _written(context, written, table.opt_outs.summary(), last=True)

    return to_dynamics


def _written(
    context: dg.AssetExecutionContext, written: WriteBacks, left: OptOutSummary, *, last: bool
) -> dg.MaterializeResult:
    """What was written; the *last* step of all tells whether both systems agree."""
    for key, reason in written.rejects.items():
        context.log.warning(f"contact {key}: {reason}")
    return dg.MaterializeResult(
        metadata={
            "people": written.people,
            "opted_out": written.opted_out,
            "opted_in": written.opted_in,
            "gone": written.gone,
            "refused": written.refused,
            "unknown": written.unknown,
            "engine_calls": written.engine_calls,
            "seconds": round(written.seconds, 3),
            "stopped_by": written.stopped_by or "",
            "open": left.open,
            "refused_sample": dg.MetadataValue.json(dict(written.rejects)),
        },
        check_results=[check_result(checks.opt_outs_agree(left))] if last else [],
    )
