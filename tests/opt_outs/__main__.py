"""Let anything happen to opt-outs, over and over: python -m tests.opt_outs --sequences 20000 --seed 1

Each sequence is a new integration on an empty sandbox; people, both systems and the network do what they like to it,
then it comes to rest. A sequence that violates what must hold is made as short as possible and printed; the others go
on, and the exit code is 1. The same seed makes the same sequences, on however many cores.
"""

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context

from tests.opt_outs.machine import STEPS
from tests.opt_outs.workers import Worker

AT_ONCE = 100  # Hypothesis remembers what it tried, so a long run is made of many short ones, each with a seed


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.opt_outs", description=__doc__)
    parser.add_argument("--sequences", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--steps", type=int, default=STEPS, help="at most so many in a sequence")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, {arguments.sequences} sequences of up to {arguments.steps} steps", flush=True)
    started, counts, violated = time.monotonic(), Counter[str](), list[int]()
    begins = range(0, arguments.sequences, AT_ONCE)
    waiting = ((arguments.seed + n, min(AT_ONCE, arguments.sequences - begin)) for n, begin in enumerate(begins))
    with ProcessPoolExecutor(arguments.processes, get_context("spawn"), Worker.start) as pool:
        running = {pool.submit(Worker.run, *batch, arguments.steps) for batch in islice(waiting, arguments.processes)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for batch in (future.result() for future in done):
                counts += batch.counts
                if batch.violation is not None:
                    violated.append(batch.seed)
                    print(f"VIOLATION among the sequences of seed {batch.seed}:\n{batch.violation}", flush=True)
                rate = counts["sequences"] / (time.monotonic() - started)
                print(f"{counts['sequences']:,} sequences, {rate:.2f} per second; {told(counts)}", flush=True)
            running |= {pool.submit(Worker.run, *batch, arguments.steps) for batch in islice(waiting, len(done))}
    if violated:
        sys.exit(f"{told(counts)}; violations among the sequences of seeds {', '.join(map(str, violated))}")
    print(f"{told(counts)}; no violation")


def told(counts: Counter[str]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in sorted(counts.items()) if name != "sequences")


if __name__ == "__main__":
    main()
