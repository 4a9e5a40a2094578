"""Accounts, which profiles lead to, and purchases, which lead to profiles ("Custom resources", "Privacy requests")."""

import pytest

from d365_campaign.sandbox import Attribute, LinkDefinition, ResourceDefinition, Sandbox

from .conftest import Caller

EXT = "/profileAndServicesExt"
ACCOUNT = {
    "cusD365id": "a1",
    "cusName": "Contoso",
    "cusNumber": "A1",
    "cusWebsite": "https://contoso.example.com",
    "cusCity": "Wien",
    "cusEmployees": 12,
    "cusRevenue": 1234.56,
}


def test_a_resource_that_profiles_lead_to_is_linked(campaign: Caller) -> None:
    assert campaign("POST", f"{EXT}/cusAccount", json=ACCOUNT).status_code == 201
    assert campaign.json(f"{EXT}/cusAccount/a1").items() >= ACCOUNT.items()
    assert campaign.get("/customResources/cusAccount").status_code == 404
    assert campaign.json(EXT)["cusAccount"]["data"] == f"{EXT}/cusAccount/"


def test_so_is_one_that_a_linked_resource_leads_to(sandbox: Sandbox, campaign: Caller) -> None:
    """As Product in the page's picture: transaction details lead to it, and through transactions to profiles."""
    key = Attribute("cusD365id", length=36)
    product = ResourceDefinition("cusProduct", (key,), key="cusD365id")
    details = ResourceDefinition(
        "cusDetails",
        (key, Attribute("cusPurchaseId", length=36), Attribute("cusProductId", length=36)),
        key="cusD365id",
        links=(
            LinkDefinition("cusPurchaseLink", "cusPurchaseId", "cusPurchase", "cusD365id"),
            LinkDefinition("cusProductLink", "cusProductId", "cusProduct", "cusD365id"),
        ),
    )
    sandbox.campaign.register(product)
    assert campaign.get("/customResources/cusProduct").status_code == 200
    sandbox.campaign.register(details)
    assert campaign.get("/customResources/cusProduct").status_code == 404
    assert campaign.get(f"{EXT}/cusProduct").status_code == campaign.get(f"{EXT}/cusDetails").status_code == 200


def test_a_profiles_account_is_null_until_it_arrives(campaign: Caller) -> None:
    profile = campaign("POST", f"{EXT}/profile", json={"externalId": "c1", "cusAccountId": "a1"}).json()
    assert profile["cusAccountLink"] is None
    campaign("POST", f"{EXT}/cusAccount", json=ACCOUNT)
    link = campaign.json(f"{EXT}/profile/c1")["cusAccountLink"]
    assert link["title"] == "Contoso"
    account = campaign.json(link["href"])
    assert [item["externalId"] for item in campaign.json(account["cusProfilesLink"]["href"])["content"]] == ["c1"]


def test_the_built_in_endpoint_knows_nothing_of_accounts(campaign: Caller) -> None:
    campaign("POST", f"{EXT}/profile", json={"externalId": "c1", "cusAccountId": "a1"})
    assert not {"cusAccountId", "cusAccountLink"} & campaign.json("/profileAndServices/profile/c1").keys()


def test_profiles_stay_when_their_account_is_deleted(sandbox: Sandbox, campaign: Caller) -> None:
    campaign("POST", f"{EXT}/cusAccount", json=ACCOUNT)
    campaign("POST", f"{EXT}/profile", json={"externalId": "c1", "cusAccountId": "a1"})
    assert campaign("DELETE", f"{EXT}/cusAccount/a1").status_code == 200
    profile = campaign.json(f"{EXT}/profile/c1")
    assert (profile["cusAccountId"], profile["cusAccountLink"]) == ("a1", None)


@pytest.mark.parametrize("by", ["key", "PKey", "privacy request"])
def test_deleting_a_profile_deletes_its_purchases(sandbox: Sandbox, campaign: Caller, by: str) -> None:
    """R11, R121: the link has the delete option that personal data asks for. Other profiles' purchases stay."""
    profile = campaign("POST", f"{EXT}/profile", json={"externalId": "c1", "email": "ada@example.com"}).json()
    for purchase, contact in (("p1", "c1"), ("p2", "c1"), ("p3", "c2")):
        campaign("POST", f"{EXT}/cusPurchase", json={"cusD365id": purchase, "cusContactId": contact})
    if by == "privacy request":
        request_deletion(campaign, "ada@example.com")
        sandbox.advance_clock(sandbox.settings.privacy_request_seconds)
    else:
        address = "c1" if by == "key" else profile["PKey"]
        assert campaign("DELETE", f"{EXT}/profile/{address}").status_code == 200
    left = campaign.json(f"{EXT}/cusPurchase")["content"]
    assert [record["cusD365id"] for record in left] == ["p3"]
    assert campaign.get(f"{EXT}/cusPurchase/p1").status_code == 404
    again = campaign("POST", f"{EXT}/cusPurchase", json={"cusD365id": "p1", "cusContactId": "c1"})
    assert again.status_code == 201, "the key is free again"


def request_deletion(campaign: Caller, email: str) -> None:
    wanted = {
        "name": "r1",
        "namespaceName": "defaultNamespace1",
        "reconciliationValue": email,
        "label": "r1",
        "type": "delete",
        "regulation": "gdpr",
    }
    assert campaign("POST", "/privacy/privacyTool", json=wanted).status_code == 201
