"""Races that could lose an opt-out, each lost by whoever would lose it: one part for each promise of the opt-out flow.

1  in bidirectional mode, FALSE is never written over an opt-out of Campaign
2  FALSE is not sent with a new profile
3  before FALSE goes to Dynamics because of a daily file, Campaign's live value is read
4  a write to Dynamics takes effect only on the version of the record that it was decided on
5  a time that is missing or can't be read never lets FALSE win
6  each decision is kept
7  nothing holds opt-outs up but a privacy hold

An edit that comes in between is made at the moment when a request arrives.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from d365_campaign.sandbox import Sandbox
from d365_campaign.store.staging import open_staging
from tests.integration import Integration
from tests.opting_out import (
    EMAIL,
    SECONDS,
    assert_settled,
    at_the_moment_of,
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
    written_to_campaign,
    written_to_dynamics,
)

BATCH = "$batch"


@pytest.fixture
def kept(integration: Integration) -> Integration:
    """Opt-outs by e-mail and by phone kept in step in both directions."""
    return kept_both_ways(integration)


# --- 1: no FALSE over an opt-out of Campaign --------------------------------------------------------------------------


def test_update_of_a_contact_leaves_an_opt_out_that_was_not_exported_yet(sandbox: Sandbox, kept: Integration) -> None:
    """The contact says FALSE, changed later, and is written: row 6, by the update's own read."""
    key = contact(sandbox, donotemail=True)
    kept.sync()
    in_campaign(sandbox, key, blackListEmail=True)
    in_dynamics(sandbox, key, donotemail=False, telephone1="1815")

    kept.sync()

    assert profile(sandbox, key)["blackListEmail"] is True
    exported_and_synced(kept)
    assert both(sandbox, key) == (True, True)


def test_opt_out_that_is_made_while_another_one_is_written_stays(
    sandbox: Sandbox, kept: Integration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write names only what it changes, so what came in after the read is not touched."""
    key = contact(sandbox)
    kept.sync()
    in_dynamics(sandbox, key, donotphone=True)
    at_the_moment_of(
        monkeypatch,
        sandbox,
        "campaign",
        "PATCH",
        "/profile",
        lambda: sandbox.campaign.update("profile", key, {"blackListEmail": True}),
    )

    kept.sync()

    assert both(sandbox, key, "blackListPhone") == (True, True)
    assert profile(sandbox, key)["blackListEmail"] is True
    exported_and_synced(kept)
    assert both(sandbox, key) == (True, True)
    assert_settled(kept)


# --- 2: no FALSE with a new profile -----------------------------------------------------------------------------------


def test_opt_out_that_is_made_while_its_profile_is_made_is_not_outranked_by_the_new_profile(
    sandbox: Sandbox, kept: Integration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The insert still says that there is none, and comes later than the opt-out in Dynamics."""
    sandbox.settings.stamp_false_on_create = True
    key = contact(sandbox)

    def opt_out_in_dynamics() -> None:
        sandbox.dataverse.update("contact", key, {"donotemail": True})
        sandbox.advance_clock(SECONDS)

    at_the_moment_of(monkeypatch, sandbox, "campaign", "POST", "/profile", opt_out_in_dynamics)
    kept.sync()
    assert both(sandbox, key) == (False, True)

    exported_and_synced(kept)

    assert both(sandbox, key) == (True, True)
    assert_settled(kept)


@pytest.mark.parametrize("direction", ["bidirectional", "campaign_to_dynamics", "dynamics_to_campaign"])
def test_no_insert_names_an_opt_out_that_nobody_made(
    sandbox: Sandbox, integration: Integration, direction: str
) -> None:
    fields = [{"source": s, "target": t} for s, t in EMAIL.items()] if direction == "dynamics_to_campaign" else []
    integration.tables = contacts_with(*fields)
    integration.keep_opt_outs(direction, None if fields else EMAIL)
    contact(sandbox)

    integration.sync()

    assert written_to_campaign(sandbox) == [["externalId", "lastName"]]


# --- 3: the live value before FALSE goes to Dynamics ------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["bidirectional", "campaign_to_dynamics"])
def test_opt_in_of_a_daily_file_is_not_written_once_campaign_says_otherwise(
    sandbox: Sandbox, integration: Integration, direction: str
) -> None:
    """The file is from before the person opted out again."""
    integration.tables = contacts_with()
    integration.keep_opt_outs(direction, EMAIL)
    key = contact(sandbox, donotemail=True)
    sandbox.campaign.create("profile", {"externalId": key, "lastName": "Lovelace", "blackListEmail": True})
    integration.sync()
    version = sandbox.dataverse.version
    in_campaign(sandbox, key, blackListEmail=False)
    assert sandbox.export_opt_outs()
    in_campaign(sandbox, key, blackListEmail=True)

    integration.sync()

    assert both(sandbox, key) == (True, True)
    assert written_to_dynamics(sandbox, key, version) == []
    assert_settled(integration)


def test_profile_that_is_gone_by_then_takes_nothing_back(sandbox: Sandbox, kept: Integration) -> None:
    key = contact(sandbox, donotemail=True)
    sandbox.campaign.create("profile", {"externalId": key, "lastName": "Lovelace", "blackListEmail": True})
    kept.sync()
    in_campaign(sandbox, key, blackListEmail=False)
    assert sandbox.export_opt_outs()
    sandbox.campaign.delete("profile", key)

    kept.sync()

    assert sandbox.dataverse.get("contact", key)["donotemail"] is True


# --- 4: a write to Dynamics is decided on the record that it changes --------------------------------------------------


def test_person_who_opts_out_before_an_opt_in_arrives_stays_opted_out(
    sandbox: Sandbox, kept: Integration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Campaign's FALSE was newer; the contact changes as it is written, and decided anew, its TRUE wins."""
    key = contact(sandbox, donotemail=True)
    kept.sync()
    in_campaign(sandbox, key, blackListEmail=False)
    version = sandbox.dataverse.version
    at_the_moment_of(
        monkeypatch,
        sandbox,
        "dataverse",
        "POST",
        BATCH,
        lambda: in_dynamics(sandbox, key, donotemail=True),
    )

    exported_and_synced(kept)

    assert written_to_dynamics(sandbox, key, version) == [["donotemail"]], "their own edit"
    kept.sync()
    assert both(sandbox, key) == (True, True)
    assert_settled(kept)


def test_nothing_is_written_any_more_where_a_person_was_faster(
    sandbox: Sandbox, kept: Integration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Campaign's opt-out is to be written, and by then it stands there."""
    key = contact(sandbox)
    kept.sync()
    in_campaign(sandbox, key, blackListEmail=True)
    version = sandbox.dataverse.version
    at_the_moment_of(
        monkeypatch,
        sandbox,
        "dataverse",
        "POST",
        BATCH,
        lambda: in_dynamics(sandbox, key, donotemail=True),
    )

    exported_and_synced(kept)

    assert written_to_dynamics(sandbox, key, version) == [["donotemail"]], "their own edit"
    assert [call.path for call in sandbox.calls("dataverse") if BATCH in call.path] == ["/api/data/v9.2/$batch"]
    assert decisions(kept, key) == []
    assert_settled(kept)


def test_what_is_left_to_write_after_a_change_is_written_on_the_new_version(
    sandbox: Sandbox, kept: Integration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two opt-outs are to be written; a person makes one of them meanwhile, and changes the phone."""
    key = contact(sandbox)
    kept.sync()
    in_campaign(sandbox, key, blackListEmail=True, blackListPhone=True)
    version = sandbox.dataverse.version
    at_the_moment_of(
        monkeypatch,
        sandbox,
        "dataverse",
        "POST",
        BATCH,
        lambda: in_dynamics(sandbox, key, donotemail=True, telephone1="1815"),
    )

    exported_and_synced(kept)

    assert written_to_dynamics(sandbox, key, version) == [["donotemail", "telephone1"], ["donotphone"]]
    [decided] = decisions(kept, key)
    assert decided["attribute"] == "blackListPhone"
    assert sandbox.dataverse.get("contact", key)["telephone1"] == "1815"


def test_contact_that_changes_over_and_over_is_left_to_the_next_run(sandbox: Sandbox, kept: Integration) -> None:
    """Nothing is forced, and nothing is forgotten."""
    key = contact(sandbox)
    kept.sync()
    in_campaign(sandbox, key, blackListEmail=True)

    with pytest.MonkeyPatch.context() as busy:

        def edit_again() -> None:
            in_dynamics(sandbox, key, telephone1=f"{sandbox.dataverse.version}")
            at_the_moment_of(busy, sandbox, "dataverse", "POST", BATCH, edit_again)

        at_the_moment_of(busy, sandbox, "dataverse", "POST", BATCH, edit_again)
        exported_and_synced(kept)
    assert both(sandbox, key) == (True, False)

    kept.sync()

    assert both(sandbox, key) == (True, True)


# --- 5: a time that is missing or can't be read -----------------------------------------------------------------------

STAMP = '"blackListEmailLastModified":"[^"]*"'


@pytest.mark.parametrize("told", ["", "not a time"], ids=["missing", "unreadable"])
def test_false_without_a_time_does_not_win_in_bidirectional_mode(
    sandbox: Sandbox, kept: Integration, told: str
) -> None:
    """Although Campaign's FALSE is really the later word: nobody can know."""
    key = contact(sandbox, donotemail=True)
    sandbox.campaign.create("profile", {"externalId": key, "lastName": "Lovelace"})
    in_campaign(sandbox, key, blackListEmail=False)
    sandbox.add_fault(
        system="campaign", method="GET", times=100, replace=(STAMP, f'"blackListEmailLastModified":"{told}"')
    )

    kept.sync()

    assert both(sandbox, key) == (True, True)
    assert requests_to_dynamics(sandbox) == []


@pytest.mark.parametrize("told", ["", "not a time"], ids=["missing", "unreadable"])
def test_false_without_a_time_takes_nothing_back_in_campaign_to_dynamics(
    sandbox: Sandbox, integration: Integration, told: str
) -> None:
    integration.tables = contacts_with()
    integration.keep_opt_outs("campaign_to_dynamics", EMAIL)
    key = contact(sandbox, donotemail=True)
    sandbox.campaign.create("profile", {"externalId": key, "lastName": "Lovelace", "blackListEmail": True})
    integration.sync()
    in_campaign(sandbox, key, blackListEmail=False)
    sandbox.add_fault(
        system="campaign", method="GET", times=100, replace=(STAMP, f'"blackListEmailLastModified":"{told}"')
    )

    exported_and_synced(integration)

    assert both(sandbox, key) == (False, True)
    sandbox.clear_faults()
    in_campaign(sandbox, key, blackListEmail=False)
    exported_and_synced(integration)
    assert both(sandbox, key) == (False, False), "with a time it does"


# --- 6: each decision is kept -----------------------------------------------------------------------------------------


def test_each_decision_is_kept_with_both_values_both_times_the_rule_and_what_was_written(
    sandbox: Sandbox, kept: Integration
) -> None:
    taken_back, told_here, told_there = contact(sandbox, donotemail=True), contact(sandbox), contact(sandbox)
    kept.sync()
    in_dynamics(sandbox, told_here, donotphone=True)
    for key, value in ((taken_back, False), (told_there, True)):
        in_campaign(sandbox, key, blackListEmail=value)
    stamps = {key: _moments(sandbox, key) for key in (taken_back, told_there)}
    modified = _modified(sandbox, told_here)
    before = datetime.now(UTC).replace(tzinfo=None)
    exported_and_synced(kept)

    [*_, back] = decisions(kept, taken_back)
    [here] = decisions(kept, told_here)
    [there] = decisions(kept, told_there)

    assert _values(back) == (False, True, False, False, "campaign_is_newer", "dynamics")
    assert _values(here) == (False, True, True, True, "opt_out_wins", "campaign")
    assert _values(there) == (True, False, True, True, "campaign_is_newer", "dynamics")
    assert (back["campaign_at"], back["dynamics_at"]) == stamps[taken_back]
    assert (there["campaign_at"], there["dynamics_at"]) == stamps[told_there]
    assert (here["campaign_at"], here["dynamics_at"]) == (None, modified)
    assert (here["attribute"], here["source"], here["direction"]) == ("blackListPhone", "donotphone", "bidirectional")
    assert all(before <= decided["decided_at"] <= before + timedelta(minutes=5) for decided in (back, here, there))


def _values(decided: dict[str, Any]) -> tuple[Any, ...]:
    names = ("campaign", "dynamics", "campaign_gets", "dynamics_gets", "rule", "written_to")
    return tuple(decided[name] for name in names)


def _moments(sandbox: Sandbox, key: str) -> tuple[datetime, datetime]:
    """When the opt-out by e-mail changed in Campaign, and the contact in Dynamics; in UTC, as they are kept."""
    stamp = datetime.fromisoformat(profile(sandbox, key)["blackListEmailLastModified"])
    return stamp.replace(tzinfo=None), _modified(sandbox, key)


def _modified(sandbox: Sandbox, key: str) -> datetime:
    return datetime.fromisoformat(sandbox.dataverse.get("contact", key)["modifiedon"]).replace(tzinfo=None)


def test_write_that_is_refused_is_no_decision_that_was_written(sandbox: Sandbox, kept: Integration) -> None:
    """It stays open, and is kept once it was written."""
    key = contact(sandbox)
    kept.sync()
    in_dynamics(sandbox, key, donotemail=True)
    sandbox.add_fault(system="campaign", method="PATCH", path="/profile", status=400, body="no")
    kept.sync()
    assert decisions(kept, key) == []
    assert both(sandbox, key) == (False, True)

    kept.sync()

    assert [decided["rule"] for decided in decisions(kept, key)] == ["opt_out_wins"]
    assert both(sandbox, key) == (True, True)


# --- 7: nothing holds them up but a privacy hold ----------------------------------------------------------------------

NOW = datetime.now(UTC)
MAINTENANCE = {"starts": (NOW - timedelta(hours=1)).isoformat(), "ends": (NOW + timedelta(hours=1)).isoformat()}


def opted_out_on_both_sides(sandbox: Sandbox, kept: Integration) -> tuple[str, str]:
    """Two people with a profile: one opts out in Dynamics and changes the phone, one opts out in Campaign, exported."""
    here, there = contact(sandbox), contact(sandbox)
    kept.sync()
    in_dynamics(sandbox, here, donotemail=True, telephone1="1815")
    in_campaign(sandbox, there, blackListEmail=True)
    sandbox.advance_clock(SECONDS)
    assert sandbox.export_opt_outs()
    sandbox.clear_calls()
    return here, there


def test_opt_outs_are_written_when_the_engine_call_budget_is_spent(sandbox: Sandbox, kept: Integration) -> None:
    """To both systems; what else changed waits. Their calls count all the same."""
    here, there = opted_out_on_both_sides(sandbox, kept)
    kept.set("engine_calls", daily_budget=1)

    done = kept.sync()

    assert [both(sandbox, key) for key in (here, there)] == [(True, True)] * 2
    assert written_to_campaign(sandbox) == [["blackListEmail"]]
    assert (done["stopped_by"], done["backlog"]) == ("budget", 1)
    with open_staging(kept.staging) as file:
        assert file.ledger.spent().today >= 2 + sandbox.engine_calls()["total"]


def test_opt_outs_are_written_in_a_blackout(sandbox: Sandbox, kept: Integration) -> None:
    """R61 is about everything else."""
    here, there = opted_out_on_both_sides(sandbox, kept)
    kept.set("run", blackout_windows=[MAINTENANCE])

    done = kept.sync()

    assert [both(sandbox, key) for key in (here, there)] == [(True, True)] * 2
    assert written_to_campaign(sandbox) == [["blackListEmail"]]
    assert (done["stopped_by"], done["backlog"]) == ("blackout", 1)


def test_opt_outs_are_written_before_a_large_load_that_nobody_acknowledged(sandbox: Sandbox, kept: Integration) -> None:
    """R41: the load waits, and the run says so."""
    here, there = opted_out_on_both_sides(sandbox, kept)
    kept.set("guardrails", large_load_records=3)
    sandbox.seed(contacts=4)

    report = kept.run("sync")

    assert not report.success
    assert [both(sandbox, key) for key in (here, there)] == [(True, True)] * 2
    assert written_to_campaign(sandbox) == [["blackListEmail"]]


def test_privacy_hold_stops_even_opt_outs_until_it_is_released(sandbox: Sandbox, kept: Integration) -> None:
    """R10: the records are not even read, whether something else changed or not; somebody else's opt-outs go on."""
    here, with_phone, there, other = (contact(sandbox) for _ in range(4))
    kept.sync()
    on_hold = (here, with_phone, there)
    with open_staging(kept.staging) as file:
        for key in on_hold:
            file.privacy.hold(key, by="Edith")
    in_dynamics(sandbox, with_phone, donotemail=True, telephone1="1815")
    for key in (here, other):
        in_dynamics(sandbox, key, donotemail=True)
    in_campaign(sandbox, there, blackListEmail=True)
    sandbox.clear_calls()

    exported_and_synced(kept)

    assert [both(sandbox, key) for key in on_hold] == [(False, True), (False, True), (True, False)]
    assert both(sandbox, other) == (True, True)
    names = [name for key in on_hold for name in (key, profile(sandbox, key)["PKey"])]
    assert not [call.path for call in sandbox.calls() if any(name in call.path for name in names)]
    assert requests_to_dynamics(sandbox) == []
    with open_staging(kept.staging) as file:
        for key in on_hold:
            file.privacy.release(key)
    kept.sync()

    assert [both(sandbox, key) for key in on_hold] == [(True, True)] * 3
    assert opt_outs_written(sandbox) == {"blackListEmail"}
    assert_settled(kept)
