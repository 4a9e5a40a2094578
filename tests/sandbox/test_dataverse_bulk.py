"""Bulk messages: "Use bulk operation messages" and "BulkDelete action"."""

from typing import Any

import pytest

from d365_campaign.sandbox import Sandbox

from .conftest import Caller

MISSING = "00000000-0000-4000-8000-000000000000"


def targets(*values: dict[str, Any], table: str = "contact") -> dict[str, Any]:
    return {"Targets": [{"@odata.type": f"Microsoft.Dynamics.CRM.{table}", **value} for value in values]}


def test_each_target_names_its_table(dataverse: Caller) -> None:
    url = "contacts/Microsoft.Dynamics.CRM.CreateMultiple"
    untyped: dict[str, Any] = {"Targets": [{"lastname": "x"}]}
    for body in (untyped, targets({"name": "x"}, table="account"), targets()):
        assert dataverse("POST", url, json=body).json()["error"]["code"] == "0x80048d19"


def test_update_multiple_takes_the_first_of_two_items_for_one_row(sandbox: Sandbox, dataverse: Caller) -> None:
    row_id = sandbox.dataverse.create("contact", {"lastname": "x"})
    body = targets({"contactid": row_id, "lastname": "first"}, {"contactid": row_id, "lastname": "second"})
    response = dataverse("POST", "contacts/Microsoft.Dynamics.CRM.UpdateMultiple", json=body)
    assert (response.status_code, response.content) == (204, b"")
    assert sandbox.dataverse.get("contact", row_id)["lastname"] == "first"


def test_update_multiple_of_a_missing_row(dataverse: Caller) -> None:
    body = targets({"contactid": MISSING, "lastname": "x"})
    error = dataverse("POST", "contacts/Microsoft.Dynamics.CRM.UpdateMultiple", json=body).json()["error"]
    assert error == {"code": "0x80040217", "message": f"Contact With Ids = {MISSING} Do Not Exist"}


def test_upsert_multiple_by_key_and_by_id(sandbox: Sandbox, dataverse: Caller) -> None:
    url = "new_stores/Microsoft.Dynamics.CRM.UpsertMultiple"
    by_key = {"@odata.id": "new_stores(new_code='a')", "new_name": "A"}
    by_id = {"new_storeid": MISSING, "new_name": "B"}
    assert dataverse("POST", url, json=targets(by_key, by_id, table="new_store")).status_code == 204
    assert {row["new_name"] for row in sandbox.dataverse.rows("new_store")} == {"A", "B"}
    twice = dataverse("POST", url, json=targets(by_key, by_key, table="new_store"))
    assert twice.json()["error"]["code"] == "0x80040237"


def test_upsert_multiple_accepts_the_key_in_the_body_of_a_row_that_exists(sandbox: Sandbox, dataverse: Caller) -> None:
    """Python SDK pull request 127."""
    url = "new_stores/Microsoft.Dynamics.CRM.UpsertMultiple"
    item = {"@odata.id": "new_stores(new_code='a')", "new_code": "a", "new_name": "A"}
    assert dataverse("POST", url, json=targets(item, table="new_store")).json()["error"]["code"] == "0x80040216"
    sandbox.dataverse.create("new_store", {"new_code": "a", "new_name": "old"})
    assert dataverse("POST", url, json=targets(item, table="new_store")).status_code == 204


def test_delete_multiple_is_for_elastic_tables(dataverse: Caller) -> None:
    error = dataverse("POST", "contacts/Microsoft.Dynamics.CRM.DeleteMultiple", json={"Targets": []}).json()["error"]
    assert error["message"] == "DeleteMultiple has not yet been implemented."


@pytest.mark.parametrize("missing", [(), ("contact",)], ids=["known", "unknown"])
def test_which_tables_know_bulk_messages_is_a_setting(
    sandbox: Sandbox, dataverse: Caller, missing: tuple[str, ...]
) -> None:
    sandbox.settings.update({"bulk_messages_missing": list(missing)})
    test = "sdkmessageid/name eq 'UpdateMultiple' and primaryobjecttypecode eq 'contact'"
    found = dataverse.json("sdkmessagefilters", params={"$select": "sdkmessagefilterid", "$filter": test})["value"]
    created = dataverse("POST", "contacts/Microsoft.Dynamics.CRM.CreateMultiple", json=targets({"lastname": "x"}))
    assert (bool(found), created.status_code) == ((False, 400) if missing else (True, 200))


@pytest.mark.parametrize("seconds", [0.0, 60.0], ids=["at once", "a minute later"])
def test_bulk_delete_is_a_job(sandbox: Sandbox, dataverse: Caller, seconds: float) -> None:
    sandbox.settings.update({"bulk_delete_seconds": seconds})
    row_id = sandbox.dataverse.create("contact", {"lastname": "x"})
    condition = {"AttributeName": "contactid", "Operator": "In", "Values": [{"Value": row_id, "Type": "System.Guid"}]}
    query = {"EntityName": "contact", "Criteria": {"Conditions": [condition]}}
    job = dataverse("POST", "BulkDelete", json={"JobName": "x", "QuerySet": [query]}).json()["JobId"]
    if seconds:
        assert dataverse.json(f"asyncoperations({job})")["statecode"] == 0
        assert len(sandbox.dataverse.rows("contact")) == 1
        sandbox.advance_clock(seconds)
    assert dataverse.json(f"asyncoperations({job})")["statuscode"] == 30
    assert sandbox.dataverse.rows("contact") == []


def test_bulk_delete_by_other_conditions_is_refused_aloud(dataverse: Caller) -> None:
    query = {"EntityName": "contact", "Criteria": {"Conditions": []}}
    assert dataverse("POST", "BulkDelete", json={"QuerySet": [query]}).status_code == 501
