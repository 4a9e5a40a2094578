"""What the ledger holds is what was spent: whatever became of a change, and wherever a run ended."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from d365_campaign.changes import Change, Kind, Outcome, Result
from d365_campaign.engine_calls import FieldCalls, MonthOfCalls, month_of
from d365_campaign.errors import ConfigurationError, RetriableError
from d365_campaign.store.staging import Staging, open_staging
from d365_campaign.store.table_store import TableStore
from tests.builders import CHANGES, answer, bound, contact, filled, in_step, open_changes, page
from tests.dying import Crash, DiesAfter

TODAY = datetime.now(UTC).date()


def this_month(staging: Staging) -> MonthOfCalls:
    return staging.ledger.month(month_of(TODAY))


def booked(staging: Staging) -> dict[str, tuple[int, int]]:
    """Operation to what was predicted and what was made, of all tables."""
    return {of.operation: (of.predicted, of.calls) for of in this_month(staging).operations}


def entries(staging: Staging, relation: str) -> int:
    return len(staging._connection.execute(f"select 1 from main.{relation}").fetchall())


def claimed(store: TableStore) -> Change:
    """The one open change, on its way."""
    [change] = open_changes(store)
    store.claim([change])
    return change


@pytest.fixture
def updating(store: TableStore) -> TableStore:
    """One open update, in a ledger without an entry."""
    in_step(store, contact("c1", firstname="Ada"))
    store._connection.execute("delete from main.engine_calls")
    return filled(store, contact("c1", firstname="Augusta"))


# --- what is booked -------------------------------------------------------------------------------------------------


def test_prediction_stands_beside_what_was_made(store: TableStore, staging: Staging) -> None:
    in_step(store, contact("update"), contact("delete"))
    store.absorb(page(store.table, contact("update", firstname="Ada"), contact("new"), removed=["delete"]), CHANGES)
    store.plan()
    answer(store)

    assert booked(staging) == {"insert": (3, 3), "update": (2, 2), "delete": (1, 1)}


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        pytest.param(Outcome("c1", Kind.INSERT, Result.DONE, 1), {"insert": (1, 1)}, id="done"),
        pytest.param(Outcome("c1", Kind.ADOPT, Result.DONE, 3), {"adopt": (1, 3)}, id="became an adoption"),
        pytest.param(Outcome("c1", Kind.INSERT, Result.REFUSED, 1, reason="no"), {"insert": (1, 1)}, id="refused"),
        pytest.param(Outcome("c1", Kind.INSERT, Result.REFUSED, 2, reason="no"), {"insert": (1, 2)}, id="not adopted"),
        pytest.param(Outcome("c1", Kind.INSERT, Result.DEFERRED, 2, reason="no"), {"insert": (1, 2)}, id="hidden"),
        pytest.param(Outcome("c1", Kind.INSERT, Result.UNKNOWN, 2, reason="no"), {"insert": (1, 2)}, id="no answer"),
        pytest.param(Outcome("c1", Kind.INSERT, Result.UNSENT), {}, id="not sent"),
        pytest.param(Outcome("c1", Kind.INSERT, Result.UNSENT, 1, reason="no"), {"insert": (1, 1)}, id="broken off"),
    ],
)
def test_insert_is_booked_as_what_it_became_at_what_it_cost(
    store: TableStore, staging: Staging, outcome: Outcome, expected: dict[str, tuple[int, int]]
) -> None:
    claimed(filled(store, contact("c1")))
    store.settle([outcome])

    assert booked(staging) == expected
    assert staging.ledger.spent().today == outcome.engine_calls, "the reservation is over"


def test_identical_update_gives_its_second_call_back(updating: TableStore, staging: Staging) -> None:
    claimed(updating)
    assert staging.ledger.spent().today == 2
    updating.settle([Outcome("c1", Kind.UPDATE, Result.DONE, 1, identical=True)])

    assert booked(staging) == {"update": (2, 1)}
    assert staging.ledger.spent().today == 1


def test_change_without_an_answer_is_booked_once_and_its_second_attempt_by_itself(
    store: TableStore, staging: Staging
) -> None:
    claimed(filled(store, contact("c1")))
    store.settle([Outcome("c1", Kind.INSERT, Result.UNKNOWN, 2, reason="no answer")])
    assert store.book_unsettled() == 1, "it is in doubt, and was told of"
    store.plan()
    claimed(store)
    store.settle([Outcome("c1", Kind.ADOPT, Result.DONE, 1, identical=True)])

    assert booked(staging) == {"insert": (1, 2), "adopt": (2, 1)}


def test_refused_change_is_booked_each_time_it_is_sent(store: TableStore, staging: Staging) -> None:
    for name in ("Ada", "Augusta"):
        claimed(filled(store, contact("c1", firstname=name)))
        store.settle([Outcome("c1", Kind.INSERT, Result.REFUSED, 1, reason="no")])

    assert booked(staging) == {"insert": (2, 2)}


def test_run_that_never_told_is_taken_to_have_spent_what_it_reserved(store: TableStore, staging: Staging) -> None:
    in_step(store, contact("c1"))
    filled(store, contact("c1", firstname="Ada"), contact("c2"))
    store.claim(open_changes(store))
    assert staging.ledger.spent().today == 1 + 2 + 1
    assert booked(staging) == {"insert": (1, 1), "unsettled": (3, 3)}, "the report counts it as the budget does"

    for in_doubt in (2, 2):
        assert store.book_unsettled() == in_doubt
        assert staging.ledger.spent().today == 1 + 2 + 1
        assert booked(staging) == {"insert": (1, 1), "unsettled": (3, 3)}
    store.plan()
    answer(store)
    assert booked(staging) == {"insert": (1, 1), "unsettled": (3, 3), "adopt": (4, 4)}


def test_engine_calls_of_all_tables_add_up_with_what_is_reserved(staging: Staging) -> None:
    contacts, leads = staging.table(bound()), staging.table(bound(source="lead"))
    in_step(leads, contact("l1"), contact("l2"))
    in_step(contacts, contact("c1"))
    filled(contacts, contact("c1", firstname="Ada"), contact("c2"))
    contacts.claim(open_changes(contacts))

    assert staging.ledger.spent().today == 2 + 1 + 3
    contacts.settle([Outcome("c1", Kind.UPDATE, Result.DONE, 1), Outcome("c2", Kind.INSERT, Result.UNSENT)])
    assert staging.ledger.spent().today == this_month(staging).calls == 2 + 1 + 1
    assert {(of.table, of.operation): of.calls for of in this_month(staging).operations} == {
        ("contact", "insert"): 1,
        ("contact", "update"): 1,
        ("lead", "insert"): 2,
    }


# --- the scan -------------------------------------------------------------------------------------------------------


def scan(*pages: Sequence[str], then: Exception | None = None) -> Iterator[pl.DataFrame]:
    """Keys that Campaign holds, page by page; *then* the connection is lost."""
    for keys in pages:
        yield pl.DataFrame({"_key": keys, "firstName": "", "email": ""})
    if then:
        raise then


def test_every_page_of_a_scan_is_a_call(store: TableStore, staging: Staging) -> None:
    assert store.note_existing(scan(["c1", "c2"], ["c3"])) == (3, 2)
    assert booked(staging) == {"scan": (2, 2)}


def test_pages_of_a_scan_that_broke_off_were_asked_for_all_the_same(store: TableStore, staging: Staging) -> None:
    with pytest.raises(RetriableError):
        store.note_existing(scan(["c1"], ["c2"], then=RetriableError("away")))
    assert booked(staging) == {"scan": (2, 2)}
    assert not store.scanned

    assert store.note_existing(scan(["c1"], ["c2"], ["c3"])) == (3, 3), "what the first one found stands there once"
    assert booked(staging) == {"scan": (5, 5)}


def test_pages_of_a_scan_that_is_refused_were_asked_for_all_the_same(store: TableStore, staging: Staging) -> None:
    with pytest.raises(ConfigurationError, match="not unique"):
        store.note_existing(scan(["c1"], ["c1"]))

    assert booked(staging) == {"scan": (2, 2)}


# --- what columns cost ----------------------------------------------------------------------------------------------


def costs(staging: Staging) -> dict[str, tuple[int, int]]:
    """Field to the updates it was part of, and the engine calls of those without another."""
    return {of.field: (of.updates, of.calls) for of in this_month(staging).fields}


def test_update_is_counted_for_each_of_its_fields_and_its_calls_for_a_field_that_was_alone(
    store: TableStore, staging: Staging
) -> None:
    in_step(store, *(contact(key, firstname="Ada", emailaddress1="a@x.org") for key in ("both", "email", "same")))
    filled(
        store,
        contact("both", firstname="Bob", emailaddress1="b@x.org"),
        contact("email", firstname="Ada", emailaddress1="b@x.org"),
        contact("same", firstname="Ada", emailaddress1="a@x.org"),
    )
    answer(store)

    assert costs(staging) == {"email": (2, 2), "firstName": (1, 0)}
    assert this_month(staging).fields[0] == FieldCalls("contact", "email", 2, 2), "dearest first"


def test_inserts_deletes_and_adoptions_are_no_fields_fault(store: TableStore, staging: Staging) -> None:
    store.note_existing(scan(["adopted"]))
    in_step(store, contact("adopted", firstname="Ada"), contact("new", firstname="Ada"))
    store.absorb(page(store.table, removed=["new"]), CHANGES)
    store.plan()
    answer(store)

    assert costs(staging) == {}


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        pytest.param(Outcome("c1", Kind.UPDATE, Result.DONE, 1, identical=True), (1, 1), id="identical"),
        pytest.param(Outcome("c1", Kind.UPDATE, Result.REFUSED, 2, reason="no"), (1, 2), id="refused"),
        pytest.param(Outcome("c1", Kind.INSERT, Result.DONE, 2), (1, 2), id="its record was gone"),
        pytest.param(Outcome("c1", Kind.UPDATE, Result.UNKNOWN, 3, reason="no"), (1, 3), id="no answer"),
    ],
)
def test_calls_of_an_update_are_its_fields_whatever_became_of_it(
    updating: TableStore, staging: Staging, outcome: Outcome, expected: tuple[int, int]
) -> None:
    claimed(updating)
    updating.settle([outcome])

    assert costs(staging) == {"firstName": expected}


def test_update_that_was_not_sent_costs_no_field_anything(updating: TableStore, staging: Staging) -> None:
    claimed(updating)
    updating.settle([Outcome("c1", Kind.UPDATE, Result.UNSENT)])

    assert costs(staging) == {}


# --- what Adobe's scheme takes --------------------------------------------------------------------------------------


def test_what_adobe_would_have_spent_is_kept_when_a_run_has_told_it(store: TableStore, staging: Staging) -> None:
    assert this_month(staging).adobe is None
    in_step(store, contact("c1", firstname="Ada"))
    store.take_adobe_engine_calls()
    filled(store, contact("c1", firstname="Ada"))
    assert (this_month(staging).adobe, this_month(staging).calls) == (2, 1)

    store.plan()
    assert this_month(staging).adobe == 2, "a plan repeated is no further change of Dynamics"


# --- days and months ------------------------------------------------------------------------------------------------


def test_yesterday_counts_for_the_month_and_last_month_for_nothing(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day, calls in ((date(2026, 2, 28), 100), (date(2026, 3, 1), 10), (date(2026, 3, 2), 1)):
        monkeypatch.setattr("d365_campaign.store.ledger._today", lambda day=day: day)
        staging.ledger.book("contact", {"insert": (calls, calls)})
        staging.ledger.book_updates("contact", {"email": (calls, calls)})
        staging.ledger.book_adobe("contact", calls)

    assert (staging.ledger.spent().today, staging.ledger.spent().this_month) == (1, 11)
    march, february = (staging.ledger.month(date(2026, month, 1)) for month in (3, 2))
    assert march.by_day == {date(2026, 3, 1): 10, date(2026, 3, 2): 1}
    assert (march.adobe, march.fields, march.since) == (11, [FieldCalls("contact", "email", 11, 11)], date(2026, 2, 28))
    assert (february.calls, february.adobe) == (100, 100)
    assert staging.ledger.month(date(2026, 1, 1)).calls == 0


def test_what_is_in_flight_is_no_earlier_months(store: TableStore, staging: Staging) -> None:
    claimed(filled(store, contact("c1")))

    assert this_month(staging).by_day == {TODAY: 1}
    assert staging.ledger.month(month_of(month_of(TODAY) - timedelta(days=1))).calls == 0


def test_ledger_grows_with_days_tables_and_fields_and_not_with_settlements(file: Path) -> None:
    with open_staging(file) as staging:
        store = in_step(staging.table(bound()), contact("c1", firstname="Ada"))
        for number in range(40):
            filled(store, contact("c1", firstname=f"Ada {number}", emailaddress1=f"{number}@x.org"))
            answer(store)

        assert booked(staging) == {"insert": (1, 1), "update": (80, 80)}
        assert costs(staging) == {"email": (40, 0), "firstName": (40, 0)}
        assert [entries(staging, name) for name in ("engine_calls", "field_updates", "adobe_calls")] == [2, 2, 1]
    with open_staging(file) as staging:
        assert booked(staging) == {"insert": (1, 1), "update": (80, 80)}


# --- crashes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["settle", "unsettled"])
def test_step_that_ends_between_any_two_statements_books_all_or_nothing(
    step: str, updating: TableStore, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed(updating)
    before, statements = (booked(staging), staging.ledger.spent()), 0
    while True:
        dying = DiesAfter(staging._connection, statements)
        with monkeypatch.context() as patched:
            patched.setattr(updating, "_connection", dying)
            patched.setattr(staging.ledger, "_connection", dying)
            try:
                if step == "settle":
                    updating.settle([Outcome("c1", Kind.UPDATE, Result.DONE, 2)])
                else:
                    updating.book_unsettled()
                break
            except Crash:
                dying.end()
                statements += 1
        assert (booked(staging), staging.ledger.spent()) == before

    assert statements > 4, "it was tried between several statements"
    assert staging.ledger.spent().today == 2
    assert booked(staging) == ({"update": (2, 2)} if step == "settle" else {"unsettled": (2, 2)})
    assert costs(staging) == ({"firstName": (1, 2)} if step == "settle" else {})


def test_scan_that_ends_between_any_two_statements_loses_no_page(
    store: TableStore, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the page at hand nothing is booked yet; of those before it, everything."""
    pages = statements = made = 0
    while not store.scanned:
        pages = 0
        dying = DiesAfter(staging._connection, statements)

        def counted() -> Iterator[pl.DataFrame]:
            nonlocal pages
            for found in scan(["c1"], ["c2"]):
                pages += 1
                yield found

        before = staging.ledger.spent().today
        with monkeypatch.context() as patched:
            patched.setattr(store, "_connection", dying)
            patched.setattr(staging.ledger, "_connection", dying)
            try:
                store.note_existing(counted())
            except Crash:
                dying.end()
                statements += 1
        made = staging.ledger.spent().today - before
        assert made in (pages, pages - 1)

    assert (made, pages) == (2, 2)
