"""`d365-campaign verify`: what the daily job looks at, for a person."""

import json
from pathlib import Path

import pytest

from d365_campaign.sandbox import Sandbox
from tests.flowing import Flowing
from tests.integration import Integration


@pytest.fixture
def flowing(integration: Integration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flowing:
    return Flowing(integration, tmp_path / "home", monkeypatch)


def test_verify_tells_key_and_field_of_what_was_changed_in_campaign(sandbox: Sandbox, flowing: Flowing) -> None:
    keys = sandbox.seed(contacts=3)
    flowing.integration.sync()
    fine = flowing.say("verify", "contact")
    assert (fine.exit_code, "3 of 3 records were read back" in fine.output) == (0, True)
    sandbox.campaign.update("profile", keys[0], {"firstName": "Marker"})

    told = flowing.say("verify", "--json")

    assert told.exit_code == 1
    drift, fresh, token = json.loads(told.stdout)["contact"]
    assert (drift["check"], drift["passed"], drift["keys"], drift["drifted"]) == ("mirror_drift", False, [keys[0]], 1)
    assert "firstName (1)" in drift["description"]
    assert "Marker" not in told.output
    assert (fresh["check"], fresh["passed"], token["check"], token["passed"]) == (
        "snapshot_fresh",
        True,
        "token_age",
        True,
    )


def test_verify_reads_as_many_as_asked_and_repairs_on_request(sandbox: Sandbox, flowing: Flowing) -> None:
    keys = sandbox.seed(contacts=3)
    flowing.integration.sync()
    wanted = sandbox.campaign.find("profile", "externalId", keys[0])["firstName"]
    sandbox.clear_calls()
    flowing.say("verify", "--sample", "2")
    assert len([call for call in sandbox.calls("campaign") if any(key in call.path for key in keys)]) == 2
    for key in keys:
        sandbox.campaign.update("profile", key, {"firstName": "Marker"})

    ended = flowing.say("verify", "--repair")

    assert (ended.exit_code, "The next run brings them back" in ended.output) == (1, True)
    assert flowing.integration.sync()["updated"] == 3
    assert sandbox.campaign.find("profile", "externalId", keys[0])["firstName"] == wanted


def test_verify_before_the_first_run_says_what_to_do(sandbox: Sandbox, flowing: Flowing) -> None:
    ended = flowing.say("verify", "contact")
    assert ended.exit_code == 2
    assert "d365-campaign sync contact" in ended.output
