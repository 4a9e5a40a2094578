"""The sensor wakes the sync when Dynamics has changes or work is left, and only then."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from datetime import time as time_of_day
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from assets.ingress import TableKeys
from assets.sensors_state import ASK_AGAIN_SECONDS
from d365_campaign.sandbox import Sandbox
from tests.integration import Integration
from tests.mappings import contact_mapping, purchase_mapping

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


def test_table_in_which_nothing_changes_is_read_before_its_delta_token_expires(
    sandbox: Sandbox, integration: Integration, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.seed(contacts=3)
    integration.sync()
    began = time.time()
    later(monkeypatch, began + 3 * 86400)
    assert tick() == []
    later(monkeypatch, began + 4 * 86400)
    assert len(tick()) == 1


def test_looks_share_a_token(sandbox: Sandbox, integration: Integration, tick: Tick) -> None:
    sandbox.seed(contacts=3)
    integration.sync()
    tick()
    sandbox.clear_calls()
    tick()
    tick()
    assert [call.path for call in sandbox.calls("dataverse")], "Dynamics was asked"
    assert not [call for call in sandbox.calls("entra") if call.method == "POST"]


def test_backlog_asks_for_the_next_run_at_once(sandbox: Sandbox, integration: Integration, tick: Tick) -> None:
    sandbox.seed(contacts=30)
    integration.set("run", write_seconds=0.0001)
    assert integration.sync()["backlog"] > 0
    assert len(tick()) == 1


def later(monkeypatch: pytest.MonkeyPatch, moment: float) -> None:
    """Let the sensor look at *moment*."""
    monkeypatch.setattr("assets.sensors.time.time", lambda: moment)


def test_backlog_that_the_budget_holds_waits_for_the_next_day(
    sandbox: Sandbox, integration: Integration, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.seed(contacts=5)
    integration.set("engine_calls", daily_budget=2)
    done = integration.sync()
    assert (done["stopped_by"], done["backlog"]) == ("budget", 4)
    assert tick() == []
    tomorrow = datetime.combine(datetime.now(UTC).date() + timedelta(days=1), datetime.min.time(), UTC).timestamp()
    assert done["resumes_at"] == tomorrow
    later(monkeypatch, tomorrow - 1)
    assert tick() == []
    later(monkeypatch, tomorrow)
    assert len(tick()) == 1


def test_run_that_spends_yesterdays_budget_after_midnight_does_not_wait_for_tomorrow(
    sandbox: Sandbox, integration: Integration, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began with what was left then; of today's budget it knows nothing."""

    class JustAfterMidnight(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "JustAfterMidnight":
            return cls.combine(datetime.now(UTC).date() + timedelta(days=1), time_of_day(0, 0, 1), UTC)

    sandbox.seed(contacts=8)
    integration.sync()
    integration.set("engine_calls", daily_budget=9 + 5)
    integration.set("campaign", workers=1)
    sandbox.settings.update({"campaign_latency_seconds": 0.3})
    sandbox.change_contacts(update=8)
    with monkeypatch.context() as patched:
        patched.setattr("assets.ingress.datetime", JustAfterMidnight)
        done = integration.sync()
    assert (done["stopped_by"], done["seconds"] > 1) == ("budget", True)

    later(monkeypatch, JustAfterMidnight.now().timestamp())
    assert len(tick()) == 1


def test_changes_are_read_while_the_budget_is_spent_and_once_each(
    sandbox: Sandbox, integration: Integration, tick: Tick
) -> None:
    sandbox.seed(contacts=5)
    integration.set("engine_calls", daily_budget=2)
    integration.sync()
    for number in range(2):
        sandbox.seed(contacts=1, seed=number + 2)
        assert len(tick()) == 1
        assert integration.sync()["backlog"] == 4 + number + 1
        assert tick() == [], "it doesn't spin"


def test_sensor_waits_for_the_end_of_a_blackout_and_reads_meanwhile(
    sandbox: Sandbox, integration: Integration, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R61."""
    begins, ends = (datetime.now(UTC) + timedelta(hours=hours) for hours in (-1, 1))
    integration.set("run", blackout_windows=[{"starts": begins.isoformat(), "ends": ends.isoformat()}])
    sandbox.seed(contacts=3)
    assert len(tick()) == 1
    assert integration.sync()["backlog"] == 3
    assert tick() == []
    sandbox.seed(contacts=1, seed=2)
    assert len(tick()) == 1
    assert integration.sync()["backlog"] == 4
    later(monkeypatch, ends.timestamp() - 1)
    assert tick() == []
    later(monkeypatch, ends.timestamp())
    assert len(tick()) == 1


def test_blackout_without_backlog_leaves_nothing_to_wake_for(
    sandbox: Sandbox, integration: Integration, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.seed(contacts=3)
    integration.sync()
    begins, ends = (datetime.now(UTC) + timedelta(hours=hours) for hours in (-1, 1))
    integration.set("run", blackout_windows=[{"starts": begins.isoformat(), "ends": ends.isoformat()}])
    assert integration.sync()["backlog"] == 0
    later(monkeypatch, ends.timestamp() + 1)
    assert tick() == []


def test_backlog_drains_run_by_run_until_the_sensor_rests(
    sandbox: Sandbox, integration: Integration, tick: Tick
) -> None:
    """R62: each run is short, and the next one begins at once."""
    sandbox.seed(contacts=60)
    sandbox.settings.update({"campaign_latency_seconds": 0.05})
    integration.set("run", write_seconds=0.4, batch_size=10)
    runs = 0
    while tick():
        integration.sync()
        runs += 1
        assert runs < 40
    assert runs > 1
    assert len(sandbox.campaign.records("profile")) == 60


def test_a_full_read_that_ran_out_of_time_goes_on(sandbox: Sandbox, integration: Integration, tick: Tick) -> None:
    sandbox.seed(contacts=30)
    integration.set("dynamics", page_size=10)
    integration.set("run", pull_seconds=0.0001)
    integration.sync()
    assert len(tick()) == 1


@pytest.mark.parametrize("reads", [True, False], ids=["after reading", "before reading"])
def test_a_run_that_failed_is_asked_for_again_only_after_a_while(
    sandbox: Sandbox, integration: Integration, tick: Tick, monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    """Also one that a limit stops each time, although it does read what is new in Dynamics."""
    sandbox.seed(contacts=3)
    integration.sync()
    sandbox.change_contacts(update=1)
    assert len(tick()) == 1
    integration.set("run", retries=0)
    if reads:
        integration.set("guardrails", large_load_records=0)
    else:
        sandbox.add_fault(system="dataverse", path="/contacts$", status=403)
    integration.fail()
    assert tick() == []
    later(monkeypatch, time.time() + ASK_AGAIN_SECONDS + 1)
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


# --- records that wait for another table's --------------------------------------------------------------------------


@pytest.fixture
def linked(integration: Integration) -> Integration:
    """Active contacts, and their purchases."""
    active = {"conditions": [{"source": "statecode", "comparison": "equals", "value": 0}]}
    integration.tables = [contact_mapping(filter=active), purchase_mapping()]
    return integration


def asked_for(requests: list[dg.RunRequest]) -> list[str]:
    """The tables of the one run that is asked for."""
    return [name for request in requests for name in request.tags["tables"].split(",")]


def test_record_that_waited_is_taken_up_once_its_parent_was_written_in_another_run(
    sandbox: Sandbox, linked: Integration, tick: Tick
) -> None:
    contact = sandbox.dataverse.create("contact", {"lastname": "Lovelace", "statecode": 1, "statuscode": 2})
    sandbox.dataverse.create("new_purchase", {"new_contactid": contact, "new_name": "Lamp"})
    assert linked.sync("new_purchase")["deferred"] == 1
    assert tick() == [], "there is nothing to be done about it"

    sandbox.dataverse.update("contact", contact, {"statecode": 0, "statuscode": 1})
    assert asked_for(tick()) == ["contact"]
    linked.run("sync", only=["contact"])
    assert asked_for(tick()) == ["new_purchase"]
    linked.run("sync", only=["new_purchase"])
    assert len(sandbox.campaign.records("cusPurchase")) == 1
    assert tick() == []


def test_record_whose_parent_does_not_come_is_looked_at_once_for_each_write_of_that_table(
    sandbox: Sandbox, linked: Integration, tick: Tick
) -> None:
    contact = sandbox.dataverse.create("contact", {"lastname": "Lovelace", "statecode": 1, "statuscode": 2})
    sandbox.dataverse.create("new_purchase", {"new_contactid": contact, "new_name": "Lamp"})
    linked.sync()
    sandbox.dataverse.create("contact", {"lastname": "Hopper"})
    assert asked_for(tick()) == ["contact"]
    linked.run("sync", only=["contact"])
    assert asked_for(tick()) == ["new_purchase"]
    linked.run("sync", only=["new_purchase"])
    assert tick() == [], "it doesn't spin"

    sandbox.dataverse.update("contact", contact, {"description": "nothing that is mapped"})
    assert asked_for(tick()) == ["contact"]
    linked.run("sync", only=["contact"])
    assert tick() == [], "nothing was written that it could have waited for"


def test_parent_that_waited_for_the_deletion_of_its_children_is_deleted_in_the_next_run(
    sandbox: Sandbox, linked: Integration, tick: Tick
) -> None:
    contact = sandbox.dataverse.create("contact", {"lastname": "Lovelace"})
    purchase = sandbox.dataverse.create("new_purchase", {"new_contactid": contact, "new_name": "Lamp"})
    linked.sync()
    sandbox.dataverse.delete("new_purchase", purchase)
    sandbox.dataverse.delete("contact", contact)
    assert sorted(asked_for(tick())) == ["contact", "new_purchase"]
    assert linked.sync()["deferred"] == 1
    assert asked_for(tick()) == ["contact"]
    linked.run("sync", only=["contact"])
    assert sandbox.campaign.records("profile") == []
    assert tick() == []


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


# --- what a person reads in the UI, and what a table is asked ---------------------------------------------------------


def words(integration: Integration, instance: dg.DagsterInstance, cursor: str | None = None) -> str:
    """Why the sensor asks for nothing."""
    return str(looked(integration, instance, cursor).skip_message)


def test_skip_tells_which_run_is_on(integration: Integration, fresh: dg.DagsterInstance) -> None:
    job = integration.definitions.resolve_job_def("sync")
    run = fresh.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    told = words(integration, fresh)
    assert told == f"run {run.run_id[:8]} of sync is on; what changes meanwhile goes into one run after it"


def test_skip_tells_for_each_table_what_it_waits_for(
    sandbox: Sandbox, linked: Integration, fresh: dg.DagsterInstance
) -> None:
    linked.instance = fresh
    contact = sandbox.dataverse.create("contact", {"lastname": "Lovelace", "statecode": 1, "statuscode": 2})
    sandbox.dataverse.create("new_purchase", {"new_contactid": contact, "new_name": "Lamp"})
    linked.sync()
    assert words(linked, fresh) == (
        "contact: nothing changed in Dynamics. "
        "new_purchase: nothing changed in Dynamics; 1 record waits for records of contact"
    )


def test_skip_tells_how_long_the_budget_holds_the_backlog(
    sandbox: Sandbox, integration: Integration, fresh: dg.DagsterInstance
) -> None:
    integration.instance = fresh
    sandbox.seed(contacts=5)
    integration.set("engine_calls", daily_budget=2)
    integration.sync()
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    assert f"4 records wait until {tomorrow} 00:00 UTC (budget)" in words(integration, fresh)


def test_skip_tells_that_the_last_run_did_not_write(
    sandbox: Sandbox, integration: Integration, fresh: dg.DagsterInstance
) -> None:
    integration.instance = fresh
    integration.sync()
    sandbox.dataverse.create("contact", {"lastname": "Lovelace"})
    cursor = looked(integration, fresh, None).cursor
    integration.set("run", retries=0)
    sandbox.add_fault(system="dataverse", path="/contacts$", status=403)
    integration.fail()
    assert "has not written it" in words(integration, fresh, cursor)


def test_run_says_why_it_was_asked_for(sandbox: Sandbox, integration: Integration, fresh: dg.DagsterInstance) -> None:
    integration.instance = fresh
    integration.sync()
    sandbox.dataverse.create("contact", {"lastname": "Lovelace"})
    [request] = looked(integration, fresh, None).run_requests or []
    assert request.tags["why"] == "contact: changed in Dynamics"


def test_burst_of_edits_asks_for_one_run_which_writes_the_last_of_them(
    sandbox: Sandbox, integration: Integration, tick: Tick
) -> None:
    key = sandbox.dataverse.create("contact", {"lastname": "Lovelace"})
    integration.sync()
    for number in range(20):
        sandbox.dataverse.update("contact", key, {"lastname": f"Lovelace {number}"})
    assert len(tick()) == 1
    done = integration.sync()
    assert (done["updated"], done["engine_calls"]) == (1, 2)
    assert sandbox.campaign.get("profile", key)["lastName"] == "Lovelace 19"
    assert tick() == []


def test_change_that_comes_while_a_run_is_on_is_asked_for_after_it(
    sandbox: Sandbox, integration: Integration, fresh: dg.DagsterInstance, tick: Tick
) -> None:
    integration.sync()
    run = fresh.create_run_for_job(integration.definitions.resolve_job_def("sync"), status=dg.DagsterRunStatus.STARTED)
    sandbox.dataverse.create("contact", {"lastname": "Lovelace"})
    assert tick() == []
    fresh.report_run_canceled(run)
    assert len(tick()) == 1


def test_cursor_of_an_earlier_release_is_read(integration: Integration, fresh: dg.DagsterInstance) -> None:
    assert looked(integration, fresh, '{"contact": [1.0, 1.0]}').run_requests


@pytest.mark.parametrize("cursor", [None, "{}"], ids=["never looked", "lost its cursor"])
def test_lost_cursor_neither_loses_nor_doubles_a_change(
    sandbox: Sandbox, integration: Integration, fresh: dg.DagsterInstance, cursor: str | None
) -> None:
    """Where reading goes on stands in the staging file; the cursor only says when to ask again."""
    integration.instance = fresh
    integration.sync()
    sandbox.dataverse.create("contact", {"lastname": "Lovelace"})
    assert len(looked(integration, fresh, cursor).run_requests or []) == 1
    assert integration.sync()["inserted"] == 1
    assert not looked(integration, fresh, cursor).run_requests
