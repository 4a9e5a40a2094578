"""Navigation over HTTP: related rows, collections, `$ref` to associate and disassociate rows.

Source: "Associate and disassociate table rows using the Web API", "Retrieve a table row using the Web API".
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from .dataverse_errors import BAD_REQUEST, DataverseError, not_here, unknown_property
from .dataverse_http import ROOT, context, ok, preferences
from .dataverse_lists import ListApi
from .dataverse_relationships import Relation, collections_of, related_row
from .dataverse_rows import RowApi, row_facts
from .dataverse_state import DataverseState
from .dataverse_table import Row, Table
from .dataverse_values import Reference, guid
from .dataverse_write import Address, address_in_url, body_of, row_address
from .web import Answer, Rule, operation, origin


class RelationApi:
    """Paths below a row that name a navigation property; others are properties of the row itself."""

    def __init__(self, state: DataverseState, lists: ListApi) -> None:
        self._state, self._lists, self._rows = state, lists, RowApi(state)

    def rules(self) -> list[Rule]:
        row = ROOT + "/{entity_set}({key})"
        return [
            Rule("DELETE", row + "/{navigation}({other})/$ref", self.disassociate),
            Rule("GET", row + "/{navigation}/$ref", self.references),
            Rule("PUT", row + "/{navigation}/$ref", self.associate),
            Rule("POST", row + "/{navigation}/$ref", self.associate),
            Rule("DELETE", row + "/{navigation}/$ref", self.disassociate),
            Rule("GET", row + "/{navigation}", self.related),
        ]

    def _row(self, request: Request) -> tuple[Table, Row]:
        table = self._state.table_of_set(request.path_params["entity_set"])
        return table, address_in_url(table, request.path_params["key"]).existing()

    def _collection(self, table: Table, name: str) -> Relation:
        relation = collections_of(self._state, table).get(name)
        if relation is None:
            raise unknown_property(name, table.definition.name)
        return relation

    def related(self, request: Request, body: bytes) -> Response:
        table, row = self._row(request)
        name = request.path_params["navigation"]
        if name in table.by_property:
            request.path_params["column"] = name
            answer: Answer = self._rows.read_property
            return answer(request, body)
        if name not in table.navigation:
            relation = self._collection(table, name)
            index = relation.table.position[relation.column.name]
            reference = Reference(table.definition.name, row.id)
            return self._lists.listed(request, relation.table, lambda child: child.values[index] == reference)
        operation(request, "read")
        target, found = self._single(table, row, name)
        if found is None:
            return Response(b"", 204)
        annotate = bool(preferences(request).get("odata.include-annotations"))
        return ok(row_facts(self._state, request, target, found, annotate))

    def _single(self, table: Table, row: Row, name: str) -> tuple[Table, Row | None]:
        column, target = table.navigation[name]
        if target not in self._state.tables:
            raise not_here(f"the table '{target}', which '{name}' leads to")
        found = related_row(self._state, row.values[table.position[column.name]], target)
        return self._state.tables[target], found

    def references(self, request: Request, body: bytes) -> Response:
        operation(request, "read")
        table, row = self._row(request)
        name = request.path_params["navigation"]
        if name in table.navigation:
            target, found = self._single(table, row, name)
            if found is None:
                return Response(b"", 204)
            return ok({"@odata.context": context(request, "$ref"), "@odata.id": _url(request, target, found.id)})
        relation = self._collection(table, name)
        children = relation.table.referring(relation.column, row.id)
        links = [{"@odata.id": _url(request, relation.table, child.id)} for child in children]
        return ok({"@odata.context": context(request, "Collection($ref)"), "value": links})

    def associate(self, request: Request, body: bytes) -> Response:
        """PUT sets a lookup, POST adds a row to a collection; both name the other row by its address."""
        operation(request, "update")
        table, row = self._row(request)
        name, url = request.path_params["navigation"], body_of(body).get("@odata.id")
        if name in table.navigation and request.method == "PUT":
            column, target = table.navigation[name]
            self._set(table, row.id, column.name, Reference(target, self._named(url, target).existing().id))
        elif name not in table.navigation and request.method == "POST":
            relation = self._collection(table, name)
            child = self._named(url, relation.table.definition.name).existing()
            self._set(relation.table, child.id, relation.column.name, Reference(table.definition.name, row.id))
        else:
            raise DataverseError(BAD_REQUEST, f"'{request.method}' does not fit the navigation property '{name}'.")
        return Response(b"", 204)

    def disassociate(self, request: Request, body: bytes) -> Response:
        operation(request, "update")
        table, row = self._row(request)
        name, other = request.path_params["navigation"], request.path_params.get("other")
        url = request.query_params.get("$id")
        if name in table.navigation:
            self._set(table, row.id, table.navigation[name][0].name, None)
            return Response(b"", 204)
        relation = self._collection(table, name)
        if other is None and url is None:
            raise DataverseError(BAD_REQUEST, f"The row to remove from '{name}' is not named.")
        child_name = relation.table.definition.name
        child = self._named(url, child_name).existing().id if url else guid(other) or str(other)
        self._set(relation.table, self._state.row(child_name, child).id, relation.column.name, None)
        return Response(b"", 204)

    def _named(self, url: Any, table_name: str) -> Address:
        return row_address(self._state, str(url), self._state.table(table_name))

    def _set(self, table: Table, row_id: str, column: str, value: Reference | None) -> None:
        self._state.update(table.definition.name, row_id, {column: value})


def _url(request: Request, table: Table, row_id: str) -> str:
    return f"{origin(request)}{ROOT}/{table.definition.entity_set}({row_id})"
