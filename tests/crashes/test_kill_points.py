"""A sync that is killed anywhere ends, after the next one, as if nothing had happened."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from d365_campaign.sandbox import Sandbox
from tests.agreement import assert_in_step
from tests.crashes.run import BATCH_SIZE, PAGE_SIZE, REMOTE, STEPS, sync

ROOT = Path(__file__).parents[2]
CONTACTS = 3 * PAGE_SIZE
MOMENTS = ("before", "uncommitted", "after")
# A change in flight when the process dies takes at most two calls, and is read and written once more.
EXTRA_CALLS = 4 * BATCH_SIZE

FIRST_LOAD = [
    *(f"{moment} absorb {page}" for moment in MOMENTS for page in (1, 2, 3, 4)),
    *(f"{moment} {step} 1" for moment in MOMENTS for step in ("note_existing", "plan")),
    *(f"{moment} {step} {number}" for moment in MOMENTS for step in ("claim", "settle") for number in (1, 2, 5)),
    *(f"{moment} create {number}" for moment in ("before", "after") for number in (1, 17)),
    "after read 1",
]
NEXT_SYNC = [
    *(f"{moment} {step} 1" for moment in MOMENTS for step in ("absorb", "plan", "book_unsettled", "claim", "settle")),
    *(f"{moment} {step} 1" for moment in ("before", "after") for step in ("create", "update", "delete")),
]


def prepare(sandbox: Sandbox) -> list[str]:
    keys = sandbox.seed(contacts=CONTACTS)
    sandbox.campaign.create("profile", {"externalId": keys[3], "firstName": "Before"})
    sandbox.campaign.create("profile", {"email": "somebody@example.com"})
    return keys


def change(sandbox: Sandbox) -> None:
    sandbox.change_contacts(update=12, create=6, delete=5, seed=3)


def killed(sandbox: Sandbox, folder: Path, point: str) -> None:
    endpoints = folder / "endpoints.json"
    endpoints.write_text(json.dumps(sandbox.endpoints), encoding="utf-8")
    command = [sys.executable, "-m", "tests.crashes.run", str(endpoints), str(folder / "staging.duckdb"), point]
    ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert ended.returncode == -9, f"{point} was never reached: {ended.stdout}{ended.stderr}"


@pytest.fixture(scope="module")
def undisturbed_calls(served_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, int]:
    """Engine calls of both syncs when nothing goes wrong."""
    served_sandbox.reset()
    staging = tmp_path_factory.mktemp("undisturbed") / "staging.duckdb"
    prepare(served_sandbox)
    first = sync(served_sandbox.endpoints, staging)
    change(served_sandbox)
    return {"first load": first, "next sync": sync(served_sandbox.endpoints, staging)}


def test_there_are_kill_points_around_every_durable_step() -> None:
    points = FIRST_LOAD + NEXT_SYNC
    assert len(points) > 40
    assert {point.split()[1] for point in points} == set(STEPS)
    assert not [point for point in points if point.startswith("uncommitted") and point.split()[1] in REMOTE]


@pytest.mark.parametrize("point", FIRST_LOAD)
def test_first_load_killed(sandbox: Sandbox, tmp_path: Path, undisturbed_calls: Mapping[str, int], point: str) -> None:
    prepare(sandbox)
    killed(sandbox, tmp_path, point)
    sync(sandbox.endpoints, tmp_path / "staging.duckdb")
    assert_in_step(sandbox, others=1)
    assert sandbox.engine_calls()["total"] <= undisturbed_calls["first load"] + EXTRA_CALLS
    assert sync(sandbox.endpoints, tmp_path / "staging.duckdb") == 0


@pytest.mark.parametrize("point", NEXT_SYNC)
def test_next_sync_killed(sandbox: Sandbox, tmp_path: Path, undisturbed_calls: Mapping[str, int], point: str) -> None:
    prepare(sandbox)
    sync(sandbox.endpoints, tmp_path / "staging.duckdb")
    change(sandbox)
    sandbox.clear_calls()
    killed(sandbox, tmp_path, point)
    sync(sandbox.endpoints, tmp_path / "staging.duckdb")
    assert_in_step(sandbox, others=1)
    assert sandbox.engine_calls()["total"] <= undisturbed_calls["next sync"] + EXTRA_CALLS
    assert sync(sandbox.endpoints, tmp_path / "staging.duckdb") == 0


def test_a_first_load_killed_between_two_pages_goes_on_at_the_next_page(sandbox: Sandbox, tmp_path: Path) -> None:
    prepare(sandbox)
    killed(sandbox, tmp_path, "after absorb 2")
    sandbox.clear_calls()
    sync(sandbox.endpoints, tmp_path / "staging.duckdb")
    full_read = [
        call
        for call in sandbox.calls("dataverse")
        if call.path.endswith("/contacts") and "filter" not in call.query and "deltatoken" not in call.query
    ]
    assert len(full_read) == 1, "only the third page is read"


def test_a_contact_deleted_while_its_insert_was_in_doubt_leaves_no_profile(sandbox: Sandbox, tmp_path: Path) -> None:
    """The run that inserted it died before it knew; Dynamics no longer holds it when the next run looks."""
    keys = sandbox.seed(contacts=CONTACTS)
    killed(sandbox, tmp_path, "before settle 1")
    assert sandbox.campaign.records("profile")
    for key in keys:
        sandbox.dataverse.delete("contact", key)
    sync(sandbox.endpoints, tmp_path / "staging.duckdb")
    assert sandbox.campaign.records("profile") == []
