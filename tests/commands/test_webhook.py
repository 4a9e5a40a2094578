"""`d365-campaign webhook`: what it wants before it listens, and that it wakes the sensor's tables when it does."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest
import requests
import yaml
from click.testing import CliRunner, Result

from assets.wakeups import last_wakeup
from d365_campaign.cli import main
from d365_campaign.rehearsal import CONFIG_VARIABLE
from tests.integration import Integration

KEY = "a-key-that-nobody-guesses"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def settings_file(integration: Integration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The integration as files, with a receiver."""
    home = tmp_path / "home"
    (home / "tables").mkdir(parents=True)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    settings = integration.settings | {
        "webhook": {"key": {"env": "WEBHOOK_KEY"}, "port": free_port()},
        "privacy": {"acknowledged": {"by": "test", "on": "2026-01-01", "text": 1}},
    }
    file = home / "settings.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    for table in integration.tables:
        content = yaml.safe_load(table.model_dump_json(exclude_defaults=True))
        (home / "tables" / f"{table.name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    monkeypatch.setenv("WEBHOOK_KEY", KEY)
    return file


def say(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["webhook", *arguments])


def test_without_a_section_it_says_what_to_add(settings_file: Path) -> None:
    settings = yaml.safe_load(settings_file.read_text(encoding="utf-8"))
    del settings["webhook"]
    settings_file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    answer = say()
    assert answer.exit_code == 2
    assert "webhook: {key: {env: NAME}}" in answer.output


def test_without_a_key_it_does_not_start(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBHOOK_KEY")
    answer = say()
    assert answer.exit_code == 2
    assert "webhook.key" in answer.output


def test_it_listens_to_other_machines_over_tls_only(settings_file: Path) -> None:
    answer = say("--host", "0.0.0.0")
    assert answer.exit_code == 2
    assert "--behind-proxy" in answer.output


def test_certificate_and_key_go_together(settings_file: Path) -> None:
    assert say("--tls-cert", str(settings_file)).exit_code == 2


def test_key_in_the_file_itself_is_refused_and_not_shown(settings_file: Path) -> None:
    settings = yaml.safe_load(settings_file.read_text(encoding="utf-8"))
    settings["webhook"]["key"] = KEY
    settings_file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    answer = say()
    assert answer.exit_code == 2
    assert "webhook.key: a secret is given by environment variable only: {env: NAME}." in answer.output
    assert KEY not in answer.output


def test_post_to_the_running_receiver_is_kept_as_a_wakeup(settings_file: Path) -> None:
    command = [str(Path(sys.executable).with_name("d365-campaign")), "webhook"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}) as receiver:
        try:
            assert receiver.stdout is not None
            address = receiver.stdout.readline().split()[-1]
            headers = {"x-webhook-key": KEY, "x-ms-dynamics-entity-name": "contact"}
            end = time.monotonic() + 20
            while time.monotonic() < end:
                try:
                    answer = requests.post(address, b"{}", headers=headers, timeout=5)
                    break
                except requests.ConnectionError:
                    time.sleep(0.1)
            assert answer.status_code == 202
        finally:
            receiver.send_signal(signal.SIGTERM)
    with dg.DagsterInstance.get() as instance:
        assert last_wakeup(instance, "contact") > 0
