"""The staging file as a Dagster resource."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from pydantic import PrivateAttr

from d365_campaign.store.staging import Staging, open_staging


class StagingResource(dg.ConfigurableResource["StagingResource"]):
    """Where the staging file is. It is opened by one step at a time and closed at the step's end.

    With *output_logs* it keeps, for the log file of a run, what became of each record.
    """

    path: str
    output_logs: bool = False
    _run_id: str | None = PrivateAttr(default=None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        self._run_id = context.run.run_id if context.run else None

    @contextmanager
    def open(self) -> Iterator[Staging]:
        """The open file. Raises RetriableError while another process works on it."""
        with open_staging(Path(self.path), self._run_id if self.output_logs else None) as staging:
            yield staging
