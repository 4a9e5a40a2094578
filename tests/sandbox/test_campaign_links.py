"""Custom resources and links: "Interacting with custom resources", "Configuring the resource's data structure"."""

from dataclasses import replace

import pytest

from d365_campaign.sandbox import Sandbox
from d365_campaign.sandbox.campaign_schema import PURCHASE, Cardinality

from .conftest import Caller

EXT, UNLINKED = "/profileAndServicesExt/cusPurchase", "/customResources/cusStore"
CHILD = {"cusD365id": "p1", "cusContactId": "c1", "cusAmount": 12.5}


def publish(sandbox: Sandbox, cardinality: Cardinality, cascade: bool = False) -> None:
    link = replace(PURCHASE.links[0], cardinality=cardinality, cascade_delete=cascade)
    sandbox.campaign.register(replace(PURCHASE, links=(link,)))


def test_linked_resources_are_on_ext_and_the_others_on_custom_resources(campaign: Caller) -> None:
    assert campaign.get(EXT).status_code == campaign.get(UNLINKED).status_code == 200
    assert campaign.get("/customResources/cusPurchase").status_code == 404
    assert campaign.get("/profileAndServicesExt/cusStore").status_code == 404
    listed = campaign.json("/profileAndServicesExt")
    assert listed["cusPurchase"]["data"] == "/profileAndServicesExt/cusPurchase/"
    assert "cusStore" not in listed
    assert "cusStore" in campaign.json("/customResources")


def test_custom_records_are_written_like_profiles(campaign: Caller) -> None:
    assert campaign("POST", UNLINKED, json={"cusD365id": "s1", "cusName": "One"}).status_code == 201
    assert campaign("PATCH", f"{UNLINKED}/s1", json={"cusName": "Two"}).status_code == 200
    assert campaign.json(f"{UNLINKED}/s1")["cusName"] == "Two"
    assert campaign("DELETE", f"{UNLINKED}/s1").status_code == 200


def test_deleting_a_custom_record_may_answer_204(sandbox: Sandbox, campaign: Caller) -> None:
    sandbox.settings.custom_resource_delete_status = 204
    campaign("POST", UNLINKED, json={"cusD365id": "s1"})
    response = campaign("DELETE", f"{UNLINKED}/s1")
    assert (response.status_code, response.content) == (204, b"")


@pytest.mark.parametrize("name", ["cusNothing", "cusPurchase"])
def test_unpublished_resources_are_404(sandbox: Sandbox, campaign: Caller, name: str) -> None:
    sandbox.campaign.register(replace(PURCHASE, published=False))
    for method, path in (("GET", ""), ("POST", ""), ("DELETE", "/x"), ("GET", "/metadata")):
        response = campaign(method, f"/profileAndServicesExt/{name}{path}", json={})
        assert response.status_code == 404
        assert "RST-360011" in response.text
    assert campaign.get(f"/profileAndServicesExt/resourceType/{name}").status_code == 404


def test_a_0_or_1_link_is_null_until_its_target_arrives(campaign: Caller) -> None:
    campaign("POST", EXT, json=CHILD)
    assert campaign.json(f"{EXT}/p1")["cusProfileLink"] is None
    campaign("POST", "/profileAndServicesExt/profile", json={"externalId": "c1", "lastName": "Bell"})
    link = campaign.json(f"{EXT}/p1")["cusProfileLink"]
    assert set(link) == {"PKey", "href", "title"}
    assert campaign.json(link["href"])["externalId"] == "c1"


def test_a_profiles_collection_link_lists_its_children(campaign: Caller) -> None:
    campaign("POST", EXT, json=CHILD)
    campaign("POST", EXT, json=CHILD | {"cusD365id": "p2", "cusContactId": "other"})
    profile = campaign("POST", "/profileAndServicesExt/profile", json={"externalId": "c1"}).json()
    children = campaign.json(profile["cusPurchasesLink"]["href"])["content"]
    assert [child["cusD365id"] for child in children] == ["p1"]


def test_with_a_1_link_an_early_child_is_stored_but_hidden(sandbox: Sandbox, campaign: Caller) -> None:
    """R46 and R47: accepted, then out of reach; its key stays taken."""
    publish(sandbox, "1")
    assert campaign("POST", EXT, json=CHILD).status_code == 201
    assert campaign.json(EXT)["content"] == []
    assert campaign.json(f"{EXT}/byCusD365id?cusD365id_parameter=p1")["content"] == []
    for method in ("GET", "PATCH", "DELETE"):
        assert campaign(method, f"{EXT}/p1", json={}).status_code == 404
    assert "already exists" in campaign("POST", EXT, json=CHILD).text
    assert len(sandbox.campaign.records("cusPurchase")) == 1


def test_a_hidden_child_appears_with_its_parent(sandbox: Sandbox, campaign: Caller) -> None:
    publish(sandbox, "1")
    campaign("POST", EXT, json=CHILD)
    campaign("POST", "/profileAndServicesExt/profile", json={"externalId": "c1"})
    assert campaign.json(f"{EXT}/p1")["cusAmount"] == 12.5


def test_a_hidden_child_appears_when_the_link_becomes_0_or_1(sandbox: Sandbox, campaign: Caller) -> None:
    """R49: the documented way to reach hidden records."""
    publish(sandbox, "1")
    campaign("POST", EXT, json=CHILD)
    publish(sandbox, "0..1")
    assert campaign.json(f"{EXT}/p1")["cusProfileLink"] is None


@pytest.mark.parametrize("cascade", [True, False])
def test_metadata_tells_what_a_link_does(sandbox: Sandbox, campaign: Caller, cascade: bool) -> None:
    """`resTarget` is documented ("Metadata mechanism"); cardinality, joins and cascadeDelete are the sandbox's own."""
    publish(sandbox, "1", cascade)
    link = campaign.json("/profileAndServicesExt/resourceType/cusPurchase")["content"]["cusProfileLink"]
    assert (link["type"], link["resTarget"], link["cardinality"]) == ("link", "profile", "1")
    assert link["joins"] == [{"source": "cusContactId", "target": "externalId"}]
    assert link["cascadeDelete"] is cascade


@pytest.mark.parametrize(("cascade", "left"), [(True, 0), (False, 1)])
def test_deleting_the_target_takes_children_along_only_when_told(sandbox: Sandbox, cascade: bool, left: int) -> None:
    publish(sandbox, "0..1", cascade)
    sandbox.campaign.create("profile", {"externalId": "c1"})
    sandbox.campaign.create("cusPurchase", CHILD)
    sandbox.campaign.delete("profile", "c1")
    assert len(sandbox.campaign.records("cusPurchase")) == left


def test_grandchildren_of_a_profile_are_on_ext_too(sandbox: Sandbox, admin: Caller, campaign: Caller) -> None:
    link = {
        "name": "cusPurchaseLink",
        "source_column": "cusPurchaseId",
        "target_resource": "cusPurchase",
        "target_key": "cusD365id",
    }
    resource = {
        "name": "cusItem",
        "key": "cusD365id",
        "attributes": [{"name": "cusD365id", "length": 36}, {"name": "cusPurchaseId", "length": 36}],
        "links": [link],
    }
    assert admin("POST", "/resources", json=resource).status_code == 201
    assert campaign.get("/profileAndServicesExt/cusItem").status_code == 200
    assert campaign.get("/customResources/cusItem").status_code == 404


def test_a_workflow_is_read_and_commanded(sandbox: Sandbox, campaign: Caller) -> None:
    """ "Controlling a workflow"; the state field is the sandbox's own."""
    path = "/workflow/execution/d365OptOutExport"
    assert campaign.json(path)["state"] == "started"
    for method, state in (("pause", "paused"), ("resume", "started"), ("stop", "stopped"), ("start", "started")):
        assert campaign("POST", path + "/commands", json={"method": method}).status_code == 200
        assert campaign.json(path)["state"] == state
    assert campaign.get("/workflow/execution/unknown").status_code == 404
