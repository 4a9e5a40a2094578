"""The environment itself over HTTP: service document, `$metadata`, WhoAmI, totals, messages, system jobs."""

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from .dataverse_csdl import csdl
from .dataverse_errors import does_not_exist, not_here
from .dataverse_http import ROOT, context, ok
from .dataverse_read import encode
from .dataverse_state import SYSTEM_USER, DataverseState
from .web import Rule, operation

FUNCTIONS = frozenset({"WhoAmI", "RetrieveTotalRecordCount", "RetrieveMetadataChanges"})
BULK_MESSAGES = ("CreateMultiple", "UpdateMultiple")
"""UpsertMultiple is never listed; it works where both of these do ("Use bulk operation messages")."""
_MESSAGE = re.compile(r"sdkmessageid/name\s+eq\s+'(\w+)'")
_TABLE = re.compile(r"primaryobjecttypecode\s+eq\s+'(\w+)'")


class ServiceApi:
    def __init__(self, state: DataverseState) -> None:
        self._state = state

    def rules(self) -> list[Rule]:
        return [
            Rule("GET", ROOT, self.service_document),
            Rule("GET", ROOT + "/", self.service_document),
            Rule("GET", ROOT + "/$metadata", self.metadata_document),
            Rule("GET", ROOT + "/WhoAmI", self.who_am_i),
            Rule("GET", ROOT + "/WhoAmI()", self.who_am_i),
            Rule("GET", ROOT + "/organizations", self.organizations),
            Rule("GET", ROOT + "/RetrieveTotalRecordCount({names:path})", self.total_record_count),
            Rule("GET", ROOT + "/sdkmessagefilters", self.message_filters),
            Rule("GET", ROOT + "/asyncoperations({key})", self.system_job),
            Rule("POST", ROOT + "/CreateEntities", self.create_entities),
        ]

    def service_document(self, request: Request, body: bytes) -> Response:
        sets = sorted(table.definition.entity_set for table in self._state.tables.values())
        entries = [{"name": name, "kind": "EntitySet", "url": name} for name in sets]
        return ok({"@odata.context": context(request, ""), "value": entries})

    def metadata_document(self, request: Request, body: bytes) -> Response:
        operation(request, "metadata")
        annotated = request.query_params.get("annotations", "").lower() == "true"
        return Response(csdl(self._state, annotated), media_type="application/xml")

    def who_am_i(self, request: Request, body: bytes) -> Response:
        facts = {"BusinessUnitId": SYSTEM_USER.id[:-1] + "2", "UserId": SYSTEM_USER.id}
        facts["OrganizationId"] = SYSTEM_USER.id[:-1] + "3"
        return ok({"@odata.context": context(request, "Microsoft.Dynamics.CRM.WhoAmIResponse")} | facts)

    def organizations(self, request: Request, body: bytes) -> Response:
        row: dict[str, Any] = {"organizationid": SYSTEM_USER.id[:-1] + "3", "name": "sandbox"}
        row |= {"expirechangetrackingindays": self._state.settings.delta_token_days}
        return ok({"@odata.context": context(request, "organizations"), "value": [row]})

    def total_record_count(self, request: Request, body: bytes) -> Response:
        """Totals by table; real ones may be a day old ("RetrieveTotalRecordCount function")."""
        text = request.path_params["names"] + " ".join(request.query_params.values())
        names = [name for name in re.findall(r"\w+", text) if name in self._state.tables]
        counts = [len(self._state.tables[name].rows) for name in names]
        kind = "Microsoft.Dynamics.CRM.RetrieveTotalRecordCountResponse"
        answer = {"EntityRecordCountCollection": {"Count": len(names), "Keys": names, "Values": counts}}
        return ok({"@odata.context": context(request, kind)} | answer)

    def message_filters(self, request: Request, body: bytes) -> Response:
        """Whether a table knows a bulk message: the test "Use bulk operation messages" gives."""
        text = request.query_params.get("$filter", "")
        message, table = _MESSAGE.search(text), _TABLE.search(text)
        if message is None or table is None:
            raise not_here("other queries of sdkmessagefilters than for one message of one table")
        known = (
            message[1] in BULK_MESSAGES
            and table[1] in self._state.tables
            and table[1] not in self._state.settings.bulk_messages_missing
        )
        rows = [{"sdkmessagefilterid": SYSTEM_USER.id[:-1] + "f"}] if known else []
        return ok({"@odata.context": context(request, "sdkmessagefilters"), "value": rows})

    def system_job(self, request: Request, body: bytes) -> Response:
        """State of a BulkDelete job: 0/0 waiting, 3/30 succeeded."""
        key = request.path_params["key"]
        done = self._state.jobs.get(key)
        if done is None:
            raise does_not_exist("asyncoperation", key)
        states = {"statecode": 3, "statuscode": 30} if done else {"statecode": 0, "statuscode": 0}
        head = {"@odata.context": context(request, "asyncoperations/$entity"), "asyncoperationid": key}
        return Response(encode(head | states), media_type="application/json")

    def create_entities(self, request: Request, body: bytes) -> Response:
        raise not_here("the creation of tables; register one at the admin address instead")
