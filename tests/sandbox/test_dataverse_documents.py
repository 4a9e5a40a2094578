"""Documents about the environment, and requests the sandbox or Dataverse refuses."""

from xml.etree import ElementTree

import pytest

from d365_campaign.sandbox import Column, Option, Sandbox, TableDefinition

from .conftest import Caller

EDM = "{http://docs.oasis-open.org/odata/ns/edm}"


def test_the_service_document_names_the_entity_sets(dataverse: Caller) -> None:
    """ "Web API service documents"."""
    assert {"name": "contacts", "kind": "EntitySet", "url": "contacts"} in dataverse.json("")["value"]


@pytest.mark.parametrize("annotations", [False, True])
def test_the_metadata_document_is_csdl(dataverse: Caller, annotations: bool) -> None:
    response = dataverse.get("$metadata" + ("?annotations=true" if annotations else ""))
    assert response.headers["Content-Type"].startswith("application/xml")
    root = ElementTree.fromstring(response.content)
    contact = next(item for item in root.iter(f"{EDM}EntityType") if item.get("Name") == "contact")
    kinds = {item.get("Name"): item.get("Type") for item in contact.iter(f"{EDM}Property")}
    assert (kinds["birthdate"], kinds["createdon"], kinds["creditlimit"]) == (
        "Edm.Date",
        "Edm.DateTimeOffset",
        "Edm.Decimal",
    )
    assert "gendercodename" not in kinds
    paths = {item.get("Name") for item in contact.iter(f"{EDM}NavigationProperty")}
    assert {"parentcustomerid_account", "account_primary_contact"} <= paths
    terms = [item.get("Term") for item in root.iter(f"{EDM}Annotation")]
    assert ("Org.OData.Capabilities.V1.ChangeTracking" in terms) is annotations


def test_total_record_counts(sandbox: Sandbox, dataverse: Caller) -> None:
    """ "RetrieveTotalRecordCount function", both ways to name the tables."""
    sandbox.seed(3)
    for path in ("(EntityNames=['contact'])", '(EntityNames=@p1)?@p1=["contact"]'):
        found = dataverse.json(f"RetrieveTotalRecordCount{path}")["EntityRecordCountCollection"]
        assert (found["Keys"], found["Values"]) == (["contact"], [3])


def test_relationships_from_both_sides(dataverse: Caller) -> None:
    """ "Query table definitions using the Web API"."""
    many = dataverse.json("EntityDefinitions(LogicalName='contact')/OneToManyRelationships?$select=SchemaName")["value"]
    assert "account_primary_contact" in {item["SchemaName"] for item in many}
    one = dataverse.json("EntityDefinitions(LogicalName='account')/ManyToOneRelationships")["value"]
    primary = next(item for item in one if item["ReferencingAttribute"] == "primarycontactid")
    assert primary["ReferencedEntityNavigationPropertyName"] == "account_primary_contact"
    assert dataverse.json("EntityDefinitions(LogicalName='contact')/ManyToManyRelationships")["value"] == []


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("IsPrivate eq false and (LogicalName eq 'contact' or LogicalName eq 'account')", 2),
        ("startswith(LogicalName,'new_') and not (ChangeTrackingEnabled eq true)", 1),
        ("CanChangeTrackingBeEnabled/Value eq true", 5),
        ("ObjectTypeCode lt 3", 2),
    ],
)
def test_filters_on_definitions(dataverse: Caller, condition: str, found: int) -> None:
    assert len(dataverse.json(f"EntityDefinitions?$select=LogicalName&$filter={condition}")["value"]) == found


def test_a_filter_on_definitions_that_makes_no_sense_is_refused(dataverse: Caller) -> None:
    for condition in ("LogicalName like 'x'", "Nothing eq 1", "LogicalName eq"):
        assert dataverse.get(f"EntityDefinitions?$filter={condition}").status_code == 400


def test_virtual_columns_are_described_but_no_properties(sandbox: Sandbox, dataverse: Caller) -> None:
    """Companions of choices are Virtual; a choice of several values calls itself Virtual too, but has values."""
    columns = (
        Column("new_name", max_length=100),
        Column("new_image", "Virtual"),
        Column("new_tags", "Virtual", options=(Option(1, "One"), Option(2, "Two"))),
    )
    sandbox.dataverse.register(TableDefinition("new_odd", "new_odds", columns, "new_name"))
    found = dataverse.json("EntityDefinitions(LogicalName='new_odd')/Attributes")["value"]
    kinds = {item["LogicalName"]: (item["AttributeType"], item["AttributeTypeName"]["Value"]) for item in found}
    assert kinds["new_image"] == ("Virtual", "VirtualType")
    assert kinds["new_tags"] == ("Virtual", "MultiSelectPicklistType")
    assert next(item for item in found if item["LogicalName"] == "statecodename")["AttributeOf"] == "statecode"
    assert dataverse("POST", "new_odds", json={"new_name": "x", "new_tags": "2,1"}).status_code == 204
    assert dataverse.json("new_odds")["value"][0]["new_tags"] == "2,1"
    assert dataverse.get("new_odds?$select=new_image").json()["error"]["code"] == "0x0"
    cast = "Attributes/Microsoft.Dynamics.CRM.MultiSelectPicklistAttributeMetadata?$expand=OptionSet($select=Options)"
    options = dataverse.json(f"EntityDefinitions(LogicalName='new_odd')/{cast}")["value"]
    assert len(options[0]["OptionSet"]["Options"]) == 2


@pytest.mark.parametrize(
    "query", ["fetchXml=<fetch/>", "sql=select 1", "savedQuery=1", "$apply=aggregate($count as n)"]
)
def test_other_query_languages_are_refused_aloud(dataverse: Caller, query: str) -> None:
    response = dataverse.get(f"contacts?{query}")
    assert response.status_code == 501
    assert response.json()["error"]["message"].startswith("The sandbox does not implement ")


def test_what_dataverse_itself_refuses(dataverse: Caller) -> None:
    assert dataverse.get("contacts?$search=x").status_code == 400
    wrong_verb = dataverse("POST", "WhoAmI", json={})
    assert wrong_verb.status_code == 404
    assert wrong_verb.json()["error"]["code"] == ""
    assert "No HTTP resource was found" in wrong_verb.json()["error"]["message"]
    assert dataverse("POST", "Account", json={}).json()["error"]["code"] == "0x8006088a"


@pytest.mark.parametrize("key", ["a%26b", "a%2Bb", "a:b", "a%2Fb"])
def test_some_characters_never_survive_in_a_key(sandbox: Sandbox, dataverse: Caller, key: str) -> None:
    """ "Work with alternate keys": such values make GET and PATCH by key fail."""
    assert dataverse.get(f"new_stores(new_code='{key}')").status_code in (400, 404)
    assert dataverse("PATCH", f"new_stores(new_code='{key}')", json={"new_name": "x"}).status_code in (400, 404)
    assert sandbox.dataverse.rows("new_store") == []


def test_error_details_come_when_annotations_are_asked_for(dataverse: Caller) -> None:
    """ "Compose HTTP requests and handle errors"."""
    prefer = {"Prefer": 'odata.include-annotations="*"'}
    error = dataverse.get("contacts?$select=nothing", headers=prefer).json()["error"]
    assert error["@Microsoft.PowerApps.CDS.InnerError.Message"] == error["message"]
    assert "@Microsoft.PowerApps.CDS.HelpLink" in error
