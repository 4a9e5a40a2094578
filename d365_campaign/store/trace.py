"""What the staging file knows of one record, and the sentence that says why it is where it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from d365_campaign.changes import Cause, Kind, Reject
from d365_campaign.store.privacy import Hold


@dataclass(frozen=True, slots=True)
class TracedField:
    """A Campaign field of the record: whether it differs, and on request what it ought to hold and is known to hold."""

    name: str
    differs: bool
    desired: object = field(default=None, repr=False)
    known: object = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Awaited:
    """A record of another table that this one waits for. *in_campaign*: it is there by now; *held*: it is on hold."""

    table: str
    key: str
    in_campaign: bool
    held: bool


@dataclass(frozen=True, slots=True)
class LastCall:
    """What was last asked of Campaign for this record, and what became of it: done, identical, refused or hidden."""

    at: datetime
    kind: str
    result: str


@dataclass(frozen=True, slots=True)
class Trace:
    """One record in one table's part of the staging file. Moments are UTC.

    *wanted*: it passes the filter, so Campaign ought to hold it; *mirrored*: Campaign is known to hold it. *existing*:
    Campaign held a record with this key before, and nothing was done about it yet. *compared* is false while the next
    run is yet to compare it, *reading* while a full read is under way. *in_doubt*: it was sent and got no answer.
    """

    table: str
    key: str
    in_dynamics: bool = False
    modified_on: datetime | None = None
    wanted: bool = False
    mirrored: bool = False
    existing: bool = False
    compared: bool = True
    reading: bool = False
    fields: Sequence[TracedField] = ()
    change: Kind | None = None
    changed: Sequence[str] = ()
    reject: Reject | None = None
    waits_for: Sequence[Awaited] = ()
    hold: Hold | None = None
    in_doubt: bool = False
    replayed: bool = False
    last_call: LastCall | None = None
    forgotten: bool = False

    @property
    def known(self) -> bool:
        """Whether this table knows the key at all."""
        return bool(
            self.in_dynamics
            or self.mirrored
            or self.existing
            or self.change
            or self.reject
            or self.in_doubt
            or self.deleted
        )

    @property
    def deleted(self) -> bool:
        """Whether it was deleted in Campaign, and nothing was written since."""
        return self.last_call is not None and self.last_call.kind == Kind.DELETE and self.last_call.result == "done"

    @property
    def refused(self) -> bool:
        """Whether it rests because of a fault in its data."""
        return self.reject is not None and self.reject.resting and self.reject.cause is not Cause.HIDDEN

    @property
    def sentence(self) -> str:
        """Why the record is where it is."""
        return next(said for rule in _RULES if (said := rule(self)))


def _forgotten(trace: Trace) -> str | None:
    return "This person was forgotten: nothing of it is kept or written." if trace.forgotten else None


def _on_hold(trace: Trace) -> str | None:
    if trace.hold is None:
        return None
    return f"On hold since {_moment(trace.hold.since)} by {trace.hold.held_by}: nothing writes it until it is released."


def _not_compared(trace: Trace) -> str | None:
    return None if trace.compared else "Read, and not compared yet: the next run does."


def _rejected(trace: Trace) -> str | None:
    reject = trace.reject
    if reject is None:
        return None
    reason = f"{reject.reason.rstrip('. ')}."
    if reject.cause is Cause.UNFIT:
        return f"Can't be sent: {reason} It goes out once its data or the mapping changes."
    if not reject.resting:
        return f"Was turned down before: {reason} The next run sends it again."
    if reject.cause is Cause.HIDDEN:
        again = f" It is tried again from {_moment(reject.retry_at)} on." if reject.retry_at else ""
        return f"Hidden in Campaign: {reason}{again}"
    return (
        f"Refused: {reason} It rests until its data or the mapping changes, or until: "
        f"d365-campaign rejects {trace.table} --retry {trace.key}"
    )


def _waiting(trace: Trace) -> str | None:
    if not trace.waits_for:
        return None
    if trace.change is Kind.DELETE:
        return f"Its delete waits for {_named(trace.waits_for)}, to be deleted first."
    if held := [awaited for awaited in trace.waits_for if awaited.held]:
        return f"Waits for {_named(held)}: {_are(held)} on hold."
    if missing := [awaited for awaited in trace.waits_for if not awaited.in_campaign]:
        return f"Waits for {_named(missing)}: {_are(missing)} not in Campaign yet."
    return f"Waited for {_named(trace.waits_for)}, in Campaign by now: the next run sends it."


def _doubtful(trace: Trace) -> str | None:
    return "Sent without an answer: the next run reads it back before it goes on." if trace.in_doubt else None


def _open(trace: Trace) -> str | None:
    if trace.change is None:
        return None
    what = {
        Kind.INSERT: "An insert is open",
        Kind.UPDATE: f"An update of {', '.join(trace.changed)} is open",
        Kind.ADOPT: "It is to be read from Campaign and brought into step",
        Kind.DELETE: "A delete is open",
    }[trace.change]
    return f"{what}{', asked for by a replay' if trace.replayed else ''}: the next run writes it."


def _in_step(trace: Trace) -> str | None:
    if not (trace.wanted and trace.mirrored):
        return None
    since = (
        f"In step since {_moment(trace.last_call.at)}."
        if trace.last_call and not trace.deleted
        else "In step: Campaign held it before this project wrote anything."
    )
    withheld = ", ".join(field.name for field in trace.fields if field.differs)
    return since + (f" {withheld} differs, and is sent by a replay only (apply_updates is off)." if withheld else "")


def _wanted(trace: Trace) -> str | None:
    if not trace.wanted:
        return None
    if trace.existing:
        return "Campaign held it before this project wrote anything, and adopt_existing is never: it is left alone."
    return "Read, and not compared yet: the next run does."


def _kept(trace: Trace) -> str | None:
    if not trace.mirrored:
        return None
    if trace.reading:
        return "Campaign holds it. Nothing is deleted before the full read that is under way is through."
    if trace.in_dynamics:
        return "Doesn't pass the filter any more. Campaign keeps it: delete_filtered_out is off."
    return "Deleted in Dynamics. Campaign keeps it: apply_deletes is off."


def _unwanted(trace: Trace) -> str | None:
    deleted = f"deleted in Campaign on {_moment(trace.last_call.at)}" if trace.deleted and trace.last_call else ""
    if trace.in_dynamics:
        return f"Doesn't pass the filter: {deleted or 'Campaign does not get it'}."
    return f"Gone from Dynamics, and {deleted}." if deleted else None


def _nowhere(trace: Trace) -> str:
    if trace.existing:
        return "Campaign holds a record with this key, and Dynamics does not: it is left alone."
    return f"Neither Dynamics nor Campaign is known to hold it in table {trace.table}, as of the last run."


# The first that has something to say is right: what comes earlier stands in the way of what comes later.
_RULES: Sequence[Callable[[Trace], str | None]] = (
    _forgotten,
    _on_hold,
    _not_compared,
    _rejected,
    _waiting,
    _doubtful,
    _open,
    _in_step,
    _wanted,
    _kept,
    _unwanted,
    _nowhere,
)


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _named(awaited: Sequence[Awaited]) -> str:
    return " and ".join(f"{record.table} {record.key}" for record in awaited)


def _are(awaited: Sequence[Awaited]) -> str:
    return "it is" if len(awaited) == 1 else "they are"
