"""The `$metadata` document: CSDL of the tables ("Web API service documents", "Web API types and operations")."""

from xml.sax.saxutils import quoteattr

from .dataverse_relationships import collections_of
from .dataverse_schema import Column
from .dataverse_state import DataverseState
from .dataverse_table import Table

NAMESPACE = "Microsoft.Dynamics.CRM"
EDM_TYPES = {
    "Uniqueidentifier": "Guid",
    "String": "String",
    "Memo": "String",
    "Integer": "Int32",
    "BigInt": "Int64",
    "Decimal": "Decimal",
    "Money": "Decimal",
    "Double": "Double",
    "Boolean": "Boolean",
    "Picklist": "Int32",
    "State": "Int32",
    "Status": "Int32",
    "MultiSelectPicklist": "String",
    "DateTime": "DateTimeOffset",
    "Lookup": "Guid",
    "Customer": "Guid",
    "Owner": "Guid",
}
_HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>'
    '<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx">'
    '<edmx:Reference Uri="http://vocabularies.odata.org/OData.Community.Keys.V1.xml"/>'
    f'<edmx:DataServices><Schema Namespace="{NAMESPACE}" Alias="mscrm" '
    'xmlns="http://docs.oasis-open.org/odata/ns/edm">'
    '<EntityType Name="crmbaseentity" Abstract="true"/>'
)
_TRACKED = '<Annotation Term="Org.OData.Capabilities.V1.ChangeTracking"><Record><PropertyValue Property="Supported" '


def csdl(state: DataverseState, annotated: bool) -> str:
    """Entity types and sets; with annotations the sets say whether they track changes."""
    tables = {table.metadata_id: table for table in state.tables.values()}.values()
    types = "".join(_entity_type(state, table) for table in tables)
    sets = "".join(_entity_set(state, table, annotated) for table in tables)
    container = f'<EntityContainer Name="System">{sets}</EntityContainer>'
    return f"{_HEAD}{types}{container}</Schema></edmx:DataServices></edmx:Edmx>"


def _entity_type(state: DataverseState, table: Table) -> str:
    name = table.definition.name
    key = f"<Key><PropertyRef Name={quoteattr(table.definition.primary_id)}/></Key>"
    properties = "".join(_property(column) for column in table.columns)
    return (
        f'<EntityType Name={quoteattr(name)} BaseType="mscrm.crmbaseentity">'
        f"{key}{properties}{_navigation(state, table)}</EntityType>"
    )


def _property(column: Column) -> str:
    kind = "Date" if column.date_only else EDM_TYPES[column.type]
    return f'<Property Name={quoteattr(column.property_name)} Type="Edm.{kind}"/>'


def _navigation(state: DataverseState, table: Table) -> str:
    single = "".join(
        f'<NavigationProperty Name={quoteattr(name)} Type="mscrm.{target}" Nullable="false">'
        f'<ReferentialConstraint Property={quoteattr(column.property_name)} ReferencedProperty="{target}id"/>'
        "</NavigationProperty>"
        for name, (column, target) in table.navigation.items()
    )
    many = "".join(
        f'<NavigationProperty Name={quoteattr(name)} Type="Collection(mscrm.{relation.table.definition.name})" '
        f"Partner={quoteattr(relation.navigation)}/>"
        for name, relation in collections_of(state, table).items()
    )
    return single + many


def _entity_set(state: DataverseState, table: Table, annotated: bool) -> str:
    bindings = "".join(
        f'<NavigationPropertyBinding Path={quoteattr(name)} Target="{state.tables[target].definition.entity_set}"/>'
        for name, (_, target) in table.navigation.items()
        if target in state.tables
    )
    tracked = str(table.definition.change_tracking).lower()
    note = f'{_TRACKED}Bool="{tracked}"/></Record></Annotation>' if annotated else ""
    head = f'<EntitySet Name={quoteattr(table.definition.entity_set)} EntityType="mscrm.{table.definition.name}">'
    return f"{head}{bindings}{note}</EntitySet>"
