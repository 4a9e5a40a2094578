"""Rows that lead to a deleted one ("Configure table relationship cascading behavior")."""

import pytest

from d365_campaign.sandbox import Sandbox
from d365_campaign.sandbox.dataverse_deletes import delete_rows
from d365_campaign.sandbox.dataverse_errors import DataverseError
from d365_campaign.sandbox.dataverse_values import Reference

from .conftest import Caller


@pytest.fixture
def keys(sandbox: Sandbox) -> dict[str, str]:
    """An account; Ada works for it and is its primary contact; Bob has Ada for a company; each bought something."""
    create = sandbox.dataverse.create
    account = create("account", {"name": "Contoso"})
    ada = create("contact", {"lastname": "Ada", "parentcustomerid": account})
    bob = create("contact", {"lastname": "Bob", "parentcustomerid": Reference("contact", ada)})
    sandbox.dataverse.update("account", account, {"primarycontactid": ada})
    hers = create("new_purchase", {"new_name": "hers", "new_ordernumber": "1", "new_contactid": ada})
    his = create("new_purchase", {"new_name": "his", "new_ordernumber": "2", "new_contactid": bob})
    return {"account": account, "ada": ada, "bob": bob, "hers": hers, "his": his}


def test_lookups_to_a_deleted_contact_become_empty(sandbox: Sandbox, keys: dict[str, str]) -> None:
    assert delete_rows(sandbox.dataverse, "contact", [keys["ada"]]) == {"contact": [keys["ada"]]}
    assert sandbox.dataverse.get("new_purchase", keys["hers"])["_new_contactid_value"] is None
    assert sandbox.dataverse.get("new_purchase", keys["his"])["_new_contactid_value"] == keys["bob"]
    assert sandbox.dataverse.get("account", keys["account"])["_primarycontactid_value"] is None
    assert sandbox.dataverse.get("contact", keys["bob"])["_parentcustomerid_value"] is None


def test_an_account_takes_its_contacts_along_and_their_purchases_stay(sandbox: Sandbox, keys: dict[str, str]) -> None:
    deleted = delete_rows(sandbox.dataverse, "account", [keys["account"]])
    assert deleted == {"contact": [keys["ada"]], "account": [keys["account"]]}
    assert [row["contactid"] for row in sandbox.dataverse.rows("contact")] == [keys["bob"]]
    assert sandbox.dataverse.get("new_purchase", keys["hers"])["_new_contactid_value"] is None


def test_a_row_that_lost_its_link_shows_in_the_delta(dataverse: Caller, admin: Caller, keys: dict[str, str]) -> None:
    tracked = {"Prefer": "odata.track-changes"}
    link = dataverse.json("new_purchases?$select=_new_contactid_value", headers=tracked)["@odata.deltaLink"]
    assert admin("DELETE", f"/dataverse/contacts/{keys['ada']}").json() == {"contact": [keys["ada"]]}
    [row] = dataverse.json(link)["value"]
    assert (row["new_purchaseid"], row["_new_contactid_value"]) == (keys["hers"], None)


def test_all_or_none_are_deleted(sandbox: Sandbox, keys: dict[str, str]) -> None:
    with pytest.raises(DataverseError):
        delete_rows(sandbox.dataverse, "contact", [keys["ada"], "00000000-0000-4000-8000-000000000000"])
    assert sandbox.dataverse.get("new_purchase", keys["hers"])["_new_contactid_value"] == keys["ada"]
    assert len(sandbox.dataverse.rows("contact")) == 2
