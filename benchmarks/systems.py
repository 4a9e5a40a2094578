"""The sandbox in a process of its own, and our clients on it: what a benchmark meets instead of the real systems."""

import json
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from d365_campaign.binding import MODIFIED_ON, BoundMapping, bind
from d365_campaign.clients.campaign import CampaignClient
from d365_campaign.clients.dataverse import DataverseClient
from d365_campaign.clients.tokens import ClientCredentials, TokenSource
from d365_campaign.clients.wire import WireSettings
from d365_campaign.mapping import FieldMapping, KeyMapping, TableMapping
from d365_campaign.schemas import ResourceField, TargetResource

STARTUP_SECONDS = 120.0

# What the project's own mapping of contacts to profiles holds.
CONTACT_TO_PROFILE: Mapping[str, str] = {
    "firstname": "firstName",
    "middlename": "middleName",
    "lastname": "lastName",
    "emailaddress1": "email",
    "mobilephone": "mobilePhone",
    "telephone1": "phone",
    "fax": "fax",
    "birthdate": "birthDate",
    "address1_line1": "location.address1",
    "address1_postalcode": "location.zipCode",
    "address1_city": "location.city",
}


@dataclass(frozen=True)
class Systems:
    """Where the sandbox's systems are, and how to steer it."""

    endpoints: Mapping[str, Any]
    workers: int = 1

    def dynamics(self) -> DataverseClient:
        """The real client, over HTTPS."""
        return DataverseClient(self.endpoints["dataverse"], self.dynamics_tokens(), wire=self._wire())

    def dynamics_tokens(self) -> TokenSource:
        secrets = self.endpoints["credentials"]["dataverse"]
        credentials = ClientCredentials(
            self.endpoints["dataverse_token_url"], secrets["client_id"], secrets["client_secret"], secrets["scope"]
        )
        return TokenSource("Dynamics", credentials, self._wire())

    def campaign(self) -> CampaignClient:
        """The real client, over HTTPS."""
        return CampaignClient(
            self.endpoints["campaign_instance"], self.campaign_api_key, self.campaign_tokens(), wire=self._wire()
        )

    def campaign_tokens(self) -> TokenSource:
        secrets = self.endpoints["credentials"]["campaign"]
        credentials = ClientCredentials(
            self.endpoints["ims_token_url"], secrets["client_id"], secrets["client_secret"], secrets["scope"]
        )
        return TokenSource("Campaign", credentials, self._wire())

    @property
    def campaign_api_key(self) -> str:
        return str(self.endpoints["credentials"]["campaign"]["client_id"])

    def admin(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Steer the sandbox, or look into it."""
        data = None if body is None else json.dumps(body).encode()
        return json.loads(self.fetch(f"{self.endpoints['admin']}/{path}", method=method, data=data))

    def fetch(
        self, url: str, headers: Mapping[str, str] | None = None, method: str = "GET", data: bytes | None = None
    ) -> bytes:
        """An answer's bytes, without any client of ours."""
        request = urllib.request.Request(url, data, dict(headers or {}), method=method)
        trust = ssl.create_default_context(cafile=self.endpoints["ca_bundle"])
        with urllib.request.urlopen(request, timeout=120, context=trust) as answer:
            return bytes(answer.read())

    def _wire(self) -> WireSettings:
        return WireSettings(ca_bundle=Path(self.endpoints["ca_bundle"]), workers=self.workers)


@contextmanager
def running(directory: Path, contacts: int, workers: int = 1, *, profiles: int = 0) -> Iterator[Systems]:
    """A sandbox that holds so many contacts, and profiles of none of them, until the block ends."""
    command = [sys.executable, "-m", "benchmarks.serve", str(directory), str(contacts), str(profiles)]
    with subprocess.Popen(command) as process:
        try:
            yield Systems(_endpoints(process, directory / "endpoints.json"), workers)
        finally:
            process.terminate()


def _endpoints(process: "subprocess.Popen[bytes]", file: Path) -> Mapping[str, Any]:
    deadline = time.monotonic() + STARTUP_SECONDS
    while not file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the sandbox did not start")
        time.sleep(0.05)
    return dict(json.loads(file.read_text(encoding="utf-8")))


def profiles(
    dynamics: DataverseClient, campaign: CampaignClient, pairs: Mapping[str, str] = CONTACT_TO_PROFILE
) -> BoundMapping:
    """Contacts to profiles, as the project ships it, or by other pairs of column and field."""
    mapping = _mapping(pairs)
    return bind(mapping, dynamics.describe(mapping.source), campaign.describe(mapping.target))


def contacts_with(dynamics: DataverseClient, columns: Sequence[str]) -> BoundMapping:
    """Contacts with just these columns and the key; for reading only, Campaign has no part.

    Without `modifiedon` there is no sweep after the full read: it would read each contact a second time, because all of
    them were seeded a moment ago.
    """
    table = dynamics.describe("contact")
    table = replace(table, columns={name: c for name, c in table.columns.items() if name != MODIFIED_ON})
    names = {column: "attribute" + column.replace("_", "") for column in columns}
    fields = {name: ResourceField(name, "string") for name in ("externalId", *names.values())}
    return bind(_mapping(names), table, TargetResource("profile", "profileAndServicesExt", fields))


def _mapping(pairs: Mapping[str, str]) -> TableMapping:
    return TableMapping(
        source="contact",
        target="profile",
        key=KeyMapping(source="contactid", target="externalId", declared_unique=True),
        fields=[FieldMapping(source=source, target=target) for source, target in pairs.items()],
        apply_deletes=True,
    )
