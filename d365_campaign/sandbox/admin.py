"""The admin address `/_sandbox`: everything a person or a test in another process may do to the sandbox."""

import threading
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

from . import seed as seeding
from .admin_exports import ExportAdmin
from .campaign_errors import InstanceError
from .campaign_schema import ResourceDefinition
from .dataverse_deletes import delete_rows
from .dataverse_errors import DataverseError
from .dataverse_read import encode
from .dataverse_schema import TableDefinition
from .web import Answer, Rule, json_response, json_values, routes
from .webhooks import Webhook

if TYPE_CHECKING:
    from .server import Sandbox

PATH = "/_sandbox"


class AdminApi:
    """No token is asked for: the port is bound to the loopback address only."""

    def __init__(self, sandbox: "Sandbox") -> None:
        self._sandbox = sandbox

    def app(self, lock: threading.RLock) -> Starlette:
        row, rows = "/dataverse/{entity_set}/{key}", "/dataverse/{entity_set}"
        rules = [
            Rule("POST", "/seed", self.seed),
            Rule("POST", "/change", self.change),
            Rule("POST", "/reset", self.reset),
            Rule("GET", "/calls", self.calls),
            Rule("DELETE", "/calls", self.clear_calls),
            Rule("GET", "/engine-calls", self.engine_calls),
            Rule("GET", "/settings", self.settings),
            Rule("POST", "/settings", self.change_settings),
            Rule("POST", "/expire", self.expire),
            Rule("POST", "/clock", self.advance_clock),
            Rule("GET", "/faults", self.faults),
            Rule("POST", "/faults", self.add_fault),
            Rule("DELETE", "/faults", self.clear_faults),
            Rule("POST", "/tables", self.register_table),
            Rule("POST", "/resources", self.register_resource),
            Rule("GET", "/webhooks", self.webhooks),
            Rule("POST", "/webhooks", self.register_webhook),
            Rule("DELETE", "/webhooks", self.clear_webhooks),
            Rule("GET", "/logs", self.logs),
            Rule("POST", "/logs", self.add_log),
            Rule("GET", "/workflows", self.workflows),
            Rule("POST", "/workflows", self.set_workflows),
            *ExportAdmin(self._sandbox).rules(),
            Rule("GET", rows, self.rows),
            Rule("POST", rows, self.create_row),
            Rule("GET", row, self.row),
            Rule("PATCH", row, self.update_row),
            Rule("DELETE", row, self.delete_row),
            Rule("GET", "/campaign/{resource}", self.records),
            Rule("POST", "/campaign/{resource}", self.create_record),
            Rule("PATCH", "/campaign/{resource}", self.update_record),
            Rule("DELETE", "/campaign/{resource}", self.delete_record),
        ]
        return Starlette(routes=[Mount(PATH, routes=routes(rules, lock, self._guard))])

    def _guard(self, request: Request, body: bytes, answer: Answer) -> Response:
        try:
            return answer(request, body)
        except (DataverseError, InstanceError) as error:
            return json_response({"error": str(error)}, error.status)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            return json_response({"error": f"{type(error).__name__}: {error}"}, 400)

    # --- the whole sandbox

    def seed(self, request: Request, body: bytes) -> Response:
        wanted = json_values(body)
        numbers = {name: int(wanted.get(name, 0)) for name in ("contacts", "accounts", "purchases")}
        self._sandbox.seed(seed=int(wanted.get("seed", 1)), hostile=_flag(wanted, "hostile"), **numbers)
        story = {"story": self._sandbox.seed_story()} if _flag(wanted, "story") else {}
        return json_response(numbers | story)

    def change(self, request: Request, body: bytes) -> Response:
        """Numbers by table and verb; with `activate` the story goes on first."""
        wanted = json_values(body)
        seed, goes_on = int(wanted.pop("seed", 1)), _flag(wanted, "activate")
        wanted.pop("activate", None)
        activated = {"activated": self._sandbox.activate_waiting_contact()} if goes_on else {}
        return json_response(self._sandbox.change(seed, **wanted) | activated)

    def reset(self, request: Request, body: bytes) -> Response:
        self._sandbox.reset()
        return json_response({})

    def calls(self, request: Request, body: bytes) -> Response:
        return json_response([call.as_dict() for call in self._sandbox.calls(request.query_params.get("system"))])

    def clear_calls(self, request: Request, body: bytes) -> Response:
        self._sandbox.clear_calls()
        return json_response({})

    def engine_calls(self, request: Request, body: bytes) -> Response:
        return json_response(self._sandbox.engine_calls())

    def settings(self, request: Request, body: bytes) -> Response:
        return json_response(self._sandbox.settings.as_dict())

    def change_settings(self, request: Request, body: bytes) -> Response:
        self._sandbox.settings.update(json_values(body))
        return self.settings(request, body)

    def expire(self, request: Request, body: bytes) -> Response:
        wanted = json_values(body)
        if _flag(wanted, "tokens"):
            self._sandbox.expire_tokens()
        if _flag(wanted, "delta_tokens"):
            self._sandbox.expire_delta_tokens()
        return json_response({})

    def advance_clock(self, request: Request, body: bytes) -> Response:
        self._sandbox.advance_clock(float(json_values(body)["advance_seconds"]))
        return json_response({"now": self._sandbox.clock.dataverse_stamp()})

    def faults(self, request: Request, body: bytes) -> Response:
        return json_response(self._sandbox.faults.as_dicts())

    def add_fault(self, request: Request, body: bytes) -> Response:
        self._sandbox.add_fault(**json_values(body))
        return self.faults(request, body)

    def clear_faults(self, request: Request, body: bytes) -> Response:
        self._sandbox.clear_faults()
        return json_response([])

    def register_table(self, request: Request, body: bytes) -> Response:
        self._sandbox.dataverse.register(TableDefinition.of(json_values(body)))
        return json_response({}, 201)

    def register_resource(self, request: Request, body: bytes) -> Response:
        self._sandbox.campaign.register(ResourceDefinition.of(json_values(body)))
        return json_response({}, 201)

    def webhooks(self, request: Request, body: bytes) -> Response:
        """Registrations, and what each post was answered."""
        return json_response(self._sandbox.dataverse.webhooks.as_dict())

    def register_webhook(self, request: Request, body: bytes) -> Response:
        self._sandbox.dataverse.webhooks.register(Webhook(**json_values(body)))
        return json_response(self._sandbox.dataverse.webhooks.as_dict(), 201)

    def clear_webhooks(self, request: Request, body: bytes) -> Response:
        self._sandbox.dataverse.webhooks.clear()
        return json_response({})

    # --- rows of Dataverse

    def rows(self, request: Request, body: bytes) -> Response:
        name = self._table_name(request)
        table = self._sandbox.dataverse.table(name)
        top = int(request.query_params.get("top", 100))
        shown = [table.as_dict(table.rows[row_id]) for row_id in table.ids[:top]]
        return _rows_response({"count": len(table.ids), "value": shown})

    def create_row(self, request: Request, body: bytes) -> Response:
        name = self._table_name(request)
        return json_response({"id": self._sandbox.dataverse.create(name, json_values(body))}, 201)

    def row(self, request: Request, body: bytes) -> Response:
        return _rows_response(self._sandbox.dataverse.get(self._table_name(request), request.path_params["key"]))

    def update_row(self, request: Request, body: bytes) -> Response:
        """Change one row; the key `any` stands for one picked at random."""
        name, key, values = self._table_name(request), request.path_params["key"], json_values(body)
        if key == "any" and not values:
            return json_response({"id": seeding.edit_any(self._sandbox.dataverse, name)})
        if key == "any":
            key = seeding.pick_any(self._sandbox.dataverse, name)
        self._sandbox.dataverse.update(name, key, values)
        return json_response({"id": key})

    def delete_row(self, request: Request, body: bytes) -> Response:
        """Answers the keys of all rows that went, by table."""
        return json_response(
            delete_rows(self._sandbox.dataverse, self._table_name(request), [request.path_params["key"]])
        )

    def _table_name(self, request: Request) -> str:
        return self._sandbox.dataverse.table_of_set(request.path_params["entity_set"]).definition.name

    # --- records of Campaign

    def records(self, request: Request, body: bytes) -> Response:
        """All records, hidden ones too, or the one with `?key=`."""
        campaign = self._sandbox.campaign
        resource = campaign.resource(request.path_params["resource"])
        key, top = request.query_params.get("key"), int(request.query_params.get("top", 100))
        if key is not None:
            return json_response(campaign.get(resource.definition.name, key))
        shown = [campaign.as_dict(resource, record) for record in resource.order[:top]]
        return json_response({"count": len(resource.order), "content": shown})

    def create_record(self, request: Request, body: bytes) -> Response:
        return json_response(
            {"PKey": self._sandbox.campaign.create(request.path_params["resource"], json_values(body))}, 201
        )

    def update_record(self, request: Request, body: bytes) -> Response:
        self._sandbox.campaign.update(request.path_params["resource"], request.query_params["key"], json_values(body))
        return json_response({})

    def delete_record(self, request: Request, body: bytes) -> Response:
        self._sandbox.campaign.delete(request.path_params["resource"], request.query_params["key"])
        return json_response({})

    def logs(self, request: Request, body: bytes) -> Response:
        return json_response(self._sandbox.campaign.logs(request.query_params.get("externalId")))

    def add_log(self, request: Request, body: bytes) -> Response:
        wanted = json_values(body)
        self._sandbox.campaign.add_log(wanted["profile"], wanted.get("label", "Send via email"))
        return json_response({}, 201)

    def workflows(self, request: Request, body: bytes) -> Response:
        return json_response(self._sandbox.campaign.workflows)

    def set_workflows(self, request: Request, body: bytes) -> Response:
        """Workflow ids and the state each is to be in."""
        for name, state in json_values(body).items():
            self._sandbox.campaign.workflow_runs.set_state(name, str(state))
        return self.workflows(request, body)


def _flag(values: dict[str, Any], name: str) -> bool:
    return values.get(name) is True


def _rows_response(value: dict[str, Any]) -> Response:
    return Response(encode(value), media_type="application/json")
