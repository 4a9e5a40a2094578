"""What a person sees of a month's engine calls. Nothing of it reaches either system."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from click.testing import CliRunner, Result

from d365_campaign.cli import main
from d365_campaign.rehearsal import CONFIG_VARIABLE
from d365_campaign.sandbox import Sandbox
from d365_campaign.store.staging import open_staging
from tests.checking import write_files
from tests.integration import Integration

Say = Callable[..., Result]
NOON = datetime(2026, 4, 16, 12, tzinfo=UTC)


@pytest.fixture
def say(integration: Integration, monkeypatch: pytest.MonkeyPatch) -> Say:
    """`d365-campaign engine-calls` with the integration's own files."""

    def run(*arguments: str, **limits: object) -> Result:
        integration.set("engine_calls", **limits)
        monkeypatch.setenv(CONFIG_VARIABLE, str(write_files(integration)))
        ended = CliRunner().invoke(main, ["engine-calls", *arguments], terminal_width=100)
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
        return ended

    return run


def at(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    """Let it be this moment."""
    monkeypatch.setattr("d365_campaign.store.ledger._today", moment.date)
    monkeypatch.setattr("d365_campaign.commands.engine_calls._now", lambda: moment)


@pytest.fixture
def april(integration: Integration, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is noon of 16 April, and 1,550 calls were made: 100 a day."""
    with open_staging(integration.staging) as file:
        at(monkeypatch, datetime(2026, 3, 31, tzinfo=UTC))
        file.ledger.book("contact", {"insert": (40, 40)})
        at(monkeypatch, datetime(2026, 4, 3, tzinfo=UTC))
        file.ledger.book("contact", {"insert": (1000, 1010), "update": (400, 390)})
        file.ledger.book("new_purchase", {"delete": (70, 70)})
        file.ledger.book_updates("contact", {"email": (150, 120), "lastName": (80, 0), "firstName": (70, 40)})
        file.ledger.book_adobe("contact", 2000)
        at(monkeypatch, NOON)
        file.ledger.book("contact", {"update": (80, 80)})


def months(say: Say, *arguments: str, **limits: object) -> dict[str, Any]:
    ended = say("--json", *arguments, **limits)
    assert ended.exit_code == 0, ended.stderr
    return dict(json.loads(ended.stdout))


def test_before_the_first_sync_it_says_so_and_makes_no_file(integration: Integration, say: Say) -> None:
    ended = say()

    assert ended.exit_code == 2
    assert f"there is no staging file {integration.staging} yet. The first sync makes it." in ended.stderr
    assert not integration.staging.exists()


def test_a_sync_shows_at_what_campaign_itself_counted_and_no_system_is_asked(
    sandbox: Sandbox, integration: Integration, say: Say
) -> None:
    keys = sandbox.seed(contacts=5)
    integration.sync()
    sandbox.dataverse.update("contact", keys[0], {"emailaddress1": "new@example.com"})
    sandbox.dataverse.update("contact", keys[1], {"emailaddress1": "newer@example.com", "lastname": "Lovelace"})
    sandbox.dataverse.update("contact", keys[2], {"description": "nothing that is mapped"})
    sandbox.dataverse.delete("contact", keys[3])
    integration.sync()
    counted = sandbox.engine_calls()
    sandbox.clear_calls()

    told = months(say)

    assert sandbox.calls() == []
    assert {of["operation"]: of["measured"] for of in told["operations"]} == {
        "scan": 1,
        "insert": counted["insert"],
        "update": counted["update_read"] + counted["update"],
        "delete": counted["delete"],
    }
    assert all(of["predicted"] == of["measured"] for of in told["operations"])
    assert told["engine_calls"] == counted["total"] + 1
    assert told["engine_calls_adobe"] == 5 + 2 + 2 + 1 + 1
    assert told["fields"] == [
        {"table": "contact", "field": "email", "updates": 2, "engine_calls_alone": 2},
        {"table": "contact", "field": "lastName", "updates": 1, "engine_calls_alone": 0},
    ]


@pytest.mark.usefixtures("april")
def test_json_has_every_figure(say: Say) -> None:
    assert months(say, monthly_budget=2000, daily_budget=90, other_calls=50) == {
        "month": "2026-04",
        "is_over": False,
        "engine_calls": 1550,
        "other_calls": 50,
        "expected": 3050,
        "calls_a_day": 100.0,
        "engine_calls_adobe": 2000,
        "engine_calls_saved": 450,
        "budgets": {
            "monthly": {
                "budget": 2000,
                "spent": 1600,
                "expected": 3050,
                "spent_at": "2026-04-20T12:00+00:00",
                "status": "warning",
            },
            "daily": {
                "budget": 90,
                "spent": 80,
                "expected": 130,
                "spent_at": "2026-04-16T14:24+00:00",
                "status": "warning",
            },
        },
        "days": {"2026-04-03": 1470, "2026-04-16": 80},
        "operations": [
            {"table": "contact", "operation": "insert", "predicted": 1000, "measured": 1010},
            {"table": "contact", "operation": "update", "predicted": 480, "measured": 470},
            {"table": "new_purchase", "operation": "delete", "predicted": 70, "measured": 70},
        ],
        "fields": [
            {"table": "contact", "field": "email", "updates": 150, "engine_calls_alone": 120},
            {"table": "contact", "field": "firstName", "updates": 70, "engine_calls_alone": 40},
            {"table": "contact", "field": "lastName", "updates": 80, "engine_calls_alone": 0},
        ],
    }


@pytest.mark.usefixtures("april")
def test_page_tells_the_same_in_words(say: Say) -> None:
    shown = say(monthly_budget=2000, daily_budget=90, other_calls=50).stdout

    lines = [" ".join(line.split()) for line in shown.splitlines() if line.strip()]
    assert lines == [
        "Engine calls, April 2026",
        "table operation predicted measured",
        "contact insert 1,000 1,010",
        "contact update 480 470",
        "new_purchase delete 70 70",
        "all 1,550 1,550",
        "What columns cost",
        "table field part of updates engine calls for it alone",
        "contact email 150 120",
        "contact firstName 70 40",
        "contact lastName 80 0",
        "April 2026: 1,550 engine calls so far, and 50 of others.",
        "At 100 a day it comes to 3,050 by the end of the month, others included.",
        "By Adobe's own scheme the same changes take 2,000: these are 450 fewer.",
        "1600 of 2000 monthly engine calls are spent (80%). At this pace nothing is left from 20 April, 12:00 UTC on.",
        "80 of 90 daily engine calls are spent (89%). At this pace nothing is left from 16 April, 14:24 UTC on.",
    ]


@pytest.mark.usefixtures("april")
def test_budget_that_is_spent_says_what_that_means(say: Say) -> None:
    shown = say(monthly_budget=1550).stdout

    assert "1550 of 1550 monthly engine calls are spent (100%). No new work is started until the next period" in shown
    assert "At this pace nothing is left" not in shown


@pytest.mark.usefixtures("april")
def test_month_that_is_over_is_told_as_it_was(say: Say) -> None:
    told = months(say, "--month", "2026-03", monthly_budget=50, daily_budget=90)
    assert (told["engine_calls"], told["expected"], told["is_over"]) == (40, 40, True)
    assert list(told["budgets"]) == ["monthly"]

    shown = say("--month", "2026-03", monthly_budget=50).stdout
    assert "March 2026: 40 engine calls.\n" in shown
    assert "That is 80% of a monthly budget of 50." in shown
    assert "a day" not in shown


@pytest.mark.usefixtures("april")
def test_month_without_a_call_is_no_fault(say: Say) -> None:
    ended = say("--month", "2025-12", monthly_budget=None)

    assert ended.exit_code == 0
    assert "December 2025: 0 engine calls." in ended.stdout
    assert "No budget is set: engine_calls.daily_budget, engine_calls.monthly_budget." in ended.stdout


@pytest.mark.usefixtures("april")
@pytest.mark.parametrize(
    ("month", "says"), [("2026-05", "that month has not begun"), ("2026-13", "2026-13"), ("april", "april")]
)
def test_month_that_can_not_be_told_is_wrong_use(say: Say, month: str, says: str) -> None:
    ended = say("--month", month)

    assert ended.exit_code == 2
    assert says in ended.stderr


@pytest.mark.usefixtures("april")
def test_only_the_dearest_columns_stand_on_the_page_and_all_in_json(integration: Integration, say: Say) -> None:
    with open_staging(integration.staging) as file:
        file.ledger.book_updates("contact", {f"cusField{n:02}": (n, n) for n in range(1, 31)})

    assert say().stdout.count("cusField") == 10 - 2
    assert len(months(say)["fields"]) == 33


def test_a_run_that_was_killed_counts_before_the_next_one_books_it(integration: Integration, say: Say) -> None:
    """Its calls may all have been made, and the budget takes them for spent."""
    with open_staging(integration.staging) as file:
        file._connection.execute("create schema contact")
        file._connection.execute("create table contact.in_flight (key varchar, reserved integer)")
        file._connection.execute("insert into contact.in_flight values ('c1', 2), ('c2', 1), ('c3', 0)")

    told = months(say, daily_budget=10)
    assert told["operations"] == [{"table": "contact", "operation": "unsettled", "predicted": 3, "measured": 3}]
    assert told["budgets"]["daily"]["spent"] == 3
    assert date.fromisoformat(next(iter(told["days"]))) == datetime.now(UTC).date()
