"""R90, R96, R98, R104: a flow's states and what changes them, edits that wait for the next start, swapped secrets."""

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copy

import dagster as dg
import pytest

from assets.flows import State, Trouble, state_of
from d365_campaign.sandbox import Sandbox, identity_api
from tests.agreement import assert_in_step, profiles
from tests.flowing import SECRET, Flowing
from tests.integration import Integration
from tests.mappings import contact_mapping

ROOT = Path(__file__).parents[2]
PASSING, LASTING = Trouble(1.0, "no answer", passing=True), Trouble(1.0, "refused", passing=False)


@pytest.fixture
def flowing(integration: Integration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flowing:
    return Flowing(integration, tmp_path / "home", monkeypatch)


@pytest.mark.parametrize(
    ("on", "seen", "trouble", "state"),
    [
        (False, False, None, State.STOPPED),
        (False, True, LASTING, State.STOPPED),
        (True, False, None, State.STARTING),
        (True, False, PASSING, State.STARTING),
        (True, False, LASTING, State.FAILED),
        (True, True, None, State.RUNNING),
        (True, True, PASSING, State.RUNNING),
        (True, True, LASTING, State.FAILED),
    ],
)
def test_state_follows_from_what_is_known(on: bool, seen: bool, trouble: Trouble | None, state: State) -> None:
    assert state_of(on=on, seen=seen, trouble=trouble) is state


# What happens to a flow, whether it may, and the state after it.
Step = tuple[str, bool, str]
WALKS: dict[str, list[Step]] = {
    "start, run, stop": [
        ("stop", False, "STOPPED"),
        ("start", True, "STARTING"),
        ("start", False, "STARTING"),
        ("run", True, "RUNNING"),
        ("start", False, "RUNNING"),
        ("stop", True, "STOPPED"),
        ("stop", False, "STOPPED"),
        ("start", True, "STARTING"),
        ("idle look", True, "RUNNING"),
    ],
    "fail, and recover": [
        ("start", True, "STARTING"),
        ("failed run", True, "FAILED"),
        ("start", False, "FAILED"),
        ("idle look", True, "FAILED"),
        ("run", True, "RUNNING"),
        ("passing error", True, "RUNNING"),
        ("failed run", True, "FAILED"),
        ("stop", True, "STOPPED"),
        ("start", True, "STARTING"),
    ],
    "a first answer that never came is no data": [
        ("start", True, "STARTING"),
        ("passing error", True, "STARTING"),
        ("idle look", True, "STARTING"),
        ("stop", True, "STOPPED"),
    ],
}


@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)
def test_walk_through_the_states(sandbox: Sandbox, flowing: Flowing, walk: list[Step]) -> None:
    """R98: start only when stopped, stop only when not; a refused one changes nothing."""
    sandbox.seed(contacts=1)
    flowing.integration.set("dynamics", attempts=1)
    flowing.integration.set("run", retries=1)
    flowing.write()
    done: dict[str, Callable[[], bool]] = {
        "start": lambda: flowing.say("start").exit_code == 0,
        "stop": lambda: flowing.say("stop").exit_code == 0,
        "run": lambda: flowing.run().success,
        "idle look": lambda: flowing.sensor_looks("SKIPPED") is None,
        "failed run": lambda: not run_with(sandbox, flowing, status=403),
        "passing error": lambda: not run_with(sandbox, flowing, status=503),
    }
    for number, (step, legal, state) in enumerate(walk):
        assert (done[step](), flowing.state) == (legal, state), f"step {number}, {step}"


def run_with(sandbox: Sandbox, flowing: Flowing, status: int) -> bool:
    """A run to which Dynamics answers with this *status*."""
    sandbox.add_fault(system="dataverse", method="GET", path=".", times=100, status=status, body="")
    succeeded = flowing.run().success
    sandbox.clear_faults()
    return succeeded


def test_a_flow_that_failed_keeps_its_place(sandbox: Sandbox, flowing: Flowing) -> None:
    sandbox.seed(contacts=3)
    flowing.say("start")
    flowing.run()
    run_with(sandbox, flowing, status=403)
    assert flowing.state == "FAILED"
    sandbox.change_contacts(update=1)
    assert flowing.run().materialized["dynamics/contact"]["full_read"] is False
    assert_in_step(sandbox)


def test_a_flow_is_stopped_only_once_its_run_has_ended(flowing: Flowing) -> None:
    """R98: no write while not RUNNING."""
    flowing.say("start")
    run = flowing.unfinished_run(dg.DagsterRunStatus.STARTED)
    ended = flowing.say("stop", "--wait", "0")
    assert (ended.exit_code, run[:8] in ended.stderr) == (1, True)
    assert flowing.state != "STOPPED"
    assert flowing.say("start").exit_code == 1
    flowing.end(run)
    assert flowing.state == "STOPPED"


def test_a_run_that_has_not_begun_is_cancelled_by_a_stop(flowing: Flowing) -> None:
    flowing.say("start")
    run = flowing.unfinished_run(dg.DagsterRunStatus.NOT_STARTED)
    assert flowing.say("stop").exit_code == 0
    with dg.DagsterInstance.get() as instance:
        found = instance.get_run_by_id(run)
    assert found
    assert found.status is dg.DagsterRunStatus.CANCELED


def test_a_secret_is_swapped_under_load_and_nothing_is_lost(
    sandbox: Sandbox, flowing: Flowing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R104."""
    secrets = flowing.settings_file.with_name("secrets.env")
    secrets.write_text(f"{SECRET}={os.environ[SECRET]}\n", encoding="utf-8")
    monkeypatch.delenv(SECRET)
    flowing.integration.settings["environment_file"] = "secrets.env"
    flowing.integration.set("run", write_seconds=0.0001, batch_size=5)
    flowing.integration.set("dynamics", page_size=10)
    flowing.write()
    sandbox.seed(contacts=30)
    flowing.say("start")
    flowing.run()
    assert flowing.status()["backlog"] > 0

    known = dataclasses.replace(identity_api.DATAVERSE_APPLICATION, client_secret="the next secret")
    monkeypatch.setattr(identity_api, "DATAVERSE_APPLICATION", known)
    sandbox.expire_tokens()
    sandbox.change_contacts(update=5, create=5, delete=2)
    assert not flowing.run().success
    assert flowing.state == "FAILED"

    flowing.say("stop")
    secrets.write_text(f"{SECRET}={known.client_secret}\n", encoding="utf-8")
    flowing.integration.set("run", write_seconds=60)
    flowing.write()
    flowing.say("start")
    assert flowing.run().success
    assert (flowing.state, flowing.status()["backlog"]) == ("RUNNING", 0)
    assert_in_step(sandbox)


def test_an_edit_waits_for_the_next_start(sandbox: Sandbox, flowing: Flowing) -> None:
    """R90, A3: neither a field that is added nor a setting holds before."""
    whole = contact_mapping()
    flowing.integration.tables = [
        contact_mapping(fields=[f.model_dump() for f in whole.fields if f.target != "firstName"])
    ]
    flowing.write()
    [key] = sandbox.seed(contacts=1)
    flowing.say("start")
    flowing.run()
    assert flowing.status()["pending_changes"] is False

    flowing.integration.tables = [whole]
    flowing.write()
    sandbox.dataverse.update("contact", key, {"lastname": "Changed"})
    flowing.run()
    [profile] = profiles(sandbox)
    assert (profile["firstName"], profile["lastName"]) == ("", "Changed")
    assert flowing.status()["pending_changes"] is True

    flowing.say("stop")
    flowing.say("start")
    flowing.run()
    assert flowing.status()["pending_changes"] is False
    assert_in_step(sandbox)


def test_daemon_writes_only_between_start_and_stop(sandbox: Sandbox, flowing: Flowing) -> None:
    """R98: what changes while the flow is stopped waits."""
    copy(ROOT / "workspace.yaml", flowing.home)
    with flowing.settings_file.with_name("dagster.log").open("w") as log, daemon(flowing.home, log.fileno()):
        [key] = sandbox.seed(contacts=1)
        flowing.say("start")
        wait_until(lambda: len(profiles(sandbox)) == 1)
        assert flowing.say("stop").exit_code == 0
        assert flowing.state == "STOPPED"
        sandbox.dataverse.update("contact", key, {"firstname": "Changed"})
        sandbox.clear_calls()
        time.sleep(7)
        assert sandbox.calls() == []
    assert profiles(sandbox)[0]["firstName"] != "Changed"


@contextmanager
def daemon(home: Path, log: int) -> Iterator[None]:
    """Dagster's daemon, which looks by the sensor and launches its runs."""
    command = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-w", "workspace.yaml"]
    process = subprocess.Popen(command, cwd=home, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def wait_until(done: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
