"""The sensor that tells hooks when a job's runs, an asset check or another sensor's looks fail, and when it is over.

One plain sensor with a cursor, not Dagster's run-failure sensor. That one calls back for each run, not for each change
of state, and knows no checks; and whatever a callback raises leaves its cursor behind, so that hooks which did take the
alert would get it twice. Here a look reads what runs and checks became since the last one, and the cursor keeps what
each hook was told and what waits to be told. It is stored with the end of the look, so a daemon that is restarted
between two looks neither repeats nor loses anything. A process that is killed within a look repeats what it had sent in
it: the alert's id, and the e-mail's Message-ID, are the same then.

A hook that fails doesn't fail the look, which would lose the cursor: the look's reason names it, and so does its log.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

import dagster as dg
from dagster._core.execution.stats import StepEventStatus
from dagster._core.storage.asset_check_execution_record import COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES
from dagster._core.storage.dagster_run import RunRecord
from pydantic import BaseModel, ConfigDict

from assets.flow_states import flow_key
from assets.flows import FINISHED, Flow, last_look, told_of_run
from d365_campaign import alerts
from d365_campaign.alerts import Level, Memory, Observation, Subject
from resources.alerts import AlertHooks

LOOK_SECONDS = 30
# A look may take a minute; what is not begun by then waits for the next one.
SENDING_SECONDS = 15.0
# Ends of runs are looked for so far back again, for one may be recorded after another that ended later.
OVERLAP_SECONDS = 60
# Of a check, what it found since the last look; older ones of a long silence are passed over, never the latest.
MOST_EVALUATIONS = 10
# Stands for the steps of a run whose process was lost: any run that succeeds makes up for it.
LOST = "*"


class JobPlace(BaseModel):
    """How far the runs of a job were looked at, and which steps failed and did not succeed since, in a run or another.

    A run may be of some tables only; that it succeeds says nothing of a step of another one that failed.
    """

    model_config = ConfigDict(frozen=True)

    ended_at: float
    seen: Mapping[str, float] = {}
    failed: Sequence[str] = ()
    since: float | None = None
    level: Level = Level.FINE


class Cursor(BaseModel):
    """What is kept from look to look."""

    model_config = ConfigDict(frozen=True)

    jobs: Mapping[str, JobPlace] = {}
    checks: Mapping[str, float] = {}
    memory: Memory = Memory()


class Watched(NamedTuple):
    """Jobs by name, and sensors with whether they are on unless a person switched them off."""

    jobs: Sequence[str]
    sensors: Mapping[Flow, bool]


def alerts_sensor(watched: Watched, minimums: Mapping[str, Level]) -> dg.SensorDefinition:
    """The sensor over everything that is *watched*, for the hooks that *minimums* has. It is on from the beginning."""

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Tells {', '.join(minimums)} when runs or checks fail, and when it is over; each change once.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, alert_hooks: dg.ResourceParam[AlertHooks]
    ) -> dg.SensorResult | dg.SkipReason:
        before = Cursor.model_validate_json(context.cursor) if context.cursor else Cursor()
        after = _looked(context, watched, before, minimums)
        sent = _send(after.memory, alert_hooks)
        memory = after.memory.model_copy(update={"hooks": {name: each.hook for name, each in sent.items()}})
        told = [reason for name, each in sent.items() for reason in _told(name, each, context.log)]
        return dg.SensorResult(
            skip_reason=" ".join(told) or "nothing changed its state",
            cursor=after.model_copy(update={"memory": memory}).model_dump_json(),
        )

    return sensor


def _send(memory: Memory, hooks: AlertHooks) -> Mapping[str, alerts.Delivered]:
    """Each hook's turn, all at once, so that one that is slow or dead keeps no other waiting."""
    until, now = time.monotonic() + SENDING_SECONDS, time.time()
    with ThreadPoolExecutor(max(1, len(memory.hooks)), thread_name_prefix="alerts") as pool:
        turns = {
            name: pool.submit(alerts.deliver, hook, partial(hooks.send, name), now, lambda: time.monotonic() < until)
            for name, hook in memory.hooks.items()
        }
    return {name: turn.result() for name, turn in turns.items()}


def _told(name: str, done: alerts.Delivered, log: logging.Logger) -> Iterator[str]:
    """What a hook's turn came to, in sentences; what went wrong stands in the log as well."""
    if done.sent:
        yield f"{name} was told of {done.sent} changes of state."
    faults = [f"{name}: given up on telling that {lost.subject.key} became {lost.level}." for lost in done.given_up]
    if done.fault:
        faults.append(f"{done.fault} {len(done.hook.waiting)} alerts wait for it, and are tried again.")
    for fault in faults:
        log.error(fault)
        yield fault


def _looked(
    context: dg.SensorEvaluationContext, watched: Watched, before: Cursor, minimums: Mapping[str, Level]
) -> Cursor:
    """The cursor after a look at everything, with what is to be told and not yet sent."""
    assert context.repository_def is not None, "a sensor is evaluated in a repository"
    repository, instance = context.repository_def, context.instance
    places, checks, observations = dict[str, JobPlace](), dict[str, float](), list[Observation]()
    for job in watched.jobs:
        steps = {node.name for node in repository.get_job(job).nodes}
        places[job], found = _job(instance, job, before.jobs.get(job), steps)
        observations += found
    # Why a flow failed, its runs and its sensor tell; its own check would tell that a second time.
    flows = {flow_key(flow.name) for flow in watched.sensors}
    keys = sorted((key for key in repository.asset_graph.asset_check_keys if key.asset_key not in flows), key=str)
    for key in keys:
        place, found = _check(instance, key, before.checks.get(_name_of(key)))
        observations += found
        checks |= {} if place is None else {_name_of(key): place}
    observations += _sensors(instance, watched.sensors, before.memory)
    subjects = [*map(_of_job, watched.jobs), *map(_of_check, keys), *map(_of_sensor, watched.sensors)]
    memory = alerts.taken_in(alerts.only(before.memory, subjects), observations, minimums)
    return Cursor(jobs=places, checks=checks, memory=memory)


# --- runs -----------------------------------------------------------------------------------------------------------


def _of_job(job: str) -> Subject:
    return Subject(kind="run", name=job)


def _job(
    instance: dg.DagsterInstance, job: str, place: JobPlace | None, steps: set[str]
) -> tuple[JobPlace, Sequence[Observation]]:
    """How far the job was looked at, and what its runs became since; at first, what the latest did."""
    observations: list[Observation] = []
    for record in _ended(instance, job, place):
        place, found = _after(instance, job, record, place or JobPlace(ended_at=0.0), steps | {LOST})
        observations.append(found)
    return place or JobPlace(ended_at=time.time()), observations


def _ended(instance: dg.DagsterInstance, job: str, place: JobPlace | None) -> Sequence[RunRecord]:
    """Runs that ended and were not looked at, in the order in which they ended."""
    if place is None:
        return instance.get_run_records(dg.RunsFilter(job_name=job, statuses=FINISHED), limit=1)
    after = datetime.fromtimestamp(place.ended_at - OVERLAP_SECONDS, UTC)
    filters = dg.RunsFilter(job_name=job, statuses=FINISHED, updated_after=after)
    fresh = [
        record
        for record in instance.get_run_records(filters)
        if record.dagster_run.run_id not in place.seen and _end(record) > place.ended_at - OVERLAP_SECONDS
    ]
    return sorted(fresh, key=_end)


def _end(record: RunRecord) -> float:
    return record.end_time or record.update_timestamp.timestamp()


def _after(
    instance: dg.DagsterInstance, job: str, record: RunRecord, place: JobPlace, steps: set[str]
) -> tuple[JobPlace, Observation]:
    """The job's place after one more of its runs, and how it stands by then; *steps* are those it has by now."""
    run, at = record.dagster_run, _end(record)
    failed = set(place.failed)
    if failed or run.is_failure:
        stats = instance.get_run_step_stats(run.run_id)
        failed -= {step.step_key for step in stats if step.status is StepEventStatus.SUCCESS}
        failed |= _failed(instance, run, {s.step_key for s in stats if s.status is StepEventStatus.FAILURE})
    if run.is_success:
        failed.discard(LOST)
    failed &= steps
    since, level, words = (place.since or at) if failed else None, Level.FINE, ""
    if since is not None and run.is_failure:
        words, passing = told_of_run(instance, run)
        # As long as it fails, it gets no better than it was.
        level = alerts.level_of_trouble(passing=passing, since=since, at=at).or_worse(place.level)
    elif since is not None:
        left = ", ".join(sorted(failed))
        words, level = f"A run succeeded, yet without {left}, which failed before.", place.level
    ended_at = max(at, place.ended_at)
    seen = {run_id: end for run_id, end in place.seen.items() if end > ended_at - OVERLAP_SECONDS}
    after = JobPlace(ended_at=ended_at, seen={**seen, run.run_id: at}, failed=sorted(failed), since=since, level=level)
    return after, Observation(subject=_of_job(job), level=level, at=at, words=words, run_id=run.run_id)


def _failed(instance: dg.DagsterInstance, run: dg.DagsterRun, steps: set[str]) -> set[str]:
    """Steps that a run failed at, but for those that their own blocking check stopped: its alert tells of that."""
    if not run.is_failure:
        return set()
    if not steps:
        return {LOST}
    evaluations = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    for event in (entry.dagster_event for entry in evaluations if entry.dagster_event):
        check = event.asset_check_evaluation_data
        if not check.passed and check.blocking and check.severity is dg.AssetCheckSeverity.ERROR:
            steps = steps - {event.step_key}
    return steps


# --- checks and sensors ---------------------------------------------------------------------------------------------


def _name_of(key: dg.AssetCheckKey) -> str:
    return f"{key.name} of {key.asset_key.to_user_string()}"


def _of_check(key: dg.AssetCheckKey) -> Subject:
    return Subject(kind="check", name=_name_of(key))


def _check(
    instance: dg.DagsterInstance, key: dg.AssetCheckKey, place: float | None
) -> tuple[float | None, Sequence[Observation]]:
    """When a check was evaluated last, and what it found since *place*; at first, what it found last."""
    records = instance.event_log_storage.get_asset_check_execution_history(
        key,
        limit=1 if place is None else MOST_EVALUATIONS,
        status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    )
    events = [record.event for record in records if record.event]
    fresh = [event for event in events if place is None or event.timestamp > place]
    return max((event.timestamp for event in fresh), default=place), [_evaluated(key, event) for event in fresh]


def _evaluated(key: dg.AssetCheckKey, event: dg.EventLogEntry) -> Observation:
    found = event.asset_check_evaluation
    assert found is not None, "only evaluations have such a status"
    level = Level.ERROR if found.severity is dg.AssetCheckSeverity.ERROR else Level.WARNING
    return Observation(
        subject=_of_check(key),
        level=Level.FINE if found.passed else level,
        at=event.timestamp,
        words=found.description or "",
        run_id=event.run_id or None,
        asset="/".join(key.asset_key.path),
    )


def _of_sensor(flow: Flow) -> Subject:
    return Subject(kind="sensor", name=flow.sensor)


def _sensors(instance: dg.DagsterInstance, sensors: Mapping[Flow, bool], memory: Memory) -> Iterator[Observation]:
    """How the sensors' last looks ended; of one that is off, or has not looked yet, nothing."""
    for flow, starts_running in sensors.items():
        look = last_look(instance, flow, starts_running=starts_running)
        if look is None:
            continue
        subject = _of_sensor(flow)
        if look.trouble is None:
            yield Observation(subject=subject, level=Level.FINE, at=look.at, words="")
            continue
        known = memory.standing.get(subject.key)
        since = known.since if known else look.at
        level = alerts.level_of_trouble(passing=look.trouble.passing, since=since, at=look.at)
        level = level.or_worse(known.observed.level if known else Level.FINE)
        yield Observation(subject=subject, level=level, at=look.at, words=look.trouble.words)
