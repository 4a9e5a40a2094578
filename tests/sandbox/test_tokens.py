"""Entra ID: "OAuth 2.0 client credentials flow on the Microsoft identity platform".
Adobe IMS: "OAuth Server-to-Server credential API Reference"."""

import pytest
import requests

from d365_campaign.sandbox import Sandbox

from .conftest import Caller, client_credentials


def entra(sandbox: Sandbox, caller: Caller, **changes: str) -> requests.Response:
    form = client_credentials(sandbox.endpoints["credentials"]["dataverse"]) | changes
    return caller("POST", sandbox.endpoints["dataverse_token_url"], data=form)


def ims(sandbox: Sandbox, caller: Caller, **changes: str) -> requests.Response:
    form = client_credentials(sandbox.endpoints["credentials"]["campaign"]) | changes
    return caller("POST", sandbox.endpoints["ims_token_url"], data=form)


def test_entra_issues_a_bearer_token_with_its_lifetime(sandbox: Sandbox, anonymous: Caller) -> None:
    answer = entra(sandbox, anonymous).json()
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 3599)
    assert "refresh_token" not in answer


def test_entra_takes_the_secret_as_http_basic_too(sandbox: Sandbox, anonymous: Caller) -> None:
    credentials = sandbox.endpoints["credentials"]["dataverse"]
    form = {"grant_type": "client_credentials", "scope": credentials["scope"]}
    basic = (credentials["client_id"], credentials["client_secret"])
    response = anonymous("POST", sandbox.endpoints["dataverse_token_url"], data=form, auth=basic)
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("changes", "status", "error", "code"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        ({"client_id": "wrong"}, 400, "unauthorized_client", 700016),
        ({"scope": "https://elsewhere.example/.default"}, 400, "invalid_scope", 70011),
        ({"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
    ],
    ids=["secret", "client", "scope", "grant"],
)
def test_entra_refusals_have_the_documented_shape(
    sandbox: Sandbox, anonymous: Caller, changes: dict[str, str], status: int, error: str, code: int
) -> None:
    response = entra(sandbox, anonymous, **changes)
    assert (response.status_code, response.json()["error"]) == (status, error)
    assert response.json()["error_codes"] == [code]
    assert response.json()["error_description"].startswith(f"AADSTS{code}: ")


def test_a_dataverse_token_expires_with_the_sandbox_clock(sandbox: Sandbox, dataverse: Caller) -> None:
    assert dataverse.get("WhoAmI").status_code == 200
    sandbox.advance_clock(3600)
    refused = dataverse.get("WhoAmI")
    assert (refused.status_code, refused.content) == (401, b"")
    assert refused.headers["WWW-Authenticate"].startswith("Bearer ")


def test_the_token_lifetime_is_a_setting(sandbox: Sandbox, anonymous: Caller) -> None:
    sandbox.settings.entra_token_seconds = 5
    assert entra(sandbox, anonymous).json()["expires_in"] == 5


def test_a_token_of_one_system_is_no_good_for_the_other(sandbox: Sandbox, dataverse: Caller, campaign: Caller) -> None:
    foreign = {"Authorization": str(campaign.session.headers["Authorization"])}
    assert dataverse.get("WhoAmI", headers=foreign).status_code == 401


def test_ims_takes_its_parameters_from_body_or_query(sandbox: Sandbox, anonymous: Caller) -> None:
    query = client_credentials(sandbox.endpoints["credentials"]["campaign"])
    answers = [ims(sandbox, anonymous), anonymous("POST", sandbox.endpoints["ims_token_url"], params=query)]
    assert [(a.status_code, a.json()["token_type"], a.json()["expires_in"]) for a in answers] == [
        (200, "bearer", 86399)
    ] * 2


def test_ims_refuses_an_unknown_client(sandbox: Sandbox, anonymous: Caller) -> None:
    response = ims(sandbox, anonymous, client_id="wrong")
    assert (response.status_code, response.json()["error_description"]) == (400, "invalid client_id parameter")


def test_ims_refuses_jwt(sandbox: Sandbox, anonymous: Caller) -> None:
    response = anonymous("POST", sandbox.endpoints["ims"] + "/ims/exchange/jwt", data={"jwt_token": "x"})
    assert response.status_code == 400
    assert response.json()["error"]
