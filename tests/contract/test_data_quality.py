"""Checks of data quality over the sandbox: what they find, with figures and keys, and what finding it costs."""

from typing import Any

import dagster as dg
import pytest

from assets.runs import RunReport, run_in_process
from assets.verify import VERIFY, daily_checks
from d365_campaign.sandbox import Sandbox
from d365_campaign.store.staging import open_staging
from tests.integration import Integration
from tests.mappings import contact_mapping, purchase_mapping

DRIFT, FRESH, TOKEN = daily_checks(contact_mapping())


def verify(integration: Integration) -> RunReport:
    return run_in_process(integration.definitions, VERIFY, [], integration.instance)


def shown(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> tuple[bool, dict[str, Any], str]:
    """The last evaluation of a check: whether it passed, its figures and keys, and its words."""
    record = instance.get_latest_asset_check_evaluation_record(key)
    assert record
    assert record.event
    assert record.event.dagster_event
    check = record.event.dagster_event.asset_check_evaluation_data
    return check.passed, {name: value.value for name, value in check.metadata.items()}, str(check.description)


def of_asset(instance: dg.DagsterInstance, asset: str, check: str) -> tuple[bool, dict[str, Any], str]:
    return shown(instance, dg.AssetCheckKey(dg.AssetKey(asset.split("/")), check))


def reads(sandbox: Sandbox) -> list[str]:
    return [c.method for c in sandbox.calls("campaign") if "resourceType" not in c.path and "token" not in c.path]


def booked(integration: Integration, operation: str) -> int:
    with open_staging(integration.staging) as file:
        query = "select coalesce(sum(calls), 0) from main.engine_calls where operation = $1"
        return int(file._connection.execute(query, [operation]).fetchall()[0][0])


@pytest.fixture
def synced(sandbox: Sandbox, integration: Integration) -> list[str]:
    keys = sandbox.seed(contacts=4)
    integration.sync()
    sandbox.clear_calls()
    return keys


# --- mirror drift ---------------------------------------------------------------------------------------------------


def test_sample_in_step_passes_and_costs_a_booked_call_for_each_record(
    sandbox: Sandbox, integration: Integration, instance: dg.DagsterInstance, synced: list[str]
) -> None:
    report = verify(integration)

    assert (report.success, report.failed_checks) == (True, [])
    passed, figures, _ = shown(instance, DRIFT)
    assert (passed, figures["looked_at"], figures["drifted"]) == (True, 4, 0)
    assert reads(sandbox) == ["GET"] * 4
    assert booked(integration, "verify") == 4


def test_default_of_campaign_for_what_dynamics_leaves_empty_is_no_drift(
    sandbox: Sandbox, integration: Integration, instance: dg.DagsterInstance
) -> None:
    fields = [{"source": "firstname", "target": "firstName"}, {"source": "gendercode", "target": "gender"}]
    integration.tables = [contact_mapping(fields=fields)]
    key = sandbox.dataverse.create("contact", {"firstname": "Ada"})
    integration.sync()
    assert sandbox.campaign.get("profile", key)["gender"] == "unknown"

    assert verify(integration).success
    passed, figures, _ = shown(instance, DRIFT)
    assert (passed, figures["looked_at"], figures["drifted"]) == (True, 1, 0)


def test_edit_behind_our_back_is_found_with_key_and_field_and_left_to_the_next_change(
    sandbox: Sandbox, integration: Integration, instance: dg.DagsterInstance, synced: list[str]
) -> None:
    """R2: no active reversal. It goes back with a replay that sends what differs, or the record's next change."""
    key, wanted = synced[1], sandbox.campaign.find("profile", "externalId", synced[1])["firstName"]
    sandbox.campaign.update("profile", key, {"firstName": "Marker"})
    verify(integration)

    passed, figures, words = shown(instance, DRIFT)
    assert (passed, figures["sample_keys"]) == (False, [key])
    assert "firstName (1)" in words
    assert "Marker" not in words
    done = integration.sync()
    assert (done["engine_calls"], sandbox.campaign.find("profile", "externalId", key)["firstName"]) == (0, "Marker")

    integration.change_staging("update main.table_mapping set replay_requested = 'differences'")
    done = integration.sync()
    assert (done["updated"], done["engine_calls"]) == (1, 2)
    assert sandbox.campaign.find("profile", "externalId", key)["firstName"] == wanted


def test_edit_is_taken_back_by_the_next_run_where_that_is_wanted(
    sandbox: Sandbox, integration: Integration, synced: list[str]
) -> None:
    integration.set("checks", repair_drift=True)
    key, wanted = synced[1], sandbox.campaign.find("profile", "externalId", synced[1])["firstName"]
    sandbox.campaign.update("profile", key, {"firstName": "Marker"})
    verify(integration)

    done = integration.sync()

    assert (done["updated"], done["engine_calls"]) == (1, 2)
    assert sandbox.campaign.find("profile", "externalId", key)["firstName"] == wanted


def test_record_that_is_gone_is_told_and_not_made_anew(
    sandbox: Sandbox, integration: Integration, instance: dg.DagsterInstance, synced: list[str]
) -> None:
    """It may have been deleted on request."""
    integration.set("checks", repair_drift=True)
    sandbox.campaign.delete("profile", synced[0])
    verify(integration)

    passed, figures, words = shown(instance, DRIFT)
    assert (passed, figures["missing"], figures["sample_keys"]) == (False, 1, [synced[0]])
    assert "replay contact --force" in words
    integration.sync()
    assert sandbox.campaign.find("profile", "externalId", synced[0]) is None


def test_sample_is_that_of_a_day_and_never_more_than_the_budget_leaves(
    sandbox: Sandbox, integration: Integration, instance: dg.DagsterInstance, synced: list[str]
) -> None:
    integration.set("checks", drift_sample=3)
    spent = booked(integration, "insert") + booked(integration, "scan")
    integration.set("engine_calls", daily_budget=spent + 2)
    verify(integration)

    _, figures, words = shown(instance, DRIFT)
    assert (figures["looked_at"], len(reads(sandbox))) == (2, 2)
    assert "budget left no call for more" in words

    integration.set("engine_calls", daily_budget=1000)
    for _ in range(2):
        verify(integration)
    assert len(reads(sandbox)) == 3


def test_no_sample_costs_nothing(sandbox: Sandbox, integration: Integration, synced: list[str]) -> None:
    integration.set("checks", drift_sample=0)
    assert verify(integration).success
    assert reads(sandbox) == []


def test_sync_never_looks_at_the_daily_checks(sandbox: Sandbox, integration: Integration, synced: list[str]) -> None:
    integration.sync()
    assert reads(sandbox) == []


# --- whether Dynamics is followed -----------------------------------------------------------------------------------


def test_changes_that_nobody_read_for_long_are_told_without_a_run(
    sandbox: Sandbox, integration: Integration, instance: dg.DagsterInstance, synced: list[str]
) -> None:
    integration.change_staging("update main.pulled set caught_up_at = caught_up_at - interval 2 hour")
    verify(integration)
    assert shown(instance, FRESH)[0], "nothing changed in these two hours"

    sandbox.dataverse.update("contact", synced[0], {"firstname": "Augusta"})
    verify(integration)

    passed, figures, words = shown(instance, FRESH)
    assert (passed, figures["changes_wait"]) == (False, 1)
    assert "2 hours ago" in words
    integration.sync()
    verify(integration)
    assert shown(instance, FRESH)[0]


def test_token_age_goes_by_what_the_organisation_says(
    sandbox: Sandbox, integration: Integration, instance: dg.DagsterInstance, synced: list[str]
) -> None:
    integration.change_staging("update main.pulled set caught_up_at = caught_up_at - interval 5 day")
    sandbox.settings.delta_token_days = 6
    verify(integration)
    passed, figures, words = shown(instance, TOKEN)
    assert (passed, figures["days"]) == (False, 6)
    assert "A sync renews it" in words

    sandbox.add_fault(system="dataverse", method="GET", path="organizations", times=1, status=403, body="")
    verify(integration)
    assert shown(instance, TOKEN)[1]["days"] == 7, "where our user may not ask"

    integration.set("checks", token_days=30)
    verify(integration)
    assert shown(instance, TOKEN)[0]


# --- what a run finds ------------------------------------------------------------------------------------------------


def test_jump_of_volume_is_told_with_keys_of_what_came(
    sandbox: Sandbox, integration: Integration, instance: dg.DagsterInstance
) -> None:
    integration.set("checks", volume_records=0)
    sandbox.seed(contacts=4)
    integration.sync()
    assert of_asset(instance, "dynamics/contact", "volume")[0]
    came = sandbox.seed(contacts=4, seed=2)

    assert integration.run("sync").success, "it warns, and stops nothing"

    passed, figures, _ = of_asset(instance, "dynamics/contact", "volume")
    assert (passed, figures["records"], figures["usual"], figures["change"]) == (False, 8, 4, 1.0)
    assert set(figures["sample_keys"]) == set(came)


def test_values_that_do_not_convert_and_texts_that_do_not_fit_are_told_by_field(
    sandbox: Sandbox, integration: Integration, instance: dg.DagsterInstance
) -> None:
    fields = [{"source": "address1_postalcode", "target": "birthDate"}, {"source": "firstname", "target": "firstName"}]
    integration.tables = [contact_mapping(fields=fields)]
    bad = sandbox.dataverse.create("contact", {"address1_postalcode": "SW1A", "firstname": "Marker"})
    long = sandbox.dataverse.create("contact", {"firstname": "A" * 40})
    integration.sync()

    passed, figures, words = of_asset(instance, "change_set/contact", "values_convert")
    assert (passed, figures) == (False, {"values": 1, "birthDate": 1, "sample_keys": [bad]})
    assert "SW1A" not in words
    passed, figures, _ = of_asset(instance, "change_set/contact", "texts_fit")
    assert (passed, figures) == (False, {"values": 1, "firstName": 1, "sample_keys": [long]})
    passed, figures, _ = of_asset(instance, "campaign/profile", "none_refused")
    assert (passed, figures["refused"], set(figures["sample_keys"])) == (False, 2, {bad, long})


def test_orphans_and_what_waits_are_told_with_since_when(
    sandbox: Sandbox, integration: Integration, instance: dg.DagsterInstance
) -> None:
    """A purchase of a contact that Campaign refuses waits; one of a contact that Dynamics doesn't have is an orphan."""
    integration.tables = [contact_mapping(), purchase_mapping()]
    refused = sandbox.dataverse.create("contact", {"firstname": "A" * 40})
    waits = sandbox.dataverse.create("new_purchase", {"new_name": "Desk", "new_contactid": refused})
    integration.sync()
    assert of_asset(instance, "campaign/cusPurchase", "no_orphans")[0]
    assert of_asset(instance, "campaign/cusPurchase", "none_waits_long")[0]
    integration.change_staging("update new_purchase.waiting set since = since - interval 30 hour")
    integration.change_staging(f"delete from contact.snapshot where contactid = '{refused}'")

    integration.sync()

    passed, figures, _ = of_asset(instance, "campaign/cusPurchase", "no_orphans")
    assert (passed, figures["orphans"], figures["sample_keys"]) == (False, 1, [waits])
    passed, figures, _ = of_asset(instance, "campaign/cusPurchase", "none_waits_long")
    assert (passed, figures["waiting"], round(figures["oldest_hours"])) == (False, 1, 30)


def test_calls_made_are_held_against_those_predicted(
    sandbox: Sandbox, integration: Integration, instance: dg.DagsterInstance, synced: list[str]
) -> None:
    passed, figures, _ = of_asset(instance, "campaign/profile", "calls_as_predicted")
    assert (passed, figures) == (True, {"predicted": 4, "made": 4})
