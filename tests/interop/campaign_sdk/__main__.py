"""Install Adobe's JavaScript SDK, start a sandbox, run the checks: `python -m tests.interop.campaign_sdk`.

Needs node and npm. The SDK goes to `.local/interop`; nothing of it enters the repository.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
MODULES = Path(".local") / "interop" / "campaign_sdk"
SERVED = Path(".local") / "interop" / "sandbox"
START_SECONDS = 30.0


def main() -> int:
    if shutil.which("npm") is None:
        print("npm is missing: Adobe's SDK is a JavaScript package.", file=sys.stderr)
        return 2
    install()
    with sandbox() as endpoints:
        environment = os.environ | {"NODE_EXTRA_CA_CERTS": str(endpoints.parent / "ca.pem"), "LOG_LEVEL": "error"}
        command = ["node", str(HERE / "run.js"), str(endpoints), str(MODULES)]
        return subprocess.run(command, env=environment, check=False).returncode


def install() -> None:
    """Into a folder of its own, and only when the wanted version changed. No install scripts run, no lock is kept."""
    MODULES.mkdir(parents=True, exist_ok=True)
    wanted, installed = (HERE / "package.json").read_text(), MODULES / "package.json"
    if (MODULES / "node_modules").is_dir() and installed.exists() and installed.read_text() == wanted:
        return
    installed.write_text(wanted)
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
    subprocess.run(["npm", "install", *quiet], cwd=MODULES, check=True)


@contextmanager
def sandbox() -> Iterator[Path]:
    """A sandbox in a process of its own; where its endpoints are written."""
    shutil.rmtree(SERVED, ignore_errors=True)
    endpoints = SERVED / "endpoints.json"
    process = subprocess.Popen([sys.executable, "-m", "d365_campaign.sandbox", "--directory", str(SERVED)])
    try:
        deadline = time.monotonic() + START_SECONDS
        while not endpoints.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the sandbox did not start")
            time.sleep(0.05)
        yield endpoints.resolve()
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    sys.exit(main())
