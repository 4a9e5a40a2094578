"""What travels between Dynamics, the staging file and Campaign: pages in, changes out, outcomes back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

import polars as pl

from d365_campaign.opt_out import CampaignWord, DynamicsWord
from d365_campaign.opt_out_changes import Decided

# The column of a record's key in a page of Campaign records; no Campaign field begins with a stroke.
RECORD_KEY = "_key"
Phase = Literal["full", "sweep", "changes"]


class Kind(StrEnum):
    """What a change does to Campaign.

    *Adopt* updates a record whose values are not known: it was there before this project wrote anything, or an earlier
    run sent it and never learned what became of it.
    """

    INSERT = "insert"
    UPDATE = "update"
    ADOPT = "adopt"
    DELETE = "delete"


class Replay(StrEnum):
    """How a table is replayed: what differs is sent, or (*forced*) every record is read and brought into step."""

    DIFFERENCES = "differences"
    FORCED = "forced"


class Cause(StrEnum):
    """Why a change rests: we can't send it, Campaign refused it, or Campaign has the record and doesn't show it."""

    UNFIT = "unfit"
    REFUSED = "refused"
    HIDDEN = "hidden"


# Engine calls by Adobe's formula ("Integration Guardrails"): an update reads the record and then writes it; where
# the read shows that nothing differs, the write is spared and `IDENTICAL` is the whole cost.
ENGINE_CALLS: Mapping[Kind, int] = {Kind.INSERT: 1, Kind.UPDATE: 2, Kind.ADOPT: 2, Kind.DELETE: 1}
IDENTICAL = 1


@dataclass(frozen=True, slots=True)
class ChangePage:
    """One page of a table, or of its changes, as Dynamics sent it.

    *rows* has the key and every column that was asked for, typed by `field_types.HELD[...].page`; *removed* holds the
    keys of deleted records. A page has a *next_link* or, as the last one of a tracked read, a *delta_link*.
    *served_at* is the server's own clock (UTC).
    """

    rows: pl.DataFrame = field(repr=False)
    removed: Sequence[str]
    next_link: str | None
    delta_link: str | None
    served_at: datetime


@dataclass(frozen=True, slots=True)
class Reading:
    """Where the reading of a table stands; committed with the rows it stands behind.

    A *full* read goes through every record, a *sweep* re-reads what was modified while the full read ran, and
    *changes* follows the delta link. *next_link* is the page to go on with, *generation* counts full reads.
    """

    phase: Phase = "full"
    generation: int = 1
    next_link: str | None = None
    delta_link: str | None = None
    started_at: datetime | None = None
    caught_up: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One record's way from what Campaign holds to what it ought to hold.

    *values* maps every mapped Campaign field to its desired value (None is Campaign's empty); it is empty for a
    delete. *changed* names the fields that may be written to a record which is there, or is None where all may; of an
    update they are those that differ from the mirror. *opt_outs* is what Dynamics says of them, where they are kept in
    step.
    """

    key: str
    kind: Kind
    values: Mapping[str, object] = field(repr=False)
    changed: Sequence[str] | None = None
    opt_outs: DynamicsWord | None = None

    @property
    def engine_calls(self) -> int:
        return ENGINE_CALLS[self.kind]


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """A Campaign record as it was read: its values by (dotted) field name.

    *handle* says where to write it. It holds Campaign's PKey, so it lives as long as one change and is never stored.
    """

    values: Mapping[str, object] = field(repr=False)
    handle: str = field(repr=False)


class Result(StrEnum):
    """What became of a change. Only *done* reaches the mirror; everything else still differs on the next plan."""

    DONE = "done"
    REFUSED = "refused"
    DEFERRED = "deferred"
    UNKNOWN = "unknown"
    UNSENT = "unsent"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A change's result, the engine calls it really took, and why it was not done.

    *kind* is what was done in the end: an insert that met its own key becomes an adoption. *identical*: Campaign held
    the desired values already. *reason* holds no field values, *fields* names those it is about, as far as is known.
    *opt_outs* is what Campaign says of them since, as far as it was read or written; *decided* is what was written of
    them with the change.
    """

    key: str
    kind: Kind
    result: Result
    engine_calls: int = 0
    identical: bool = False
    reason: str | None = None
    fields: Sequence[str] = ()
    opt_outs: CampaignWord | None = None
    decided: Sequence[Decided] = ()


@dataclass(frozen=True, slots=True)
class KeyFaults:
    """Rows of the snapshot that *repeat* the key of another, or have none; *keys* are a few of those repeated."""

    repeated: int = 0
    missing: int = 0
    keys: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PullSummary:
    """What one pull brought in. *caught_up* is false when its time ran out before the last page.

    *records* is what the snapshot holds now.
    """

    rows: int = 0
    removed: int = 0
    pages: int = 0
    seconds: float = 0.0
    caught_up: bool = False
    full_read: bool = False
    records: int = 0
    key_faults: KeyFaults = KeyFaults()
    delta_link: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeSummary:
    """The open change set by kind, and its cost.

    *refused* records rest until they or their mapping change, *deferred* ones wait for another record, *held* ones for
    a privacy hold to end. *filtered_out* records of Dynamics don't pass the filter and are no change at all.
    """

    insert: int = 0
    update: int = 0
    adopt: int = 0
    delete: int = 0
    unchanged: int = 0
    refused: int = 0
    deferred: int = 0
    held: int = 0
    filtered_out: int = 0
    full: bool = False

    @property
    def open(self) -> int:
        """Records that wait to be written: the backlog."""
        return self.insert + self.update + self.adopt + self.delete

    @property
    def engine_calls(self) -> int:
        """At most: an update that turns out identical costs one call less."""
        return sum(getattr(self, kind) * calls for kind, calls in ENGINE_CALLS.items())


@dataclass(frozen=True, slots=True)
class Plan:
    """The open change set, and what is worth knowing before it is written.

    *mirrored* is how many records Campaign is known to hold, *engine_calls_adobe* what Adobe's own integration spends
    on what Dynamics reported since the last sync, *busiest_fields* the number of open updates by Campaign field, most
    first, *sample_keys* a few keys by kind of change. *scanned* records were read from Campaign before the first plan,
    with *scan_calls* engine calls.
    """

    summary: ChangeSummary
    mirrored: int
    engine_calls_adobe: int
    busiest_fields: Mapping[str, int]
    sample_keys: Mapping[str, Sequence[str]]
    scanned: int = 0
    scan_calls: int = 0


@dataclass(frozen=True, slots=True)
class Reject:
    """A change that could not go out, and why; the reason holds no field values. Moments are UTC.

    One that isn't *resting* any more is sent again by the next run.
    """

    key: str
    reason: str
    cause: Cause = Cause.REFUSED
    fields: Sequence[str] = ()
    attempts: int = 1
    since: datetime | None = None
    retry_at: datetime | None = None
    resting: bool = True


@dataclass(frozen=True, slots=True)
class Spent:
    """Engine calls of all tables, calls that are reserved for changes in flight included."""

    today: int = 0
    this_month: int = 0


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from a record's last change in Dynamics until it was written, over records that changed since the table
    is followed: what a full read brings is as old as it is."""

    median_seconds: float
    longest_seconds: float


@dataclass(frozen=True, slots=True)
class ApplySummary:
    """What one run wrote. *engine_calls_adobe* is what Adobe's own integration spends on the same input.

    *stopped_by* tells why there is backlog (`time`, `budget`, `blackout`, or the check that blocks this table);
    *rejects* are the latest few, *mirrored* is how many records Campaign is known to hold now, *waiting* tells of a few
    deferred keys what they wait for. There is a *latency* where such records were written.
    """

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    identical: int = 0
    unchanged: int = 0
    refused: int = 0
    deferred: int = 0
    held: int = 0
    backlog: int = 0
    engine_calls: int = 0
    engine_calls_adobe: int = 0
    seconds: float = 0.0
    stopped_by: str | None = None
    mirrored: int = 0
    rejects: Sequence[Reject] = ()
    waiting: Mapping[str, str] = field(default_factory=dict)
    spent: Spent = Spent()
    latency: Latency | None = None


@dataclass(frozen=True, slots=True)
class RowUpdate:
    """A Dynamics record's new values by column, to be written only while it has the row *version* they were decided on.

    The version is the number in its etag, which is its `versionnumber`.
    """

    key: str
    version: int
    values: Mapping[str, bool] = field(repr=False)


class RowResult(StrEnum):
    """What became of a `RowUpdate`.

    *stale*: the record has another version by now, so decide again. *gone*: there is no such record. *unknown*: no
    answer came; it may have been written. *unsent*: it was not tried.
    """

    DONE = "done"
    STALE = "stale"
    GONE = "gone"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    UNSENT = "unsent"


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """The result of a `RowUpdate`, with the record as it is since (by column), where it was done and told.

    *reason* holds no field values.
    """

    key: str
    result: RowResult
    row: Mapping[str, object] | None = field(default=None, repr=False)
    reason: str | None = None
