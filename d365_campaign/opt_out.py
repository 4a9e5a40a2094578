"""Opt-outs: Campaign's fixed attributes, the pairs a customer makes of them, and the one rule that decides.

`decide` is that rule for one pair of one person; `sql_cases` is the same rule for whole tables. Both are made from
`RULES`, and a property test holds the one against the other.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from d365_campaign.record_filter import LogicalName


class OptOutDirection(StrEnum):
    """Who is the source of truth for opt-outs."""

    DISABLED = "disabled"
    DYNAMICS_TO_CAMPAIGN = "dynamics_to_campaign"
    CAMPAIGN_TO_DYNAMICS = "campaign_to_dynamics"
    BIDIRECTIONAL = "bidirectional"

    @property
    def reads_exports(self) -> bool:
        """Whether Campaign's changes count, which come as daily files."""
        return self in (self.CAMPAIGN_TO_DYNAMICS, self.BIDIRECTIONAL)

    @property
    def writes_campaign(self) -> bool:
        return self in (self.DYNAMICS_TO_CAMPAIGN, self.BIDIRECTIONAL)


@dataclass(frozen=True, slots=True)
class OptOutAttribute:
    """An opt-out of a Campaign profile: FALSE by default. *stamps* are the attributes that may tell when it changed
    last; the first that does counts."""

    name: str
    label: str
    stamps: Sequence[str]


def _attribute(name: str, label: str, *stamps: str) -> OptOutAttribute:
    return OptOutAttribute(name, label, stamps or (f"{name}LastModified",))


GLOBAL = "blackList"
# "DataModel Profile" has the names and labels, "Managing CCPA opt-out" the last one. Nothing else may be paired.
ATTRIBUTES: Mapping[str, OptOutAttribute] = {
    attribute.name: attribute
    for attribute in (
        _attribute(GLOBAL, "No longer contact", "blackListLastModified", "blackListAllLastModified"),
        _attribute("blackListEmail", "No longer contact by email"),
        _attribute("blackListFax", "No longer contact by fax"),
        _attribute("blackListMobile", "No longer contact by SMS"),
        _attribute("blackListPhone", "No longer contact by phone"),
        _attribute("blackListPostalMail", "No longer contact by direct mail"),
        _attribute("blackListPushnotification", "No longer contact by push notification"),
        _attribute("ccpaOptOut", "CCPA Opt-Out"),
    )
}
PROFILE_CHANGED = "lastModified"


def on_wire(name: str) -> str:
    """An opt-out attribute as Campaign's API spells it; its pages print `denyListEmail` for `blackListEmail`."""
    return f"blackList{name.removeprefix('denyList')}" if name.startswith("denyList") else name


def _known(name: str) -> str:
    if on_wire(name) not in ATTRIBUTES:
        raise ValueError(f"'{name}' is no opt-out of a Campaign profile. There are: {', '.join(ATTRIBUTES)}.")
    return on_wire(name)


class OptOutPair(BaseModel):
    """A yes/no column of Dynamics' contact and the Campaign opt-out that says the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: LogicalName = Field(description="Yes/no column of the contact, most often a donot... one.")
    target: Annotated[str, AfterValidator(_known)] = Field(
        description="Campaign opt-out, e.g. blackListEmail; denyListEmail means the same."
    )
    invert: bool = Field(
        default=False, description="The column says that a person may be contacted, so yes means no opt-out."
    )

    def opts_out(self, value: object) -> bool:
        """Whether this value of the column is an opt-out; an empty one is none."""
        return value is (not self.invert)

    def column_value(self, opted_out: bool) -> bool:
        """What the column says of an opt-out."""
        return opted_out is not self.invert


@dataclass(frozen=True, slots=True)
class OptOuts:
    """How the opt-outs of contacts and profiles are kept in step.

    *global_stamps* are the attributes that may tell when the global opt-out changed, in the order in which they count.
    """

    direction: OptOutDirection = OptOutDirection.DISABLED
    pairs: Sequence[OptOutPair] = ()
    global_stamps: Sequence[str] = ATTRIBUTES[GLOBAL].stamps

    def stamps(self, attribute: str) -> Sequence[str]:
        """The attributes that may tell when an opt-out changed, in the order in which they count."""
        return self.global_stamps if attribute == GLOBAL else ATTRIBUTES[attribute].stamps


# --- what both systems say --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CampaignWord:
    """What Campaign says of a profile: each opt-out, when it changed last (None: it doesn't tell), and when the whole
    profile did. Moments are UTC."""

    values: Mapping[str, bool] = field(repr=False)
    stamps: Mapping[str, datetime | None] = field(default_factory=dict, repr=False)
    changed_at: datetime | None = None

    def after(self, written: Mapping[str, bool]) -> "CampaignWord":
        """The same once *written* has reached it. When that was, only Campaign knows."""
        return replace(self, values={**self.values, **written})


@dataclass(frozen=True, slots=True)
class DynamicsWord:
    """What Dynamics says of a contact: each opt-out under its Campaign name, and when anything of the contact changed
    last (UTC)."""

    values: Mapping[str, bool] = field(repr=False)
    changed_at: datetime | None = None


_TRUE = frozenset({"true", "1"})


def read_campaign(record: Mapping[str, object], stamps: Mapping[str, Sequence[str]]) -> CampaignWord:
    """Campaign's word from a record as its API answers it; *stamps* names, for each opt-out, what tells its time.

    A time that can't be read is as good as none, which never lets a FALSE win.
    """
    return CampaignWord(
        {name: str(record.get(name)).lower() in _TRUE for name in stamps},
        {name: next(filter(None, (_moment(record.get(s)) for s in told)), None) for name, told in stamps.items()},
        _moment(record.get(PROFILE_CHANGED)),
    )


def read_dynamics(
    record: Mapping[str, object], pairs: Sequence[OptOutPair], changed_at: datetime | None
) -> DynamicsWord:
    """Dynamics' word from the columns of a contact; one that is empty is no opt-out."""
    return DynamicsWord({pair.target: pair.opts_out(record.get(pair.source)) for pair in pairs}, changed_at)


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value))
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# --- the decision -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """What both systems say of one opt-out of one person. Moments are UTC; None where a system tells none.

    *campaign_at* is when this attribute changed in Campaign, *dynamics_at* when anything of the contact changed in
    Dynamics. *news*: Campaign's word changed since it was last acted on.
    """

    campaign: bool
    campaign_at: datetime | None
    dynamics: bool
    dynamics_at: datetime | None
    news: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """What each side is to hold, and the rule that said so."""

    campaign: bool
    dynamics: bool
    rule: str


@dataclass(frozen=True, slots=True)
class OptOutRule:
    """One line of the decision: where it *applies*, what *campaign* and *dynamics* are to hold.

    *sql* is the same condition over expressions for the parts of a `Standing`. Each side holds its `own` value, the
    `other` side's, or TRUE (`opt_out`). *words* tell a person why.
    """

    name: str
    applies: Callable[[Standing], bool]
    sql: str
    campaign: Literal["own", "other", "opt_out"]
    dynamics: Literal["own", "other", "opt_out"]
    words: str


def _newer_in_campaign(s: Standing) -> bool:
    """In whole seconds, which is all that Dynamics tells: what happened within the same second is no later."""
    return bool(s.campaign_at and s.dynamics_at and to_second(s.campaign_at) > to_second(s.dynamics_at))


def to_second(moment: datetime) -> datetime:
    """A moment in UTC without its fraction of a second."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)


_NEWER_IN_CAMPAIGN = "coalesce(date_trunc('second', {campaign_at}) > date_trunc('second', {dynamics_at}), false)"
OPT_OUT_WINS = "opt_out_wins"
_AGREE = OptOutRule(
    "both_agree",
    lambda s: s.campaign == s.dynamics,
    "{campaign} = {dynamics}",
    "own",
    "own",
    "both systems say the same",
)
# "Best practices and limitations", Opt-out. A time that is missing never lets a FALSE win.
RULES: Mapping[OptOutDirection, Sequence[OptOutRule]] = {
    OptOutDirection.BIDIRECTIONAL: (
        _AGREE,
        OptOutRule(
            "campaign_is_newer",
            _newer_in_campaign,
            _NEWER_IN_CAMPAIGN,
            "own",
            "other",
            "Campaign's opt-out changed after the contact did in Dynamics, so Campaign's value holds",
        ),
        OptOutRule(
            OPT_OUT_WINS,
            lambda s: True,
            "true",
            "opt_out",
            "opt_out",
            "Campaign's opt-out did not change after the contact did, so an opt-out on either side holds",
        ),
    ),
    OptOutDirection.CAMPAIGN_TO_DYNAMICS: (
        _AGREE,
        OptOutRule(
            "campaign_decides",
            lambda s: s.news and (s.campaign or s.campaign_at is not None),
            "{news} and ({campaign} or {campaign_at} is not null)",
            "own",
            "other",
            "Campaign is the source of truth, and its value changed",
        ),
        OptOutRule(
            "nothing_new_in_campaign",
            lambda s: True,
            "true",
            "own",
            "own",
            "Campaign is the source of truth, and its value did not change since it was last acted on",
        ),
    ),
    OptOutDirection.DYNAMICS_TO_CAMPAIGN: (
        _AGREE,
        OptOutRule(
            "dynamics_decides", lambda s: True, "true", "other", "own", "Dynamics is the source of truth for opt-outs"
        ),
    ),
    OptOutDirection.DISABLED: (
        OptOutRule("switched_off", lambda s: True, "true", "own", "own", "opt-outs are not kept in step"),
    ),
}


def decide(direction: OptOutDirection, standing: Standing) -> Decision:
    """What both sides of one pair are to hold: the first rule of the *direction* that applies."""
    rule = next(rule for rule in RULES[direction] if rule.applies(standing))
    return Decision(
        campaign={"own": standing.campaign, "other": standing.dynamics, "opt_out": True}[rule.campaign],
        dynamics={"own": standing.dynamics, "other": standing.campaign, "opt_out": True}[rule.dynamics],
        rule=rule.name,
    )


def standings(
    pairs: Sequence[OptOutPair], campaign: CampaignWord, dynamics: DynamicsWord, news: Collection[str] | None = None
) -> Mapping[str, Standing]:
    """Both words side by side, by Campaign's name of the opt-out. *news* names those that count as such; None: all."""
    return {
        pair.target: Standing(
            campaign.values.get(pair.target, False),
            campaign.stamps.get(pair.target),
            dynamics.values[pair.target],
            dynamics.changed_at,
            news is None or pair.target in news,
        )
        for pair in pairs
    }


@dataclass(frozen=True, slots=True)
class DecisionSql:
    """A `Decision` as SQL expressions."""

    campaign: str
    dynamics: str
    rule: str


def decision_sql(direction: OptOutDirection, standing: Mapping[str, str]) -> DecisionSql:
    """`decide` as SQL; *standing* has the (not null) expression for each part of a `Standing`."""
    held = {
        "campaign": {"own": standing["campaign"], "other": standing["dynamics"], "opt_out": "true"},
        "dynamics": {"own": standing["dynamics"], "other": standing["campaign"], "opt_out": "true"},
    }
    rules = [(rule.sql.format(**standing), rule) for rule in RULES[direction]]
    return DecisionSql(
        campaign=_case([(condition, held["campaign"][rule.campaign]) for condition, rule in rules]),
        dynamics=_case([(condition, held["dynamics"][rule.dynamics]) for condition, rule in rules]),
        rule=_case([(condition, f"'{rule.name}'") for condition, rule in rules]),
    )


def _case(branches: Sequence[tuple[str, str]]) -> str:
    """The last branch holds where no other does."""
    *before, (_, last) = branches
    return f"case {' '.join(f'when {c} then {value}' for c, value in before)} else {last} end" if before else last


def words_of(direction: OptOutDirection, rule: str) -> str:
    """Why, in a person's words."""
    return next(r.words for r in RULES[direction] if r.name == rule)
