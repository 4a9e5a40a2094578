"""The flows as assets: their state, backlog and pending edits stand in Dagster's UI, and are plotted over time.

A sensor looks at what Dagster keeps, as `d365-campaign status` does; it reaches neither system and opens no file.
"""

import json
import time
from collections.abc import Callable, Sequence

import dagster as dg

from assets.flows import Flow, FlowStatus, State

GROUP = "flows"
CHECK = "runs"
LOOK_SECONDS = 30
# What didn't change is told again after so long, so that a plot has points.
TELL_AGAIN_SECONDS = 3600

# How every flow stands, and whether files were edited since the start; as `status` tells it.
Told = tuple[Sequence[FlowStatus], bool]
Ask = Callable[[dg.DagsterInstance], Told]


def flow_key(name: str) -> dg.AssetKey:
    """The asset of the flow of this name."""
    return dg.AssetKey(["flow", name.replace("-", "_")])


def flow_assets(flows: Sequence[Flow]) -> list[dg.AssetSpec]:
    """An asset for each flow. It stands beside the lineage, for no data go through it."""
    return [
        dg.AssetSpec(
            flow_key(flow.name),
            group_name=GROUP,
            kinds={"dagster"},
            description=(
                f"Flow **{flow.name}**: STOPPED, STARTING, RUNNING or FAILED, with its backlog. Its switch is the "
                f"sensor `{flow.sensor}`, or `d365-campaign start` and `stop`."
            ),
        )
        for flow in flows
    ]


def flow_checks(flows: Sequence[Flow], ask: Ask) -> list[dg.AssetChecksDefinition]:
    """Whether each flow can go on; the sensor tells it, and a person may ask."""
    return [_check(flow, ask) for flow in flows]


def _check(flow: Flow, ask: Ask) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=flow_key(flow.name),
        name=CHECK,
        description="The flow has not failed; where it has, the reason and what to do.",
    )
    def runs(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        found, pending = ask(context.instance)
        status = next(status for status in found if status.name == flow.name)
        return dg.AssetCheckResult(
            passed=_passes(status), description=_words(status, pending), metadata=_figures(status, pending)
        )

    return runs


def flow_states(ask: Ask) -> dg.SensorDefinition:
    """The sensor that tells when a flow's state, backlog or files changed. It is always on, for it changes nothing."""

    @dg.sensor(
        name="flow_states",
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells the state, backlog and pending edits of each flow, on its asset.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        told: dict[str, list[object]] = json.loads(context.cursor or "{}")
        found, pending = ask(context.instance)
        now, events = time.time(), []
        for status in found:
            figures = _figures(status, pending)
            facts = [str(status.last_error or ""), *figures.values()]
            before = told.get(status.name)
            if before is None or before[1:] != facts or now - float(str(before[0])) >= TELL_AGAIN_SECONDS:
                told[status.name] = [now, *facts]
                events += _events(status, pending)
        words = "; ".join(f"{status.name} {status.state}, backlog {status.backlog:,}" for status in found)
        return dg.SensorResult(asset_events=events, cursor=json.dumps(told), skip_reason=words)

    return sensor


def _events(status: FlowStatus, pending: bool) -> list[dg.AssetObservation | dg.AssetCheckEvaluation]:
    key, figures = flow_key(status.name), _figures(status, pending)
    return [
        dg.AssetObservation(key, description=_words(status, pending), metadata=figures),
        dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=CHECK,
            passed=_passes(status),
            description=_words(status, pending),
            metadata=figures,
        ),
    ]


def _passes(status: FlowStatus) -> bool:
    return status.state is not State.FAILED


def _figures(status: FlowStatus, pending: bool) -> dict[str, str | int | bool]:
    return {
        "state": status.state.value,
        "backlog": status.backlog,
        "deferred": status.deferred,
        "refused": status.refused,
        "edit_pending": pending,
    }


def _words(status: FlowStatus, pending: bool) -> str:
    since = f" since {status.since:%Y-%m-%d %H:%M:%S} UTC" if status.since else ""
    error = f" {status.last_error}" if status.last_error else ""
    edit = " The files were changed since the start. To let them take effect: stop, then start." if pending else ""
    return f"{status.state}{since}, backlog {status.backlog:,}.{error}{edit}"
