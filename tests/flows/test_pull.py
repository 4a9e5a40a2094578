"""From the first page to the last change: where a pull goes on, whatever stopped the one before."""

import threading
from datetime import timedelta

import pytest

from d365_campaign.binding import bind
from d365_campaign.errors import DeltaTokenExpired, RetriableError
from d365_campaign.flows.deadline import Deadline
from d365_campaign.flows.pull import SWEEP_MARGIN, pull
from d365_campaign.store.staging import Staging
from d365_campaign.store.table_store import TableStore
from tests.builders import (
    SERVED_AT,
    answer,
    bound,
    contact,
    kinds,
    mapping,
    open_changes,
    page,
    source_table,
    target_resource,
)
from tests.stand_ins import Dynamics, Served

TABLE = bound()
NO_END = Deadline(None)
EXPIRED = DeltaTokenExpired("the token is too old")


class Killed(BaseException):
    """The process ends here."""


def full() -> dict[str | None, Served]:
    """Two pages of a full read, its delta link `d1`, behind which nothing has changed."""
    return {
        None: page(TABLE, contact("c1"), next_link="p2"),
        "p2": page(TABLE, contact("c2"), delta_link="d1"),
        "d1": page(TABLE, delta_link="d2"),
        "d2": page(TABLE, delta_link="d2"),
    }


def swept(*contacts: dict[str, object]) -> dict[str | None, Served]:
    return {None: page(TABLE, *contacts, delta_link=None)}


def stored(store: TableStore) -> list[str]:
    store.plan()
    return sorted(kinds(store))


def test_full_read_is_followed_by_a_sweep_and_then_by_changes(store: TableStore) -> None:
    dynamics = Dynamics(full(), swept(contact("c3")))
    total = pull(dynamics, store, NO_END)

    assert dynamics.asked == [None, "p2", None, "d1"]
    assert stored(store) == ["c1", "c2", "c3"]
    assert (total.rows, total.pages, total.full_read, total.caught_up) == (3, 4, True, True)
    assert (store.reading.phase, store.reading.delta_link, store.reading.caught_up) == ("changes", "d2", True)


def test_next_pull_asks_for_nothing_but_changes(store: TableStore) -> None:
    pull(Dynamics(full(), swept()), store, NO_END)
    dynamics = Dynamics({"d2": page(TABLE, contact("c1", firstname="Ada"), removed=["c2"], delta_link="d3")})
    total = pull(dynamics, store, NO_END)

    assert dynamics.asked == ["d2"]
    assert (total.rows, total.removed, total.full_read, store.reading.delta_link) == (1, 1, False, "d3")


def test_sweep_asks_for_what_was_modified_since_shortly_before_the_first_page(store: TableStore) -> None:
    late = page(TABLE, contact("c2"), delta_link="d1")
    late = type(late)(late.rows, late.removed, None, "d1", SERVED_AT + timedelta(hours=3))
    dynamics = Dynamics(full() | {"p2": late}, swept())
    pull(dynamics, store, NO_END)

    assert dynamics.asked_since == [SERVED_AT - SWEEP_MARGIN]


def test_table_without_modification_stamp_is_not_swept(staging: Staging) -> None:
    table = bind(mapping(("a", "firstName")), source_table(contactid="reference", a="text"), target_resource())
    dynamics = Dynamics({None: page(table, {"contactid": "c1"}, delta_link="d1"), "d1": page(table, delta_link="d2")})
    pull(dynamics, staging.table(table), NO_END)

    assert dynamics.asked_since == []


@pytest.mark.parametrize("stop", [RetriableError("gone away"), Killed()], ids=["error", "kill"])
def test_pull_that_ends_between_two_pages_goes_on_at_the_next(store: TableStore, stop: BaseException) -> None:
    with pytest.raises(type(stop)):
        pull(Dynamics(full() | {"p2": stop}), store, NO_END)
    assert store.records() == 1

    dynamics = Dynamics(full(), swept())
    assert pull(dynamics, store, NO_END).caught_up
    assert dynamics.asked[0] == "p2"
    assert stored(store) == ["c1", "c2"]


def test_sweep_that_ends_between_two_pages_goes_on_at_the_next(store: TableStore) -> None:
    first = page(TABLE, contact("c3"), next_link="s2")
    with pytest.raises(RetriableError):
        pull(Dynamics(full(), {None: first, "s2": RetriableError("gone away")}), store, NO_END)

    dynamics = Dynamics(full(), {"s2": page(TABLE, contact("c4"), delta_link=None)})
    pull(dynamics, store, NO_END)
    assert dynamics.asked == ["s2", "d1"]
    assert stored(store) == ["c1", "c2", "c3", "c4"]


def without_c2() -> dict[str | None, Served]:
    return {None: page(TABLE, contact("c1"), delta_link="d8"), "d8": page(TABLE, delta_link="d9")}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"d2": EXPIRED}, id="before the first page"),
        pytest.param({"d2": page(TABLE, contact("c3"), next_link="p2"), "p2": EXPIRED}, id="between two pages"),
    ],
)
def test_expired_token_leads_to_one_full_read_that_removes_what_it_does_not_meet(
    store: TableStore, changes: dict[str | None, Served]
) -> None:
    pull(Dynamics(full(), swept()), store, NO_END)
    store.plan()
    answer(store)
    dynamics = Dynamics(without_c2() | changes, swept())
    total = pull(dynamics, store, NO_END)

    assert total.full_read
    assert dynamics.asked.count(None) == 2, "one full read and its sweep"
    assert (store.reading.generation, store.reading.delta_link) == (2, "d9")
    assert store.records() == 1
    store.plan()
    assert kinds(store) == {"c2": "delete"}


def test_token_that_expires_again_in_the_same_pull_is_an_error(store: TableStore) -> None:
    pull(Dynamics(full(), swept()), store, NO_END)

    with pytest.raises(DeltaTokenExpired):
        pull(Dynamics({"d2": EXPIRED, None: EXPIRED}), store, NO_END)
    assert pull(Dynamics(full(), swept()), store, NO_END).caught_up, "the next pull reads everything"


class Ticks:
    """A clock that moves on by a second each time it is asked."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_deadline_stops_at_a_page_boundary_and_the_next_pull_goes_on(store: TableStore) -> None:
    total = pull(Dynamics(full(), swept()), store, Deadline(0))

    assert (total.pages, total.caught_up) == (1, False)
    assert (store.records(), store.reading.next_link) == (1, "p2")
    pages = 1
    while not total.caught_up:
        total = pull(Dynamics(full(), swept()), store, Deadline(0))
        pages += total.pages
    assert pages == 4, "each pull gets one page further"
    assert stored(store) == ["c1", "c2"]


def test_deadline_that_passes_in_mid_read_leaves_what_was_read_stored(store: TableStore) -> None:
    total = pull(Dynamics(full(), swept()), store, Deadline(1.5, clock=Ticks()))

    assert (total.pages, store.records(), total.caught_up) == (2, 2, False)


def test_next_page_is_fetched_while_the_last_is_stored(store: TableStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Storing the first page waits until the second is being fetched: one after the other, it would wait for ever."""
    second_is_fetched = threading.Event()
    absorb = store.absorb

    def patiently(*arguments: object) -> None:
        assert second_is_fetched.wait(timeout=10), "the second page wasn't asked for while the first was stored"
        absorb(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "absorb", patiently)

    def watch(link: str | None) -> None:
        if link == "p2":
            second_is_fetched.set()

    pull(Dynamics(full(), swept(), watch=watch), store, NO_END)


def test_failing_store_leaves_no_thread_and_no_open_page_reader(
    store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RetriableError("disk full")

    monkeypatch.setattr(store, "absorb", broken)
    with pytest.raises(RetriableError, match="disk full"):
        pull(Dynamics(full()), store, NO_END)

    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("next-page")] == []


def test_page_that_was_stored_is_not_lost_when_the_next_cannot_be_fetched(store: TableStore) -> None:
    with pytest.raises(RetriableError):
        pull(Dynamics(full() | {"p2": RetriableError("gone away")}), store, NO_END)

    assert (store.records(), store.reading.next_link) == (1, "p2")


def test_record_that_changed_behind_the_readers_back_is_met_by_the_sweep(store: TableStore) -> None:
    pull(Dynamics(full(), swept(contact("c1", firstname="Augusta"))), store, NO_END)
    store.plan()

    assert {c.key: c.values["firstName"] for c in open_changes(store)} == {"c1": "Augusta", "c2": None}
