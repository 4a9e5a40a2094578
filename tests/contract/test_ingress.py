"""The rules of the integration contract that tell how contacts and custom entities reach Campaign, end to end.

Each test names the rules it shows. Everything runs through Dagster, on the sandbox, over real sockets.
"""

import re
from collections.abc import Sequence
from typing import Any

import pytest

from d365_campaign.sandbox import Sandbox
from tests.integration import Integration
from tests.mappings import contact_mapping

RECORD_VERBS = {"insert", "update_read", "update", "delete"}


def writes(sandbox: Sandbox) -> list[str]:
    """What Campaign was asked to change, in order."""
    return [call.method for call in sandbox.calls("campaign") if call.method in ("POST", "PATCH", "DELETE")]


def profile(sandbox: Sandbox, key: str) -> dict[str, Any]:
    found = sandbox.campaign.find("profile", "externalId", key)
    assert found is not None
    return found


def test_contacts_and_custom_entities_arrive_in_campaign(sandbox: Sandbox, integration: Integration) -> None:
    """R32, R35: a contact, and a record of an unlinked custom table whose key stands in a column of its own."""
    contact = sandbox.dataverse.create("contact", {"firstname": "Ada", "emailaddress1": "ada@example.com"})
    store = sandbox.dataverse.create("new_store", {"new_name": "Harbour"})
    key = {"source": "new_storeid", "target": "cusD365id", "declared_unique": True}
    name = {"source": "new_name", "target": "cusName"}
    integration.tables = [
        contact_mapping(),
        contact_mapping(source="new_store", target="cusStore", key=key, fields=[name]),
    ]
    assert integration.sync()["inserted"] == 1
    assert profile(sandbox, contact)["email"] == "ada@example.com"
    found = sandbox.campaign.find("cusStore", "cusD365id", store)
    assert found is not None
    assert found["cusName"] == "Harbour"


def test_first_run_sends_inactive_contacts_too_and_a_second_run_writes_nothing(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R69."""
    active = sandbox.dataverse.create("contact", {"firstname": "Ada"})
    inactive = sandbox.dataverse.create("contact", {"firstname": "Grace", "statecode": 1, "statuscode": 2})
    integration.sync()
    assert profile(sandbox, active)
    assert profile(sandbox, inactive)
    sandbox.clear_calls()
    assert integration.sync()["engine_calls"] == 0
    assert writes(sandbox) == []


def test_dynamics_is_never_written_to(sandbox: Sandbox, integration: Integration) -> None:
    """R1: a change in Campaign only doesn't travel back."""
    key = sandbox.dataverse.create("contact", {"firstname": "Ada"})
    integration.sync()
    sandbox.campaign.update("profile", profile(sandbox, key)["PKey"], {"firstName": "Augusta"})
    integration.sync()
    assert {call.method for call in sandbox.calls("dataverse")} == {"GET"}


def test_an_edit_in_campaign_survives_until_dynamics_sends_the_record_again(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R2, R36."""
    key = sandbox.dataverse.create("contact", {"firstname": "Ada", "lastname": "Byron"})
    integration.sync()
    sandbox.campaign.update("profile", profile(sandbox, key)["PKey"], {"firstName": "Augusta"})
    integration.sync()
    assert profile(sandbox, key)["firstName"] == "Augusta"
    sandbox.dataverse.update("contact", key, {"lastname": "Lovelace"})
    integration.sync()
    assert (profile(sandbox, key)["firstName"], profile(sandbox, key)["lastName"]) == ("Ada", "Lovelace")


@pytest.mark.parametrize(("apply_deletes", "deletes"), [(True, 1), (False, 0)])
def test_a_deleted_contact_is_deleted_in_campaign_only_where_that_is_switched_on(
    sandbox: Sandbox, integration: Integration, apply_deletes: bool, deletes: int
) -> None:
    """R3, R91."""
    integration.tables = [contact_mapping(apply_deletes=apply_deletes)]
    key = sandbox.dataverse.create("contact", {"firstname": "Ada"})
    integration.sync()
    sandbox.dataverse.delete("contact", key)
    integration.sync()
    assert writes(sandbox).count("DELETE") == deletes
    assert (sandbox.campaign.find("profile", "externalId", key) is None) == apply_deletes


def test_deleting_a_profile_leaves_its_logs(sandbox: Sandbox, integration: Integration) -> None:
    """R4: a plain delete, not a privacy delete."""
    key = sandbox.dataverse.create("contact", {"firstname": "Ada"})
    integration.sync()
    sandbox.campaign.add_log(key)
    before = sandbox.campaign.logs()
    assert before
    sandbox.dataverse.delete("contact", key)
    integration.sync()
    assert sandbox.campaign.find("profile", "externalId", key) is None
    assert sandbox.campaign.logs() == before
    assert not any("privacy" in call.path for call in sandbox.calls())


def test_a_profile_that_the_sync_did_not_create_stays_as_it_is(sandbox: Sandbox, integration: Integration) -> None:
    """R33: same e-mail, no externalId."""
    sandbox.campaign.create("profile", {"email": "ada@example.com", "firstName": "Somebody"})
    before = sandbox.campaign.records("profile")
    key = sandbox.dataverse.create("contact", {"firstname": "Ada", "emailaddress1": "ada@example.com"})
    integration.sync()
    after = sandbox.campaign.records("profile")
    assert [record for record in after if record["externalId"] != key] == before
    assert len(after) == 2


def test_a_profile_whose_external_id_is_a_contact_id_is_adopted(sandbox: Sandbox, integration: Integration) -> None:
    """R34, R37: the plan tells adoptions from inserts; the record is updated, not doubled."""
    key = sandbox.dataverse.create("contact", {"firstname": "Ada", "lastname": "Lovelace"})
    sandbox.dataverse.create("contact", {"firstname": "Grace"})
    sandbox.campaign.create("profile", {"externalId": key, "firstName": "A."})
    planned = integration.plan()
    assert (planned["to_insert"], planned["to_adopt"]) == (1, 1)
    integration.sync()
    assert profile(sandbox, key)["firstName"] == "Ada"
    assert len(sandbox.campaign.records("profile")) == 2
    assert all(record["externalId"] for record in sandbox.campaign.records("profile"))


def test_an_adopted_profile_is_kept_in_step_like_any_other(sandbox: Sandbox, integration: Integration) -> None:
    """R36."""
    key = sandbox.dataverse.create("contact", {"firstname": "Ada"})
    sandbox.campaign.create("profile", {"externalId": key, "firstName": "A."})
    integration.sync()
    sandbox.dataverse.update("contact", key, {"firstname": "Augusta"})
    assert integration.sync()["updated"] == 1
    assert profile(sandbox, key)["firstName"] == "Augusta"


def test_a_plan_only_reads(sandbox: Sandbox, integration: Integration) -> None:
    """R37."""
    sandbox.seed(contacts=20)
    planned = integration.plan()
    assert (planned["to_insert"], planned["engine_calls"]) == (20, 20)
    assert {call.method for system in ("dataverse", "campaign") for call in sandbox.calls(system)} == {"GET"}
    assert integration.sync()["inserted"] == 20


def test_engine_calls_are_those_of_the_formula(sandbox: Sandbox, integration: Integration) -> None:
    """R51: insert 1, delete 1, changed update 2, identical update 1, by Campaign's own call log."""
    names = ("Ada", "Grace", "Mary")
    gone, changed, same = (sandbox.dataverse.create("contact", {"firstname": name}) for name in names)
    integration.sync()
    sandbox.clear_calls()
    sandbox.dataverse.create("contact", {"firstname": "Edith"})
    sandbox.dataverse.delete("contact", gone)
    sandbox.dataverse.update("contact", changed, {"firstname": "Grace B."})
    sandbox.dataverse.update("contact", same, {"firstname": "Maria"})
    sandbox.campaign.update("profile", profile(sandbox, same)["PKey"], {"firstName": "Maria"})
    done = integration.sync()
    assert sandbox.engine_calls() == {"insert": 1, "update_read": 2, "update": 1, "delete": 1, "total": 5}
    assert done["engine_calls"] == 5
    assert done["identical"] == 1


def test_a_touched_but_unchanged_contact_costs_nothing_where_adobe_spends_a_call(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R51."""
    key = sandbox.dataverse.create("contact", {"firstname": "Ada"})
    integration.sync()
    sandbox.clear_calls()
    sandbox.dataverse.update("contact", key, {"jobtitle": "Countess"})
    done = integration.sync()
    assert (done["engine_calls"], done["engine_calls_adobe"], done["engine_calls_saved"]) == (0, 1, 1)
    assert sandbox.engine_calls()["total"] == 0


@pytest.mark.parametrize("period", ["daily_budget", "monthly_budget"])
def test_no_new_work_is_started_beyond_the_budget(sandbox: Sandbox, integration: Integration, period: str) -> None:
    """R50: a warning at 80 %, a stop at 100 %; the rest is backlog."""
    integration.set("engine_calls", **{period: 10})
    sandbox.seed(contacts=7)
    report = integration.run("sync")
    assert [check for check in report.failed_checks if "8 of 10" in check], "one call was the scan of what was there"
    sandbox.seed(contacts=5, seed=2)
    done = integration.sync()
    assert sandbox.engine_calls()["total"] == 9, "and the scan is one more"
    assert (done["inserted"], done["backlog"], done["stopped_by"]) == (2, 3, "budget")
    integration.set("engine_calls", **{period: 100})
    assert integration.sync()["inserted"] == 3


def test_a_resource_that_is_not_published_stops_the_run_before_anything_is_written(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R55."""
    integration.tables = [contact_mapping(target="cusMissing")]
    sandbox.seed(contacts=3)
    said = integration.fail()
    assert "cusMissing" in said
    assert "publish" in said
    assert writes(sandbox) == []


def test_a_second_campaign_record_with_the_same_key_is_refused_before_the_first_write(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R79: the key column must be without duplicates."""
    sandbox.settings.update({"external_id_unique": False})
    key = {"source": "contactid", "target": "externalId", "declared_unique": False}
    integration.tables = [contact_mapping(key=key)]
    for name in ("A", "B"):
        sandbox.campaign.create("profile", {"externalId": "twice", "firstName": name})
    sandbox.seed(contacts=3)
    said = integration.fail()
    assert "externalId" in said
    assert "twice" in said
    assert writes(sandbox) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"key": {"source": "contactid", "target": "cusOtherKey"}},
        {"target": "service"},
    ],
    ids=["key", "table"],
)
def test_key_and_tables_of_a_saved_mapping_can_not_change(
    sandbox: Sandbox, integration: Integration, changed: dict[str, Any]
) -> None:
    """R79, R80."""
    sandbox.seed(contacts=1)
    integration.sync()
    sandbox.clear_calls()
    integration.tables = [contact_mapping(**changed)]
    integration.fail()
    assert writes(sandbox) == []


def test_nested_fields_are_sent_as_sub_objects(sandbox: Sandbox, integration: Integration) -> None:
    """R81, R113: `location.city` on insert and update; the key is never part of an update."""
    key = sandbox.dataverse.create("contact", {"firstname": "Ada", "address1_city": "London"})
    integration.sync()
    assert profile(sandbox, key)["location"]["city"] == "London"
    sandbox.dataverse.update("contact", key, {"address1_city": "Ockham"})
    integration.sync()
    assert profile(sandbox, key)["location"]["city"] == "Ockham"
    assert profile(sandbox, key)["externalId"] == key


def test_a_cleared_field_is_cleared_in_campaign(sandbox: Sandbox, integration: Integration) -> None:
    """A19."""
    key = sandbox.dataverse.create("contact", {"firstname": "Ada", "birthdate": "1815-12-10"})
    integration.sync()
    sandbox.dataverse.update("contact", key, {"birthdate": None, "firstname": None})
    assert integration.sync()["updated"] == 1
    assert (profile(sandbox, key)["birthDate"], profile(sandbox, key)["firstName"]) == ("", "")


def test_no_pkey_is_ever_stored(sandbox: Sandbox, integration: Integration) -> None:
    """R111: neither the staging file nor what Dagster keeps holds one."""
    sandbox.seed(contacts=30)
    sandbox.campaign.create("profile", {"externalId": "older", "firstName": "B"})
    integration.sync()
    sandbox.change_contacts(update=5)
    done = integration.sync()
    pkey = re.compile(rb"@[A-Za-z0-9_-]{20,}")
    files = [integration.staging, *integration.staging.parent.glob("*.wal")]
    assert not [file for file in files if file.exists() and pkey.search(file.read_bytes())]
    assert not pkey.search(repr(done).encode())


def test_returned_links_are_followed_and_only_top_level_addresses_built(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R112: the instance puts random parts into its links."""
    sandbox.settings.update({"random_hrefs": True, "big_table_threshold": 50})
    sandbox.campaign.create("profile", {"externalId": "older", "firstName": "B"})
    key = sandbox.dataverse.create("contact", {"firstname": "Ada"})
    integration.sync()
    sandbox.dataverse.update("contact", key, {"firstname": "Augusta"})
    assert integration.sync()["updated"] == 1
    assert profile(sandbox, key)["firstName"] == "Augusta"


def test_what_a_data_policy_makes_of_a_value_is_not_sent_again(sandbox: Sandbox, integration: Integration) -> None:
    """R114: smart case turns "ADA" into "Ada"; that is no difference."""
    sandbox.settings.update({"smart_case": True})
    key = sandbox.dataverse.create("contact", {"firstname": "ADA", "lastname": "lovelace"})
    integration.sync()
    assert profile(sandbox, key)["firstName"] != "ADA"
    sandbox.clear_calls()
    assert integration.sync()["engine_calls"] == 0
    sandbox.dataverse.update("contact", key, {"firstname": "ada"})
    assert integration.sync()["identical"] == 1
    assert "PATCH" not in writes(sandbox)


def test_all_keys_are_listed_beyond_the_big_table_threshold(sandbox: Sandbox, integration: Integration) -> None:
    """R115: without forced paging the list would end after its first page."""
    sandbox.settings.update({"big_table_threshold": 50})
    keys = sandbox.seed(contacts=120)
    for key in keys:
        sandbox.campaign.create("profile", {"externalId": key})
    planned = integration.plan()
    assert (planned["to_insert"], planned["to_adopt"]) == (0, 120)


def test_a_refused_record_is_kept_with_its_reason_and_the_others_go_on(
    sandbox: Sandbox, integration: Integration
) -> None:
    """A14: Campaign's first name holds 30 characters, Dynamics' 50."""
    long = sandbox.dataverse.create("contact", {"firstname": "A" * 40})
    sandbox.seed(contacts=10)
    done = integration.sync()
    assert (done["inserted"], done["refused"], done["backlog"]) == (10, 1, 0)
    sandbox.clear_calls()
    assert integration.sync()["engine_calls"] == 0
    sandbox.dataverse.update("contact", long, {"firstname": "A" * 20})
    done = integration.sync()
    assert (done["inserted"], done["refused"]) == (1, 0)


def test_no_personal_value_reaches_logs_or_metadata(
    sandbox: Sandbox, integration: Integration, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """R6, with a refused record among them."""
    caplog.set_level("DEBUG")
    sandbox.dataverse.create("contact", {"firstname": "Marker-" + "x" * 30, "emailaddress1": "marker@example.com"})
    sandbox.dataverse.create("contact", {"firstname": "Marker", "emailaddress1": "marker@example.com"})
    report = integration.run("sync")
    shown = capfd.readouterr()
    seen = " ".join([repr(report), shown.out, shown.err, caplog.text])
    assert report.materialized["campaign/profile"]["refused"] == 1
    assert "marker" not in seen.lower()


def keys_of(records: Sequence[dict[str, Any]]) -> set[str]:
    return {record["externalId"] for record in records}


def test_an_expired_delta_token_leads_to_a_full_read_that_finds_what_was_deleted(
    sandbox: Sandbox, integration: Integration
) -> None:
    keys = sandbox.seed(contacts=20)
    integration.sync()
    sandbox.dataverse.delete("contact", keys[0])
    sandbox.dataverse.update("contact", keys[1], {"firstname": "Changed"})
    sandbox.expire_delta_tokens()
    done = integration.sync()
    assert (done["inserted"], done["updated"], done["deleted"]) == (0, 1, 1)
    assert keys_of(sandbox.campaign.records("profile")) == set(keys[1:])
