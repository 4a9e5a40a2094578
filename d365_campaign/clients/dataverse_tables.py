"""Dataverse tables by their metadata ("Query schema definitions"): what is asked, and what the answer says."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from d365_campaign.clients.dataverse_faults import NO_SUCH_TABLE
from d365_campaign.clients.http import Answer
from d365_campaign.errors import ConfigurationError, RetriableError
from d365_campaign.field_types import LOOKUPS, source_type
from d365_campaign.schemas import SourceColumn, SourceTable

# Asked for in one query, columns of every type come with the properties of their type; what a type doesn't have is
# null. The definitions under `EntityDefinitions` would take a request per type of column.
TABLE_PROPERTIES = ("EntitySetName", "PrimaryIdAttribute", "ChangeTrackingEnabled", "Attributes")
COLUMN_PROPERTIES = (
    "AttributeType",
    "AttributeTypeName",
    "IsValidForRead",
    "DateTimeBehavior",
    "OptionSet",
    "Targets",
)
# The one kind of `Virtual` column that is a property of its rows; the others only accompany another column.
MULTI_CHOICE = "MultiSelectPicklist"


def definition_of(table: str) -> str:
    """Where everything that a mapping needs to know of *table* is read, with one request."""
    named = {"PropertyName": "LogicalName", "ConditionOperator": "Equals", "Value": _text(table)}
    query = {
        "Criteria": {"FilterOperator": "And", "Conditions": [named]},
        "Properties": {"AllProperties": False, "PropertyNames": TABLE_PROPERTIES},
        "AttributeQuery": {"Properties": {"AllProperties": False, "PropertyNames": COLUMN_PROPERTIES}},
    }
    return f"RetrieveMetadataChanges(Query=@p1)?@p1={quote(json.dumps(query), safe='')}"


def _text(value: str) -> Mapping[str, str]:
    return {"Type": "System.String", "Value": value}


def read_table(answer: Answer, table: str) -> SourceTable:
    """The table and its readable columns. Raises ConfigurationError when the answer names none."""
    body = answer.json()
    tables = body.get("EntityMetadata") if isinstance(body, dict) else None
    if not isinstance(tables, list):
        raise RetriableError(f"table {table}: Dynamics sent something else than a table's definition.")
    if not tables:
        raise ConfigurationError(f"Dynamics: {NO_SUCH_TABLE.remedy.format(table=table)}")
    [facts] = tables
    found = (column_of(attribute) for attribute in facts["Attributes"] if attribute.get("IsValidForRead"))
    return SourceTable(
        name=facts["LogicalName"],
        entity_set=facts["EntitySetName"],
        primary_id=facts["PrimaryIdAttribute"],
        change_tracking=bool(facts.get("ChangeTrackingEnabled")),
        columns={column.name: column for column in found if column},
    )


def column_of(attribute: Mapping[str, Any]) -> SourceColumn | None:
    """The column an attribute stands for; None for one that is no property of its rows."""
    name, kind = attribute["LogicalName"], attribute["AttributeType"]
    if kind == "Virtual" and _value(attribute.get("AttributeTypeName")) == f"{MULTI_CHOICE}Type":
        kind = MULTI_CHOICE
    held = source_type(kind, date_only=_value(attribute.get("DateTimeBehavior")) == "DateOnly")
    if held is None:
        return None
    return SourceColumn(
        name=name,
        type=held,
        wire_name=f"_{name}_value" if kind in LOOKUPS else name,
        labels=_labels(attribute) if held == "choice" else {},
        refers_to=tuple(attribute.get("Targets") or ()) if kind in LOOKUPS else (),
    )


def _labels(choice: Mapping[str, Any]) -> Mapping[int, str]:
    """Labels by value, in the application user's language; a value that has none there is left out."""
    options = (choice.get("OptionSet") or {}).get("Options") or ()
    labels = {option["Value"]: (option.get("Label") or {}).get("UserLocalizedLabel") or {} for option in options}
    return {value: label["Label"] for value, label in labels.items() if label.get("Label")}


def _value(wrapped: Any) -> Any:
    """Metadata wraps some properties: `{"Value": "DateOnly"}`."""
    return wrapped.get("Value") if isinstance(wrapped, dict) else wrapped
