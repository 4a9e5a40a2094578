"""Faults: what a client may meet on the way, on request."""

import socket
import ssl
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests

from d365_campaign.sandbox import Sandbox

from .conftest import Caller

EXT = "/profileAndServicesExt/profile"
BROKEN = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)


def test_a_status_with_headers_and_body_once(sandbox: Sandbox, campaign: Caller) -> None:
    sandbox.add_fault(system="campaign", status=503, body={"error_code": "503010"}, headers={"X-Why": "test"})
    first, second = campaign.get(EXT), campaign.get(EXT)
    assert (first.status_code, first.json(), first.headers["X-Why"]) == (503, {"error_code": "503010"}, "test")
    assert second.status_code == 200


def test_times_skip_method_and_path_choose_the_requests(sandbox: Sandbox, campaign: Caller) -> None:
    sandbox.add_fault(system="campaign", method="POST", path="/profile$", status=500, body="no", skip=1, times=2)
    statuses = [campaign("POST", EXT, json={}).status_code for _ in range(4)]
    assert campaign.get(EXT).status_code == 200
    assert statuses == [201, 500, 500, 201]


def test_retry_after_in_seconds_or_as_a_date(sandbox: Sandbox, dataverse: Caller) -> None:
    sandbox.add_fault(system="dataverse", status=429, retry_after=7)
    sandbox.add_fault(system="dataverse", status=429, retry_after="date")
    assert dataverse.get("WhoAmI").headers["Retry-After"] == "7"
    later = parsedate_to_datetime(dataverse.get("WhoAmI").headers["Retry-After"])
    assert 0 <= later.timestamp() - time.time() <= 3


def test_a_reset_has_no_effect_and_a_lost_answer_has(sandbox: Sandbox, campaign: Caller) -> None:
    sandbox.add_fault(system="campaign", method="POST", reset=True)
    sandbox.add_fault(system="campaign", method="POST", lose_answer=True)
    for key in ("first", "second"):
        with pytest.raises(BROKEN):
            campaign("POST", EXT, json={"externalId": key})
    assert sandbox.campaign.find("profile", "externalId", "first") is None
    assert sandbox.campaign.find("profile", "externalId", "second") is not None
    assert [call.status for call in sandbox.calls("campaign")] == [0, 0]


def test_a_body_can_be_cut_short(sandbox: Sandbox, dataverse: Caller) -> None:
    sandbox.seed(10)
    sandbox.add_fault(system="dataverse", truncate=100)
    with pytest.raises(BROKEN):
        dataverse.get("contacts")
    assert dataverse.get("contacts").status_code == 200


@pytest.mark.parametrize("fault", [{"delay_seconds": 0.3}, {"slow_drip": 0.3}], ids=["delay", "slow drip"])
def test_answers_can_be_slow(sandbox: Sandbox, dataverse: Caller, fault: dict[str, Any]) -> None:
    sandbox.seed(10)
    sandbox.add_fault(system="dataverse", **fault)
    started = time.monotonic()
    assert len(dataverse.json("contacts")["value"]) == 10
    assert time.monotonic() - started >= 0.25


def test_links_can_be_made_to_lead_elsewhere(sandbox: Sandbox, dataverse: Caller) -> None:
    sandbox.seed(5)
    sandbox.add_fault(system="dataverse", replace=["https://localhost:\\d+/api", "https://elsewhere.example/api"])
    page = dataverse.json("contacts?$select=firstname", headers={"Prefer": "odata.maxpagesize=2"})
    assert page["@odata.nextLink"].startswith("https://elsewhere.example/api/")


def test_faults_can_be_cleared(sandbox: Sandbox, dataverse: Caller) -> None:
    sandbox.add_fault(status=500, times=100)
    sandbox.clear_faults()
    assert dataverse.get("WhoAmI").status_code == 200


@pytest.mark.parametrize("system", ["entra", "ims"])
def test_token_endpoints_can_fail_too(sandbox: Sandbox, anonymous: Caller, system: str) -> None:
    url = {"entra": "dataverse_token_url", "ims": "ims_token_url"}[system]
    sandbox.add_fault(system=system, status=503, body="busy", content_type="text/plain")
    assert anonymous("POST", sandbox.endpoints[url], data={}).text == "busy"


def test_a_retry_on_a_fresh_connection_succeeds(sandbox: Sandbox, campaign: Caller) -> None:
    sandbox.add_fault(system="campaign", reset=True)
    attempt: Callable[[], requests.Response] = lambda: campaign.get(EXT)  # noqa: E731
    with pytest.raises(BROKEN):
        attempt()
    assert attempt().status_code == 200


def test_a_client_that_dies_in_mid_request_changes_nothing_and_makes_no_noise(
    sandbox: Sandbox, capfd: pytest.CaptureFixture[str]
) -> None:
    """A process that was killed while it wrote: its request has a length, and its body never comes."""
    host, port = sandbox.endpoints["ims"].removeprefix("https://").split(":")
    context = ssl.create_default_context(cafile=sandbox.endpoints["ca_bundle"])
    with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain, server_hostname=host) as wire:
        wire.sendall(b"POST /ims/token/v3 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\ngrant")
    deadline = time.monotonic() + 5
    while not sandbox.calls("ims"):
        assert time.monotonic() < deadline, "the request was never noticed"
        time.sleep(0.02)
    assert [call.status for call in sandbox.calls("ims")] == [0]
    assert capfd.readouterr().err == ""
