"""What a preflight says of opt-outs, each rule broken in the sandbox, and its remedy in words.

Each test names the rules it shows. The command line is run as a user runs it, on the sandbox, over real sockets.
"""

import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from d365_campaign.field_types import CampaignType
from d365_campaign.flows.findings import Finding
from d365_campaign.flows.preflight_opt_outs import pairs_fit
from d365_campaign.sandbox import Sandbox
from tests.builders import source_table, target_resource
from tests.checking import Checked, check
from tests.integration import Integration
from tests.mappings import account_mapping, contact_mapping

AREA, FOLDER, WORKFLOW = "Opt-outs", "d365_loads/exports", "d365OptOutExport"
EMAIL = {"donotemail": "blackListEmail"}


@pytest.fixture
def kept(integration: Integration) -> Integration:
    integration.keep_opt_outs("bidirectional", EMAIL)
    return integration


def found(checked: Checked, subject: str) -> Finding:
    return checked.of(AREA)[subject]


def exports(sandbox: Sandbox) -> Path:
    return Path(sandbox.sftp.root) / FOLDER


def test_with_everything_in_place_only_what_people_know_is_asked(sandbox: Sandbox, kept: Integration) -> None:
    """R24: whether typology rules do what is meant, nothing here can see."""
    checked = check(kept)
    assert checked.exit_code == 0
    assert [fault.subject for fault in checked.faults()] == ["typology rules"]
    assert {f.subject: f.words for f in checked.findings if f.area == AREA} == {
        "direction": "bidirectional: donotemail = blackListEmail.",
        "typology rules": "which messages an opt-out stops is up to Campaign's typology rules, and can't be looked at "
        "from here.",
        "workflow": f"Workflow '{WORKFLOW}' is started.",
        "SFTP": "it can be reached, has the pinned host key, and accepts our key.",
        "exports folder": f"{FOLDER} is there; files that wait to be read: 0.",
        "SFTP capacity": "0.00 GB are used; sftp.quota_gigabytes says no limit.",
        "pairs": "each column and its opt-out are there, and yes/no on both sides (1).",
    }


def test_the_check_only_lists_over_one_connection(sandbox: Sandbox, kept: Integration) -> None:
    sandbox.export_opt_outs()
    sandbox.clear_calls()
    check(kept)
    operations = {operation.as_dict()["operation"] for operation in sandbox.sftp.operations}
    assert "list" in operations
    assert operations <= {"realpath", "stat", "lstat", "list"}
    assert sandbox.sftp.sessions == 1
    assert {call.method for system in ("dataverse", "campaign") for call in sandbox.calls(system)} == {"GET"}
    assert len(list(exports(sandbox).iterdir())) == 1


@pytest.mark.parametrize("table", [[], ["contact"], ["account"]])
def test_opt_outs_are_looked_at_with_contacts(kept: Integration, table: list[str]) -> None:
    kept.tables = [account_mapping(), contact_mapping()]
    assert bool(check(kept, *table).of(AREA)) is (table != ["account"])


def test_nothing_is_said_of_opt_outs_that_are_not_kept_in_step(sandbox: Sandbox, kept: Integration) -> None:
    """R21: the SFTP area isn't looked at either."""
    sandbox.clear_calls()
    assert not check(kept, opt_outs={"direction": "disabled"}).of(AREA)
    assert sandbox.sftp.sessions == 0


def test_from_dynamics_to_campaign_needs_neither_workflow_nor_files(sandbox: Sandbox, kept: Integration) -> None:
    """R106."""
    fields = [{"source": "firstname", "target": "firstName"}, {"source": "donotemail", "target": "blackListEmail"}]
    kept.tables = [contact_mapping(fields=fields)]
    sandbox.clear_calls()
    subjects = set(check(kept, opt_outs={"direction": "dynamics_to_campaign"}).of(AREA))
    assert subjects == {"direction", "typology rules", "pairs"}
    assert sandbox.sftp.sessions == 0


def test_a_direction_that_needs_files_is_refused_without_workflow_or_sftp(kept: Integration) -> None:
    """R27, R106: before anything is asked."""
    incomplete = {"direction": "bidirectional", "pairs": [{"source": "donotemail", "target": "blackListEmail"}]}
    checked = check(kept, opt_outs=incomplete, sftp=None)
    assert checked.exit_code == 2
    said = " ".join(f"{fault.words} {fault.fix}" for fault in checked.faults())
    assert "Add the section sftp." in said
    assert "ask your Adobe contact to set it up, and give its id as workflow" in said


def test_every_pair_that_does_not_fit_is_named_with_its_remedy(sandbox: Sandbox, integration: Integration) -> None:
    """R16, R95: a text column, and one that is nowhere."""
    integration.keep_opt_outs("bidirectional", {"firstname": "blackListEmail", "nowhere": "blackListPhone"})
    checked = check(integration)
    assert checked.exit_code == 1
    faults = [fault for fault in checked.faults() if fault.subject == "pairs"]
    assert [(fault.verdict, fault.words) for fault in faults] == [
        ("wrong", "opt-out pair: 'firstname' is text; an opt-out is a yes/no column."),
        ("wrong", "opt-out pair: Dynamics table 'contact' has no readable column 'nowhere'."),
    ]
    assert faults[0].fix == "Pair another."


@pytest.mark.parametrize("state", ["stopped", "paused", "failed"])
def test_a_workflow_that_does_not_run_is_wrong_and_says_what_to_type(
    sandbox: Sandbox, kept: Integration, state: str
) -> None:
    """R26, R118."""
    sandbox.campaign.workflow_runs.set_state(WORKFLOW, state)
    checked = check(kept)
    assert checked.exit_code == 1
    workflow = found(checked, "workflow")
    assert (workflow.verdict, workflow.words) == ("wrong", f"Workflow '{WORKFLOW}' is {state}.")
    assert "d365-campaign opt-out restart-workflow" in workflow.fix


def test_a_workflow_that_is_not_there_is_wrong(kept: Integration) -> None:
    """R27."""
    kept.settings["opt_outs"]["workflow"] = "nowhere"
    workflow = found(check(kept), "workflow")
    assert (workflow.verdict, workflow.words) == ("wrong", "Campaign has no workflow 'nowhere'.")
    assert workflow.fix == "Check opt_outs.workflow; your Adobe contact sets the workflow up."


def test_a_missing_folder_is_wrong_and_the_command_that_makes_it_is_told(sandbox: Sandbox, kept: Integration) -> None:
    """R109: it is the customer's to make, and nothing here makes it."""
    shutil.rmtree(Path(sandbox.sftp.root) / "d365_loads")
    checked = check(kept)
    assert checked.exit_code == 1
    folder = found(checked, "exports folder")
    login = sandbox.endpoints["sftp"]
    assert folder.words == f"there is no folder {FOLDER} on the SFTP server; you make it."
    assert folder.fix == (
        "printf -- '-mkdir d365_loads\\n-mkdir d365_loads/exports\\n' | sftp -b - "
        f"-P {login['port']} -i PRIVATE_KEY_FILE {login['user']}@{login['host']}"
    )
    assert not exports(sandbox).exists()


@pytest.mark.skipif(shutil.which("sftp") is None, reason="needs OpenSSH's sftp")
@pytest.mark.parametrize("left", [[], ["d365_loads"]], ids=["nothing is there", "half of it is there"])
def test_the_command_that_is_told_makes_the_folder(sandbox: Sandbox, kept: Integration, left: list[str]) -> None:
    root, login = Path(sandbox.sftp.root), sandbox.endpoints["sftp"]
    shutil.rmtree(root / "d365_loads")
    for name in left:
        (root / name).mkdir()
    told = found(check(kept), "exports folder").fix
    known = f"-o UserKnownHostsFile={shlex.quote(login['known_hosts_file'])} -o GlobalKnownHostsFile=/dev/null"
    typed = told.replace("PRIVATE_KEY_FILE", f"{shlex.quote(login['private_key_file'])} {known}")
    ended = subprocess.run(["bash", "-c", typed], check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert found(check(kept), "exports folder").verdict == "fine"


def test_another_host_key_than_the_pinned_one_is_wrong(kept: Integration) -> None:
    """R107: and no login is tried."""
    kept.settings["sftp"]["host_key"] = "SHA256:" + "A" * 43
    sftp = found(check(kept), "SFTP")
    assert sftp.verdict == "wrong"
    assert "isn't the pinned server; no login was tried" in sftp.words


def test_a_key_that_is_not_accepted_is_wrong_and_never_shown(
    kept: Integration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R107."""
    key = tmp_path / "another_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    monkeypatch.setenv("CAMPAIGN_SFTP_KEY", key.read_text(encoding="ascii"))
    checked = check(kept)
    assert "refused the login" in found(checked, "SFTP").words
    secret = key.read_text(encoding="ascii").splitlines()[1]
    assert not any(secret in fault.words + fault.fix for fault in checked.findings)


def test_a_server_that_is_not_there_does_not_hide_the_rest(kept: Integration) -> None:
    kept.settings["sftp"]["port"] = 1
    checked = check(kept)
    sftp = found(checked, "SFTP")
    assert (checked.exit_code, sftp.verdict) == (1, "wrong")
    assert sftp.words.startswith("unable to look at it: Connecting to ")
    assert found(checked, "workflow").verdict == "fine"
    assert "exports folder" not in checked.of(AREA)


def test_a_missing_variable_is_named(kept: Integration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAMPAIGN_SFTP_KEY")
    sftp = found(check(kept), "SFTP")
    assert "environment variable CAMPAIGN_SFTP_KEY is not set" in sftp.words


@pytest.mark.parametrize(("share", "verdict"), [(0.79, "fine"), (0.85, "warning"), (0.95, "wrong")])
def test_capacity_warns_from_80_percent_and_is_wrong_from_90(
    sandbox: Sandbox, kept: Integration, share: float, verdict: str
) -> None:
    """R28."""
    (exports(sandbox) / "large.bin").write_bytes(b"x" * int(share * 1_000_000))
    kept.settings["sftp"]["quota_gigabytes"] = 0.001
    capacity = found(check(kept), "SFTP capacity")
    assert capacity.verdict == verdict
    assert f"({share:.0%})" in capacity.words


def test_processed_files_that_are_too_old_are_told(sandbox: Sandbox, kept: Integration) -> None:
    """R117: the storage is temporary, for 15 days at most."""
    processed = exports(sandbox) / "processed"
    processed.mkdir()
    for name, days in {"new.csv": 1, "old.csv": 16}.items():
        (processed / name).touch()
        then = time.time() - days * 86_400
        os.utime(processed / name, (then, then))
    late = found(check(kept), "processed files")
    assert late.verdict == "warning"
    assert late.words == (f"1 files in {FOLDER}/processed are older than 15 days (opt_outs.exports.keep_days).")
    (processed / "old.csv").unlink()
    assert found(check(kept), "processed files").words == f"1 in {FOLDER}/processed, none older than 15 days."


def test_files_that_wait_are_counted(sandbox: Sandbox, kept: Integration) -> None:
    sandbox.export_opt_outs()
    (exports(sandbox) / "half.csv.part").touch()
    assert found(check(kept), "exports folder").words == f"{FOLDER} is there; files that wait to be read: 1."


def test_the_global_opt_out_names_who_accepted_it(integration: Integration) -> None:
    """R24: it stops order confirmations as well."""
    integration.keep_opt_outs("bidirectional", {"donotemail": "denyList"})
    warned = found(check(integration), "global opt-out")
    assert warned.verdict == "warning"
    assert warned.words == (
        "'blackList' stops every message, order confirmations too; Jane Doe accepted that on 2026-01-01."
    )


def test_the_global_opt_out_is_refused_before_someone_accepted_it(integration: Integration) -> None:
    """R24."""
    integration.keep_opt_outs("bidirectional", {"donotemail": "blackList"}, global_opt_out_accepted=None)
    checked = check(integration)
    assert checked.exit_code == 2
    assert "stops every message to a person, order confirmations included" in checked.faults()[0].words


@pytest.mark.parametrize(("stamped", "verdicts"), [(True, ["fine"]), (False, ["fine", "warning"])])
def test_an_opt_out_whose_time_campaign_does_not_tell_is_warned_of(
    kept: Integration, stamped: bool, verdicts: list[str]
) -> None:
    """A6: without a time no opt-in of Campaign's wins."""
    source = source_table(contactid="reference", donotemail="boolean", modifiedon="datetime", versionnumber="integer")
    stamps: dict[str, CampaignType] = {"blackListEmailLastModified": "datetime"} if stamped else {}
    target = target_resource(externalId="string", blackListEmail="boolean", **stamps)
    assert [finding.verdict for finding in pairs_fit(kept.configuration.opt_outs, source, target)] == verdicts
