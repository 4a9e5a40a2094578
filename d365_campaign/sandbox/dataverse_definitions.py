"""Table definitions over HTTP ("Query table definitions using the Web API", "Work with alternate keys")."""

import re
from dataclasses import replace
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from . import dataverse_metadata as metadata
from .dataverse_errors import (
    BAD_REQUEST,
    OBJECT_DOES_NOT_EXIST,
    PAYLOAD,
    DataverseError,
    unknown_segment,
)
from .dataverse_http import ROOT, context, ok
from .dataverse_metadata_filter import select_where
from .dataverse_relationships import collections_of, relations_of
from .dataverse_schema import AlternateKey
from .dataverse_state import DataverseState
from .dataverse_table import Table
from .dataverse_values import guid
from .dataverse_write import body_of
from .web import Rule, operation, origin

MAX_KEYS, MAX_KEY_COLUMNS = 10, 16
KEY_TYPES = frozenset({"String", "Integer", "Decimal", "DateTime", "Lookup", "Picklist"})


class DefinitionsApi:
    def __init__(self, state: DataverseState) -> None:
        self._state = state

    def rules(self) -> list[Rule]:
        entity = ROOT + "/EntityDefinitions({key})"
        return [
            Rule("GET", ROOT + "/EntityDefinitions", self.entity_definitions),
            Rule("GET", ROOT + "/RelationshipDefinitions", self.relationships),
            Rule("GET", ROOT + "/RetrieveMetadataChanges(Query=@p1)", self.metadata_changes),
            Rule("GET", entity, self.entity_definition),
            Rule("GET", entity + "/Attributes", self.attributes),
            Rule("GET", entity + "/Attributes/Microsoft.Dynamics.CRM.{cast}", self.attributes),
            Rule("GET", entity + "/Attributes(LogicalName='{column}')", self.attribute),
            Rule("GET", entity + "/Attributes(LogicalName='{column}')/Microsoft.Dynamics.CRM.{cast}", self.attribute),
            Rule("GET", entity + "/ManyToOneRelationships", self.many_to_one),
            Rule("GET", entity + "/OneToManyRelationships", self.one_to_many),
            Rule("GET", entity + "/ManyToManyRelationships", self.many_to_many),
            Rule("GET", entity + "/Keys", self.keys),
            Rule("POST", entity + "/Keys", self.create_key),
            Rule("DELETE", entity + "/Keys({id})", self.delete_key),
        ]

    def _table(self, request: Request) -> Table:
        key = request.path_params["key"]
        named = re.fullmatch(r"LogicalName='(\w+)'", key)
        for table in self._state.tables.values():
            if (named and table.definition.name == named[1]) or table.metadata_id == key.lower():
                return table
        name = named[1] if named else key
        raise DataverseError(OBJECT_DOES_NOT_EXIST, f"Could not find an entity with name {name} in the metadata cache.")

    def _set(self, request: Request, segment: str, items: list[dict[str, Any]]) -> Response:
        operation(request, "metadata")
        select = request.query_params.get("$select")
        found = [metadata.project(item, select) for item in select_where(items, request.query_params.get("$filter"))]
        return ok({"@odata.context": context(request, segment), "value": found})

    # --- tables

    def entity_definitions(self, request: Request, body: bytes) -> Response:
        expanded = "Attributes" in request.query_params.get("$expand", "")
        tables = {table.metadata_id: table for table in self._state.tables.values()}.values()
        return self._set(request, "EntityDefinitions", [_definition(table, expanded) for table in tables])

    def entity_definition(self, request: Request, body: bytes) -> Response:
        operation(request, "metadata")
        item = _definition(self._table(request), "Attributes" in request.query_params.get("$expand", ""))
        head = {"@odata.context": context(request, "EntityDefinitions/$entity")}
        return ok(head | metadata.project(item, request.query_params.get("$select")))

    # --- columns

    def attributes(self, request: Request, body: bytes) -> Response:
        cast = request.path_params.get("cast")
        if cast is not None and cast not in metadata.CASTS:
            raise unknown_segment(f"Microsoft.Dynamics.CRM.{cast}")
        items = metadata.attributes(self._table(request), cast, request.query_params.get("$expand", ""), cast is None)
        return self._set(request, "EntityDefinitions/Attributes", items)

    def attribute(self, request: Request, body: bytes) -> Response:
        operation(request, "metadata")
        table, name, cast = self._table(request), request.path_params["column"], request.path_params.get("cast")
        column = next((column for column in metadata.described_columns(table) if column.name == name), None)
        if column is None or (cast is not None and column.type not in metadata.CASTS.get(cast, ())):
            raise DataverseError(OBJECT_DOES_NOT_EXIST, f"Could not find an attribute with name {name}.")
        item: dict[str, Any] = {"@odata.type": f"#Microsoft.Dynamics.CRM.{metadata.CAST_OF[column.type]}"}
        item |= metadata.typed_attribute(table, column)
        if "OptionSet" in request.query_params.get("$expand", ""):
            item["OptionSet"] = metadata.option_set(column)
        return ok(metadata.project(item, request.query_params.get("$select")))

    def metadata_changes(self, request: Request, body: bytes) -> Response:
        """The tables a query names and, when it asks for them, their columns ("Query schema definitions").

        Columns come with the properties of their type and with options. What was not asked for is null.
        """
        operation(request, "metadata")
        query = _query_of(request.query_params.get("@p1", ""))
        names = _equals(query.get("Criteria"))
        found = [
            _changed_table(table, query)
            for table in self._state.tables.values()
            if names is None or table.definition.name in names
        ]
        kind = "Microsoft.Dynamics.CRM.RetrieveMetadataChangesResponse"
        answer = {"EntityMetadata": found, "ServerVersionStamp": f"{self._state.version}!08/22/2017 08:10:44"}
        return ok({"@odata.context": context(request, kind)} | answer)

    # --- relationships

    def many_to_one(self, request: Request, body: bytes) -> Response:
        items = [metadata.relationship(relation) for relation in relations_of(self._table(request))]
        return self._set(request, "EntityDefinitions/ManyToOneRelationships", items)

    def one_to_many(self, request: Request, body: bytes) -> Response:
        found = collections_of(self._state, self._table(request)).values()
        items = [metadata.relationship(relation) for relation in found]
        return self._set(request, "EntityDefinitions/OneToManyRelationships", items)

    def many_to_many(self, request: Request, body: bytes) -> Response:
        self._table(request)
        return self._set(request, "EntityDefinitions/ManyToManyRelationships", [])

    def relationships(self, request: Request, body: bytes) -> Response:
        tables = self._state.tables.values()
        items = [metadata.relationship(relation) for table in tables for relation in relations_of(table)]
        return self._set(request, "RelationshipDefinitions", items)

    # --- alternate keys

    def keys(self, request: Request, body: bytes) -> Response:
        return self._set(request, "EntityDefinitions/Keys", metadata.keys(self._table(request)))

    def create_key(self, request: Request, body: bytes) -> Response:
        """A new key is Pending until its index is made; it fails when rows share the values."""
        operation(request, "metadata")
        table, wanted = self._table(request), body_of(body)
        name, columns = str(wanted.get("SchemaName")), tuple(wanted.get("KeyAttributes") or ())
        self._check_key(table, name, columns)
        self._publish(table.definition.name, [*table.definition.keys, AlternateKey(name, columns, "Pending")])
        self._state.run_later(
            self._state.settings.key_activation_seconds, lambda: self._activate(table.definition.name, name)
        )
        entity_id = f"{origin(request)}{request.url.path}({metadata.key_id(table, name)})"
        return Response(b"", 204, {"OData-EntityId": entity_id})

    def _check_key(self, table: Table, name: str, columns: tuple[str, ...]) -> None:
        kinds = {table.column(column).type for column in columns if column in table.position}
        known = all(column in table.position for column in columns)
        if not columns or len(columns) > MAX_KEY_COLUMNS or not known or not kinds <= KEY_TYPES:
            raise DataverseError(BAD_REQUEST, f"Columns {', '.join(columns)} can't be an alternate key.")
        if len(table.definition.keys) >= MAX_KEYS or any(key.name == name for key in table.definition.keys):
            raise DataverseError(BAD_REQUEST, f"The alternate key '{name}' can't be added to the table.")

    def _activate(self, table_name: str, key_name: str) -> None:
        table = self._state.table(table_name)
        found = [
            replace(key, status="Failed" if table.has_duplicates(key.columns) else "Active")
            if key.name == key_name
            else key
            for key in table.definition.keys
        ]
        self._publish(table_name, found)

    def delete_key(self, request: Request, body: bytes) -> Response:
        operation(request, "metadata")
        table, key_id = self._table(request), guid(request.path_params["id"])
        kept = [key for key in table.definition.keys if metadata.key_id(table, key.name) != key_id]
        if len(kept) == len(table.definition.keys):
            raise DataverseError(OBJECT_DOES_NOT_EXIST, f"Could not find an entity key with id {key_id}.")
        self._publish(table.definition.name, kept)
        return Response(b"", 204)

    def _publish(self, table_name: str, keys: list[AlternateKey]) -> None:
        self._state.register(replace(self._state.table(table_name).definition, keys=tuple(keys)))


def _definition(table: Table, expanded: bool) -> dict[str, Any]:
    item = metadata.entity_definition(table)
    if expanded:
        item["Attributes"] = metadata.attributes(table, None, "", True)
    return item


def _query_of(text: str) -> dict[str, Any]:
    try:
        query = orjson.loads(text)
    except orjson.JSONDecodeError:
        query = None
    if not isinstance(query, dict):
        raise DataverseError(PAYLOAD, "The parameter 'Query' is not a readable EntityQueryExpression.")
    return query


def _equals(criteria: Any) -> set[str] | None:
    """Logical names that criteria allow; None for all of them."""
    conditions = (criteria or {}).get("Conditions") or []
    if not conditions:
        return None
    return {str(condition["Value"]["Value"]) for condition in conditions if condition["PropertyName"] == "LogicalName"}


def _changed_table(table: Table, query: dict[str, Any]) -> dict[str, Any]:
    facts = {
        **metadata.entity_definition(table),
        "Attributes": _changed_columns(table, query.get("AttributeQuery") or {}),
    }
    return _only(facts, _properties(query))


def _changed_columns(table: Table, query: dict[str, Any]) -> list[dict[str, Any]]:
    names, wanted = _equals(query.get("Criteria")), _properties(query)
    shown = (column for column in metadata.described_columns(table) if names is None or column.name in names)
    return [_only(metadata.changed_attribute(table, column), wanted) for column in shown]


def _properties(query: dict[str, Any]) -> set[str] | None:
    """Names of the properties asked for; None for all of them."""
    properties = query.get("Properties") or {}
    return None if properties.get("AllProperties") else set(properties.get("PropertyNames") or ())


def _only(facts: dict[str, Any], wanted: set[str] | None) -> dict[str, Any]:
    always = ("MetadataId", "LogicalName", "@odata.type")
    return {
        name: value if wanted is None or name in wanted or name in always else None for name, value in facts.items()
    }
