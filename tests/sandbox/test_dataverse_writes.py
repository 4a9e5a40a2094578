"""Single-row writes: "Create a table row", "Update and delete table rows", "Perform conditional operations"."""

import re

import pytest

from d365_campaign.sandbox import Sandbox

from .conftest import Caller

MISSING = "contacts(00000000-0000-4000-8000-000000000000)"


def test_create_answers_204_with_the_entity_id(sandbox: Sandbox, dataverse: Caller) -> None:
    response = dataverse("POST", "contacts", json={"firstname": "Ann", "lastname": "Bell"})
    assert (response.status_code, response.content) == (204, b"")
    row_id = re.search(r"contacts\(([0-9a-f-]{36})\)$", response.headers["OData-EntityId"])
    assert row_id
    assert sandbox.dataverse.get("contact", row_id[1])["fullname"] == "Ann Bell"


def test_create_can_echo_the_row(dataverse: Caller) -> None:
    prefer = {"Prefer": "return=representation"}
    response = dataverse("POST", "contacts?$select=firstname", json={"firstname": "Ann"}, headers=prefer)
    assert response.status_code == 201
    assert response.json()["firstname"] == "Ann"
    assert "OData-EntityId" not in response.headers


def test_a_given_primary_key_is_honoured_once(dataverse: Caller) -> None:
    row = {"contactid": "11111111-2222-4333-8444-555555555555", "lastname": "Given"}
    assert dataverse("POST", "contacts", json=row).status_code == 204
    again = dataverse("POST", "contacts", json=row)
    assert (again.status_code, again.json()["error"]["code"]) == (412, "0x80040237")


def test_read_shows_etag_and_answers_304_to_it(sandbox: Sandbox, dataverse: Caller) -> None:
    row_id = sandbox.dataverse.create("contact", {"lastname": "Etag"})
    first = dataverse.get(f"contacts({row_id})?$select=lastname")
    assert first.json()["@odata.etag"] == first.headers["ETag"]
    again = dataverse.get(f"contacts({row_id})", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304


def test_missing_rows_are_404_with_the_documented_message(dataverse: Caller) -> None:
    for method in ("GET", "DELETE"):
        response = dataverse(method, MISSING)
        assert response.status_code == 404
        assert response.json()["error"] == {
            "code": "0x80040217",
            "message": "contact With Id = 00000000-0000-4000-8000-000000000000 Does Not Exist",
        }


def test_update_only_and_insert_only(sandbox: Sandbox, dataverse: Caller) -> None:
    row_id = sandbox.dataverse.create("contact", {"lastname": "There"})
    update_missing = dataverse("PATCH", MISSING, json={"lastname": "x"}, headers={"If-Match": "*"})
    insert_existing = dataverse("PATCH", f"contacts({row_id})", json={"lastname": "x"}, headers={"If-None-Match": "*"})
    upsert_missing = dataverse("PATCH", MISSING, json={"lastname": "x"})
    assert [r.status_code for r in (update_missing, insert_existing, upsert_missing)] == [404, 412, 204]
    assert insert_existing.json()["error"]["message"] == "A record with matching key values already exists."


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_stale_etag_is_refused(sandbox: Sandbox, dataverse: Caller, method: str) -> None:
    row_id = sandbox.dataverse.create("contact", {"lastname": "One"})
    etag = dataverse.get(f"contacts({row_id})").headers["ETag"]
    sandbox.dataverse.update("contact", row_id, {"lastname": "Two"})
    stale = dataverse(method, f"contacts({row_id})", json={"lastname": "Three"}, headers={"If-Match": etag})
    assert (stale.status_code, stale.json()["error"]["code"]) == (412, "0x80060882")
    fresh = {"If-Match": dataverse.get(f"contacts({row_id})").headers["ETag"]}
    assert dataverse(method, f"contacts({row_id})", json={"lastname": "Three"}, headers=fresh).status_code == 204


def test_delete_removes_the_row(sandbox: Sandbox, dataverse: Caller) -> None:
    row_id = sandbox.dataverse.create("contact", {"lastname": "Gone"})
    assert dataverse("DELETE", f"contacts({row_id})", headers={"If-Match": "*"}).status_code == 204
    assert sandbox.dataverse.rows("contact") == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"firstname": "x" * 51}, "0x80044331"),
        ({"gendercode": 9}, "0x8004431A"),
        ({"Name": "x"}, "0x0"),
        ({"firstname": 1}, "0x80048d19"),
        ({"nothing@odata.bind": "/contacts(1)"}, "0x80048d19"),
    ],
    ids=["length", "choice", "unknown", "type", "navigation"],
)
def test_values_that_do_not_fit(dataverse: Caller, body: dict[str, object], code: str) -> None:
    response = dataverse("POST", "contacts", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, code)


def test_patch_on_a_collection_is_405(dataverse: Caller) -> None:
    assert dataverse("PATCH", "contacts", json={}).status_code == 405


def test_lookups_are_set_by_bind_and_cleared_by_ref(sandbox: Sandbox, dataverse: Caller) -> None:
    contact = sandbox.dataverse.create("contact", {"lastname": "Buyer"})
    bind = {"new_name": "P", "new_contactid@odata.bind": f"/contacts({contact})"}
    url = dataverse("POST", "new_purchases", json=bind).headers["OData-EntityId"]
    assert dataverse.json(url)["_new_contactid_value"] == contact
    assert dataverse("DELETE", url + "/new_contactid/$ref").status_code == 204
    assert dataverse.json(url)["_new_contactid_value"] is None


def test_customer_lookups_have_one_navigation_property_per_table(sandbox: Sandbox, dataverse: Caller) -> None:
    account = sandbox.dataverse.create("account", {"name": "Contoso"})
    bind = {"lastname": "Staff", "parentcustomerid_account@odata.bind": f"accounts({account})"}
    url = dataverse("POST", "contacts", json=bind).headers["OData-EntityId"]
    row = dataverse.json(url, headers={"Prefer": 'odata.include-annotations="*"'})
    assert row["_parentcustomerid_value"] == account
    assert row["_parentcustomerid_value@Microsoft.Dynamics.CRM.lookuplogicalname"] == "account"
    assert row["_parentcustomerid_value@OData.Community.Display.V1.FormattedValue"] == "Contoso"


def test_alternate_keys_address_upsert_and_stay_unique(sandbox: Sandbox, dataverse: Caller) -> None:
    """ "Use an alternate key to reference a record"."""
    assert dataverse.get("new_stores(new_code='S1')").json()["error"]["code"] == "0x80060891"
    assert dataverse("PATCH", "new_stores(new_code='S1')", json={"new_name": "One"}).status_code == 204
    assert dataverse("PATCH", "new_stores(new_code='S1')", json={"new_name": "Two"}).status_code == 204
    assert [row["new_name"] for row in sandbox.dataverse.rows("new_store")] == ["Two"]
    duplicate = dataverse("POST", "new_stores", json={"new_name": "Three", "new_code": "s1"})
    assert (duplicate.status_code, duplicate.json()["error"]["code"]) == (412, "0x80060892")
    undeclared = dataverse.get("contacts(emailaddress1='a@example.com')")
    assert undeclared.status_code == 400
    assert undeclared.json()["error"]["message"].startswith("The key in the request URI is not valid for resource")


def test_single_properties(sandbox: Sandbox, dataverse: Caller) -> None:
    row_id = sandbox.dataverse.create("contact", {"lastname": "Prop"})
    assert dataverse("PUT", f"contacts({row_id})/jobtitle", json={"value": "Nurse"}).status_code == 204
    assert sandbox.dataverse.get("contact", row_id)["jobtitle"] == "Nurse"
    assert dataverse("DELETE", f"contacts({row_id})/jobtitle").status_code == 204
    assert sandbox.dataverse.get("contact", row_id)["jobtitle"] is None
