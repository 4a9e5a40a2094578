"""Campaign beside its resources: history, privacy, transactional events, workflows, keys with slashes."""

import pytest

from d365_campaign.sandbox import Sandbox

from .conftest import Caller

EXT = "/profileAndServicesExt/profile"
PRIVACY = "/privacy/privacyTool"
WORKFLOW = "/workflow/execution/d365OptOutExport"


def privacy_request(kind: str, **changes: str) -> dict[str, str]:
    values = {"name": "PT1", "namespaceName": "AMCDS2", "reconciliationValue": "ada@example.com", "label": "L"}
    return values | {"type": kind, "regulation": "gdpr"} | changes


def test_a_custom_key_may_hold_a_slash(sandbox: Sandbox, campaign: Caller) -> None:
    """ "Must-read": the key is one segment, so its slash is sent as `%2F`."""
    campaign("POST", EXT, json={"externalId": "a/b?c d", "lastName": "x"})
    address = f"{EXT}/a%2Fb%3Fc%20d"
    assert campaign.json(address)["lastName"] == "x"
    assert campaign("PATCH", address, json={"lastName": "y"}).status_code == 200
    assert campaign("DELETE", address).status_code == 200
    assert sandbox.campaign.records("profile") == []


def test_a_custom_key_may_start_with_a_tilde(campaign: Caller) -> None:
    campaign("POST", EXT, json={"externalId": "~key", "lastName": "x"})
    assert campaign.json(f"{EXT}/~key")["lastName"] == "x"


def test_history_shows_a_profile_and_its_events(sandbox: Sandbox, campaign: Caller) -> None:
    """ "Interacting with marketing history"."""
    pkey = campaign("POST", EXT, json={"externalId": "c1", "email": "ada@example.com"}).json()["PKey"]
    sandbox.campaign.add_log("c1")
    found = campaign.json(f"/profileAndServices/history/{pkey}")
    assert (found["email"], found["countBroadLogEvents"]) == ("ada@example.com", 1)
    assert campaign.json(found["events"]["href"])["content"][0]["type"] == "outbound"
    assert len(campaign.json("/profileAndServices/history")["content"]) == 1
    assert campaign.get("/profileAndServices/history/nobody").status_code == 404


@pytest.mark.parametrize("seconds", [0.0, 60.0], ids=["at once", "a minute later"])
def test_a_privacy_delete_takes_logs_along(sandbox: Sandbox, campaign: Caller, seconds: float) -> None:
    """ "Creating a privacy request", "Monitoring a privacy request"; a plain delete leaves the logs."""
    sandbox.settings.update({"privacy_request_seconds": seconds})
    campaign("POST", EXT, json={"externalId": "c1", "email": "ada@example.com"})
    sandbox.campaign.add_log("c1")
    made = campaign("POST", PRIVACY, json=privacy_request("delete"))
    assert (made.status_code, made.json()["status"]) == (201, "new")
    if seconds:
        assert len(sandbox.campaign.records("profile")) == 1
        sandbox.advance_clock(seconds)
    assert campaign.json(made.json()["href"])["status"] == "complete"
    assert (sandbox.campaign.records("profile"), sandbox.campaign.logs("c1")) == ([], [])


@pytest.mark.parametrize("member", ["privacyRequestData", "gdprRequestData"])
def test_a_privacy_access_request_leads_to_its_data(sandbox: Sandbox, campaign: Caller, member: str) -> None:
    sandbox.settings.update({"privacy_data_member": member})
    campaign("POST", EXT, json={"email": "ada@example.com"})
    made = campaign("POST", PRIVACY, json=privacy_request("access")).json()
    data = campaign("POST", made[member]["href"], json={"name": "PT1"}).json()
    assert data["profile"][0]["email"] == "ada@example.com"


@pytest.mark.parametrize(
    ("changes", "text"),
    [({"regulation": ""}, "'regulation' parameter is mandatory"), ({"type": "other"}, "'other' is not valid")],
)
def test_privacy_requests_that_are_refused(campaign: Caller, changes: dict[str, str], text: str) -> None:
    response = campaign("POST", PRIVACY, json=privacy_request("access", **changes))
    assert response.status_code == 500
    assert text in response.text


def test_a_privacy_request_for_nobody_finds_no_data(campaign: Caller) -> None:
    campaign("POST", PRIVACY, json=privacy_request("access"))
    assert [item["status"] for item in campaign.json(PRIVACY)["content"]] == ["errorDataNotFound"]
    assert campaign("POST", PRIVACY, json=privacy_request("access")).status_code == 500


def test_transactional_events(sandbox: Sandbox, campaign: Caller) -> None:
    """ "Managing transactional messages"; the SDK asks for the state with POST, the page shows GET."""
    address = "/mcsandbox/EVTcartAbandonment"
    sent = campaign("POST", address, json={"email": "ada@example.com"}).json()
    assert sent["status"] == "pending"
    for method in ("GET", "POST"):
        assert campaign(method, f"{address}/{sent['PKey']}").json()["status"] == "processed"
    assert campaign("POST", address, json={}).status_code == 500
    sandbox.settings.update({"transactional_events": []})
    assert campaign("POST", address, json={"email": "a@example.com"}).status_code == 404


def test_signals_come_every_ten_minutes_at_most(sandbox: Sandbox, campaign: Caller) -> None:
    """ "Triggering a signal activity": inside the window the answer is plain text."""
    href = campaign.json(WORKFLOW)["activities"]["activity"]["signal"]["trigger"]["href"]
    signal = {"source": "API", "parameters": {"day": "today"}}
    assert campaign("POST", href, json=signal).json() == {}
    again = campaign("POST", href, json=signal)
    assert (again.status_code, again.text[0]) == (200, "T")
    assert again.headers["Content-Type"].startswith("text/plain")
    sandbox.advance_clock(600)
    assert campaign("POST", href, json=signal).json() == {}


@pytest.mark.parametrize(
    ("signal", "text"),
    [
        ({"parameters": {}}, "'source' parameter is mandatory"),
        ({"source": "API", "parameters": {"nothing": 1}}, "'nothing' parameter isn't defined in signal activity."),
    ],
)
def test_signals_that_are_refused(campaign: Caller, signal: dict[str, object], text: str) -> None:
    href = campaign.json(WORKFLOW)["activities"]["activity"]["signal"]["trigger"]["href"]
    assert text in campaign("POST", href, json=signal).text


def test_a_signal_needs_a_running_workflow(campaign: Caller) -> None:
    href = campaign.json(WORKFLOW)["activities"]["activity"]["signal"]["trigger"]["href"]
    assert campaign("POST", f"{WORKFLOW}/commands", json={"method": "stop"}).json() == {"state": "stopped"}
    assert "is not running" in campaign("POST", href, json={"source": "API"}).text


@pytest.mark.parametrize("link", ["orgUnit", "geoUnit"])
def test_a_unit_is_a_link_of_the_ext_endpoint(campaign: Caller, link: str) -> None:
    """ "Updating a profile's Organizational unit", and the same of its Geographical unit; an object without a PKey is
    ignored, null clears."""
    unit = campaign.json(f"/profileAndServicesExt/{link}Base")["content"][0]
    told = campaign.json("/profileAndServicesExt/resourceType/profile")["content"][link]
    assert (told["type"], told["resTarget"]) == ("link", f"{link}Base")
    pkey = campaign("POST", EXT, json={"lastName": "x"}).json()["PKey"]
    refused = campaign("PATCH", f"/profileAndServices/profile/{pkey}", json={link: {"PKey": unit["PKey"]}})
    assert refused.status_code == 500
    for value, title in (({"PKey": unit["PKey"]}, "All"), ({"name": "other"}, "All"), (None, None)):
        assert campaign("PATCH", f"{EXT}/{pkey}", json={link: value}).status_code == 200
        shown = campaign.json(f"{EXT}/{pkey}")[link]
        assert (shown and shown["title"]) == title
