"""What commands share: the configured integration and its staging file, opened beside whatever runs."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from d365_campaign import rehearsal
from d365_campaign.config import Configuration, load
from d365_campaign.errors import RetriableError
from d365_campaign.store.staging import Staging, open_staging

# A step of a run has the staging file for about a minute; between two of them it is free.
PATIENCE_SECONDS = 120.0


def configuration() -> Configuration:
    """The integration that `--config`, or the environment, names."""
    return load(Path(os.environ.get(rehearsal.CONFIG_VARIABLE, rehearsal.CONFIG)))


@contextmanager
def staging(settings_path: Path) -> Iterator[Staging]:
    """The staging file at *settings_path*, waited for while a step of a run has it.

    Raises RetriableError when it is still in use after two minutes.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    with ExitStack() as stack:
        while True:
            try:
                file = stack.enter_context(open_staging(settings_path))
                break
            except RetriableError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)
        yield file
