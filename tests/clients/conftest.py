"""The sandbox over real sockets, clients that wait only briefly, and a witness at a foreign address."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from d365_campaign.clients.campaign import CampaignClient
from d365_campaign.clients.dataverse import DataverseClient
from d365_campaign.clients.throttle import RetryPolicy, ThrottleGate
from d365_campaign.clients.tokens import ClientCredentials, System, TokenSource
from d365_campaign.clients.wire import WireSettings
from d365_campaign.sandbox import Sandbox

QUICK = RetryPolicy(attempts=4, max_wait_seconds=5, first_wait_seconds=0.01, longest_wait_seconds=0.05)


class Connections:
    """Builds clients of the sandbox; whatever a test names is built in instead."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.endpoints = sandbox.endpoints
        self.wire = WireSettings(
            connect_timeout_seconds=2,
            read_timeout_seconds=2,
            total_timeout_seconds=4,
            ca_bundle=Path(sandbox.endpoints["ca_bundle"]),
        )
        self._open: list[Any] = []

    def credentials(self, system: System, **changes: str) -> ClientCredentials:
        name = "dataverse" if system == "Dynamics" else "campaign"
        known = self.endpoints["credentials"][name]
        token_url = self.endpoints["dataverse_token_url" if system == "Dynamics" else "ims_token_url"]
        built = ClientCredentials(token_url, known["client_id"], known["client_secret"], known["scope"])
        return replace(built, **changes)

    def tokens(self, system: System, **changes: str) -> TokenSource:
        return TokenSource(system, self.credentials(system, **changes), self.wire)

    def dataverse(self, **changes: Any) -> DataverseClient:
        known = {"url": self.endpoints["dataverse"], "retry": QUICK, "wire": self.wire, "gate": ThrottleGate()}
        known["tokens"] = changes.pop("tokens", None) or self.tokens("Dynamics")
        client = DataverseClient(**{**known, **changes})
        self._open.append(client)
        return client

    def campaign(self, **changes: Any) -> CampaignClient:
        api_key = self.endpoints["credentials"]["campaign"]["client_id"]
        known = {"url": self.endpoints["campaign_instance"], "api_key": api_key, "retry": QUICK, "wire": self.wire}
        known["tokens"] = changes.pop("tokens", None) or self.tokens("Campaign")
        client = CampaignClient(**{**known, **changes})
        self._open.append(client)
        return client

    def close(self) -> None:
        for client in self._open:
            client.close()


@pytest.fixture
def connect(sandbox: Sandbox) -> Iterator[Connections]:
    connections = Connections(sandbox)
    yield connections
    connections.close()


class Witness:
    """Somebody else's server; it only tells whether anybody ever connected."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.origin = f"https://localhost:{self._listener.getsockname()[1]}"

    def was_visited(self) -> bool:
        try:
            self._listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def foreign() -> Iterator[Witness]:
    witness = Witness()
    yield witness
    witness.close()
