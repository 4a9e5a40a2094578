"""Single rows of Dataverse over HTTP: read, create, upsert, delete, single properties."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from .dataverse_errors import unknown_property
from .dataverse_expand import expanded_rows, parse_expand
from .dataverse_http import JSON, ROOT, applied, context, ok, preferences
from .dataverse_lists import check_options
from .dataverse_read import Selection, annotated_row, encode, rows_of
from .dataverse_state import DataverseState
from .dataverse_table import Row, Table
from .dataverse_values import Reference
from .dataverse_write import Address, address_in_url, body_of, check_conditions, values_of
from .web import Rule, operation, origin


class RowApi:
    def __init__(self, state: DataverseState) -> None:
        self._state = state

    def rules(self) -> list[Rule]:
        row = ROOT + "/{entity_set}({key})"
        return [
            Rule("GET", row, self.read),
            Rule("PATCH", row, self.upsert),
            Rule("DELETE", row, self.delete),
            Rule("POST", ROOT + "/{entity_set}", self.create),
            Rule("GET", row + "/{column}", self.read_property),
            Rule("GET", row + "/{column}/$value", self.read_value),
            Rule("PUT", row + "/{column}", self.put_property),
            Rule("DELETE", row + "/{column}", self.clear_property),
        ]

    def _table(self, request: Request) -> Table:
        return self._state.table_of_set(request.path_params["entity_set"])

    def _address(self, request: Request) -> Address:
        return address_in_url(self._table(request), request.path_params["key"])

    def read(self, request: Request, body: bytes) -> Response:
        operation(request, "read")
        check_options(request.query_params)
        table, row = self._table(request), self._address(request).existing()
        annotations = preferences(request).get("odata.include-annotations")
        plain = not annotations and "$expand" not in request.query_params
        if plain and request.headers.get("if-none-match") == row.etag:
            return Response(b"", 304, {"ETag": row.etag})
        return self._row_response(request, table, row, 200, bool(annotations))

    def create(self, request: Request, body: bytes) -> Response:
        operation(request, "insert")
        table = self._table(request)
        row_id = self._state.create(table.definition.name, values_of(self._state, table, body_of(body), creating=True))
        return self._written(request, table, row_id, 201)

    def upsert(self, request: Request, body: bytes) -> Response:
        """PATCH updates a row or creates it; the conditions narrow it to one of the two."""
        address = self._address(request)
        check_conditions(address, request.headers.get("if-match"), request.headers.get("if-none-match"))
        created = address.row is None
        operation(request, "insert" if created else "update")
        row_id = write(self._state, address, body_of(body))
        return self._written(request, address.table, row_id, 201 if created else 200)

    def delete(self, request: Request, body: bytes) -> Response:
        operation(request, "delete")
        address = self._address(request)
        check_conditions(address, request.headers.get("if-match"), None)
        self._state.delete(address.table.definition.name, address.existing().id)
        return Response(b"", 204)

    # --- single properties

    def read_property(self, request: Request, body: bytes) -> Response:
        operation(request, "read")
        value = self._property(request)
        if value is None:
            return Response(b"", 204)
        key, name = request.path_params["key"], request.path_params["column"]
        segment = f"{request.path_params['entity_set']}({key})/{name}"
        return ok({"@odata.context": context(request, segment), "value": value})

    def read_value(self, request: Request, body: bytes) -> Response:
        operation(request, "read")
        value = self._property(request)
        if value is None:
            return Response(b"", 204)
        text = value if isinstance(value, str) else encode(value).decode().strip('"')
        return Response(text, media_type="text/plain")

    def _property(self, request: Request) -> Any:
        table, name = self._table(request), request.path_params["column"]
        row = self._address(request).existing()
        if name not in table.by_property:
            raise unknown_property(name, table.definition.name)
        value = row.values[table.by_property[name]]
        return value.id if isinstance(value, Reference) else value

    def put_property(self, request: Request, body: bytes) -> Response:
        return self._set_property(request, body_of(body).get("value"))

    def clear_property(self, request: Request, body: bytes) -> Response:
        return self._set_property(request, None)

    def _set_property(self, request: Request, value: Any) -> Response:
        operation(request, "update")
        table, name = self._table(request), request.path_params["column"]
        row = self._address(request).existing()
        if name not in table.by_property or table.columns[table.by_property[name]].is_lookup:
            raise unknown_property(name, table.definition.name)
        self._state.update(table.definition.name, row.id, values_of(self._state, table, {name: value}, creating=False))
        return Response(b"", 204)

    # --- answers

    def _written(self, request: Request, table: Table, row_id: str, echo_status: int) -> Response:
        row = self._state.row(table.definition.name, row_id)
        if preferences(request).get("return") == "representation":
            return self._row_response(request, table, row, echo_status, False)
        entity_id = f"{origin(request)}{ROOT}/{table.definition.entity_set}({row_id})"
        return Response(b"", 204, {"OData-EntityId": entity_id, "Location": entity_id})

    def _row_response(self, request: Request, table: Table, row: Row, status: int, annotate: bool) -> Response:
        facts = row_facts(self._state, request, table, row, annotate)
        headers = applied(preferences(request), ("return", "odata.include-annotations"))
        return Response(encode(facts), status, {"ETag": row.etag} | headers, media_type=JSON)


def row_facts(state: DataverseState, request: Request, table: Table, row: Row, annotate: bool) -> dict[str, Any]:
    """One row as its own answer, with `$select` and `$expand` of the request."""
    selection = Selection.of(request.query_params.get("$select"), table)
    named = f"({','.join(selection.named)})" if selection.named else ""
    entity_set = table.definition.entity_set
    facts: dict[str, Any] = {"@odata.context": context(request, f"{entity_set}{named}/$entity")}
    text = request.query_params.get("$expand")
    if text:
        root = f"{origin(request)}{ROOT}/{entity_set}"
        expansions = parse_expand(text, state, table)
        return facts | expanded_rows(state, selection, [row], expansions, annotate, root)[0]
    return facts | (annotated_row(state, selection, row) if annotate else rows_of(selection, [row])[0])


def write(state: DataverseState, address: Address, content: dict[str, Any]) -> str:
    """Update the row at *address*, or create it with its key; the primary key."""
    table = address.table
    name = table.definition.name
    content = {member: value for member, value in content.items() if member != table.definition.primary_id}
    if address.row is not None:
        state.update(name, address.row.id, values_of(state, table, content, creating=False))
        return address.row.id
    values = address.values | values_of(state, table, content, creating=True)
    if address.id is not None:
        values[table.definition.primary_id] = address.id
    return state.create(name, values)
