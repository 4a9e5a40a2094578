"""A run in a process of its own that kills itself: `python -m tests.flows.killed_run FILE FOLDER AFTER`.

Campaign is a folder with a file for each record; after *AFTER* of them the process gets a SIGKILL.
"""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from d365_campaign.changes import FoundRecord
from d365_campaign.errors import RecordRejected
from d365_campaign.flows.apply import EngineCallBudget, Pace, apply
from d365_campaign.flows.deadline import Deadline
from d365_campaign.flows.guards import Guards
from d365_campaign.store.staging import open_staging
from tests.builders import bound, contact, filled
from tests.stand_ins import Campaign


class Folder(Campaign):
    """Records that outlive the process."""

    def __init__(self, path: Path, after: int) -> None:
        super().__init__()
        self.path, self.after = path, after

    def read(self, key: str) -> FoundRecord | None:
        file = self.path / key
        return FoundRecord({"firstName": file.read_text()}, handle=key) if file.exists() else None

    def create(self, key: str, values: Mapping[str, object]) -> None:
        if (self.path / key).exists():
            raise RecordRejected("there already", duplicate_key=True)
        unfinished = self.path.with_name(key)
        unfinished.write_text(str(values["firstName"]))
        unfinished.rename(self.path / key)
        if len(list(self.path.iterdir())) >= self.after:
            os.kill(os.getpid(), signal.SIGKILL)


def main(file: Path, folder: Path, after: int) -> None:
    with open_staging(file) as staging:
        store = staging.table(bound())
        if not store.records():
            filled(store, *(contact(f"c{n:03}", firstname="Ada") for n in range(30)))
        apply(
            store,
            staging.ledger,
            Folder(folder, after),
            pace=Pace(workers=2, batch_size=10),
            budget=EngineCallBudget(),
            guards=Guards(),
            deadline=Deadline(None),
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
