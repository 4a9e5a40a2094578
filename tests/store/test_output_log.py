"""What is kept of a run, until it is written to the SFTP server: keys, field names and results, never a value."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from d365_campaign.changes import Change, Kind, Outcome, Result
from d365_campaign.opt_out import CampaignWord, Decision, Standing
from d365_campaign.opt_out_changes import Decided, Written
from d365_campaign.store.output_log import OutputLog
from d365_campaign.store.staging import Staging, open_staging
from tests.builders import CHANGES, answer, bound, contact, filled, in_step, open_changes, page
from tests.opt_out_exports import people, person, read_in

RUN = "5d0c3e2a"


@pytest.fixture
def staging(file: Path) -> Iterator[Staging]:
    """A new staging file of which a run is logged."""
    with open_staging(file, logged_run=RUN) as staging:
        yield staging


@pytest.fixture
def log(staging: Staging) -> OutputLog:
    assert staging.output_log is not None
    return staging.output_log


def rows(log: OutputLog, run: str = RUN) -> list[tuple[Any, ...]]:
    """Flow, table, key, action, fields and result."""
    return [row[1:] for row in log.of(run).rows()]


def test_each_change_that_was_sent_has_a_row_with_its_fields(staging: Staging, log: OutputLog) -> None:
    store = in_step(staging.table(bound()), contact("c1", firstname="Ada"), contact("c2", firstname="Bob"))
    filled(store, contact("c1", firstname="Augusta"))
    answer(store)

    assert rows(log) == [
        ("ingress", "contact", "c1", "insert", "firstName email", "done"),
        ("ingress", "contact", "c2", "insert", "firstName email", "done"),
        ("ingress", "contact", "c1", "update", "firstName", "done"),
    ]


def settle(staging: Staging, **outcome: Any) -> Change:
    store = filled(staging.table(bound()), contact("c1", firstname="Ada"))
    [change] = open_changes(store)
    store.claim([change])
    store.settle([Outcome(change.key, **{"kind": change.kind, "engine_calls": 1, **outcome})])
    return change


@pytest.mark.parametrize(
    ("outcome", "row"),
    [
        ({"result": Result.REFUSED, "reason": "No.", "fields": ("email",)}, ("insert", "email", "refused: No.")),
        ({"result": Result.REFUSED, "reason": "No."}, ("insert", "firstName email", "refused: No.")),
        ({"result": Result.DEFERRED, "reason": "Hidden."}, ("insert", "firstName email", "deferred: Hidden.")),
        ({"result": Result.UNKNOWN}, ("insert", "firstName email", "unknown")),
        ({"kind": Kind.ADOPT, "result": Result.DONE, "identical": True}, ("adopt", "", "identical")),
    ],
    ids=["a field refused", "refused", "deferred", "unknown", "identical"],
)
def test_row_tells_the_result(staging: Staging, log: OutputLog, outcome: dict[str, Any], row: tuple[str, ...]) -> None:
    settle(staging, **outcome)

    assert rows(log) == [("ingress", "contact", "c1", *row)]


def test_change_that_was_not_sent_has_no_row(staging: Staging, log: OutputLog) -> None:
    settle(staging, result=Result.UNSENT, engine_calls=0)

    assert rows(log) == []


def test_deleted_record_has_a_row_without_fields(staging: Staging, log: OutputLog) -> None:
    store = in_step(staging.table(bound()), contact("c1"))
    log.drop(RUN)
    store.absorb(page(store.table, removed=["c1"]), CHANGES)
    store.plan()
    answer(store)

    assert rows(log) == [("ingress", "contact", "c1", "delete", "", "done")]


def decided(attribute: str, side: Any) -> Decided:
    standing = Standing(campaign=True, campaign_at=None, dynamics=False, dynamics_at=None)
    return Decided(attribute, standing, Decision(True, True, "opt_out_wins"), side)


def test_opt_outs_have_a_row_for_each_side_that_was_written(staging: Staging, log: OutputLog) -> None:
    store = read_in(staging.table(people()), person("ada"), person("bob"), person("cy"), person("dee"))
    assert store.opt_outs is not None
    word = CampaignWord({"blackListEmail": True})
    store.opt_outs.settle(
        [
            Written(
                "ada", 2, word, decided=[decided("blackListEmail", "dynamics"), decided("blackListPhone", "dynamics")]
            ),
            Written("bob", 2, word, decided=[decided("blackListEmail", "campaign")]),
            Written("cy", 2, refused="Campaign refused it."),
            Written("dee", 1, gone=True),
            Written("eve", 1, word),
        ]
    )

    assert rows(log) == [
        ("opt_outs", "contact", "ada", "opt_out to dynamics", "donotemail donotphone", "done"),
        ("opt_outs", "contact", "bob", "opt_out to campaign", "blackListEmail", "done"),
        ("opt_outs", "contact", "cy", "opt_out", "", "refused: Campaign refused it."),
        ("opt_outs", "contact", "dee", "opt_out", "", "gone"),
    ]


def test_nothing_is_kept_of_a_run_that_is_not_logged(file: Path) -> None:
    with open_staging(file) as staging:
        in_step(staging.table(bound()), contact("c1"))
        assert staging.output_log is None

    with open_staging(file, logged_run=RUN) as staging:
        assert staging.output_log is not None
        assert staging.output_log.runs() == []


def test_rows_wait_for_a_later_run_under_their_own_name(file: Path) -> None:
    for number, run in enumerate(("first", "second")):
        with open_staging(file, logged_run=run) as staging:
            in_step(staging.table(bound()), contact(f"c{number}"))

    with open_staging(file, logged_run="third") as staging:
        log = staging.output_log
        assert log is not None
        assert [run for run, _ in log.runs()] == ["first", "second"]
        log.drop("first")
        assert [run for run, _ in log.runs()] == ["second"]


def test_rows_that_waited_for_too_long_are_dropped(staging: Staging, log: OutputLog) -> None:
    in_step(staging.table(bound()), contact("c1"), contact("c2"))

    assert log.drop_before(datetime.now(UTC) - timedelta(days=15)) == 0
    assert log.drop_before(datetime.now(UTC) + timedelta(seconds=1)) == 2
    assert log.runs() == []


def test_person_who_is_forgotten_is_not_in_it(staging: Staging, log: OutputLog) -> None:
    in_step(staging.table(bound()), contact("c1"), contact("c2"))

    staging.privacy.forget("c1")

    assert [row[2] for row in rows(log)] == ["c2"]
