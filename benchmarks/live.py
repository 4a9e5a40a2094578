"""The sandbox and a real `dagster dev` over it, in folders and on ports of their own: the product as it is used."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from d365_campaign import rehearsal

ROOT = Path(__file__).parents[1]
STARTUP_SECONDS = 120.0
STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Live:
    """A running integration: where its sandbox is, what Dagster keeps of it, and its processes."""

    endpoints: Mapping[str, Any]
    instance: dg.DagsterInstance
    dagster: "subprocess.Popen[bytes]"
    sandbox: "subprocess.Popen[bytes]"
    staging: Path
    configuration: Path

    def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Steer the sandbox, or look into it."""
        return rehearsal.ask(self.endpoints, method, path, body)

    def runs(self, statuses: list[dg.DagsterRunStatus] | None = None) -> list[dg.RunRecord]:
        """All runs so far, earliest first."""
        return list(self.instance.get_run_records(dg.RunsFilter(statuses=statuses or []), ascending=True))

    def wait_for_rest(self, seconds: float, looks: int = 3) -> bool:
        """Wait until the sensor has looked so often, one look after the other, without asking for a run."""
        end, quiet_since, quiet_seconds = time.monotonic() + seconds, 0.0, looks * 5.0
        while time.monotonic() < end:
            if self.runs(IN_PROGRESS) or not self.instance.get_runs_count(dg.RunsFilter(statuses=[SUCCESS])):
                quiet_since = 0.0
            elif not quiet_since:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since >= quiet_seconds:
                return True
            time.sleep(0.5)
        return False


SUCCESS = dg.DagsterRunStatus.SUCCESS
IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


@contextmanager
def running(
    directory: Path, seed: rehearsal.Seed, changes: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[Live]:
    """Both of them until the block ends; *changes* are settings that differ from the sandbox's configuration."""
    home, state = directory / "home", directory / "dagster"
    home.mkdir(parents=True)
    state.mkdir()
    kept = (ROOT / "dagster.yaml").read_text(encoding="utf-8").replace(".local/dagster", str(state))
    (home / "dagster.yaml").write_text(kept, encoding="utf-8")
    staging = directory / "staging.duckdb"
    with rehearsal.running_sandbox(seed, None, directory / "sandbox") as sandbox:
        configuration = _configuration(directory, staging, changes or {})
        environment = _environment(home, configuration, directory)
        dagster = str(Path(sys.executable).with_name("dagster"))
        limit = [dagster, "instance", "concurrency", "set", "staging", "1"]
        subprocess.run(limit, check=True, env=environment, cwd=directory, stdout=subprocess.DEVNULL)
        port = _free_port()
        command = [dagster, "dev", "-w", str(ROOT / "workspace.yaml"), "-p", str(port), "--log-level", "warning"]
        with (directory / "dagster.log").open("wb") as told, dg.DagsterInstance.from_config(str(home)) as instance:
            process = subprocess.Popen(
                command, env=environment, cwd=directory, stdout=told, stderr=told, start_new_session=True
            )
            try:
                _wait_until_serving(port, process)
                yield Live(sandbox.endpoints, instance, process, sandbox.process, staging, configuration)
            finally:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:  # as a job in the background it is deaf to an interrupt
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def _configuration(directory: Path, staging: Path, changes: Mapping[str, Mapping[str, Any]]) -> Path:
    """The sandbox's own configuration, led to this sandbox and this staging file."""
    settings = yaml.safe_load((ROOT / rehearsal.CONFIG).read_text(encoding="utf-8"))
    settings["environment_file"] = str(directory / "sandbox" / rehearsal.ENVIRONMENT_FILE)
    settings["tables"] = str(ROOT / "config" / settings["tables"])
    settings["staging"] = {"path": str(staging)}
    settings["privacy"] = {"acknowledged": {"by": "benchmark", "on": "2026-01-01", "text": 1}}
    for section, values in changes.items():
        settings[section] = settings.get(section, {}) | dict(values)
    file = directory / "settings.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return file


def _environment(home: Path, configuration: Path, directory: Path) -> dict[str, str]:
    """This process's, without another sandbox's variables; modules are compiled once, as they are anywhere else."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("SANDBOX_", "D365_CAMPAIGN_"))}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    compiled = {"PYTHONPYCACHEPREFIX": str(directory / "compiled")} if "PYTHONDONTWRITEBYTECODE" in os.environ else {}
    return kept | compiled | {"DAGSTER_HOME": str(home), rehearsal.CONFIG_VARIABLE: str(configuration)}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_serving(port: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise RuntimeError("dagster dev did not start")
