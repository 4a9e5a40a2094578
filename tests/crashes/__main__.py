"""Kill syncs at random moments, over and over: python -m tests.crashes --rounds 200

Each round changes contacts, starts a sync in a process of its own and kills it at a random moment; every fifth round a
sync runs to its end and both systems are compared. Ends with exit code 1 at the first difference.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from d365_campaign.sandbox import Sandbox
from tests.agreement import assert_in_step
from tests.crashes.run import sync
from tests.crashes.test_kill_points import ROOT, prepare

CHECK_EVERY = 5


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.crashes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    killed = checks = 0
    with tempfile.TemporaryDirectory() as folder, Sandbox.start(Path(folder)) as sandbox:
        print(f"seed {arguments.seed}", flush=True)
        prepare(sandbox)
        # The profile that was there before is adopted first: deleted in Dynamics before that, it would rightly stay.
        sync(sandbox.endpoints, Path(folder) / "staging.duckdb")
        for number in range(1, arguments.rounds + 1):
            sandbox.change_contacts(update=20, create=8, delete=6, seed=chance.randrange(1 << 30))
            killed += start_and_kill(Path(folder), chance.uniform(0.3, 2.0))
            if number % CHECK_EVERY == 0:
                sync(sandbox.endpoints, Path(folder) / "staging.duckdb")
                assert_in_step(sandbox, others=1)
                assert sync(sandbox.endpoints, Path(folder) / "staging.duckdb") == 0
                checks += 1
    print(f"{arguments.rounds} rounds, {killed} killed in mid-run, {checks} comparisons, all equal")


def start_and_kill(folder: Path, seconds: float) -> bool:
    """Whether the sync was still running when its time was up."""
    command = [
        sys.executable,
        "-m",
        "tests.crashes.run",
        str(folder / "endpoints.json"),
        str(folder / "staging.duckdb"),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"a sync failed by itself: {said.decode()[-2000:]}")
    return False


if __name__ == "__main__":
    main()
