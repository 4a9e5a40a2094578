"""An allowance is never overdrawn, and counts as spent only while it really is."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from d365_campaign.flows.allowance import Allowance


def test_without_a_limit_there_is_always_enough() -> None:
    allowance = Allowance()

    assert allowance.take(10**9)
    assert not allowance.spent


def test_nothing_is_taken_when_less_is_left() -> None:
    allowance = Allowance(3)

    assert [allowance.take(2), allowance.take(2), allowance.take(1), allowance.take(1)] == [True, False, True, False]


@pytest.mark.parametrize("calls", [0, -5], ids=["nothing", "more spent than allowed"])
def test_allowance_of_nothing_is_spent_once_something_is_asked_of_it(calls: int) -> None:
    allowance = Allowance(calls)
    assert not allowance.spent, "a run without a change has no need of it"

    assert not allowance.take(1)
    assert allowance.spent


def test_taking_the_last_call_leaves_no_wish_unmet() -> None:
    allowance = Allowance(2)
    allowance.take(2)

    assert not allowance.spent


def test_calls_that_come_back_make_room_for_what_was_asked_for() -> None:
    allowance = Allowance(4)
    assert [allowance.take(2), allowance.take(2), allowance.take(2)] == [True, True, False]
    allowance.give_back(1)
    assert allowance.spent, "an update takes two"
    allowance.give_back(1)

    assert not allowance.spent
    assert allowance.take(2)


def test_workers_together_take_no_more_than_there_is() -> None:
    allowance = Allowance(1000)
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda number: (1 + number % 3) if allowance.take(1 + number % 3) else 0, range(2000)))

    assert sum(taken) == 1000
