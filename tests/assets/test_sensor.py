"""The sensor wakes the sync when Dynamics has changes or work is left, and only then."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from assets.ingress import TableKeys
from assets.sensors import ASK_AGAIN_SECONDS
from d365_campaign.sandbox import Sandbox
from tests.integration import Integration
from tests.mappings import contact_mapping

Tick = Callable[[], list[dg.RunRequest]]


@pytest.fixture
def fresh() -> Iterator[dg.DagsterInstance]:
    """An instance of its own: the sensor reads what was materialized before."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def looked(integration: Integration, instance: dg.DagsterInstance, cursor: str | None) -> SensorExecutionData:
    definitions = integration.definitions
    resources = {"dynamics": (definitions.resources or {})["dynamics"]}
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, definitions=definitions, resources=resources
    ) as context:
        return definitions.resolve_sensor_def("dynamics_changes").evaluate_tick(context)


@pytest.fixture
def tick(integration: Integration, fresh: dg.DagsterInstance) -> Tick:
    """One look of the sensor, with the cursor of the last; what it asks for."""
    integration.instance = fresh
    cursors: list[str | None] = [None]

    def look() -> list[dg.RunRequest]:
        result = looked(integration, fresh, cursors[-1])
        cursors.append(result.cursor)
        return list(result.run_requests or [])

    return look


def test_first_look_asks_for_a_first_run(tick: Tick) -> None:
    [request] = tick()
    assert set(request.asset_selection or []) == set(TableKeys.of(contact_mapping()))


def test_nothing_is_asked_for_while_nothing_changes(sandbox: Sandbox, integration: Integration, tick: Tick) -> None:
    sandbox.seed(contacts=3)
    integration.sync()
    assert tick() == []


@pytest.mark.parametrize("change", ["create", "update", "delete"])
def test_a_change_in_dynamics_asks_for_one_run_and_that_run_brings_it_to_campaign(
    sandbox: Sandbox, integration: Integration, tick: Tick, change: str
) -> None:
    """R38: without any schedule of the user's."""
    sandbox.seed(contacts=3)
    integration.sync()
    sandbox.change_contacts(**{change: 1})
    assert len(tick()) == 1
    done = integration.sync()
    assert done["engine_calls"] > 0
    assert tick() == []


def test_an_expired_delta_token_asks_for_a_run(sandbox: Sandbox, integration: Integration, tick: Tick) -> None:
    sandbox.seed(contacts=3)
    integration.sync()
    sandbox.expire_delta_tokens()
    assert len(tick()) == 1


def test_backlog_asks_for_the_next_run_at_once(sandbox: Sandbox, integration: Integration, tick: Tick) -> None:
    sandbox.seed(contacts=30)
    integration.set("run", write_seconds=0.0001)
    assert integration.sync()["backlog"] > 0
    assert len(tick()) == 1


def test_backlog_that_the_budget_holds_waits_for_the_next_day(
    sandbox: Sandbox, integration: Integration, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.seed(contacts=5)
    integration.set("engine_calls", daily_budget=2)
    assert integration.sync()["stopped_by"] == "budget"
    assert tick() == []
    tomorrow = time.time() + 86400
    monkeypatch.setattr("assets.sensors.time.time", lambda: tomorrow)
    assert len(tick()) == 1


def test_a_full_read_that_ran_out_of_time_goes_on(sandbox: Sandbox, integration: Integration, tick: Tick) -> None:
    sandbox.seed(contacts=30)
    integration.set("dynamics", page_size=10)
    integration.set("run", pull_seconds=0.0001)
    integration.sync()
    assert len(tick()) == 1


def test_a_run_that_failed_is_asked_for_again_only_after_a_while(
    sandbox: Sandbox, integration: Integration, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.seed(contacts=3)
    integration.sync()
    sandbox.change_contacts(update=1)
    assert len(tick()) == 1
    assert tick() == []
    later = time.time() + ASK_AGAIN_SECONDS + 1
    monkeypatch.setattr("assets.sensors.time.time", lambda: later)
    assert len(tick()) == 1


def test_a_plan_that_was_only_looked_at_is_taken_up(sandbox: Sandbox, integration: Integration, tick: Tick) -> None:
    """A plan consumes the changes of the delta link; they must not wait for the next one."""
    sandbox.seed(contacts=3)
    integration.sync()
    sandbox.change_contacts(update=1)
    integration.plan()
    assert len(tick()) == 1


def test_nothing_is_asked_for_while_a_run_is_on(
    integration: Integration, fresh: dg.DagsterInstance, tick: Tick
) -> None:
    job = integration.definitions.resolve_job_def("sync")
    fresh.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert tick() == []


def test_one_run_covers_all_tables_that_changed(sandbox: Sandbox, integration: Integration, tick: Tick) -> None:
    stores = contact_mapping(
        source="new_store",
        target="cusStore",
        key={"source": "new_storeid", "target": "cusD365id"},
        fields=[{"source": "new_name", "target": "cusName"}],
    )
    integration.tables = [contact_mapping(), stores]
    sandbox.seed(contacts=3)
    integration.sync()
    sandbox.dataverse.create("new_store", {"new_name": "Harbour"})
    [request] = tick()
    assert set(request.asset_selection or []) == set(TableKeys.of(stores))
    integration.sync()
    sandbox.dataverse.create("new_store", {"new_name": "Hill"})
    sandbox.change_contacts(update=1)
    [request] = tick()
    assert len(request.asset_selection or []) == 6


def test_cursor_holds_no_link(integration: Integration, fresh: dg.DagsterInstance) -> None:
    cursor = looked(integration, fresh, None).cursor or ""
    assert list(json.loads(cursor)) == ["contact"]
    assert "http" not in cursor


@pytest.mark.parametrize(
    ("environment_file", "starts_by_itself", "expected"),
    [(True, True, "RUNNING"), (False, True, "STOPPED"), (True, False, "STOPPED")],
    ids=["configured so", "no sandbox is running yet", "a person switches it on"],
)
def test_sensor_starts_by_itself_only_where_that_is_configured_and_there_is_something_to_read(
    integration: Integration, tmp_path: Path, environment_file: bool, starts_by_itself: bool, expected: str
) -> None:
    file = tmp_path / "sandbox.env"
    if environment_file:
        file.touch()
    integration.settings["environment_file"] = str(file)
    integration.set("run", start_automatically=starts_by_itself)
    sensor = integration.definitions.resolve_sensor_def("dynamics_changes")
    assert sensor.default_status.value == expected
