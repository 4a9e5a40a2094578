"""The life of a record in the staging file: read, compared, claimed, settled."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from d365_campaign.binding import BoundMapping
from d365_campaign.changes import Cause, KeyFaults, Kind, Outcome, Reading, Result
from d365_campaign.errors import ConfigurationError, SyncError
from d365_campaign.store import sql, sql_apply, sql_plan
from d365_campaign.store.staging import Staging, open_staging
from d365_campaign.store.table_store import TableStore
from tests.builders import (
    CHANGES,
    FULL,
    answer,
    bound,
    contact,
    filled,
    in_step,
    kinds,
    open_changes,
    page,
)

# --- absorb ---------------------------------------------------------------------------------------------------------


def test_table_that_was_never_read_starts_with_a_full_read(store: TableStore) -> None:
    assert store.reading == Reading(phase="full", generation=1, next_link=None)


def test_page_and_the_place_behind_it_are_kept_together(store: TableStore) -> None:
    then = replace(FULL, next_link="page 2")
    store.absorb(page(store.table, contact("c1"), next_link="page 2"), then)

    assert store.records() == 1
    assert store.reading == then


def test_page_that_fails_leaves_rows_removals_and_place_as_they_were(store: TableStore) -> None:
    in_step(store, contact("c1"), contact("c2"))
    broken = bound(("birthdate", "birthDate"))
    dated = page(broken, contact("c3", birthdate="no date")).rows

    with pytest.raises((SyncError, duckdb.Error)):
        store.absorb(
            replace(page(store.table, removed=["c1"]), rows=dated), replace(CHANGES, delta_link="never to be followed")
        )

    assert store.reading == CHANGES
    assert store.records() == 2
    assert store.plan().open == 0


def test_value_that_does_not_fit_its_column_is_not_told(staging: Staging) -> None:
    store = staging.table(bound(("birthdate", "birthDate")))

    with pytest.raises(SyncError, match="contact") as raised:
        store.absorb(page(store.table, contact("c1", birthdate="10 Dec 1815")), CHANGES)

    assert "1815" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert store.reading == Reading()


def test_page_absorbed_again_changes_nothing(store: TableStore) -> None:
    in_step(store, contact("c1", firstname="Ada"))
    store.absorb(page(store.table, contact("c1", firstname="Ada")), CHANGES)

    assert store.plan().open == 0
    assert store.records() == 1
    assert store.quality.note_keys() == KeyFaults()


def test_key_that_a_page_has_twice_stands_once_with_its_last_values(store: TableStore) -> None:
    filled(store, contact("c1", firstname="Ada"), contact("c2"), contact("c1", firstname="Augusta"))

    assert store.quality.note_keys() == KeyFaults()
    assert {c.key: c.values["firstName"] for c in open_changes(store)} == {"c1": "Augusta", "c2": None}


def test_key_among_rows_and_removed_of_one_page_is_removed(store: TableStore) -> None:
    in_step(store, contact("c1"))
    store.absorb(page(store.table, contact("c1"), removed=["c1"]), CHANGES)
    store.plan()

    assert kinds(store) == {"c1": Kind.DELETE}


def test_removal_of_a_record_that_never_was_is_nothing(store: TableStore) -> None:
    in_step(store, contact("c1"))
    store.absorb(page(store.table, removed=["c9"]), CHANGES)

    assert store.plan().open == 0


def test_record_that_comes_back_after_its_deletion_is_inserted(store: TableStore) -> None:
    in_step(store, contact("c1"))
    store.absorb(page(store.table, removed=["c1"]), CHANGES)
    store.plan()
    answer(store)
    filled(store, contact("c1"))

    assert kinds(store) == {"c1": Kind.INSERT}


def test_repeated_keys_are_counted_among_what_was_touched(store: TableStore, staging: Staging) -> None:
    filled(store, contact("c1"), contact("c2"))
    once_more = """insert into "contact"."snapshot" select * from "contact"."snapshot" where contactid = 'c1'"""
    staging._connection.execute(once_more)
    staging._connection.execute('insert into "contact"."touched" select "contactid", false from "contact"."snapshot"')

    assert store.quality.note_keys() == KeyFaults(repeated=1, keys=("c1",))


# --- full reads -----------------------------------------------------------------------------------------------------


def test_second_full_read_removes_what_it_no_longer_met(store: TableStore) -> None:
    in_step(store, contact("c1"), contact("c2"), contact("c3"))
    again = store.read_everything_again()
    store.absorb(page(store.table, contact("c1"), next_link="page 2"), replace(again, next_link="page 2"))
    assert store.records() == 3, "nothing goes before the read is through"
    store.absorb(page(store.table, contact("c3")), replace(again, phase="changes"))
    store.plan()

    assert kinds(store) == {"c2": Kind.DELETE}


def test_third_full_read_removes_what_only_the_second_met(store: TableStore) -> None:
    in_step(store, contact("c1"))
    second = store.read_everything_again()
    store.absorb(page(store.table, contact("c2"), next_link="page 2"), replace(second, next_link="page 2"))
    third = store.read_everything_again()
    store.absorb(page(store.table, contact("c1")), replace(third, phase="changes"))

    assert third.generation == second.generation + 1 == 3
    assert (store.records(), store.plan().open) == (1, 0)


def test_a_record_that_the_full_read_skipped_and_the_sweep_met_is_never_planned_as_a_delete(store: TableStore) -> None:
    """It moved to a page already read while the pages were being read; the run's time ended before the sweep."""
    in_step(store, contact("c1"), contact("c2"))
    again = store.read_everything_again()
    store.absorb(page(store.table, contact("c1")), replace(again, phase="sweep"))
    assert store.plan().open == 0

    store.absorb(page(store.table, contact("c2")), replace(again, phase="changes"))

    assert store.plan().open == 0


def test_full_read_is_followed_by_a_comparison_of_everything(store: TableStore) -> None:
    in_step(store, contact("c1"))
    assert store.plan().full is False
    store.absorb(page(store.table, contact("c1")), replace(store.read_everything_again(), phase="changes"))

    assert store.plan().full is True
    assert store.plan().full is False


# --- plan -----------------------------------------------------------------------------------------------------------


def test_unchanged_record_costs_no_engine_call(store: TableStore) -> None:
    in_step(store, contact("c1", emailaddress1="ada@x.org"))
    later = contact("c1", emailaddress1="ada@x.org", modifiedon="2026-05-02T08:00:00Z")
    store.absorb(page(store.table, later), CHANGES)

    summary = store.plan()

    assert (summary.engine_calls, summary.unchanged) == (0, 1)


def test_update_names_exactly_the_fields_that_differ(staging: Staging) -> None:
    store = staging.table(bound(("firstname", "firstName"), ("emailaddress1", "email"), ("birthdate", "birthDate")))
    in_step(store, contact("c1", firstname="Ada", emailaddress1="a@x.org"))
    filled(store, contact("c1", firstname="Ada", emailaddress1="b@x.org", birthdate="1815-12-10"))

    [change] = open_changes(store)

    assert (change.kind, change.changed) == (Kind.UPDATE, ["email", "birthDate"])
    assert store.busiest_fields() == {"birthDate": 1, "email": 1}


@pytest.mark.parametrize(
    ("column", "target", "empty"),
    [("firstname", "firstName", ""), ("numberofchildren", "cusChildren", 0), ("donotemail", "cusFlag", False)],
)
def test_empty_value_is_none_to_campaign_and_so_no_change(
    staging: Staging, column: str, target: str, empty: object
) -> None:
    store = in_step(staging.table(bound((column, target))), contact("c1"))
    filled(store, contact("c1", **{column: empty}))

    assert store.summary().open == 0


def test_cleared_field_is_an_update(store: TableStore) -> None:
    in_step(store, contact("c1", firstname="Ada"))
    filled(store, contact("c1"))

    [change] = open_changes(store)
    assert (change.kind, change.changed, change.values["firstName"]) == (Kind.UPDATE, ["firstName"], None)


def test_plan_costs_by_the_formula(store: TableStore) -> None:
    in_step(store, contact("update"), contact("delete"), contact("same"))
    store.absorb(
        page(store.table, contact("update", firstname="Ada"), contact("insert"), contact("same"), removed=["delete"]),
        CHANGES,
    )
    summary = store.plan()

    assert (summary.insert, summary.update, summary.delete, summary.unchanged) == (1, 1, 1, 1)
    assert summary.engine_calls == 1 + 2 + 1


def test_what_adobe_would_have_spent_counts_every_record_that_dynamics_reported(store: TableStore) -> None:
    in_step(store, contact("update"), contact("delete"), contact("same"))
    assert store.take_adobe_engine_calls() == 3
    store.absorb(
        page(
            store.table,
            contact("update", firstname="Ada"),
            contact("insert"),
            contact("same"),
            removed=["delete", "unheard of"],
        ),
        CHANGES,
    )
    store.plan()
    store.plan()

    assert store.take_adobe_engine_calls() == 2 + 1 + 1 + 1
    assert store.take_adobe_engine_calls() == 0


def test_plan_repeated_is_the_same_plan(store: TableStore) -> None:
    in_step(store, contact("c1"), contact("c2"))
    store.absorb(page(store.table, contact("c1", firstname="Ada"), contact("c3"), removed=["c2"]), CHANGES)

    first = store.plan()

    assert store.plan() == first
    assert replace(store.plan(everything=True), full=False) == first


def test_change_that_is_undone_before_it_is_written_is_no_change(store: TableStore) -> None:
    in_step(store, contact("c1", firstname="Ada"))
    filled(store, contact("c1", firstname="Bob"))
    filled(store, contact("c1", firstname="Ada"))

    assert kinds(store) == {}


def test_open_changes_are_handed_out_once_and_in_portions(store: TableStore) -> None:
    filled(store, *(contact(key) for key in ("c3", "c1", "c2")))

    store.begin_writing()
    portions = [[c.key for c in store.take_window(2)] for _ in range(3)]
    assert sorted(key for portion in portions for key in portion) == ["c1", "c2", "c3"]
    assert [len(portion) for portion in portions] == [2, 1, 0]
    assert all(portion == sorted(portion) for portion in portions)


def test_samples_are_a_few_keys_of_each_kind(store: TableStore) -> None:
    in_step(store, contact("c1"))
    store.absorb(page(store.table, *(contact(f"n{n}") for n in range(5)), removed=["c1"]), CHANGES)
    store.plan()

    assert store.sample_keys(2) == {"insert": ["n0", "n1"], "delete": ["c1"]}


# --- records that were in Campaign before ---------------------------------------------------------------------------


def test_record_that_campaign_held_before_is_adopted_and_others_are_left_alone(store: TableStore) -> None:
    assert not store.scanned
    assert store.note_existing(held({"c1": "of old"}, {"stranger": "of old"})) == (2, 2)
    filled(store, contact("c1"), contact("c2"))

    assert store.scanned
    assert kinds(store) == {"c1": Kind.ADOPT, "c2": Kind.INSERT}


def test_record_that_campaign_held_before_and_is_in_step_costs_nothing(store: TableStore) -> None:
    store.note_existing(held({"c1": "Ada", "c2": "of old"}))
    filled(store, contact("c1", firstname="Ada"), contact("c2", firstname="Bob"))
    assert kinds(store) == {"c2": Kind.ADOPT}

    filled(store, contact("c1", firstname="Augusta"))
    assert kinds(store) == {"c1": Kind.UPDATE, "c2": Kind.ADOPT}


def held(*pages: dict[str, str]) -> Iterator[pl.DataFrame]:
    """Pages of a scan: first names by key."""
    for names in pages:
        yield pl.DataFrame({"_key": list(names), "firstName": list(names.values()), "email": [""] * len(names)})


def test_adopted_record_is_an_insert_after_its_deletion(store: TableStore) -> None:
    store.note_existing(held({"c1": "of old"}))
    in_step(store, contact("c1"))
    store.absorb(page(store.table, removed=["c1"]), CHANGES)
    store.plan()
    answer(store)

    filled(store, contact("c1"))
    assert kinds(store) == {"c1": Kind.INSERT}


def test_key_that_stands_in_campaign_twice_is_refused_and_asked_for_again(store: TableStore) -> None:
    with pytest.raises(ConfigurationError, match=r"'externalId' of 'profile' is not unique, for instance c1\. Merge"):
        store.note_existing(held({"c1": "Ada", "c2": "Bob"}, {"c1": "Ada"}))

    assert not store.scanned


# --- settle ---------------------------------------------------------------------------------------------------------


def test_written_records_are_what_campaign_is_known_to_hold(store: TableStore) -> None:
    in_step(store, contact("c1", firstname="Ada"))

    assert (store.mirrored(), store.summary().open, store.plan(everything=True).open) == (1, 0, 0)


def test_record_that_was_not_written_is_still_open(store: TableStore) -> None:
    filled(store, contact("c1"))
    answer(store, Result.UNSENT)

    assert (kinds(store), store.mirrored()) == ({"c1": Kind.INSERT}, 0)


def test_hidden_record_is_tried_again_after_a_while_that_doubles(store: TableStore, staging: Staging) -> None:
    """R47, R48: it is parked, and shown; no change of it is needed for it to go out."""
    filled(store, contact("c1"))
    waits: list[float] = []
    for _ in range(3):
        answer(store, Result.DEFERRED, reason="hidden")
        [reject] = store.rejects(5)
        assert reject.cause is Cause.HIDDEN
        assert (store.summary().deferred, store.summary().open, kinds(store)) == (1, 0, {})
        assert reject.retry_at is not None
        waits.append(round((reject.retry_at - datetime.now(UTC)).total_seconds() / 60))
        staging._connection.execute('update "contact"."reject" set retry_at = now() at time zone \'UTC\'')
        store.plan()
        assert kinds(store) == {"c1": Kind.INSERT}

    assert waits == [2, 4, 8]


def test_refused_record_rests_until_its_values_change(store: TableStore) -> None:
    filled(store, contact("c1", emailaddress1="broken"), contact("c2"))
    answer(store, Result.REFUSED, "c1", reason="email is malformed")
    assert kinds(store) == {"c2": Kind.INSERT}
    [reject] = store.rejects(5)
    assert (reject.key, reject.cause, reject.reason) == ("c1", Cause.REFUSED, "email is malformed")
    assert (store.summary().refused, store.summary().open) == (1, 1)

    filled(store, contact("c1", emailaddress1="broken", modifiedon="2026-05-02T08:00:00Z"))
    assert "c1" not in kinds(store), "what Campaign isn't sent makes no difference"

    filled(store, contact("c1", emailaddress1="mended@x.org"))
    assert kinds(store)["c1"] is Kind.INSERT


def test_refused_record_is_forgotten_when_its_difference_is_gone(store: TableStore) -> None:
    in_step(store, contact("c1", firstname="Ada"))
    filled(store, contact("c1", firstname="X" * 99))
    answer(store, Result.REFUSED)
    filled(store, contact("c1", firstname="Ada"))

    assert (store.summary().refused, store.rejects(5)) == (0, [])


def test_record_that_is_written_after_a_refusal_is_no_reject_any_more(store: TableStore) -> None:
    filled(store, contact("c1", firstname="X" * 99))
    answer(store, Result.REFUSED)
    in_step(store, contact("c1", firstname="Ada"))

    assert store.rejects(5) == []


def test_settling_that_fails_books_nothing(store: TableStore, staging: Staging) -> None:
    filled(store, contact("c1"))
    store.claim(open_changes(store))
    staging._connection.execute('drop table "contact"."reject"')

    with pytest.raises(duckdb.Error):
        store.settle([Outcome("c1", Kind.INSERT, Result.DONE, 1)])

    assert (store.mirrored(), staging.ledger.spent().today) == (0, 1), "the reservation stands, nothing else"


# --- changes in doubt -----------------------------------------------------------------------------------------------


def killed(store: TableStore) -> None:
    """A run that claimed everything and was never heard of again; the next one has begun."""
    store.claim(open_changes(store))
    store.book_unsettled()


def unknown(store: TableStore) -> None:
    """A run whose writes got no answer."""
    answer(store, Result.UNKNOWN)


Befall = Callable[[TableStore], None]
IN_DOUBT = pytest.mark.parametrize("befall", [killed, unknown])


@IN_DOUBT
def test_insert_in_doubt_is_read_before_it_is_written(store: TableStore, befall: Befall) -> None:
    befall(filled(store, contact("c1")))
    store.plan()

    assert kinds(store) == {"c1": Kind.ADOPT}


@IN_DOUBT
def test_insert_in_doubt_is_deleted_when_its_record_is_gone(store: TableStore, befall: Befall) -> None:
    befall(filled(store, contact("c1")))
    store.absorb(page(store.table, removed=["c1"]), CHANGES)
    store.plan()

    assert kinds(store) == {"c1": Kind.DELETE}


@IN_DOUBT
def test_update_in_doubt_is_looked_at_even_when_it_is_undone(store: TableStore, befall: Befall) -> None:
    """Campaign may hold the value between: an opt-out must not be lost to it."""
    in_step(store, contact("c1", firstname="Ada"))
    befall(filled(store, contact("c1", firstname="Bob")))
    filled(store, contact("c1", firstname="Ada"))

    assert kinds(store) == {"c1": Kind.ADOPT}


@IN_DOUBT
def test_delete_in_doubt_is_looked_at_even_when_the_record_is_back(store: TableStore, befall: Befall) -> None:
    in_step(store, contact("c1"))
    store.absorb(page(store.table, removed=["c1"]), CHANGES)
    store.plan()
    befall(store)
    filled(store, contact("c1"))

    assert kinds(store) == {"c1": Kind.ADOPT}


@IN_DOUBT
@pytest.mark.parametrize("result", [Result.UNSENT, Result.REFUSED, Result.DEFERRED])
def test_doubt_lasts_until_the_record_is_written(store: TableStore, befall: Befall, result: Result) -> None:
    befall(filled(store, contact("c1")))
    store.plan()
    answer(store, result)
    store.absorb(page(store.table, removed=["c1"]), CHANGES)
    store.plan()

    assert kinds(store) == {"c1": Kind.DELETE}


@IN_DOUBT
def test_doubt_ends_with_the_answer(store: TableStore, befall: Befall) -> None:
    befall(filled(store, contact("c1")))
    store.plan()
    answer(store)

    assert store.plan(everything=True).open == 0
    assert store.book_unsettled() == 0


def test_insert_in_doubt_is_left_alone_when_deletes_are_not_applied(staging: Staging) -> None:
    store = filled(staging.table(bound(apply_deletes=False)), contact("c1"))
    unknown(store)
    store.absorb(page(store.table, removed=["c1"]), CHANGES)

    assert store.plan().open == 0


# --- deletes --------------------------------------------------------------------------------------------------------


def test_deletes_are_ignored_where_they_are_not_applied(staging: Staging) -> None:
    store = in_step(staging.table(bound(apply_deletes=False)), contact("c1"))
    store.absorb(page(store.table, removed=["c1"]), CHANGES)

    assert store.plan().open == 0
    assert store.plan(everything=True).open == 0


def test_deletes_that_were_ignored_are_open_once_they_are_applied(staging: Staging) -> None:
    store = in_step(staging.table(bound(apply_deletes=False)), contact("c1"))
    store.absorb(page(store.table, removed=["c1"]), CHANGES)
    store.plan()

    store = staging.table(bound(apply_deletes=True))
    assert store.plan().full
    assert kinds(store) == {"c1": Kind.DELETE}


# --- a mapping that changes -----------------------------------------------------------------------------------------

FIRST_NAME = ("firstname", "firstName")
EMAIL = ("emailaddress1", "email")
ADA = contact("c1", firstname="Ada", emailaddress1="ada@x.org")


def test_same_mapping_opened_again_goes_on_where_it_was(staging: Staging) -> None:
    in_step(staging.table(bound()), ADA)
    again = staging.table(bound())

    assert (again.reading, again.plan().full, again.plan().open) == (CHANGES, False, 0)


def test_field_of_a_new_column_is_read_anew_and_then_an_update(staging: Staging) -> None:
    in_step(staging.table(bound(FIRST_NAME)), ADA)
    store = staging.table(bound(FIRST_NAME, EMAIL))

    assert store.reading == Reading(generation=2)
    filled(store, ADA)
    [change] = open_changes(store)
    assert (change.kind, change.changed) == (Kind.UPDATE, ["email"])


def test_field_of_a_known_column_needs_no_new_reading(staging: Staging) -> None:
    in_step(staging.table(bound(FIRST_NAME)), ADA)
    store = staging.table(bound(FIRST_NAME, ("firstname", "email")))
    store.plan()

    assert store.reading == CHANGES
    assert [c.changed for c in open_changes(store)] == [["email"]]


def test_dropped_field_is_no_difference(staging: Staging) -> None:
    in_step(staging.table(bound(FIRST_NAME, EMAIL)), ADA)
    store = staging.table(bound(FIRST_NAME))

    assert (store.reading, store.plan().open) == (CHANGES, 0)


def test_field_that_was_dropped_and_is_back_is_sent_again(staging: Staging) -> None:
    for pairs in ((FIRST_NAME, EMAIL), (FIRST_NAME,)):
        in_step(staging.table(bound(*pairs)), ADA)
    store = filled(staging.table(bound(FIRST_NAME, EMAIL)), ADA)

    assert [c.changed for c in open_changes(store)] == [["email"]]


def test_field_of_another_type_is_sent_again(staging: Staging) -> None:
    moved = contact("c1", numberofchildren=3, creditlimit=3.5)
    in_step(staging.table(bound(("numberofchildren", "cusCredit"))), moved)
    store = filled(staging.table(bound(("creditlimit", "cusCredit"))), moved)

    assert [(c.changed, c.values) for c in open_changes(store)] == [(["cusCredit"], {"cusCredit": 3.5})]


def test_field_that_comes_from_a_new_column_is_not_cleared_before_that_column_is_read(staging: Staging) -> None:
    people = [contact(key, firstname="Ada", emailaddress1="Countess") for key in ("c1", "c2")]
    in_step(staging.table(bound(("firstname", "firstName"))), *people)
    store = staging.table(bound(("emailaddress1", "firstName")))

    store.absorb(page(store.table, people[0], next_link="page 2"), replace(store.reading, next_link="page 2"))
    store.plan()

    assert {c.key: (c.kind, c.values["firstName"]) for c in open_changes(store)} == {"c1": (Kind.UPDATE, "Countess")}


def test_open_change_is_not_written_with_a_column_that_is_yet_to_be_read(staging: Staging) -> None:
    in_step(staging.table(bound(FIRST_NAME)), ADA)
    filled(staging.table(bound(FIRST_NAME)), contact("c1", firstname="Augusta"))
    store = staging.table(bound(FIRST_NAME, EMAIL))
    store.plan()

    assert kinds(store) == {}
    filled(store, contact("c1", firstname="Augusta", emailaddress1="ada@x.org"))
    assert kinds(store) == {"c1": Kind.UPDATE}


def test_nothing_is_deleted_while_a_new_column_is_read(staging: Staging) -> None:
    in_step(staging.table(bound(FIRST_NAME)), ADA, contact("c2"))
    before = staging.table(bound(FIRST_NAME))
    before.absorb(page(before.table, removed=["c2"]), CHANGES)
    before.plan()
    store = staging.table(bound(FIRST_NAME, EMAIL))

    assert store.plan(everything=True).delete == 0
    filled(store, ADA)
    assert kinds(store)["c2"] is Kind.DELETE


def test_refused_record_is_tried_again_under_another_mapping(staging: Staging) -> None:
    store = filled(staging.table(bound(FIRST_NAME, EMAIL)), ADA)
    answer(store, Result.REFUSED)
    store = staging.table(bound(FIRST_NAME))
    store.plan()

    assert kinds(store) == {"c1": Kind.INSERT}


@pytest.mark.parametrize(
    ("change", "was"),
    [
        pytest.param({"target": "cusContact"}, "target 'profile'", id="another resource"),
        pytest.param({"key": {"source": "contactid", "target": "email"}}, "target_key 'externalId'", id="another key"),
    ],
)
def test_tables_and_keys_of_a_saved_mapping_stay(staging: Staging, change: dict[str, object], was: str) -> None:
    table = bound(FIRST_NAME)
    in_step(staging.table(table), ADA)
    changed = type(table.mapping).model_validate(table.mapping.model_dump() | change)

    with pytest.raises(ConfigurationError, match=f"was saved with .*{was}.* can't change. Put them back"):
        staging.table(replace(table, mapping=changed))
    assert staging.table(table).plan().open == 0


# --- several tables -------------------------------------------------------------------------------------------------


def table_named(name: str) -> BoundMapping:
    table = bound()
    return replace(table, mapping=table.mapping.model_copy(update={"source": name}))


def test_two_tables_do_not_see_each_other(staging: Staging) -> None:
    contacts, leads = staging.table(table_named("contact")), staging.table(table_named("lead"))
    filled(contacts, contact("c1"))
    in_step(leads, contact("l1"), contact("l2"))

    assert (kinds(contacts), contacts.mirrored(), leads.mirrored()) == ({"c1": Kind.INSERT}, 0, 2)


def test_no_campaign_key_is_stored_anywhere(file: Path) -> None:
    with open_staging(file) as staging:
        in_step(staging.table(bound()), ADA)
        tables = staging._connection.execute("select schema_name, table_name from duckdb_tables()").fetchall()
        columns = {
            name
            for schema, table in tables
            for (name, *_) in staging._connection.execute(f'describe "{schema}"."{table}"').fetchall()
        }

    assert not {name for name in columns if "pkey" in name.lower() or "href" in name.lower()}


def test_keys_that_share_a_hash_are_told_apart(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash only narrows the search: here every key has the same."""
    for module in (sql, sql_plan, sql_apply):
        monkeypatch.setattr(module, "hashed", lambda key: "1")
    store = in_step(staging.table(bound()), *(contact(key, firstname="Ada") for key in ("c1", "c2", "c3")))

    store.absorb(page(store.table, contact("c1", firstname="Augusta"), removed=["c2"]), CHANGES)
    store.plan()
    assert kinds(store) == {"c1": Kind.UPDATE, "c2": Kind.DELETE}
    answer(store)
    assert (store.mirrored(), store.plan(everything=True).open) == (2, 0)
