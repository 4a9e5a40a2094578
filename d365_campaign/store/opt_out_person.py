"""What the staging file knows of one person's opt-outs, and the sentences that say what becomes of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from d365_campaign.opt_out import (
    CampaignWord,
    Decision,
    DynamicsWord,
    OptOutDirection,
    OptOutPair,
    Standing,
    decide,
    standings,
    words_of,
)
from d365_campaign.opt_out_changes import LedgerEntry, Side
from d365_campaign.store.privacy import Hold


@dataclass(frozen=True, slots=True)
class PairOutlook:
    """One opt-out about which both systems said something, and what would be decided now."""

    pair: OptOutPair
    standing: Standing = field(repr=False)
    decision: Decision = field(repr=False)

    @property
    def agree(self) -> bool:
        return self.standing.campaign is self.standing.dynamics

    @property
    def writes_to(self) -> Side | None:
        """The side that gets another value; None where nothing is to be written."""
        if self.decision.campaign is not self.standing.campaign:
            return "campaign"
        return "dynamics" if self.decision.dynamics is not self.standing.dynamics else None

    @property
    def takes_back(self) -> bool:
        """Whether an opt-out would be taken back."""
        return self.decision.campaign < self.standing.campaign or self.decision.dynamics < self.standing.dynamics

    def says(self, direction: OptOutDirection) -> str:
        """What would happen, and why."""
        why = words_of(direction, self.decision.rule)
        if self.writes_to is None:
            return f"Nothing is written: {why}."
        name, opted_out = {
            "campaign": (f"Campaign's {self.pair.target}", self.decision.campaign),
            "dynamics": (f"Dynamics' {self.pair.source}", self.decision.dynamics),
        }[self.writes_to]
        return f"{name} becomes {value_words(opted_out)}: {why}."


@dataclass(frozen=True, slots=True)
class PersonOptOuts:
    """One person, as of the last run. Moments are UTC.

    *campaign* and *dynamics* are None where that system is not known to have the person. *news* are opt-outs of which
    Campaign's word changed since it was last acted on. *in_doubt*: Campaign's word is read live before it counts.
    *compared* is false while the next run is yet to decide on what was read. *ours*: the profile may be written.
    *takes_back* is false where more opt-outs would be taken back than a run may, so that it takes back none.
    """

    key: str
    direction: OptOutDirection
    pairs: Sequence[OptOutPair]
    campaign: CampaignWord | None = field(default=None, repr=False)
    dynamics: DynamicsWord | None = field(default=None, repr=False)
    news: frozenset[str] = frozenset()
    in_doubt: bool = False
    compared: bool = True
    ours: bool = True
    takes_back: bool = True
    hold: Hold | None = None
    forgotten: bool = False
    decisions: Sequence[LedgerEntry] = ()

    @property
    def known(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.campaign or self.dynamics or self.hold or self.forgotten or self.decisions)

    @property
    def outlooks(self) -> Mapping[str, PairOutlook]:
        """What would be decided now, by Campaign's name of the opt-out; empty unless both systems have the person."""
        if self.campaign is None or self.dynamics is None:
            return {}
        sides = standings(self.pairs, self.campaign, self.dynamics, self.news)
        return {
            pair.target: PairOutlook(pair, sides[pair.target], decide(self.direction, sides[pair.target]))
            for pair in self.pairs
        }

    @property
    def sentence(self) -> str:
        """What the next run does about this person, or why it does nothing."""
        return next(said for rule in _RULES if (said := rule(self)))


def value_words(opted_out: bool) -> str:
    """One value as a person says it."""
    return "opted out" if opted_out else "not opted out"


def _forgotten(person: PersonOptOuts) -> str | None:
    return "This person was forgotten: nothing of it is kept or written." if person.forgotten else None


def _switched_off(person: PersonOptOuts) -> str | None:
    if person.direction is not OptOutDirection.DISABLED:
        return None
    return "Opt-outs are not kept in step (opt_outs.direction is disabled), so nothing is written."


def _not_in_dynamics(person: PersonOptOuts) -> str | None:
    if person.dynamics is not None:
        return None
    return (
        "Dynamics is not known to have a contact with this id, as of the last run: nothing is written to either side."
    )


def _not_in_campaign(person: PersonOptOuts) -> str | None:
    if person.campaign is not None:
        return None
    return (
        "Campaign is not known to have a profile with this externalId, as of the last run: nothing is written. A "
        "profile that a sync makes of the contact begins with what Dynamics says."
        if person.direction.writes_campaign
        else "Campaign is not known to have a profile with this externalId, as of the last run: nothing is written."
    )


def _on_hold(person: PersonOptOuts) -> str | None:
    if person.hold is None:
        return None
    since, key = f"{person.hold.since:%Y-%m-%d %H:%M} UTC", person.key
    return (
        f"On hold since {since} by {person.hold.held_by}: not even an opt-out is written until: "
        f"d365-campaign release {key}"
    )


def _in_doubt(person: PersonOptOuts) -> str | None:
    if not person.in_doubt:
        return None
    return "What Campaign says is in doubt: the next run reads the profile before anything is decided."


def _not_compared(person: PersonOptOuts) -> str | None:
    return None if person.compared else "Read, and not compared yet: the next run decides what is told above."


def _left_alone(person: PersonOptOuts) -> str | None:
    if person.ours or not any(outlook.writes_to == "campaign" for outlook in person.outlooks.values()):
        return None
    return (
        "The profile was in Campaign before this project wrote anything, and adopt_existing is never: nothing is "
        "written to it."
    )


def _held_back(person: PersonOptOuts) -> str | None:
    if person.takes_back or not any(outlook.takes_back for outlook in person.outlooks.values()):
        return None
    return (
        "Opt-outs of more people would be taken back than guardrails.max_opt_ins allows, so none is: look why, then "
        "raise it."
    )


def _written_next(person: PersonOptOuts) -> str | None:
    named = [
        f"{name} in {outlook.writes_to.capitalize()}"
        for name, outlook in person.outlooks.items()
        if outlook.writes_to is not None
    ]
    return f"The next run writes {' and '.join(named)}." if named else None


def _differs(person: PersonOptOuts) -> str | None:
    left = [name for name, outlook in person.outlooks.items() if not outlook.agree]
    if not left:
        return None
    return f"Both systems differ in {', '.join(left)}, and are left as they are: nothing new was said in Campaign."


def _agree(person: PersonOptOuts) -> str:
    return "Both systems say the same: nothing is written."


# The first that has something to say is right: what comes earlier stands in the way of what comes later.
_RULES: Sequence[Callable[[PersonOptOuts], str | None]] = (
    _forgotten,
    _switched_off,
    _not_in_dynamics,
    _not_in_campaign,
    _on_hold,
    _in_doubt,
    _not_compared,
    _left_alone,
    _held_back,
    _written_next,
    _differs,
    _agree,
)


def moment_words(at: datetime | None) -> str:
    """A moment as a person reads it, with as much of a second as is known."""
    if at is None:
        return "at a time that isn't told"
    told = f"{at:%Y-%m-%d %H:%M:%S}"
    return f"{told}{f'.{at.microsecond // 1000:03d}' if at.microsecond else ''} UTC"
