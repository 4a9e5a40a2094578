"""The page of `d365-campaign check`, its JSON and its exit codes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from d365_campaign.rehearsal import CONFIG_VARIABLE
from d365_campaign.sandbox import Sandbox
from d365_campaign.store.staging import open_staging
from tests.checking import check, page, write_files
from tests.integration import Integration
from tests.mappings import account_mapping, contact_mapping

COMMAND = str(Path(sys.executable).with_name("d365-campaign"))
PAGE = """\
Configuration
  fine     environment: 'sandbox', with the tables account, contact.
  fine     privacy requests: text 1 was accepted by Jane Doe on 2026-01-01.

Dynamics
  fine     connection: its certificate and our credentials are accepted; application user ID of organization ID.
  fine     clock: within 1 s of this machine's.

Campaign
  wrong    connection: unable to connect: Campaign token: localhost refused the credentials (400, invalid_client).
           -> Check campaign.client_secret.
  warning  tables: its side of account, contact was not looked at.
           -> Put right what is said above, and check again.

Staging file
  fine     folder: FOLDER/staging.duckdb can be made, and written by this user.
  fine     disk: N GB are free.
  fine     last run: there was none yet.

account > cusAccount
  fine     Dynamics table: readable, change tracking is on; about 2 records.

contact > profile
  fine     Dynamics table: readable, change tracking is on; about 30 records.

First load
  fine     records: The first load holds 32 records of all tables; allowed are 15,000,000.
  fine     engine calls: 32 at most, by Dynamics' own counts; no budget is set.

1 wrong, 1 warning.
"""


def test_the_page_is_grouped_and_says_each_remedy_on_a_line_of_its_own(
    sandbox: Sandbox, integration: Integration, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.seed(contacts=30, accounts=2)
    monkeypatch.setenv("CAMPAIGN_CLIENT_SECRET", "wrong")
    integration.tables = [account_mapping(), contact_mapping()]
    exit_code, shown = page(write_files(integration))
    assert exit_code == 1
    assert stable(shown, integration.staging.parent) == PAGE


def stable(shown: str, folder: Path) -> str:
    """The page without what is another one on each machine."""
    shown = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", shown)
    return re.sub(r"[0-9,.]+ GB", "N GB", shown.replace(str(folder), "FOLDER"))


def test_a_terminal_gets_marks_and_words_that_wrap(sandbox: Sandbox, integration: Integration) -> None:
    integration.tables = [contact_mapping(target="cusMissing")]
    terminal = {"FORCE_COLOR": "1", "COLUMNS": "60", "TERM": "xterm"}
    _, shown = page(write_files(integration), env=terminal)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert max(map(len, lines)) <= 60
    assert [line.rstrip() for line in lines if "cusMissing" in line][:2] == [
        "contact > cusMissing",
        "  ✗ Campaign resource: Campaign resource 'cusMissing' isn't",
    ]
    assert any(line.startswith("    → Check its name, publish the resource") for line in lines)
    assert any(line.startswith("  ✓ connection:") for line in lines)


def test_json_is_one_object_with_the_worst_verdict(sandbox: Sandbox, integration: Integration) -> None:
    sandbox.advance_clock(100)
    exit_code, shown = page(write_files(integration), "--json")
    told = json.loads(shown)
    assert (exit_code, told["environment"], told["verdict"]) == (0, "sandbox", "warning")
    assert {tuple(found) for found in told["findings"]} == {("area", "subject", "verdict", "words", "fix")}


def test_one_table_is_looked_at_alone(sandbox: Sandbox, integration: Integration) -> None:
    integration.tables = [account_mapping(), contact_mapping(target="cusMissing")]
    assert check(integration, "account").exit_code == 0
    checked = check(integration, "contact")
    assert checked.exit_code == 1
    assert not checked.of("account")


def test_a_table_that_is_not_mapped_is_wrong_use(sandbox: Sandbox, integration: Integration) -> None:
    exit_code, shown = page(write_files(integration), "nowhere")
    assert exit_code == 2
    assert "there is no table mapping 'nowhere'; there are: contact" in shown


def test_every_fault_of_the_configuration_is_a_finding_of_its_own(sandbox: Sandbox, integration: Integration) -> None:
    checked = check(integration, surprise=1, environment={"no": "text"})
    assert checked.exit_code == 2
    assert {(found.area, found.verdict) for found in checked.findings} == {("Configuration", "wrong")}
    assert sorted(found.fix for found in checked.findings) == [
        "Put it in quotes.",
        "Remove it, or correct its spelling.",
    ]


def test_a_missing_environment_file_is_named_with_what_should_be_in_it(
    sandbox: Sandbox, integration: Integration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("D365_CLIENT_SECRET")
    missing = integration.staging.parent / "config" / "nowhere.env"
    found = check(integration, environment_file="nowhere.env").of("Dynamics")["connection"]
    assert found.words == "unable to connect: environment variable D365_CLIENT_SECRET is not set."
    assert found.fix == f"Set it, or write it into {missing} (there is no such file)."


def test_a_certificate_of_an_unknown_authority_names_ca_bundle(sandbox: Sandbox, integration: Integration) -> None:
    checked = check(integration, ca_bundle=None)
    for system in ("Dynamics", "Campaign"):
        assert "the certificate of localhost can't be verified" in checked.of(system)["connection"].words
        assert "point `ca_bundle` to that authority's certificate" in checked.of(system)["connection"].fix


def test_a_system_that_does_not_answer_is_given_up_sooner_than_by_a_run(
    sandbox: Sandbox, integration: Integration
) -> None:
    """A run would try 50 times, and wait for two minutes."""
    integration.set("dynamics", attempts=50)
    sandbox.add_fault(system="dataverse", path="WhoAmI", reset=True, times=50)
    checked = check(integration)
    found = checked.of("Dynamics")["connection"]
    assert found.words.startswith("unable to connect: GET WhoAmI: localhost gave no complete answer")
    assert found.fix.startswith("Check dynamics.url, dynamics.token_url and the network")
    assert len(sandbox.calls("dataverse")) == 2
    assert checked.of("Campaign")["connection"].verdict == "fine"


def test_a_staging_file_in_use_is_no_fault(sandbox: Sandbox, integration: Integration) -> None:
    """In a process of its own, as DuckDB tells other processes only."""
    sandbox.seed(contacts=3)
    integration.sync()
    environment = {**os.environ, CONFIG_VARIABLE: str(write_files(integration, guardrails={"max_initial_records": 1}))}
    with open_staging(integration.staging):
        ended = subprocess.run([COMMAND, "check"], env=environment, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "is in use by a run" in ended.stdout
    assert "First load" not in ended.stdout
