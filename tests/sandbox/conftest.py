"""One sandbox for the whole folder, emptied before each test; the tests talk to it over real sockets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from d365_campaign.sandbox import Sandbox


class Caller:
    """A session with a base address. The environment's CA settings must not win over the sandbox's own."""

    def __init__(self, base: str, ca_bundle: str, headers: dict[str, str] | None = None) -> None:
        self.base = base
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = ca_bundle
        self.session.headers.update(headers or {})

    def __call__(self, method: str, path: str = "", **options: Any) -> requests.Response:
        url = path if path.startswith("https://") else self.base + path
        return self.session.request(method, url, timeout=10, **options)

    def get(self, path: str = "", **options: Any) -> requests.Response:
        return self("GET", path, **options)

    def json(self, path: str = "", **options: Any) -> Any:
        response = self.get(path, **options)
        assert response.status_code == 200, response.text
        return response.json()


def client_credentials(credentials: dict[str, str]) -> dict[str, str]:
    wanted = ("client_id", "client_secret", "scope")
    return {"grant_type": "client_credentials"} | {name: credentials[name] for name in wanted}


@pytest.fixture
def directory(sandbox: Sandbox) -> Path:
    return Path(sandbox.endpoints["ca_bundle"]).parent


@pytest.fixture
def anonymous(sandbox: Sandbox) -> Iterator[Caller]:
    caller = Caller("", sandbox.endpoints["ca_bundle"])
    with caller.session:
        yield caller


@pytest.fixture
def admin(sandbox: Sandbox) -> Iterator[Caller]:
    caller = Caller(sandbox.endpoints["admin"], sandbox.endpoints["ca_bundle"])
    with caller.session:
        yield caller


@pytest.fixture
def dataverse(sandbox: Sandbox, anonymous: Caller) -> Iterator[Caller]:
    form = client_credentials(sandbox.endpoints["credentials"]["dataverse"])
    token = anonymous("POST", sandbox.endpoints["dataverse_token_url"], data=form).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    root = sandbox.endpoints["dataverse"] + "/api/data/v9.2/"
    caller = Caller(root, sandbox.endpoints["ca_bundle"], headers)
    with caller.session:
        yield caller


@pytest.fixture
def campaign(sandbox: Sandbox, anonymous: Caller) -> Iterator[Caller]:
    credentials = sandbox.endpoints["credentials"]["campaign"]
    form = client_credentials(credentials)
    token = anonymous("POST", sandbox.endpoints["ims_token_url"], data=form).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}", "X-Api-Key": credentials["client_id"]}
    caller = Caller(sandbox.endpoints["campaign"], sandbox.endpoints["ca_bundle"], headers)
    with caller.session:
        yield caller
