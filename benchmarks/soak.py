"""`python -m benchmarks.soak`: the product under a real `dagster dev`, while both systems change every few seconds.

In the end both sides have to be equal, no run may have failed, and memory has to be flat; or else the exit code is 1.
"""

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg

from benchmarks.agreement import differences
from benchmarks.live import Live, running
from benchmarks.report import footer
from d365_campaign.rehearsal import Seed

SEED = Seed(contacts=300, accounts=30, purchases=150)
SAMPLE_SECONDS = 10.0
FIRST_LOAD_SECONDS = 180.0
# The folder of daily files is looked at once a minute, and a file is asked for at the second look.
LOOKS_UNTIL_REST = 28
REST_SECONDS = 900.0
# Memory that grows by more than this from the first quarter to the last, and by this share, is not flat.
GROWTH_MB, GROWTH_SHARE = 30.0, 1.15
OPT_OUTS = {
    "donotemail": "blackListEmail",
    "donotfax": "blackListFax",
    "donotphone": "blackListPhone",
    "donotpostalmail": "blackListPostalMail",
}


class World:
    """Whoever works in both systems."""

    def __init__(self, ask: Callable[..., Any], seed: int) -> None:
        self._ask, self._pick, self._number = ask, random.Random(seed), seed * 1_000_000

    def change(self, **tables: Mapping[str, int]) -> None:
        """Rows of Dynamics that are updated, created or deleted."""
        self._number += 1
        self._ask("POST", "change", {"seed": self._number, **tables})

    def opt_out_in_dynamics(self) -> None:
        column, value = self._pick.choice([*OPT_OUTS]), self._pick.random() < 0.7
        self._ask("PATCH", "dataverse/contacts/any", {column: value})

    def opt_out_in_campaign(self) -> None:
        """Of somebody whose profile is there."""
        profiles = self._ask("GET", "campaign/profile?top=1000")["content"]
        key = self._pick.choice([profile["externalId"] for profile in profiles if profile["externalId"]])
        field_name, value = self._pick.choice([*OPT_OUTS.values()]), self._pick.random() < 0.7
        self._ask("PATCH", f"campaign/profile?key={key}", {field_name: value})

    def export(self) -> None:
        """The daily export, somewhat oftener than daily."""
        self._ask("POST", "exports")


class Deed(NamedTuple):
    """What may happen, and how often beside the others."""

    name: str
    weight: int
    do: Callable[[World], None]


DEEDS = (
    Deed("contact updated", 30, lambda world: world.change(contacts={"update": 1})),
    Deed("contact created", 8, lambda world: world.change(contacts={"create": 1})),
    Deed("contact deleted", 4, lambda world: world.change(contacts={"delete": 1})),
    Deed("burst of 20 contacts", 2, lambda world: world.change(contacts={"update": 20})),
    Deed("account updated", 6, lambda world: world.change(accounts={"update": 1})),
    Deed("account created", 3, lambda world: world.change(accounts={"create": 1})),
    Deed("account deleted, its contacts too", 1, lambda world: world.change(accounts={"delete": 1})),
    Deed("purchase updated", 10, lambda world: world.change(purchases={"update": 1})),
    Deed("purchase created", 10, lambda world: world.change(purchases={"create": 1})),
    Deed("purchase deleted", 3, lambda world: world.change(purchases={"delete": 1})),
    Deed("opt-out in Dynamics", 10, World.opt_out_in_dynamics),
    Deed("opt-out in Campaign", 10, World.opt_out_in_campaign),
    Deed("daily export", 2, World.export),
)


@dataclass
class Memory:
    """Resident megabytes of each long-lived process, by what it is, and the most a run took."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    runs: list[float] = field(default_factory=list)

    def sample(self, live: Live) -> None:
        now = Counter[str]()
        for pid in _descendants(live.dagster.pid):
            try:
                what, megabytes = _what(pid), _resident_mb(pid)
            except (OSError, StopIteration, ValueError):  # it has just ended
                continue
            if what == "run":
                self.runs.append(megabytes)
            else:
                now[what] += megabytes  # type: ignore[assignment]
        for what, megabytes in now.items():
            self.samples.setdefault(what, []).append(megabytes)

    def quarters(self) -> Mapping[str, tuple[float, float]]:
        """Median of the first and of the last quarter."""
        return {
            what: (
                statistics.median(taken[: len(taken) // 4 or 1]),
                statistics.median(taken[-(len(taken) // 4 or 1) :]),
            )
            for what, taken in self.samples.items()
        }


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text(encoding="utf-8").rpartition(")")[2].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(int(status.parent.name))
    found, left = [], [pid]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found


def _what(pid: int) -> str:
    """A process of Dagster's by the job it has."""
    command = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    for mark, name in MARKS.items():
        if mark in command:
            return name
    return "other"


MARKS = {
    "multiprocessing": "run",
    "dagster._daemon": "daemon",
    "dagster_webserver": "webserver",
    "code-server": "code server's keeper",
    "grpc": "code server",
}


def _resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 when a side differs, a run failed or memory grew."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description="A long run under ceaseless changes.")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long things change")
    parser.add_argument("--every", type=float, default=3.0, help="seconds from one change to the next, on average")
    parser.add_argument("--seed", type=int, default=1, help="what happens, and in which order")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="soak-") as directory, running(Path(directory), SEED) as live:
        return _soak(live, given.minutes * 60, given.every, given.seed)


def _soak(live: Live, seconds: float, every: float, seed: int) -> int:
    if not live.wait_for_rest(FIRST_LOAD_SECONDS):
        raise RuntimeError("the first load did not come to an end")
    memory, stop = Memory(), threading.Event()
    sampling = threading.Thread(target=_sample, args=(memory, live, stop))
    sampling.start()
    try:
        done = _live_through(World(live.ask, seed), seconds, every, seed)
        rested = _come_to_rest(live)
    finally:
        stop.set()
        sampling.join()
    left = differences(live.ask)
    return _report(live, done, memory, left, rested=rested)


def _sample(memory: Memory, live: Live, stop: threading.Event) -> None:
    while not stop.wait(SAMPLE_SECONDS):
        memory.sample(live)


def _live_through(world: World, seconds: float, every: float, seed: int) -> Counter[str]:
    """Let something happen again and again; how often what happened."""
    pick, end, done = random.Random(seed), time.monotonic() + seconds, Counter[str]()
    while time.monotonic() < end:
        [deed] = pick.choices(DEEDS, [deed.weight for deed in DEEDS])
        deed.do(world)
        done[deed.name] += 1
        time.sleep(pick.uniform(0.3, 1.7) * every)
    return done


def _come_to_rest(live: Live) -> bool:
    """Whether nothing is left to be done, once Campaign has exported what changed there last."""
    live.ask("POST", "exports")
    return live.wait_for_rest(REST_SECONDS, LOOKS_UNTIL_REST)


def _report(live: Live, done: Counter[str], memory: Memory, left: Sequence[str], *, rested: bool) -> int:
    records = live.runs()
    statuses = Counter(record.dagster_run.status.value for record in records)
    failed = [r for r in records if r.dagster_run.status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)]
    took = [r.end_time - r.start_time for r in records if r.start_time and r.end_time]
    quarters = memory.quarters()
    grown = [w for w, (a, b) in quarters.items() if b - a > GROWTH_MB and b > GROWTH_SHARE * a]
    print(f"Changes: {sum(done.values()):,}: " + ", ".join(f"{n} {name}" for name, n in done.most_common()))
    print(f"Runs: {len(records):,}: " + ", ".join(f"{n} {status}" for status, n in statuses.most_common()))
    print(f"Seconds of a run: median {statistics.median(took):.1f}, longest {max(took):.1f}")
    print(f"Failed runs: {len(failed)}" + "".join(f"\n  {record.dagster_run.run_id}" for record in failed))
    print(f"Came to rest: {'yes' if rested else 'no'}")
    print(f"Differences in the end: {len(left)}" + "".join(f"\n  {line}" for line in left[:20]))
    for what, (first, last) in sorted(quarters.items()):
        print(f"Memory of the {what}: first quarter {first:,.0f} MB, last {last:,.0f} MB")
    if memory.runs:
        print(f"Memory of runs: at most {max(memory.runs):,.0f} MB")
    print(f"Staging file: {live.staging.stat().st_size / 1e6:,.1f} MB")
    print(footer())
    return 1 if failed or left or grown or not rested else 0


if __name__ == "__main__":
    sys.exit(main())
