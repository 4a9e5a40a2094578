"""What a person types and sees. Each command runs as its own process, in a copy of the project's files."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from d365_campaign import rehearsal

ROOT = Path(__file__).parents[1]
COMMAND = str(Path(sys.executable).with_name("d365-campaign"))
SYNC_KEYS = {
    "inserted",
    "updated",
    "deleted",
    "unchanged",
    "refused",
    "engine_calls",
    "engine_calls_adobe",
    "seconds",
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files a user works with, apart from this checkout's own state."""
    for name in ("workspace.yaml", "dagster.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    for name in ("DAGSTER_HOME", "D365_CAMPAIGN_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("D365_CAMPAIGN_CONFIG", str(tmp_path / "config" / "sandbox.yaml"))
    return tmp_path


def run(checkout: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([COMMAND, *arguments], cwd=checkout, check=False, capture_output=True, text=True)


@pytest.fixture
def sandbox_of(checkout: Path) -> Iterator[dict[str, Any]]:
    """`d365-campaign sandbox`, running, with 20 contacts."""
    process = subprocess.Popen(
        [COMMAND, "sandbox", "--contacts", "20", "--free-ports"], cwd=checkout, stdout=subprocess.DEVNULL
    )
    file = checkout / rehearsal.SANDBOX / rehearsal.ENVIRONMENT_FILE
    wait_until(file.exists)
    yield json.loads((checkout / rehearsal.SANDBOX / rehearsal.ENDPOINTS).read_text(encoding="utf-8"))
    process.send_signal(signal.SIGINT)
    process.wait(10)


def wait_until(done: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def test_demo_syncs_twice_and_prints_one_json_object(checkout: Path) -> None:
    ended = run(checkout, "demo", "--json")
    assert ended.returncode == 0, ended.stderr
    shown = json.loads(ended.stdout)
    first, second = shown["syncs"]
    assert set(first["contact"]) >= SYNC_KEYS
    assert (first["contact"]["inserted"], first["contact"]["engine_calls"]) == (1000, 1000)
    assert {name: second["contact"][name] for name in ("updated", "inserted", "deleted", "unchanged")} == {
        "updated": 10,
        "inserted": 6,
        "deleted": 2,
        "unchanged": 988,
    }
    assert second["contact"]["engine_calls"] == 28
    assert (first["contact"]["refused"], first["new_purchase"]["deferred"]) == (1, 1)
    assert second["new_purchase"]["deferred"] == 0, "what it waited for is there"
    opt_outs = second["opt_outs"]
    assert (opt_outs["files"], opt_outs["open"]) == (1, 0)
    assert (opt_outs["to_campaign"]["opted_out"], opt_outs["to_dynamics"]["opted_out"]) == (1, 2)
    [decision] = shown["explained"]["decisions"]
    assert (decision["rule"], decision["written_to"], decision["written"]) == ("opt_out_wins", "dynamics", True)


def test_demo_never_uses_another_configuration(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person with production settings in the environment rehearses on the sandbox all the same."""
    monkeypatch.setenv("D365_CAMPAIGN_CONFIG", "/nowhere/production.yaml")
    monkeypatch.setenv("SANDBOX_D365_URL", "https://production.example.com")
    assert run(checkout, "demo", "--json").returncode == 0


def test_plan_shows_cost_and_sync_writes_it(checkout: Path, sandbox_of: dict[str, Any]) -> None:
    planned = json.loads(run(checkout, "plan", "contact", "--json").stdout)["contact"]
    assert (planned["to_insert"], planned["engine_calls"], planned["engine_calls_adobe"]) == (20, 20, 20)
    assert len(planned["sample_keys"]["insert"]) == 5
    shown = run(checkout, "plan")
    assert re.search(r"engine calls .* 20 ", shown.stdout)
    assert "Opt-outs by people: 0 to Campaign, 0 to Dynamics, 0 in doubt, 0 held" in shown.stdout
    synced = json.loads(run(checkout, "sync", "contact", "--json").stdout)
    done = synced["contact"]
    assert (done["inserted"], done["engine_calls"], done["backlog"]) == (20, 20, 0)
    assert (synced["opt_outs"]["to_dynamics"]["people"], synced["opt_outs"]["open"]) == (0, 0)
    assert json.loads(run(checkout, "plan", "--json").stdout)["contact"]["engine_calls"] == 0


def test_a_second_rehearsal_does_not_take_the_first_ones_state_away(checkout: Path, sandbox_of: dict[str, Any]) -> None:
    ended = run(checkout, "demo")
    assert ended.returncode == 1
    assert f"process {sandbox_of['pid']}" in ended.stderr
    assert (checkout / rehearsal.SANDBOX / rehearsal.ENVIRONMENT_FILE).exists()


def test_a_sandbox_that_is_told_to_stop_leaves_no_process_behind(checkout: Path) -> None:
    folder = checkout / "elsewhere"
    process = subprocess.Popen(
        [COMMAND, "sandbox", "--free-ports", "--directory", str(folder)], cwd=checkout, stdout=subprocess.DEVNULL
    )
    wait_until((folder / rehearsal.ENVIRONMENT_FILE).exists)
    pid = json.loads((folder / rehearsal.ENDPOINTS).read_text(encoding="utf-8"))["pid"]
    process.terminate()
    assert process.wait(20) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_sandbox_says_how_to_log_in_to_its_sftp_storage(checkout: Path, sandbox_of: dict[str, Any]) -> None:
    login = sandbox_of["sftp"]
    lines = (checkout / rehearsal.SANDBOX / rehearsal.ENVIRONMENT_FILE).read_text(encoding="utf-8").splitlines()
    wanted = {"HOST": "host", "PORT": "port", "USER": "user", "HOST_KEY": "host_key", "KEY": "private_key_file"}
    assert {f"SANDBOX_SFTP_{name}={login[member]}" for name, member in wanted.items()} <= set(lines)
    assert Path(login["private_key_file"]).parent == checkout / rehearsal.SANDBOX


def test_an_unknown_table_is_answered_with_the_ones_there_are(checkout: Path) -> None:
    ended = run(checkout, "plan", "accounts")
    assert ended.returncode == 2
    assert "there is no table mapping 'accounts'; there are: account, contact, new_purchase" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_every_fault_of_the_configuration_is_listed_without_a_traceback(checkout: Path) -> None:
    table = checkout / "config" / "sandbox_tables" / "contact.yaml"
    table.write_text(table.read_text(encoding="utf-8") + "  - {source: lastname, target: email}\nsurprise: 1\n")
    ended = run(checkout, "plan")
    assert ended.returncode == 2
    assert "contact.yaml" in ended.stderr
    assert "surprise" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_outside_of_a_checkout_it_says_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    ended = run(tmp_path, "plan")
    assert ended.returncode == 2
    assert "Run this in the checkout, or set DAGSTER_HOME" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_wrong_use_ends_with_2(checkout: Path) -> None:
    assert run(checkout, "plan", "--nonsense").returncode == 2


def test_help_shows_an_example(checkout: Path) -> None:
    assert "d365-campaign plan contact" in run(checkout, "plan", "--help").stdout


def test_schema_file_is_what_the_models_say() -> None:
    assert run(ROOT, "schema", "--check").returncode == 0


def test_dev_brings_an_edited_contact_to_campaign_by_itself(checkout: Path) -> None:
    """R38, R101: sensor, queue and run, with nothing scheduled and nothing clicked."""
    port = free_port()
    process = subprocess.Popen(
        [COMMAND, "dev", "--port", str(port), "--contacts", "10", "--free-ports"],
        cwd=checkout,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until((checkout / rehearsal.SANDBOX / rehearsal.ENVIRONMENT_FILE).exists)
        endpoints = json.loads((checkout / rehearsal.SANDBOX / rehearsal.ENDPOINTS).read_text(encoding="utf-8"))
        wait_until(lambda: len(profiles(endpoints)) == 10, 150)
        edited = admin(endpoints, "dataverse/contacts/any", {"emailaddress1": "edited@example.com"})
        assert edited
        wait_until(lambda: any(p["email"] == "edited@example.com" for p in profiles(endpoints)), 60)
        with urllib.request.urlopen(f"http://localhost:{port}/server_info", timeout=10) as answer:
            assert "dagster_version" in json.load(answer)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)


def profiles(endpoints: dict[str, Any]) -> list[dict[str, Any]]:
    return list(admin(endpoints, "campaign/profile")["content"])


def admin(endpoints: dict[str, Any], path: str, body: dict[str, object] | None = None) -> Any:
    """GET, or PATCH with *body*, at the sandbox's admin address."""
    return rehearsal.ask(endpoints, "GET" if body is None else "PATCH", path, body)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
