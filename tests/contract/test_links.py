"""Tables that are linked with each other, end to end: parents first, children wait, deletes the other way round."""

from dataclasses import replace
from typing import Any

import pytest

from d365_campaign.sandbox import Sandbox
from d365_campaign.sandbox.campaign_schema import PURCHASE
from tests.integration import Integration
from tests.mappings import account_mapping, contact_mapping, purchase_mapping

ACTIVE_ONLY = {"conditions": [{"source": "statecode", "comparison": "equals", "value": 0}]}
INACTIVE, ACTIVE = {"statecode": 1, "statuscode": 2}, {"statecode": 0, "statuscode": 1}


@pytest.fixture
def linked(integration: Integration) -> Integration:
    """Accounts, active contacts of theirs, and the contacts' purchases: as deep as links may go."""
    contact = contact_mapping()
    fields = [*contact.model_dump()["fields"], {"source": "parentcustomerid", "target": "cusAccountId"}]
    links = [{"source": "parentcustomerid", "parent": "account"}]
    integration.tables = [
        account_mapping(),
        contact_mapping(fields=fields, links=links, filter=ACTIVE_ONLY, delete_filtered_out=True),
        purchase_mapping(),
    ]
    return integration


def new_purchase(sandbox: Sandbox, contact: str, **values: Any) -> str:
    lookup = {"new_contactid": contact, "new_name": "Lamp"}
    return str(sandbox.dataverse.create("new_purchase", {**lookup, **values}))


def sent(sandbox: Sandbox) -> list[tuple[str, str]]:
    """Method and resource of every write to Campaign, in order."""
    return [
        (call.method, next(name for name in ("cusAccount", "cusPurchase", "profile") if f"/{name}" in call.path))
        for call in sandbox.calls("campaign")
        if call.method in ("POST", "PATCH", "DELETE")
    ]


def test_parents_are_written_before_their_children_in_every_run(sandbox: Sandbox, linked: Integration) -> None:
    """R42, R45, R56: three tables in a row, each new record right after the one that it leads to."""
    account = sandbox.dataverse.create("account", {"name": "Analytical Engines"})
    contact = sandbox.dataverse.create("contact", {"lastname": "Lovelace", "parentcustomerid": account})
    purchase = new_purchase(sandbox, contact)
    linked.run("sync")

    assert sent(sandbox) == [("POST", "cusAccount"), ("POST", "profile"), ("POST", "cusPurchase")]
    found = sandbox.campaign.find("cusPurchase", "cusD365id", purchase)
    assert found is not None
    assert found["cusContactId"] == contact


def test_linked_and_unlinked_resources_are_each_on_their_own_endpoint(sandbox: Sandbox, linked: Integration) -> None:
    """R42, R119."""
    sandbox.dataverse.create("new_store", {"new_name": "Harbour"})
    key = {"source": "new_storeid", "target": "cusD365id", "declared_unique": True}
    store = contact_mapping(
        source="new_store", target="cusStore", key=key, fields=[{"source": "new_name", "target": "cusName"}]
    )
    linked.tables = [*linked.tables, store]
    new_purchase(sandbox, sandbox.dataverse.create("contact", {"lastname": "Lovelace"}))
    linked.run("sync")

    calls = [call for call in sandbox.calls("campaign") if call.method == "POST"]
    posted = {call.path.split("/campaign/")[1].strip("/") for call in calls}
    assert posted == {
        "customResources/cusStore",
        "profileAndServicesExt/profile",
        "profileAndServicesExt/cusPurchase",
    }


def test_child_without_its_parent_is_deferred_at_no_cost_and_goes_out_by_itself(
    sandbox: Sandbox, linked: Integration
) -> None:
    """R45, R46: the contact is filtered out, so its purchase waits; no one has to touch it again."""
    contact = sandbox.dataverse.create("contact", {"lastname": "Lovelace", **INACTIVE})
    purchase = new_purchase(sandbox, contact)
    done = linked.sync("new_purchase")
    assert (done["deferred"], done["inserted"], done["backlog"]) == (1, 0, 0)
    assert done["deferred_sample"] == {purchase: f"contact {contact}"}
    assert sent(sandbox) == []

    sandbox.dataverse.update("contact", contact, ACTIVE)
    done = linked.sync("new_purchase")
    assert (done["deferred"], done["inserted"]) == (0, 1)
    assert sent(sandbox) == [("POST", "profile"), ("POST", "cusPurchase")]


def test_child_whose_parent_is_about_to_be_written_is_planned_as_an_insert(
    sandbox: Sandbox, linked: Integration
) -> None:
    contact = sandbox.dataverse.create("contact", {"lastname": "Lovelace"})
    new_purchase(sandbox, contact)
    report = linked.run("plan")
    planned = report.materialized["change_set/new_purchase"]
    assert (planned["to_insert"], planned["deferred"], planned["engine_calls"]) == (1, 0, 1)


def test_child_waits_for_a_parent_that_campaign_refused(sandbox: Sandbox, linked: Integration) -> None:
    contact = sandbox.dataverse.create("contact", {"firstname": "x" * 31, "lastname": "Lovelace"})
    new_purchase(sandbox, contact)
    done = linked.sync("new_purchase")
    assert (done["deferred"], done["inserted"]) == (1, 0)

    sandbox.dataverse.update("contact", contact, {"firstname": "Ada"})
    assert linked.sync("new_purchase")["inserted"] == 1


def test_child_that_leads_to_another_kind_of_record_does_not_wait(sandbox: Sandbox, linked: Integration) -> None:
    """A customer is an account or a contact: one whose customer is a contact has no account to wait for."""
    boss = sandbox.dataverse.create("contact", {"lastname": "Babbage"})
    sandbox.dataverse.create("contact", {"lastname": "Lovelace", "parentcustomerid": boss})
    done = linked.sync("contact")
    assert (done["inserted"], done["deferred"]) == (2, 0)


def test_children_are_deleted_before_their_parents(sandbox: Sandbox, linked: Integration) -> None:
    """In the first run the purchase goes, in the next one the profile that it hung on."""
    contact = sandbox.dataverse.create("contact", {"lastname": "Lovelace"})
    purchase = new_purchase(sandbox, contact)
    linked.run("sync")
    sandbox.clear_calls()
    sandbox.dataverse.delete("new_purchase", purchase)
    sandbox.dataverse.delete("contact", contact)
    first = linked.sync("contact")
    assert (first["deleted"], first["deferred"]) == (0, 1)
    assert linked.sync("contact")["deleted"] == 1
    assert sent(sandbox) == [("DELETE", "cusPurchase"), ("DELETE", "profile")]


def test_link_to_an_unread_table_lets_everything_wait(sandbox: Sandbox, linked: Integration) -> None:
    """Only the child's table is synced: its parents are unknown to the staging file."""
    contact = sandbox.dataverse.create("contact", {"lastname": "Lovelace"})
    new_purchase(sandbox, contact)
    report = linked.run("sync", only=["new_purchase"])
    assert report.success, report.errors
    assert report.materialized["campaign/cusPurchase"]["deferred"] == 1
    assert linked.sync("new_purchase")["inserted"] == 1


# --- children that Campaign hides ------------------------------------------------------------------------------------


@pytest.fixture
def hiding(sandbox: Sandbox, integration: Integration) -> Integration:
    """Purchases whose link has cardinality 1, and whose mapping doesn't know of it: the foreign key is just a field."""
    sandbox.campaign.register(replace(PURCHASE, links=(replace(PURCHASE.links[0], cardinality="1"),)))
    integration.tables = [contact_mapping(filter=ACTIVE_ONLY), purchase_mapping(links=[])]
    return integration


def let_parked_go(integration: Integration) -> None:
    """As if the wait of what is parked were over."""
    integration.change_staging("update new_purchase.reject set retry_at = now() at time zone 'UTC'")


def test_update_of_a_hidden_child_is_parked_and_applied_once_its_parent_is_there(
    sandbox: Sandbox, hiding: Integration
) -> None:
    """R46, R47, R48, A8: 404 on read and duplicate key on create mean hidden; it is shown, and no one has to act."""
    contact = sandbox.dataverse.create("contact", {"lastname": "Lovelace", **INACTIVE})
    purchase = new_purchase(sandbox, contact)
    hiding.run("sync")
    sandbox.dataverse.update("new_purchase", purchase, {"new_name": "Desk"})
    done = hiding.sync("new_purchase")
    assert (done["updated"], done["deferred"], done["backlog"]) == (0, 1, 0)
    assert "hidden" in done["refused_sample"][purchase]

    sandbox.dataverse.update("contact", contact, ACTIVE)
    hiding.run("sync")
    let_parked_go(hiding)
    done = hiding.sync("new_purchase")
    found = sandbox.campaign.find("cusPurchase", "cusD365id", purchase)
    assert found is not None
    assert found["cusName"] == "Desk"
    assert done["deferred"] == 0


def test_delete_of_a_hidden_child_is_parked_and_applied_once_its_parent_is_there(
    sandbox: Sandbox, hiding: Integration
) -> None:
    """R47, R48: Dynamics has nothing left to send, so it must not be forgotten."""
    contact = sandbox.dataverse.create("contact", {"lastname": "Lovelace", **INACTIVE})
    purchase = new_purchase(sandbox, contact)
    hiding.run("sync")
    sandbox.dataverse.delete("new_purchase", purchase)
    done = hiding.sync("new_purchase")
    assert (done["deleted"], done["deferred"]) == (0, 1)

    sandbox.dataverse.update("contact", contact, ACTIVE)
    hiding.run("sync")
    let_parked_go(hiding)
    assert hiding.sync("new_purchase")["deleted"] == 1
    assert sandbox.campaign.records("cusPurchase") == []
