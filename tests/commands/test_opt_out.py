"""`opt-out`: what a person is told of opt-outs, over the sandbox, after real runs."""

import json
import re
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from d365_campaign.cli import main
from d365_campaign.rehearsal import CONFIG_VARIABLE
from d365_campaign.sandbox import Sandbox
from d365_campaign.store.staging import open_staging
from tests.checking import write_files
from tests.integration import Integration
from tests.opting_out import EMAIL_AND_PHONE, exported_and_synced, in_campaign, in_dynamics

NOBODY = "8b2d6f0e-0000-4000-8000-0123456789ab"
MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{3})? UTC"
WORKFLOW = "d365OptOutExport"


@pytest.fixture
def kept(integration: Integration) -> Integration:
    integration.keep_opt_outs("bidirectional", EMAIL_AND_PHONE)
    return integration


@pytest.fixture
def ada(sandbox: Sandbox, kept: Integration) -> str:
    """Her key: both systems have her, and she opted out of nothing."""
    key = sandbox.dataverse.create("contact", {"firstname": "Ada", "lastname": "Lovelace"})
    kept.sync()
    return key


def run(integration: Integration, *arguments: str) -> Result:
    file = write_files(integration)
    ended = CliRunner().invoke(main, ["opt-out", *arguments], env={CONFIG_VARIABLE: str(file), "COLUMNS": "200"})
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return ended


def told(integration: Integration, *arguments: str) -> dict[str, Any]:
    """What a command says for machines."""
    answered: dict[str, Any] = json.loads(run(integration, *arguments, "--json").output)
    return answered


def last_line(integration: Integration, key: str) -> str:
    ended = run(integration, "explain", key)
    assert ended.exit_code == 0, ended.output
    return ended.output.splitlines()[-1]


# --- explain ----------------------------------------------------------------------------------------------------------


def test_explain_tells_both_words_with_their_times(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    in_campaign(sandbox, ada, blackListEmail=True)
    exported_and_synced(kept)
    explained = run(kept, "explain", ada)
    assert explained.exit_code == 0
    first, contact, email, phone, *_ = explained.output.splitlines()
    assert first == f"contact {ada}"
    assert re.fullmatch(rf"In Dynamics, anything of the contact changed last on {MOMENT}\.", contact)
    assert re.fullmatch(
        rf"No longer contact by email: Dynamics' donotemail says opted out\. Campaign's blackListEmail says opted out, "
        rf"changed on {MOMENT}\. They agree\.",
        email,
    )
    assert phone == (
        "No longer contact by phone: Dynamics' donotphone says not opted out. Campaign's blackListPhone says not opted "
        "out, and no time. They agree."
    )


def test_explain_tells_what_was_decided_and_written_and_by_which_rule(
    sandbox: Sandbox, kept: Integration, ada: str
) -> None:
    in_campaign(sandbox, ada, blackListEmail=True)
    in_dynamics(sandbox, ada, department="Sales")
    exported_and_synced(kept)
    decided, dynamics, campaign, why, written, sentence = run(kept, "explain", ada).output.splitlines()[-6:]
    assert re.fullmatch(rf"Decided on {MOMENT}: No longer contact by email", decided)
    assert re.fullmatch(
        rf"  Dynamics' donotemail said not opted out, when the contact had changed last on {MOMENT}\.", dynamics
    )
    assert re.fullmatch(rf"  Campaign's blackListEmail said opted out, changed on {MOMENT}\.", campaign)
    assert why == (
        "  Campaign's opt-out did not change after the contact did, so an opt-out on either side holds (rule "
        "opt_out_wins, bidirectional)."
    )
    assert written == "  Written to Dynamics: donotemail became opted out."
    assert sentence == "Both systems say the same: nothing is written."


def test_explain_for_machines_has_each_part_by_itself(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    in_dynamics(sandbox, ada, donotphone=True)
    kept.sync()
    explained = told(kept, "explain", ada)
    assert (explained["contact"], explained["direction"], explained["in_doubt"]) == (ada, "bidirectional", False)
    email, phone = explained["opt_outs"]
    assert email["label"] == "No longer contact by email"
    assert (phone["column"], phone["attribute"]) == ("donotphone", "blackListPhone")
    assert (phone["dynamics"], phone["campaign"], phone["rule"], phone["writes_to"]) == (True, True, "both_agree", None)
    [decision] = explained["decisions"]
    assert (decision["dynamics"], decision["campaign"], decision["rule"]) == (True, False, "opt_out_wins")
    assert (decision["written_to"], decision["written"]) == ("campaign", True)
    assert decision["decided_at"].endswith("+00:00")


def test_explain_says_what_the_next_run_writes(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    in_campaign(sandbox, ada, blackListEmail=True)
    assert told(kept, "audit", ada)["people"] == 1
    kept.change_staging('delete from "opt-outs".touched')
    explained = run(kept, "explain", ada).output
    assert "Dynamics' donotemail becomes opted out: Campaign's opt-out changed after the contact did" in explained
    assert explained.endswith("The next run writes blackListEmail in Dynamics.\n")


def test_explain_waits_for_a_comparison(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    in_campaign(sandbox, ada, blackListEmail=True)
    told(kept, "audit", ada)
    assert last_line(kept, ada) == "Read, and not compared yet: the next run decides what is told above."


def test_explain_tells_of_a_hold(kept: Integration, ada: str) -> None:
    with open_staging(kept.staging) as staging:
        staging.privacy.hold(ada, "Jane Doe")
    said = last_line(kept, ada)
    assert re.fullmatch(
        rf"On hold since .* UTC by Jane Doe: not even an opt-out is written until: d365-campaign release {ada}", said
    )


def test_explain_tells_of_a_doubt(kept: Integration, ada: str) -> None:
    kept.change_staging('update "opt-outs".campaign set in_doubt = true')
    assert last_line(kept, ada) == (
        "What Campaign says is in doubt: the next run reads the profile before anything is decided."
    )


def test_explain_of_a_forgotten_person_tells_that_and_nothing_else(kept: Integration, ada: str) -> None:
    with open_staging(kept.staging) as staging:
        staging.privacy.forget(ada)
    explained = run(kept, "explain", ada).output
    assert "says" not in explained
    assert explained.endswith("This person was forgotten: nothing of it is kept or written.\n")


def test_explain_of_a_contact_without_a_profile(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    key = sandbox.dataverse.create("contact", {"firstname": "W" * 40, "donotemail": True})
    kept.run("sync")
    explained = run(kept, "explain", key).output
    assert "Dynamics' donotemail says opted out." in explained
    assert "Campaign is not known to have a profile with this externalId, as of the last run" in explained


def test_explain_of_a_profile_without_a_contact(sandbox: Sandbox, kept: Integration) -> None:
    sandbox.campaign.create("profile", {"externalId": NOBODY, "blackListEmail": True})
    kept.sync()
    explained = run(kept, "explain", NOBODY).output
    assert re.search(rf"Campaign's blackListEmail says opted out, changed on {MOMENT}\.", explained)
    assert explained.endswith("contact with this id, as of the last run: nothing is written to either side.\n")


def test_explain_tells_when_a_difference_is_left_as_it_is(sandbox: Sandbox, integration: Integration) -> None:
    integration.keep_opt_outs("campaign_to_dynamics", EMAIL_AND_PHONE)
    key = sandbox.dataverse.create("contact", {"firstname": "Ada"})
    integration.sync()
    in_dynamics(sandbox, key, donotemail=True)
    integration.sync()
    assert "its value did not change since it was last acted on" in run(integration, "explain", key).output
    assert last_line(integration, key) == (
        "Both systems differ in blackListEmail, and are left as they are: nothing new was said in Campaign."
    )


def test_explain_while_opt_outs_are_switched_off_still_tells_what_was_decided(
    sandbox: Sandbox, kept: Integration, ada: str
) -> None:
    in_dynamics(sandbox, ada, donotphone=True)
    kept.sync()
    kept.settings["opt_outs"] = {}
    explained = run(kept, "explain", ada).output
    assert "Written to Campaign: blackListPhone became opted out." in explained
    assert explained.endswith(
        "Opt-outs are not kept in step (opt_outs.direction is disabled), so nothing is written.\n"
    )


def test_explain_reaches_neither_system(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    sandbox.clear_calls()
    assert run(kept, "explain", ada).exit_code == 0
    assert sandbox.calls() == []


def test_explain_of_nobody_says_so(kept: Integration, ada: str) -> None:
    unknown = run(kept, "explain", NOBODY)
    assert unknown.exit_code == 1
    assert f"nothing is known of opt-outs of {NOBODY}" in unknown.output


@pytest.mark.parametrize("command", ["explain", "audit"])
def test_what_is_no_id_is_wrong_use_and_not_repeated(kept: Integration, command: str) -> None:
    wrong = run(kept, command, "ada@example.com")
    assert wrong.exit_code == 2
    assert "ada@example.com" not in wrong.output


@pytest.mark.parametrize("arguments", [["explain", NOBODY], ["exports"]])
def test_before_the_first_run_there_is_nothing_to_tell(kept: Integration, arguments: list[str]) -> None:
    early = run(kept, *arguments)
    assert early.exit_code == 2
    assert "The first sync in which they are kept in step does: d365-campaign sync contact" in early.output


# --- audit ------------------------------------------------------------------------------------------------------------


def booked(integration: Integration) -> list[tuple[str, int]]:
    """What the ledger holds of audits: table and engine calls."""
    with duckdb.connect(str(integration.staging)) as connection:
        return connection.execute(
            "select table_name, calls from main.engine_calls where operation = 'audit'"
        ).fetchall()


def test_audit_asks_for_each_person_once_in_either_system_and_writes_nothing(
    sandbox: Sandbox, kept: Integration, ada: str
) -> None:
    keys = [ada, *sandbox.seed(contacts=9)]
    kept.sync()
    sandbox.clear_calls()
    audited = run(kept, "audit")
    assert audited.exit_code == 0
    assert audited.output == "10 people: 0 opt-outs differ until the next run, 0 beyond it. Engine calls: 10.\n"
    asked = {"dataverse": r"/contacts\((.*)\)", "campaign": r"/profile/([^/?]+)$"}
    for system, pattern in asked.items():
        assert {call.method for call in sandbox.calls(system)} == {"GET"}
        found = [m[1] for call in sandbox.calls(system) if (m := re.search(pattern, call.path))]
        assert sorted(found) == sorted(keys)
    assert sandbox.engine_calls()["total"] == 10


def test_audit_is_booked_as_what_it_is(kept: Integration, ada: str) -> None:
    with open_staging(kept.staging) as staging:
        before = staging.ledger.spent().today
    assert told(kept, "audit", ada)["engine_calls"] == 1
    with open_staging(kept.staging) as staging:
        assert staging.ledger.spent().today == before + 1
    assert booked(kept) == [("contact", 1)]


def test_what_an_audit_learned_is_settled_by_the_next_run_without_a_file(
    sandbox: Sandbox, kept: Integration, ada: str
) -> None:
    in_campaign(sandbox, ada, blackListEmail=True)
    audited = run(kept, "audit", ada)
    assert audited.exit_code == 0
    assert f"contact {ada}: No longer contact by email" in audited.output
    assert "No daily file has told that so far. The next run settles it: Dynamics' donotemail becomes opted out" in (
        audited.output
    )
    assert audited.output.endswith(
        "1 people: 1 opt-outs differ until the next run, 0 beyond it. Engine calls: 1.\n"
        "Run: d365-campaign sync contact\n"
    )
    kept.sync()
    assert sandbox.dataverse.get("contact", ada)["donotemail"] is True
    assert told(kept, "audit", ada)["disagreements"] == []


def test_audit_for_machines_tells_both_words_and_what_settles_it(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    in_dynamics(sandbox, ada, donotphone=True)
    [found] = told(kept, "audit", ada)["disagreements"]
    assert (found["contact"], found["column"], found["attribute"]) == (ada, "donotphone", "blackListPhone")
    assert (found["dynamics"], found["campaign"], found["campaign_at"]) == (True, False, None)
    assert (found["settled_by"], found["learned"], found["rule"]) == ("next_run", False, "opt_out_wins")


def test_difference_that_the_direction_leaves_ends_with_1(sandbox: Sandbox, integration: Integration) -> None:
    integration.keep_opt_outs("campaign_to_dynamics", EMAIL_AND_PHONE)
    key = sandbox.dataverse.create("contact", {"firstname": "Ada"})
    integration.sync()
    in_dynamics(sandbox, key, donotemail=True)
    audited = run(integration, "audit")
    assert audited.exit_code == 1
    assert "It is left as it is: nothing is written: Campaign is the source of truth" in audited.output


def test_difference_under_a_privacy_hold_ends_with_1(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    in_dynamics(sandbox, ada, donotemail=True)
    with open_staging(kept.staging) as staging:
        staging.privacy.hold(ada, "Jane Doe")
    audited = run(kept, "audit")
    assert audited.exit_code == 1
    assert "It stays while the privacy hold lasts: Campaign's blackListEmail becomes opted out" in audited.output


def test_opt_in_that_is_one_too_many_ends_with_1_and_is_told(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    in_dynamics(sandbox, ada, donotemail=True)
    kept.sync()
    kept.set("guardrails", max_opt_ins=0)
    in_campaign(sandbox, ada, blackListEmail=False)
    audited = run(kept, "audit")
    assert audited.exit_code == 1
    assert "It stays, for opt-outs of more people would be taken back than guardrails.max_opt_ins allows: " in (
        audited.output
    )
    kept.run("sync")
    assert sandbox.dataverse.get("contact", ada)["donotemail"] is True
    assert last_line(kept, ada).startswith("Opt-outs of more people would be taken back than guardrails.max_opt_ins")


def test_whoever_is_missing_in_a_system_is_named(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    sandbox.dataverse.delete("contact", ada)
    audited = run(kept, "audit", ada, NOBODY)
    assert audited.exit_code == 0
    assert f"contact {ada}: Dynamics has no such record, so there is nothing to hold side by side." in audited.output
    assert f"contact {NOBODY}: Campaign has no such record" in audited.output
    shown = told(kept, "audit", ada, NOBODY)
    assert (shown["not_in_dynamics"], shown["not_in_campaign"]) == ([ada, NOBODY], [NOBODY])


def test_what_a_run_learned_during_an_audit_is_read_again_by_the_next_run(
    sandbox: Sandbox, kept: Integration, ada: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audit heard the older word of the two: it must not stand for what Campaign says."""
    in_campaign(sandbox, ada, blackListEmail=True)

    def meanwhile(*arguments: object) -> Any:
        seen = list(look_live(*arguments))  # type: ignore[arg-type]
        in_campaign(sandbox, ada, blackListEmail=False)
        exported_and_synced(kept)
        return seen

    from d365_campaign.commands import opt_out_audit
    from d365_campaign.flows.opt_out_audit import look_live

    monkeypatch.setattr(opt_out_audit, "look_live", meanwhile)
    run(kept, "audit", ada)
    kept.sync()
    assert sandbox.campaign.get("profile", ada)["blackListEmail"] is False
    assert sandbox.dataverse.get("contact", ada)["donotemail"] is False


def test_audit_beyond_the_budget_is_refused_before_it_asks(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    kept.settings["engine_calls"] = {"daily_budget": 2}
    sandbox.clear_calls()
    refused = run(kept, "audit", ada)
    assert refused.exit_code == 1
    assert "the audit takes 1 engine calls, and 0 are left of the budget" in refused.output
    assert sandbox.engine_calls()["total"] == 0


def test_error_of_a_system_is_told_and_what_was_seen_is_booked(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    sandbox.add_fault(system="campaign", method="GET", path=f"profile/{ada}", status=403, times=9)
    failed = run(kept, "audit", ada)
    assert failed.exit_code == 2
    assert "Traceback" not in failed.output
    assert booked(kept) == [("contact", 1)]


@pytest.mark.parametrize("arguments", [["audit"], ["audit", NOBODY]])
def test_audit_before_the_first_run_and_while_switched_off_says_why_not(
    kept: Integration, arguments: list[str]
) -> None:
    assert "The first sync tells: d365-campaign sync contact" in run(kept, *arguments).output
    kept.settings["opt_outs"] = {}
    refused = run(kept, *arguments)
    assert (refused.exit_code, "not kept in step" in refused.output) == (1, True)


# --- the daily files --------------------------------------------------------------------------------------------------


def put(sandbox: Sandbox, name: str, *lines: str) -> None:
    """A file in the exports folder."""
    folder = Path(sandbox.sftp.root) / "d365_loads" / "exports"
    (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


HEADER = "externalId;lastModified;blackListEmail;blackListEmailLastModified;blackListPhone;blackListPhoneLastModified"


def test_no_file_so_far_is_told(kept: Integration, ada: str) -> None:
    listed = run(kept, "exports")
    assert (listed.exit_code, listed.output) == (0, "No daily file has come so far.\n")


def test_files_are_listed_with_what_became_of_each(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    good, bad = f"{ada};2026-01-01 10:00:00.000Z;0;;0;", f"{ada};2026-01-01 10:00:00.000Z;maybe;;0;"
    put(sandbox, "1_first.csv", HEADER, good, bad)
    put(sandbox, "2_renamed.csv", "id;when", "1;2")
    kept.run("sync")
    listed = run(kept, "exports")
    assert listed.exit_code == 1, "a file that was refused waits for somebody"
    renamed, refusal, first, read, aside = listed.output.splitlines()
    assert (renamed, first) == ("2_renamed.csv", "1_first.csv")
    assert re.match(rf"  refused on {MOMENT}: it has no column 'externalId'", refusal)
    assert re.fullmatch(
        rf"  read on {MOMENT}; 2 rows, 1 of them unreadable, 0 without externalId; latest change on 2026-01-01 "
        r"10:00:00 UTC\.",
        read,
    )
    assert aside == f"  set aside: contact {ada}: blackListEmail says neither yes nor no"


def test_files_for_machines(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    put(sandbox, "1_first.csv", HEADER, f"{ada};;maybe;;0;")
    kept.run("sync")
    shown = told(kept, "exports")
    [file], [row] = shown["files"], shown["set_aside"]
    assert (file["name"], file["rows"], file["unreadable"], file["refused"]) == ("1_first.csv", 1, 1, None)
    assert file["taken_at"].endswith("+00:00")
    assert (row["file"], row["key"], row["reason"]) == ("1_first.csv", ada, "blackListEmail says neither yes nor no")


# --- the workflow -----------------------------------------------------------------------------------------------------


def test_stopped_workflow_is_started_and_both_states_told(sandbox: Sandbox, kept: Integration) -> None:
    sandbox.campaign.workflow_runs.set_state(WORKFLOW, "stopped")
    restarted = run(kept, "restart-workflow")
    assert restarted.exit_code == 0
    assert restarted.output == f"Workflow '{WORKFLOW}' was stopped; it is started now.\n"
    assert sandbox.campaign.workflow_runs.state(WORKFLOW) == "started"


def test_running_workflow_is_left_alone(sandbox: Sandbox, kept: Integration) -> None:
    sandbox.clear_calls()
    refused = run(kept, "restart-workflow")
    assert refused.exit_code == 1
    assert f"workflow '{WORKFLOW}' is running (started), so there is nothing to restart" in refused.output
    assert {call.method for call in sandbox.calls("campaign")} == {"GET"}


def test_workflow_that_is_not_there_or_not_configured_is_told(kept: Integration) -> None:
    kept.settings["opt_outs"]["workflow"] = "nowhere"
    assert "Campaign has no workflow 'nowhere'. Check opt_outs.workflow" in run(kept, "restart-workflow").output
    kept.settings["opt_outs"] = {}
    unset = run(kept, "restart-workflow")
    assert (unset.exit_code, "Give its id as opt_outs.workflow" in unset.output) == (2, True)


def test_each_command_has_its_purpose_on_one_line_and_an_example(kept: Integration) -> None:
    for command in ("explain", "audit", "exports", "restart-workflow"):
        helped = run(kept, command, "--help").output
        assert f"Example:  d365-campaign opt-out {command}" in helped
