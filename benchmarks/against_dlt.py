"""The same pull by dlt, in an environment of its own: `.local/bench/dlt`, made from `dlt/requirements.lock`."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.systems import Systems

FOLDER = Path(__file__).parent / "dlt"
LOCK = FOLDER / "requirements.lock"
ENVIRONMENT = Path(__file__).parents[1] / ".local" / "bench" / "dlt"


class Unavailable(Exception):
    """dlt can't be installed here."""


def environment(folder: Path = ENVIRONMENT, lock: Path = LOCK) -> Path:
    """The interpreter that has just what *lock* names; made when it isn't there, or made from another lock.

    Raises Unavailable, for instance where no registry can be reached.
    """
    python, ready = folder / "bin" / "python", folder / "made-from"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if ready.exists() and ready.read_text(encoding="ascii") == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", str(lock))
    for command in ([sys.executable, "-m", "venv", str(folder)], [str(python), *install]):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
            raise Unavailable(said[-1])
    ready.write_text(wanted, encoding="ascii")
    return python


def version(lock: Path = LOCK) -> str:
    """The version of dlt that *lock* names."""
    line = next(line for line in lock.read_text(encoding="utf-8").splitlines() if line.startswith("dlt=="))
    return line.removeprefix("dlt==").split()[0]


def seconds_of_pull(python: Path, systems: Systems, query: tuple[str, str, str], directory: Path, rows: int) -> float:
    """What dlt needs for the rows of *query* (entity set, `$select`, `Prefer`); its start-up and imports are left out.

    *directory* is made anew and holds whatever dlt leaves behind.
    """
    directory.mkdir()
    endpoints = directory / "endpoints.json"
    endpoints.write_text(json.dumps(systems.endpoints), encoding="utf-8")
    done = subprocess.run(
        [str(python), str(FOLDER / "pull.py"), str(endpoints), *query, str(directory)],
        cwd=FOLDER,  # where its settings are: .dlt/config.toml
        env=os.environ | {"DLT_DATA_DIR": str(directory)},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"dlt's pull failed:\n{done.stderr}")
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["rows"] == rows, told
    return float(told["seconds"])
