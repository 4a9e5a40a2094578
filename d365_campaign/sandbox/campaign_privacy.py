"""Privacy requests: access to a person's data and its deletion ("Creating a privacy request", "Monitoring...").

The product never sends one. Tests stage with them what a privacy delete leaves behind.
"""

from typing import TYPE_CHECKING, Any

from .campaign_errors import InstanceError

if TYPE_CHECKING:
    from .campaign_state import CampaignState

MANDATORY = ("name", "namespaceName", "reconciliationValue", "label", "type", "regulation")
TYPES = ("access", "delete")
RECONCILED_BY = "email"
"""The profile attribute that every namespace here reconciles by."""


def create(state: "CampaignState", wanted: dict[str, Any]) -> dict[str, Any]:
    missing = [name for name in MANDATORY if not wanted.get(name)]
    if missing:
        raise InstanceError(500, f"RST-360000 The '{missing[0]}' parameter is mandatory.")
    if wanted["type"] not in TYPES:
        raise InstanceError(500, f"RST-360011 The value '{wanted['type']}' is not valid for the '@type' field")
    if any(request["name"] == wanted["name"] for request in state.privacy_requests.values()):
        raise InstanceError(500, f"A 'Privacy request' with the same key '{wanted['name']}' already exists.")
    now, pkey = state.clock.campaign_stamp(), state.new_pkey()
    request: dict[str, Any] = {name: str(wanted[name]) for name in MANDATORY}
    request |= {"PKey": pkey, "created": now, "lastModified": now, "status": "new", "retryCount": 0, "data": None}
    request["due"] = state.clock.seconds() + state.settings.privacy_request_seconds
    state.privacy_requests[pkey] = request
    return request


def carry_out(state: "CampaignState", request: dict[str, Any]) -> None:
    """Collect the person's profiles; for a delete request remove them and, unlike a plain delete, their logs."""
    resource = state.resource("profile")
    value = str(request["reconciliationValue"])
    found = list(resource.index_on(RECONCILED_BY).find(value))
    request["status"] = "complete" if found else "errorDataNotFound"
    request["lastModified"] = state.clock.campaign_stamp()
    request["data"] = [state.as_dict(resource, record) for record in found]
    if request["type"] == "delete":
        for record in found:
            state.forget_logs(record)
            state.drop(resource, record)


def shown(request: dict[str, Any], href: str, data_member: str) -> dict[str, Any]:
    names = ("PKey", "created", "lastModified", "label", "name", "reconciliationValue", "regulation", "retryCount")
    return {
        **{name: request[name] for name in names},
        "audit": "",
        "desc": "",
        data_member: {"href": f"{href}/{data_member}/"},
        "href": href,
        "namespace": {"name": request["namespaceName"], "title": request["namespaceName"]},
        "status": request["status"],
        "type": request["type"],
    }
