"""Lists: "Filter rows using OData", "Page results using OData", "Count rows using OData"."""

import pytest

from d365_campaign.sandbox import Sandbox

from .conftest import Caller


def names(dataverse: Caller, condition: str) -> list[str]:
    answer = dataverse.json("contacts", params={"$select": "firstname", "$filter": condition})
    return sorted(row["firstname"] for row in answer["value"])


@pytest.fixture
def people(sandbox: Sandbox) -> Sandbox:
    for values in (
        {"firstname": "Ada", "lastname": "O'Hara", "numberofchildren": 2, "birthdate": "1990-05-01", "gendercode": 2},
        {"firstname": "Bob", "lastname": "Stone", "numberofchildren": None, "donotemail": True, "creditlimit": 10},
        {"firstname": "Cy", "lastname": "50% off", "emailaddress1": "cy@example.com", "creditlimit": 2000.5},
    ):
        sandbox.dataverse.create("contact", values)
    return sandbox


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("firstname eq 'ADA'", ["Ada"]),
        ("lastname eq 'O''Hara'", ["Ada"]),
        ("emailaddress1 eq null", ["Ada", "Bob"]),
        ("emailaddress1 ne null and creditlimit gt 100", ["Cy"]),
        ("donotemail eq true or firstname eq 'Cy'", ["Bob", "Cy"]),
        ("not (donotemail eq true)", ["Ada", "Cy"]),
        ("contains(lastname,'ton')", ["Bob"]),
        ("startswith(firstname,'c') or endswith(firstname,'b')", ["Bob", "Cy"]),
        ("birthdate ge 1990-05-01", ["Ada"]),
        ("createdon le 2999-01-01T00:00:00Z and numberofchildren ge 2", ["Ada"]),
        ('Microsoft.Dynamics.CRM.In(PropertyName=\'firstname\',PropertyValues=["Ada","Cy"])', ["Ada", "Cy"]),
        ("Microsoft.Dynamics.CRM.OnOrAfter(PropertyName='birthdate',PropertyValue='1990-01-01')", ["Ada"]),
        ("modifiedon ge 2020-01-01T00:00:00Z", ["Ada", "Bob", "Cy"]),
        ("modifiedon ge 2999-01-01T00:00:00Z", []),
        ("modifiedon ge 2999-01-01T00:00:00Z or firstname eq 'Bob'", ["Bob"]),
    ],
)
def test_filters(people: Sandbox, dataverse: Caller, condition: str, expected: list[str]) -> None:
    assert names(dataverse, condition) == expected


def test_a_row_is_found_by_its_guid_and_by_a_lookup(sandbox: Sandbox, dataverse: Caller) -> None:
    contact = sandbox.dataverse.create("contact", {"lastname": "Owner"})
    sandbox.dataverse.create("new_purchase", {"new_name": "One", "new_contactid": contact})
    by_id = dataverse.json("contacts", params={"$filter": f"contactid eq {contact.upper()}"})
    by_lookup = dataverse.json("new_purchases", params={"$filter": f"_new_contactid_value eq {contact}"})
    assert [row["contactid"] for row in by_id["value"]] == [contact]
    assert [row["_new_contactid_value"] for row in by_lookup["value"]] == [contact]


def test_unknown_columns_get_the_documented_message(dataverse: Caller) -> None:
    response = dataverse.get("contacts?$select=Name")
    assert response.status_code == 400
    assert response.json() == {
        "error": {
            "code": "0x0",
            "message": "Could not find a property named 'Name' on type 'Microsoft.Dynamics.CRM.contact'.",
        }
    }


def test_skip_is_refused(dataverse: Caller) -> None:
    assert dataverse.get("contacts?$skip=10").status_code == 400


def test_unknown_entity_sets_are_not_found(dataverse: Caller) -> None:
    response = dataverse.get("Account")
    assert response.status_code == 404
    assert response.json()["error"] == {
        "code": "0x8006088a",
        "message": "Resource not found for the segment 'Account'.",
    }


def test_pages_follow_the_cookie_until_there_is_no_next_link(sandbox: Sandbox, dataverse: Caller) -> None:
    sandbox.seed(25)
    prefer = {"Prefer": "odata.maxpagesize=10"}
    url, sizes, found = "contacts?%24select=firstname", [], []
    while url:
        page = dataverse.json(url, headers=prefer)
        sizes.append(len(page["value"]))
        found += [row["contactid"] for row in page["value"]]
        url = page.get("@odata.nextLink")
        assert url is None or "pagenumber%3D%22" in url
    assert sizes == [10, 10, 5]
    assert found == [row["contactid"] for row in sandbox.dataverse.rows("contact")]


def test_pages_are_evaluated_when_asked(sandbox: Sandbox, dataverse: Caller) -> None:
    ids = sorted(sandbox.seed(20))
    page = dataverse.json("contacts?$select=firstname", headers={"Prefer": "odata.maxpagesize=10"})
    sandbox.dataverse.delete("contact", ids[15])
    rest = dataverse.json(page["@odata.nextLink"])
    assert len(rest["value"]) == 9


def test_a_changed_row_is_not_served_from_an_old_page(sandbox: Sandbox, dataverse: Caller) -> None:
    row_id = sandbox.seed(3)[0]
    dataverse.json("contacts?$select=firstname")
    sandbox.dataverse.update("contact", row_id, {"firstname": "Changed"})
    rows = dataverse.json("contacts?$select=firstname")["value"]
    assert [row["firstname"] for row in rows if row["contactid"] == row_id] == ["Changed"]


def test_more_than_5000_rows_per_page_cannot_be_had(sandbox: Sandbox, dataverse: Caller) -> None:
    sandbox.seed(5001)
    page = dataverse.json("contacts?$select=firstname&$count=true", headers={"Prefer": "odata.maxpagesize=9000"})
    assert (len(page["value"]), page["@odata.count"]) == (5000, 5000)
    assert dataverse.get("contacts/$count").text == "5001"


def test_orderby_and_top(people: Sandbox, dataverse: Caller) -> None:
    rows = dataverse.json("contacts?$select=firstname&$orderby=firstname desc&$top=2")["value"]
    assert [row["firstname"] for row in rows] == ["Cy", "Bob"]


def test_ordered_lists_page_too(sandbox: Sandbox, dataverse: Caller) -> None:
    sandbox.seed(12)
    first = dataverse.json(
        "contacts?$select=lastname&$orderby=lastname,contactid", headers={"Prefer": "odata.maxpagesize=7"}
    )
    rest = dataverse.json(first["@odata.nextLink"], headers={"Prefer": "odata.maxpagesize=7"})
    found = [row["lastname"] for row in first["value"] + rest["value"]]
    assert len(found) == 12
    assert found == sorted(found, key=str.casefold)


def test_values_have_their_documented_wire_form(people: Sandbox, dataverse: Caller) -> None:
    response = dataverse.get("contacts?$select=creditlimit,birthdate,modifiedon,gendercode&$filter=firstname eq 'Cy'")
    assert '"creditlimit":2000.5000' in response.text
    row = response.json()["value"][0]
    assert row["birthdate"] is None
    assert row["modifiedon"].endswith("Z")
    assert row["_transactioncurrencyid_value"]


def test_formatted_values_come_only_when_asked_for(people: Sandbox, dataverse: Caller) -> None:
    path = "contacts?$select=gendercode&$filter=firstname eq 'Ada'"
    plain = dataverse.json(path)["value"][0]
    annotated = dataverse.json(path, headers={"Prefer": 'odata.include-annotations="*"'})["value"][0]
    assert len([name for name in plain if "FormattedValue" in name]) == 0
    assert annotated["gendercode@OData.Community.Display.V1.FormattedValue"] == "Female"


def test_every_answer_carries_the_service_headers(dataverse: Caller) -> None:
    headers = dataverse.get("contacts?$select=firstname").headers
    assert (headers["OData-Version"], headers["x-ms-dop-hint"]) == ("4.0", "4")
    assert headers["x-ms-ratelimit-burst-remaining-xrm-requests"] == "6000"


def test_service_protection_answers_429_with_a_wait(sandbox: Sandbox, dataverse: Caller) -> None:
    """ "Service protection API limits"; off unless switched on."""
    sandbox.settings.service_protection = True
    sandbox.settings.service_protection_requests = 2
    answers = [dataverse.get("WhoAmI") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["error"]["code"] == "0x80072322"
    sandbox.advance_clock(int(answers[2].headers["Retry-After"]) + 1)
    assert dataverse.get("WhoAmI").status_code == 200
