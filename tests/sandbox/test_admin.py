"""The sandbox itself: endpoints.json, seeding, changes, the call log, the admin address."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from d365_campaign.sandbox import Sandbox

from .conftest import Caller, client_credentials

EXT = "/profileAndServicesExt/profile"


def test_endpoints_are_written_for_their_owner_alone(sandbox: Sandbox, directory: Path) -> None:
    file = directory / "endpoints.json"
    assert json.loads(file.read_text()) == sandbox.endpoints
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sandbox.endpoints["pid"] == os.getpid()


def test_each_system_has_an_origin_of_its_own(sandbox: Sandbox) -> None:
    origins = {sandbox.endpoints[name].split("/")[2] for name in ("dataverse", "entra", "campaign", "ims")}
    assert len(origins) == 4


def test_seeding_is_repeatable_by_number(sandbox: Sandbox) -> None:
    def seeded(number: int) -> list[str]:
        sandbox.reset()
        sandbox.seed(50, seed=number)
        return [row["contactid"] + row["emailaddress1"] for row in sandbox.dataverse.rows("contact")]

    assert seeded(1) == seeded(1) != seeded(2)


def test_hostile_contacts_hold_quotes_limits_and_missing_values(sandbox: Sandbox, dataverse: Caller) -> None:
    sandbox.seed(60, hostile=True)
    rows = dataverse.json("contacts")["value"]
    first_names = [row["firstname"] for row in rows]
    assert len(rows) == 60
    assert {"O'Neil", "", None, "F" * 31} <= set(first_names)
    assert {"1753-01-01", "9999-12-31"} <= {row["birthdate"] for row in rows}


def test_changes_are_disjoint_repeatable_and_real(sandbox: Sandbox) -> None:
    watched = ("firstname", "emailaddress1", "mobilephone")

    def changed() -> tuple[dict[str, list[str]], int]:
        sandbox.reset()
        sandbox.seed(100)
        before = {row["contactid"]: [row[name] for name in watched] for row in sandbox.dataverse.rows("contact")}
        ids = sandbox.change_contacts(update=10, create=5, delete=7, seed=3)
        after = {row["contactid"]: [row[name] for name in watched] for row in sandbox.dataverse.rows("contact")}
        return ids, sum(before[key] != after[key] for key in before.keys() & after.keys())

    ids, really_changed = changed()
    assert {name: len(found) for name, found in ids.items()} == {"updated": 10, "created": 5, "deleted": 7}
    assert len({key for found in ids.values() for key in found}) == 22
    assert really_changed == 10
    assert changed()[0] == ids


def test_seed_and_change_over_the_admin_address(sandbox: Sandbox, admin: Caller) -> None:
    made = admin("POST", "/seed", json={"contacts": 20, "seed": 2, "hostile": True}).json()
    assert made == {"contacts": 20, "accounts": 0, "purchases": 0}
    body = {"contacts": {"update": 2, "create": 1, "delete": 1}, "seed": 5}
    ids = admin("POST", "/change", json=body).json()["contacts"]
    assert [len(ids[name]) for name in ("updated", "created", "deleted")] == [2, 1, 1]


def test_linked_tables_are_seeded_and_changed_over_the_admin_address(sandbox: Sandbox, admin: Caller) -> None:
    body = {"contacts": 20, "accounts": 4, "purchases": 10, "story": True}
    made = admin("POST", "/seed", json=body).json()
    assert (made["contacts"], made["accounts"], made["purchases"]) == (20, 4, 10)
    assert set(made["story"]) == {"waiting_contact", "waiting_purchase", "refused_contact"}
    changes = {"accounts": {"update": 1}, "purchases": {"create": 2}, "activate": True}
    done = admin("POST", "/change", json=changes).json()
    assert [len(done["accounts"]["updated"]), len(done["purchases"]["created"])] == [1, 2]
    assert done["activated"] == made["story"]["waiting_contact"]
    assert len(sandbox.dataverse.rows("new_purchase")) == 10 + 1 + 2


@pytest.mark.parametrize("body", [{"contact": {"update": 1}}, {"contacts": {"updat": 1}}, {"contacts": {"update": 99}}])
def test_changes_that_cannot_be_made_are_refused(admin: Caller, body: dict[str, Any]) -> None:
    admin("POST", "/seed", json={"contacts": 3})
    assert admin("POST", "/change", json=body).status_code == 400


def test_the_story_goes_on_only_when_it_was_begun(admin: Caller) -> None:
    assert admin("POST", "/change", json={"activate": True}).status_code == 404


def test_rows_are_edited_without_a_token(sandbox: Sandbox, admin: Caller) -> None:
    row_id = admin("POST", "/dataverse/contacts", json={"lastname": "One"}).json()["id"]
    assert admin("PATCH", f"/dataverse/contacts/{row_id}", json={"lastname": "Two"}).json() == {"id": row_id}
    assert admin.json(f"/dataverse/contacts/{row_id}")["lastname"] == "Two"
    assert admin.json("/dataverse/contacts?top=1")["count"] == 1
    assert admin("PATCH", "/dataverse/contacts/any").json() == {"id": row_id}
    assert admin("PATCH", "/dataverse/contacts/any", json={"jobtitle": "Writer"}).json() == {"id": row_id}
    assert admin("DELETE", f"/dataverse/contacts/{row_id}").status_code == 200
    assert sandbox.dataverse.rows("contact") == []


def test_records_are_edited_without_a_token(admin: Caller) -> None:
    admin("POST", "/campaign/profile", json={"externalId": "c1", "lastName": "One"})
    admin("PATCH", "/campaign/profile?key=c1", json={"lastName": "Two"})
    assert admin.json("/campaign/profile?key=c1")["lastName"] == "Two"
    assert admin.json("/campaign/profile")["count"] == 1
    admin("DELETE", "/campaign/profile?key=c1")
    assert admin.get("/campaign/profile?key=c1").status_code == 404


def test_the_call_log_is_ordered_and_holds_no_token(sandbox: Sandbox, admin: Caller, campaign: Caller) -> None:
    campaign("POST", EXT, json={"externalId": "c1"})
    campaign.get(EXT + "/c1")
    calls = admin.json("/calls?system=campaign")
    assert [(call["method"], call["operation"], call["status"]) for call in calls] == [
        ("POST", "insert", 201),
        ("GET", "update_read", 200),
    ]
    assert len(calls[0]["token"]) == 12
    assert calls[0]["number"] < calls[1]["number"]
    assert [call["operation"] for call in admin.json("/calls?system=ims")] == ["token"]
    admin("DELETE", "/calls")
    assert admin.json("/calls") == []


def test_engine_calls_count_record_verbs_only(sandbox: Sandbox, admin: Caller, campaign: Caller) -> None:
    campaign("POST", EXT, json={"externalId": "c1"})
    campaign.get(EXT + "/c1")
    campaign("PATCH", EXT + "/c1", json={"lastName": "x"})
    campaign("DELETE", EXT + "/c1")
    campaign.get(EXT)
    campaign.get("/profileAndServicesExt/resourceType/profile")
    assert admin.json("/engine-calls") == {"insert": 1, "update_read": 1, "update": 1, "delete": 1, "total": 4}


def test_settings_are_read_and_changed_and_reset(sandbox: Sandbox, admin: Caller) -> None:
    changed = admin("POST", "/settings", json={"smart_case": True, "custom_key_verbs": ["GET"]}).json()
    assert changed["smart_case"] is True
    assert sandbox.settings.custom_key_verbs == ("GET",)
    assert admin("POST", "/settings", json={"smart_case": "yes"}).status_code == 400
    assert admin("POST", "/settings", json={"no_such": 1}).status_code == 400
    admin("POST", "/reset")
    assert sandbox.settings.smart_case is False


def test_clock_expiry_and_faults_over_the_admin_address(sandbox: Sandbox, admin: Caller, dataverse: Caller) -> None:
    assert admin("POST", "/clock", json={"advance_seconds": 5}).status_code == 200
    assert admin("POST", "/clock", json={"advance_seconds": -5}).status_code == 400
    assert admin("POST", "/faults", json={"system": "dataverse", "status": 500}).json()[0]["status"] == 500
    assert dataverse.get("WhoAmI").status_code == 500
    assert admin("POST", "/faults", json={"nonsense": 1}).status_code == 400
    assert admin("DELETE", "/faults").json() == []
    admin("POST", "/expire", json={"tokens": True, "delta_tokens": True})
    assert dataverse.get("WhoAmI").status_code == 401


def test_logs_and_workflows_are_set_over_the_admin_address(admin: Caller) -> None:
    admin("POST", "/campaign/profile", json={"externalId": "c1"})
    assert admin("POST", "/logs", json={"profile": "c1"}).status_code == 201
    assert [log["externalId"] for log in admin.json("/logs?externalId=c1")] == ["c1"]
    assert admin("POST", "/workflows", json={"other": "paused"}).json()["other"] == "paused"


def test_unknown_ports_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown systems"), Sandbox.start(tmp_path, {"sftp2": 1}):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_serves_seeded_rows_until_it_is_stopped(tmp_path: Path, number: signal.Signals) -> None:
    rows = ["--contacts", "12", "--accounts", "3", "--purchases", "5", "--story"]
    command = [sys.executable, "-m", "d365_campaign.sandbox", "--directory", str(tmp_path), *rows]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        endpoints = _wait_for_endpoints(tmp_path / "endpoints.json")
        caller = Caller(endpoints["admin"], endpoints["ca_bundle"])
        counts = {
            name: caller.json(f"/dataverse/{name}")["count"] for name in ("contacts", "accounts", "new_purchases")
        }
        assert counts == {"contacts": 12 + 2, "accounts": 3, "new_purchases": 5 + 1}
        form = client_credentials(endpoints["credentials"]["dataverse"])
        assert caller("POST", endpoints["dataverse_token_url"], data=form).status_code == 200
        caller.session.close()
        process.send_signal(number)
        output, _ = process.communicate(timeout=5)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, output) == (0, b"")


def _wait_for_endpoints(file: Path) -> dict[str, Any]:
    deadline = time.monotonic() + 8
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    endpoints: dict[str, Any] = json.loads(file.read_text())
    return endpoints
