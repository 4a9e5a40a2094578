"""One change meets Campaign: what becomes of it, and what it costs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date

import pytest

from d365_campaign.binding import bind
from d365_campaign.changes import Change, Kind, Outcome, Result
from d365_campaign.errors import ConfigurationError, RecordRejected, RetriableError, SyncError, UnknownOutcome
from d365_campaign.flows.write import Writer
from d365_campaign.schemas import ResourceField, ResourceLink
from tests.builders import bound, mapping, source_table, target_resource
from tests.stand_ins import Campaign, Fault

ADA: dict[str, object] = {"firstName": "Ada", "email": "ada@x.org"}
BOB: dict[str, object] = {"firstName": "Bob", "email": "ada@x.org"}

LOST = Fault(UnknownOutcome("no answer"))
LANDED = Fault(UnknownOutcome("no answer"), lands=True)
REFUSED = Fault(RecordRejected("email is malformed"))
HIDDEN = Fault(RecordRejected("Campaign holds c1 already.", duplicate_key=True))
FORBIDDEN = Fault(ConfigurationError("the credential may not write"))
BUSY = Fault(RetriableError("Campaign is busy"))

Faults = Mapping[tuple[str, str], Sequence[Fault]]


def written(
    kind: Kind,
    held: Mapping[str, object] | None,
    faults: Mapping[str, Sequence[Fault]] | None = None,
    declared_unique: bool = True,
) -> tuple[Outcome, SyncError | None, Campaign]:
    """What became of bringing record c1 to ADA where Campaign held *held*."""
    campaign = Campaign(
        {"c1": dict(held)} if held is not None else {},
        {(operation, "c1"): met for operation, met in (faults or {}).items()},
    )
    change = Change("c1", kind, {} if kind is Kind.DELETE else ADA)
    outcome, error = Writer(campaign, bound(declared_unique=declared_unique)).write(change)
    assert outcome.engine_calls == len(campaign.calls), "every call is counted"
    return outcome, error, campaign


@pytest.mark.parametrize(
    ("kind", "held", "faults", "done_as", "calls", "identical"),
    [
        pytest.param(Kind.INSERT, None, {}, Kind.INSERT, 1, False, id="insert"),
        pytest.param(Kind.INSERT, BOB, {}, Kind.ADOPT, 3, False, id="insert meets its own key, other values"),
        pytest.param(Kind.INSERT, ADA, {}, Kind.ADOPT, 2, True, id="insert meets its own key, same values"),
        pytest.param(Kind.INSERT, None, {"create": [LANDED]}, Kind.INSERT, 2, False, id="insert unanswered, there"),
        pytest.param(Kind.UPDATE, BOB, {}, Kind.UPDATE, 2, False, id="update"),
        pytest.param(Kind.UPDATE, ADA, {}, Kind.UPDATE, 1, True, id="update of an identical record"),
        pytest.param(Kind.UPDATE, None, {}, Kind.INSERT, 2, False, id="update of a record that is gone"),
        pytest.param(Kind.UPDATE, BOB, {"update": [LANDED]}, Kind.UPDATE, 3, False, id="update unanswered, there"),
        pytest.param(Kind.ADOPT, BOB, {}, Kind.ADOPT, 2, False, id="adopt"),
        pytest.param(Kind.ADOPT, ADA, {}, Kind.ADOPT, 1, True, id="adopt an identical record"),
        pytest.param(Kind.ADOPT, None, {}, Kind.INSERT, 2, False, id="adopt what is not there"),
        pytest.param(Kind.DELETE, BOB, {}, Kind.DELETE, 1, False, id="delete"),
        pytest.param(Kind.DELETE, None, {}, Kind.DELETE, 1, False, id="delete what is not there"),
        pytest.param(Kind.DELETE, BOB, {"delete": [LANDED]}, Kind.DELETE, 2, False, id="delete unanswered, gone"),
    ],
)
def test_change_is_done_at_the_cost_of_the_formula(
    kind: Kind,
    held: Mapping[str, object] | None,
    faults: Mapping[str, Sequence[Fault]],
    done_as: Kind,
    calls: int,
    identical: bool,
) -> None:
    outcome, error, campaign = written(kind, held, faults)

    assert outcome == Outcome("c1", done_as, Result.DONE, calls, identical)
    assert error is None
    assert campaign.held == ({} if kind is Kind.DELETE else {"c1": ADA})


@pytest.mark.parametrize(
    ("kind", "held", "faults", "result", "calls"),
    [
        pytest.param(Kind.INSERT, None, {"create": [LOST]}, Result.UNKNOWN, 2, id="insert unanswered, not found"),
        pytest.param(Kind.INSERT, None, {"create": [LANDED], "read": [BUSY]}, Result.UNKNOWN, 2, id="no read-back"),
        pytest.param(Kind.INSERT, None, {"create": [REFUSED]}, Result.REFUSED, 1, id="insert refused"),
        pytest.param(Kind.INSERT, None, {"create": [HIDDEN]}, Result.DEFERRED, 2, id="duplicate that can't be read"),
        pytest.param(Kind.INSERT, None, {"create": [BUSY]}, Result.UNSENT, 1, id="insert not taken"),
        pytest.param(Kind.INSERT, None, {"create": [FORBIDDEN]}, Result.UNSENT, 1, id="insert forbidden"),
        pytest.param(Kind.UPDATE, BOB, {"update": [LOST]}, Result.UNKNOWN, 3, id="update unanswered, still differing"),
        pytest.param(Kind.UPDATE, BOB, {"update": [REFUSED]}, Result.REFUSED, 2, id="update refused"),
        pytest.param(Kind.UPDATE, BOB, {"read": [BUSY]}, Result.UNSENT, 1, id="update not even read"),
        pytest.param(Kind.DELETE, BOB, {"delete": [LOST]}, Result.UNKNOWN, 2, id="delete unanswered, still there"),
        pytest.param(Kind.DELETE, BOB, {"delete": [REFUSED]}, Result.REFUSED, 1, id="delete refused"),
    ],
)
def test_change_that_is_not_done_says_whether_it_may_have_taken_effect(
    kind: Kind, held: Mapping[str, object] | None, faults: Mapping[str, Sequence[Fault]], result: Result, calls: int
) -> None:
    outcome, _, _ = written(kind, held, faults)

    assert (outcome.kind, outcome.result, outcome.engine_calls) == (kind, result, calls)
    assert outcome.reason


@pytest.mark.parametrize(
    ("kind", "fault", "stops"),
    [
        (Kind.INSERT, FORBIDDEN, True),
        (Kind.INSERT, BUSY, True),
        (Kind.INSERT, REFUSED, False),
        (Kind.INSERT, LOST, False),
    ],
    ids=["setting or right", "system that can't be reached", "record's fault", "no answer"],
)
def test_only_what_concerns_every_record_stops_the_run(kind: Kind, fault: Fault, stops: bool) -> None:
    _, error, _ = written(kind, None, {"create": [fault]})

    assert repr(error) == repr(fault.error if stops else None)


@pytest.mark.parametrize("faults", [[FORBIDDEN], [BUSY]], ids=["forbidden", "busy"])
def test_record_that_was_found_after_an_unanswered_insert_stays_in_doubt_when_it_cannot_be_corrected(
    faults: Sequence[Fault],
) -> None:
    """It is in Campaign and the mirror doesn't know: forgotten, it would outlive its deletion in Dynamics."""
    campaign = Campaign({"c1": dict(BOB)}, {("create", "c1"): [LOST], ("update", "c1"): faults})
    outcome, _ = Writer(campaign, bound()).write(Change("c1", Kind.INSERT, ADA))

    assert outcome.result is Result.UNKNOWN


def test_unanswered_insert_is_never_sent_again() -> None:
    _, _, campaign = written(Kind.INSERT, None, {"create": [LOST]})

    assert [operation for operation, _ in campaign.calls] == ["create", "read"]


def test_insert_looks_first_where_campaign_does_not_refuse_duplicates() -> None:
    outcome, _, campaign = written(Kind.INSERT, BOB, declared_unique=False)

    assert [operation for operation, _ in campaign.calls] == ["read", "update"]
    assert outcome.kind is Kind.ADOPT


def test_patch_holds_only_what_differs_and_never_the_key() -> None:
    _, _, campaign = written(Kind.UPDATE, BOB)

    assert campaign.sent == [("update", "c1", {"firstName": "Ada"})]


def test_create_leaves_out_what_is_empty_and_patch_clears_it() -> None:
    table = bound(("firstname", "firstName"), ("birthdate", "birthDate"))
    empty: dict[str, object] = {"firstName": "Ada", "birthDate": None}
    campaign = Campaign({"old": {"firstName": "Ada", "birthDate": "1815-12-10"}})
    writer = Writer(campaign, table)
    writer.write(Change("new", Kind.INSERT, empty))
    writer.write(Change("old", Kind.UPDATE, empty))

    assert campaign.sent == [("create", "new", {"firstName": "Ada"}), ("update", "old", {"birthDate": ""})]


IN_UNIT = bind(
    mapping(on_create={"orgUnit": "emea", "cusScore": 1}),
    source_table(),
    replace(
        target_resource(),
        fields={**target_resource().fields, "cusScore": ResourceField("cusScore", "integer")},
        links=[ResourceLink("orgUnit", "orgUnitBase")],
    ),
)


def test_unit_of_new_records_is_looked_up_by_the_first_insert_alone_and_counted() -> None:
    campaign = Campaign({"there": dict(BOB)}, units={("orgUnit", "emea"): {"PKey": "@unit"}})
    writer = Writer(campaign, IN_UNIT)

    outcomes = [
        writer.write(Change(key, kind, ADA))[0]
        for key, kind in (("there", Kind.UPDATE), ("c1", Kind.INSERT), ("c2", Kind.INSERT))
    ]

    assert [outcome.engine_calls for outcome in outcomes] == [2, 2, 1]
    assert [operation for operation, _ in campaign.calls] == ["read", "update", "unit", "create", "create"]
    created = {"orgUnit": {"PKey": "@unit"}, "cusScore": 1, **ADA}
    assert [values for operation, _, values in campaign.sent if operation == "create"] == [created, created]


@pytest.mark.parametrize(
    ("fault", "calls"),
    [(ConfigurationError("Campaign shows no such unit."), 1), (RetriableError("Campaign is busy"), 1)],
    ids=["no such unit", "no answer"],
)
def test_nothing_is_inserted_without_its_unit(fault: SyncError, calls: int) -> None:
    campaign = Campaign(faults={("unit", "emea"): [Fault(fault)]})

    outcome, error = Writer(campaign, IN_UNIT).write(Change("c1", Kind.INSERT, ADA))

    assert (outcome.result, outcome.engine_calls, repr(error)) == (Result.UNSENT, calls, repr(fault))
    assert campaign.held == {}


def test_values_are_sent_in_campaigns_own_form() -> None:
    campaign = Campaign()
    Writer(campaign, bound(("birthdate", "birthDate"))).write(
        Change("c1", Kind.INSERT, {"birthDate": date(1815, 12, 10), "not mapped": 1})
    )

    assert campaign.held == {"c1": {"birthDate": "1815-12-10"}}


def test_name_that_campaign_put_in_smart_case_is_not_patched_again() -> None:
    table = bound(("firstname", "firstName"), data_policies={"firstName": "smartCase"})
    campaign = Campaign({"c1": {"firstName": "Mcdonald"}})
    outcome, _ = Writer(campaign, table).write(Change("c1", Kind.UPDATE, {"firstName": "McDONALD"}))

    assert outcome.identical
    assert campaign.calls == [("read", "c1")]


def test_reason_holds_no_field_value() -> None:
    outcome, _, _ = written(Kind.INSERT, None, {"create": [HIDDEN]})

    assert outcome.reason is not None
    assert not any(str(value) in outcome.reason for value in ADA.values())
