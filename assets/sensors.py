"""A sensor for each system that tells of changes, and one that watches over those that come once a day."""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg

from assets.ingress import TableKeys
from assets.jobs import OPT_OUTS, SYNC, sync_keys
from assets.opt_outs import EXPORTS, opt_out_keys, workflow_runs
from assets.steps import errors_as_failures, severity_of
from d365_campaign import opt_out_checks as checks
from d365_campaign.config import Configuration
from d365_campaign.mapping import CONTACT, TableMapping
from resources.campaign import CampaignResource
from resources.dynamics import DynamicsResource
from resources.sftp import SftpResource

INTERVAL_SECONDS = 5
LOOK_AT_EXPORTS_SECONDS = 60
WATCH_SECONDS = 900
# Opt-outs that a run could not write, because a system refused or didn't answer, are tried again after so long.
OPT_OUTS_AGAIN_SECONDS = 600
# A table that was not written since is not asked for again sooner: one that fails over and over, although each of its
# runs reads, would fill the run list.
ASK_AGAIN_SECONDS = 60
WRITTEN = ("inserted", "updated", "deleted")
IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def dynamics_changes(integration: Configuration, *, starts_running: bool) -> dg.SensorDefinition:
    """The sensor over all tables. Its state comes from materialization metadata; it never opens the staging file."""
    tables = integration.tables

    @dg.sensor(
        name="dynamics_changes",
        job_name=SYNC,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=_status(starts_running),
        description="Asks every table's delta link for changes and goes on while there is backlog.",
    )
    def sensor(context: dg.SensorEvaluationContext, dynamics: DynamicsResource) -> dg.SensorResult | dg.SkipReason:
        if _run_is_on(context.instance):
            return dg.SkipReason("a run is on")
        asked: dict[str, list[float]] = json.loads(context.cursor or "{}")
        with errors_as_failures():
            due = {
                table.name: stamp
                for table in tables
                if (stamp := _due(context.instance, table, integration, dynamics, asked.get(table.name)))
            }
        if not due:
            return dg.SkipReason("nothing changed in Dynamics, and there is no backlog")
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    asset_selection=sync_keys(integration, [t for t in tables if t.name in due]),
                    tags={"tables": ",".join(due)},
                )
            ],
            cursor=json.dumps(asked | {name: [stamp, time.time()] for name, stamp in due.items()}),
        )

    return sensor


def opt_out_exports(integration: Configuration, contact: TableMapping, *, starts_running: bool) -> dg.SensorDefinition:
    """The sensor over the folder of Campaign's daily files, one connection for each look.

    A file is asked for once its size and time are those of the last look; one that a run left there, because it was
    refused, is not asked for again until it changes.
    """
    exports = integration.settings.opt_outs.exports

    @dg.sensor(
        name="opt_out_exports",
        job_name=OPT_OUTS,
        minimum_interval_seconds=LOOK_AT_EXPORTS_SECONDS,
        default_status=_status(starts_running),
        description=f"Looks for daily opt-out files in {exports.folder} and asks for a run when there is a new one.",
    )
    def sensor(context: dg.SensorEvaluationContext, sftp: SftpResource) -> dg.SensorResult | dg.SkipReason:
        known: dict[str, dict[str, list[float]]] = json.loads(context.cursor or "{}")
        with errors_as_failures(), sftp.open() as area:
            seen = {
                file.name: [file.size, file.modified_at.timestamp()]
                for file in area.files(exports.folder)
                if exports.takes(file.name)
            }
        asked = {name: facts for name, facts in known.get("asked", {}).items() if seen.get(name) == facts}
        fresh = {name: facts for name, facts in seen.items() if name not in asked}
        complete = {name: facts for name, facts in fresh.items() if known.get("seen", {}).get(name) == facts}
        if not complete or _run_is_on(context.instance):
            reason = "a run is on" if complete else "a file is coming in" if fresh else "there is no new file"
            return _skip(reason, {"asked": asked, "seen": seen})
        keys = sync_keys(integration, [contact])
        return dg.SensorResult(
            run_requests=[dg.RunRequest(asset_selection=keys, tags={"exports": str(len(complete))})],
            cursor=json.dumps({"asked": asked | complete, "seen": seen}),
        )

    return sensor


def opt_out_watch(integration: Configuration, *, starts_running: bool) -> dg.SensorDefinition:
    """The sensor that tells when no daily file came in time, or the workflow that exports them is not running.

    It changes nothing in Campaign: a person restarts the workflow. So it is on from the beginning, unless a person
    switches it off; *starts_running* is false where there is nothing to connect to.
    """
    chosen = integration.settings.opt_outs
    workflow = str(chosen.workflow)

    @dg.sensor(
        name="opt_out_watch",
        minimum_interval_seconds=WATCH_SECONDS,
        default_status=_status(starts_running),
        description=f"Watches that workflow {workflow} runs and that its daily files come.",
    )
    def sensor(context: dg.SensorEvaluationContext, campaign: CampaignResource) -> dg.SensorResult | dg.SkipReason:
        exports = context.instance.get_latest_materialization_event(EXPORTS)
        if exports is None:
            return dg.SkipReason("no run has looked for daily files yet")
        latest = datetime.fromtimestamp(float(str(_value(exports, "latest_at"))), UTC)
        with errors_as_failures():
            verdicts = [
                checks.exports_fresh(latest, datetime.now(UTC), chosen.exports, workflow),
                workflow_runs(campaign, workflow),
            ]
        return dg.SensorResult(
            asset_events=[
                dg.AssetCheckEvaluation(
                    asset_key=EXPORTS,
                    check_name=verdict.name,
                    passed=verdict.passed,
                    severity=severity_of(verdict),
                    description=verdict.description,
                    metadata=dict(verdict.metadata),
                )
                for verdict in verdicts
            ],
            skip_reason=" ".join(verdict.description for verdict in verdicts),
        )

    return sensor


def _status(starts_running: bool) -> dg.DefaultSensorStatus:
    return dg.DefaultSensorStatus.RUNNING if starts_running else dg.DefaultSensorStatus.STOPPED


def _skip(reason: str, cursor: Mapping[str, object]) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=reason, cursor=json.dumps(cursor))


def _run_is_on(instance: dg.DagsterInstance) -> bool:
    """Whether a run works on the staging file, or waits for it."""
    return any(
        instance.get_run_records(dg.RunsFilter(job_name=job, statuses=IN_PROGRESS), limit=1) for job in (SYNC, OPT_OUTS)
    )


def _due(
    instance: dg.DagsterInstance,
    table: TableMapping,
    integration: Configuration,
    dynamics: DynamicsResource,
    asked: Sequence[float] | None,
) -> float | None:
    """The moment this table was last written, when it should run again; None when it needn't."""
    keys, tables = TableKeys.of(table), integration.tables
    pulled = instance.get_latest_materialization_event(keys.snapshot)
    written = instance.get_latest_materialization_event(keys.target)
    stamp = written.timestamp if written else 1.0
    if asked and asked[0] == stamp and time.time() - asked[1] < ASK_AGAIN_SECONDS:
        return None
    if pulled is None or written is None or written.timestamp < pulled.timestamp:
        return stamp
    if not _value(pulled, "caught_up") or _has_backlog(written) or _may_go_out_now(instance, table, tables, written):
        return stamp
    if table.name == CONTACT and _opt_outs_go_on(instance, integration, written):
        return stamp
    return stamp if dynamics.client.has_changes(str(_value(pulled, "delta_link"))) else None


def _may_go_out_now(
    instance: dg.DagsterInstance, table: TableMapping, tables: Sequence[TableMapping], written: dg.EventLogEntry
) -> bool:
    """Whether some of its records wait for another table's, and one that it is linked with was written since."""
    if not _value(written, "deferred"):
        return False
    linked = {link.parent for link in table.links} | {
        other.name for other in tables for link in other.links if link.parent == table.name
    }
    for other in tables:
        event = instance.get_latest_materialization_event(TableKeys.of(other).target) if other.name in linked else None
        if event and event.timestamp > written.timestamp and any(_value(event, name) for name in WRITTEN):
            return True
    return False


def _opt_outs_go_on(instance: dg.DagsterInstance, integration: Configuration, written: dg.EventLogEntry) -> bool:
    """Whether opt-outs are left, and the last run got on with them; otherwise they are tried again after a while.

    Profiles are *written* after opt-outs, and reading them may bring new ones to light.
    """
    keys = opt_out_keys(integration)
    event = instance.get_latest_materialization_event(keys[-1]) if keys else None
    if event is None or not _value(written, "opt_outs_open"):
        return False
    if not _value(event, "open"):
        return True
    moved = [instance.get_latest_materialization_event(key) for key in keys]
    wrote = any(_value(e, "people") or _value(e, "stopped_by") for e in moved if e)
    return wrote or time.time() - event.timestamp >= OPT_OUTS_AGAIN_SECONDS


def _has_backlog(written: dg.EventLogEntry) -> bool:
    """Whether there is more to write, and a run could write it by now."""
    resumes_at = _value(written, "resumes_at")
    return bool(_value(written, "backlog")) and (not resumes_at or time.time() >= float(str(resumes_at)))


def _value(event: dg.EventLogEntry, name: str) -> object:
    materialization = event.asset_materialization
    return materialization.metadata[name].value if materialization and name in materialization.metadata else None
