"""Faults of either system, through the whole stack: a sync ends complete, or loud with a place to go on from.

In both cases nothing is lost or doubled once a sync has ended well, and no token reaches another origin.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from d365_campaign.sandbox import Sandbox
from d365_campaign.store.staging import open_staging
from tests.agreement import assert_in_step, assert_no_token_strayed, profiles
from tests.integration import Integration
from tests.mappings import contact_mapping

Fault = Mapping[str, Any]
CONTACTS = 30
READ = {"system": "dataverse", "method": "GET", "path": "/contacts$"}
INSERT = {"system": "campaign", "method": "POST", "path": "/profile"}
LOOK_UP = {"system": "campaign", "method": "GET", "path": "/profile/[0-9a-f]{8}-"}
UPDATE = {"system": "campaign", "method": "PATCH", "path": "/profile"}
DELETE = {"system": "campaign", "method": "DELETE", "path": "/profile"}


@dataclass(frozen=True)
class Case:
    """Faults, met while a first load and then a sync of changes run."""

    faults: list[Fault]
    ends_well: bool = True
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


SHORT = {system: {"read_timeout_seconds": 1, "total_timeout_seconds": 2} for system in ("dynamics", "campaign")}
CASES = {
    **{
        f"{status} on every kind of request": Case(
            [{**verb, "times": 1, "skip": 1, "status": status, "body": "", "content_type": "text/plain"}]
        )
        for status in (500, 502, 503, 504)
        for verb in (READ, INSERT, LOOK_UP, UPDATE, DELETE)
    },
    "429 with seconds": Case([{**verb, "status": 429, "retry_after": 1} for verb in (READ, INSERT, UPDATE)]),
    "429 with a date": Case([{**verb, "status": 429, "retry_after": "date"} for verb in (READ, INSERT)]),
    "429 storm": Case(
        [{**INSERT, "times": 8, "skip": 2, "status": 429, "retry_after": 1}], settings={"campaign": {"attempts": 6}}
    ),
    "429 for longer than a run may wait": Case(
        [{**INSERT, "skip": 5, "status": 429, "retry_after": 9999}], ends_well=False
    ),
    "401 in mid-run": Case(
        [{**verb, "skip": 1, "status": 401, "body": {"error_code": "401013"}} for verb in (READ, INSERT, UPDATE)]
    ),
    "connection reset": Case([{**verb, "skip": 1, "reset": True} for verb in (READ, INSERT, LOOK_UP, UPDATE, DELETE)]),
    "body cut short": Case([{**verb, "truncate": 40} for verb in (READ, INSERT, LOOK_UP, UPDATE)]),
    "cut JSON under 200": Case([{**READ, "skip": 1, "replace": (r"(?s)^(.{300}).*$", r"\1")}]),
    "hang": Case([{**verb, "delay_seconds": 3} for verb in (READ, INSERT, UPDATE)], settings=SHORT),
    "slow drip": Case([{**verb, "slow_drip": 4.0} for verb in (READ, LOOK_UP)], settings=SHORT),
    "answer lost after the write": Case(
        [{**verb, "times": 3, "lose_answer": True} for verb in (INSERT, UPDATE, DELETE)]
    ),
    "answer and read-back lost": Case(
        [{**INSERT, "lose_answer": True}, {**LOOK_UP, "times": 6, "status": 503}], ends_well=False
    ),
    "down for good": Case([{**INSERT, "times": 100, "status": 503}], ends_well=False),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_fault(sandbox: Sandbox, integration: Integration, case: Case) -> None:
    integration.set("dynamics", page_size=10)
    integration.set("run", retries=0)
    for section, values in case.settings.items():
        integration.set(section, **values)
    sandbox.seed(contacts=CONTACTS)
    outcomes = []
    for _ in range(2):
        for fault in case.faults:
            sandbox.add_fault(**fault)
        outcomes.append(integration.run("sync").success)
        sandbox.clear_faults()
        integration.sync()
        assert_in_step(sandbox)
        sandbox.change_contacts(update=8, create=4, delete=3)
    assert all(outcomes) == case.ends_well
    integration.sync()
    assert_in_step(sandbox)
    assert_no_token_strayed(sandbox)
    assert integration.sync()["engine_calls"] == 0


def test_a_token_refused_in_mid_run_is_renewed_once_by_all_workers(sandbox: Sandbox, integration: Integration) -> None:
    sandbox.seed(contacts=CONTACTS)
    integration.plan()
    sandbox.clear_calls()
    sandbox.add_fault(**INSERT, skip=10, times=1, status=401, body={"error_code": "401013"})
    integration.sync()
    assert len([call for call in sandbox.calls("ims") if call.method == "POST"]) == 1
    assert_in_step(sandbox)


def test_a_duplicate_key_is_adopted_not_doubled(sandbox: Sandbox, integration: Integration) -> None:
    """Somebody inserted the record after its keys were listed."""
    [key] = sandbox.seed(contacts=1)
    integration.plan()
    sandbox.campaign.create("profile", {"externalId": key, "firstName": "Early"})
    integration.sync()
    assert_in_step(sandbox)


def test_a_page_that_is_sent_twice_is_stored_once(sandbox: Sandbox, integration: Integration) -> None:
    """The second page's answer is lost, so it is asked for again; then its token is used by a second reader."""
    integration.set("dynamics", page_size=10)
    sandbox.seed(contacts=CONTACTS)
    sandbox.add_fault(**READ, skip=1, lose_answer=True)
    integration.sync()
    assert_in_step(sandbox)


@pytest.mark.parametrize("delta_token_time", ["load_start", "load_end"])
def test_what_changes_on_pages_already_read_is_not_missed(
    sandbox: Sandbox, integration: Integration, monkeypatch: pytest.MonkeyPatch, delta_token_time: str
) -> None:
    """Pages are dynamic and a delta token may be as young as the last page: the sweep finds what moved."""
    sandbox.settings.update({"delta_token_time": delta_token_time})
    integration.set("dynamics", page_size=10)
    keys = sorted(sandbox.seed(contacts=CONTACTS))
    pulls = integration.settings["run"].get("pull_seconds")
    integration.set("run", pull_seconds=0.0001)
    integration.run("plan")
    sandbox.dataverse.update("contact", keys[0], {"lastname": "Changed"})
    sandbox.dataverse.create("contact", {"contactid": "00000000-0000-0000-0000-000000000001", "firstname": "Early"})
    integration.set("run", pull_seconds=pulls or 60)
    integration.sync()
    assert_in_step(sandbox)


def test_a_pull_that_goes_on_in_the_middle_of_changes_also_brings_what_came_since(
    sandbox: Sandbox, integration: Integration
) -> None:
    """The pages that were left belong to a delta call of some time ago, and so does the token on their last one."""
    integration.set("dynamics", page_size=10)
    keys = sandbox.seed(contacts=60)
    integration.sync()
    for key in keys[:15]:
        sandbox.dataverse.update("contact", key, {"lastname": "Changed"})
    for key in keys[40:]:
        sandbox.dataverse.delete("contact", key)
    integration.set("run", pull_seconds=0.0001)
    for _ in range(3):
        integration.run("plan")
    integration.set("run", pull_seconds=60)
    for key in keys[20:25]:
        sandbox.dataverse.update("contact", key, {"lastname": "Changed since"})
    integration.sync()
    assert_in_step(sandbox)


def test_pages_that_lead_in_a_circle_end_loud(sandbox: Sandbox, integration: Integration) -> None:
    integration.set("dynamics", page_size=10)
    integration.set("run", retries=0)
    sandbox.seed(contacts=CONTACTS)
    first = f"{sandbox.endpoints['dataverse']}/api/data/v9.2/contacts?$select=contactid&circle=1"
    sandbox.add_fault(**READ, times=50, replace=(r'"@odata\.nextLink":"[^"]*"', f'"@odata.nextLink":"{first}"'))
    said = integration.fail()
    assert "don't end" in said
    sandbox.clear_faults()
    integration.tables = [contact_mapping()]


def test_a_redirect_to_another_origin_is_not_followed(sandbox: Sandbox, integration: Integration) -> None:
    sandbox.seed(contacts=3)
    foreign = sandbox.endpoints["ims"]
    sandbox.add_fault(**READ, status=307, headers={"Location": f"{foreign}/contacts"})
    said = integration.fail()
    assert "redirect" in said or "another origin" in said or foreign.split("//")[1] in said
    assert not [call for call in sandbox.calls("ims") if "contacts" in call.path]
    integration.sync()
    assert_in_step(sandbox)


def test_a_delta_token_that_expires_between_two_pages_leads_to_a_full_read(
    sandbox: Sandbox, integration: Integration
) -> None:
    integration.set("dynamics", page_size=10)
    keys = sandbox.seed(contacts=CONTACTS)
    integration.sync()
    for key in keys[:25]:
        sandbox.dataverse.update("contact", key, {"lastname": "Changed"})
    sandbox.dataverse.delete("contact", keys[-1])
    expired = {"error": {"code": "0x80044352", "message": "Version stamp associated with the client has expired."}}
    sandbox.add_fault(**READ, skip=1, status=400, body=expired)
    integration.sync()
    assert_in_step(sandbox)


def test_a_column_that_is_gone_stops_the_table_and_says_so(sandbox: Sandbox, integration: Integration) -> None:
    """The table's definition changed between two runs."""
    sandbox.seed(contacts=3)
    integration.sync()
    sandbox.clear_calls()
    renamed = ('"LogicalName":"fax"', '"LogicalName":"fx"')
    sandbox.add_fault(system="dataverse", path="RetrieveMetadataChanges", times=1, replace=renamed)
    said = integration.fail()
    assert "fax" in said
    assert not [call for call in sandbox.calls("campaign") if call.method != "GET"]
    sandbox.clear_faults()
    sandbox.change_contacts(update=2)
    integration.sync()
    assert_in_step(sandbox)


def test_two_runs_at_once_take_turns_on_the_staging_file(
    sandbox: Sandbox, integration: Integration, tmp_path: Path
) -> None:
    """Another process holds the file: the run says so; when it is free again, the run goes through."""
    sandbox.seed(contacts=3)
    integration.sync()
    integration.set("run", retries=0)
    opened = f"c = duckdb.connect({str(integration.staging)!r})"
    hold = f"import duckdb, time; {opened}; print('open', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        said = integration.fail()
        holder.kill()
    assert "in use by another process" in said
    assert str(integration.staging) in said
    sandbox.change_contacts(update=1)
    integration.sync()
    assert_in_step(sandbox)


def test_a_full_disk_ends_loud_and_keeps_what_was_committed(sandbox: Sandbox, integration: Integration) -> None:
    """A limit on file size, which the log of the staging file meets, stands in for a disk that is full: the system call
    fails the same way."""
    integration.set("dynamics", page_size=500)
    sandbox.seed(contacts=20)
    integration.sync()
    sandbox.seed(contacts=2000, seed=2)
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400_000,) * 2); "
        "sys.argv = sys.argv[1:]; import runpy; runpy.run_module('tests.crashes.run', run_name='__main__')"
    )
    endpoints = integration.staging.parent / "endpoints.json"
    endpoints.write_text(json.dumps(sandbox.endpoints))
    command = [sys.executable, "-c", script, "run", str(endpoints), str(integration.staging)]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], check=False, capture_output=True, text=True)
    assert ended.returncode != 0
    assert "free space" in ended.stderr, ended.stderr[-3000:]
    with open_staging(integration.staging) as file:
        assert 20 < file.desk("contact").records() < 2020
    integration.sync()
    assert_in_step(sandbox)


def test_clocks_that_differ_do_no_harm(sandbox: Sandbox, integration: Integration) -> None:
    """Moments that are compared all come from the server's clock, which is 12 hours ahead of ours here."""
    sandbox.advance_clock(12 * 3600)
    sandbox.seed(contacts=CONTACTS)
    integration.sync()
    sandbox.change_contacts(update=5, create=2, delete=1)
    integration.sync()
    assert_in_step(sandbox)


def test_a_hostile_set_of_contacts_arrives_whole_or_is_refused_by_name(
    sandbox: Sandbox, integration: Integration
) -> None:
    """Quotes, emoji, empty against null, text over the limit, SQL keywords as names, far dates."""
    sandbox.seed(contacts=60, hostile=True)
    done = integration.sync()
    assert done["inserted"] + done["refused"] == 60
    assert len(profiles(sandbox)) == done["inserted"]
    rows = {row["contactid"]: row for row in sandbox.dataverse.rows("contact")}
    for held in profiles(sandbox):
        assert held["lastName"] == (rows[held["externalId"]]["lastname"] or "")
        assert held["birthDate"] == (rows[held["externalId"]]["birthdate"] or "")
    began = time.monotonic()
    assert integration.sync()["engine_calls"] == 0
    assert time.monotonic() - began < 60
