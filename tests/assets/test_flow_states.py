"""The flows' states stand in Dagster: an asset for each, told when something of it changed, with a check that fails."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg
import pytest

from assets import flow_states
from assets.flow_states import CHECK, flow_assets, flow_checks, flow_key
from assets.flows import INGRESS, OPT_OUT, FlowStatus, State, TableStatus

SINCE = datetime(2026, 11, 1, 8, 30, tzinfo=UTC)
TABLE = TableStatus("contact", SINCE, caught_up=True, backlog=7, deferred=2, refused=1)
RUNNING = FlowStatus("ingress", State.RUNNING, SINCE, None, [TABLE])
OPT_OUTS = FlowStatus("opt-out", State.STARTING, SINCE, None, [], opt_outs=3)
REASON = "campaign/profile: 40% of all records would be deleted."
FAILED = replace(RUNNING, state=State.FAILED, last_error=REASON)


class Flows:
    """How the flows stand, as a test says; each look keeps the cursor."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.cursor = instance, ""
        self.found: Sequence[FlowStatus] = [RUNNING, OPT_OUTS]
        self.pending = False

    def look(self) -> dg.SensorResult:
        sensor = flow_states.flow_states(lambda _: (self.found, self.pending))
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor or ""
        return result

    def told(self) -> dict[str, bool]:
        """Whose state a look tells, and whether the check passed."""
        events = self.look().asset_events
        checks = [event for event in events if isinstance(event, dg.AssetCheckEvaluation)]
        assert len(events) == 2 * len(checks), "each check comes with the figures that are plotted"
        return {check.asset_key.path[-1]: check.passed for check in checks}


@pytest.fixture
def flows(instance: dg.DagsterInstance) -> Flows:
    return Flows(instance)


def test_first_look_tells_of_every_flow_and_the_next_of_none(flows: Flows) -> None:
    assert flows.told() == {"ingress": True, "opt_out": True}
    assert flows.told() == {}


@pytest.mark.parametrize(
    "changed",
    [
        replace(RUNNING, state=State.STOPPED, since=None),
        replace(RUNNING, tables=[replace(TABLE, backlog=8)]),
        replace(RUNNING, tables=[replace(TABLE, refused=0)]),
    ],
    ids=["state", "backlog", "refused"],
)
def test_what_changed_is_told_once(flows: Flows, changed: FlowStatus) -> None:
    flows.told()
    flows.found = [changed, OPT_OUTS]
    assert flows.told() == {"ingress": True}
    assert flows.told() == {}


def test_edit_that_waits_for_the_next_start_is_told(flows: Flows) -> None:
    flows.told()
    flows.pending = True
    result = flows.look()
    words = [event.description or "" for event in result.asset_events]
    assert words
    assert all("stop, then start" in text for text in words)


def test_failed_flow_fails_its_check_with_the_reason_and_recovers(flows: Flows) -> None:
    flows.told()
    flows.found = [FAILED, OPT_OUTS]
    checks = [event for event in flows.look().asset_events if isinstance(event, dg.AssetCheckEvaluation)]
    assert [(check.passed, REASON in (check.description or "")) for check in checks] == [(False, True)]
    flows.found = [RUNNING, OPT_OUTS]
    assert flows.told() == {"ingress": True}


def test_unchanged_state_is_told_again_after_an_hour_for_its_plot(
    flows: Flows, monkeypatch: pytest.MonkeyPatch
) -> None:
    flows.told()
    monkeypatch.setattr(flow_states, "TELL_AGAIN_SECONDS", 0)
    assert flows.told() == {"ingress": True, "opt_out": True}


def test_look_says_how_the_flows_stand(flows: Flows) -> None:
    reason = flows.look().skip_reason
    assert reason is not None
    assert reason.skip_message == "ingress RUNNING, backlog 7; opt-out STARTING, backlog 3"


def test_person_may_ask_for_the_state_from_the_asset(instance: dg.DagsterInstance) -> None:
    specs = flow_assets([INGRESS, OPT_OUT])
    checks = flow_checks([INGRESS, OPT_OUT], lambda _: ([FAILED, OPT_OUTS], False))
    definitions = dg.Definitions(assets=specs, asset_checks=checks)
    job = definitions.resolve_implicit_global_asset_job_def()
    done = job.execute_in_process(instance=instance, raise_on_error=False)
    found = {result.asset_key: result for result in done.get_asset_check_evaluations()}
    assert found[flow_key("opt-out")].passed
    assert not found[flow_key("ingress")].passed
    assert found[flow_key("ingress")].check_name == CHECK
    assert found[flow_key("ingress")].metadata["backlog"].value == 7
