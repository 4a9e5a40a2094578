"""Wake-ups by webhook: a table that Dynamics tells of is asked at once, and every other one in its own time."""

import time
from collections.abc import Callable, Iterator

import dagster as dg
import pytest

from assets.wakeups import last_wakeup, waker
from d365_campaign.sandbox import Sandbox
from tests.integration import Integration
from tests.mappings import contact_mapping, purchase_mapping

POLL_SECONDS = 300
Tick = Callable[[], list[str]]


@pytest.fixture
def fresh(integration: Integration) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        integration.instance = ephemeral
        yield ephemeral


@pytest.fixture
def tick(integration: Integration, fresh: dg.DagsterInstance) -> Tick:
    """One look of the sensor over two tables that are seldom asked; the tables of the run it asks for."""
    integration.tables = [contact_mapping(), purchase_mapping()]
    integration.set("dynamics", poll_seconds=POLL_SECONDS)
    cursors: list[str | None] = [None]

    def look() -> list[str]:
        definitions = integration.definitions
        resources = {"dynamics": (definitions.resources or {})["dynamics"]}
        with dg.build_sensor_context(
            instance=fresh, cursor=cursors[-1], definitions=definitions, resources=resources
        ) as context:
            result = definitions.resolve_sensor_def("dynamics_changes").evaluate_tick(context)
        cursors.append(result.cursor or cursors[-1])
        return [name for request in result.run_requests or [] for name in request.tags["tables"].split(",")]

    return look


def asked(sandbox: Sandbox) -> list[str]:
    """The tables whose delta links were asked since the last time."""
    paths = [call.path.rpartition("/")[2] for call in sandbox.calls("dataverse") if "deltatoken" in call.query]
    sandbox.clear_calls()
    return paths


def test_tables_are_asked_in_their_own_time(
    sandbox: Sandbox, integration: Integration, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.seed(contacts=2)
    integration.sync()
    sandbox.clear_calls()
    assert tick() == []
    assert asked(sandbox) == ["contacts", "new_purchases"]
    sandbox.change_contacts(update=1)
    assert tick() == []
    assert asked(sandbox) == []
    moment = time.time() + POLL_SECONDS
    monkeypatch.setattr("assets.sensors.time.time", lambda: moment)
    assert tick() == ["contact"], "nothing is lost where no webhook came"


def test_table_that_a_webhook_tells_of_is_asked_at_once_and_alone(
    sandbox: Sandbox, integration: Integration, fresh: dg.DagsterInstance, tick: Tick
) -> None:
    sandbox.seed(contacts=2)
    integration.sync()
    tick()
    sandbox.change_contacts(update=1)
    waker(fresh)("contact", 1)
    sandbox.clear_calls()
    assert tick() == ["contact"]
    assert asked(sandbox) == ["contacts"]
    integration.sync()
    sandbox.clear_calls()
    assert tick() == []
    assert asked(sandbox) == [], "the same wake-up counts once"


def test_wakeup_without_a_change_asks_for_no_run(
    sandbox: Sandbox, integration: Integration, fresh: dg.DagsterInstance, tick: Tick
) -> None:
    """The delta link decides."""
    integration.sync()
    tick()
    waker(fresh)("contact", 1)
    sandbox.clear_calls()
    assert tick() == []
    assert asked(sandbox) == ["contacts"]
    assert tick() == []
    assert asked(sandbox) == []


def test_wakeup_that_comes_while_a_run_is_on_is_not_forgotten(
    sandbox: Sandbox, integration: Integration, fresh: dg.DagsterInstance, tick: Tick
) -> None:
    integration.sync()
    tick()
    run = fresh.create_run_for_job(integration.definitions.resolve_job_def("sync"), status=dg.DagsterRunStatus.STARTED)
    sandbox.dataverse.create("contact", {"lastname": "Lovelace"})
    waker(fresh)("contact", 1)
    assert tick() == []
    fresh.report_run_canceled(run)
    assert tick() == ["contact"]


def test_wakeup_holds_a_count_and_nothing_else(fresh: dg.DagsterInstance) -> None:
    assert last_wakeup(fresh, "contact") == 0
    waker(fresh)("contact", 3)
    first = last_wakeup(fresh, "contact")
    waker(fresh)("account", 1)
    waker(fresh)("contact", 1)
    assert last_wakeup(fresh, "contact") > first > 0
    records = fresh.fetch_observations(dg.AssetKey(["dataverse", "contact"]), limit=5).records
    told = [record.asset_observation.metadata if record.asset_observation else {} for record in records]
    assert [{name: value.value for name, value in metadata.items()} for metadata in told] == [
        {"webhook_posts": 1},
        {"webhook_posts": 3},
    ]
