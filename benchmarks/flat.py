"""Staying flat: the hundredth run takes no longer than the first, and neither file nor memory grows with runs."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.apply import sync
from benchmarks.plan import connection_of
from benchmarks.report import Figure, Target, peak_mb, seconds, spread
from benchmarks.systems import Systems, profiles, running
from d365_campaign.binding import BoundMapping
from d365_campaign.clients.campaign import CampaignClient
from d365_campaign.clients.dataverse import DataverseClient
from d365_campaign.flows.deadline import Deadline
from d365_campaign.flows.pull import pull
from d365_campaign.store import sql
from d365_campaign.store.staging import open_staging

CONTACTS, FULL_CONTACTS = 50_000, 200_000
RUNS, FULL_RUNS = 30, 300
CHANGES = 100
TARGET = Target("at most", 1.2)


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took, and what it left behind."""

    seconds: float
    cpu_seconds: float
    file_mb: float
    memory_mb: float


def run(directory: Path, scale: float, full: bool = False) -> list[Figure]:
    contacts = max(2 * CHANGES, round((FULL_CONTACTS if full else CONTACTS) * scale))
    number = max(10, round((FULL_RUNS if full else RUNS) * min(1.0, scale)))
    with running(directory, contacts, workers=16) as systems:
        runs = _runs(systems, directory / "staging.duckdb", number)
    tenth = max(1, number // 10)
    first, halfway, last = runs[:tenth], runs[(number - tenth) // 2 :][:tenth], runs[-tenth:]
    size = f"{number} runs of {CHANGES} changes over {contacts:,} contacts"
    return [
        _figure("flat, time per run", "s", size, *([r.seconds for r in part] for part in (first, halfway, last))),
        # Our process alone: other work on the machine hardly shows in it, so it tells whether the growth is ours.
        _figure("flat, CPU per run", "s", size, *([r.cpu_seconds for r in part] for part in (first, halfway, last))),
        _figure("flat, staging file", "MB", size, *([r.file_mb for r in part] for part in (first, halfway, last))),
        _figure("flat, memory", "MB", size, *([r.memory_mb for r in part] for part in (first, halfway, last))),
    ]


def _figure(
    what: str, unit: str, size: str, first: Sequence[float], halfway: Sequence[float], last: Sequence[float]
) -> Figure:
    tenths = [statistics.median(part) for part in (first, halfway, last)]
    return Figure(
        what=what,
        size=size,
        unit=unit,
        ours=tenths[2],
        yardstick=tenths[0],
        target=TARGET,
        peak_mb=peak_mb(),
        spread=spread([*first, *halfway, *last]),
        remark="first, middle and last tenth of the runs: " + ", ".join(f"{value:.3g} {unit}" for value in tenths),
    )


def _runs(systems: Systems, staging: Path, number: int) -> list[Run]:
    dynamics, campaign = systems.dynamics(), systems.campaign()
    try:
        bound = profiles(dynamics, campaign)
        _load(dynamics, campaign, bound, staging)
        return [_run(systems, dynamics, campaign, bound, staging, seed) for seed in range(number)]
    finally:
        dynamics.close()
        campaign.close()


def _load(dynamics: DataverseClient, campaign: CampaignClient, bound: BoundMapping, staging: Path) -> None:
    """A table in step. Its first load into Campaign is left out: an update of a record that isn't there takes the same
    two calls as any other, one to look and one to write."""
    with open_staging(staging) as file:
        store = file.table(bound)
        pull(dynamics, store, Deadline(None))
        columns = ", ".join(sql.quote(name) for name in sql.mirror_columns(bound))
        desired = f"select {columns} from {sql.relation(bound, 'desired')}"
        connection_of(store).execute(f"insert into {sql.relation(bound, 'mirror')} ({columns}) {desired}")
    sync(dynamics, campaign, bound, staging)


def _run(
    systems: Systems,
    dynamics: DataverseClient,
    campaign: CampaignClient,
    bound: BoundMapping,
    staging: Path,
    seed: int,
) -> Run:
    systems.admin("POST", "change", {"contacts": {"update": CHANGES}, "seed": seed})
    busy = time.process_time()
    took = seconds(lambda: _sync_changes(dynamics, campaign, bound, staging))
    busy = time.process_time() - busy
    systems.admin("DELETE", "calls")
    return Run(took, busy, staging.stat().st_size / 1e6, _memory_mb())


def _sync_changes(dynamics: DataverseClient, campaign: CampaignClient, bound: BoundMapping, staging: Path) -> None:
    summary = sync(dynamics, campaign, bound, staging)
    assert summary.backlog == summary.refused == 0, summary
    assert summary.updated + summary.inserted + summary.identical == CHANGES, summary


def _memory_mb() -> float:
    """What this process holds now; the most it ever held where the system doesn't tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return peak_mb()
    held = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmRSS:"))
    return int(held.split()[1]) / 1024
