"""Service protection and latency: "Service protection API limits"."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from d365_campaign.sandbox import Sandbox

from .conftest import Caller


def test_more_concurrent_requests_than_allowed_are_refused(sandbox: Sandbox, dataverse: Caller) -> None:
    sandbox.settings.update(
        {"service_protection": True, "service_protection_concurrency": 2, "dataverse_latency_seconds": 0.3}
    )
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: dataverse.get("WhoAmI"), range(4)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert refused[0].json()["error"] == {
        "code": "0x80072326",
        "message": "Number of concurrent requests exceeded the limit of 2.",
    }
    assert int(refused[0].headers["Retry-After"]) >= 1
    assert dataverse.get("WhoAmI").status_code == 200


def test_combined_execution_time_is_limited(sandbox: Sandbox, dataverse: Caller) -> None:
    sandbox.settings.update(
        {"service_protection": True, "service_protection_execution_seconds": 0.1, "dataverse_latency_seconds": 0.2}
    )
    assert dataverse.get("WhoAmI").status_code == 200
    refused = dataverse.get("WhoAmI")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "0x80072321")
    assert "exceeded limit of 100 milliseconds over time window of 300 seconds" in refused.json()["error"]["message"]
    sandbox.advance_clock(301)
    assert dataverse.get("WhoAmI").status_code == 200


@pytest.mark.parametrize("seconds", [0.0, 0.25], ids=["off", "on"])
@pytest.mark.parametrize("system", ["dataverse", "campaign"])
def test_latency_is_a_setting_of_each_system(
    sandbox: Sandbox, dataverse: Caller, campaign: Caller, system: str, seconds: float
) -> None:
    sandbox.settings.update({f"{system}_latency_seconds": seconds})
    started = time.monotonic()
    answer = dataverse.get("WhoAmI") if system == "dataverse" else campaign.get("/profileAndServices/profile")
    assert answer.status_code == 200
    assert (time.monotonic() - started >= 0.25) is (seconds > 0)
