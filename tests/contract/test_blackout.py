"""R61, R62: times at which nothing is written, and times at which there is more to write than usual."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from d365_campaign.sandbox import Sandbox
from tests.agreement import assert_in_step
from tests.integration import Integration

NOW = datetime.now(UTC)
MAINTENANCE = {"starts": (NOW - timedelta(hours=1)).isoformat(), "ends": (NOW + timedelta(hours=1)).isoformat()}
LONG_PAST = {"starts": (NOW - timedelta(hours=2)).isoformat(), "ends": (NOW - timedelta(hours=1)).isoformat()}


def writes(sandbox: Sandbox) -> int:
    return len([call for call in sandbox.calls("campaign") if call.method != "GET"])


def synced(integration: Integration) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """A sync that ends well: what was read, and what was written."""
    report = integration.run("sync")
    assert report.success, report.errors
    return report.materialized["dynamics/contact"], report.materialized["campaign/profile"]


# --- blackout windows -----------------------------------------------------------------------------------------------


def test_nothing_is_written_in_a_blackout_while_reading_goes_on_and_the_backlog_grows(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R61."""
    sandbox.seed(contacts=10)
    integration.sync()
    integration.set("run", blackout_windows=[MAINTENANCE])
    sandbox.clear_calls()
    backlog = []
    for number in range(3):
        sandbox.change_contacts(update=2, create=3, delete=1, seed=number)
        read, written = synced(integration)
        backlog.append(written["backlog"])
        assert (read["caught_up"], written["stopped_by"], written["engine_calls"]) == (True, "blackout", 0)
        assert written["resumes_at"] == datetime.fromisoformat(MAINTENANCE["ends"]).timestamp()

    assert writes(sandbox) == 0
    assert backlog == sorted(set(backlog)), "it grows"
    assert read["dagster/row_count"] == 10 + 3 * (3 - 1)

    integration.set("run", blackout_windows=[LONG_PAST])
    _, written = synced(integration)
    assert (written["backlog"], written["stopped_by"], written["resumes_at"]) == (0, "", 0.0)
    assert_in_step(sandbox)
    assert integration.sync()["engine_calls"] == 0


def test_record_that_comes_and_goes_in_a_blackout_costs_nothing(sandbox: Sandbox, integration: Integration) -> None:
    """R61: what is written afterwards is the difference, not the history."""
    kept = sandbox.dataverse.create("contact", {"firstname": "Ada"})
    integration.sync()
    integration.set("run", blackout_windows=[MAINTENANCE])
    passing = sandbox.dataverse.create("contact", {"firstname": "Grace"})
    sandbox.dataverse.update("contact", kept, {"firstname": "Augusta"})
    integration.sync()
    sandbox.dataverse.delete("contact", passing)
    sandbox.dataverse.update("contact", kept, {"firstname": "Ada"})
    integration.sync()
    integration.set("run", blackout_windows=[])
    sandbox.clear_calls()

    assert integration.sync()["engine_calls"] == 0
    assert_in_step(sandbox)


def test_plan_can_be_looked_at_in_a_blackout(sandbox: Sandbox, integration: Integration) -> None:
    integration.set("run", blackout_windows=[MAINTENANCE])
    sandbox.seed(contacts=4)

    assert integration.plan()["to_insert"] == 4
    assert writes(sandbox) == 0


def test_blackout_that_begins_in_mid_run_ends_the_writing(
    sandbox: Sandbox, integration: Integration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R61: what is under way by then is finished; it is a batch at most."""
    sandbox.seed(contacts=60)
    integration.set("run", batch_size=10)
    ends = NOW + timedelta(hours=1)
    with monkeypatch.context() as patched:
        patched.setattr("assets.ingress.blackout_end", lambda windows, now: ends if writes(sandbox) >= 20 else None)
        _, written = synced(integration)

    assert (written["stopped_by"], written["resumes_at"]) == ("blackout", ends.timestamp())
    assert 20 <= written["inserted"] == writes(sandbox) <= 30
    assert written["inserted"] + written["backlog"] == 60

    _, written = synced(integration)
    assert written["backlog"] == 0
    assert writes(sandbox) == 60, "none is written twice"
    assert_in_step(sandbox)


# --- bursts ---------------------------------------------------------------------------------------------------------

USUAL = 4
BURST = 50 * USUAL


@pytest.fixture
def stored(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Sequence[str | None]]:
    """The names that Campaign was given for each profile, in order; None when it was deleted."""
    names: dict[str, list[str | None]] = defaultdict(list)
    state = sandbox.campaign
    change, drop, insert = state.change, state.drop, state.insert

    def noted_insert(resource: Any, values: Mapping[str, Any]) -> Any:
        names[values["externalId"]].append(values["lastName"])
        return insert(resource, values)

    def noted_change(resource: Any, record: Any, values: Mapping[str, Any], address: str) -> None:
        names[record.values["externalId"]].append(values["lastName"])
        change(resource, record, values, address)

    def noted_drop(resource: Any, record: Any) -> None:
        names[record.values["externalId"]].append(None)
        drop(resource, record)

    monkeypatch.setattr(state, "insert", noted_insert)
    monkeypatch.setattr(state, "change", noted_change)
    monkeypatch.setattr(state, "drop", noted_drop)
    return names


def test_burst_drains_over_short_runs_in_order_and_nothing_is_dropped(
    sandbox: Sandbox, integration: Integration, stored: Mapping[str, Sequence[str | None]]
) -> None:
    """R62: fifty times the usual, while records of the burst change again and again, and some are deleted."""
    keys = [sandbox.dataverse.create("contact", {"lastname": "Name 0"}) for _ in range(BURST)]
    integration.sync()
    for key in keys[:USUAL]:
        sandbox.dataverse.update("contact", key, {"lastname": "Name 1"})
    assert integration.sync()["updated"] == USUAL

    sandbox.settings.update({"campaign_latency_seconds": 0.02})
    integration.set("run", write_seconds=0.7, batch_size=20)
    for key in keys:
        sandbox.dataverse.update("contact", key, {"lastname": "Name 2"})
    backlogs = [integration.sync()["backlog"]]
    while backlogs[-1] and len(backlogs) < 60:
        version = 2 + len(backlogs)
        if version < 6:  # the burst goes on for a while, over records that are written and others that wait
            for key in keys[version::10]:
                sandbox.dataverse.update("contact", key, {"lastname": f"Name {version}"})
            sandbox.dataverse.delete("contact", keys.pop())
        backlogs.append(integration.sync()["backlog"])

    assert backlogs[-1] == 0
    assert len(backlogs) > 2, "no run went on until all was written"
    assert_in_step(sandbox)
    assert integration.sync()["engine_calls"] == 0
    for names in stored.values():
        versions = [999 if name is None else int(name.removeprefix("Name ")) for name in names]
        assert versions == sorted(set(versions)), "no older value after a newer one, and none twice"
