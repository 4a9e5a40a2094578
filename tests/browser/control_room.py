"""`dagster dev` over a sandbox of its own, as a person has it who works in the browser: own folder, own ports."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d365_campaign.config import read_yaml
from d365_campaign.rehearsal import ENVIRONMENT_FILE, Seed, ask, running_sandbox

ROOT = Path(__file__).parents[2]
CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
STARTUP_SECONDS = 180.0


@dataclass(frozen=True)
class ControlRoom:
    """Dagster's UI at *url*, and the sandbox behind it."""

    url: str
    endpoints: Mapping[str, Any]

    def ask(self, method: str, path: str, **body: object) -> Any:
        """What the sandbox's admin address answers."""
        return ask(self.endpoints, method, path, body or None)

    def profiles(self) -> int:
        """How many profiles Campaign holds."""
        return int(self.ask("GET", "campaign/profile?top=1")["count"])


@contextmanager
def control_room(folder: Path, seed: Seed, **sections: Mapping[str, object]) -> Iterator[ControlRoom]:
    """The sandbox's configuration with *sections* changed; its sensors are off, so that only a click starts a run."""
    port = _free_port()
    home = folder / "home"
    with running_sandbox(seed, directory=folder / "sandbox") as running:
        settings = _settings(folder, {"run": {"start_automatically": False, "retry_seconds": 0}, **sections})
        home.mkdir(parents=True)
        shutil.copy(ROOT / "dagster.yaml", home)
        environment = _environment(home, settings)
        _dagster(home, environment, "instance", "concurrency", "set", "staging", "1").wait()
        ui = _dagster(
            home, environment, "dev", "-w", str(ROOT / "workspace.yaml"), "-p", str(port), "--log-level", "warning"
        )
        try:
            _wait_for(ui, f"http://localhost:{port}/server_info")
            yield ControlRoom(f"http://localhost:{port}", running.endpoints)
        finally:
            _stop(ui)


def _settings(folder: Path, changes: Mapping[str, Mapping[str, object]]) -> Path:
    """The sandbox's settings file, with its state in *folder*."""
    settings: dict[str, Any] = read_yaml((ROOT / "config" / "sandbox.yaml").read_text(encoding="utf-8"))
    settings["environment_file"] = str(folder / "sandbox" / ENVIRONMENT_FILE)
    settings["staging"] = {"path": str(folder / "staging.duckdb")}
    settings["tables"] = str(ROOT / "config" / settings["tables"])
    for section, values in changes.items():
        settings[section] = settings.get(section, {}) | values
    file = folder / "settings.yaml"
    file.write_text(json.dumps(settings), encoding="utf-8")
    return file


def _environment(home: Path, settings: Path) -> dict[str, str]:
    """That of this process, without what it may have from another sandbox."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SANDBOX_", "D365_"))}
    return inherited | {
        "DAGSTER_HOME": str(home),
        "D365_CAMPAIGN_CONFIG": str(settings),
        "PYTHONPATH": str(ROOT),
    }


def _dagster(home: Path, environment: Mapping[str, str], *arguments: str) -> "subprocess.Popen[bytes]":
    command: Sequence[str] = [str(Path(sys.executable).with_name("dagster")), *arguments]
    log = (home / "dagster.log").open("ab")
    with log:
        return subprocess.Popen(
            command, cwd=home, env=dict(environment), stdout=log, stderr=log, start_new_session=True
        )


def _wait_for(ui: "subprocess.Popen[bytes]", address: str) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while ui.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError("dagster dev did not start; its folder has dagster.log")


def _stop(ui: "subprocess.Popen[bytes]") -> None:
    """Its processes stand in a session of their own; what is left of them after a while goes with it."""
    ui.send_signal(signal.SIGINT)
    try:
        ui.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(ui.pid, signal.SIGKILL)
        ui.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
