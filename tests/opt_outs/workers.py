"""Processes that try sequences at the same time, each on a sandbox of its own."""

import logging
import tempfile
from collections import Counter
from contextlib import ExitStack
from multiprocessing.util import Finalize
from pathlib import Path
from traceback import format_exception
from typing import NamedTuple

from d365_campaign.sandbox import Sandbox
from tests.opt_outs.machine import check
from tests.opt_outs.world import World

MEMORY = Path("/dev/shm")


class Batch(NamedTuple):
    """What became of the sequences of one seed."""

    seed: int
    counts: Counter[str]
    violation: str | None


class Worker:
    """One process' sandbox, which all its batches are tried on."""

    world: World

    @classmethod
    def start(cls) -> None:
        logging.disable(logging.ERROR)
        stack = ExitStack()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)))
        cls.world = World(stack.enter_context(Sandbox.start(folder)), folder)
        Finalize(None, stack.close, exitpriority=1)

    @classmethod
    def run(cls, seed: int, sequences: int, steps: int) -> Batch:
        world, violation = cls.world, None
        world.counts.clear()
        world.rules.clear()
        try:
            check(world, sequences, seed=seed, steps=steps)
        except Exception as error:
            violation = "".join(format_exception(error, limit=-3))
        world.end()
        return Batch(
            seed, world.counts + Counter({f"decided by {rule}": n for rule, n in world.rules.items()}), violation
        )
