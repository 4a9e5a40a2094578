"""What Dagster keeps of past runs, where it tells of a person who is to be forgotten."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import dagster as dg
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

PAGE = 100


class ForgottenRuns(NamedTuple):
    """How many runs told of the keys: *deleted* with their logs, or *going_on* and left for later."""

    deleted: int = 0
    going_on: int = 0


def forget_in_runs(instance: dg.DagsterInstance, keys: Sequence[str]) -> ForgottenRuns:
    """Delete every run whose events tell of one of *keys*, its logs with it, unless it is still going on.

    The last materialization of an asset outlives its run, for the sensor goes by it: it is told again without samples.
    Each run's events are read, about 20 runs a second.
    """
    telling = [run for run in _runs(instance) if _run_tells_of(instance, run, keys)]
    finished = [run for run in telling if run.is_finished]
    for run in finished:
        instance.delete_run(run.run_id)
        _delete_check_results(instance, run.run_id)
        instance.compute_log_manager.delete_logs(prefix=[run.run_id])
    for asset in instance.get_asset_keys():
        event = instance.get_latest_materialization_event(asset)
        if event is not None and event.asset_materialization is not None and _tells_of(event, keys):
            instance.report_runless_asset_event(_without_samples(event.asset_materialization))
    return ForgottenRuns(len(finished), len(telling) - len(finished))


def _delete_check_results(instance: dg.DagsterInstance, run_id: str) -> None:
    """What the checks of a run said stands in a table of its own, which outlives the run; there is no call for it."""
    storage = instance.event_log_storage
    assert isinstance(storage, SqlEventLogStorage)
    with storage.index_connection() as connection:
        connection.execute(AssetCheckExecutionsTable.delete().where(AssetCheckExecutionsTable.c.run_id == run_id))


def _runs(instance: dg.DagsterInstance) -> Iterator[dg.DagsterRun]:
    cursor = None
    while records := instance.get_run_records(limit=PAGE, cursor=cursor):
        yield from (record.dagster_run for record in records)
        cursor = records[-1].dagster_run.run_id


def _run_tells_of(instance: dg.DagsterInstance, run: dg.DagsterRun, keys: Sequence[str]) -> bool:
    return any(_tells_of(entry, keys) for entry in instance.all_logs(run.run_id))


def _tells_of(entry: dg.EventLogEntry, keys: Sequence[str]) -> bool:
    told = dg.serialize_value(entry).lower()
    return any(key in told for key in keys)


def _without_samples(materialization: dg.AssetMaterialization) -> dg.AssetMaterialization:
    """The same numbers and links, without what is made of keys."""
    made_of_keys = dg.JsonMetadataValue | dg.MarkdownMetadataValue
    kept = {name: value for name, value in materialization.metadata.items() if not isinstance(value, made_of_keys)}
    return dg.AssetMaterialization(materialization.asset_key, metadata=kept)
