"""What travels about opt-outs between both systems and the staging file: files in, open people out, results back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from d365_campaign.opt_out import CampaignWord, Decision, DynamicsWord, Standing

Side = Literal["campaign", "dynamics"]


@dataclass(frozen=True, slots=True)
class ExportContent:
    """A daily file, ready to be taken in: its whole lines, in UTF-8 without BOM, in the file *path*.

    *digest* is that of the file as it came, *bytes* its size. *cut_row* is the row in whose middle it ends, or None
    where it is complete. *modified_at* is when its content changed last on the server.
    """

    name: str
    path: Path
    digest: str
    bytes: int
    header: Sequence[str]
    cut_row: str | None = field(default=None, repr=False)
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """A daily file and what became of it; *refused* says why nothing of it was taken in.

    Of its *rows*, *unreadable* ones were set aside and *without_key* belong to nobody here; *missing* names columns
    that it ought to have. *exported_at* is the latest change it tells of (UTC). *stuck* says why it could not be moved
    out of the way.
    """

    name: str
    rows: int = 0
    unreadable: int = 0
    without_key: int = 0
    missing: Sequence[str] = ()
    refused: str | None = None
    cut: bool = False
    exported_at: datetime | None = None
    taken_at: datetime | None = None
    stuck: str | None = None


@dataclass(frozen=True, slots=True)
class OpenOptOuts:
    """One person of whom an opt-out is to be written: the contact's row *version*, and what both systems say.

    *news* names the opt-outs of which Campaign's word changed since it was last acted on. *ours*: the profile may be
    written.
    """

    key: str
    version: int
    campaign: CampaignWord
    dynamics: DynamicsWord
    news: frozenset[str]
    ours: bool = True


@dataclass(frozen=True, slots=True)
class Decided:
    """One opt-out of one person about which the systems disagreed, and the system that was written to."""

    attribute: str
    standing: Standing = field(repr=False)
    decision: Decision = field(repr=False)
    written_to: Side


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one person's opt-outs on one side.

    *seen* is Campaign's word as it was read live, with what was written since; None where it wasn't read. *gone*: there
    is no such record. *unknown*: a write got no answer. *row* is the contact as Dynamics holds it now, by column.
    *refused* says why a write was, without any value.
    """

    key: str
    engine_calls: int = 0
    seen: CampaignWord | None = field(default=None, repr=False)
    row: Mapping[str, object] | None = field(default=None, repr=False)
    gone: bool = False
    unknown: bool = False
    refused: str | None = None
    decided: Sequence[Decided] = ()


@dataclass(frozen=True, slots=True)
class OptOutSummary:
    """How many *profiles* Campaign's word is known of, and of how many people an opt-out is to be written to either
    side, is *in_doubt* until it is read live, or is *held*. *opt_ins* is of how many one would be taken back."""

    profiles: int = 0
    to_campaign: int = 0
    to_dynamics: int = 0
    in_doubt: int = 0
    opt_ins: int = 0
    held: int = 0

    @property
    def open(self) -> int:
        """What there is to do, at most: one person may stand on both sides."""
        return self.to_campaign + self.to_dynamics + self.in_doubt


@dataclass(frozen=True, slots=True)
class WriteBacks:
    """What one run wrote to one system. *opted_out* and *opted_in* count opt-outs, everything else people.

    *stopped_by* is `time` when there was more to do than time for it; *rejects* has up to a few keys and reasons.
    """

    people: int = 0
    opted_out: int = 0
    opted_in: int = 0
    gone: int = 0
    refused: int = 0
    unknown: int = 0
    engine_calls: int = 0
    seconds: float = 0.0
    stopped_by: str | None = None
    rejects: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A decision that was kept."""

    key: str
    attribute: str
    source: str
    direction: str
    standing: Standing = field(repr=False)
    decision: Decision = field(repr=False)
    written_to: Side
    decided_at: datetime
