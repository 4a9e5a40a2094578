"""What commands share: the configured integration, its staging file, opened beside whatever runs, and keys."""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

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


def record_key(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """A Dynamics id, in any of the ways in which people copy one."""
    try:
        return str(uuid.UUID(value.strip()))
    except ValueError:
        # What was given isn't shown: it may be a name or an address.
        raise click.BadParameter(
            "that is no Dynamics id, such as 5c1b2f0e-8d0a-4b7e-9a55-0c7d3f1f2a11. Give the contactid.", ctx, param
        ) from None
