"""What the flows need from the outside world. The clients fit these; so does any ten-line stand-in of a test."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import BinaryIO, Protocol

import polars as pl

from d365_campaign.changes import ChangePage, FoundRecord, RowOutcome, RowUpdate
from d365_campaign.opt_out_files import RemoteFile
from d365_campaign.schemas import SourceColumn, SourceTable


class ChangeSource(Protocol):
    """Dynamics: tables that tell what changed."""

    def describe(self, table: str) -> SourceTable:
        """The table as its metadata tells it. Raises ConfigurationError for a table that isn't there."""
        ...

    def changes(self, table: SourceTable, columns: Sequence[SourceColumn], link: str | None) -> Iterator[ChangePage]:
        """Pages from *link* on (a next link or a delta link); from the table's first record when it is None.

        The last page alone has the delta link. Raises DeltaTokenExpired when only a full read can help.
        """
        ...

    def modified_since(
        self, table: SourceTable, columns: Sequence[SourceColumn], since: datetime, link: str | None
    ) -> Iterator[ChangePage]:
        """Pages of records whose `modifiedon` is not before *since*, or from *link* on; no deletions, no delta link."""
        ...


class RecordTarget(Protocol):
    """Campaign: records that are read and written one at a time, by our key. Every method is one engine call."""

    def read(self, key: str) -> FoundRecord | None:
        """The record with this key, or None when there is none (or none that can be seen)."""
        ...

    def create(self, key: str, values: Mapping[str, object]) -> Mapping[str, object] | None:
        """Insert; the record as it is now, where that is told.

        Raises RecordRejected, with `duplicate_key` when the key exists already, or UnknownOutcome.
        """
        ...

    def update(self, key: str, found: FoundRecord, values: Mapping[str, object]) -> None:
        """Write *values* over the record that was read. Raises RecordRejected or UnknownOutcome."""
        ...

    def delete(self, key: str) -> bool:
        """Delete. False when there was no such record: it is deleted already, or hidden. Raises UnknownOutcome."""
        ...

    def unit(self, link: str, name: str) -> object:
        """What leads to the unit of this name where a new record is given it (`orgUnit`, `geoUnit`).

        It holds Campaign's PKey, so it lives as long as a run. Raises ConfigurationError when there is no such unit.
        """
        ...

    def records(self, fields: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Every record that has a key, in pages of one call each; nothing is changed.

        A page has the column `_key` and one for each of *fields* (dotted names), all text as JSON writes the value
        (`true`, `12.5`); what is empty is null.
        """
        ...


class RowTarget(Protocol):
    """Dynamics: records of one table, read one at a time and written one version at a time."""

    def read(self, key: str) -> Mapping[str, object] | None:
        """The record by column name, values as JSON has them; None when there is none.

        `versionnumber` is the version to decide on.
        """
        ...

    def update(self, updates: Sequence[RowUpdate]) -> Iterator[RowOutcome]:
        """Write, and tell one outcome for every update, in any order. No two may be of one record.

        Raises ConfigurationError after all outcomes that are known; an update without one was not written then.
        Whoever stops listening doesn't learn what became of the requests under way.
        """
        ...


class FileArea(Protocol):
    """The SFTP area of the Campaign instance, over one connection."""

    @property
    def hostile_names(self) -> Sequence[str]:
        """Names in the last listing that no harmless file has; they are never used in a path."""
        ...

    def files(self, folder: str) -> Sequence[RemoteFile]:
        """The regular files of a folder. Raises ConfigurationError when the folder is missing."""
        ...

    def has_folder(self, folder: str) -> bool: ...

    def make_folder(self, folder: str) -> None:
        """Make a folder if it is missing; the one that it stands in has to be there."""
        ...

    def download(self, folder: str, name: str, into: BinaryIO) -> None:
        """Write the file's content to *into*. Raises RetriableError when it ends too early."""
        ...

    def upload(self, folder: str, name: str, content: bytes) -> None:
        """Write a file that is never seen half-written under its name."""
        ...

    def move(self, folder: str, name: str, to: str) -> None:
        """Move a file to another folder, which is made when missing; an older one of that name there is replaced."""
        ...

    def delete(self, folder: str, name: str) -> None:
        """Delete a file, if it is there."""
        ...

    def used_bytes(self, folder: str = ".") -> int:
        """The size of all files below a folder."""
        ...
