"""Seeding: contacts, the accounts they work for, their purchases, and the story a demo tells about them."""

from collections.abc import Mapping
from typing import Any

import pytest

from d365_campaign.sandbox import Sandbox
from d365_campaign.sandbox.campaign_schema import ACCOUNT, PURCHASE

from .conftest import Caller

STAMPS = {"modifiedon", "createdon", "versionnumber"}


def rows(sandbox: Sandbox, table: str) -> list[dict[str, Any]]:
    """Without what tells the time and order of writing."""
    return [{name: row[name] for name in row.keys() - STAMPS} for row in sandbox.dataverse.rows(table)]


def seeded(sandbox: Sandbox, **numbers: Any) -> dict[str, list[dict[str, Any]]]:
    sandbox.reset()
    sandbox.seed(**numbers)
    return {table: rows(sandbox, table) for table in ("account", "contact", "new_purchase")}


def test_linked_tables_are_repeatable_by_number(sandbox: Sandbox) -> None:
    numbers = {"contacts": 30, "accounts": 5, "purchases": 20}
    first, other = seeded(sandbox, **numbers, seed=1), seeded(sandbox, **numbers, seed=2)
    assert {table: len(found) for table, found in first.items()} == {"account": 5, "contact": 30, "new_purchase": 20}
    assert seeded(sandbox, **numbers, seed=1) == first
    assert all(first[table] != other[table] for table in first)


def test_other_tables_change_no_contact_but_for_its_company(sandbox: Sandbox) -> None:
    alone = seeded(sandbox, contacts=40, hostile=True)["contact"]
    beside = seeded(sandbox, contacts=40, hostile=True, accounts=6, purchases=10)["contact"]
    assert [row | {"_parentcustomerid_value": None} for row in beside] == alone


def test_six_in_ten_contacts_work_for_one_of_the_accounts(sandbox: Sandbox) -> None:
    found = seeded(sandbox, contacts=1000, accounts=20)
    employers = [row["_parentcustomerid_value"] for row in found["contact"]]
    assert {key for key in employers if key} == {row["accountid"] for row in found["account"]}
    assert 550 <= sum(key is not None for key in employers) <= 650


def test_every_purchase_leads_to_a_contact(sandbox: Sandbox) -> None:
    found = seeded(sandbox, contacts=10, purchases=200)
    buyers = {row["_new_contactid_value"] for row in found["new_purchase"]}
    assert buyers == {row["contactid"] for row in found["contact"]}


def test_a_lookup_comes_over_the_wire_as_the_key_of_its_row(sandbox: Sandbox, dataverse: Caller) -> None:
    sandbox.seed(5, accounts=1, purchases=1)
    annotations = {"Prefer": 'odata.include-annotations="*"'}
    [purchase] = dataverse.json("new_purchases", headers=annotations)["value"]
    assert purchase["_new_contactid_value@Microsoft.Dynamics.CRM.lookuplogicalname"] == "contact"
    contact = dataverse.json(f"contacts({purchase['_new_contactid_value']})")
    assert contact["contactid"] == purchase["_new_contactid_value"]


def test_purchases_have_something_in_every_column(sandbox: Sandbox) -> None:
    purchases = seeded(sandbox, contacts=10, purchases=300)["new_purchase"]
    unused = {"overriddencreatedon"}
    assert {name for row in purchases for name, value in row.items() if value is not None} == set(purchases[0]) - unused
    assert {row["new_channel"] for row in purchases} == {100000000, 100000001}
    assert {tag for row in purchases for tag in (row["new_tags"] or "").split(",")} == {"", "1", "2", "3"}
    assert any(row["new_amount"] % 1 for row in purchases)
    assert len({row["new_ordernumber"] for row in purchases}) == 300
    assert all(row["new_shippedat"] is None or row["new_shippedat"] > row["new_purchasedon"] for row in purchases)


@pytest.mark.parametrize("table", ["account", "new_purchase"])
def test_dataverse_itself_would_take_the_rows(sandbox: Sandbox, table: str) -> None:
    """Rows are loaded unchecked; writing each one's values back makes the sandbox check them."""
    sandbox.seed(50, accounts=50, purchases=50)
    definition = sandbox.dataverse.table(table).definition
    given = {column.name for column in definition.columns if not column.is_lookup}
    for row in sandbox.dataverse.rows(table):
        key = row[definition.primary_id]
        sandbox.dataverse.update(table, key, {name: row[name] for name in given})
        assert sandbox.dataverse.get(table, key) | {"modifiedon": "", "versionnumber": 0} == row | {
            "modifiedon": "",
            "versionnumber": 0,
        }


def test_seeded_values_fit_campaign(sandbox: Sandbox) -> None:
    """The lengths of "Configuring the resource's data structure", column by column."""
    found = seeded(sandbox, contacts=20, accounts=200, purchases=200)
    fits(ACCOUNT, found["account"], cusName="name", cusNumber="accountnumber", cusWebsite="websiteurl")
    fits(PURCHASE, found["new_purchase"], cusName="new_name", cusOrderNumber="new_ordernumber", cusNote="new_note")


def fits(resource: Any, table: list[dict[str, Any]], **columns: str) -> None:
    lengths: Mapping[str, int] = {attribute.name: attribute.length for attribute in resource.attributes}
    for attribute, column in columns.items():
        assert max(len(row[column] or "") for row in table) in range(1, lengths[attribute] + 1)


def test_a_number_used_again_makes_further_rows(sandbox: Sandbox) -> None:
    numbers = {"contacts": 10, "accounts": 3, "purchases": 5}
    sandbox.seed(**numbers)
    again = sandbox.seed(**numbers)
    for table, count in (("contact", 20), ("account", 6), ("new_purchase", 10)):
        found = sandbox.dataverse.rows(table)
        assert len(found) == len({row[f"{table}id"] for row in found}) == count
    assert len({row["new_ordernumber"] for row in sandbox.dataverse.rows("new_purchase")}) == 10
    assert len(set(again)) == 10


def test_purchases_without_contacts_are_refused(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="seed contacts first"):
        sandbox.seed(purchases=1)


# --- changes


def test_changes_of_all_tables_are_repeatable_and_real(sandbox: Sandbox) -> None:
    tables = {
        "accounts": {"update": 3, "create": 2},
        "contacts": {"update": 4, "create": 1, "delete": 2},
        "purchases": {"update": 5, "create": 6, "delete": 3},
    }

    def changed() -> tuple[Any, Any, Any]:
        before = seeded(sandbox, contacts=40, accounts=8, purchases=30)
        return before, sandbox.change(seed=7, **tables), {name: rows(sandbox, name) for name in before}

    before, ids, after = changed()
    assert changed() == (before, ids, after)
    assert {name: [len(found) for found in verbs.values()] for name, verbs in ids.items()} == {
        "accounts": [3, 2, 0],
        "contacts": [4, 1, 2],
        "purchases": [5, 6, 3],
    }
    for table, name in (("account", "accounts"), ("new_purchase", "purchases")):
        old, new = ({row[f"{table}id"]: row for row in found[table]} for found in (before, after))
        assert set(ids[name]["created"]) == new.keys() - old.keys()
        assert set(ids[name]["deleted"]) == old.keys() - new.keys()
        assert all(old[key] != new[key] for key in ids[name]["updated"])


def test_contacts_change_as_they_did_when_alone(sandbox: Sandbox) -> None:
    seeded(sandbox, contacts=40)
    alone = sandbox.change_contacts(update=4, create=3, delete=2, seed=3)
    seeded(sandbox, contacts=40, purchases=10)
    assert sandbox.change(seed=3, contacts={"update": 4, "create": 3, "delete": 2}) == {"contacts": alone}


def test_an_account_that_is_deleted_takes_its_contacts_along(sandbox: Sandbox) -> None:
    """Its relationship to contacts has "Delete: Cascade" in every environment (account table reference)."""
    found = seeded(sandbox, contacts=40, accounts=4)
    changed = sandbox.change(accounts={"delete": 1})
    [account] = changed["accounts"]["deleted"]
    staff = {row["contactid"] for row in found["contact"] if row["_parentcustomerid_value"] == account}
    assert set(changed["contacts"]["deleted"]) == staff != set()
    assert len(sandbox.dataverse.rows("contact")) == 40 - len(staff)


def test_purchases_stay_when_their_contact_is_deleted_but_lead_nowhere(sandbox: Sandbox) -> None:
    sandbox.seed(3, purchases=30)
    [gone] = sandbox.change(contacts={"delete": 1})["contacts"]["deleted"]
    buyers = [row["_new_contactid_value"] for row in sandbox.dataverse.rows("new_purchase")]
    assert len(buyers) == 30
    assert gone not in buyers
    assert None in buyers


# --- the story


def test_the_first_act_is_an_inactive_contact_with_a_purchase_and_a_name_too_long(sandbox: Sandbox) -> None:
    keys = sandbox.seed_story()
    waiting = sandbox.dataverse.get("contact", keys["waiting_contact"])
    purchase = sandbox.dataverse.get("new_purchase", keys["waiting_purchase"])
    refused = sandbox.dataverse.get("contact", keys["refused_contact"])
    assert (waiting["statecode"], waiting["statuscode"]) == (1, 2)
    assert purchase["_new_contactid_value"] == keys["waiting_contact"]
    assert (refused["statecode"], len(refused["firstname"]) > 30) == (0, True)


def test_in_the_second_act_the_contact_is_active_and_shows_in_the_delta(sandbox: Sandbox, dataverse: Caller) -> None:
    key = sandbox.seed_story()["waiting_contact"]
    tracked = {"Prefer": "odata.track-changes"}
    link = dataverse.json("contacts?$select=statecode", headers=tracked)["@odata.deltaLink"]
    assert sandbox.activate_waiting_contact() == key
    [row] = dataverse.json(link)["value"]
    assert (row["contactid"], row["statecode"]) == (key, 0)


def test_what_happens_at_random_leaves_the_story_alone(sandbox: Sandbox, admin: Caller) -> None:
    keys = sandbox.seed_story()
    sandbox.seed(3, purchases=20)
    before = [sandbox.dataverse.get(table, keys[name]) for table, name in STORY_ROWS]
    changed = sandbox.change(contacts={"update": 2, "delete": 1}, purchases={"update": 10, "delete": 10, "create": 5})
    for _ in range(10):
        admin("PATCH", "/dataverse/contacts/any", json={"statecode": 0})
    assert [sandbox.dataverse.get(table, keys[name]) for table, name in STORY_ROWS] == before
    buyers = {
        sandbox.dataverse.get("new_purchase", key)["_new_contactid_value"] for key in changed["purchases"]["created"]
    }
    assert not buyers & set(keys.values())


STORY_ROWS = (
    ("contact", "waiting_contact"),
    ("contact", "refused_contact"),
    ("new_purchase", "waiting_purchase"),
)
