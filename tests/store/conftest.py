"""A new staging file for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from d365_campaign.store.staging import Staging, open_staging
from d365_campaign.store.table_store import TableStore
from tests.builders import bound


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "staging.duckdb"


@pytest.fixture
def staging(file: Path) -> Iterator[Staging]:
    with open_staging(file) as staging:
        yield staging


@pytest.fixture
def store(staging: Staging) -> TableStore:
    return staging.table(bound())
