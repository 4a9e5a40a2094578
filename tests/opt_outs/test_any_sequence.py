"""Whatever happens in whatever order: no opt-out is lost, and at rest both systems agree."""

from collections.abc import Iterator

import pytest

from d365_campaign.sandbox import Sandbox
from tests.opt_outs.machine import check
from tests.opt_outs.world import World

SEED = 20261124
SEQUENCES, OVER_SSH = 300, 5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Sandbox.start(tmp_path_factory.mktemp("sandbox")) as sandbox:
        world = World(sandbox, tmp_path_factory.mktemp("staging"))
        yield world
        world.end()


def test_no_opt_out_is_lost_and_both_systems_agree_in_the_end(world: World) -> None:
    check(world, SEQUENCES, seed=SEED)
    assert world.counts["sequences"] >= SEQUENCES
    for seen in ("crashes", "412s", "times at rest"):
        assert world.counts[seen] > 0, f"no {seen}: the sequences prove less than they are meant to"


def test_the_same_over_a_real_sftp_connection(world: World) -> None:
    check(world, OVER_SSH, seed=SEED, ssh=True)
