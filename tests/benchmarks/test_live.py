"""The benchmarks under a real `dagster dev`: what their people do, the comparison of both sides, and the figures."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.agreement import differences
from benchmarks.latency import PARTS, Change, figures
from benchmarks.soak import DEEDS, Deed, Memory, World
from d365_campaign.config import load
from d365_campaign.rehearsal import ask
from d365_campaign.sandbox import Sandbox
from tests.integration import Integration

Ask = Callable[..., Any]
CONFIG = Path(__file__).parents[2] / "config" / "sandbox.yaml"


@pytest.fixture
def synced(sandbox: Sandbox, integration: Integration) -> Ask:
    """The sandbox's own mappings, synced once; asks its admin address."""
    integration.tables = load(CONFIG).tables
    sandbox.seed(contacts=40, accounts=12, purchases=20)
    integration.sync()
    return partial(ask, sandbox.endpoints)


def test_sides_that_were_synced_agree(synced: Ask) -> None:
    assert differences(synced) == []


def test_every_kind_of_difference_is_told_by_key_and_field(sandbox: Sandbox, synced: Ask) -> None:
    first, second, third = (row["contactid"] for row in sandbox.dataverse.rows("contact")[:3])
    sandbox.dataverse.update("contact", first, {"telephone1": "+49 30 1", "donotemail": True})
    sandbox.campaign.delete("profile", second)
    sandbox.campaign.update("profile", third, {"location": {"city": "Elsewhere"}})
    sandbox.campaign.create("profile", {"externalId": "00000000-0000-4000-8000-000000000001"})
    told = differences(synced)
    assert sorted(told) == sorted(
        [
            f"profile {second} is missing",
            "profile 00000000-0000-4000-8000-000000000001 is still there",
            f"profile {first} differs in phone, blackListEmail",
            f"profile {third} differs in location.city",
        ]
    )


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.name)
def test_deed_changes_something(synced: Ask, sandbox: Sandbox, deed: Deed) -> None:
    world, before = World(synced, seed=1), (sandbox.dataverse.version, len(synced("GET", "exports")), profiles(sandbox))
    for _ in range(8):  # an opt-out may be what it was
        deed.do(world)
    assert before != (sandbox.dataverse.version, len(synced("GET", "exports")), profiles(sandbox))


def profiles(sandbox: Sandbox) -> list[dict[str, Any]]:
    return [dict(record) for record in sandbox.campaign.records("profile")]


def test_figures_tell_median_p95_and_the_parts() -> None:
    changes = [Change(dict.fromkeys(PARTS, float(number))) for number in range(1, 101)]
    median, p95 = figures(changes, [2.0])
    assert (median.ours, p95.ours) == (50.5 * len(PARTS), 95.0 * len(PARTS))
    assert not median.met
    assert f"{PARTS[0]} 50.50" in median.remark
    assert figures([Change(dict.fromkeys(PARTS, 1.5))], [2.0])[0].met, "9 s are under 10"


def test_memory_is_told_by_its_first_and_last_quarter() -> None:
    memory = Memory({"daemon": [100.0, 100.0, 500.0, 500.0, 120.0, 120.0, 130.0, 130.0]})
    assert memory.quarters() == {"daemon": (100.0, 130.0)}
    assert Memory({"daemon": [7.0]}).quarters() == {"daemon": (7.0, 7.0)}
