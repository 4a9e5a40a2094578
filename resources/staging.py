"""The staging file as a Dagster resource."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from d365_campaign.store.staging import Staging, open_staging


class StagingResource(dg.ConfigurableResource["StagingResource"]):
    """Where the staging file is. It is opened by one step at a time and closed at the step's end."""

    path: str

    @contextmanager
    def open(self) -> Iterator[Staging]:
        """The open file. Raises RetriableError while another process works on it."""
        with open_staging(Path(self.path)) as staging:
            yield staging
