"""The change set drains into Campaign: completely, within budget and time, and through every kind of interruption."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d365_campaign.changes import ApplySummary, Kind
from d365_campaign.errors import ConfigurationError, RecordRejected, RetriableError, SyncError, UnknownOutcome
from d365_campaign.flows.apply import EngineCallBudget, Pace, apply
from d365_campaign.flows.deadline import Deadline
from d365_campaign.flows.guards import Guards
from d365_campaign.flows.plan import plan
from d365_campaign.store.staging import Staging, open_staging
from d365_campaign.store.table_store import TableStore
from tests.builders import CHANGES, bound, contact, filled, in_step, kinds, page
from tests.stand_ins import Campaign, Fault


def people(numbers: Iterable[int], **values: object) -> list[dict[str, object]]:
    return [contact(f"c{n:03}", firstname="Ada", **values) for n in numbers]


def records(numbers: Iterable[int]) -> dict[str, dict[str, object]]:
    return {f"c{n:03}": {"firstName": "Ada"} for n in numbers}


def applied(staging: Staging, store: TableStore, campaign: Campaign, **options: Any) -> ApplySummary:
    """A run without limits, but for those a test names."""
    known: dict[str, Any] = {
        "pace": Pace(workers=4, batch_size=10),
        "budget": EngineCallBudget(),
        "guards": Guards(max_delete_share=1.0),
        "deadline": Deadline(None),
    }
    return apply(store, staging.ledger, campaign, **{**known, **options})


def in_flight_of(store: TableStore) -> int:
    return len(store._connection.execute('select key from "contact"."in_flight"').fetchall())


def assert_in_step(store: TableStore, campaign: Campaign) -> None:
    """Nothing is open, and Campaign holds what the mirror says."""
    assert store.plan(everything=True).open == 0
    mirror = store._connection.execute('select "externalId", "firstName", "email" from "contact"."mirror"').fetchall()
    assert campaign.held == {
        key: {name: value for name, value in (("firstName", first_name), ("email", email)) if value is not None}
        for key, first_name, email in mirror
    }


# --- draining -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("batch_size", [2, 7, 1000])
def test_whole_change_set_is_written(staging: Staging, store: TableStore, workers: int, batch_size: int) -> None:
    in_step(store, *people(range(30)))
    campaign = Campaign(records(range(30)))
    changed = people(range(10), emailaddress1="ada@x.org")
    store.absorb(page(TABLE, *changed, *people(range(30, 50)), removed=["c020", "c021"]), CHANGES)
    store.plan()

    summary = applied(staging, store, campaign, pace=Pace(workers, batch_size))

    assert (summary.inserted, summary.updated, summary.deleted, summary.backlog) == (20, 10, 2, 0)
    assert summary.unchanged == 30 - 10 - 2
    assert summary.engine_calls == len(campaign.calls) == 20 + 2 * 10 + 2
    assert summary.stopped_by is None
    assert_in_step(store, campaign)


TABLE = bound()


def test_empty_change_set_makes_no_call(staging: Staging, store: TableStore) -> None:
    in_step(store, *people(range(3)))
    campaign = Campaign(records(range(3)))

    assert applied(staging, store, campaign).engine_calls == 0
    assert campaign.calls == []


def test_record_that_was_there_and_is_in_step_is_not_even_read(staging: Staging, store: TableStore) -> None:
    campaign = Campaign(records([0]))
    store.absorb(page(TABLE, *people([0])), CHANGES)
    planned = plan(store, campaign)

    assert (planned.scanned, planned.scan_calls, planned.summary.open) == (1, 1, 0)
    assert applied(staging, store, campaign).engine_calls == 0
    assert campaign.calls == []


def test_identical_record_costs_one_call_and_is_counted_apart(staging: Staging, store: TableStore) -> None:
    """Someone corrected it in Campaign by hand, which the mirror doesn't know."""
    in_step(store, *people([0], emailaddress1="old@x.org"))
    filled(store, *people([0]))
    campaign = Campaign(records([0]))

    summary = applied(staging, store, campaign)

    assert (summary.identical, summary.updated, summary.engine_calls) == (1, 0, 1)
    assert campaign.calls == [("read", "c000")]


def test_record_that_campaign_held_before_is_adopted_and_a_stranger_is_left_alone(
    staging: Staging, store: TableStore
) -> None:
    campaign = Campaign({"c000": {"firstName": "Old"}, "stranger": {"firstName": "Old"}})
    store.absorb(page(TABLE, *people([0, 1])), CHANGES)
    plan(store, campaign)
    applied(staging, store, campaign)

    assert campaign.held == {**records([0, 1]), "stranger": {"firstName": "Old"}}
    assert {key for _, key in campaign.calls} == {"c000", "c001"}


def test_change_that_was_read_and_not_planned_is_planned_first(staging: Staging, store: TableStore) -> None:
    """An open update must not write a record empty that has been deleted in Dynamics meanwhile."""
    in_step(store, *people([0]))
    campaign = Campaign(records([0]))
    filled(store, contact("c000", firstname="Augusta"))
    store.absorb(page(TABLE, removed=["c000"]), CHANGES)
    applied(staging, store, campaign)

    assert campaign.calls == [("delete", "c000")]
    assert_in_step(store, campaign)


# --- pace -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [2, 3, 10, 11])
def test_no_more_than_a_batch_is_claimed_and_unsettled(
    staging: Staging, store: TableStore, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(store, *people(range(40)))
    in_flight: list[int] = []
    claim = store.claim

    def counted(changes: Any) -> None:
        claim(changes)
        in_flight.append(in_flight_of(store))

    monkeypatch.setattr(store, "claim", counted)
    applied(staging, store, Campaign(), pace=Pace(4, batch_size))

    assert max(in_flight) <= batch_size
    assert len(in_flight) >= 40 // batch_size


def test_answers_are_settled_in_batches(staging: Staging, store: TableStore, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(store, *people(range(40)))
    settled: list[int] = []
    settle = store.settle

    def counted(outcomes: Any, max_attempts: int) -> None:
        settled.append(len(outcomes))
        settle(outcomes, max_attempts)

    monkeypatch.setattr(store, "settle", counted)
    applied(staging, store, Campaign(), pace=Pace(4, 20))

    assert sum(settled) == 40
    assert len(settled) <= 8


def test_workers_talk_to_campaign_at_the_same_time(staging: Staging, store: TableStore) -> None:
    filled(store, *people(range(4)))
    together = threading.Barrier(4)
    campaign = Campaign(watch=lambda operation, key: together.wait(timeout=10))

    assert applied(staging, store, campaign, pace=Pace(4, 8)).inserted == 4


def test_deadline_leaves_a_backlog_for_the_next_run(staging: Staging, store: TableStore) -> None:
    filled(store, *people(range(40)))
    now = [0.0]
    campaign = Campaign(watch=lambda operation, key: now.__setitem__(0, now[0] + 1))
    deadline = Deadline(15, clock=lambda: now[0])

    summary = applied(staging, store, campaign, pace=Pace(1, 10), deadline=deadline)

    assert summary.stopped_by == "time"
    assert summary.inserted == 15 == len(campaign.held)
    assert summary.backlog == 25
    assert applied(staging, store, campaign).inserted == 25
    assert_in_step(store, campaign)


def test_deadline_that_has_passed_writes_nothing(staging: Staging, store: TableStore) -> None:
    filled(store, *people(range(4)))
    campaign = Campaign()

    summary = applied(staging, store, campaign, deadline=Deadline(0))
    assert (summary.stopped_by, summary.backlog, campaign.calls) == ("time", 4, [])


# --- budget ---------------------------------------------------------------------------------------------------------


def test_budget_stops_new_work_and_says_so(staging: Staging, store: TableStore) -> None:
    filled(store, *people(range(30)))
    campaign = Campaign()

    summary = applied(staging, store, campaign, budget=EngineCallBudget(daily=12, monthly=100))

    assert (summary.stopped_by, summary.engine_calls, summary.backlog) == ("budget", 12, 18)
    assert summary.spent.today == len(campaign.calls) == 12
    again = applied(staging, store, campaign, budget=EngineCallBudget(daily=12))
    assert (again.stopped_by, again.engine_calls) == ("budget", 0)
    assert applied(staging, store, campaign, budget=EngineCallBudget(monthly=30)).backlog == 0
    assert_in_step(store, campaign)


def test_budget_that_just_covers_the_change_set_stops_nothing(staging: Staging, store: TableStore) -> None:
    filled(store, *people(range(5)))

    summary = applied(staging, store, Campaign(), budget=EngineCallBudget(daily=5))
    assert (summary.stopped_by, summary.backlog) == (None, 0)


NO_ANSWER, LANDED = Fault(UnknownOutcome("no answer")), Fault(UnknownOutcome("no answer"), lands=True)
REFUSED = Fault(RecordRejected("refused"))
FAULTS = st.dictionaries(
    st.tuples(st.sampled_from(["create", "update", "delete"]), st.sampled_from([f"c{n:03}" for n in range(12)])),
    st.lists(st.sampled_from([NO_ANSWER, LANDED, REFUSED]), min_size=1, max_size=2),
)


class Listed(Campaign):
    """Campaign, whose list has three records on a page; each page is a call."""

    def records(self, fields: Sequence[str]) -> Iterator[pl.DataFrame]:
        for listed in super().records(fields):
            for start in range(0, max(1, listed.height), 3):
                self.calls.append(("list", ""))
                yield listed[start : start + 3]


@given(
    daily=st.integers(0, 90),
    monthly=st.integers(0, 90),
    others=st.integers(0, 30),
    batch_size=st.integers(2, 15),
    held=st.sets(st.integers(0, 11)),
    faults=FAULTS,
    declared_unique=st.booleans(),
    scanned=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_budgets_are_never_exceeded_whatever_campaign_answers(
    daily: int,
    monthly: int,
    others: int,
    batch_size: int,
    held: set[int],
    faults: dict[Any, Any],
    declared_unique: bool,
    scanned: bool,
) -> None:
    """Two tables share them. Duplicates, look-ups, read-backs and the first scan cost more than the formula says."""
    with duckdb.connect() as connection:
        staging = Staging(connection)
        tables = [
            (
                staging.table(bound(declared_unique=declared_unique, source=source)),
                Listed(records(held | {0, 1}), faults),
            )
            for source in ("contact", "lead")
        ]
        for store, _ in tables:
            in_step(store, *people(range(2)))
            changed = people(range(1, 12), emailaddress1="a@x.org")
            store.absorb(page(store.table, *changed, removed=["c000"]), CHANGES)
            if not scanned:
                store.plan()
        already = staging.ledger.spent().today
        budget = EngineCallBudget(already + daily, already + monthly + others, others)

        for store, campaign in tables * 2:
            # What a run without a single answer ends in, or one whose budget is spent on the scan.
            with suppress(RetriableError, ConfigurationError):
                applied(staging, store, campaign, pace=Pace(4, batch_size), budget=budget)

            made = sum(len(campaign.calls) for _, campaign in tables)
            assert made <= min(daily, monthly)
            assert staging.ledger.spent().today == already + made


def test_calls_of_others_come_out_of_the_monthly_budget(staging: Staging, store: TableStore) -> None:
    filled(store, *people(range(30)))

    summary = applied(staging, store, Campaign(), budget=EngineCallBudget(daily=100, monthly=20, others=15))

    assert (summary.stopped_by, summary.engine_calls, summary.spent.this_month) == ("budget", 5, 5)
    assert applied(staging, store, Campaign(), budget=EngineCallBudget(monthly=20, others=21)).engine_calls == 0


def test_budget_that_does_not_last_for_the_first_scan_stops_before_the_call_that_goes_beyond_it(
    staging: Staging, store: TableStore
) -> None:
    campaign = Listed(records(range(12)))
    store.absorb(page(TABLE, *people(range(3))), CHANGES)

    with pytest.raises(
        ConfigurationError, match=r"profile: the engine-call budget .* Raise engine_calls\.daily_budget"
    ):
        applied(staging, store, campaign, budget=EngineCallBudget(daily=3))
    assert len(campaign.calls) == staging.ledger.spent().today == 3
    with pytest.raises(ConfigurationError):
        applied(staging, store, campaign, budget=EngineCallBudget(daily=3))
    assert len(campaign.calls) == 3
    assert applied(staging, store, campaign, budget=EngineCallBudget(daily=9)).backlog == 0


def test_calls_that_identical_records_give_back_are_spent_on_others(staging: Staging, store: TableStore) -> None:
    """A run reserves two calls for an update; that one is enough is known only when it has read the record."""
    in_step(store, *people(range(20), emailaddress1="old@x.org"))
    filled(store, *people(range(20)))
    campaign = Campaign(records(range(20)))
    budget = EngineCallBudget(daily=20 + 20)

    summaries = [applied(staging, store, campaign, pace=Pace(4, 20), budget=budget)]
    while summaries[-1].backlog and summaries[-1].stopped_by is None:
        summaries.append(applied(staging, store, campaign, pace=Pace(4, 20), budget=budget))

    assert len(summaries) > 1, "the next run goes on at once with what came back"
    assert (len(campaign.calls), summaries[-1].backlog, summaries[-1].stopped_by) == (19, 1, "budget")


# --- blackout -------------------------------------------------------------------------------------------------------


def test_blackout_that_begins_in_mid_run_ends_the_writing_and_loses_nothing(
    staging: Staging, store: TableStore
) -> None:
    """R61: what was claimed by then still goes out, half a batch at most; the rest is backlog."""
    filled(store, *people(range(60)))
    campaign = Campaign()

    summary = applied(staging, store, campaign, pace=Pace(2, 10, blackout=lambda: len(campaign.calls) >= 20))

    assert summary.stopped_by == "blackout"
    assert 20 <= summary.inserted <= 20 + 10
    assert summary.inserted + summary.backlog == 60
    assert applied(staging, store, campaign).backlog == 0
    assert_in_step(store, campaign)


def test_nothing_is_written_in_a_blackout_and_no_engine_call_reserved(staging: Staging, store: TableStore) -> None:
    filled(store, *people(range(6)))
    campaign = Campaign()

    summary = applied(staging, store, campaign, pace=Pace(blackout=lambda: True))

    assert (summary.stopped_by, summary.backlog, summary.spent.today, campaign.calls) == ("blackout", 6, 0, [])


# --- refusals and errors --------------------------------------------------------------------------------------------


def test_refused_record_is_kept_while_the_others_go_on(staging: Staging, store: TableStore) -> None:
    filled(store, *people(range(20)))
    campaign = Campaign(faults={("create", f"c{n:03}"): [REFUSED] for n in (3, 7)})

    summary = applied(staging, store, campaign)

    assert (summary.inserted, summary.refused, summary.backlog) == (18, 2, 0)
    assert sorted(reject.key for reject in summary.rejects) == ["c003", "c007"]
    calls = len(campaign.calls)
    assert applied(staging, store, campaign).refused == 2
    assert len(campaign.calls) == calls, "a refused record rests"


@pytest.mark.parametrize(
    "error",
    [ConfigurationError("the credential may not write"), RetriableError("Campaign is away"), TypeError("a bug")],
    ids=["configuration", "retriable", "bug"],
)
def test_error_that_stops_the_run_leaves_everything_answered_settled(
    staging: Staging, store: TableStore, error: Exception
) -> None:
    filled(store, *people(range(40)))
    campaign = Campaign(faults={("create", "c020"): [Fault(error)]})

    with pytest.raises(type(error) if isinstance(error, SyncError) else SyncError) as raised:
        applied(staging, store, campaign, pace=Pace(1, 10))

    assert repr(error) in (repr(raised.value), repr(raised.value.__cause__))
    assert store.mirrored() == len(campaign.held) == 20
    assert staging.ledger.spent().today == 21
    applied(staging, store, campaign)
    assert_in_step(store, campaign)


def test_few_changes_without_an_answer_are_backlog(staging: Staging, store: TableStore) -> None:
    filled(store, *people(range(30)))
    campaign = Campaign(faults={("create", f"c{n:03}"): [NO_ANSWER] for n in (3, 7)})

    assert applied(staging, store, campaign).backlog == 2
    assert applied(staging, store, campaign).inserted == 2
    assert_in_step(store, campaign)


def test_run_without_a_single_answer_is_an_error(staging: Staging, store: TableStore) -> None:
    filled(store, *people(range(3)))
    campaign = Campaign(faults={("create", f"c{n:03}"): [NO_ANSWER] for n in range(3)})

    with pytest.raises(RetriableError, match="3 changes got no answer"):
        applied(staging, store, campaign)
    applied(staging, store, campaign)
    assert_in_step(store, campaign)


def test_campaign_that_stops_answering_is_not_asked_for_ever(staging: Staging, store: TableStore) -> None:
    filled(store, *people(range(100)))
    campaign = Campaign(faults={("create", f"c{n:03}"): [NO_ANSWER] for n in range(5, 100)})

    with pytest.raises(RetriableError, match="changes got no answer"):
        applied(staging, store, campaign, pace=Pace(2, 10))
    assert store.mirrored() == 5
    assert len(campaign.calls) < 5 + 2 * 30

    answering = Campaign(campaign.held)
    applied(staging, store, answering)
    assert_in_step(store, answering)


def test_plan_that_deletes_too_much_is_refused_before_the_first_write(staging: Staging, store: TableStore) -> None:
    in_step(store, *people(range(10)))
    campaign = Campaign(records(range(10)))
    store.absorb(page(TABLE, *people([10]), removed=["c000", "c001", "c002"]), CHANGES)
    store.plan()

    done = applied(staging, store, campaign, guards=Guards(max_delete_share=0.2, min_deletes=2))

    assert (done.stopped_by, done.backlog, done.deleted) == ("delete_share", 4, 0)
    assert campaign.calls == []
    assert applied(staging, store, campaign, guards=Guards(0.2, min_deletes=3)).deleted == 3


# --- interruptions --------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("lands", [True, False], ids=["written", "not written"])
@pytest.mark.parametrize("operation", ["create", "update", "delete", "read"])
def test_run_that_breaks_off_in_mid_write_is_made_good_by_the_next(
    staging: Staging, store: TableStore, operation: str, lands: bool
) -> None:
    in_step(store, *people(range(5)))
    store.absorb(page(TABLE, *people([0], emailaddress1="a@x.org"), *people(range(5, 9)), removed=["c001"]), CHANGES)
    store.plan()
    key = {"create": "c005", "delete": "c001"}.get(operation, "c000")
    campaign = Campaign(records(range(5)), {(operation, key): [Fault(Killed(), lands)]})

    with pytest.raises(SyncError, match=key):
        applied(staging, store, campaign, pace=Pace(1, 2))
    applied(staging, store, campaign)

    assert_in_step(store, campaign)


def test_run_whose_settling_fails_is_made_good_by_the_next(
    staging: Staging, store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(store, *people(range(20)))
    campaign = Campaign()

    def killed(outcomes: object, max_attempts: int) -> None:
        raise Killed

    with monkeypatch.context() as patched, suppress(Killed):
        patched.setattr(store, "settle", killed)
        applied(staging, store, campaign)
    assert campaign.held
    assert store.mirrored() == 0
    summary = applied(staging, store, campaign)

    assert (summary.inserted, summary.identical) == (20 - summary.identical, summary.identical)
    assert summary.identical > 0, "what was written is found as it should be, not inserted again"
    assert_in_step(store, campaign)


@pytest.mark.parametrize("after", [1, 12, 25])
def test_process_that_is_killed_loses_and_doubles_nothing(file: Path, tmp_path: Path, after: int) -> None:
    """A real process, a real SIGKILL; Campaign is a folder here, so that its records outlive the process."""
    written = tmp_path / "campaign"
    written.mkdir()
    run = [sys.executable, "-m", "tests.flows.killed_run", str(file), str(written)]
    root = Path(__file__).parents[2]

    ended = subprocess.run([*run, str(after)], cwd=root, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(list(written.iterdir())) >= after
    ended = subprocess.run([*run, "1000"], cwd=root, check=False)

    assert ended.returncode == 0
    assert len(list(written.iterdir())) == 30
    with open_staging(file) as staging:
        store = staging.table(bound())
        assert (store.mirrored(), store.plan(everything=True).open) == (30, 0)
        assert in_flight_of(store) == 0


def test_person_who_opted_out_is_not_written_to_again_by_a_broken_off_run(staging: Staging) -> None:
    """Opt-in sent, answer lost, opted out again before the next run: Campaign must end with the opt-out."""
    store = staging.table(bound(("donotemail", "cusFlag")))
    in_step(store, contact("c1", donotemail=True))
    campaign = Campaign({"c1": {"cusFlag": True}}, {("update", "c1"): [Fault(Killed(), lands=True)]})
    filled(store, contact("c1", donotemail=False))
    with pytest.raises(SyncError):
        applied(staging, store, campaign)
    assert campaign.held == {"c1": {"cusFlag": False}}

    filled(store, contact("c1", donotemail=True))
    applied(staging, store, campaign)

    assert campaign.held == {"c1": {"cusFlag": True}}


def test_key_of_a_kind_is_never_written_twice_in_a_run(staging: Staging, store: TableStore) -> None:
    filled(store, *people(range(40)))
    campaign = Campaign(faults={("create", f"c{n:03}"): [NO_ANSWER] for n in range(0, 40, 3)})
    applied(staging, store, campaign)

    creates = [key for operation, key in campaign.calls if operation == "create"]
    assert len(creates) == len(set(creates)) == 40
    assert set(kinds(store).values()) == {Kind.INSERT}
    store.plan()
    assert set(kinds(store).values()) == {Kind.ADOPT}
