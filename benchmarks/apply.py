"""Writing to Campaign, against what so many workers could do at best; then again, when nothing has changed."""

from pathlib import Path

from benchmarks.report import Figure, Target, peak_mb, spread
from benchmarks.systems import Systems, profiles, running
from d365_campaign.binding import BoundMapping
from d365_campaign.changes import ApplySummary
from d365_campaign.clients.campaign import CampaignClient
from d365_campaign.clients.dataverse import DataverseClient
from d365_campaign.flows.apply import EngineCallBudget, Pace, apply
from d365_campaign.flows.deadline import Deadline
from d365_campaign.flows.guards import Guards
from d365_campaign.flows.plan import plan
from d365_campaign.flows.pull import pull
from d365_campaign.store.staging import open_staging

INSERTS = 4_000
REPEATS = 3
WORKERS = 16
LATENCY_SECONDS = 0.05


def run(directory: Path, scale: float) -> list[Figure]:
    inserts = max(WORKERS, round(INSERTS * scale))
    speeds = []
    for number in range(REPEATS):
        folder = directory / f"round{number}"
        with running(folder, inserts, WORKERS) as systems:
            systems.admin("POST", "settings", {"campaign_latency_seconds": LATENCY_SECONDS})
            speeds.append(_write_all(systems, folder / "staging.duckdb", inserts))
    return [
        Figure(
            what="apply",
            size=f"{inserts:,} inserts, {WORKERS} workers, {LATENCY_SECONDS * 1000:.0f} ms per call",
            unit="calls/s",
            ours=max(speeds),
            yardstick=WORKERS / LATENCY_SECONDS,
            target=Target("at least", 0.9),
            peak_mb=peak_mb(),
            spread=spread(speeds),
            remark="yardstick: workers / latency; a second sync of unchanged contacts made no engine call",
        )
    ]


def _write_all(systems: Systems, staging: Path, inserts: int) -> float:
    """Calls per second of a first load. A second sync must not make a single one."""
    dynamics, campaign = systems.dynamics(), systems.campaign()
    try:
        bound = profiles(dynamics, campaign)
        first = sync(dynamics, campaign, bound, staging)
        assert first.inserted == first.engine_calls == _engine_calls(systems) == inserts, first
        second = sync(dynamics, campaign, bound, staging)
        assert second.engine_calls == 0, second
        assert _engine_calls(systems) == inserts, "Campaign saw engine calls for contacts that hadn't changed"
    finally:
        dynamics.close()
        campaign.close()
    return inserts / first.seconds


def sync(dynamics: DataverseClient, campaign: CampaignClient, bound: BoundMapping, staging: Path) -> ApplySummary:
    """Pull, plan and apply, as one run does."""
    target = campaign.target(bound.target, bound.mapping.key.target)
    with open_staging(staging) as file:
        store = file.table(bound)
        pull(dynamics, store, Deadline(None))
        plan(store, target)
        return apply(
            store,
            file.ledger,
            target,
            pace=Pace(workers=WORKERS),
            budget=EngineCallBudget(),
            guards=Guards(),
            deadline=Deadline(None),
        )


def _engine_calls(systems: Systems) -> int:
    return int(systems.admin("GET", "engine-calls")["total"])
