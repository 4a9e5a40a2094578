"""From a change in Dynamics to the written profile, under a real `dagster dev`, and where the time goes."""

import math
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import dagster as dg

from benchmarks.live import Live, running
from benchmarks.report import Figure, Target, peak_mb, seconds, spread
from d365_campaign.rehearsal import Seed

CHANGES = 50
CONTACTS = 200
LONGEST_SECONDS = 120.0
# From one written profile to the next change: the sensor's interval, so that changes fall anywhere in it.
PAUSE_SECONDS = (1.0, 6.0)
PARTS = ("detect", "launch", "pull", "opt_outs", "plan", "apply")
MEDIAN_TARGET_SECONDS, P95_TARGET_SECONDS = 10.0, 20.0


class Change(NamedTuple):
    """One change, its seconds by part; they add up to the whole."""

    parts: Mapping[str, float]

    @property
    def seconds(self) -> float:
        return sum(self.parts.values())


def run(directory: Path, scale: float) -> list[Figure]:
    number = max(3, round(CHANGES * scale))
    with running(directory, Seed(contacts=CONTACTS, accounts=20, purchases=100)) as live:
        if not live.wait_for_rest(LONGEST_SECONDS):
            raise RuntimeError("the first load did not come to an end")
        found = live.ask("GET", f"campaign/profile?top={CONTACTS}")["content"]
        keys = [profile["externalId"] for profile in found]
        pick = random.Random(1)
        imports, changes = [bare_import()], []
        for count in range(number):
            time.sleep(pick.uniform(*PAUSE_SECONDS))
            changes.append(_measured(live, pick.choice(keys), f"+49 30 {count:07}"))
            if count % 10 == 9:
                imports.append(bare_import())
    return figures(changes, imports)


def bare_import() -> float:
    """Seconds that a new process takes to import Dagster and nothing else: the floor of what starting a run costs."""
    return seconds(lambda: subprocess.run([sys.executable, "-c", "import dagster"], check=True))


def _measured(live: Live, key: str, phone: str) -> Change:
    live.ask("DELETE", "calls")
    began = time.time()
    live.ask("PATCH", f"dataverse/contacts/{key}", {"telephone1": phone})
    written = _written_at(live, began + LONGEST_SECONDS)
    moments = [began, *_moments(live.instance, written), written]
    return Change(dict(zip(PARTS, (b - a for a, b in pairwise(moments)), strict=True)))


def _written_at(live: Live, until: float) -> float:
    """When the sandbox's Campaign answered the PATCH of a profile."""
    while time.time() < until:
        for call in live.ask("GET", "calls?system=campaign"):
            if call["method"] == "PATCH" and call["operation"] == "update":
                return datetime.fromisoformat(call["at"]).timestamp()
        time.sleep(0.25)
    raise RuntimeError(f"the change did not arrive within {LONGEST_SECONDS:.0f} s")


def _moments(instance: dg.DagsterInstance, written: float) -> list[float]:
    """Of the run that wrote at this moment: asked for, first step, pulled, opt-outs done, planned."""
    record = next(r for r in instance.get_run_records(limit=5) if r.start_time and r.start_time <= written)
    wanted = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.ASSET_MATERIALIZATION}
    began: dict[str, float] = {}
    ended: dict[str, float] = {}
    for entry in instance.all_logs(record.dagster_run.run_id, of_type=wanted):
        event = entry.dagster_event
        assert event is not None
        at = began if event.event_type is dg.DagsterEventType.STEP_START else ended
        at[str(event.step_key)] = entry.timestamp
    return [
        record.create_timestamp.timestamp(),
        min(began.values()),
        ended["dynamics__contact"],
        began["change_set__contact"],
        ended["change_set__contact"],
    ]


def figures(changes: Sequence[Change], imports: Sequence[float]) -> list[Figure]:
    """Median and 95th percentile, beside what a bare import took in the same minutes."""
    taken = sorted(change.seconds for change in changes)
    floor = statistics.median(imports)
    split = ", ".join(f"{part} {statistics.median(c.parts[part] for c in changes):.2f}" for part in PARTS)
    remark = (
        f"median seconds of each part: {split}; longest {taken[-1]:.1f} s. The yardstick is a process that imports "
        f"Dagster and nothing else; targets are {MEDIAN_TARGET_SECONDS:.0f} s and {P95_TARGET_SECONDS:.0f} s"
    )
    median, p95 = statistics.median(taken), taken[math.ceil(0.95 * len(taken)) - 1]
    return [
        _figure("latency, median", median, floor, MEDIAN_TARGET_SECONDS, changes, remark),
        _figure("latency, p95", p95, floor, P95_TARGET_SECONDS, changes, ""),
    ]


def _figure(what: str, taken: float, floor: float, target: float, changes: Sequence[Change], remark: str) -> Figure:
    return Figure(
        what=what,
        size=f"{len(changes)} changes",
        unit="s",
        ours=taken,
        yardstick=floor,
        target=Target("at most", round(target / floor, 2)),
        peak_mb=peak_mb(),
        spread=spread([change.seconds for change in changes]),
        remark=remark,
    )
