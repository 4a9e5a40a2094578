"""The rules of the integration contract that a preflight looks at, each broken in the sandbox, and its remedy in words.

Each test names the rules it shows. The command line is run as a user runs it, on the sandbox, over real sockets.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from d365_campaign.rehearsal import CONFIG_VARIABLE
from d365_campaign.sandbox import Sandbox
from d365_campaign.sandbox.campaign_schema import PROFILE, PURCHASE, Attribute, LinkDefinition
from d365_campaign.sandbox.dataverse_schema import CONTACT, Column
from tests.checking import check, write_files
from tests.integration import Integration
from tests.mappings import account_mapping, contact_mapping, purchase_mapping

ROOT = Path(__file__).parents[2]
COMMAND = str(Path(sys.executable).with_name("d365-campaign"))


@pytest.fixture
def three_tables(integration: Integration) -> Integration:
    """Accounts, contacts and purchases, linked as in the rehearsal."""
    integration.tables = [account_mapping(), contact_mapping(), purchase_mapping()]
    return integration


def only_reads(sandbox: Sandbox) -> bool:
    """Whether both systems were asked and neither was written to; a token is asked for by POST."""
    data = {call.method for system in ("dataverse", "campaign") for call in sandbox.calls(system)}
    tokens = {call.operation for system in ("entra", "ims") for call in sandbox.calls(system)}
    return data == {"GET"} and tokens == {"token"}


def test_with_everything_in_place_nothing_is_wrong(sandbox: Sandbox, three_tables: Integration) -> None:
    sandbox.seed(contacts=30, accounts=5, purchases=10)
    checked = check(three_tables)
    assert checked.faults() == []
    assert checked.exit_code == 0
    assert {found.area for found in checked.findings} == {
        "Configuration",
        "Dynamics",
        "Campaign",
        "Staging file",
        "account",
        "contact",
        "new_purchase",
        "First load",
    }


def test_a_check_only_reads_and_makes_no_staging_file(sandbox: Sandbox, three_tables: Integration) -> None:
    """R37, R63: neither data model is touched, whatever is missing in it."""
    three_tables.tables = [*three_tables.tables, contact_mapping(source="new_untracked", target="cusMissing")]
    check(three_tables, "--scan-keys")
    assert only_reads(sandbox)
    assert not list(three_tables.staging.parent.glob("staging*"))


def test_what_is_missing_in_either_system_is_listed_at_once(sandbox: Sandbox, integration: Integration) -> None:
    """R44, R55, R63: change tracking of one table, the resource of another, a column and a field of a third."""
    fields = [{"source": "nowhere", "target": "email"}, {"source": "lastname", "target": "cusNowhere"}]
    key = {"source": "new_untrackedid", "target": "cusD365id"}
    name = [{"source": "new_name", "target": "cusName"}]
    integration.tables = [
        contact_mapping(fields=fields),
        contact_mapping(source="new_untracked", target="cusStore", key=key, fields=name),
        account_mapping(target="cusMissing"),
    ]
    checked = check(integration)
    said = {(found.area, found.words): found.fix for found in checked.findings if found.verdict == "wrong"}
    assert said == {
        ("new_untracked", "Dynamics table 'new_untracked' has change tracking off."): (
            "Switch on 'Track changes' in the table's properties and publish it."
        ),
        ("account", "Campaign resource 'cusMissing' isn't published."): (
            "Check its name, publish the resource, then the API (Profiles & Services Ext)."
        ),
        ("contact", "fields[0]: Dynamics table 'contact' has no readable column 'nowhere'."): (
            "Correct the mapping, or add it to the system."
        ),
        ("contact", "fields[1]: Campaign resource 'profile' has no field 'cusNowhere'."): (
            "Check the name, and for a cus field that the Profiles & Services Ext API is published."
        ),
    }
    assert checked.exit_code == 1


def test_a_table_that_is_not_there_does_not_hide_its_resource(sandbox: Sandbox, integration: Integration) -> None:
    integration.tables = [contact_mapping(source="new_gone", target="service")]
    of_table = check(integration).of("new_gone")
    assert of_table["Dynamics table"].fix.startswith("Check the table's logical name")
    assert of_table["Campaign resource"].verdict == "fine"


def test_a_type_that_can_not_be_converted_is_named_with_both_sides(sandbox: Sandbox, integration: Integration) -> None:
    integration.tables = [contact_mapping(fields=[{"source": "donotemail", "target": "birthDate"}])]
    found = check(integration).of("contact")["mapping"]
    assert found.verdict == "wrong"
    assert "'donotemail' (boolean) can't become 'birthDate' (date)" in found.words
    assert found.fix == "Map it to a field of another type."


@pytest.mark.parametrize(
    ("setting", "fix"),
    [
        ("application_user", "Add an application user for dynamics.client_id there."),
        ("change_tracking_privilege", "Give it a security role with organization-level read on it."),
    ],
)
def test_a_right_that_is_missing_is_named(sandbox: Sandbox, integration: Integration, setting: str, fix: str) -> None:
    sandbox.settings.update({setting: False})
    checked = check(integration)
    assert [found.fix for found in checked.findings if found.verdict == "wrong"] == [fix]
    assert checked.of("Campaign")["connection"].verdict == "fine"


@pytest.mark.parametrize(
    ("system", "changes", "setting"),
    [
        ("dynamics", {"client_secret": {"env": "WRONG"}}, "Check dynamics.client_secret."),
        ("dynamics", {"client_id": "another"}, "Check dynamics.client_id (and that it belongs to this tenant)."),
        ("campaign", {"client_secret": {"env": "WRONG"}}, "Check campaign.client_secret."),
        ("campaign", {"client_id": "another"}, "Check campaign.client_id (and that it belongs to this tenant)."),
    ],
)
def test_refused_credentials_name_their_setting_and_leave_the_other_system_alone(
    sandbox: Sandbox,
    integration: Integration,
    monkeypatch: pytest.MonkeyPatch,
    system: str,
    changes: dict[str, Any],
    setting: str,
) -> None:
    """R100: reachability by system."""
    monkeypatch.setenv("WRONG", "not-the-secret")
    integration.set(system, **changes)
    checked = check(integration)
    name, other = ("Dynamics", "Campaign") if system == "dynamics" else ("Campaign", "Dynamics")
    refused = checked.of(name)["connection"]
    assert (refused.verdict, refused.fix) == ("wrong", setting)
    assert refused.words.startswith("unable to connect: ")
    assert "not-the-secret" not in repr(checked)
    assert checked.of(other)["connection"].verdict == "fine"
    assert checked.of("contact")[f"{other} {'resource' if other == 'Campaign' else 'table'}"].verdict == "fine"
    assert checked.exit_code == 1


def test_a_wrong_tenant_of_entra_is_named(sandbox: Sandbox, integration: Integration) -> None:
    token_url = integration.settings["dynamics"]["token_url"]
    integration.set("dynamics", token_url=token_url.replace(token_url.split("/")[3], "another-tenant"))
    assert check(integration).of("Dynamics")["connection"].fix == "Check dynamics.tenant."


def test_unconfigured_credentials_are_unable_to_connect(
    sandbox: Sandbox, integration: Integration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R100, R103: the environment variables that are missing are named, and nothing else goes wrong."""
    monkeypatch.delenv("CAMPAIGN_CLIENT_SECRET")
    integration.set("campaign", client_id={"env": "CAMPAIGN_CLIENT_ID"})
    checked = check(integration)
    found = checked.of("Campaign")["connection"]
    missing = "environment variables CAMPAIGN_CLIENT_ID, CAMPAIGN_CLIENT_SECRET are not set."
    assert found.words == f"unable to connect: {missing}"
    assert found.fix == "Set them."
    assert checked.of("Dynamics")["connection"].verdict == "fine"
    assert sandbox.calls("campaign") == []


def test_the_environment_is_named(sandbox: Sandbox, integration: Integration) -> None:
    """R100: settings carry a label."""
    assert "'stage'" in check(integration, environment="stage").of("Configuration")["environment"].words


def test_nothing_is_asked_before_the_privacy_duty_is_accepted(sandbox: Sandbox, integration: Integration) -> None:
    """R99."""
    checked = check(integration, privacy={})
    [found] = checked.findings
    assert (found.area, found.verdict, checked.exit_code) == ("Configuration", "wrong", 2)
    assert "privacy requests are made by you" in found.words
    assert found.fix.startswith("Add: privacy: {acknowledged:")
    assert sandbox.calls() == []


def test_who_accepted_the_privacy_duty_is_shown(sandbox: Sandbox, integration: Integration) -> None:
    """R99."""
    assert "Jane Doe on 2026-01-01" in check(integration).of("Configuration")["privacy requests"].words


def test_an_api_key_that_is_not_accepted_names_its_setting(sandbox: Sandbox, integration: Integration) -> None:
    sandbox.add_fault(system="campaign", status=403, body={"error_code": "403003", "message": "Api Key is invalid"})
    found = check(integration).of("Campaign")["connection"]
    assert (found.verdict, found.fix) == ("wrong", "Check campaign.client_id.")


def test_a_credential_without_the_instances_product_profile_says_so(sandbox: Sandbox, integration: Integration) -> None:
    """R105: also what another instance in the address leads to."""
    integration.set("campaign", url=integration.settings["campaign"]["url"].replace("/sandbox", "/another"))
    found = check(integration).of("Campaign")["connection"]
    assert found.verdict == "wrong"
    assert "Check the instance in campaign.url" in found.fix
    assert "Administrators product profile" in found.fix


def test_custom_profile_fields_need_the_ext_api(sandbox: Sandbox, integration: Integration) -> None:
    """R105: the profile is there with its standard fields, and those of one's own are not."""
    integration.tables = [contact_mapping(fields=[{"source": "jobtitle", "target": "cusJobTitle"}])]
    sandbox.add_fault(system="campaign", path="Ext/resourceType/profile", status=404, body="RST-360000", times=9)
    found = check(integration).of("contact")["Campaign resource"]
    assert found.verdict == "wrong"
    assert "It lacks cusJobTitle." in found.words
    assert found.fix == "Publish the Profiles & Services Ext API in Campaign."


def test_standard_profile_fields_alone_only_warn_without_the_ext_api(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R105."""
    sandbox.add_fault(system="campaign", path="Ext/resourceType/profile", status=404, body="RST-360000", times=9)
    checked = check(integration)
    assert checked.of("contact")["Campaign resource"].verdict == "warning"
    assert checked.exit_code == 0


def test_the_endpoint_comes_from_the_resource_and_says_whether_it_is_linked(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R119."""
    store = {
        "source": "new_store",
        "target": "cusStore",
        "key": {"source": "new_storeid", "target": "cusD365id", "declared_unique": True},
        "fields": [{"source": "new_name", "target": "cusName"}],
    }
    integration.tables = [account_mapping(), contact_mapping(), purchase_mapping(), contact_mapping(**store)]
    checked = check(integration)
    assert "(profileAndServicesExt)" in checked.of("new_purchase")["Campaign resource"].words
    unlinked = checked.of("new_store")["Campaign resource"].words
    assert "(customResources)" in unlinked
    assert "privacy tool leaves it out" in unlinked


@pytest.mark.parametrize(("seconds", "verdict"), [(30, "fine"), (120, "warning"), (600, "wrong")])
def test_clocks_that_differ_are_told(sandbox: Sandbox, integration: Integration, seconds: float, verdict: str) -> None:
    """Opt-outs of both systems compare times; beyond five minutes, tokens don't hold either."""
    sandbox.advance_clock(seconds)
    checked = check(integration)
    assert {checked.of(system)["clock"].verdict for system in ("Dynamics", "Campaign")} == {verdict}
    assert checked.exit_code == (verdict == "wrong")
    if verdict != "fine":
        assert "ahead of this machine's" in checked.of("Dynamics")["clock"].words
        assert checked.of("Dynamics")["clock"].fix == "Let a time service set this machine's clock."


def test_a_key_that_stands_twice_is_found_on_request(sandbox: Sandbox, integration: Integration) -> None:
    """R79."""
    sandbox.settings.update({"external_id_unique": False, "big_table_threshold": 10})
    integration.tables = [contact_mapping(key={"source": "contactid", "target": "externalId"})]
    for number in range(40):
        sandbox.campaign.create("profile", {"externalId": f"key-{number}"})
    assert "keys in Campaign" not in check(integration).of("contact")
    assert check(integration, "--scan-keys").of("contact")["keys in Campaign"].verdict == "fine"
    for name in ("A", "B"):
        sandbox.campaign.create("profile", {"externalId": "twice", "firstName": name})
    found = check(integration, "--scan-keys").of("contact")["keys in Campaign"]
    assert found.verdict == "wrong"
    assert found.words.endswith("more than once, for instance twice.")
    assert found.fix == "Merge these records, or map another identification key."


def test_the_unit_of_new_profiles_is_looked_up(sandbox: Sandbox, integration: Integration) -> None:
    """R120."""
    integration.tables = [contact_mapping(on_create={"orgUnit": "emea"})]
    missing = check(integration).of("contact")["orgUnit"]
    assert (missing.verdict, missing.words) == ("wrong", "Campaign shows no orgUnit 'emea'; there are: all.")
    assert missing.fix == "Correct on_create, or let the credential's product profile see that unit."
    sandbox.campaign.create("orgUnitBase", {"name": "emea"})
    found = check(integration).of("contact")["orgUnit"]
    assert (found.verdict, found.words) == ("fine", "new records belong to 'emea' (engine calls: 1).")


def test_a_key_that_is_not_said_to_be_unique_costs_a_look_up_for_each_insert(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R79."""
    sandbox.seed(contacts=30)
    integration.tables = [contact_mapping(key={"source": "contactid", "target": "externalId"})]
    checked = check(integration)
    found = checked.of("contact")["key"]
    assert found.verdict == "warning"
    assert "2 engine calls instead of 1, 30 more in the first load" in found.words
    assert found.fix == "Set key.declared_unique: true."
    assert "60 at most" in checked.of("First load")["engine calls"].words
    assert checked.exit_code == 0


def test_a_key_that_campaign_does_not_declare_is_wrong_where_the_mapping_says_so(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R79: an insert without a look-up could double a record."""
    sandbox.settings.update({"external_id_unique": False})
    found = check(integration).of("contact")["mapping"]
    assert found.verdict == "wrong"
    assert "Campaign doesn't declare 'externalId'" in found.words
    assert found.fix == "Declare it there, or set declared_unique to false."


def test_links_of_cardinality_1_and_several_of_them_are_warned_of(sandbox: Sandbox, integration: Integration) -> None:
    """R57, R58."""
    second = Column("new_second", "Lookup", targets=("account",))
    sandbox.dataverse.register(replace(CONTACT, columns=(*CONTACT.columns, second)))
    fields = [
        {"source": "parentcustomerid", "target": "cusAccountId"},
        {"source": "new_second", "target": "cusDepartment"},
    ]
    links = [
        {"source": "parentcustomerid", "parent": "account"},
        {"source": "new_second", "parent": "account", "cardinality": "1"},
    ]
    integration.tables = [account_mapping(), contact_mapping(fields=fields, links=links)]
    checked = check(integration, guardrails={"warn_links": 2})
    said = [(found.words, found.fix) for found in checked.faults()]
    assert said == [
        (
            "table 'contact' has 2 links: several links can make Campaign slow.",
            "Keep those that segments really need.",
        ),
        (
            "link 'new_second' of table 'contact' has cardinality 1: Campaign hides a record until its parent is "
            "there.",
            "Prefer 0..1.",
        ),
        (
            "no link from 'profile' to 'cusAccount' is joined on 'cusDepartment' in Campaign: a mere value there.",
            "Add such a link and publish the resource, or remove link 'new_second'.",
        ),
    ]
    assert checked.exit_code == 0


def test_what_campaign_says_of_a_link_is_held_against_the_mapping(sandbox: Sandbox, integration: Integration) -> None:
    """R58."""
    integration.tables = [account_mapping(), contact_mapping(), purchase_mapping()]
    link = LinkDefinition("cusProfileLink", "cusContactId", "profile", "externalId", cardinality="1")
    sandbox.campaign.register(replace(PURCHASE, links=(link,)))
    found = check(integration).of("new_purchase")["links"]
    assert (found.verdict, "'cusProfileLink' has cardinality 1" in found.words) == ("warning", True)
    sandbox.campaign.register(replace(PURCHASE, links=()))
    found = check(integration).of("new_purchase")["links"]
    assert (found.verdict, "no link from 'cusPurchase' to 'profile' is joined on" in found.words) == ("warning", True)


def test_personal_data_is_to_be_linked_to_the_profile_and_deleted_with_it(
    sandbox: Sandbox, three_tables: Integration
) -> None:
    """R11, R12."""
    assert check(three_tables).of("new_purchase")["personal data"].verdict == "fine"
    link = LinkDefinition("cusProfileLink", "cusContactId", "profile", "externalId")
    sandbox.campaign.register(replace(PURCHASE, links=(link,)))
    outlives = [found for found in check(three_tables).faults() if found.subject == "personal data"]
    assert [(found.area, found.verdict) for found in outlives] == [("new_purchase", "wrong")]
    assert "'cusProfileLink' of 'cusPurchase' is not told to cascade" in outlives[0].words
    assert outlives[0].fix.startswith("Set its delete option in Campaign")


def test_personal_data_in_an_unlinked_resource_is_wrong_unless_it_is_accepted(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R12."""
    store = {
        "source": "new_store",
        "target": "cusStore",
        "key": {"source": "new_storeid", "target": "cusD365id", "declared_unique": True},
        "fields": [{"source": "new_name", "target": "cusName", "personal": True}],
    }
    integration.tables = [contact_mapping(), contact_mapping(**store)]
    checked = check(integration, "new_store")
    found = checked.of("new_store")["personal data"]
    assert (found.verdict, checked.exit_code) == ("wrong", 1)
    assert "'cusStore' holds personal data (cusName) and no link leads from it to the profile" in found.words
    assert found.fix.startswith("Link it to the profile")
    integration.tables = [contact_mapping(), contact_mapping(**store, accept_unlinked_personal_data=True)]
    checked = check(integration, "new_store")
    assert (checked.of("new_store")["personal data"].verdict, checked.exit_code) == ("warning", 0)


def test_the_way_to_the_profile_is_found_when_one_table_is_looked_at(
    sandbox: Sandbox, three_tables: Integration
) -> None:
    """R11: it leads through resources of other tables."""
    assert check(three_tables, "new_purchase").of("new_purchase")["personal data"].verdict == "fine"
    contact = three_tables.tables[1].model_copy(update={"target": "cusMissing"})
    three_tables.tables = [account_mapping(), contact, purchase_mapping()]
    found = check(three_tables, "new_purchase").of("new_purchase")["personal data"]
    assert found.verdict == "warning"
    assert "can't be told without cusMissing" in found.words


def test_a_schema_that_changed_since_the_last_run_would_stop_the_next(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R89: and the same words say so before that run."""
    sandbox.seed(contacts=5)
    integration.sync()
    assert check(integration).of("contact")["schemas"].verdict == "fine"
    attributes = tuple(Attribute(a.name, length=12) if a.name == "firstName" else a for a in PROFILE.attributes)
    sandbox.campaign.register(replace(PROFILE, attributes=attributes))
    checked = check(integration)
    found = checked.of("contact")["schemas"]
    assert found.verdict == "wrong"
    assert "profile.firstName was string(30), data policy smartCase and is string(12)" in found.words
    assert found.fix.endswith("d365-campaign accept-schema contact")
    assert checked.exit_code == 1
    assert "profile.firstName was string(30), data policy smartCase and is string(12)" in integration.fail()


def test_a_first_load_beyond_the_guardrail_would_stop(sandbox: Sandbox, three_tables: Integration) -> None:
    """R53: 45 records, of all tables together."""
    sandbox.seed(contacts=30, accounts=5, purchases=10)
    assert check(three_tables, guardrails={"max_initial_records": 45}).exit_code == 0
    checked = check(three_tables, guardrails={"max_initial_records": 44})
    found = checked.of("First load")["records"]
    assert (found.verdict, checked.exit_code) == ("wrong", 1)
    assert "45 records of all tables; allowed are 44" in found.words
    assert "guardrails.max_initial_records" in found.fix


def test_a_large_load_is_announced(sandbox: Sandbox, integration: Integration) -> None:
    """R37: it waits for a person's word, and is no fault."""
    sandbox.seed(contacts=30)
    checked = check(integration, guardrails={"large_load_records": 29})
    found = checked.of("contact")["large load"]
    assert (found.verdict, checked.exit_code) == ("warning", 0)
    assert found.fix.endswith("d365-campaign acknowledge contact --by NAME")


def test_a_plan_only_reads_and_prints_what_it_would_insert_adopt_update_and_leave(
    sandbox: Sandbox, integration: Integration, tmp_path: Path
) -> None:
    """R37: one record of each kind, then an update."""
    ada, grace, mary = (sandbox.dataverse.create("contact", {"firstname": n}) for n in ("Ada", "Grace", "Mary"))
    sandbox.dataverse.create("contact", {"firstname": "Edith"})
    sandbox.campaign.create("profile", {"externalId": ada, "firstName": "Ada"})
    sandbox.campaign.create("profile", {"externalId": grace, "firstName": "G."})
    shown = planned(integration, tmp_path)
    assert only_reads(sandbox)
    assert shown == {"to insert": 2, "to adopt": 1, "to update": 0, "unchanged": 1}
    integration.sync()
    sandbox.dataverse.update("contact", mary, {"firstname": "Maria"})
    sandbox.clear_calls()
    shown = planned(integration, tmp_path)
    assert only_reads(sandbox)
    assert shown == {"to insert": 0, "to adopt": 0, "to update": 1, "unchanged": 3}


def planned(integration: Integration, folder: Path) -> dict[str, int]:
    """Counts that `d365-campaign plan` prints."""
    shutil.copy(ROOT / "dagster.yaml", folder)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"},
        CONFIG_VARIABLE: str(write_files(integration)),
    }
    command = [COMMAND, "plan", "contact"]
    ended = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return {
        figure: int(number)
        for figure, number in re.findall(r"(to insert|to adopt|to update|unchanged)\D+(\d+)", ended.stdout)
    }
