"""Metadata: "Query table definitions using the Web API", "Work with alternate keys"."""

import json
from typing import Any

import pytest

from d365_campaign.sandbox import Sandbox

from .conftest import Caller

CONTACT = "EntityDefinitions(LogicalName='contact')"


def by_name(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["LogicalName"]: item for item in answer["value"]}


def test_the_service_document_lists_entity_sets(dataverse: Caller) -> None:
    assert "contacts" in [entry["name"] for entry in dataverse.json("")["value"]]


def test_a_table_is_found_by_name_filter_and_metadata_id(dataverse: Caller) -> None:
    select = "$select=LogicalName,EntitySetName,PrimaryIdAttribute,ChangeTrackingEnabled"
    direct = dataverse.json(f"{CONTACT}?{select}")
    assert (direct["EntitySetName"], direct["PrimaryIdAttribute"]) == ("contacts", "contactid")
    filtered = dataverse.json(f"EntityDefinitions?{select}&$filter=LogicalName eq 'contact'")["value"]
    by_id = dataverse.json(f"EntityDefinitions({direct['MetadataId']})?{select}")
    assert filtered[0]["MetadataId"] == by_id["MetadataId"] == direct["MetadataId"]
    assert set(filtered[0]) == {"MetadataId", *select.removeprefix("$select=").split(",")}


def test_tracked_tables_can_be_listed(dataverse: Caller) -> None:
    found = by_name(dataverse.json("EntityDefinitions?$select=LogicalName&$filter=ChangeTrackingEnabled eq true"))
    assert {"contact", "new_purchase", "new_store"} <= set(found)
    assert "new_untracked" not in found


def test_unknown_tables_are_404(dataverse: Caller) -> None:
    assert dataverse.get("EntityDefinitions(LogicalName='nothing')").status_code == 404


def test_plain_attributes_have_base_properties_only(dataverse: Caller) -> None:
    found = by_name(dataverse.json(f"{CONTACT}/Attributes"))
    assert found["firstname"]["AttributeType"] == "String"
    assert "MaxLength" not in found["firstname"]
    assert found["fullname"]["IsValidForUpdate"] is False
    assert found["lastname"]["RequiredLevel"]["Value"] == "ApplicationRequired"


@pytest.mark.parametrize(
    ("table", "cast", "column", "expected"),
    [
        ("contact", "String", "firstname", {"MaxLength": 50}),
        ("contact", "Memo", "description", {"MaxLength": 2000}),
        ("contact", "Integer", "numberofchildren", {"MaxValue": 2147483647}),
        ("contact", "BigInt", "versionnumber", {"AttributeType": "BigInt"}),
        ("contact", "Money", "creditlimit", {"Precision": 2}),
        ("contact", "DateTime", "birthdate", {"DateTimeBehavior": {"Value": "DateOnly"}}),
        ("contact", "DateTime", "modifiedon", {"DateTimeBehavior": {"Value": "UserLocal"}}),
        ("contact", "Lookup", "parentcustomerid", {"Targets": ["account", "contact"]}),
        ("new_purchase", "Decimal", "new_amount", {"Precision": 2}),
        ("new_purchase", "Double", "new_weight", {"Precision": 5}),
    ],
)
def test_casts_show_the_properties_of_the_type(
    dataverse: Caller, table: str, cast: str, column: str, expected: dict[str, Any]
) -> None:
    path = f"EntityDefinitions(LogicalName='{table}')/Attributes/Microsoft.Dynamics.CRM.{cast}AttributeMetadata"
    found = by_name(dataverse.json(path))[column]
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("cast", ["Picklist", "State", "Status"])
def test_choices_expand_to_their_options(dataverse: Caller, cast: str) -> None:
    path = f"{CONTACT}/Attributes/Microsoft.Dynamics.CRM.{cast}AttributeMetadata"
    items = dataverse.json(f"{path}?$select=LogicalName&$expand=OptionSet($select=Options)")["value"]
    option = items[0]["OptionSet"]["Options"][0]
    assert option["Label"]["UserLocalizedLabel"]["Label"]
    assert isinstance(option["Value"], int)


def changes(dataverse: Caller, table: str, properties: list[str], columns: list[str]) -> Any:
    named = {
        "PropertyName": "LogicalName",
        "ConditionOperator": "Equals",
        "Value": {"Type": "System.String", "Value": table},
    }
    query = {
        "Criteria": {"FilterOperator": "And", "Conditions": [named]},
        "Properties": {"AllProperties": False, "PropertyNames": properties},
        "AttributeQuery": {"Properties": {"AllProperties": False, "PropertyNames": columns}},
    }
    return dataverse.json("RetrieveMetadataChanges(Query=@p1)", params={"@p1": json.dumps(query)})["EntityMetadata"]


def test_one_query_tells_a_table_and_the_details_of_its_columns(dataverse: Caller) -> None:
    """ "Query schema definitions": details of derived types in a single request; what wasn't asked for is null."""
    wanted = ["AttributeType", "OptionSet", "Targets", "DateTimeBehavior"]
    [contact] = changes(dataverse, "contact", ["EntitySetName", "Attributes"], wanted)
    columns = {column["LogicalName"]: column for column in contact["Attributes"]}
    assert (contact["LogicalName"], contact["EntitySetName"], contact["SchemaName"]) == ("contact", "contacts", None)
    assert columns["gendercode"]["@odata.type"] == "#Microsoft.Dynamics.CRM.ComplexPicklistAttributeMetadata"
    labels = [
        option["Label"]["UserLocalizedLabel"]["Label"] for option in columns["gendercode"]["OptionSet"]["Options"]
    ]
    assert labels == ["Male", "Female"]
    assert columns["donotemail"]["OptionSet"]["TrueOption"]["Value"] == 1
    assert columns["parentcustomerid"]["Targets"] == ["account", "contact"]
    assert columns["birthdate"]["DateTimeBehavior"] == {"Value": "DateOnly"}
    assert columns["firstname"]["MaxLength"] is None
    assert columns["firstname"].get("Targets") is None


def test_columns_are_told_only_when_asked_for_and_unknown_tables_are_none(dataverse: Caller) -> None:
    """ "Query schema definitions": `Attributes` must be one of the properties requested."""
    [contact] = changes(dataverse, "contact", ["EntitySetName"], ["AttributeType"])
    assert contact["Attributes"] is None
    assert changes(dataverse, "nothing", ["Attributes"], []) == []


def test_booleans_expand_to_true_and_false_options(dataverse: Caller) -> None:
    path = f"{CONTACT}/Attributes/Microsoft.Dynamics.CRM.BooleanAttributeMetadata?$expand=OptionSet"
    options = by_name(dataverse.json(path))["donotemail"]["OptionSet"]
    assert options["TrueOption"]["Label"]["UserLocalizedLabel"]["Label"] == "Do Not Allow"


def test_relationships_name_the_navigation_property(dataverse: Caller) -> None:
    found = dataverse.json("EntityDefinitions(LogicalName='new_purchase')/ManyToOneRelationships")["value"]
    names = {item["ReferencingAttribute"]: item["ReferencingEntityNavigationPropertyName"] for item in found}
    assert names["new_contactid"] == "new_contactid"


def test_keys_are_listed_as_active(dataverse: Caller) -> None:
    key = dataverse.json("EntityDefinitions(LogicalName='new_store')/Keys")["value"][0]
    assert (key["KeyAttributes"], key["EntityKeyIndexStatus"]) == (["new_code"], "Active")


def test_a_table_can_be_added_over_the_admin_address(sandbox: Sandbox, admin: Caller, dataverse: Caller) -> None:
    columns = [{"name": "new_name", "max_length": 40}, {"name": "new_kind", "type": "Picklist", "options": {"1": "A"}}]
    table = {"name": "new_pet", "entity_set": "new_pets", "primary_name": "new_name", "columns": columns}
    assert admin("POST", "/tables", json=table).status_code == 201
    assert dataverse("POST", "new_pets", json={"new_name": "Rex", "new_kind": 1}).status_code == 204
    assert dataverse.json("new_pets")["value"][0]["new_kind"] == 1
