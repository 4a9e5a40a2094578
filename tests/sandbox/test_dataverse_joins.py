"""Rows joined to rows: "Join tables using OData", lambdas and paths of "Filter rows using OData", `$ref`."""

from typing import Any

import pytest

from d365_campaign.sandbox import Sandbox

from .conftest import Caller


@pytest.fixture
def ids(sandbox: Sandbox) -> dict[str, str]:
    """Ada leads Contoso and Fabrikam; Bob, who has no purchase, leads nothing."""
    create = sandbox.dataverse.create
    ada, bob = (create("contact", {"firstname": name, "lastname": "L"}) for name in ("Ada", "Bob"))
    made = {"ada": ada, "bob": bob}
    for name in ("Contoso", "Fabrikam"):
        made[name] = create("account", {"name": name, "primarycontactid": ada})
    made["Lonely"] = create("account", {"name": "Lonely"})
    for number in range(3):
        create("new_purchase", {"new_name": f"P{number}", "new_quantity": number, "new_contactid": ada})
    return made


def names(dataverse: Caller, path: str, column: str = "name") -> list[Any]:
    return [row[column] for row in dataverse.json(path)["value"]]


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("primarycontactid/firstname eq 'ada'", ["Contoso", "Fabrikam"]),
        ("primarycontactid/firstname eq 'ada' and startswith(name,'F')", ["Fabrikam"]),
        ("primarycontactid/firstname eq null", ["Lonely"]),
        ("contains(primarycontactid/lastname,'l')", ["Contoso", "Fabrikam"]),
        ("_primarycontactid_value eq null", ["Lonely"]),
    ],
)
def test_filters_walk_lookups(ids: dict[str, str], dataverse: Caller, condition: str, found: list[str]) -> None:
    assert sorted(names(dataverse, f"accounts?$filter={condition}")) == found


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("account_primary_contact/any()", ["Ada"]),
        ("account_primary_contact/any(a:a/name eq 'Contoso')", ["Ada"]),
        ("not account_primary_contact/any(a:a/name eq 'Contoso')", ["Bob"]),
        ("contact_new_purchase_new_contactid/all(p:p/new_quantity ge 1)", ["Bob"]),
        ("contact_new_purchase_new_contactid/any(p:p/new_quantity ge 2 and p/new_name eq 'P2')", ["Ada"]),
    ],
)
def test_filters_look_into_collections(
    ids: dict[str, str], dataverse: Caller, condition: str, found: list[str]
) -> None:
    assert sorted(names(dataverse, f"contacts?$filter={condition}", "firstname")) == found


def test_expand_of_a_lookup_is_an_object_or_null(ids: dict[str, str], dataverse: Caller) -> None:
    rows = dataverse.json("accounts?$select=name&$expand=primarycontactid($select=firstname)&$orderby=name")["value"]
    assert [row["primarycontactid"] and row["primarycontactid"]["firstname"] for row in rows] == ["Ada", "Ada", None]
    assert set(rows[0]["primarycontactid"]) == {"@odata.etag", "firstname", "contactid"}


def test_expand_of_a_collection_takes_options_and_a_next_link(ids: dict[str, str], dataverse: Caller) -> None:
    inner = "$select=new_name;$filter=new_quantity ge 1;$orderby=new_quantity desc;$top=1"
    name = "contact_new_purchase_new_contactid"
    rows = dataverse.json(f"contacts?$select=firstname&$orderby=firstname&$expand={name}({inner})")["value"]
    assert [[child["new_name"] for child in row[name]] for row in rows] == [["P2"], []]
    assert len(dataverse.json(rows[0][f"{name}@odata.nextLink"])["value"]) == 1


def test_expands_nest_and_are_limited(ids: dict[str, str], dataverse: Caller) -> None:
    nested = "account_primary_contact($select=name;$expand=primarycontactid($select=firstname))"
    ada = dataverse.json(f"contacts({ids['ada']})?$select=lastname&$expand={nested}")
    assert ada["account_primary_contact"][0]["primarycontactid"]["firstname"] == "Ada"
    many = ",".join(["primarycontactid"] * 16)
    assert dataverse.get(f"accounts?$expand={many}").json()["error"]["code"] == "0x80060888"


@pytest.mark.parametrize(
    ("expand", "status", "text"),
    [
        ("PrimaryContactId", 400, "Could not find a property named 'PrimaryContactId'"),
        ("primarycontactid($filter=firstname eq 'x')", 400, "'$filter' is not supported"),
        ("contact_customer_accounts/$ref", 400, "$ref is not supported"),
        ("ownerid", 400, "Could not find a property named 'ownerid'"),
        ("ownerid_systemuser", 501, "The sandbox does not implement the table 'systemuser'"),
    ],
)
def test_expands_that_are_refused(dataverse: Caller, expand: str, status: int, text: str) -> None:
    response = dataverse.get(f"accounts?$expand={expand}")
    assert response.status_code == status
    assert text in response.json()["error"]["message"]


def test_lookups_sort_by_the_name_they_show(ids: dict[str, str], sandbox: Sandbox, dataverse: Caller) -> None:
    sandbox.dataverse.update("account", ids["Lonely"], {"primarycontactid": ids["bob"]})
    sandbox.dataverse.update("contact", ids["ada"], {"firstname": "Zoe"})
    assert names(dataverse, "accounts?$orderby=_primarycontactid_value,name") == ["Lonely", "Contoso", "Fabrikam"]
    assert names(dataverse, "accounts?$orderby=primarycontactid/firstname desc,name")[0] == "Contoso"


def test_navigation_is_read_below_a_row(ids: dict[str, str], dataverse: Caller) -> None:
    """ "Retrieve a table row using the Web API"."""
    row = f"contacts({ids['ada']})"
    assert dataverse.json(f"accounts({ids['Contoso']})/primarycontactid?$select=firstname")["firstname"] == "Ada"
    assert dataverse.get(f"accounts({ids['Lonely']})/primarycontactid").status_code == 204
    assert sorted(names(dataverse, f"{row}/account_primary_contact?$select=name")) == ["Contoso", "Fabrikam"]
    assert dataverse.json(f"{row}/firstname")["value"] == "Ada"
    assert dataverse.get(f"{row}/firstname/$value").text == "Ada"
    assert dataverse.get(f"{row}/jobtitle").status_code == 204
    assert dataverse.get(f"{row}/nothing").status_code == 400


def test_rows_are_associated_and_disassociated(ids: dict[str, str], sandbox: Sandbox, dataverse: Caller) -> None:
    """ "Associate and disassociate table rows using the Web API"."""
    bob, lonely = f"contacts({ids['bob']})", f"accounts({ids['Lonely']})"
    absolute = f"{dataverse.base}{lonely}"

    def leader() -> object:
        return sandbox.dataverse.get("account", ids["Lonely"])["_primarycontactid_value"]

    assert dataverse("POST", f"{bob}/account_primary_contact/$ref", json={"@odata.id": absolute}).status_code == 204
    assert leader() == ids["bob"]
    assert dataverse.json(f"{lonely}/primarycontactid/$ref")["@odata.id"] == f"{dataverse.base}{bob}"
    assert len(dataverse.json(f"{bob}/account_primary_contact/$ref")["value"]) == 1
    assert dataverse("DELETE", f"{bob}/account_primary_contact({ids['Lonely']})/$ref").status_code == 204
    assert leader() is None
    assert dataverse("PUT", f"{lonely}/primarycontactid/$ref", json={"@odata.id": bob}).status_code == 204
    assert leader() == ids["bob"]
    removed = dataverse("DELETE", f"{bob}/account_primary_contact/$ref?$id={absolute}")
    assert (removed.status_code, leader()) == (204, None)


@pytest.mark.parametrize(
    ("function", "found"),
    [
        ("Today(PropertyName='createdon')", 2),
        ("LastXDays(PropertyName='createdon',PropertyValue=7)", 2),
        ("Yesterday(PropertyName='createdon')", 0),
        ("OlderThanXDays(PropertyName='createdon',PropertyValue=1)", 0),
        ("ThisYear(PropertyName='createdon')", 2),
        ("In(PropertyName='firstname',PropertyValues=['ada','eve'])", 1),
        ("BeginsWith(PropertyName='firstname',PropertyValue='b')", 1),
    ],
)
def test_query_functions(ids: dict[str, str], dataverse: Caller, function: str, found: int) -> None:
    """ "Web API query functions", with and without values; times are the sandbox clock's."""
    assert len(dataverse.json(f"contacts?$filter=Microsoft.Dynamics.CRM.{function}")["value"]) == found
