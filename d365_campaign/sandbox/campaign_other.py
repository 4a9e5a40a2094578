"""Campaign's addresses beside resources: workflows, privacy requests, marketing history, transactional events."""

from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from . import campaign_privacy as privacy
from .campaign_body import parsed
from .campaign_errors import InstanceError, unknown_key, wrong_path
from .campaign_read import Place, encode_start, list_records, page_link, shown
from .campaign_resource import Record
from .campaign_schema import SIGNALS
from .campaign_state import CampaignState
from .web import json_response, operation

COLLECTABLE = ("email", "mobilePhone", "expiration", "scheduled", "ctx")


class WorkflowApi:
    """`/workflow/execution/...`"""

    def __init__(self, state: CampaignState) -> None:
        self._state = state

    def answer(self, request: Request, body: bytes, base: str, rest: list[str]) -> Response:
        operation(request, "workflow")
        if not rest:
            raise wrong_path()
        name, runs = rest[0].removeprefix("@"), self._state.workflow_runs
        if rest[1:] == ["commands"] and request.method == "POST":
            return json_response({"state": runs.command(name, str(parsed(body).get("method", "")).lower())})
        if len(rest) == 5 and rest[4] == "trigger" and request.method == "POST":
            too_soon = runs.signal(name, rest[3].removeprefix("@"), parsed(body), len(body))
            return json_response({}) if too_soon is None else PlainTextResponse(too_soon)
        if len(rest) > 1 or request.method != "GET":
            raise wrong_path()
        return json_response(self._shown(name, f"{base}/workflow/execution"))

    def _shown(self, name: str, address: str) -> dict[str, Any]:
        runs = self._state.workflow_runs
        state, last_start = runs.state(name), runs.last_starts.get(name, "")
        activities = {
            signal: {
                "name": signal,
                "label": "External signal",
                "parameters": {parameter: {"name": parameter, "type": kind} for parameter, kind in declared.items()},
                "trigger": {"href": f"{address}/@{name}/activities/activity/@{signal}/trigger/"},
            }
            for signal, declared in SIGNALS.get(name, {}).items()
        }
        head = {"PKey": f"@{name}", "name": name, "state": state, "lastStart": last_start, "href": f"{address}/@{name}"}
        return head | {"activities": {"activity": activities}}


class PrivacyApi:
    """`/privacy/privacyTool/...`"""

    def __init__(self, state: CampaignState) -> None:
        self._state = state

    def answer(self, request: Request, body: bytes, base: str, rest: list[str]) -> Response:
        operation(request, "privacy")
        address, requests = f"{base}/privacy/privacyTool", self._state.privacy_requests
        if not rest and request.method == "POST":
            made = privacy.create(self._state, parsed(body))
            answer = self._shown(made, address)
            self._state.run_due()
            return json_response(answer, 201)
        if not rest and request.method == "GET":
            return json_response({"content": [self._shown(item, address) for item in requests.values()]})
        found = requests.get(rest[0]) if rest else None
        if found is None:
            raise unknown_key("privacyTool", "nms:gdprRequest", rest[0] if rest else "")
        if len(rest) == 1 and request.method == "GET":
            return json_response(self._shown(found, address))
        if rest[1:] == [self._state.settings.privacy_data_member]:
            if parsed(body).get("name", found["name"]) != found["name"]:
                raise InstanceError(500, "RST-360000 The name does not fit the privacy request.")
            return json_response({"profile": found["data"] or []})
        raise wrong_path()

    def _shown(self, item: dict[str, Any], address: str) -> dict[str, Any]:
        return privacy.shown(item, f"{address}/{item['PKey']}", self._state.settings.privacy_data_member)


class HistoryApi:
    """`/profileAndServices/history/...`: a profile as marketing history shows it ("DataModel Marketing History")."""

    def __init__(self, state: CampaignState) -> None:
        self._state = state

    def answer(self, request: Request, place: Place, rest: list[str]) -> Response:
        operation(request, "list")
        if request.method != "GET":
            raise wrong_path()
        if not rest:
            return self._list(request, place)
        resource = self._state.resource("profile")
        record = resource.by_pkey.get(place.plain(rest[0])) or self._state.by_key(resource, rest[0])
        if record is None:
            raise unknown_key("history", "nms:history", rest[0])
        if len(rest) == 1:
            return json_response(self._shown(record, place))
        if rest[1:] != ["events"]:
            raise wrong_path()
        events = self._events(record, place)
        return json_response({"content": events, "count": {"value": len(events)}, "serverSidePagination": True})

    def _list(self, request: Request, place: Place) -> Response:
        resource, query = self._state.resource("profile"), dict(request.query_params)
        listing = list_records(self._state, resource, [], query, None)
        answer: dict[str, Any] = {
            "content": [self._shown(record, place) for record in listing.records],
            "count": {"href": page_link(place, "history//_count", {}, encode_start(0))},
            "serverSidePagination": listing.server_side_pagination,
        }
        if listing.next_start is not None:
            answer["next"] = {"href": page_link(place, "history/", query, listing.next_start)}
        return json_response(answer)

    def _shown(self, record: Record, place: Place) -> dict[str, Any]:
        resource, own = self._state.resource("profile"), f"history/{place.linked(record)}"
        logs = self._state.logs_of(record)
        facts = shown(self._state, resource, record, place) | {"href": place.href(own)}
        return facts | {
            "countBroadLogEvents": len(logs),
            "countSubHistoEvents": 0,
            "minBroadLogEvents": logs[0]["date"] if logs else "",
            "events": {"href": place.href(f"{own}/events/"), "metadata": "subHisto"},
        }

    def _events(self, record: Record, place: Place) -> list[dict[str, Any]]:
        own = f"history/{place.linked(record)}/events"
        return [
            {
                **log,
                "href": place.href(f"{own}/{log['PKey']}"),
                "mirrorPage": {"href": place.href(f"{own}/{log['PKey']}/mirrorPage/")},
                "type": "outbound",
            }
            for log in self._state.logs_of(record)
        ]


class MessageApi:
    """`/mc{tenant}/{event}`: transactional events ("Managing transactional messages")."""

    def __init__(self, state: CampaignState) -> None:
        self._state = state

    def answer(self, request: Request, body: bytes, base: str, path: list[str]) -> Response:
        operation(request, "message")
        if len(path) < 2 or path[1] not in self._state.settings.transactional_events:
            raise unknown_key("event", "nms:rtEvent", path[1] if len(path) > 1 else "")
        if len(path) == 3:
            found = self._state.messages.get(path[2])
            if found is None:
                raise unknown_key("event", "nms:rtEvent", path[2])
            return json_response(found | {"status": "processed"})
        if len(path) > 3 or request.method != "POST":
            raise wrong_path()
        wanted = parsed(body)
        if not wanted.get("email") and not wanted.get("mobilePhone"):
            raise InstanceError(500, "RST-360000 The event has neither 'email' nor 'mobilePhone'.")
        pkey, now = self._state.new_pkey(), self._state.clock.campaign_stamp()
        message = {name: wanted.get(name, "") for name in COLLECTABLE}
        message |= {"PKey": pkey, "created": now, "lastModified": now, "type": path[1], "status": "pending"}
        message["href"] = f"{base}/{path[0]}/{path[1]}/{pkey}"
        self._state.messages[pkey] = message
        return json_response(message)
