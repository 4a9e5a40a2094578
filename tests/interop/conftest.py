"""Microsoft's Python client, pointed at the sandbox over HTTPS."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from azure.core.credentials import AccessToken
from PowerPlatform.Dataverse.client import DataverseClient
from PowerPlatform.Dataverse.core.config import DataverseConfig

from d365_campaign.sandbox import Sandbox

TIMEOUT_SECONDS = 10


class ClientSecret:
    """Asks the sandbox's Entra ID for tokens, as azure-identity's `ClientSecretCredential` asks the real one.

    That class refuses authorities other than Microsoft's; the client itself needs no more than `get_token`.
    """

    def __init__(self, endpoints: dict[str, Any]) -> None:
        self._endpoints = endpoints
        self.scopes: list[str] = []

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        self.scopes.extend(scopes)
        credentials = self._endpoints["credentials"]["dataverse"]
        form = {
            "grant_type": "client_credentials",
            "client_id": credentials["client_id"],
            "client_secret": credentials["client_secret"],
            "scope": scopes[0],
        }
        response = requests.post(self._endpoints["dataverse_token_url"], data=form, timeout=TIMEOUT_SECONDS)
        response.raise_for_status()
        return AccessToken(response.json()["access_token"], response.json()["expires_in"])


@pytest.fixture
def credential(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> ClientSecret:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", sandbox.endpoints["ca_bundle"])
    return ClientSecret(sandbox.endpoints)


@pytest.fixture
def client(sandbox: Sandbox, credential: ClientSecret) -> Iterator[DataverseClient]:
    with DataverseClient(sandbox.endpoints["dataverse"], credential, DataverseConfig(http_retries=1)) as client:
        yield client
