"""The decision: what both systems are to hold of one opt-out of one person, in every direction.

R, A and the numbers of rows are those of the integration contract; its table of twelve rows is `TRUTH_TABLE`.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import product

import pytest
from pydantic import ValidationError

from d365_campaign.mapping import FieldMapping
from d365_campaign.opt_out import (
    ATTRIBUTES,
    RULES,
    CampaignWord,
    Decision,
    DynamicsWord,
    OptOutDirection,
    OptOutPair,
    OptOuts,
    Standing,
    decide,
    on_wire,
    read_campaign,
    read_dynamics,
    standings,
    words_of,
)

DISABLED, TO_CAMPAIGN, TO_DYNAMICS, BIDIRECTIONAL = OptOutDirection
NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
EARLIER, LATER = NOON - timedelta(seconds=1), NOON + timedelta(seconds=1)
MOMENTS = (None, EARLIER, NOON, LATER)
EMAIL = OptOutPair(source="donotemail", target="blackListEmail")

# Row, when Campaign's value changed, what Campaign and Dynamics (as of noon) say, and what both are to hold.
TRUTH_TABLE = (
    (1, LATER, False, False, False),
    (2, LATER, False, True, False),
    (3, LATER, True, False, True),
    (4, LATER, True, True, True),
    (5, EARLIER, False, False, False),
    (6, EARLIER, True, False, True),
    (7, EARLIER, False, True, True),
    (8, EARLIER, True, True, True),
    (9, NOON, False, False, False),
    (10, NOON, True, False, True),
    (11, NOON, False, True, True),
    (12, NOON, True, True, True),
)


def held(decision: Decision) -> tuple[bool, bool]:
    """What Campaign and Dynamics are to hold."""
    return decision.campaign, decision.dynamics


def every_standing() -> Iterator[Standing]:
    for campaign, dynamics, news in product((False, True), repeat=3):
        for campaign_at, dynamics_at in product(MOMENTS, repeat=2):
            yield Standing(campaign, campaign_at, dynamics, dynamics_at, news)


def shown(row: tuple[int, datetime, bool, bool, bool]) -> str:
    newer = {LATER: "campaign newer", EARLIER: "dynamics newer", NOON: "equal"}[row[1]]
    return f"row {row[0]}: {newer}, campaign {row[2]}, dynamics {row[3]}"


# --- bidirectional ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", TRUTH_TABLE, ids=shown)
def test_bidirectional_decision_is_that_of_the_truth_table(row: tuple[int, datetime, bool, bool, bool]) -> None:
    """R20, R22: the chosen value is the one for both systems."""
    _, campaign_at, campaign, dynamics, result = row

    decision = decide(BIDIRECTIONAL, Standing(campaign, campaign_at, dynamics, NOON))

    assert held(decision) == (result, result)


@pytest.mark.parametrize("row", TRUTH_TABLE, ids=shown)
def test_rule_that_fired_is_named_with_the_decision(row: tuple[int, datetime, bool, bool, bool]) -> None:
    _, campaign_at, campaign, dynamics, _ = row
    newer = "campaign_is_newer" if campaign_at == LATER else "opt_out_wins"

    decision = decide(BIDIRECTIONAL, Standing(campaign, campaign_at, dynamics, NOON))

    assert decision.rule == ("both_agree" if campaign == dynamics else newer)


@pytest.mark.parametrize(
    ("campaign_at", "dynamics_at", "result"),
    [
        pytest.param(NOON.replace(microsecond=999_000), NOON, True, id="later within the second counts as equal"),
        pytest.param(NOON + timedelta(seconds=1), NOON.replace(microsecond=999_000), False, id="next second is later"),
        pytest.param(NOON + timedelta(milliseconds=1000), NOON, False, id="a whole second later"),
        pytest.param(NOON, NOON + timedelta(milliseconds=1), True, id="earlier within the second counts as equal"),
    ],
)
def test_times_are_compared_in_whole_seconds(campaign_at: datetime, dynamics_at: datetime, result: bool) -> None:
    """A7: Dynamics tells no more than seconds, and an opt-out wins where both changed within one."""
    assert held(decide(BIDIRECTIONAL, Standing(False, campaign_at, True, dynamics_at))) == (result, result)


@pytest.mark.parametrize("hours", [-11, 0, 5.5, 14])
def test_times_are_compared_in_utc_wherever_they_were_written(hours: float) -> None:
    """A7."""
    zone = timezone(timedelta(hours=hours))

    assert held(decide(BIDIRECTIONAL, Standing(False, LATER.astimezone(zone), True, NOON))) == (False, False)
    assert held(decide(BIDIRECTIONAL, Standing(False, EARLIER.astimezone(zone), True, NOON))) == (True, True)


@pytest.mark.parametrize(("campaign_at", "dynamics_at"), [(None, NOON), (LATER, None), (None, None)])
def test_false_never_wins_by_a_time_that_is_missing(campaign_at: datetime | None, dynamics_at: datetime | None) -> None:
    """Also where only Dynamics doesn't tell its time."""
    assert held(decide(BIDIRECTIONAL, Standing(False, campaign_at, True, dynamics_at))) == (True, True)
    assert held(decide(BIDIRECTIONAL, Standing(True, campaign_at, False, dynamics_at))) == (True, True)


def test_bidirectional_decision_never_takes_back_an_opt_out_of_campaign() -> None:
    """Whatever the times are, and whatever is news."""
    kept = [decide(BIDIRECTIONAL, standing).campaign for standing in every_standing() if standing.campaign]

    assert kept
    assert all(kept)


def test_newer_opt_in_of_dynamics_alone_takes_nothing_back() -> None:
    """R22, row 6: only Campaign's own newer opt-in does."""
    taken_back = [s for s in every_standing() if s.dynamics and not decide(BIDIRECTIONAL, s).dynamics]

    assert taken_back
    assert all(not s.campaign and s.campaign_at and s.dynamics_at and s.campaign_at > s.dynamics_at for s in taken_back)


# --- the other directions ---------------------------------------------------------------------------------------------


def test_dynamics_alone_decides_in_dynamics_to_campaign() -> None:
    """R18: whatever the times are."""
    for standing in every_standing():
        assert held(decide(TO_CAMPAIGN, standing)) == (standing.dynamics, standing.dynamics)


@pytest.mark.parametrize("campaign", [False, True])
@pytest.mark.parametrize("dynamics_at", MOMENTS)
def test_news_of_campaign_overwrites_dynamics_in_campaign_to_dynamics(
    campaign: bool, dynamics_at: datetime | None
) -> None:
    """R19: also where the contact changed later."""
    assert held(decide(TO_DYNAMICS, Standing(campaign, EARLIER, not campaign, dynamics_at))) == (campaign, campaign)


@pytest.mark.parametrize("campaign", [False, True])
@pytest.mark.parametrize("campaign_at", MOMENTS)
def test_edit_in_dynamics_stays_until_campaign_has_news(campaign: bool, campaign_at: datetime | None) -> None:
    """R94."""
    old = Standing(campaign, campaign_at, not campaign, NOON, news=False)

    assert held(decide(TO_DYNAMICS, old)) == (campaign, not campaign)
    assert decide(TO_DYNAMICS, old).rule == "nothing_new_in_campaign"


def test_false_without_a_time_is_no_news_that_takes_back_an_opt_out() -> None:
    """Campaign's default is FALSE: without a time, nobody is known to have said so."""
    assert held(decide(TO_DYNAMICS, Standing(False, None, True, NOON))) == (False, True)
    assert held(decide(TO_DYNAMICS, Standing(True, None, False, NOON))) == (True, True), "an opt-out needs no time"


def test_campaign_to_dynamics_never_writes_campaign() -> None:
    """R19."""
    assert all(decide(TO_DYNAMICS, s).campaign is s.campaign for s in every_standing())


def test_nothing_is_written_where_opt_outs_are_disabled() -> None:
    """R21."""
    assert all(held(decide(DISABLED, s)) == (s.campaign, s.dynamics) for s in every_standing())


@pytest.mark.parametrize("direction", OptOutDirection)
def test_deciding_again_on_the_result_changes_nothing(direction: OptOutDirection) -> None:
    """R22: so own writes settle, whatever time they are stamped with; a change of Campaign's was acted on by then."""
    for standing in every_standing():
        first = decide(direction, standing)
        for campaign_at, dynamics_at in product({standing.campaign_at, LATER}, {standing.dynamics_at, LATER}):
            news = standing.news and first.dynamics is standing.dynamics
            after = Standing(first.campaign, campaign_at, first.dynamics, dynamics_at, news)
            if direction is TO_DYNAMICS and campaign_at != standing.campaign_at:
                continue  # nothing is written there that could be stamped
            assert held(decide(direction, after)) == held(first), (standing, after)


@pytest.mark.parametrize("direction", OptOutDirection)
def test_every_rule_has_words_for_a_person(direction: OptOutDirection) -> None:
    names = [rule.name for rule in RULES[direction]]

    assert len(names) == len(set(names))
    assert all(" " in words_of(direction, name) for name in names)


def test_only_the_directions_that_go_by_campaign_read_its_files() -> None:
    """R25, R106."""
    assert [direction for direction in OptOutDirection if direction.reads_exports] == [TO_DYNAMICS, BIDIRECTIONAL]
    assert [direction for direction in OptOutDirection if direction.writes_campaign] == [TO_CAMPAIGN, BIDIRECTIONAL]


# --- pairs ------------------------------------------------------------------------------------------------------------


def test_the_eight_opt_outs_of_campaign_are_those_of_its_data_model() -> None:
    """R15, contract 3.2."""
    assert list(ATTRIBUTES) == [
        "blackList",
        "blackListEmail",
        "blackListFax",
        "blackListMobile",
        "blackListPhone",
        "blackListPostalMail",
        "blackListPushnotification",
        "ccpaOptOut",
    ]


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_each_opt_out_may_be_paired_in_both_spellings(name: str) -> None:
    """R15, contract 3.2: what is printed as denyList is blackList on the wire; in pairs and in fields."""
    printed = name.replace("blackList", "denyList")

    assert [OptOutPair(source="donotemail", target=spelling).target for spelling in (name, printed)] == [name, name]
    assert FieldMapping(source="donotemail", target=printed).target == name
    assert on_wire(printed) == name


@pytest.mark.parametrize(
    "name",
    [
        "email",
        "cusFlag",
        "externalId",
        "blackListEmailLastModified",
        "blacklistemail",
        "BlackListEmail",
        "denyListSms",
        "",
    ],
)
def test_nothing_else_may_be_paired(name: str) -> None:
    """R15, R95: the refusal names what there is."""
    with pytest.raises(ValidationError, match=f"'{name}' is no opt-out of a Campaign profile. There are: blackList, "):
        OptOutPair(source="donotemail", target=name)


@pytest.mark.parametrize(
    ("invert", "value", "opted_out"),
    [
        pytest.param(False, True, True, id="yes is an opt-out"),
        pytest.param(False, False, False, id="no is none"),
        pytest.param(False, None, False, id="empty is none (A12)"),
        pytest.param(True, True, False, id="inverted: yes is none (A13)"),
        pytest.param(True, False, True, id="inverted: no is an opt-out (A13)"),
        pytest.param(True, None, False, id="inverted: empty is none (A12)"),
    ],
)
def test_column_is_read_by_its_polarity(invert: bool, value: bool | None, opted_out: bool) -> None:
    """A12, A13."""
    pair = OptOutPair(source="new_maymail", target="blackListEmail", invert=invert)

    assert read_dynamics({"new_maymail": value}, [pair], NOON) == DynamicsWord({"blackListEmail": opted_out}, NOON)


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("opted_out", [False, True])
def test_what_is_written_to_a_column_reads_back_as_the_same(invert: bool, opted_out: bool) -> None:
    """A12, A13: and is never empty."""
    pair = OptOutPair(source="new_maymail", target="blackListEmail", invert=invert)

    assert pair.opts_out(pair.column_value(opted_out)) is opted_out


def test_polarity_is_not_turned_unasked() -> None:
    """A13."""
    assert not EMAIL.invert


# --- what Campaign says -----------------------------------------------------------------------------------------------

STAMPS = {name: OptOuts().stamps(name) for name in ATTRIBUTES}


def campaign_at(stamp: object) -> datetime | None:
    """When the opt-out by e-mail changed, by a record that says so with *stamp*."""
    return read_campaign({"blackListEmailLastModified": stamp}, STAMPS).stamps["blackListEmail"]


@pytest.mark.parametrize(
    ("stamp", "moment"),
    [
        ("2026-05-01 12:00:00.250Z", NOON.replace(microsecond=250_000)),
        ("2026-05-01 12:00:00Z", NOON),
        ("2026-05-01T14:00:00+02:00", NOON),
        ("2026-05-01 12:00:00", NOON),
    ],
)
def test_time_of_an_opt_out_is_read_as_utc(stamp: str, moment: datetime) -> None:
    """A7."""
    assert campaign_at(stamp) == moment


@pytest.mark.parametrize("stamp", [None, "", "yesterday", "2026-13-01 12:00:00Z", "0001-01-01T00:00:00+14:00", 0, True])
def test_time_that_can_not_be_read_is_as_good_as_none(stamp: object) -> None:
    """Its FALSE doesn't win then."""
    word = read_campaign({"blackListEmail": False, "blackListEmailLastModified": stamp}, STAMPS)
    standing = standings([EMAIL], word, DynamicsWord({"blackListEmail": True}, EARLIER))["blackListEmail"]

    assert standing.campaign_at is None
    assert held(decide(BIDIRECTIONAL, standing)) == (True, True)


@pytest.mark.parametrize(
    ("value", "opted_out"),
    [(True, True), ("true", True), (1, True), ("1", True), (False, False), ("false", False), (0, False), (None, False)],
)
def test_value_of_an_opt_out_is_read_however_campaign_writes_it(value: object, opted_out: bool) -> None:
    assert read_campaign({"blackListEmail": value}, STAMPS).values["blackListEmail"] is opted_out


def test_opt_out_that_a_record_does_not_tell_is_none() -> None:
    """A12, A6: FALSE is Campaign's default, and it is older than anything."""
    assert read_campaign({}, STAMPS) == CampaignWord(dict.fromkeys(ATTRIBUTES, False), dict.fromkeys(ATTRIBUTES))


def test_global_opt_out_is_as_old_as_the_first_attribute_that_tells() -> None:
    """A6."""
    told = {"blackListLastModified": "2026-05-01 12:00:00Z", "blackListAllLastModified": "2026-05-01 12:00:01Z"}
    swapped = OptOuts(global_stamps=["blackListAllLastModified", "blackListLastModified"])

    assert read_campaign(told, STAMPS).stamps["blackList"] == NOON
    assert read_campaign(told | {"blackListLastModified": ""}, STAMPS).stamps["blackList"] == LATER
    assert read_campaign(told, {"blackList": swapped.stamps("blackList")}).stamps["blackList"] == LATER


def test_both_words_meet_by_the_name_of_the_opt_out() -> None:
    """What Campaign doesn't tell of is FALSE, and only what is named as news is news."""
    fax = OptOutPair(source="donotfax", target="blackListFax")
    campaign = CampaignWord({"blackListEmail": True}, {"blackListEmail": EARLIER})
    dynamics = DynamicsWord({"blackListEmail": False, "blackListFax": True}, NOON)

    assert standings([EMAIL, fax], campaign, dynamics, {"blackListEmail"}) == {
        "blackListEmail": Standing(True, EARLIER, False, NOON, news=True),
        "blackListFax": Standing(False, None, True, NOON, news=False),
    }


def test_values_of_people_are_in_no_representation() -> None:
    """R6: opt-outs are personal data."""
    word = CampaignWord({"blackListEmail": True}, {"blackListEmail": NOON})

    assert "True" not in repr(word) + repr(DynamicsWord({"blackListEmail": True}))
