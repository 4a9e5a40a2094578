"""Let anything happen to opt-outs, over and over: python -m tests.opt_outs --sequences 20000 --seed 1

Each sequence is a new integration on an empty sandbox; people, both systems and the network do what they like to it,
then it comes to rest. At the first violation its sequence is made as short as possible and printed, and the exit code
is 1. The same seed makes the same sequences.
"""

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

from d365_campaign.sandbox import Sandbox
from tests.opt_outs.machine import STEPS, check
from tests.opt_outs.world import World

AT_ONCE = 100  # Hypothesis remembers what it tried, so a long run is made of many short ones
MEMORY = Path("/dev/shm")


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.opt_outs", description=__doc__)
    parser.add_argument("--sequences", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--steps", type=int, default=STEPS, help="at most so many in a sequence")
    arguments = parser.parse_args()
    logging.disable(logging.ERROR)
    print(f"seed {arguments.seed}, {arguments.sequences} sequences of up to {arguments.steps} steps", flush=True)
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder,
        Sandbox.start(Path(folder)) as sandbox,
    ):
        world = World(sandbox, Path(folder))
        number = arguments.seed
        while world.counts["sequences"] < arguments.sequences:
            wanted = min(AT_ONCE, arguments.sequences - world.counts["sequences"])
            try:
                check(world, wanted, seed=number, steps=arguments.steps)
            except Exception as violation:
                print(f"VIOLATION after {world.counts['sequences']} sequences, in those of seed {number}:\n{violation}")
                print("\n".join(getattr(violation, "__notes__", ())), flush=True)
                sys.exit(1)
            number += 1
            rate = world.counts["sequences"] / (time.monotonic() - started)
            print(f"{world.counts['sequences']} sequences, {rate:.2f} per second; {told(world)}", flush=True)
        world.end()
    print(f"{told(world)}; no violation")


def told(world: World) -> str:
    counts = [*sorted(world.counts.items()), *((f"decided by {rule}", n) for rule, n in sorted(world.rules.items()))]
    return ", ".join(f"{number:,} {name}" for name, number in counts)


if __name__ == "__main__":
    main()
