"""Sensors of the opt-out flow: a new daily file asks for one run, and somebody is told when none comes."""

import time
from collections.abc import Callable, Iterator

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from assets.jobs import sync_keys
from assets.opt_outs import EXPORTS, STATE, TO_CAMPAIGN, TO_DYNAMICS
from assets.sensors_state import ASK_AGAIN_SECONDS
from d365_campaign.sandbox import Sandbox
from tests.integration import Integration

Look = Callable[[str], SensorExecutionData]
RESOURCES = {"dynamics_changes": "dynamics", "opt_out_exports": "sftp", "opt_out_watch": "campaign"}


@pytest.fixture
def fresh() -> Iterator[dg.DagsterInstance]:
    """An instance of its own: sensors read what was materialized before."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def look(integration: Integration, fresh: dg.DagsterInstance) -> Look:
    """One look of a sensor, with the cursor of its last."""
    integration.instance = fresh
    integration.keep_opt_outs("bidirectional", {"donotemail": "blackListEmail"})
    cursors: dict[str, str | None] = {}

    def look(sensor: str) -> SensorExecutionData:
        definitions = integration.definitions
        resource = RESOURCES[sensor]
        resources = {resource: (definitions.resources or {})[resource]}
        with dg.build_sensor_context(
            instance=fresh, cursor=cursors.get(sensor), definitions=definitions, resources=resources
        ) as context:
            result = definitions.resolve_sensor_def(sensor).evaluate_tick(context)
        cursors[sensor] = result.cursor or cursors.get(sensor)
        return result

    return look


def test_new_daily_file_asks_for_one_run_once_it_is_complete(
    sandbox: Sandbox, integration: Integration, look: Look
) -> None:
    """R39. A file that was there only this once could still be growing."""
    assert look("opt_out_exports").skip_message == "there is no new file in d365_loads/exports"
    sandbox.export_opt_outs()
    assert "may still be growing" in str(look("opt_out_exports").skip_message)

    [request] = look("opt_out_exports").run_requests or []

    assert set(request.asset_selection or []) == set(sync_keys(integration.configuration, integration.tables))
    assert not look("opt_out_exports").run_requests


def test_growing_file_is_waited_for(sandbox: Sandbox, look: Look) -> None:
    sandbox.seed(contacts=3)
    sandbox.add_export_fault(kind="uploading", seconds=60)
    sandbox.export_opt_outs()
    folder = sandbox.sftp.root / "d365_loads" / "exports"
    look("opt_out_exports")
    [growing] = folder.iterdir()
    growing.write_bytes(growing.read_bytes() + b"more\n")
    assert "may still be growing" in str(look("opt_out_exports").skip_message)
    assert len(look("opt_out_exports").run_requests or []) == 1


def test_refused_file_that_stays_is_not_asked_for_again_until_it_changes(
    sandbox: Sandbox, integration: Integration, look: Look
) -> None:
    sandbox.add_export_fault(kind="renamed_columns")
    name = sandbox.export_opt_outs()
    look("opt_out_exports")
    assert look("opt_out_exports").run_requests
    integration.sync()
    assert not look("opt_out_exports").run_requests
    file = sandbox.sftp.root / "d365_loads" / "exports" / str(name)
    file.write_text(file.read_text() + "\n", encoding="utf-8")
    look("opt_out_exports")
    assert look("opt_out_exports").run_requests


def test_each_look_at_the_folder_takes_one_connection_and_closes_it(sandbox: Sandbox, look: Look) -> None:
    sandbox.clear_calls()
    for _ in range(3):
        look("opt_out_exports")
    assert sandbox.sftp.wait_until_closed()
    assert sandbox.sftp.sessions == 3


def test_contact_that_changed_asks_for_a_run_with_opt_outs(
    sandbox: Sandbox, integration: Integration, look: Look
) -> None:
    """A22."""
    integration.sync()
    assert not look("dynamics_changes").run_requests
    sandbox.dataverse.create("contact", {"lastname": "Lovelace", "donotemail": True})
    [request] = look("dynamics_changes").run_requests or []
    assert {STATE, TO_CAMPAIGN, TO_DYNAMICS} <= set(request.asset_selection or [])


def test_watch_tells_of_a_stopped_workflow_and_how_to_restart_it(
    sandbox: Sandbox, integration: Integration, look: Look
) -> None:
    """R26: it is told, and nothing is started."""
    integration.sync()
    sandbox.campaign.workflow_runs.command("d365OptOutExport", "stop")

    verdicts = {event.check_name: event for event in look("opt_out_watch").asset_events}

    assert not verdicts["workflow_runs"].passed
    assert "restart-workflow" in str(verdicts["workflow_runs"].description)
    assert verdicts["exports_fresh"].passed
    assert {event.asset_key for event in verdicts.values()} == {EXPORTS}
    assert sandbox.campaign.workflow_runs.state("d365OptOutExport") == "stopped"


def test_watch_tells_that_no_file_came_in_time(sandbox: Sandbox, integration: Integration, look: Look) -> None:
    """R26, R39."""
    settings = integration.settings["opt_outs"]
    settings["exports"] = {"stable_seconds": 0, "hours_between": 1e-9, "grace_hours": 0}
    integration.sync()
    verdicts = {event.check_name: event for event in look("opt_out_watch").asset_events}
    assert not verdicts["exports_fresh"].passed
    assert verdicts["exports_fresh"].severity is dg.AssetCheckSeverity.ERROR

    settings["exports"]["skips_empty"] = True
    verdicts = {event.check_name: event for event in look("opt_out_watch").asset_events}
    assert verdicts["exports_fresh"].severity is dg.AssetCheckSeverity.WARN


def test_opt_outs_have_no_sensor_of_their_own_while_only_dynamics_decides(integration: Integration) -> None:
    """R21: the exports folder is never looked at."""
    integration.keep_opt_outs("dynamics_to_campaign")
    names = {sensor.name for sensor in integration.definitions.sensors or []}
    assert "dynamics_changes" in names
    assert not names & {"opt_out_exports", "opt_out_watch"}


def test_run_for_a_change_in_dynamics_leaves_the_folder_to_its_own_sensor(
    sandbox: Sandbox, integration: Integration, look: Look
) -> None:
    """The first one takes it along, so that its state is known."""
    [first] = look("dynamics_changes").run_requests or []
    assert EXPORTS in (first.asset_selection or [])
    integration.sync()
    sandbox.dataverse.create("contact", {"lastname": "Lovelace"})
    [request] = look("dynamics_changes").run_requests or []
    assert EXPORTS not in (request.asset_selection or [])


def test_new_file_does_not_wait_until_no_run_is_on(
    sandbox: Sandbox, integration: Integration, fresh: dg.DagsterInstance, look: Look
) -> None:
    """Where changes never cease there is always one; the pool lets this one come next."""
    integration.sync()
    sandbox.export_opt_outs()
    look("opt_out_exports")
    fresh.create_run_for_job(integration.definitions.resolve_job_def("sync"), status=dg.DagsterRunStatus.STARTED)
    assert look("opt_out_exports").run_requests


def test_new_file_waits_for_the_run_that_takes_in_files(
    sandbox: Sandbox, integration: Integration, fresh: dg.DagsterInstance, look: Look
) -> None:
    integration.sync()
    sandbox.export_opt_outs()
    look("opt_out_exports")
    run = fresh.create_run_for_job(
        integration.definitions.resolve_job_def("opt_outs"), status=dg.DagsterRunStatus.STARTED
    )
    told = look("opt_out_exports").skip_message
    folder = "d365_loads/exports"
    assert told == f"run {run.run_id[:8]} of opt_outs is on; 1 file is new in {folder}, looked at again after it"


@pytest.mark.parametrize("connects", [True, False], ids=["was taken from the queue", "could not connect"])
def test_file_that_no_run_got_to_is_asked_for_again_after_a_while(
    sandbox: Sandbox, integration: Integration, look: Look, monkeypatch: pytest.MonkeyPatch, connects: bool
) -> None:
    integration.sync()
    sandbox.export_opt_outs()
    look("opt_out_exports")
    assert look("opt_out_exports").run_requests
    if not connects:
        sandbox.add_sftp_fault(kind="refuse", times=1)
        integration.sync()
    assert not look("opt_out_exports").run_requests
    moment = time.time() + ASK_AGAIN_SECONDS
    monkeypatch.setattr("assets.sensors_opt_outs.time.time", lambda: moment)
    assert look("opt_out_exports").run_requests
