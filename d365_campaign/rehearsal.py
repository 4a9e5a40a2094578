"""A sandbox of one's own, for `make demo` and `make dev`: started clean, and stopped in the end."""

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from d365_campaign.errors import SyncError

CONFIG_VARIABLE = "D365_CAMPAIGN_CONFIG"
CONFIG = Path("config/sandbox.yaml")
STATE = Path(".local")
SANDBOX = STATE / "sandbox"
ENDPOINTS, ENVIRONMENT_FILE = "endpoints.json", "sandbox.env"
STARTUP_SECONDS = 30.0
# So that the lines in the README hold.
FIXED_PORTS = {"dataverse": 8441, "entra": 8442, "campaign": 8443, "ims": 8444, "sftp": 8445}


def start_afresh() -> None:
    """Configure this process for the sandbox, and remove what an earlier one left.

    That is its state, the staging file that mirrors it, and Dagster's history of it. Whatever configuration the
    environment names is not used: a rehearsal never touches a real system. Raises SyncError while another sandbox runs
    here.
    """
    _refuse_beside_another(SANDBOX)
    os.environ[CONFIG_VARIABLE] = str(CONFIG.resolve())
    os.environ["DAGSTER_HOME"] = str(Path.cwd())
    for name in [name for name in os.environ if name.startswith("SANDBOX_")]:
        del os.environ[name]
    shutil.rmtree(STATE, ignore_errors=True)
    (STATE / "dagster").mkdir(parents=True)


class Seed(NamedTuple):
    """What a sandbox begins with; a *story* adds a purchase that has to wait and a contact that is refused."""

    contacts: int = 0
    accounts: int = 0
    purchases: int = 0
    story: bool = False

    def arguments(self) -> list[str]:
        """The same for the sandbox's command line."""
        numbers = self._asdict()
        story = ["--story"] if numbers.pop("story") else []
        return [part for name, number in numbers.items() for part in (f"--{name}", str(number))] + story


class RunningSandbox(NamedTuple):
    """Where it is to be found, and the process it runs in."""

    endpoints: dict[str, Any]
    process: "subprocess.Popen[bytes]"


@contextmanager
def running_sandbox(
    seed: Seed, ports: Mapping[str, int] | None = None, directory: Path = SANDBOX
) -> Iterator[RunningSandbox]:
    """A sandbox in a process of its own until the block ends, also when this process is told to stop.

    Its addresses and demo credentials go into an environment file beside its endpoints; config/sandbox.yaml names the
    one of the default *directory*.
    """
    _refuse_beside_another(directory)
    file = directory / ENDPOINTS
    file.unlink(missing_ok=True)
    chosen = [part for system, port in (ports or {}).items() for part in (f"--{system}-port", str(port))]
    command = [
        sys.executable,
        "-m",
        "d365_campaign.sandbox",
        "--directory",
        str(directory),
        *seed.arguments(),
    ]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    process = subprocess.Popen([*command, *chosen])
    try:
        endpoints = _wait_for_endpoints(file, process)
        _write_environment_file(directory / ENVIRONMENT_FILE, endpoints)
        yield RunningSandbox(endpoints, process)
    finally:
        process.terminate()
        process.wait()
        file.unlink(missing_ok=True)


def ask(endpoints: Mapping[str, Any], method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
    """What the sandbox's admin address answers."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{endpoints['admin']}/{path}", content, method=method)
    trust = ssl.create_default_context(cafile=endpoints["ca_bundle"])
    with urllib.request.urlopen(request, timeout=30, context=trust) as answer:
        return json.load(answer)


def _refuse_beside_another(directory: Path) -> None:
    file = directory / ENDPOINTS
    if not file.exists():
        return
    pid = int(json.loads(file.read_text(encoding="utf-8"))["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return
    raise SyncError(f"a sandbox is running here already (process {pid}). Stop it first.")


def _wait_for_endpoints(file: Path, process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    deadline = time.monotonic() + STARTUP_SECONDS
    while not file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SyncError("the sandbox did not start. Is another one running on the same ports? Stop it first.")
        time.sleep(0.05)
    return dict(json.loads(file.read_text(encoding="utf-8")))


def _write_environment_file(path: Path, endpoints: Mapping[str, Any]) -> None:
    credentials, sftp = endpoints["credentials"], endpoints["sftp"]
    variables = {
        "SANDBOX_CA_BUNDLE": endpoints["ca_bundle"],
        "SANDBOX_D365_URL": endpoints["dataverse"],
        "SANDBOX_D365_TOKEN_URL": endpoints["dataverse_token_url"],
        "SANDBOX_D365_CLIENT_ID": credentials["dataverse"]["client_id"],
        "SANDBOX_D365_CLIENT_SECRET": credentials["dataverse"]["client_secret"],
        "SANDBOX_CAMPAIGN_URL": endpoints["campaign_instance"],
        "SANDBOX_CAMPAIGN_TOKEN_URL": endpoints["ims_token_url"],
        "SANDBOX_CAMPAIGN_CLIENT_ID": credentials["campaign"]["client_id"],
        "SANDBOX_CAMPAIGN_CLIENT_SECRET": credentials["campaign"]["client_secret"],
        "SANDBOX_SFTP_HOST": sftp["host"],
        "SANDBOX_SFTP_PORT": sftp["port"],
        "SANDBOX_SFTP_USER": sftp["user"],
        "SANDBOX_SFTP_HOST_KEY": sftp["host_key"],
        "SANDBOX_SFTP_KEY": sftp["private_key_file"],
    }
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in variables.items())
