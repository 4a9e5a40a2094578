"""Bulk messages over HTTP ("Use bulk operation messages", "BulkDelete action")."""

from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response

from .dataverse_errors import (
    BAD_REQUEST,
    DUPLICATE_RECORD,
    OBJECT_DOES_NOT_EXIST,
    PAYLOAD,
    UNEXPECTED,
    DataverseError,
    does_not_exist,
    not_here,
)
from .dataverse_http import ROOT, context, ok
from .dataverse_rows import write
from .dataverse_state import DataverseState
from .dataverse_table import Table
from .dataverse_values import guid
from .dataverse_write import Address, body_of, row_address, values_of
from .web import Rule, operation

PREFIX = "Microsoft.Dynamics.CRM."


class BulkApi:
    """Each message is one transaction: an error rolls back all of it."""

    def __init__(self, state: DataverseState) -> None:
        self._state = state

    def rules(self) -> list[Rule]:
        bound = ROOT + "/{entity_set}/" + PREFIX
        return [
            Rule("POST", bound + "CreateMultiple", self.create_multiple),
            Rule("POST", bound + "UpdateMultiple", self.update_multiple),
            Rule("POST", bound + "UpsertMultiple", self.upsert_multiple),
            Rule("POST", bound + "DeleteMultiple", self.delete_multiple),
            Rule("POST", ROOT + "/BulkDelete", self.bulk_delete),
        ]

    def create_multiple(self, request: Request, body: bytes) -> Response:
        operation(request, "insert")
        table, targets = self._targets(request, body, "CreateMultiple")
        with self._state.transaction():
            ids = [
                self._state.create(table.definition.name, values_of(self._state, table, target, creating=True))
                for target in targets
            ]
        return ok({"@odata.context": context(request, f"{PREFIX}CreateMultipleResponse"), "Ids": ids})

    def update_multiple(self, request: Request, body: bytes) -> Response:
        """A row that comes twice is changed once, by its first item."""
        operation(request, "update")
        table, targets = self._targets(request, body, "UpdateMultiple")
        primary_id = table.definition.primary_id
        by_id: dict[str, dict[str, Any]] = {}
        for target in targets:
            row_id = guid(target.pop(primary_id, None))
            if row_id is None:
                raise DataverseError(PAYLOAD, f"Each target of UpdateMultiple needs '{primary_id}'.")
            by_id.setdefault(row_id, target)
        missing = [row_id for row_id in by_id if row_id not in table.rows]
        if missing:
            name = table.definition.label or table.definition.name
            raise DataverseError(OBJECT_DOES_NOT_EXIST, f"{name} With Ids = {', '.join(missing)} Do Not Exist", 400)
        with self._state.transaction():
            for row_id, target in by_id.items():
                values = values_of(self._state, table, target, creating=False)
                self._state.update(table.definition.name, row_id, values)
        return Response(b"", 204)

    def upsert_multiple(self, request: Request, body: bytes) -> Response:
        """No answer says which rows were new. A row may come only once."""
        operation(request, "upsert")
        table, targets = self._targets(request, body, "UpsertMultiple")
        seen = set[object]()
        with self._state.transaction():
            for target in targets:
                address = self._address(table, target)
                known = address.id or tuple(sorted(address.values.items()))
                if known in seen:
                    raise DataverseError(DUPLICATE_RECORD, "Cannot insert duplicate key.")
                seen.add(known)
                if address.row is None and set(address.values) & set(target):
                    # Reported in the Python SDK's pull request 127; the same item is accepted for a row that exists.
                    raise DataverseError(UNEXPECTED, "An unexpected error occurred.")
                write(self._state, address, target)
        return Response(b"", 204)

    def _address(self, table: Table, target: dict[str, Any]) -> Address:
        url, row_id = target.pop("@odata.id", None), target.get(table.definition.primary_id)
        if url is not None:
            return row_address(self._state, str(url), table)
        if row_id is None:
            raise DataverseError(PAYLOAD, "Each target of UpsertMultiple needs '@odata.id' or its primary key.")
        return Address(table, str(row_id))

    def delete_multiple(self, request: Request, body: bytes) -> Response:
        operation(request, "delete")
        raise DataverseError(UNEXPECTED, "DeleteMultiple has not yet been implemented.")

    def _targets(self, request: Request, body: bytes, message: str) -> tuple[Table, list[dict[str, Any]]]:
        table = self._state.table_of_set(request.path_params["entity_set"])
        name = table.definition.name
        if name in self._state.settings.bulk_messages_missing:
            raise DataverseError(BAD_REQUEST, f"'{message}' is not supported for table '{name}'.")
        targets = body_of(body).get("Targets")
        if not isinstance(targets, list) or not all(isinstance(target, dict) for target in targets) or not targets:
            raise DataverseError(PAYLOAD, f"'{message}' needs a list of targets.")
        for target in targets:
            kind = str(target.get("@odata.type", "")).removeprefix("#")
            if kind != PREFIX + name:
                raise DataverseError(PAYLOAD, f"Each target needs '@odata.type' with the value '{PREFIX}{name}'.")
        return table, targets

    # --- BulkDelete

    def bulk_delete(self, request: Request, body: bytes) -> Response:
        """A system job: the answer names it, rows go when it runs."""
        operation(request, "delete")
        queries = body_of(body).get("QuerySet")
        if not isinstance(queries, list) or not queries:
            raise DataverseError(PAYLOAD, "'BulkDelete' needs a query.")
        wanted = [row for query in queries for row in self._named_rows(query)]
        job_id = str(uuid4())
        self._state.jobs[job_id] = False

        def run() -> None:
            for table, row_id in wanted:
                if row_id in table.rows:
                    self._state.delete(table.definition.name, row_id)
            self._state.jobs[job_id] = True

        self._state.run_later(self._state.settings.bulk_delete_seconds, run)
        return ok({"@odata.context": context(request, f"{PREFIX}BulkDeleteResponse"), "JobId": job_id})

    def _named_rows(self, query: dict[str, Any]) -> list[tuple[Table, str]]:
        name = str(query.get("EntityName"))
        if name not in self._state.tables:
            raise does_not_exist("entity", name)
        table = self._state.tables[name]
        conditions = (query.get("Criteria") or {}).get("Conditions") or []
        plain = len(conditions) == 1 and conditions[0].get("Operator") in ("In", "Equal")
        if not plain or conditions[0].get("AttributeName") != table.definition.primary_id:
            raise not_here("BulkDelete by other conditions than one for primary keys")
        values = conditions[0].get("Values") or []
        ids = [guid(value["Value"] if isinstance(value, dict) else value) for value in values]
        return [(table, row_id) for row_id in ids if row_id is not None]
