"""The flows as a person sees them: started or stopped, in which state, with how much still to write.

Everything is told from what Dagster keeps (sensor state, ticks, runs, materializations); no staging file is opened.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorTick,
    SensorInstigatorData,
    TickStatus,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster_shared.error import SerializableErrorInfo

from assets.ingress import TableKeys
from assets.jobs import OPT_OUTS, SYNC
from assets.opt_outs import opt_out_keys
from assets.sensors_state import IN_PROGRESS, INTERVAL_SECONDS
from d365_campaign.checks import BLOCKING, NOT_BLOCKED
from d365_campaign.config import Configuration
from d365_campaign.errors import RetriableError, SyncError
from d365_campaign.mapping import TableMapping

# As workspace.yaml names them.
MODULE, LOCATION, REPOSITORY = "d365_campaign.definitions", "d365_campaign", "__repository__"
EVALUATED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
NOT_BEGUN = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]
# A tick takes seconds; one that is older was lost with its daemon.
LONGEST_TICK_SECONDS = 60


class State(StrEnum):
    """What a flow is doing, in Adobe's words."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    FAILED = "FAILED"


class Flow(NamedTuple):
    """A flow, the sensor that is its switch, and the job that does its work."""

    name: str
    sensor: str
    job: str


INGRESS = Flow("ingress", "dynamics_changes", SYNC)
OPT_OUT = Flow("opt-out", "opt_out_exports", OPT_OUTS)
FLOWS = (INGRESS, OPT_OUT)
# No flow, for it asks for no run: the sensor that watches over the daily files.
OPT_OUT_WATCH = Flow("opt-out watch", "opt_out_watch", OPT_OUTS)


def flows_of(integration: Configuration) -> Sequence[Flow]:
    """The flows that are configured. Opt-outs of Dynamics go with ingress; those of Campaign have their own."""
    return [INGRESS, OPT_OUT] if integration.opt_outs.direction.reads_exports else [INGRESS]


@dataclass(frozen=True)
class TableStatus:
    """How far one table is; nothing is known before its first run."""

    name: str
    last_run: datetime | None
    caught_up: bool
    backlog: int
    deferred: int
    refused: int


@dataclass(frozen=True)
class FlowStatus:
    """A flow's row. *since* is when it was started, or when it failed; of a flow that is stopped it isn't known.

    *opt_outs* is of how many people an opt-out is still to be written.
    """

    name: str
    state: State
    since: datetime | None
    last_error: str | None
    tables: Sequence[TableStatus]
    opt_outs: int = 0

    @property
    def backlog(self) -> int:
        return sum(table.backlog for table in self.tables) + self.opt_outs

    @property
    def deferred(self) -> int:
        return sum(table.deferred for table in self.tables)

    @property
    def refused(self) -> int:
        return sum(table.refused for table in self.tables)


class Trouble(NamedTuple):
    """What went wrong last, when, and whether it may pass by itself."""

    at: float
    words: str
    passing: bool


class Look(NamedTuple):
    """When a sensor looked, and what went wrong."""

    at: float
    trouble: Trouble | None


def state_of(*, on: bool, seen: bool, trouble: Trouble | None) -> State:
    """The state of a flow that is *on* or not, and has *seen* data, or that there is none, since it was started."""
    if not on:
        return State.STOPPED
    if trouble and not trouble.passing:
        return State.FAILED
    return State.RUNNING if seen else State.STARTING


def status(instance: dg.DagsterInstance, flow: Flow, integration: Configuration, *, starts_running: bool) -> FlowStatus:
    """The flow's state and that of its tables; *starts_running*: its sensor is on unless a person switched it off."""
    tables = integration.tables if flow is INGRESS else []
    made = [key for table in tables for key in TableKeys.of(table)] or opt_out_keys(integration)
    stored = _stored(instance, flow)
    on = is_on(instance, flow, starts_running=starts_running)
    data = stored.sensor_instigator_data if stored else None
    started = data.last_sensor_start_timestamp if data else None
    tick = _last_tick(instance, flow, started or 0.0)
    trouble = _trouble(instance, flow, started or 0.0, tick) if on else None
    if on and (trouble is None or trouble.passing):
        trouble = _blocked(instance, tables, started or 0.0) or trouble
    # A look that asks for no run shows that all is in step, unless one is on, or the last one got no answer.
    idle = tick is not None and tick.status is TickStatus.SKIPPED and not trouble and not runs_on(instance, flow)
    state = state_of(on=on, seen=idle or _seen(instance, made, started or 0.0), trouble=trouble)
    since = {State.STOPPED: None, State.FAILED: trouble.at if trouble else None}.get(state, started)
    return FlowStatus(
        flow.name,
        state,
        _moment(since),
        trouble and trouble.words,
        [_of_table(instance, table) for table in tables],
        0 if tables else int(str(_metadata(instance.get_latest_materialization_event(made[-1])).get("open") or 0)),
    )


def is_on(instance: dg.DagsterInstance, flow: Flow, *, starts_running: bool) -> bool:
    """Whether it runs: its sensor is on, or was switched off and a run that it asked for still writes."""
    return _sensor_is_on(_stored(instance, flow), starts_running) or bool(runs_on(instance, flow))


def runs_on(instance: dg.DagsterInstance, flow: Flow) -> Sequence[dg.DagsterRun]:
    """Runs that the sensor asked for and that have not ended."""
    tags = {"dagster/sensor_name": flow.sensor}
    return instance.get_runs(dg.RunsFilter(job_name=flow.job, statuses=IN_PROGRESS, tags=tags))


def switch_on(instance: dg.DagsterInstance, flow: Flow) -> None:
    """Switch the sensor on, as Dagster's UI does; the daemon evaluates it from its next look on. The cursor stays."""
    stored, now = _stored(instance, flow), time.time()
    if stored is None:
        instance.add_instigator_state(_new_state(flow, InstigatorStatus.RUNNING, now))
    else:
        data = stored.sensor_instigator_data or SensorInstigatorData(min_interval=INTERVAL_SECONDS)
        instance.update_instigator_state(
            stored.with_status(InstigatorStatus.RUNNING).with_data(data.with_sensor_start_timestamp(now))
        )


def switch_off(instance: dg.DagsterInstance, flow: Flow, patience_seconds: float) -> bool:
    """Switch the sensor off and wait for its runs; whether all of them have ended.

    Runs that have not begun are taken from the queue; one that writes goes on to its end.
    """
    stored = _stored(instance, flow)
    if stored is None:
        instance.add_instigator_state(_new_state(flow, InstigatorStatus.STOPPED, None))
    else:
        instance.update_instigator_state(stored.with_status(InstigatorStatus.STOPPED))
    end = time.monotonic() + patience_seconds
    while (looking := _is_looking(instance, flow)) or runs_on(instance, flow):
        if time.monotonic() > end:
            return False
        if not looking:
            _take_from_queue(instance, flow)
        time.sleep(0.2)
    return True


def _take_from_queue(instance: dg.DagsterInstance, flow: Flow) -> None:
    for run in runs_on(instance, flow):
        if run.status in NOT_BEGUN:
            instance.report_run_canceled(run, message="The flow was stopped before this run began.")


def last_look(instance: dg.DagsterInstance, flow: Flow, *, starts_running: bool) -> Look | None:
    """How the sensor's last look since it was switched on ended; None while it is off, or has not looked."""
    stored = _stored(instance, flow)
    data = stored.sensor_instigator_data if stored else None
    started = data.last_sensor_start_timestamp if data else None
    tick = _last_tick(instance, flow, started or 0.0) if _sensor_is_on(stored, starts_running) else None
    if tick is None:
        return None
    failed = tick.error if tick.status is TickStatus.FAILURE else None
    return Look(tick.timestamp, Trouble(tick.timestamp, *told(failed, "the sensor")) if failed else None)


# --- what Dagster keeps of a sensor ---------------------------------------------------------------------------------


def _origin(flow: Flow) -> RemoteInstigatorOrigin:
    """The sensor as workspace.yaml, read in this folder, leads to it."""
    target = LoadableTargetOrigin(
        executable_path=sys.executable, module_name=MODULE, working_directory=str(Path.cwd()), attribute=None
    )
    location = ManagedGrpcPythonEnvCodeLocationOrigin(loadable_target_origin=target, location_name=LOCATION)
    return RemoteInstigatorOrigin(
        repository_origin=RemoteRepositoryOrigin(code_location_origin=location, repository_name=REPOSITORY),
        instigator_name=flow.sensor,
    )


def _new_state(flow: Flow, status: InstigatorStatus, started: float | None) -> InstigatorState:
    data = SensorInstigatorData(min_interval=INTERVAL_SECONDS, last_sensor_start_timestamp=started)
    return InstigatorState(_origin(flow), InstigatorType.SENSOR, status, data)


def _stored(instance: dg.DagsterInstance, flow: Flow) -> InstigatorState | None:
    """The sensor's state, if it was ever switched or looked; it is found by its name, wherever it was started."""
    origin = _origin(flow)
    return instance.get_instigator_state(origin.get_id(), origin.get_selector().get_id())


def _sensor_is_on(stored: InstigatorState | None, starts_running: bool) -> bool:
    if stored is None or stored.status is InstigatorStatus.DECLARED_IN_CODE:
        return starts_running
    return stored.status is InstigatorStatus.RUNNING


def _last_tick(instance: dg.DagsterInstance, flow: Flow, after: float) -> InstigatorTick | None:
    origin = _origin(flow)
    ended = [TickStatus.SKIPPED, TickStatus.SUCCESS, TickStatus.FAILURE]
    ticks = instance.get_ticks(origin.get_id(), origin.get_selector().get_id(), after=after, limit=1, statuses=ended)
    return ticks[0] if ticks else None


def _is_looking(instance: dg.DagsterInstance, flow: Flow) -> bool:
    """Whether a look of the sensor is under way, from which a run may come."""
    origin, after = _origin(flow), time.time() - LONGEST_TICK_SECONDS
    selector = origin.get_selector().get_id()
    return bool(instance.get_ticks(origin.get_id(), selector, after=after, limit=1, statuses=[TickStatus.STARTED]))


# --- runs and materializations --------------------------------------------------------------------------------------


def _seen(instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey], started: float) -> bool:
    """Whether something was materialized since the start."""
    events = map(instance.get_latest_materialization_event, keys)
    return any(event.timestamp >= started for event in events if event)


def _trouble(instance: dg.DagsterInstance, flow: Flow, started: float, tick: InstigatorTick | None) -> Trouble | None:
    """What the last run since the start failed with, or a look of the sensor after it."""
    filters = dg.RunsFilter(job_name=flow.job, statuses=FINISHED, created_after=_moment(started))
    records = instance.get_run_records(filters, limit=1)
    ended = records[0].end_time or records[0].update_timestamp.timestamp() if records else 0.0
    if tick is not None and tick.status is TickStatus.FAILURE and tick.error and tick.timestamp > ended:
        return Trouble(tick.timestamp, *told(tick.error, "the sensor"))
    if not records or records[0].dagster_run.status is dg.DagsterRunStatus.SUCCESS:
        return None
    return Trouble(ended, *told_of_run(instance, records[0].dagster_run))


def _blocked(instance: dg.DagsterInstance, tables: Sequence[TableMapping], started: float) -> Trouble | None:
    """The table that was blocked when it was last to be written, since the start: its run is no failure, it is.

    Later runs may have been about other tables.
    """
    for table in tables:
        key = dg.AssetCheckKey(TableKeys.of(table).target, NOT_BLOCKED)
        for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=1, status=EVALUATED):
            entry = record.event
            event = entry.dagster_event if entry and entry.timestamp >= started else None
            check = event.asset_check_evaluation_data if event else None
            if entry and check and not check.passed:
                return Trouble(entry.timestamp, f"{check.asset_key.to_user_string()}: {check.description}", False)
    return None


def told_of_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[str, bool]:
    """In words, and whether it may pass: what a run failed with."""
    kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
    events = [entry.dagster_event for entry in instance.all_logs(run.run_id, of_type=kinds) if entry.dagster_event]
    for event in events:
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed and check.check_name in BLOCKING:
                return f"{check.asset_key.to_user_string()}: {check.description or check.check_name}", False
    for event in events:
        if event.event_type is dg.DagsterEventType.STEP_FAILURE and event.step_failure_data.error:
            return told(event.step_failure_data.error, event.step_key or "a step")
    # Without a failed step its process was lost; Dagster says on the run whether it starts it again.
    return f"run {run.run_id[:8]} ended without an answer.", run.tags.get("dagster/will_retry") == "true"


def told(error: SerializableErrorInfo, where: str) -> tuple[str, bool]:
    """In words, and whether it may pass; of an error that isn't ours its kind only, for it could quote a record."""
    ours, passing = _names(SyncError), _names(RetriableError)
    link: SerializableErrorInfo | None = error
    last = error
    while link is not None:
        if link.cls_name in ours:
            return f"{where}: {link.message.partition(': ')[2].strip()}", link.cls_name in passing
        last, link = link, link.cause
    return f"{where}: {last.cls_name or 'an error'}, which the log of the run tells in full.", False


def _names(error: type[SyncError]) -> set[str]:
    return {error.__name__}.union(*map(_names, error.__subclasses__()))


def _of_table(instance: dg.DagsterInstance, table: TableMapping) -> TableStatus:
    keys = TableKeys.of(table)
    pulled = _metadata(instance.get_latest_materialization_event(keys.snapshot))
    written_event = instance.get_latest_materialization_event(keys.target)
    written = _metadata(written_event)
    backlog, deferred, refused = (int(str(written.get(name) or 0)) for name in ("backlog", "deferred", "refused"))
    last_run = _moment(written_event.timestamp) if written_event else None
    return TableStatus(table.name, last_run, bool(pulled.get("caught_up")), backlog, deferred, refused)


def _metadata(event: dg.EventLogEntry | None) -> dict[str, object]:
    materialization = event.asset_materialization if event else None
    return {name: value.value for name, value in materialization.metadata.items()} if materialization else {}


def _moment(timestamp: float | None) -> datetime | None:
    return datetime.fromtimestamp(timestamp, UTC) if timestamp is not None else None
