"""How long it took from a change in Dynamics until Campaign had it."""

from datetime import UTC, datetime, timedelta

import pytest

from d365_campaign.changes import Latency
from d365_campaign.store.table_store import TableStore
from tests.builders import CHANGES, SERVED_AT, answer, contact, in_step, page

LONG_AGO = SERVED_AT - timedelta(days=900)


def now() -> datetime:
    """As Dynamics tells moments: in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def modified(key: str, at: datetime, name: str = "Ada") -> dict[str, object]:
    return contact(key, firstname=name, modifiedon=at.strftime("%Y-%m-%dT%H:%M:%SZ"))


def changed(store: TableStore, *contacts: dict[str, object]) -> datetime:
    """Dynamics tells of changes and they are written; when that began."""
    began = datetime.now(UTC)
    store.absorb(page(store.table, *contacts), CHANGES)
    store.plan()
    answer(store)
    return began


def test_the_longest_and_the_median_wait_of_what_was_written_are_told(store: TableStore) -> None:
    in_step(store, *(modified(key, LONG_AGO) for key in ("c1", "c2", "c3", "c4")))
    waits = {"c1": 2, "c2": 10, "c3": 60}
    moment = now()
    began = changed(store, *(modified(key, moment - timedelta(seconds=s), "Grace") for key, s in waits.items()))
    latency = store.latency(began)
    assert latency is not None
    elapsed = (datetime.now(UTC) - moment).total_seconds()
    assert 60 <= latency.longest_seconds <= 60 + elapsed
    assert 10 <= latency.median_seconds <= 10 + elapsed


def test_what_a_full_read_brought_in_is_as_old_as_it_is(store: TableStore) -> None:
    began = datetime.now(UTC)
    in_step(store, modified("c1", LONG_AGO))
    assert store.latency(began) is None


def test_there_is_no_figure_where_nothing_was_written(store: TableStore) -> None:
    in_step(store, modified("c1", LONG_AGO))
    changed(store, modified("c1", now() - timedelta(seconds=5), "Grace"))
    began = changed(store, modified("c1", now(), "Grace"))
    assert store.latency(began) is None


@pytest.mark.parametrize("ahead", [1, 3600])
def test_a_clock_that_is_ahead_makes_no_negative_wait(store: TableStore, ahead: int) -> None:
    in_step(store, modified("c1", LONG_AGO))
    began = changed(store, modified("c1", now() + timedelta(seconds=ahead + 60), "Grace"))
    assert store.latency(began) == Latency(0, 0)
