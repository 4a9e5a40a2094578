"""What sensors read of what Dagster keeps: runs that are on, and the figures of the last materialization."""

import dagster as dg

from assets.jobs import OPT_OUTS, SYNC

# Dagster's daemon looks every 5 s, whatever stands here. With just that, a look that came a moment early would be left
# out, and a change would wait twice as long.
INTERVAL_SECONDS = 2
# What was asked for and did not happen is not asked for again sooner: a run that fails over and over would fill the
# run list.
ASK_AGAIN_SECONDS = 60
IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def status_of(starts_running: bool) -> dg.DefaultSensorStatus:
    """Whether a sensor is on before a person switched it."""
    return dg.DefaultSensorStatus.RUNNING if starts_running else dg.DefaultSensorStatus.STOPPED


def run_that_is_on(instance: dg.DagsterInstance, *jobs: str) -> dg.DagsterRun | None:
    """A run of these jobs, or of any that writes, that works on the staging file or waits for it."""
    for job in jobs or (SYNC, OPT_OUTS):
        if records := instance.get_run_records(dg.RunsFilter(job_name=job, statuses=IN_PROGRESS), limit=1):
            return records[0].dagster_run
    return None


def told_of(run: dg.DagsterRun) -> str:
    """The run in words."""
    state = "waits for its turn" if run.status is dg.DagsterRunStatus.QUEUED else "is on"
    return f"run {run.run_id[:8]} of {run.job_name} {state}"


def latest(instance: dg.DagsterInstance, key: dg.AssetKey) -> dg.EventLogEntry | None:
    """The asset's last materialization."""
    return instance.get_latest_materialization_event(key)


def value(event: dg.EventLogEntry, name: str) -> object:
    """One figure of a materialization; None where it has none of that name."""
    materialization = event.asset_materialization
    return materialization.metadata[name].value if materialization and name in materialization.metadata else None


def number(event: dg.EventLogEntry, name: str) -> float:
    """The same as a number, 0 where there is none."""
    return float(str(value(event, name) or 0))
