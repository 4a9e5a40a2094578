"""The rules of the integration contract on opt-outs, end to end: daily files in, writes to both systems out.

Each test names the rules it shows. Edits are made inside the stand-ins, as people of either system make them.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from d365_campaign.sandbox import Sandbox
from d365_campaign.store.rewrite import rewrite
from d365_campaign.store.staging import open_staging
from tests.integration import Integration
from tests.opting_out import (
    COLUMNS,
    EMAIL,
    EMAIL_AND_PHONE,
    PAIRS,
    SECONDS,
    assert_settled,
    both,
    contact,
    contacts_with,
    decisions,
    exported_and_synced,
    in_campaign,
    in_dynamics,
    kept_both_ways,
    opt_outs_written,
    profile,
    requests_to_dynamics,
    within_one_second,
    written_to_campaign,
    written_to_dynamics,
)


@pytest.fixture
def kept(integration: Integration) -> Integration:
    """Opt-outs by e-mail and by phone kept in step in both directions."""
    return kept_both_ways(integration)


# --- the truth table --------------------------------------------------------------------------------------------------

# Row, which side changed later, what Campaign and Dynamics say, what both hold in the end, and who is written.
ROWS = (
    (1, "campaign", False, False, False, ""),
    (2, "campaign", False, True, False, "dynamics"),
    (3, "campaign", True, False, True, "dynamics"),
    (4, "campaign", True, True, True, ""),
    (5, "dynamics", False, False, False, ""),
    (6, "dynamics", True, False, True, "dynamics"),
    (7, "dynamics", False, True, True, "campaign"),
    (8, "dynamics", True, True, True, ""),
    (9, "neither", False, False, False, ""),
    (10, "neither", True, False, True, "dynamics"),
    (11, "neither", False, True, True, "campaign"),
    (12, "neither", True, True, True, ""),
)


@dataclass(frozen=True)
class Aftermath:
    """Of one person, whose opt-outs all stand in one row of the table, what came of a run. *asked* are the methods of
    the requests about the profile."""

    both: Mapping[str, tuple[bool, bool]]
    to_campaign: Sequence[Sequence[str]]
    to_dynamics: Sequence[Sequence[str]]
    asked: Sequence[str]


@dataclass(frozen=True)
class Table:
    people: Mapping[int, Aftermath]
    calls_of_next_run: int
    writes_of_next_run: Sequence[str]


@pytest.fixture(scope="module")
def table(
    served_sandbox: Sandbox, instance: dg.DagsterInstance, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Table]:
    """Twelve people, one in each row with all eight opt-outs; a run, and another one over what the first wrote."""
    served_sandbox.reset()
    credentials = served_sandbox.endpoints["credentials"]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("D365_CLIENT_SECRET", credentials["dataverse"]["client_secret"])
        environment.setenv("CAMPAIGN_CLIENT_SECRET", credentials["campaign"]["client_secret"])
        environment.setenv("CAMPAIGN_SFTP_KEY", served_sandbox.endpoints["sftp"]["private_key_file"])
        yield _table(served_sandbox, instance, tmp_path_factory.mktemp("table"))


def _table(sandbox: Sandbox, instance: dg.DagsterInstance, folder: Path) -> Table:
    integration = Integration(sandbox, instance, folder / "staging.duckdb")
    integration.keep_opt_outs("bidirectional", PAIRS)
    keys = {row: contact(sandbox) for row, *_ in ROWS}
    integration.sync()
    for row, later, campaign, dynamics, *_ in ROWS:
        _set_up(sandbox, keys[row], later, campaign, dynamics)
    version = sandbox.dataverse.version
    sandbox.clear_calls()
    exported_and_synced(integration)
    people = {}
    for row, key in keys.items():
        pkey = profile(sandbox, key)["PKey"]
        calls = [call for call in sandbox.calls("campaign") if key in call.path or pkey in call.path]
        people[row] = Aftermath(
            {opt_out: both(sandbox, key, opt_out) for opt_out in COLUMNS},
            [call.fields for call in calls if call.method != "GET"],
            written_to_dynamics(sandbox, key, version),
            [call.method for call in calls],
        )
    sandbox.clear_calls()
    exported_and_synced(integration)
    return Table(people, sandbox.engine_calls()["total"], requests_to_dynamics(sandbox))


def _set_up(sandbox: Sandbox, key: str, later: str, campaign: bool, dynamics: bool) -> None:
    opt_outs, columns = dict.fromkeys(COLUMNS, campaign), dict.fromkeys(PAIRS, dynamics)
    if later == "campaign":
        in_dynamics(sandbox, key, **columns)
        in_campaign(sandbox, key, **opt_outs)
    elif later == "dynamics":
        in_campaign(sandbox, key, **opt_outs)
        in_dynamics(sandbox, key, **columns)
    else:
        within_one_second(
            sandbox,
            lambda: sandbox.dataverse.update("contact", key, columns),
            lambda: sandbox.campaign.update("profile", key, dict.fromkeys(COLUMNS, not campaign)),
            lambda: sandbox.campaign.update("profile", key, opt_outs),
        )
    stamps = [profile(sandbox, key)[f"{opt_out}LastModified"][:19].replace(" ", "T") + "Z" for opt_out in COLUMNS]
    modified = sandbox.dataverse.get("contact", key)["modifiedon"]
    told = {"campaign" if at > modified else "dynamics" if at < modified else "neither" for at in stamps}
    assert told == {later}


ROW = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"row {row[0]}")


@ROW
@pytest.mark.parametrize("opt_out", COLUMNS)
def test_both_systems_hold_what_the_truth_table_says(table: Table, row: tuple[Any, ...], opt_out: str) -> None:
    """R20, R22, contract 3.1."""
    number, _, _, _, result, _ = row
    assert table.people[number].both[opt_out] == (result, result)


@ROW
def test_only_the_side_that_differs_is_written_with_its_opt_outs_alone(table: Table, row: tuple[Any, ...]) -> None:
    """R22, R64: in one write for all eight."""
    number, *_, written = row
    person = table.people[number]
    assert [sorted(fields) for fields in person.to_campaign] == ([sorted(COLUMNS)] if written == "campaign" else [])
    assert person.to_dynamics == ([sorted(PAIRS)] if written == "dynamics" else [])


def test_profile_is_read_before_it_is_written_and_before_false_is_written_to_its_contact(table: Table) -> None:
    """Whoever is in step as both sides know it costs nothing."""
    assert [table.people[row].asked for row in (7, 11)] == [["GET", "PATCH"]] * 2
    assert table.people[2].asked == ["GET"]
    assert [table.people[row].asked for row in (1, 5, 9)] == [[]] * 3


def test_own_writes_do_not_echo(table: Table) -> None:
    """R22: with all of them exported and read back, nobody is looked at in Campaign or written anywhere."""
    assert (table.calls_of_next_run, table.writes_of_next_run) == (0, [])


# --- bidirectional ----------------------------------------------------------------------------------------------------


def test_any_change_of_the_contact_makes_dynamics_the_newer_side(sandbox: Sandbox, kept: Integration) -> None:
    """R23: an opt-in in Campaign loses to a change of the phone before the daily file came (row 7)."""
    key = contact(sandbox, donotemail=True)
    kept.sync()
    in_campaign(sandbox, key, blackListEmail=False)
    in_dynamics(sandbox, key, telephone1="1815")

    exported_and_synced(kept)

    assert both(sandbox, key) == (True, True)
    assert_settled(kept)


def test_change_of_anything_but_the_opt_out_does_not_make_campaign_the_newer_side(
    sandbox: Sandbox, kept: Integration
) -> None:
    """R23: nor does a change of another opt-out."""
    key = contact(sandbox)
    kept.sync()
    in_campaign(sandbox, key, blackListEmail=False)
    in_dynamics(sandbox, key, donotemail=True)
    in_campaign(sandbox, key, firstName="Augusta", blackListPhone=True)

    exported_and_synced(kept)

    assert both(sandbox, key) == (True, True)
    assert both(sandbox, key, "blackListPhone") == (True, True)
    assert_settled(kept)


def test_new_profile_gets_its_opt_outs_with_the_insert_and_no_false(sandbox: Sandbox, integration: Integration) -> None:
    """No FALSE is sent, because Campaign might stamp it as changed."""
    sandbox.settings.stamp_false_on_create = True
    integration.tables = contacts_with()
    integration.keep_opt_outs("bidirectional", PAIRS)
    out, never = contact(sandbox, donotemail=True, donotfax=None), contact(sandbox)

    integration.sync()

    assert sorted(written_to_campaign(sandbox)) == [
        ["blackListEmail", "externalId", "lastName"],
        ["externalId", "lastName"],
    ]
    assert both(sandbox, out) == (True, True)
    assert {profile(sandbox, never)[f"{opt_out}LastModified"] for opt_out in COLUMNS} == {""}
    assert_settled(integration)


def test_opt_out_of_a_profile_that_we_made_costs_no_call_when_its_first_file_comes(
    sandbox: Sandbox, kept: Integration
) -> None:
    """What Campaign says of a new profile is in its answer to the insert."""
    key = contact(sandbox)
    kept.sync()
    sandbox.advance_clock(SECONDS)
    sandbox.campaign.update("profile", key, {"blackListEmail": True})
    sandbox.advance_clock(SECONDS)
    sandbox.export_opt_outs()
    sandbox.clear_calls()

    kept.sync()

    assert sandbox.dataverse.get("contact", key)["donotemail"]
    assert sandbox.engine_calls()["total"] == 0


def test_profile_that_was_there_before_brings_its_opt_outs_without_any_file(
    sandbox: Sandbox, kept: Integration
) -> None:
    """R33: both ways, by what the first look at Campaign found."""
    told_here, told_there = contact(sandbox), contact(sandbox, donotemail=True)
    sandbox.campaign.create("profile", {"externalId": told_here, "lastName": "Lovelace", "blackListEmail": True})
    sandbox.campaign.create("profile", {"externalId": told_there, "lastName": "Lovelace"})

    kept.sync()

    assert both(sandbox, told_here) == (True, True)
    assert both(sandbox, told_there) == (True, True)
    assert_settled(kept)


def test_opt_out_that_was_not_exported_yet_reaches_dynamics_with_the_next_change_of_the_contact(
    sandbox: Sandbox, kept: Integration
) -> None:
    """A22: the update reads the profile, and what it says counts at once."""
    key = contact(sandbox)
    kept.sync()
    in_campaign(sandbox, key, blackListEmail=True)
    in_dynamics(sandbox, key, telephone1="1815")
    sandbox.clear_calls()

    kept.sync()
    assert profile(sandbox, key)["blackListEmail"], "the update left it alone"
    assert opt_outs_written(sandbox) == set()
    kept.sync()

    assert both(sandbox, key) == (True, True)
    assert_settled(kept)


def test_opt_out_in_dynamics_wins_over_an_opt_in_that_was_not_exported_yet_in_the_same_update(
    sandbox: Sandbox, kept: Integration
) -> None:
    """A22: one read and one write for both."""
    key = contact(sandbox, donotemail=True)
    kept.sync()
    in_campaign(sandbox, key, blackListEmail=False)
    in_dynamics(sandbox, key, telephone1="1815")
    sandbox.clear_calls()

    kept.sync()

    assert written_to_campaign(sandbox) == [["blackListEmail", "phone"]]
    assert both(sandbox, key) == (True, True)
    assert_settled(kept)


def test_opt_in_on_both_sides_holds_although_it_was_not_exported_yet(sandbox: Sandbox, kept: Integration) -> None:
    """A22, row 5: a change of the contact is decided by what Campaign says then, not by what it said last."""
    key = contact(sandbox, donotemail=True)
    sandbox.campaign.create("profile", {"externalId": key, "lastName": "Lovelace", "blackListEmail": True})
    kept.sync()
    in_campaign(sandbox, key, blackListEmail=False)
    in_dynamics(sandbox, key, donotemail=False)

    kept.sync()

    assert both(sandbox, key) == (False, False)
    assert_settled(kept)


def test_what_an_insert_or_update_decides_is_kept_as_any_decision(sandbox: Sandbox, kept: Integration) -> None:
    """A22: with both values, and the rule."""
    key = contact(sandbox, donotemail=True)
    kept.sync()
    in_campaign(sandbox, key, blackListEmail=False)
    in_dynamics(sandbox, key, telephone1="1815")
    kept.sync()

    inserted, updated = decisions(kept, key)

    for decided in (inserted, updated):
        assert (decided["attribute"], decided["source"]) == ("blackListEmail", "donotemail")
        assert (decided["campaign"], decided["dynamics"], decided["campaign_gets"]) == (False, True, True)
        assert (decided["rule"], decided["written_to"]) == ("opt_out_wins", "campaign")
    assert inserted["campaign_at"] is None
    assert inserted["dynamics_at"] < updated["campaign_at"] < updated["dynamics_at"]


def test_opt_outs_are_kept_in_step_for_whom_the_filter_leaves_out(sandbox: Sandbox, kept: Integration) -> None:
    """R70: the filter says whose data is sent; whoever has a profile can be written to, and must not be."""
    kept.tables = contacts_with(filter={"conditions": [{"source": "statecode", "comparison": "equals", "value": 0}]})
    here, there = contact(sandbox), contact(sandbox)
    kept.sync()
    for key in (here, there):
        in_dynamics(sandbox, key, statecode=1, statuscode=2, telephone1="1815")
    in_dynamics(sandbox, here, donotemail=True)
    in_campaign(sandbox, there, blackListEmail=True)
    sandbox.clear_calls()

    exported_and_synced(kept)

    assert [both(sandbox, key) for key in (here, there)] == [(True, True)] * 2
    assert written_to_campaign(sandbox) == [["blackListEmail"]]


def test_opt_outs_are_kept_in_step_of_a_record_that_is_refused(sandbox: Sandbox, kept: Integration) -> None:
    """A14: an over-long name holds back the name."""
    key = contact(sandbox)
    kept.sync()
    in_dynamics(sandbox, key, telephone1="1" * 50, donotemail=True)

    done = kept.sync()

    assert done["refused"] == 1
    assert both(sandbox, key) == (True, True)


def test_inverted_column_says_that_a_person_may_be_contacted(sandbox: Sandbox, integration: Integration) -> None:
    """A13, A12: an empty one is no opt-out, and none is ever written as empty."""
    integration.tables = contacts_with()
    pair = {"source": "donotemail", "target": "denyListEmail", "invert": True}
    integration.keep_opt_outs("bidirectional", pairs=None)
    integration.settings["opt_outs"]["pairs"] = [pair]
    refuses, agrees, silent = (contact(sandbox, donotemail=value) for value in (False, True, None))
    integration.sync()
    assert [profile(sandbox, key)["blackListEmail"] for key in (refuses, agrees, silent)] == [True, False, False]
    for key in (agrees, silent):
        in_campaign(sandbox, key, blackListEmail=True)

    exported_and_synced(integration)

    assert [sandbox.dataverse.get("contact", key)["donotemail"] for key in (refuses, agrees, silent)] == [False] * 3
    assert_settled(integration)


def test_only_opt_outs_go_to_dynamics(sandbox: Sandbox, kept: Integration) -> None:
    """R7, R64, R65: whatever else changed in Campaign stays there, and the write names the columns of pairs alone."""
    key = contact(sandbox)
    kept.sync()
    version = sandbox.dataverse.version
    in_campaign(sandbox, key, firstName="Augusta", phone="1815", blackListEmail=True, blackListFax=True)

    exported_and_synced(kept)

    assert written_to_dynamics(sandbox, key, version) == [["donotemail"]]
    assert requests_to_dynamics(sandbox) == ["/api/data/v9.2/$batch"]
    assert not [call.path for call in sandbox.calls() if "privacy" in call.path.lower()]


def test_profile_that_was_left_alone_stays_so_and_yet_is_heard(sandbox: Sandbox, kept: Integration) -> None:
    """A1: adoption is switched off, so nothing is written to a profile that was there before; reading is no write."""
    kept.tables = contacts_with(adopt_existing="never")
    here, there = contact(sandbox, donotemail=True), contact(sandbox)
    for key in (here, there):
        sandbox.campaign.create("profile", {"externalId": key, "lastName": "Byron", "blackListEmail": key == there})

    kept.sync()

    assert written_to_campaign(sandbox) == []
    assert both(sandbox, there) == (True, True)
    kept.change_staging('update "opt-outs".campaign set in_doubt = true')
    kept.change_staging('insert into "opt-outs".touched select key from "opt-outs".campaign')
    kept.sync()
    assert written_to_campaign(sandbox) == [], "nor where it is looked at because of a doubt"


# --- whatever happens -------------------------------------------------------------------------------------------------


@dataclass
class Said:
    """What people themselves last said of one opt-out on each side, and when; None: never."""

    campaign: bool
    dynamics: bool
    campaign_at: datetime | None
    dynamics_at: datetime


@pytest.mark.parametrize("seed", range(2))
def test_nobody_is_contacted_against_their_word_after_any_edits(sandbox: Sandbox, kept: Integration, seed: int) -> None:
    """R14: then both sides agree, and FALSE only where both said so or Campaign's FALSE was strictly newer."""
    chance = random.Random(seed)
    keys = [contact(sandbox, donotemail=chance.random() < 0.5, donotphone=chance.random() < 0.5) for _ in range(6)]
    kept.sync()
    for _ in range(2):
        for key in chance.choices(keys, k=20):
            _edit_at_random(sandbox, key, chance)
        said = {(key, opt_out): _said(sandbox, key, opt_out) for key in keys for opt_out in EMAIL_AND_PHONE.values()}
        if chance.random() < 0.5:
            kept.sync()  # before Campaign exports, so by what updates happen to read
        exported_and_synced(kept)
        exported_and_synced(kept)
        for (key, opt_out), before in said.items():
            here, there = both(sandbox, key, opt_out)
            assert here == there, (key, opt_out)
            assert here or not (before.campaign or before.dynamics) or _campaign_took_it_back(before)
            assert not here or before.campaign or before.dynamics, "nobody opts out who never said so"
    assert_settled(kept)


def _edit_at_random(sandbox: Sandbox, key: str, chance: random.Random) -> None:
    column, opt_out = chance.choice(list(EMAIL_AND_PHONE.items()))
    value = chance.random() < 0.5
    match chance.choice(["campaign", "dynamics", "phone", "name"]):
        case "campaign":
            in_campaign(sandbox, key, **{opt_out: value})
        case "dynamics":
            in_dynamics(sandbox, key, **{column: value})
        case "phone":
            in_dynamics(sandbox, key, telephone1=str(chance.random()))
        case _:
            in_campaign(sandbox, key, firstName=str(chance.random()))


def _said(sandbox: Sandbox, key: str, opt_out: str) -> Said:
    stamp, modified = profile(sandbox, key)[f"{opt_out}LastModified"], sandbox.dataverse.get("contact", key)
    campaign_at = datetime.fromisoformat(stamp).astimezone(UTC) if stamp else None
    return Said(*both(sandbox, key, opt_out), campaign_at, datetime.fromisoformat(modified["modifiedon"]))


def _campaign_took_it_back(said: Said) -> bool:
    return not said.campaign and said.campaign_at is not None and said.campaign_at > said.dynamics_at


# --- the other directions ---------------------------------------------------------------------------------------------


HELD = (False, False, True, True)


def people_in_step(sandbox: Sandbox) -> list[str]:
    """Four people whose contacts and profiles say what is `HELD`."""
    keys = [contact(sandbox, donotemail=held) for held in HELD]
    for key, held in zip(keys, HELD, strict=True):
        sandbox.campaign.create("profile", {"externalId": key, "lastName": "Lovelace", "blackListEmail": held})
    return keys


def change_minds(sandbox: Sandbox, keys: Sequence[str], *, in_: str) -> None:
    """Everybody says the contrary in that system, and the same as before in the other: every second one there last."""
    for number, (key, held) in enumerate(zip(keys, HELD, strict=True)):
        for system in ("campaign", "dynamics") if number % 2 else ("dynamics", "campaign"):
            said = held is not (system == in_)
            if system == "campaign":
                in_campaign(sandbox, key, blackListEmail=said)
            else:
                in_dynamics(sandbox, key, donotemail=said)


def contrary(sandbox: Sandbox, keys: Sequence[str]) -> bool:
    """Whether both systems hold the contrary of what was held of everybody."""
    return [both(sandbox, key) for key in keys] == [(not held, not held) for held in HELD]


@pytest.mark.parametrize("spelling", ["blackListEmail", "denyListEmail"])
def test_values_go_to_campaign_only_whatever_the_times_in_dynamics_to_campaign(
    sandbox: Sandbox, integration: Integration, spelling: str
) -> None:
    """R18, R93, contract 3.2: the pairs are fields of contact, in either spelling; no file is looked for."""
    integration.tables = contacts_with({"source": "donotemail", "target": spelling})
    integration.keep_opt_outs("dynamics_to_campaign")
    keys = people_in_step(sandbox)
    integration.sync()
    change_minds(sandbox, keys, in_="dynamics")
    sandbox.clear_calls()

    exported_and_synced(integration)

    assert contrary(sandbox, keys)
    assert requests_to_dynamics(sandbox) == []
    assert sandbox.sftp.log.operations == []
    assert written_to_campaign(sandbox) == [["blackListEmail"]] * 4
    assert_settled(integration)


def test_no_false_is_sent_with_an_insert_in_dynamics_to_campaign(sandbox: Sandbox, integration: Integration) -> None:
    """Although the opt-out is mapped as any field."""
    integration.tables = contacts_with({"source": "donotemail", "target": "blackListEmail"})
    integration.keep_opt_outs("dynamics_to_campaign")
    contact(sandbox)
    contact(sandbox, donotemail=True)

    integration.sync()

    assert sorted(written_to_campaign(sandbox)) == [
        ["blackListEmail", "externalId", "lastName"],
        ["externalId", "lastName"],
    ]


def test_values_go_to_dynamics_only_whatever_the_times_in_campaign_to_dynamics(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R19: after the daily file is read, not before."""
    integration.tables = contacts_with()
    integration.keep_opt_outs("campaign_to_dynamics", EMAIL)
    keys = people_in_step(sandbox)
    integration.sync()
    change_minds(sandbox, keys, in_="campaign")
    sandbox.clear_calls()
    integration.sync()
    assert requests_to_dynamics(sandbox) == []

    exported_and_synced(integration)

    assert contrary(sandbox, keys)
    assert written_to_campaign(sandbox) == []
    assert_settled(integration)


def test_edit_in_dynamics_stays_until_campaign_changes_next_in_campaign_to_dynamics(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R94: a change of something else in Campaign is none."""
    integration.tables = contacts_with()
    integration.keep_opt_outs("campaign_to_dynamics", EMAIL)
    keys = people_in_step(sandbox)
    integration.sync()
    for key, held in zip(keys, HELD, strict=True):
        in_dynamics(sandbox, key, donotemail=not held, telephone1="1815")
        in_campaign(sandbox, key, firstName="Augusta", blackListPhone=True)
    exported_and_synced(integration)
    assert [both(sandbox, key) for key in keys] == [(held, not held) for held in HELD], "it stays"

    for key, held in zip(keys, HELD, strict=True):
        in_campaign(sandbox, key, blackListEmail=held)
    exported_and_synced(integration)

    assert [both(sandbox, key) for key in keys] == [(held, held) for held in HELD]
    assert_settled(integration)


def test_opt_in_that_campaign_held_before_takes_nothing_back_in_campaign_to_dynamics(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R94: by what the first look finds, only opt-outs count as changes."""
    integration.tables = contacts_with()
    integration.keep_opt_outs("campaign_to_dynamics", EMAIL)
    opted_in, opted_out = contact(sandbox, donotemail=True), contact(sandbox)
    for key, value in ((opted_in, False), (opted_out, True)):
        sandbox.campaign.create("profile", {"externalId": key, "lastName": "Lovelace"})
        in_campaign(sandbox, key, blackListEmail=value)

    integration.sync()
    exported_and_synced(integration)

    assert both(sandbox, opted_in) == (False, True)
    assert both(sandbox, opted_out) == (True, True)


def test_nothing_is_kept_in_step_while_disabled(sandbox: Sandbox, integration: Integration) -> None:
    """R21: the storage is not looked at, and no write names an opt-out; the rest goes on."""
    integration.tables = contacts_with()
    integration.keep_opt_outs("disabled", EMAIL)
    key = contact(sandbox, donotemail=True)
    integration.sync()
    in_campaign(sandbox, key, blackListPhone=True)
    in_dynamics(sandbox, key, telephone1="1815", donotemail=True)

    exported_and_synced(integration)

    assert written_to_campaign(sandbox) == [["externalId", "lastName"], ["phone"]]
    assert requests_to_dynamics(sandbox) == []
    assert sandbox.sftp.log.operations == []


# --- switching --------------------------------------------------------------------------------------------------------


def test_what_changed_in_campaign_while_disabled_counts_once_opt_outs_are_kept_in_step_again(
    sandbox: Sandbox, kept: Integration
) -> None:
    """R17: everybody is looked at anew, without any file."""
    here, there = contact(sandbox), contact(sandbox)
    kept.sync()
    kept.keep_opt_outs("disabled")
    in_campaign(sandbox, there, blackListEmail=True)
    in_dynamics(sandbox, here, donotemail=True)
    kept.sync()
    assert [both(sandbox, key) for key in (here, there)] == [(False, True), (True, False)]

    kept.keep_opt_outs("bidirectional", EMAIL_AND_PHONE)
    kept.sync()

    assert [both(sandbox, key) for key in (here, there)] == [(True, True)] * 2
    assert_settled(kept)


def test_opt_in_that_we_wrote_ourselves_is_no_news_after_campaign_became_the_truth(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R94: it was written for Dynamics' sake, so it takes back no opt-out that Dynamics has since."""
    integration.tables = contacts_with({"source": "donotemail", "target": "blackListEmail"})
    integration.keep_opt_outs("dynamics_to_campaign")
    key = contact(sandbox, donotemail=True)
    integration.sync()
    in_dynamics(sandbox, key, donotemail=False)
    integration.sync()
    assert both(sandbox, key) == (False, False)

    in_dynamics(sandbox, key, donotemail=True)
    integration.tables = contacts_with()
    integration.keep_opt_outs("campaign_to_dynamics", EMAIL)
    integration.sync()
    exported_and_synced(integration)

    assert both(sandbox, key) == (False, True)


def test_pair_that_is_added_later_begins_with_opt_outs_only(sandbox: Sandbox, integration: Integration) -> None:
    """R94: an opt-in that Campaign made before the pair was there takes nothing back; an opt-out counts."""
    integration.tables = contacts_with()
    integration.keep_opt_outs("campaign_to_dynamics", EMAIL)
    opted_in, opted_out = contact(sandbox, donotphone=True), contact(sandbox)
    integration.sync()
    in_campaign(sandbox, opted_in, blackListPhone=False)
    in_campaign(sandbox, opted_out, blackListPhone=True)
    exported_and_synced(integration)

    integration.keep_opt_outs("campaign_to_dynamics", EMAIL_AND_PHONE)
    integration.sync()

    assert both(sandbox, opted_in, "blackListPhone") == (False, True)
    assert both(sandbox, opted_out, "blackListPhone") == (True, True)


def test_direction_may_be_switched_between_two_runs(sandbox: Sandbox, integration: Integration) -> None:
    """R17, A3: each run goes by the settings it finds."""
    integration.tables = contacts_with({"source": "donotemail", "target": "blackListEmail"})
    integration.keep_opt_outs("dynamics_to_campaign")
    key = contact(sandbox)
    integration.sync()
    in_campaign(sandbox, key, blackListEmail=True)
    integration.sync()
    assert both(sandbox, key) == (True, False), "nobody looks at Campaign"

    integration.tables = contacts_with()
    integration.keep_opt_outs("bidirectional", EMAIL)
    integration.sync()
    assert both(sandbox, key) == (True, True), "now it counts"

    in_dynamics(sandbox, key, donotemail=False)
    integration.sync()
    assert both(sandbox, key) == (True, True), "only Campaign takes it back (row 6)"

    integration.tables = contacts_with({"source": "donotemail", "target": "blackListEmail"})
    integration.keep_opt_outs("dynamics_to_campaign")
    in_dynamics(sandbox, key, donotemail=False)
    integration.sync()
    assert both(sandbox, key) == (False, False), "now Dynamics does"


# --- people who come and go -------------------------------------------------------------------------------------------


def test_profile_that_was_deleted_in_campaign_is_not_brought_back_by_an_opt_out(
    sandbox: Sandbox, kept: Integration
) -> None:
    """A11: there is nobody to opt out, and it is no failure."""
    key, other = contact(sandbox), contact(sandbox)
    kept.sync()
    sandbox.campaign.delete("profile", key)
    for each in (key, other):
        in_dynamics(sandbox, each, donotemail=True)
    sandbox.clear_calls()

    kept.sync()

    assert [found["externalId"] for found in sandbox.campaign.records("profile")] == [other]
    assert both(sandbox, other) == (True, True)
    assert_settled(kept)


def test_profile_that_is_made_again_gets_the_opt_outs_that_dynamics_has(sandbox: Sandbox, kept: Integration) -> None:
    """With the insert, as any new one."""
    key = contact(sandbox, donotemail=True)
    kept.sync()
    in_campaign(sandbox, key, blackListPhone=True)
    exported_and_synced(kept)
    sandbox.campaign.delete("profile", key)
    in_dynamics(sandbox, key, telephone1="1815")
    sandbox.clear_calls()

    kept.sync()

    assert written_to_campaign(sandbox) == [["blackListEmail", "blackListPhone", "externalId", "lastName", "phone"]]
    assert_settled(kept)


def test_contact_that_was_deleted_is_written_nowhere(sandbox: Sandbox, kept: Integration) -> None:
    """Its profile stays, where deletes are switched off, and so does what it says."""
    kept.tables = contacts_with(apply_deletes=False)
    key = contact(sandbox)
    kept.sync()
    in_campaign(sandbox, key, blackListEmail=True)
    sandbox.dataverse.delete("contact", key)
    sandbox.clear_calls()

    exported_and_synced(kept)

    assert profile(sandbox, key)["blackListEmail"] is True
    assert (written_to_campaign(sandbox), requests_to_dynamics(sandbox)) == ([], [])


def test_profile_that_is_deleted_with_its_contact_is_known_no_more(sandbox: Sandbox, kept: Integration) -> None:
    """Whoever comes back begins anew."""
    kept.tables = contacts_with(apply_deletes=True)
    key = contact(sandbox, donotemail=True)
    for _ in range(9):
        contact(sandbox)
    kept.sync()
    sandbox.dataverse.delete("contact", key)
    assert kept.sync()["deleted"] == 1

    sandbox.dataverse.create("contact", {"contactid": key, "lastname": "Lovelace"})
    kept.sync()

    assert both(sandbox, key) == (False, False)
    assert_settled(kept)


@pytest.mark.parametrize("side", ["campaign", "dynamics"])
def test_forgotten_person_stays_forgotten(sandbox: Sandbox, kept: Integration, side: str) -> None:
    """R9: no file and no change brings them back into the staging file, or a write to either system."""
    key, other = contact(sandbox), contact(sandbox)
    kept.sync()
    for each in (key, other):
        in_campaign(sandbox, each, blackListEmail=True)
    exported_and_synced(kept)
    with open_staging(kept.staging) as file:
        file.privacy.forget(key)
    rewrite(kept.staging)
    sandbox.clear_calls()
    for each in (key, other):
        in_campaign(sandbox, each, blackListPhone=side == "campaign")
        in_dynamics(sandbox, each, donotphone=side == "dynamics", telephone1="1815")

    exported_and_synced(kept)

    assert both(sandbox, key, "blackListPhone") == (side == "campaign", side == "dynamics")
    assert both(sandbox, other, "blackListPhone") == (True, True)
    assert not [call.path for call in sandbox.calls() if key in call.path]
    assert [name.encode() in kept.staging.read_bytes() for name in (key, other)] == [False, True]
