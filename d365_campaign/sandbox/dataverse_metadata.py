"""Table definitions as the Web API describes them ("Query table definitions using the Web API")."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from .dataverse_relationships import Relation
from .dataverse_schema import NONE, Column, Option
from .dataverse_table import Table

LANGUAGE = 1033
CASTS = {
    "StringAttributeMetadata": ("String",),
    "MemoAttributeMetadata": ("Memo",),
    "IntegerAttributeMetadata": ("Integer",),
    "BigIntAttributeMetadata": ("BigInt",),
    "DecimalAttributeMetadata": ("Decimal",),
    "DoubleAttributeMetadata": ("Double",),
    "MoneyAttributeMetadata": ("Money",),
    "DateTimeAttributeMetadata": ("DateTime",),
    "BooleanAttributeMetadata": ("Boolean",),
    "PicklistAttributeMetadata": ("Picklist",),
    "StateAttributeMetadata": ("State",),
    "StatusAttributeMetadata": ("Status",),
    "MultiSelectPicklistAttributeMetadata": ("MultiSelectPicklist",),
    "LookupAttributeMetadata": ("Lookup", "Customer", "Owner"),
    "UniqueIdentifierAttributeMetadata": ("Uniqueidentifier",),
}
CAST_OF = {kind: cast for cast, kinds in CASTS.items() for kind in kinds} | {"Virtual": "AttributeMetadata"}
_WITH_COMPANION = frozenset({"Picklist", "State", "Status", "Boolean", "MultiSelectPicklist"})


def described_columns(table: Table) -> list[Column]:
    """Every column that metadata shows: each choice comes with a Virtual one for its label, e.g. `gendercodename`."""
    columns = list(table.definition.all_columns)
    known = {column.name for column in columns}
    companions = [
        Column(f"{column.name}name", "Virtual", creatable=False, updatable=False, attribute_of=column.name)
        for column in columns
        if column.type in _WITH_COMPANION and f"{column.name}name" not in known
    ]
    return columns + companions


def label(text: str) -> dict[str, Any]:
    localized = {"Label": text, "LanguageCode": LANGUAGE, "IsManaged": False}
    return {"LocalizedLabels": [localized], "UserLocalizedLabel": localized}


def entity_definition(table: Table) -> dict[str, Any]:
    definition = table.definition
    schema_name = _schema_name(definition.name)
    return {
        "MetadataId": table.metadata_id,
        "LogicalName": definition.name,
        "SchemaName": schema_name,
        "EntitySetName": definition.entity_set,
        "LogicalCollectionName": definition.entity_set,
        "PrimaryIdAttribute": definition.primary_id,
        "PrimaryNameAttribute": definition.primary_name,
        "ObjectTypeCode": definition.object_type_code,
        "DisplayName": label(definition.label or schema_name),
        "ChangeTrackingEnabled": definition.change_tracking,
        "CanChangeTrackingBeEnabled": {"Value": True, "CanBeChanged": True},
        "IsOptimisticConcurrencyEnabled": True,
        "IsCustomEntity": definition.name.startswith("new_"),
        "IsIntersect": False,
        "IsPrivate": False,
    }


def attribute(table: Table, column: Column) -> dict[str, Any]:
    """Base properties and those of the type; a plain read shows the base alone."""
    multi = column.type == "MultiSelectPicklist"
    return {
        "MetadataId": str(uuid5(NAMESPACE_URL, f"{table.definition.name}/{column.name}")),
        "LogicalName": column.name,
        "SchemaName": _schema_name(column.name),
        "AttributeType": "Virtual" if multi else column.type,
        "AttributeTypeName": {"Value": f"{column.type}Type"},
        "EntityLogicalName": table.definition.name,
        "DisplayName": label(column.label or column.name),
        "RequiredLevel": {"Value": column.required, "CanBeChanged": column.required == NONE},
        "IsPrimaryId": column.name == table.definition.primary_id,
        "IsPrimaryName": column.name == table.definition.primary_name,
        "IsCustomAttribute": column.name.startswith("new_"),
        "IsValidForRead": True,
        "IsValidForCreate": column.creatable,
        "IsValidForUpdate": column.updatable,
        "IsLogical": not column.stored,
        "AttributeOf": column.attribute_of or None,
    }


_DETAILS: dict[str, Callable[[Table, Column], dict[str, Any]]] = {
    "String": lambda table, column: {"MaxLength": column.max_length or 100, "FormatName": {"Value": "Text"}},
    "Memo": lambda table, column: {"MaxLength": column.max_length or 2000, "Format": "TextArea"},
    "Integer": lambda table, column: {"MinValue": -2147483648, "MaxValue": 2147483647, "Format": "None"},
    "BigInt": lambda table, column: {"MinValue": -(2**63), "MaxValue": 2**63 - 1},
    "Decimal": lambda table, column: {"Precision": column.precision or 2},
    "Double": lambda table, column: {"Precision": column.precision or 2},
    "Money": lambda table, column: {"Precision": column.precision or 2, "PrecisionSource": 2},
    "DateTime": lambda table, column: {
        "Format": "DateOnly" if column.date_only else "DateAndTime",
        "DateTimeBehavior": {"Value": "DateOnly" if column.date_only else "UserLocal"},
    },
    "Lookup": lambda table, column: {"Targets": list(column.targets)},
    "Customer": lambda table, column: {"Targets": list(column.targets)},
    "Owner": lambda table, column: {"Targets": list(column.targets)},
}


def typed_attribute(table: Table, column: Column) -> dict[str, Any]:
    details = _DETAILS.get(column.type)
    return attribute(table, column) | (details(table, column) if details else {})


def changed_attribute(table: Table, column: Column) -> dict[str, Any]:
    """A column as RetrieveMetadataChanges shows it: in a type of its own, with options ("Query schema definitions")."""
    cast = CAST_OF[column.type]
    options = {"OptionSet": option_set(column)} if column.type in _WITH_COMPANION else {}
    return {"@odata.type": f"#Microsoft.Dynamics.CRM.Complex{cast}", **typed_attribute(table, column), **options}


def option_set(column: Column) -> dict[str, Any]:
    if column.type == "Boolean":
        labels = {option.value: option for option in column.options} or {1: Option(1, "Yes"), 0: Option(0, "No")}
        return {"OptionSetType": "Boolean", "TrueOption": _option(labels[1]), "FalseOption": _option(labels[0])}
    return {"OptionSetType": "Picklist", "IsGlobal": False, "Options": [_option(option) for option in column.options]}


def _option(option: Option) -> dict[str, Any]:
    return {"Value": option.value, "Label": label(option.label)}


def attributes(table: Table, cast: str | None, expand: str, odata_type: bool) -> list[dict[str, Any]]:
    """All columns, or those of one type with its own properties and, when expanded, its options."""
    if cast is None:
        found = [(column, attribute(table, column)) for column in described_columns(table)]
    else:
        kinds = CASTS[cast]
        found = [
            (column, typed_attribute(table, column)) for column in described_columns(table) if column.type in kinds
        ]
    for column, facts in found:
        if odata_type:
            facts["@odata.type"] = f"#Microsoft.Dynamics.CRM.{CAST_OF[column.type]}"
        if cast is not None and "OptionSet" in expand:
            facts["OptionSet"] = option_set(column)
        if cast is not None and "GlobalOptionSet" in expand:
            facts["GlobalOptionSet"] = None
    return [facts for _, facts in found]


def relationship(relation: Relation) -> dict[str, Any]:
    """One-to-many seen from the table referred to, many-to-one from the one that refers: the same definition."""
    return {
        "@odata.type": "#Microsoft.Dynamics.CRM.OneToManyRelationshipMetadata",
        "SchemaName": relation.schema_name,
        "ReferencingEntity": relation.table.definition.name,
        "ReferencingAttribute": relation.column.name,
        "ReferencingEntityNavigationPropertyName": relation.navigation,
        "ReferencedEntity": relation.target,
        "ReferencedAttribute": f"{relation.target}id",
        "ReferencedEntityNavigationPropertyName": relation.schema_name,
        "RelationshipType": "OneToManyRelationship",
        "IsCustomRelationship": relation.schema_name.startswith("new_"),
        "MetadataId": relation.metadata_id,
    }


def key_id(table: Table, name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"{table.definition.name}/key/{name}"))


def keys(table: Table) -> list[dict[str, Any]]:
    return [
        {
            "LogicalName": key.name,
            "SchemaName": key.name,
            "EntityLogicalName": table.definition.name,
            "KeyAttributes": list(key.columns),
            "EntityKeyIndexStatus": key.status,
            "DisplayName": label(key.name),
            "MetadataId": key_id(table, key.name),
        }
        for key in table.definition.keys
    ]


def project(item: Mapping[str, Any], select: str | None) -> dict[str, Any]:
    """The selected properties; `MetadataId` always, expanded parts too."""
    if not select:
        return dict(item)
    wanted = {name.strip() for name in select.split(",")} | {"MetadataId"}
    always = ("OptionSet", "GlobalOptionSet", "Attributes", "@odata.type")
    return {name: value for name, value in item.items() if name in wanted or name in always}


def _schema_name(name: str) -> str:
    return name if name.startswith("new_") else name[:1].upper() + name[1:]
