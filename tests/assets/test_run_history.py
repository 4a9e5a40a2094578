"""Runs that tell of a person go with their logs; what the sensor needs to know stays."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.compute_log_manager import ComputeIOType
from dagster._core.test_utils import create_run_for_test

from assets import run_history
from assets.ingress import TableKeys
from assets.run_history import forget_in_runs
from d365_campaign.sandbox import Sandbox
from tests.integration import Integration
from tests.mappings import contact_mapping

KEYS = TableKeys.of(contact_mapping())


@pytest.fixture
def kept(tmp_path: Path, integration: Integration) -> Iterator[dg.DagsterInstance]:
    """An instance that keeps its runs in files, as a user's does; the integration runs on it."""
    (tmp_path / "dagster").mkdir()
    telemetry_off = {"telemetry": {"enabled": False}}
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster"), overrides=telemetry_off) as instance:
        integration.instance = instance
        yield instance


def told(instance: dg.DagsterInstance, key: str) -> list[str]:
    """Everything an instance shows in which the key stands: runs by their ids, assets by their last materialization."""
    runs = [record.dagster_run.run_id for record in instance.get_run_records()]
    latest = {asset.to_user_string(): instance.get_latest_materialization_event(asset) for asset in KEYS}
    checked = dg.AssetCheckKey(KEYS.target, "none_refused")
    latest["none_refused"] = instance.event_log_storage.get_asset_check_execution_history(checked, limit=9)
    return [run for run in runs if key in repr(instance.all_logs(run))] + [
        asset for asset, event in latest.items() if key in repr(event)
    ]


def run_ids(instance: dg.DagsterInstance) -> set[str]:
    return {record.dagster_run.run_id for record in instance.get_run_records()}


def refused_contact(sandbox: Sandbox) -> str:
    """A contact whose name Campaign has no room for: the run names its key."""
    return sandbox.dataverse.create("contact", {"firstname": "A" * 40})


def test_runs_that_tell_of_a_key_are_deleted_and_others_stay(
    sandbox: Sandbox, integration: Integration, kept: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_history, "PAGE", 1)
    sandbox.dataverse.create("contact", {"firstname": "Grace"})
    integration.sync()
    before = run_ids(kept)
    key = refused_contact(sandbox)
    integration.sync()
    integration.sync()
    assert len(told(kept, key)) == 2 + 2 + 1, "both runs, what change set and resource were last, and a check"

    assert forget_in_runs(kept, [key, "00000000-0000-4000-8000-000000000000"]) == (2, 0)

    assert told(kept, key) == []
    assert run_ids(kept) == before


def test_captured_output_of_a_deleted_run_is_deleted_too(
    sandbox: Sandbox, integration: Integration, kept: dg.DagsterInstance, tmp_path: Path
) -> None:
    key = refused_contact(sandbox)
    integration.sync()
    [run_id] = run_ids(kept)
    for run in (run_id, "other"):
        log = [run, "compute_logs", "campaign__profile"]
        with kept.compute_log_manager.open_log_stream(log, ComputeIOType.STDERR) as stream:
            assert stream is not None
            stream.write(f"profile {key}: firstName is longer than 30 characters")
    written = [file for file in (tmp_path / "dagster").rglob("*.err*") if key in file.read_text()]
    assert len(written) == 2

    forget_in_runs(kept, [key])

    assert [file.parts[-3] for file in written if file.exists()] == ["other"]


def test_run_that_is_going_on_is_left_and_counted(kept: dg.DagsterInstance) -> None:
    run = create_run_for_test(kept, status=dg.DagsterRunStatus.STARTED)
    kept.report_engine_event("profile some-key: firstName is longer than 30 characters", run)

    assert forget_in_runs(kept, ["some-key"]) == (0, 1)

    assert run_ids(kept) == {run.run_id}


def test_what_the_sensor_goes_by_outlives_the_run_it_came_from(
    sandbox: Sandbox, integration: Integration, kept: dg.DagsterInstance
) -> None:
    """Otherwise forgetting somebody would make every table look as if it had never run."""
    sandbox.seed(contacts=3)
    key = refused_contact(sandbox)
    done = integration.sync()
    assert done["refused_sample"] == {key: "firstName is longer than 30 characters"}

    forget_in_runs(kept, [key])

    for asset in (KEYS.snapshot, KEYS.target):
        event = kept.get_latest_materialization_event(asset)
        assert event is not None
        assert event.asset_materialization is not None
        metadata = {name: value.value for name, value in event.asset_materialization.metadata.items()}
        if asset == KEYS.target:
            assert {name: metadata[name] for name in ("inserted", "refused", "backlog", "resumes_at")} == {
                "inserted": 3,
                "refused": 1,
                "backlog": 0,
                "resumes_at": 0.0,
            }
            assert "refused_sample" not in metadata
        else:
            assert metadata["delta_link"]


def test_an_instance_without_files_forgets_too(
    sandbox: Sandbox, integration: Integration, instance: dg.DagsterInstance
) -> None:
    key = refused_contact(sandbox)
    integration.sync()

    assert forget_in_runs(instance, [key]).deleted == 1
    assert told(instance, key) == []
