"""The active configuration: what a flow was started with, kept until it is stopped, whatever its files say meanwhile.

It holds settings and table mappings as they were read; secrets stand in it as in the files, as names of environment
variables. There is one for each settings file.
"""

import json
import os
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile

from pydantic import ValidationError

from d365_campaign.config import Configuration
from d365_campaign.errors import ConfigurationError

FOLDER = Path(".local") / "active"


def place(settings_file: Path) -> Path:
    """Where that of *settings_file* is kept: below DAGSTER_HOME, which every process of Dagster is told."""
    key = sha256(str(settings_file.resolve()).encode()).hexdigest()[:16]
    return Path(os.environ.get("DAGSTER_HOME") or Path.cwd()) / FOLDER / f"{key}.json"


def read(settings_file: Path) -> Configuration | None:
    """The active configuration, or None when none is. Raises ConfigurationError when another version has written it."""
    file = place(settings_file)
    try:
        return Configuration.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValidationError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"the active configuration {file} can't be read ({type(error).__name__}); it is of another version, or "
            "damaged. Run: d365-campaign stop, then d365-campaign start."
        ) from None


def write(settings_file: Path, configuration: Configuration) -> None:
    """Keep *configuration* as the active one; a reader meets it whole or not at all, and only this user may read it."""
    file = place(settings_file)
    file.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as written:
        written.write(json.dumps(configuration.model_dump(mode="json"), indent=2))
        written.flush()
        os.fsync(written.fileno())
    Path(written.name).replace(file)


def forget(settings_file: Path) -> bool:
    """Go by the files again; whether there was an active configuration."""
    file = place(settings_file)
    there = file.exists()
    file.unlink(missing_ok=True)
    return there


def same(one: Configuration, other: Configuration) -> bool:
    """Whether both say the same, however their lists are held."""
    return one.model_dump(mode="json") == other.model_dump(mode="json")
