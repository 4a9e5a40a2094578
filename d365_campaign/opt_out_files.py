"""The daily files that Campaign's workflow exports: how they are written, and which of them are taken.

Adobe documents neither name nor columns; the defaults are those of the workflow as it is usually set up, and each of
them is a setting ("Exporting logs", "Extract file").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from d365_campaign.opt_out import ATTRIBUTES, PROFILE_CHANGED, on_wire

# Campaign deletes what is older on its SFTP server ("External accounts").
LONGEST_KEPT_DAYS = 15
KEY = "externalId"
# What an upload is called until it is complete, by the usual tools.
UNFINISHED = ("*.tmp", "*.part", "*.filepart", "*.partial", ".*", "~*")
COLUMNS = frozenset({KEY, PROFILE_CHANGED, *ATTRIBUTES, *(stamp for a in ATTRIBUTES.values() for stamp in a.stamps)})


def _codec(name: str) -> str:
    try:
        "".encode(name)  # some that Python knows are no encodings of texts
    except LookupError:
        raise ValueError(f"'{name}' is no encoding. Name one such as utf-8, utf-16 or latin-1.") from None
    return name


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A regular file on the SFTP server: its size in bytes, and when its content changed last (UTC)."""

    name: str
    size: int
    modified_at: datetime


class ExportSettings(BaseModel):
    """What the daily files look like and what becomes of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str = Field(default="d365_loads/exports", description="Folder on the SFTP server; you create it there.")
    names: Sequence[str] = Field(
        default=("*.csv", "*.csv.gz", "*.txt", "*.txt.gz"), min_length=1, description="Which files are exports."
    )
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = Field(
        default=";", description="Between two columns."
    )
    quote: str = Field(default="", max_length=1, description="What stands around texts; nothing by default.")
    encoding: Annotated[str, AfterValidator(_codec)] = Field(default="utf-8", description="A BOM is skipped.")
    columns: Mapping[str, str] = Field(
        default={},
        description="Campaign attributes (externalId, lastModified, blackListEmail, blackListEmailLastModified ...) "
        "whose column has another name in the file, and that name.",
    )
    time_formats: Sequence[str] = Field(
        default=("%Y-%m-%d %H:%M:%S.%fZ", "%Y-%m-%d %H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ"),
        min_length=1,
        description="How moments are written, in strptime's words; they are UTC.",
    )
    opted_out: Sequence[str] = Field(default=("1", "true", "yes"), min_length=1, description="Spellings of an opt-out.")
    opted_in: Sequence[str] = Field(default=("0", "false", "no"), min_length=1, description="Spellings of no opt-out.")
    max_bad_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Largest share of unreadable rows; beyond it the whole file is refused: its format changed.",
    )
    stable_seconds: float = Field(
        default=2, ge=0, description="A file whose size changed within this time is still being uploaded."
    )
    after_reading: Literal["archive", "delete"] = Field(
        default="archive", description="Move a file that was read to the folder processed, or delete it."
    )
    keep_days: int = Field(
        default=LONGEST_KEPT_DAYS, ge=0, le=LONGEST_KEPT_DAYS, description="How long files stay in processed."
    )
    hours_between: float = Field(default=24, gt=0, description="How often Campaign exports.")
    grace_hours: float = Field(default=3, ge=0, description="How late a file may be before it counts as missing.")
    skips_empty: bool = Field(
        default=False,
        description="The workflow writes no file when nothing changed, so a day without one may be right.",
    )

    @field_validator("columns")
    @classmethod
    def _names_attributes(cls, columns: Mapping[str, str]) -> Mapping[str, str]:
        if unknown := sorted(name for name in columns if on_wire(name) not in COLUMNS):
            raise ValueError(f"'{unknown[0]}' is no attribute of an export. There are: {', '.join(sorted(COLUMNS))}.")
        return {on_wire(name): column for name, column in columns.items()}

    def column(self, attribute: str) -> str:
        """The file's column for a Campaign attribute."""
        return self.columns.get(attribute, attribute)

    def takes(self, name: str) -> bool:
        """Whether a file of this name is a finished export."""
        unfinished = any(fnmatchcase(name.lower(), pattern) for pattern in UNFINISHED)
        return not unfinished and any(fnmatchcase(name, pattern) for pattern in self.names)
