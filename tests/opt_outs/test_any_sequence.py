"""Whatever happens in whatever order: no opt-out is lost, and at rest both systems agree."""

from collections.abc import Iterator

import pytest

from d365_campaign.sandbox import Sandbox
from tests.opt_outs.machine import check
from tests.opt_outs.world import World

# Short sequences, for the sake of time. `make opt-outs` tries longer ones; races have tests of their own besides
# (tests/contract/test_opt_out_races.py).
SEEDS = range(20261124, 20261128)
SEQUENCES, STEPS, OVER_SSH = 75, 8, 5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Sandbox.start(tmp_path_factory.mktemp("sandbox")) as sandbox:
        world = World(sandbox, tmp_path_factory.mktemp("staging"))
        yield world
        world.end()


@pytest.mark.parametrize("seed", SEEDS)
def test_no_opt_out_is_lost_and_both_systems_agree_in_the_end(world: World, seed: int) -> None:
    check(world, SEQUENCES, seed=seed, steps=STEPS)
    for seen in ("crashes", "times at rest"):
        assert world.counts[seen] > 0, f"no {seen}: the sequences prove less than they are meant to"


def test_the_same_over_a_real_sftp_connection(world: World) -> None:
    check(world, OVER_SSH, seed=SEEDS[0], steps=STEPS, ssh=True)
