"""What a person asks of a table: answered from the staging file alone, done by the next run."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from d365_campaign.binding import BoundMapping, bind
from d365_campaign.changes import Cause, Outcome, Replay, Result
from d365_campaign.errors import ConfigurationError
from d365_campaign.mapping import FieldMapping, KeyMapping, LinkMapping, TableMapping
from d365_campaign.schemas import ResourceField, SourceColumn, SourceTable, TargetResource
from d365_campaign.store.desk import TableDesk, refuse_large_replay
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
    mapping,
    open_changes,
    page,
    source_table,
    target_resource,
)

NOT_BOB = {"conditions": [{"source": "firstname", "comparison": "not_equals", "value": "Bob"}]}
ANY = 2_000_000


def purchases() -> BoundMapping:
    """Purchases whose lookup leads to contacts."""
    columns = {name: SourceColumn(name, "reference", name) for name in ("purchaseid", "contactid")}
    fields = {name: ResourceField(name, "string") for name in ("cusD365id", "cusContactId")}
    linked = TableMapping(
        source="purchase",
        target="cusPurchase",
        key=KeyMapping(source="purchaseid", target="cusD365id", declared_unique=True),
        fields=[FieldMapping(source="contactid", target="cusContactId")],
        links=[LinkMapping(source="contactid", parent="contact")],
        apply_deletes=True,
    )
    source = SourceTable("purchase", "purchases", "purchaseid", change_tracking=True, columns=columns)
    return bind(linked, source, TargetResource("cusPurchase", "customResources", fields), [mapping(), linked])


def contacts() -> BoundMapping:
    """Contacts that know of their purchases."""
    return bind(mapping(), source_table(), target_resource(), [mapping(), purchases().mapping])


def turned_down(store: TableStore, result: Result, *keys: str, reason: str = "firstName is refused") -> None:
    """Settle open changes as Campaign turns them down."""
    changes = [change for change in open_changes(store) if change.key in keys]
    store.claim(changes)
    store.settle([Outcome(c.key, c.kind, result, 1, reason=reason, fields=["firstName"]) for c in changes])


@pytest.fixture
def desk(store: TableStore, staging: Staging) -> TableDesk:
    return staging.desk(store.table.name)


def test_table_that_was_never_run_says_how_to(staging: Staging) -> None:
    with pytest.raises(ConfigurationError, match=r"nothing of table 'account' yet.*d365-campaign sync account"):
        staging.desk("account")


def test_file_knows_the_tables_that_were_run(staging: Staging) -> None:
    staging.table(purchases())

    assert staging.tables == ["purchase"]


# --- replay ---------------------------------------------------------------------------------------------------------


def test_replay_waits_for_the_next_run_across_processes(file: Path) -> None:
    with open_staging(file) as staging:
        in_step(staging.table(bound()), contact("c1"))
        staging.desk("contact").request_replay(Replay.FORCED, ANY)

    with open_staging(file) as staging:
        assert staging.desk("contact").replay_requested is Replay.FORCED
        assert staging.table(bound()).reading == CHANGES, "nothing happens before a run takes it up"


def test_replay_asked_for_twice_is_one_in_the_latest_mode(store: TableStore, desk: TableDesk) -> None:
    in_step(store, contact("c1"))
    desk.request_replay(Replay.DIFFERENCES, ANY)
    desk.request_replay(Replay.FORCED, ANY)

    assert desk.replay_requested is Replay.FORCED
    assert store.take_up_replay() is True
    assert desk.replay_requested is None
    assert store.take_up_replay() is False


def test_replay_that_is_withdrawn_is_none(store: TableStore, desk: TableDesk) -> None:
    desk.request_replay(Replay.DIFFERENCES, ANY)

    assert desk.withdraw_replay() is True
    assert desk.withdraw_replay() is False
    assert store.take_up_replay() is False


def replayed(store: TableStore, *contacts: dict[str, object]) -> TableStore:
    """The store once the replay that was asked for is read and compared."""
    store.take_up_replay()
    return filled_after(store, *contacts)


def filled_after(store: TableStore, *contacts: dict[str, object]) -> TableStore:
    store.absorb(page(store.table, *contacts), replace(CHANGES, generation=store.reading.generation))
    store.plan()
    return store


def test_replay_of_equal_records_sends_nothing(store: TableStore, desk: TableDesk) -> None:
    in_step(store, contact("c1"), contact("c2"))
    desk.request_replay(Replay.DIFFERENCES, ANY)

    assert kinds(replayed(store, contact("c1"), contact("c2"))) == {}


def test_forced_replay_looks_at_every_record_once(store: TableStore, desk: TableDesk) -> None:
    in_step(store, contact("c1"), contact("c2"))
    desk.request_replay(Replay.FORCED, ANY)
    replayed(store, contact("c1"), contact("c2"))

    assert kinds(store) == {"c1": "adopt", "c2": "adopt"}
    answer(store)
    assert store.plan(everything=True).open == 0


@pytest.mark.parametrize(("number", "refused"), [(1_999_999, False), (2_000_000, True)])
@pytest.mark.parametrize("measure", ["records", "backlog"])
def test_replay_is_refused_from_two_million_on_by_either_measure(measure: str, number: int, refused: bool) -> None:
    """R88."""
    measures = {"records": 0, "backlog": 0} | {measure: number}
    if not refused:
        refuse_large_replay("contact", **measures, limit=ANY)
        return
    with pytest.raises(ConfigurationError, match=r"2,000,000 (records|changes).*guardrails\.max_replay_records"):
        refuse_large_replay("contact", **measures, limit=ANY)


@pytest.mark.parametrize(("limit", "refused"), [(4, False), (3, True)])
def test_replay_counts_the_records_of_the_snapshot(
    store: TableStore, desk: TableDesk, limit: int, refused: bool
) -> None:
    in_step(store, *(contact(f"c{n}") for n in range(3)))

    assert_refused(lambda: desk.request_replay(Replay.DIFFERENCES, limit), desk, refused, "3 records")


@pytest.mark.parametrize(("limit", "refused"), [(4, False), (3, True)])
def test_replay_counts_the_backlog_of_records_that_are_gone(
    store: TableStore, desk: TableDesk, limit: int, refused: bool
) -> None:
    in_step(store, *(contact(f"c{n}") for n in range(3)))
    store.absorb(page(store.table, removed=["c0", "c1", "c2"]), CHANGES)
    store.plan()

    assert (desk.records(), desk.backlog()) == (0, 3)
    assert_refused(lambda: desk.request_replay(Replay.FORCED, limit), desk, refused, "3 changes in its backlog")


def assert_refused(ask: Callable[[], None], desk: TableDesk, refused: bool, figure: str) -> None:
    if refused:
        with pytest.raises(ConfigurationError, match=figure):
            ask()
    else:
        ask()
    assert (desk.replay_requested is None) == refused


def test_backlog_is_what_a_run_could_write(store: TableStore, staging: Staging, desk: TableDesk) -> None:
    filled(store, *(contact(key) for key in ("held", "open", "refused")))
    turned_down(store, Result.REFUSED, "refused")
    staging.privacy.hold("held", "Ada")

    assert desk.backlog() == store.summary().open == 1


# --- what a run asks a person for -----------------------------------------------------------------------------------


def test_acknowledgement_of_a_large_load_ends_with_the_load(store: TableStore, desk: TableDesk) -> None:
    desk.acknowledge_large_load("Ada")
    assert store.large_load_acknowledged_by == "Ada"

    store.end_large_load()

    assert store.large_load_acknowledged_by is None


def test_changed_schema_is_refused_until_it_is_accepted(staging: Staging) -> None:
    """R89."""
    in_step(staging.table(bound()), contact("c1"))
    fields = {"externalId": ResourceField("externalId", "string"), "email": ResourceField("email", "string")}
    shorter = TargetResource(
        "profile", "profileAndServicesExt", {**fields, "firstName": ResourceField("firstName", "string", length=20)}
    )
    changed = bind(mapping(), source_table(), shorter)
    with pytest.raises(ConfigurationError, match=r"profile\.firstName was string and is string\(20\)"):
        staging.table(changed)

    staging.desk("contact").accept_schema()

    assert staging.table(changed).plan().open == 0
    with pytest.raises(ConfigurationError, match=r"is string\. Nothing|and is string"):
        staging.table(bound())


# --- rejects --------------------------------------------------------------------------------------------------------


@pytest.fixture
def rejecting(staging: Staging) -> TableStore:
    """One reject of each cause: refused, hidden, unfit."""
    store = staging.table(bound(("firstname", "firstName"), ("firstname", "cusChildren")))
    filled(store, contact("hidden"), contact("refused"), contact("unfit", firstname="Ada"))
    turned_down(store, Result.REFUSED, "refused")
    turned_down(store, Result.DEFERRED, "hidden", reason="it is hidden")
    return store


def test_rejects_tell_all_there_is_to_know(rejecting: TableStore, staging: Staging) -> None:
    rejects = {reject.key: reject for reject in staging.desk("contact").rejects()}

    assert {key: reject.cause for key, reject in rejects.items()} == {
        "hidden": Cause.HIDDEN,
        "refused": Cause.REFUSED,
        "unfit": Cause.UNFIT,
    }
    refused, unfit, hidden = rejects["refused"], rejects["unfit"], rejects["hidden"]
    assert (refused.reason, refused.fields, refused.attempts) == ("firstName is refused", ["firstName"], 1)
    assert (unfit.reason, unfit.fields, unfit.attempts) == ("cusChildren can't become an integer", ["cusChildren"], 0)
    assert refused.since is not None
    assert datetime.now(UTC) - refused.since < timedelta(minutes=5)
    assert hidden.retry_at is not None
    assert hidden.since is not None
    assert hidden.retry_at > hidden.since
    assert all(reject.resting for reject in rejects.values())


def test_rejects_are_listed_by_key_or_up_to_a_number(rejecting: TableStore, staging: Staging) -> None:
    desk = staging.desk("contact")

    assert [reject.key for reject in desk.rejects(["unfit", "nobody"])] == ["unfit"]
    assert len(desk.rejects(limit=2)) == len(rejecting.rejects(2)) == 2


def test_retry_sends_refused_and_hidden_records_again_and_names_the_unfit(
    rejecting: TableStore, staging: Staging
) -> None:
    assert kinds(rejecting) == {}

    retried = staging.desk("contact").retry()

    assert (sorted(retried.woken), retried.unfit, retried.unknown) == (["hidden", "refused"], ["unfit"], [])
    assert kinds(rejecting) == {"hidden": "insert", "refused": "insert"}
    rejecting.plan(everything=True)
    assert kinds(rejecting) == {"hidden": "insert", "refused": "insert"}, "a plan in between changes nothing"
    answer(rejecting)
    assert [reject.key for reject in rejecting.rejects(5)] == ["unfit"]


def test_retry_of_one_key_leaves_the_others_at_rest(rejecting: TableStore, staging: Staging) -> None:
    retried = staging.desk("contact").retry(["refused", "nobody"])

    assert (retried.woken, retried.unfit, retried.unknown) == (["refused"], [], ["nobody"])
    assert kinds(rejecting) == {"refused": "insert"}


def test_record_that_is_refused_again_after_a_retry_rests_again(rejecting: TableStore, staging: Staging) -> None:
    desk = staging.desk("contact")
    desk.retry(["refused"])
    turned_down(rejecting, Result.REFUSED, "refused")

    [reject] = desk.rejects(["refused"])
    assert (reject.attempts, reject.resting) == (1, True)
    assert kinds(rejecting) == {}


# --- the trace of a record ------------------------------------------------------------------------------------------


def told(staging: Staging, key: str = "c1", table: str = "contact") -> str:
    """The sentence about a record, its moments as `...`."""
    sentence = staging.desk(table).trace(key).sentence
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "...", sentence)


def test_record_in_step_tells_since_when(store: TableStore, staging: Staging) -> None:
    in_step(store, contact("c1", firstname="Ada"))
    trace = staging.desk("contact").trace("c1")

    assert told(staging) == "In step since ...."
    assert (trace.in_dynamics, trace.mirrored, trace.change) == (True, True, None)
    assert trace.modified_on == datetime(2026, 5, 1, 8, tzinfo=UTC)
    assert trace.last_call is not None
    assert (trace.last_call.kind, trace.last_call.result) == ("insert", "done")
    assert datetime.now(UTC) - trace.last_call.at < timedelta(minutes=5)


def test_update_that_campaign_held_already_is_told_as_identical(store: TableStore, staging: Staging) -> None:
    in_step(store, contact("c1", firstname="Ada"))
    filled(store, contact("c1", firstname="Bob"))
    [change] = open_changes(store)
    store.claim([change])
    store.settle([Outcome("c1", change.kind, Result.DONE, 1, identical=True)])

    last = staging.desk("contact").trace("c1").last_call
    assert last is not None
    assert (last.kind, last.result) == ("update", "identical")


def test_record_that_was_in_step_beforehand_was_never_called_for(store: TableStore, staging: Staging) -> None:
    store.note_existing(iter([pl.DataFrame({"_key": ["c1"], "firstName": ["Ada"], "email": [""]})]))
    filled(store, contact("c1", firstname="Ada"))

    assert told(staging) == "In step: Campaign held it before this project wrote anything."
    assert staging.desk("contact").trace("c1").last_call is None


def test_open_changes_are_told_by_kind_and_fields(store: TableStore, staging: Staging) -> None:
    filled(store, contact("c1"))
    assert told(staging) == "An insert is open: the next run writes it."
    answer(store)
    filled(store, contact("c1", firstname="Bob", emailaddress1="b@x.org"))
    assert told(staging) == "An update of firstName, email is open: the next run writes it."
    store.absorb(page(store.table, removed=["c1"]), CHANGES)
    assert told(staging) == "Read, and not compared yet: the next run does."
    store.plan()
    assert told(staging) == "A delete is open: the next run writes it."


def test_deleted_record_tells_when_and_stays_known(store: TableStore, staging: Staging) -> None:
    in_step(store, contact("c1"))
    store.absorb(page(store.table, removed=["c1"]), CHANGES)
    store.plan()
    answer(store)

    trace = staging.desk("contact").trace("c1")
    assert told(staging) == "Gone from Dynamics, and deleted in Campaign on ...."
    assert (trace.known, trace.in_dynamics, trace.mirrored) == (True, False, False)
    in_step(store, contact("c1"))
    assert told(staging) == "In step since ...."


def test_record_whose_deletion_is_not_applied_is_kept(staging: Staging) -> None:
    store = in_step(staging.table(bound(apply_deletes=False)), contact("c1"))
    store.absorb(page(store.table, removed=["c1"]), CHANGES)
    store.plan()

    assert told(staging) == "Deleted in Dynamics. Campaign keeps it: apply_deletes is off."


def test_nothing_is_said_to_be_deleted_while_a_full_read_is_under_way(store: TableStore, staging: Staging) -> None:
    in_step(store, contact("c1"), contact("c2"))
    store.absorb(
        page(store.table, contact("c2"), removed=["c1"], next_link="page 2"), replace(FULL, next_link="page 2")
    )
    store.plan()

    assert told(staging) == "Campaign holds it. Nothing is deleted before the full read that is under way is through."


@pytest.mark.parametrize(
    ("deletes", "sentence"),
    [
        (False, "Doesn't pass the filter any more. Campaign keeps it: delete_filtered_out is off."),
        (True, "Doesn't pass the filter: deleted in Campaign on ...."),
    ],
)
def test_record_that_stops_passing_the_filter(staging: Staging, deletes: bool, sentence: str) -> None:
    store = staging.table(bound(filter=NOT_BOB, delete_filtered_out=deletes))
    in_step(store, contact("c1", firstname="Ada"))
    in_step(store, contact("c1", firstname="Bob"), contact("c2", firstname="Bob"))

    assert told(staging) == sentence
    assert told(staging, "c2") == "Doesn't pass the filter: Campaign does not get it."


def test_field_that_only_a_replay_sends_is_named(staging: Staging) -> None:
    store = staging.table(bound(first_load_only=["email"]))
    in_step(store, contact("c1", emailaddress1="a@x.org"))
    in_step(store, contact("c1", emailaddress1="b@x.org"))

    assert told(staging) == "In step since .... email differs, and is sent by a replay only (apply_updates is off)."


def test_replayed_record_says_so(store: TableStore, staging: Staging, desk: TableDesk) -> None:
    in_step(store, contact("c1"))
    desk.request_replay(Replay.FORCED, ANY)
    replayed(store, contact("c1"))

    assert told(staging) == (
        "It is to be read from Campaign and brought into step, asked for by a replay: the next run writes it."
    )


def test_rejects_say_why_and_what_helps(rejecting: TableStore, staging: Staging) -> None:
    assert told(staging, "refused") == (
        "Refused: firstName is refused. It rests until its data or the mapping changes, or until: "
        "d365-campaign rejects contact --retry refused"
    )
    assert told(staging, "hidden") == "Hidden in Campaign: it is hidden. It is tried again from ... on."
    assert told(staging, "unfit") == (
        "Can't be sent: cusChildren can't become an integer. It goes out once its data or the mapping changes."
    )
    desk = staging.desk("contact")
    assert [desk.trace(key).refused for key in ("refused", "hidden", "unfit")] == [True, False, True]
    last = desk.trace("refused").last_call
    assert last is not None
    assert (last.kind, last.result) == ("insert", "refused")
    assert desk.trace("unfit").last_call is None
    desk.retry()
    assert told(staging, "refused") == "Was turned down before: firstName is refused. The next run sends it again."


def test_child_names_the_parent_it_waits_for(staging: Staging) -> None:
    parents, children = staging.table(contacts()), staging.table(purchases())
    filled(children, {"purchaseid": "p1", "contactid": "c1"})
    assert told(staging, "p1", "purchase") == "Waits for contact c1: it is not in Campaign yet."
    [awaited] = staging.desk("purchase").trace("p1").waits_for
    assert (awaited.table, awaited.key, awaited.in_campaign) == ("contact", "c1", False)

    in_step(parents, contact("c1"))
    assert told(staging, "p1", "purchase") == "Waited for contact c1, in Campaign by now: the next run sends it."

    staging.privacy.hold("c1", "Ada")
    children.plan()
    assert told(staging, "p1", "purchase") == "Waits for contact c1: it is on hold."


def test_child_of_a_table_that_was_never_run_waits(staging: Staging) -> None:
    filled(staging.table(purchases()), {"purchaseid": "p1", "contactid": "c1"})

    assert told(staging, "p1", "purchase") == "Waits for contact c1: it is not in Campaign yet."


def test_parent_waits_to_be_deleted_after_its_child(staging: Staging) -> None:
    parents, children = staging.table(contacts()), staging.table(purchases())
    in_step(parents, contact("c1"))
    in_step(children, {"purchaseid": "p1", "contactid": "c1"})
    for store, key in ((parents, "c1"), (children, "p1")):
        store.absorb(page(store.table, removed=[key]), CHANGES)
        store.plan()
    parents.begin_writing()

    assert told(staging) == "Its delete waits for purchase p1, to be deleted first."


def test_hold_comes_before_everything_else(store: TableStore, staging: Staging) -> None:
    filled(store, contact("c1"))
    turned_down(store, Result.REFUSED, "c1")
    staging.privacy.hold("c1", "Ada")

    assert told(staging) == "On hold since ... by Ada: nothing writes it until it is released."


def test_change_without_an_answer_is_in_doubt(store: TableStore, staging: Staging) -> None:
    filled(store, contact("c1"))
    answer(store, Result.UNKNOWN)
    store.book_unsettled()

    assert told(staging) == "Sent without an answer: the next run reads it back before it goes on."


def test_person_who_was_forgotten_is_told_as_such_and_nothing_else_is_known(
    store: TableStore, staging: Staging
) -> None:
    in_step(store, contact("c1"))
    store.absorb(page(store.table, removed=["c1"]), CHANGES)
    store.plan()
    answer(store)
    staging.privacy.forget("c1")

    assert told(staging) == "This person was forgotten: nothing of it is kept or written."
    assert not staging.desk("contact").trace("c1").known


def test_stranger_is_known_nowhere(store: TableStore, staging: Staging) -> None:
    in_step(store, contact("c1"))

    assert (
        told(staging, "c9") == "Neither Dynamics nor Campaign is known to hold it in table contact, as of the last run."
    )
    assert not staging.desk("contact").trace("c9").known


def test_record_of_campaign_only_is_left_alone(store: TableStore, staging: Staging) -> None:
    store.note_existing(iter([pl.DataFrame({"_key": ["c1"], "firstName": ["Ada"], "email": [""]})]))
    filled(store, contact("c2"))

    assert told(staging) == "Campaign holds a record with this key, and Dynamics does not: it is left alone."


def test_record_that_is_never_to_be_adopted_is_left_alone(staging: Staging) -> None:
    store = staging.table(bound(adopt_existing="never"))
    store.note_existing(iter([pl.DataFrame({"_key": ["c1"], "firstName": ["Old"], "email": [""]})]))
    filled(store, contact("c1", firstname="Ada"))

    assert told(staging) == (
        "Campaign held it before this project wrote anything, and adopt_existing is never: it is left alone."
    )


def test_values_are_told_on_request_only(store: TableStore, desk: TableDesk) -> None:
    in_step(store, contact("c1", firstname="Ada"))
    filled(store, contact("c1", firstname="Augusta"))

    hidden, shown = desk.trace("c1"), desk.trace("c1", show_values=True)
    assert [(f.name, f.differs, f.desired, f.known) for f in hidden.fields] == [
        ("firstName", True, None, None),
        ("email", False, None, None),
    ]
    assert [(f.name, f.desired, f.known) for f in shown.fields] == [
        ("firstName", "Augusta", "Ada"),
        ("email", None, None),
    ]
    assert "Augusta" not in repr(shown)


def test_nothing_and_an_empty_number_are_no_difference(staging: Staging) -> None:
    store = staging.table(bound(("numberofchildren", "cusChildren"), ("donotemail", "cusFlag")))
    in_step(store, contact("c1"))
    filled(store, contact("c1", numberofchildren=0, donotemail=False))

    assert not any(field.differs for field in staging.desk("contact").trace("c1").fields)


def test_mapping_that_changed_leaves_every_record_to_be_compared(store: TableStore, staging: Staging) -> None:
    in_step(store, contact("c1"))
    staging.table(bound(("firstname", "email"), ("emailaddress1", "firstName")))

    assert told(staging) == "Read, and not compared yet: the next run does."
    assert told(staging, "c9").startswith("Neither Dynamics nor Campaign")
