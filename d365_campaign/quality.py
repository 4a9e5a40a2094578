"""Rules of data quality over what a run found: plain verdicts, and the thresholds of theirs that are settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

from d365_campaign.checks import SAMPLE, Verdict

# Days for which Dynamics knows a delta token, where neither it nor the settings say another number ("Use change
# tracking to synchronize data with external systems").
TOKEN_DAYS = 7


class CheckSettings(BaseModel):
    """From where on a check of data quality fails. What stops a table's writes is under `guardrails`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    volume_change: float = Field(
        default=0.5, gt=0, description="Share of its usual records by which a table may grow or shrink; 0.5 is a half."
    )
    volume_days: int = Field(
        default=7, ge=1, le=365, description="Days whose median is what is usual; on its first day, a table's start."
    )
    volume_records: int = Field(default=1000, ge=0, description="Up to so many records, any change of volume passes.")
    waiting_hours: float = Field(
        default=24, ge=0, description="Longest time that a record may wait for one of another table."
    )
    call_overrun: float = Field(
        default=0.1, ge=0, description="Share by which engine calls made may exceed those predicted, on a day."
    )
    stale_minutes: float = Field(
        default=60, gt=0, description="Longest time that changes in Dynamics may wait to be read."
    )
    token_days: int | None = Field(
        default=None,
        ge=1,
        description="Days for which Dynamics knows a delta token; without it, what the organisation says, or else 7.",
    )
    token_warn_at: float = Field(
        default=0.7, gt=0, le=1, description="Share of that time from which a delta token's age is a warning."
    )
    drift_sample: int = Field(
        default=50,
        ge=0,
        description="Records of each table that are read back from Campaign a day, an engine call each; 0 is none.",
    )
    repair_drift: bool = Field(
        default=False,
        description="Whether a record that was changed in Campaign alone is written anew by the next run; otherwise "
        "with its next change in Dynamics, or a replay.",
    )
    verify_at: str = Field(
        default="04:00",
        pattern=r"^([01]\d|2[0-3]):[0-5]\d$",
        description="When the daily job looks, as HH:MM in UTC.",
    )


@dataclass(frozen=True, slots=True)
class Unfit:
    """Records whose value for a Campaign *field* can't be sent: it has no conversion, or (*too_long*) no room."""

    field: str
    too_long: bool
    records: int
    keys: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """Changes that wait for another table's record. *orphans* wait for one that Dynamics itself doesn't have."""

    records: int = 0
    oldest_seconds: float = 0.0
    keys: Sequence[str] = ()
    orphans: int = 0
    orphan_keys: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Drifted:
    """A record that is in Campaign otherwise than it is known to be: in these *fields*, or (*missing*) not at all."""

    key: str
    fields: Sequence[str] = ()
    missing: bool = False


@dataclass(frozen=True, slots=True)
class DriftLook:
    """A sample read back from Campaign: what drifted of *looked_at* records, at a call each.

    *known* is how many Campaign is known to hold; *short*: the budget left no call for the rest of the sample.
    """

    looked_at: int = 0
    known: int = 0
    drifted: Sequence[Drifted] = ()
    short: bool = False


# --- what a table holds ---------------------------------------------------------------------------------------------


def volume(records: int, usual: float | None, settings: CheckSettings, keys: Sequence[str] = ()) -> Verdict:
    """A table holds about as many records as it used to; *usual* is None while there is nothing to go by."""
    if usual is None:
        return Verdict("volume", True, f"{records:,} records; nothing is known yet of how many are usual.", warn=True)
    change = (records - usual) / usual if usual else float(records > 0)
    passed = max(records, usual) <= settings.volume_records or abs(change) < settings.volume_change
    return Verdict(
        "volume",
        passed,
        f"{records:,} records, where {usual:,.0f} are usual ({change:+.0%})."
        + ("" if passed else " Find out in Dynamics what made or removed them; checks.volume_change is the limit."),
        warn=True,
        metadata={"records": records, "usual": usual, "change": round(change, 4)},
        keys=() if passed else keys[:SAMPLE],
    )


def values_convert(unfit: Sequence[Unfit]) -> Verdict:
    """Every value can become what its Campaign field holds."""
    return _fits("values_convert", [each for each in unfit if not each.too_long], "can't be converted")


def texts_fit(unfit: Sequence[Unfit]) -> Verdict:
    """Every text has room in its Campaign field."""
    return _fits("texts_fit", [each for each in unfit if each.too_long], "are longer than their field")


def _fits(name: str, unfit: Sequence[Unfit], what: str) -> Verdict:
    by_field: dict[str, int] = {}
    for each in unfit:
        by_field[each.field] = by_field.get(each.field, 0) + each.records
    told = ", ".join(f"{field} ({number:,})" for field, number in sorted(by_field.items()))
    return Verdict(
        name,
        not unfit,
        f"No values {what}."
        if not unfit
        else f"Values that {what}, by Campaign field: {told}. Their records are not sent. Correct them in Dynamics, or "
        "the field in its mapping (replacements, too_long).",
        warn=True,
        metadata={"values": sum(by_field.values()), **by_field},
        keys=sorted({key for each in unfit for key in each.keys})[:SAMPLE],
    )


def no_orphans(waiting: Waiting) -> Verdict:
    """No record leads to one that Dynamics itself doesn't have."""
    return Verdict(
        "no_orphans",
        not waiting.orphans,
        "No record waits for one that Dynamics doesn't have."
        if not waiting.orphans
        else f"{waiting.orphans:,} records lead to one that Dynamics doesn't have, or doesn't show us, so they wait "
        "for good. Correct their lookup in Dynamics, or let our user read what it leads to.",
        warn=True,
        metadata={"orphans": waiting.orphans},
        keys=waiting.orphan_keys[:SAMPLE],
    )


def none_waits_long(waiting: Waiting, settings: CheckSettings) -> Verdict:
    """Whoever waits for another table's record does so for a while only."""
    hours = waiting.oldest_seconds / 3600
    passed = not waiting.records or hours <= settings.waiting_hours
    return Verdict(
        "none_waits_long",
        passed,
        "No record waits for another."
        if not waiting.records
        else f"{waiting.records:,} records wait for another table's, the oldest for {hours:.1f} hours."
        + ("" if passed else " `d365-campaign trace KEY` tells what each waits for."),
        warn=True,
        metadata={"waiting": waiting.records, "oldest_hours": round(hours, 2)},
        keys=waiting.keys[:SAMPLE],
    )


def calls_as_predicted(predicted: int, made: int, settings: CheckSettings) -> Verdict:
    """The day's changes cost no more engine calls than was predicted; fewer is fine: what is identical saves one."""
    over = (made - predicted) / predicted if predicted else float(made > 0)
    passed = over <= settings.call_overrun
    return Verdict(
        "calls_as_predicted",
        passed,
        f"Today's changes were predicted to take {predicted:,} engine calls, and took {made:,}."
        + (
            ""
            if passed
            else " Inserts that met their own key, or calls that got no answer, cost more: see `d365-campaign "
            "engine-calls`."
        ),
        warn=True,
        metadata={"predicted": predicted, "made": made},
    )


# --- whether it is up to date -----------------------------------------------------------------------------------------


def snapshot_fresh(
    caught_up: datetime | None, *, changes_wait: bool, now: datetime, settings: CheckSettings
) -> Verdict:
    """What Dynamics has is in the snapshot, or has not waited for long; *caught_up* is when it last had all of it."""
    name = "snapshot_fresh"
    if caught_up is None:
        return Verdict(name, False, "Dynamics was not read to its end yet: the first read is still on.", warn=True)
    minutes = (now - caught_up).total_seconds() / 60
    passed = not changes_wait or minutes <= settings.stale_minutes
    return Verdict(
        name,
        passed,
        f"The snapshot was last caught up {_ago(minutes)} ago, and Dynamics has "
        + ("changes since." if changes_wait else "no change since.")
        + ("" if passed else " See whether the flow runs: d365-campaign status"),
        metadata={"minutes": round(minutes, 1), "changes_wait": int(changes_wait)},
    )


def token_age(since: datetime | None, days: int, now: datetime, settings: CheckSettings) -> Verdict:
    """Dynamics still knows our delta token for a while; past that, only reading the whole table anew helps."""
    name = "token_age"
    if since is None:
        return Verdict(name, True, "There is no delta token yet: the first read is still on.", warn=True)
    share = (now - since) / timedelta(days=days)
    return Verdict(
        name,
        share < settings.token_warn_at,
        f"The delta token is {_ago(share * days * 24 * 60)} old; Dynamics knows it for {days} days ({share:.0%})."
        + ("" if share < settings.token_warn_at else _renewed(share)),
        warn=share < 1,
        metadata={"share": round(share, 4), "days": days},
    )


def _renewed(share: float) -> str:
    if share < 1:
        return " A sync renews it, even where nothing changed: d365-campaign sync"
    return " The next sync reads the whole table anew, and so finds what was deleted since."


def _ago(minutes: float) -> str:
    if minutes < 120:
        return f"{minutes:.0f} minutes"
    return f"{minutes / 60:.0f} hours" if minutes < 48 * 60 else f"{minutes / 60 / 24:.1f} days"


# --- whether Campaign holds what it is known to hold ------------------------------------------------------------------


def mirror_drift(look: DriftLook, settings: CheckSettings, table: str) -> Verdict:
    """Campaign holds what it is known to hold, as far as a random sample tells."""
    missing = [each.key for each in look.drifted if each.missing]
    changed = [each for each in look.drifted if not each.missing]
    told = [
        f"{look.looked_at:,} of {look.known:,} records were read back from Campaign, {len(look.drifted):,} of them are "
        "otherwise than we left them."
    ]
    if look.short:
        told.append("The engine-call budget left no call for more.")
    if changed:
        fields = ", ".join(f"{name} ({number})" for name, number in _by_field(changed).items())
        told.append(f"Changed there: {fields}. {_repaired(settings, table)}")
    if missing:
        told.append(
            f"{len(missing):,} are gone, and are not made anew by themselves, for they may have been deleted on "
            f"request. If they are to be there: d365-campaign replay {table} --force"
        )
    return Verdict(
        "mirror_drift",
        not look.drifted,
        " ".join(told),
        warn=True,
        metadata={
            "looked_at": look.looked_at,
            "drifted": len(look.drifted),
            "missing": len(missing),
            "share": round(len(look.drifted) / look.looked_at, 4) if look.looked_at else 0.0,
        },
        keys=[each.key for each in look.drifted][:SAMPLE],
    )


def _by_field(drifted: Sequence[Drifted]) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for name in sorted(name for each in drifted for name in each.fields):
        counts[name] = counts.get(name, 0) + 1
    return counts


def _repaired(settings: CheckSettings, table: str) -> str:
    if settings.repair_drift:
        return "The next run brings them back to what Dynamics says."
    return (
        "Each goes back to what Dynamics says with its next change there; all of them, at once: d365-campaign replay "
        f"{table}"
    )
