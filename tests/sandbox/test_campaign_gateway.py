"""Adobe's gateway in front of the instance: "API troubleshooting" and Adobe's open-sourced gateway codes."""

from datetime import datetime
from email.utils import parsedate_to_datetime

import pytest

from d365_campaign.sandbox import Sandbox

from .conftest import Caller

PROFILE = "/profileAndServices/profile"


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        ({"X-Api-Key": None}, 403, {"error_code": "403000", "message": "Api Key is required"}),
        ({"X-Api-Key": "wrong"}, 403, {"error_code": "403003", "message": "Api Key is invalid"}),
        ({"Authorization": None}, 403, {"error_code": "403010", "message": "Oauth token is missing."}),
        ({"Authorization": "Bearer x"}, 401, {"error_code": "401013", "message": "Oauth token is not valid"}),
    ],
    ids=["no key", "wrong key", "no token", "bad token"],
)
def test_key_and_token(campaign: Caller, headers: dict[str, str], status: int, body: dict[str, str]) -> None:
    response = campaign.get(PROFILE, headers=headers)
    assert (response.status_code, response.json()) == (status, body)
    assert response.headers["X-Request-Id"]


@pytest.mark.parametrize(("setting", "status"), [("403023", 403), ("500", 500)])
def test_a_foreign_tenant(sandbox: Sandbox, campaign: Caller, setting: str, status: int) -> None:
    sandbox.settings.update({"unknown_tenant": setting})
    response = campaign.get(sandbox.endpoints["campaign"].replace("/sandbox/", "/other/") + PROFILE)
    assert response.status_code == status
    assert response.json()["message"] in (
        "Profile is not valid",
        "Oops. Something went wrong. Check your URI and try again.",
    )


def test_a_path_that_leads_nowhere(sandbox: Sandbox, campaign: Caller) -> None:
    assert campaign.get(sandbox.endpoints["campaign_instance"] + "/nothing").json()["code"] == 500
    assert campaign.get("/nothing").status_code == 404


def test_the_rate_limit_is_a_setting(sandbox: Sandbox, campaign: Caller) -> None:
    sandbox.settings.campaign_requests_per_second = 2
    answers = [campaign.get(PROFILE) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json() == {"error_code": "429050", "message": "Too many requests"}
    sandbox.advance_clock(int(answers[2].headers["Retry-After"]))
    assert campaign.get(PROFILE).status_code == 200


@pytest.mark.parametrize("seconds", [300, -300])
def test_campaigns_clock_may_differ_from_dataverses(sandbox: Sandbox, campaign: Caller, seconds: int) -> None:
    sandbox.settings.update({"campaign_clock_skew_seconds": seconds})
    sandbox.campaign.create("profile", {"externalId": "c1", "blackListEmail": True})
    profile, moment = sandbox.campaign.get("profile", "c1"), sandbox.clock.now()
    for stamp in ("created", "lastModified", "blackListEmailLastModified"):
        ahead = datetime.fromisoformat(profile[stamp]) - moment
        assert ahead.total_seconds() == pytest.approx(seconds, abs=5)
    served = parsedate_to_datetime(campaign.get(PROFILE).headers["Date"])
    assert (served - moment).total_seconds() == pytest.approx(seconds, abs=5)
    sandbox.advance_clock(1)
    name = sandbox.export_opt_outs()
    assert name is not None
    file = sandbox.sftp.root / "d365_loads" / "exports" / name
    assert "c1;" in file.read_text(encoding="utf-8"), "the export's clock is Campaign's, so it misses no change"
