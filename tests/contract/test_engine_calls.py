"""R50 to R52: what a sync asks of Campaign, counted by Campaign itself, and budgets that are never overshot."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from d365_campaign.changes import Spent
from d365_campaign.sandbox import Sandbox
from d365_campaign.store.staging import open_staging
from tests.agreement import assert_in_step
from tests.integration import Integration
from tests.mappings import contact_mapping

PERIODS = pytest.mark.parametrize("period", ["daily_budget", "monthly_budget"])
INSERT = {"system": "campaign", "method": "POST", "path": "/profile"}
UPDATE = {"system": "campaign", "method": "PATCH", "path": "/profile"}


def asked(sandbox: Sandbox, resource: str = "profile") -> list[str]:
    """The requests for a resource's records: one record by its key, or a page of the list of all."""
    calls = [
        call for call in sandbox.calls("campaign") if f"/{resource}" in call.path and "resourceType" not in call.path
    ]
    return [f"{call.method} list" if "_lineCount" in call.query else call.method for call in calls]


def spent(integration: Integration) -> Spent:
    with open_staging(integration.staging) as file:
        return file.ledger.spent()


def store_mapping() -> Any:
    return contact_mapping(
        source="new_store",
        target="cusStore",
        key={"source": "new_storeid", "target": "cusD365id", "declared_unique": True},
        fields=[{"source": "new_name", "target": "cusName"}],
    )


# --- the formula ----------------------------------------------------------------------------------------------------

Befall = Callable[[Sandbox, str], object]


def insert(sandbox: Sandbox, key: str) -> None:
    sandbox.dataverse.create("contact", {"firstname": "Grace"})


def delete(sandbox: Sandbox, key: str) -> None:
    sandbox.dataverse.delete("contact", key)


def change(sandbox: Sandbox, key: str) -> None:
    sandbox.dataverse.update("contact", key, {"firstname": "Augusta"})


def change_on_both_sides(sandbox: Sandbox, key: str) -> None:
    change(sandbox, key)
    sandbox.campaign.update("profile", key, {"firstName": "Augusta"})


def touch(sandbox: Sandbox, key: str) -> None:
    sandbox.dataverse.update("contact", key, {"description": "nothing that is mapped"})


@pytest.mark.parametrize(
    ("befall", "requests", "identical"),
    [
        pytest.param(insert, ["POST"], 0, id="insert"),
        pytest.param(delete, ["DELETE"], 0, id="delete"),
        pytest.param(change, ["GET", "PATCH"], 0, id="update"),
        pytest.param(change_on_both_sides, ["GET"], 1, id="identical update"),
        pytest.param(touch, [], 0, id="nothing that is mapped"),
    ],
)
def test_change_costs_what_the_formula_says(
    sandbox: Sandbox, integration: Integration, befall: Befall, requests: Sequence[str], identical: int
) -> None:
    """R51: exactly these requests for records, tokens and metadata apart."""
    key = sandbox.dataverse.create("contact", {"firstname": "Ada"})
    integration.sync()
    sandbox.clear_calls()
    befall(sandbox, key)
    done = integration.sync()

    assert asked(sandbox) == requests
    assert (done["engine_calls"], done["identical"]) == (len(requests), identical)


def test_plan_predicts_what_the_sync_then_spends(sandbox: Sandbox, integration: Integration) -> None:
    """R51, where nothing in Campaign has changed by another hand."""
    sandbox.seed(contacts=20)
    sandbox.campaign.create("profile", {"externalId": "somebody", "firstName": "Else"})
    planned = integration.plan()
    assert (planned["scan_calls"], planned["engine_calls"]) == (1, 20)
    assert integration.sync()["engine_calls"] == 20
    sandbox.change_contacts(update=6, create=3, delete=2)
    planned = integration.plan()
    sandbox.clear_calls()
    done = integration.sync()

    assert planned["engine_calls"] == done["engine_calls"] == len(asked(sandbox)) == 6 * 2 + 3 + 2


def test_ledger_agrees_with_campaigns_own_call_log(sandbox: Sandbox, integration: Integration) -> None:
    """R51: with duplicates, identical records, refused ones and lost answers among them."""
    keys = sandbox.seed(contacts=30)
    integration.plan()
    sandbox.campaign.create("profile", {"externalId": keys[0], "firstName": "Early"})
    sandbox.dataverse.create("contact", {"firstname": "Ada", "emailaddress1": "ada@example.com"})
    sandbox.add_fault(**INSERT, times=3, lose_answer=True)
    integration.sync()
    for key in keys[5:10]:
        change_on_both_sides(sandbox, key)
    sandbox.change_contacts(update=8, create=4, delete=3)
    sandbox.add_fault(**UPDATE, times=2, lose_answer=True)
    integration.sync()

    assert spent(integration).this_month == len(asked(sandbox))
    assert asked(sandbox).count("GET list") == 1


# --- budgets --------------------------------------------------------------------------------------------------------


@PERIODS
def test_budget_warns_at_80_percent_and_stops_new_work_at_100(
    sandbox: Sandbox, integration: Integration, period: str
) -> None:
    """R50. The one call before the first insert lists what Campaign holds."""
    integration.set("engine_calls", **{period: 20})
    told = []
    for number, contacts in enumerate((14, 1, 3, 5)):
        sandbox.seed(contacts=contacts, seed=number)
        report = integration.run("sync")
        told.append([check for check in report.failed_checks if period in check])
        assert report.success, "running out of budget is no fault"
    done = report.materialized["campaign/profile"]

    assert told[0] == [], "15 of 20"
    assert "16 of 20" in told[1][0]
    assert "19 of 20" in told[2][0]
    assert "20 of 20" in told[3][0]
    assert "No new work is started until the next period, or until the budget is raised." in told[3][0]
    assert (done["inserted"], done["backlog"], done["stopped_by"]) == (1, 4, "budget")
    assert len(asked(sandbox)) == 20


@PERIODS
def test_spent_budget_goes_on_reading_and_writes_again_once_it_is_raised(
    sandbox: Sandbox, integration: Integration, period: str
) -> None:
    """R50."""
    integration.set("engine_calls", **{period: 6})
    sandbox.seed(contacts=10)
    assert integration.sync()["backlog"] == 5
    sandbox.seed(contacts=10, seed=2)
    sandbox.clear_calls()
    done = integration.sync()
    assert (done["backlog"], done["stopped_by"], asked(sandbox)) == (15, "budget", [])

    integration.set("engine_calls", **{period: 100})
    done = integration.sync()
    assert (done["inserted"], done["backlog"], done["stopped_by"]) == (15, 0, "")
    assert_in_step(sandbox)


def test_share_from_which_a_budget_warns_is_a_setting(sandbox: Sandbox, integration: Integration) -> None:
    """R50: configurable."""
    integration.set("engine_calls", daily_budget=10, warn_at=0.5)
    sandbox.seed(contacts=4)

    assert [check for check in integration.run("sync").failed_checks if "5 of 10" in check]


def test_calls_of_others_count_as_spent(sandbox: Sandbox, integration: Integration) -> None:
    """R52: landing pages, web apps and mobile registrations come out of the same package."""
    integration.set("engine_calls", monthly_budget=20, other_calls=12)
    sandbox.seed(contacts=10)
    report = integration.run("sync")
    done = report.materialized["campaign/profile"]

    assert (len(asked(sandbox)), done["inserted"], done["stopped_by"]) == (20 - 12, 7, "budget")
    assert [check for check in report.failed_checks if "20 of 20 monthly engine calls are spent (100%)" in check]


@PERIODS
def test_tables_share_one_budget(sandbox: Sandbox, integration: Integration, period: str) -> None:
    """R50: each lists its resource once, and the first one's writes leave the second less."""
    integration.tables = [contact_mapping(), store_mapping()]
    integration.set("engine_calls", **{period: 10})
    sandbox.seed(contacts=5)
    for number in range(6):
        sandbox.dataverse.create("new_store", {"new_name": f"Store {number}"})
    report = integration.run("sync")

    done = [report.materialized[f"campaign/{resource}"] for resource in ("profile", "cusStore")]
    assert len(asked(sandbox)) + len(asked(sandbox, "cusStore")) == 10
    assert sorted(each["stopped_by"] for each in done) == ["", "budget"]
    assert sum(each["backlog"] for each in done) == 5 + 6 - (10 - 2)


def test_first_scan_is_not_begun_on_a_budget_that_is_spent(sandbox: Sandbox, integration: Integration) -> None:
    """R50: listing what Campaign holds is engine calls, too."""
    integration.set("engine_calls", daily_budget=0)
    integration.set("run", retries=0)
    sandbox.seed(contacts=3)

    assert "the engine-call budget does not last for listing what Campaign holds" in integration.fail()
    assert asked(sandbox) == []


@pytest.mark.parametrize("budget", [8, 13, 21, 30])
def test_budget_is_not_overshot_when_calls_take_more_than_the_formula(
    sandbox: Sandbox, integration: Integration, budget: int
) -> None:
    """R50: duplicates and lost answers take further calls, which are counted before they are made."""
    integration.set("engine_calls", daily_budget=budget)
    keys = sandbox.seed(contacts=20)
    integration.plan()
    for key in keys[::3]:
        sandbox.campaign.create("profile", {"externalId": key, "firstName": "Early"})
    for skip in (1, 4, 5, 9):
        sandbox.add_fault(**INSERT, skip=skip, times=1, lose_answer=True)
    counted = []
    for _ in range(4):
        integration.run("sync")
        counted.append(len(asked(sandbox)))

    assert counted[-1] == spent(integration).today <= budget
    assert all(before <= after for before, after in pairwise(counted))
    sandbox.clear_faults()
    integration.set("engine_calls", daily_budget=1000)
    integration.sync()
    assert_in_step(sandbox)
