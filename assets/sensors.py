"""One sensor for Dynamics: it asks every table's delta link for news, and requests one run for all that have some."""

import json
import time
from collections.abc import Sequence

import dagster as dg

from assets.ingress import TableKeys
from assets.jobs import SYNC
from assets.steps import errors_as_failures
from d365_campaign.mapping import TableMapping
from resources.dynamics import DynamicsResource

INTERVAL_SECONDS = 5
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


def dynamics_changes(tables: Sequence[TableMapping], *, starts_running: bool) -> dg.SensorDefinition:
    """The sensor over *tables*. Its state comes from materialization metadata; it never opens the staging file."""

    @dg.sensor(
        name="dynamics_changes",
        job_name=SYNC,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING if starts_running else dg.DefaultSensorStatus.STOPPED,
        description="Asks every table's delta link for changes and goes on while there is backlog.",
    )
    def sensor(context: dg.SensorEvaluationContext, dynamics: DynamicsResource) -> dg.SensorResult | dg.SkipReason:
        if context.instance.get_run_records(dg.RunsFilter(job_name=SYNC, statuses=IN_PROGRESS), limit=1):
            return dg.SkipReason("a sync run is on")
        asked: dict[str, list[float]] = json.loads(context.cursor or "{}")
        with errors_as_failures():
            due = {
                table.name: stamp
                for table in tables
                if (stamp := _due(context.instance, table, tables, dynamics, asked.get(table.name)))
            }
        if not due:
            return dg.SkipReason("nothing changed in Dynamics, and there is no backlog")
        selection = [key for table in tables if table.name in due for key in TableKeys.of(table)]
        return dg.SensorResult(
            run_requests=[dg.RunRequest(asset_selection=selection, tags={"tables": ",".join(due)})],
            cursor=json.dumps(asked | {name: [stamp, time.time()] for name, stamp in due.items()}),
        )

    return sensor


def _due(
    instance: dg.DagsterInstance,
    table: TableMapping,
    tables: Sequence[TableMapping],
    dynamics: DynamicsResource,
    asked: Sequence[float] | None,
) -> float | None:
    """The moment this table was last written, when it should run again; None when it needn't."""
    keys = TableKeys.of(table)
    pulled = instance.get_latest_materialization_event(keys.snapshot)
    written = instance.get_latest_materialization_event(keys.target)
    stamp = written.timestamp if written else 1.0
    if asked and asked[0] == stamp and time.time() - asked[1] < ASK_AGAIN_SECONDS:
        return None
    if pulled is None or written is None or written.timestamp < pulled.timestamp:
        return stamp
    if not _value(pulled, "caught_up") or _has_backlog(written) or _may_go_out_now(instance, table, tables, written):
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


def _has_backlog(written: dg.EventLogEntry) -> bool:
    """Whether there is more to write, and a run could write it by now."""
    resumes_at = _value(written, "resumes_at")
    return bool(_value(written, "backlog")) and (not resumes_at or time.time() >= float(str(resumes_at)))


def _value(event: dg.EventLogEntry, name: str) -> object:
    materialization = event.asset_materialization
    return materialization.metadata[name].value if materialization and name in materialization.metadata else None
