"""The rules of the integration contract that say what never happens: all that either system is asked, in full.

Each test names the rules it shows. Everything runs on the sandbox, over real sockets.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from d365_campaign.changes import Replay
from d365_campaign.sandbox import Sandbox
from d365_campaign.store.staging import open_staging
from tests.checking import check
from tests.integration import Integration
from tests.mappings import account_mapping, contact_mapping, purchase_mapping

# A resource's metadata, its list, and one record of it by its key or its link; no member or link of a record.
METADATA = r"/campaign/(profileAndServices(?:Ext)?|customResources)/resourceType/(\w+)"
RECORDS = r"/campaign/(profileAndServicesExt)/(\w+)(?:/[^/]+)?"
MAPPED = {"cusAccount", "profile", "cusPurchase"}
DESCRIPTIONS = {"WhoAmI", "RetrieveMetadataChanges", "RetrieveTotalRecordCount"}


def contents(sandbox: Sandbox) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Every record of the mapped Dynamics tables."""
    return {table: [dict(row) for row in sandbox.dataverse.rows(table)] for table in ("contact", "new_purchase")}


@pytest.fixture
def story(sandbox: Sandbox, integration: Integration) -> Integration:
    """Everything the integration does: check, plan, insert, adopt, update, delete, wait and replay, of three tables.

    Both systems keep what they were asked.
    """
    integration.tables = [account_mapping(), contact_mapping(), purchase_mapping()]
    known, *_ = sandbox.seed(contacts=6, accounts=2, purchases=6)
    sandbox.campaign.create("profile", {"externalId": known, "lastName": "Of old"})
    check(integration, "--scan-keys")
    integration.plan()
    integration.sync()
    sandbox.change(
        accounts={"update": 1}, contacts={"update": 2, "delete": 1}, purchases={"update": 2, "create": 1, "delete": 1}
    )
    integration.sync()
    edited = sandbox.campaign.records("profile")[0]
    sandbox.campaign.update("profile", edited["PKey"], {"lastName": "By hand"})
    with open_staging(integration.staging) as file:
        file.desk("contact").request_replay(Replay.FORCED, limit=1000)
    integration.sync()
    return integration


def test_both_systems_are_asked_for_records_and_descriptions_and_for_nothing_else(
    sandbox: Sandbox, story: Integration
) -> None:
    """R7, R43, R63, R65, R66: no schema is written; no subscription, delivery, message or workflow is asked for."""
    campaign, dynamics = sandbox.calls("campaign"), sandbox.calls("dataverse")
    assert {call.method for call in campaign} == {"GET", "POST", "PATCH", "DELETE"}
    for call in campaign:
        metadata, records = re.search(f"{METADATA}$", call.path), re.search(f"{RECORDS}$", call.path)
        assert (metadata and call.method == "GET") or (records and records[2] in MAPPED), (call.method, call.path)
    assert {call.method for call in dynamics} == {"GET"}
    asked = {call.path.split("/v9.2/")[1].split("(")[0] for call in dynamics}
    assert asked == {"accounts", "contacts", "new_purchases", *DESCRIPTIONS}
    hosts = {sandbox.endpoints[name].split("/")[2] for name in ("dataverse", "entra", "campaign", "ims")}
    assert {call.host for call in sandbox.calls()} == hosts


def test_no_record_of_dynamics_is_written(sandbox: Sandbox, integration: Integration) -> None:
    """R1, R64: neither a contact nor a custom entity, whatever is edited in Campaign, opt-outs included."""
    integration.tables = [contact_mapping(), purchase_mapping()]
    sandbox.seed(contacts=3, accounts=1, purchases=3)
    integration.sync()
    before = contents(sandbox)
    for profile in sandbox.campaign.records("profile"):
        sandbox.campaign.update("profile", profile["PKey"], {"lastName": "By hand", "blackListEmail": True})
    for purchase in sandbox.campaign.records("cusPurchase"):
        sandbox.campaign.update("cusPurchase", purchase["PKey"], {"cusName": "By hand"})
    with open_staging(integration.staging) as file:
        for table in file.tables:
            file.desk(table).request_replay(Replay.FORCED, limit=1000)
    integration.sync()
    assert contents(sandbox) == before
    assert {call.method for call in sandbox.calls("dataverse")} == {"GET"}


def test_advanced_types_that_have_no_counterpart_travel_as_their_text(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R60: several choices at once, and a unique identifier."""
    fields = [
        {"source": "new_tags", "target": "cusTags"},
        {"source": "new_purchaseid", "target": "cusNote"},
    ]
    integration.tables = [purchase_mapping(fields=fields, links=[], filter=None, delete_filtered_out=False)]
    key = sandbox.dataverse.create("new_purchase", {"new_name": "Lamp", "new_tags": "1,3"})
    told = sandbox.dataverse.rows("new_purchase")[0]["new_tags"]
    integration.sync()
    found = sandbox.campaign.find("cusPurchase", "cusD365id", key)
    assert found is not None
    assert (found["cusTags"], found["cusNote"]) == (told, key)
