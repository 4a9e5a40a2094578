"""What `sync` makes of the figures of its runs, as far as opt-outs go."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from d365_campaign.commands.running import (
    OPT_OUTS_SYNCED,
    Synced,
    _opt_outs_added_up,
    _opt_outs_go_on,
    _opt_outs_of,
    print_synced,
)


def side(left: int = 0, stopped_by: str = "", **figures: int) -> dict[str, Any]:
    """What one step says of what it wrote to a system."""
    counts = dict.fromkeys(OPT_OUTS_SYNCED, 0) | figures
    return {**counts, "open": left, "stopped_by": stopped_by, "refused_sample": {}}


def run(dynamics: dict[str, Any], files: int = 0) -> dict[str, Any]:
    """What a run materialized."""
    return {
        "sftp/opt_out_exports": {"files": files},
        "opt_outs/state": {"held": 0},
        "opt_outs/to_campaign": side(left=9, people=1, opted_out=1),
        "opt_outs/to_dynamics": dynamics,
        "campaign/profile": {},
    }


def test_what_the_last_step_leaves_is_what_is_left() -> None:
    found = _opt_outs_of(run(side(left=2, people=3, opted_out=4)))
    assert found is not None
    assert found["open"] == 2
    assert found["to_dynamics"] == dict.fromkeys(OPT_OUTS_SYNCED, 0) | {"people": 3, "opted_out": 4}


def test_runs_without_opt_outs_say_nothing_of_them() -> None:
    assert _opt_outs_of({"campaign/cusAccount": {}}) is None
    assert _opt_outs_added_up(None, None) is None


def test_figures_of_several_runs_add_up_and_what_is_left_does_not() -> None:
    first = _opt_outs_of(run(side(left=5, people=3, opted_in=1), files=1))
    second = _opt_outs_of(run(side(people=5), files=1))
    total = _opt_outs_added_up(_opt_outs_added_up(None, first), second)
    assert total is not None
    assert (total["files"], total["open"]) == (2, 0)
    assert (total["to_dynamics"]["people"], total["to_dynamics"]["opted_in"]) == (8, 1)
    assert total["to_campaign"]["people"] == 2


@pytest.mark.parametrize(
    ("campaign", "dynamics", "goes_on"),
    [
        (side(), side(), False),
        (side(), side(left=3), False),
        (side(), side(left=3, people=1), True),
        (side(people=1), side(left=3), True),
        (side(), side(left=3, stopped_by="time"), True),
        (side(people=1), side(people=1), False),
    ],
    ids=[
        "nothing is open",
        "open, and nothing came of this run",
        "open, and some were written",
        "open, and some were written to the other side",
        "open, and its time was up",
        "all were written",
    ],
)
def test_sync_goes_on_while_opt_outs_are_open_and_the_last_run_got_on(
    campaign: dict[str, Any], dynamics: dict[str, Any], goes_on: bool
) -> None:
    made = run(dynamics) | {"opt_outs/to_campaign": campaign}
    assert _opt_outs_go_on(made, _opt_outs_of(made)) is goes_on


def printed(done: Synced) -> str:
    into = StringIO()
    print_synced(Console(width=100, file=into), "Sync", done)
    return into.getvalue()


def test_one_line_tells_that_nothing_was_to_be_written() -> None:
    idle = run(side(), files=2) | {"opt_outs/to_campaign": side()}
    assert "Opt-outs (2 daily files): nobody was written.\n" in printed(Synced({}, _opt_outs_of(idle)))


def test_what_is_open_is_left_over_and_printed() -> None:
    done = Synced({}, _opt_outs_of(run(side(left=2), files=1)))
    assert done.leaves_something
    shown = printed(done)
    assert "Opt-outs (1 daily file)" in shown
    assert "Still to be written or verified: 2 people; on privacy hold: 0." in shown
    assert not Synced({}, None).leaves_something
