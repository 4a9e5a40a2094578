"""Campaign Standard over HTTP: Adobe's gateway checks first, then the instance's resources, metadata and workflows."""

import re
import threading
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from .campaign_body import field_names, parsed
from .campaign_errors import InstanceError, malformed_pkey, unknown_key, wrong_path
from .campaign_gateway import CampaignGateway
from .campaign_metadata import content, filter_names, filters, resource_type
from .campaign_other import HistoryApi, MessageApi, PrivacyApi, WorkflowApi
from .campaign_read import Place, custom_filter, encode_start, list_records, page_link, shown
from .campaign_resource import Record, Resource
from .campaign_state import HELD_LINKS, CampaignState
from .tokens import CAMPAIGN_APPLICATION, TokenIssuer
from .web import Refusal, fields_named, json_response, operation, origin

ENDPOINTS = ("profileAndServices", "profileAndServicesExt", "customResources")
RESOURCE_TYPE = "resourceType"
_PKEY = re.compile(r"@[A-Za-z0-9_-]{60,200}")


class CampaignApi:
    """Paths are walked segment by segment, since a segment may be a key, a filter, an attribute or a link."""

    def __init__(self, state: CampaignState, tokens: TokenIssuer) -> None:
        self._state = state
        self._gateway = CampaignGateway(state.settings, state.clock, tokens, CAMPAIGN_APPLICATION)
        self._tenant = CAMPAIGN_APPLICATION.tenant
        self._beside: dict[str, WorkflowApi | PrivacyApi] = {
            "workflow/execution": WorkflowApi(state),
            "privacy/privacyTool": PrivacyApi(state),
        }
        self._history, self._messages = HistoryApi(state), MessageApi(state)

    def app(self, lock: threading.RLock) -> Starlette:
        async def endpoint(request: Request) -> Response:
            body = await request.body()
            with lock:
                return self._answer(request, body)

        methods = ["GET", "POST", "PATCH", "DELETE", "PUT"]
        return Starlette(routes=[Route("/{path:path}", endpoint, methods=methods)])

    def _answer(self, request: Request, body: bytes) -> Response:
        try:
            segments = self._gateway.admit(request, self._tenant)
            return self._instance(request, body, segments)
        except Refusal as refusal:
            return refusal.response
        except InstanceError as error:
            return self._failed(error)

    def _failed(self, error: InstanceError) -> Response:
        if self._state.settings.error_format == "json_string":
            return json_response(error.text, error.status)
        return PlainTextResponse(error.text, error.status)

    def _instance(self, request: Request, body: bytes, segments: list[str]) -> Response:
        """*segments* follow `/{tenant}/campaign`; doubled and trailing slashes are gone."""
        base = f"{origin(request)}/{self._tenant}/campaign"
        self._state.run_due()
        if segments and segments[0] == f"mc{self._tenant}":
            return self._messages.answer(request, body, base, segments)
        beside = self._beside.get("/".join(segments[:2]))
        if beside is not None:
            return beside.answer(request, body, base, segments[2:])
        if not segments or segments[0].removesuffix(".json") not in ENDPOINTS:
            raise wrong_path()
        settings = self._state.settings
        place = Place(base, segments[0], settings.random_hrefs, settings.href_pkeys_differ)
        rest = segments[1:]
        if not rest:
            operation(request, "metadata")
            return json_response(self._resource_list(place))
        if rest[0] == RESOURCE_TYPE:
            return self._metadata(request, place, rest[1:])
        if rest[0] == "history" and place.endpoint != "customResources":
            return self._history.answer(request, place, rest[1:])
        return self._resource(request, body, place, rest)

    # --- metadata

    def _resource_list(self, place: Place) -> dict[str, Any]:
        listing: dict[str, Any] = {"apiName": RESOURCE_TYPE}
        for name, resource in self._state.resources.items():
            if not resource.definition.published or not self._serves(place, resource):
                continue
            listing[name] = {
                "content": {},
                "data": f"/{place.endpoint}/{name}/",
                "help": resource.definition.label,
                "href": f"{place.base}/{place.endpoint}/{name}/metadata",
                "name": name,
                "type": "collection",
            }
        return listing

    def _metadata(self, request: Request, place: Place, names: list[str]) -> Response:
        operation(request, "metadata")
        if not names:
            return json_response(self._resource_list(place))
        name = "profile" if names[0] == "history" else names[0].lstrip("@")
        resource = self._served(place, name)
        if names[1:] == ["filters"]:
            return json_response({"content": filters(resource.definition)})
        if len(names) > 1:
            raise wrong_path()
        return json_response(resource_type(self._state, resource, place.endpoint, place.base, names[0].lstrip("@")))

    def _serves(self, place: Place, resource: Resource) -> bool:
        """A resource is on exactly one of the two custom endpoints; built-in ones are on both of theirs."""
        if resource.definition.built_in:
            return place.endpoint != "customResources"
        wanted = "profileAndServicesExt" if self._state.linked_to_profile(resource) else "customResources"
        return place.endpoint == wanted

    def _served(self, place: Place, name: str) -> Resource:
        resource = self._state.resource(name)
        if not self._serves(place, resource):
            raise unknown_key(name, "xtk:resourceType", name)
        return resource

    # --- records

    def _resource(self, request: Request, body: bytes, place: Place, path: list[str]) -> Response:
        name = path[0].removesuffix(".json")
        resource = self._served(place, name)
        rest = self._parts(resource, path[1:])
        if rest == ["metadata"]:
            operation(request, "metadata")
            return json_response(resource_type(self._state, resource, place.endpoint, place.base))
        if not rest:
            return (
                self._insert(request, body, place, resource)
                if request.method == "POST"
                else (self._list(request, place, resource, []))
            )
        if rest[0] == "_count" or self._names_filter(resource, rest[0]):
            return self._list(request, place, resource, rest)
        if rest[0] in content(self._state, resource, place.custom):
            return self._project(request, place, resource, rest[0])
        return self._record(request, body, place, resource, rest)

    def _parts(self, resource: Resource, path: list[str]) -> list[str]:
        """Several filters may come as one segment, `byA%2FbyB`; in any other segment a slash belongs to a key."""
        parts: list[str] = []
        for segment in path:
            names = [name for name in segment.split("/") if name]
            several = len(names) > 1 and self._names_filter(resource, names[0])
            parts.extend(names if several else [segment])
        return parts

    def _names_filter(self, resource: Resource, segment: str) -> bool:
        return segment in filter_names(resource.definition) or custom_filter(resource, segment) is not None

    def _insert(self, request: Request, body: bytes, place: Place, resource: Resource) -> Response:
        operation(request, "insert")
        values = self._body(body, place, resource)
        fields_named(request, field_names(values))
        record = self._state.insert(resource, values)
        return json_response(shown(self._state, resource, record, place), 201)

    def _record(self, request: Request, body: bytes, place: Place, resource: Resource, rest: list[str]) -> Response:
        verbs = {"GET": self._read, "PATCH": self._update, "DELETE": self._delete}
        if len(rest) > 1:
            return self._sub_collection(request, place, resource, rest)
        if request.method not in verbs:
            raise wrong_path()
        operation(request, {"GET": "update_read", "PATCH": "update", "DELETE": "delete"}[request.method])
        record = self._addressed(request.method, place, resource, rest[0])
        if request.method == "PATCH":
            fields_named(request, field_names(parsed(body)))
        return verbs[request.method](body, place, resource, record, rest[0])

    def _read(self, body: bytes, place: Place, resource: Resource, record: Record, address: str) -> Response:
        return json_response(
            shown(self._state, resource, record, place, href=self._state.settings.href_in_single_reads)
        )

    def _update(self, body: bytes, place: Place, resource: Resource, record: Record, address: str) -> Response:
        self._state.change(resource, record, self._body(body, place, resource), address)
        return json_response(
            {"PKey": record.pkey, "href": place.href(f"{resource.definition.name}/{place.linked(record)}")}
        )

    def _delete(self, body: bytes, place: Place, resource: Resource, record: Record, address: str) -> Response:
        self._state.drop(resource, record)
        if resource.definition.custom and self._state.settings.custom_resource_delete_status == 204:
            return Response(b"", 204)
        return json_response({})

    def _addressed(self, method: str, place: Place, resource: Resource, address: str) -> Record:
        """The visible record behind a PKey or a custom key ("Must-read")."""
        definition = resource.definition
        if address.startswith("@"):
            if not _PKEY.fullmatch(address):
                raise malformed_pkey(address, definition.label, definition.schema_name)
            record = resource.by_pkey.get(place.plain(address))
            if record is None and method in ("PATCH", "DELETE"):
                status = self._state.settings.deleted_pkey_status
                raise InstanceError(status, unknown_key(definition.name, definition.schema_name, address).text)
        elif method not in self._state.settings.custom_key_verbs:
            raise wrong_path()
        else:
            record = self._state.by_key(resource, address)
        if record is None or not self._state.visible(resource, record):
            raise unknown_key(definition.name, definition.schema_name, address)
        return record

    def _sub_collection(self, request: Request, place: Place, resource: Resource, rest: list[str]) -> Response:
        """What the hrefs inside a record lead to; they need its PKey, not its custom key."""
        operation(request, "list")
        if request.method != "GET" or not rest[0].startswith("@"):
            raise wrong_path()
        record, name = self._addressed("GET", place, resource, rest[0]), rest[1]
        found = self._state.children(resource, record, name)
        if found is not None:
            child, records = found
            items = [shown(self._state, child, item, place) for item in records]
        elif name in resource.definition.collections:
            items = self._state.logs_of(record) if name == "logs" else []
        else:
            raise wrong_path()
        return json_response({"content": items, "count": {"value": len(items)}})

    def _body(self, body: bytes, place: Place, resource: Resource) -> dict[str, Any]:
        """The values to write; custom fields and the organizational unit only on endpoints that know them."""
        values = parsed(body)
        if not place.custom:
            known = {name: value for name, value in values.items() if name.startswith("cus") or name in HELD_LINKS}
            if known:
                raise InstanceError(
                    500, f"'{next(iter(known))}' property is not valid for the '{resource.definition.name}' resource."
                )
        return values

    # --- lists

    def _list(self, request: Request, place: Place, resource: Resource, rest: list[str]) -> Response:
        if request.method != "GET":
            raise wrong_path()
        query = dict(request.query_params)
        names = [name for name in rest if name != "_count"]
        path = "/".join([resource.definition.name, *names])
        if "_count" in rest:
            operation(request, "count")
            everything = list_records(self._state, resource, names, {**query, "_lineCount": str(10**9)}, None)
            return json_response({"count": len(everything.records)})
        operation(request, "list")
        listing = list_records(self._state, resource, names, query, None)
        answer: dict[str, Any] = {
            "content": [shown(self._state, resource, record, place) for record in listing.records],
            "count": {"href": page_link(place, f"{path}//_count", _filters_only(query), encode_start(0))},
            "serverSidePagination": listing.server_side_pagination,
        }
        if self._state.settings.count_inline and listing.next_start is None and "_lineStart" not in query:
            answer["count"]["value"] = len(listing.records)
        if listing.next_start is not None:
            answer["next"] = {"href": page_link(place, f"{path}/", query, listing.next_start)}
        return json_response(answer)

    def _project(self, request: Request, place: Place, resource: Resource, attribute: str) -> Response:
        """One attribute of every record, as an array of scalars ("Retrieving profiles")."""
        operation(request, "list")
        if request.method != "GET":
            raise wrong_path()
        query = dict(request.query_params)
        listing = list_records(self._state, resource, [], query, None)
        values = [self._state.as_dict(resource, record).get(attribute) for record in listing.records]
        answer: dict[str, Any] = {"content": values}
        if listing.next_start is not None:
            path = f"{resource.definition.name}/{attribute}"
            answer["next"] = {"href": page_link(place, path, query, listing.next_start)}
        return json_response(answer)


def _filters_only(query: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in query.items() if not name.startswith("_line")}
