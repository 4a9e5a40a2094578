"""Fixtures that every folder of tests may use."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from d365_campaign.sandbox import Sandbox
from d365_campaign.store.staging import Staging, open_staging
from d365_campaign.store.table_store import TableStore
from tests.alert_servers import PASSWORD, Authority, Hook, MailServer, mail_server, webhook
from tests.builders import bound
from tests.integration import Integration


@pytest.fixture(scope="session")
def served_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox.start(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(served_sandbox: Sandbox) -> Sandbox:
    """Stand-ins for all four systems, over real sockets, empty at the start of each test."""
    served_sandbox.reset()
    return served_sandbox


@pytest.fixture(scope="session")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def integration(
    sandbox: Sandbox, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Integration:
    """Contacts to profiles on the sandbox, as a user would run it; its staging file is new."""
    credentials = sandbox.endpoints["credentials"]
    monkeypatch.setenv("D365_CLIENT_SECRET", credentials["dataverse"]["client_secret"])
    monkeypatch.setenv("CAMPAIGN_CLIENT_SECRET", credentials["campaign"]["client_secret"])
    monkeypatch.setenv("CAMPAIGN_SFTP_KEY", sandbox.endpoints["sftp"]["private_key_file"])
    return Integration(sandbox, instance, tmp_path / "staging.duckdb")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "staging.duckdb"


@pytest.fixture
def staging(file: Path) -> Iterator[Staging]:
    """A new staging file."""
    with open_staging(file) as staging:
        yield staging


@pytest.fixture
def store(staging: Staging) -> TableStore:
    """The part of contacts in a new staging file."""
    return staging.table(bound())


# --- who is told of alerts


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def hook(authority: Authority) -> Iterator[Hook]:
    with webhook(authority) as served:
        yield served


@pytest.fixture
def mail(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    monkeypatch.setenv("MAIL_PASSWORD", PASSWORD)
    with mail_server(authority) as served:
        yield served
