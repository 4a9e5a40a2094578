"""What the flows need from the outside world. The clients fit these; so does any ten-line stand-in of a test."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import polars as pl

from d365_campaign.changes import ChangePage, FoundRecord
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

    def create(self, key: str, values: Mapping[str, object]) -> None:
        """Insert. Raises RecordRejected, with `duplicate_key` when the key exists already, or UnknownOutcome."""
        ...

    def update(self, key: str, found: FoundRecord, values: Mapping[str, object]) -> None:
        """Write *values* over the record that was read. Raises RecordRejected or UnknownOutcome."""
        ...

    def delete(self, key: str) -> bool:
        """Delete. False when there was no such record: it is deleted already, or hidden. Raises UnknownOutcome."""
        ...

    def records(self, fields: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Every record that has a key, in pages of one call each; nothing is changed.

        A page has the column `_key` and one for each of *fields* (dotted names), all text as JSON writes the value
        (`true`, `12.5`); what is empty is null.
        """
        ...
