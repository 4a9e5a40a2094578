"""What a mapping says of each field and record, end to end: updates, labels, lengths, filters, adoption."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from d365_campaign.mapping import TableMapping
from d365_campaign.sandbox import Sandbox
from tests.integration import SYNC, Integration
from tests.mappings import contact_mapping

NAME = {"source": "lastname", "target": "lastName"}


def mapped(*fields: Mapping[str, Any], **rules: Any) -> Sequence[TableMapping]:
    """Contacts with a last name and *fields*."""
    return [contact_mapping(fields=[NAME, *fields], **rules)]


def profile(sandbox: Sandbox, key: str) -> dict[str, Any]:
    found = sandbox.campaign.find("profile", "externalId", key)
    assert found is not None
    return found


def sent(sandbox: Sandbox, method: str) -> list[list[str]]:
    """The fields that each request of this method named."""
    return [sorted(call.fields) for call in sandbox.calls("campaign") if call.method == method]


def new_contact(sandbox: Sandbox, **values: Any) -> str:
    return str(sandbox.dataverse.create("contact", {"lastname": "Lovelace", **values}))


# --- fields ----------------------------------------------------------------------------------------------------------


def test_field_without_apply_updates_is_sent_with_the_first_load_only(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R83, A21: it is in the POST, not in a later PATCH; and a change of nothing else costs no call."""
    integration.tables = mapped({"source": "jobtitle", "target": "cusJobTitle", "apply_updates": False})
    key = new_contact(sandbox, jobtitle="Countess")
    integration.sync()
    assert profile(sandbox, key)["cusJobTitle"] == "Countess"
    later = new_contact(sandbox, jobtitle="Analyst")
    sandbox.clear_calls()

    sandbox.dataverse.update("contact", key, {"jobtitle": "Engineer"})
    assert integration.sync()["engine_calls"] == 1, "the insert of the other"
    assert profile(sandbox, later)["cusJobTitle"] == "Analyst", "its own first load"

    sandbox.dataverse.update("contact", key, {"lastname": "King"})
    assert integration.sync()["updated"] == 1
    assert sent(sandbox, "PATCH") == [["lastName"]]
    assert profile(sandbox, key)["cusJobTitle"] == "Countess"


def test_replay_sends_such_a_field_again(sandbox: Sandbox, integration: Integration) -> None:
    """R83, R87."""
    integration.tables = mapped({"source": "jobtitle", "target": "cusJobTitle", "apply_updates": False})
    key = new_contact(sandbox, jobtitle="Countess")
    integration.sync()
    sandbox.dataverse.update("contact", key, {"jobtitle": "Engineer"})
    integration.sync()
    integration.change_staging("update main.table_mapping set replay_requested = 'differences'")
    assert integration.sync()["updated"] == 1
    assert profile(sandbox, key)["cusJobTitle"] == "Engineer"
    assert integration.sync()["engine_calls"] == 0


def test_nested_field_is_sent_within_its_sub_object(sandbox: Sandbox, integration: Integration) -> None:
    """R81."""
    integration.tables = mapped({"source": "address1_city", "target": "location.city"})
    new_contact(sandbox, address1_city="London")
    integration.sync()
    assert sent(sandbox, "POST") == [["externalId", "lastName", "location.city"]]


def test_key_is_never_part_of_a_patch(sandbox: Sandbox, integration: Integration) -> None:
    """R113."""
    key = new_contact(sandbox)
    integration.sync()
    sandbox.dataverse.update("contact", key, {"lastname": "King"})
    integration.sync()
    assert sent(sandbox, "PATCH") == [["lastName"]]


@pytest.mark.parametrize(("picklist", "expected"), [("label", "Female"), ("technical", "2")])
def test_choice_is_sent_as_its_label_or_as_its_technical_value(
    sandbox: Sandbox, integration: Integration, picklist: str, expected: str
) -> None:
    """R92: labels come from the metadata of Dynamics."""
    integration.tables = mapped({"source": "gendercode", "target": "cusJobTitle", "picklist": picklist})
    key = new_contact(sandbox, gendercode=2)
    integration.sync()
    assert profile(sandbox, key)["cusJobTitle"] == expected


def test_replacement_takes_the_label_and_the_rest_stays_as_it_is(sandbox: Sandbox, integration: Integration) -> None:
    """R84, A9: label first, then replacement; a value that is not listed is untouched, on insert and on update."""
    gender = {
        "source": "gendercode",
        "target": "gender",
        "replacements": [{"existing": "Female", "new": "female"}, {"existing": "Male", "new": "male"}],
    }
    job = {"source": "jobtitle", "target": "cusJobTitle", "replacements": [{"existing": "#00FF00", "new": "green"}]}
    integration.tables = mapped(gender, job)
    key, other = new_contact(sandbox, gendercode=2, jobtitle="#00FF00"), new_contact(sandbox, jobtitle="#0000FF")
    integration.sync()
    assert (profile(sandbox, key)["gender"], profile(sandbox, key)["cusJobTitle"]) == ("female", "green")
    assert profile(sandbox, other)["cusJobTitle"] == "#0000FF"

    sandbox.dataverse.update("contact", key, {"gendercode": 1})
    integration.sync()
    assert profile(sandbox, key)["gender"] == "male"


def test_too_long_text_holds_its_record_back_before_any_call(sandbox: Sandbox, integration: Integration) -> None:
    """A14: the record is refused and counted, the others go on; corrected in Dynamics it goes out by itself."""
    integration.tables = mapped({"source": "firstname", "target": "firstName"})
    key, other = new_contact(sandbox, firstname="x" * 31), new_contact(sandbox, firstname="y" * 30)
    done = integration.sync()
    assert (done["inserted"], done["refused"], done["engine_calls"]) == (1, 1, 1)
    assert done["refused_sample"] == {key: "firstName is longer than 30 characters"}
    assert profile(sandbox, other)

    sandbox.dataverse.update("contact", key, {"firstname": "Ada"})
    done = integration.sync()
    assert (done["inserted"], done["refused"]) == (1, 0)


def test_too_long_text_is_cut_where_the_mapping_says_so(sandbox: Sandbox, integration: Integration) -> None:
    """A14."""
    integration.tables = mapped({"source": "firstname", "target": "firstName", "too_long": "truncate"})
    key = new_contact(sandbox, firstname="X" + "x" * 49)
    integration.sync()
    assert profile(sandbox, key)["firstName"] == "X" + "x" * 29
    sandbox.clear_calls()
    assert integration.sync()["engine_calls"] == 0


def test_value_that_can_not_be_converted_holds_back_its_record_alone(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R59: bad data never stops a table."""
    integration.tables = mapped({"source": "jobtitle", "target": "cusNumberOfChildren"})
    bad, good = new_contact(sandbox, jobtitle="three"), new_contact(sandbox, jobtitle="3")
    done = integration.sync()
    assert (done["inserted"], done["refused"]) == (1, 1)
    assert done["refused_sample"] == {bad: "cusNumberOfChildren can't become an integer"}
    assert profile(sandbox, good)["cusNumberOfChildren"] == 3


def test_advanced_types_are_passed_through_as_the_text_dynamics_sent(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R60: lookup, money, multi-select and unique identifier."""
    account = sandbox.dataverse.create("account", {"name": "Analytical Engines"})
    integration.tables = mapped(
        {"source": "parentcustomerid", "target": "cusAccountId"},
        {"source": "creditlimit", "target": "cusJobTitle"},
    )
    key = new_contact(sandbox, parentcustomerid=account, creditlimit=1250.5)
    integration.sync()
    assert profile(sandbox, key)["cusAccountId"] == account
    told = sandbox.dataverse.rows("contact")[0]["creditlimit"]
    assert profile(sandbox, key)["cusJobTitle"] == str(told)


def test_cleared_field_is_sent_as_empty(sandbox: Sandbox, integration: Integration) -> None:
    """A19."""
    integration.tables = mapped({"source": "firstname", "target": "firstName"})
    key = new_contact(sandbox, firstname="Ada")
    integration.sync()
    sandbox.dataverse.update("contact", key, {"firstname": None})
    integration.sync()
    assert sent(sandbox, "PATCH") == [["firstName"]]
    assert profile(sandbox, key)["firstName"] == ""


def test_constant_is_sent_with_the_insert_and_never_again(sandbox: Sandbox, integration: Integration) -> None:
    """R120."""
    integration.tables = mapped(on_create={"timeZone": "Europe_London"})
    key = new_contact(sandbox)
    integration.sync()
    assert profile(sandbox, key)["timeZone"] == "Europe_London"
    sandbox.dataverse.update("contact", key, {"lastname": "King"})
    integration.sync()
    assert sent(sandbox, "PATCH") == [["lastName"]]


def test_new_profiles_belong_to_the_unit_that_the_mapping_names(sandbox: Sandbox, integration: Integration) -> None:
    """R120: without one, a profile may be invisible. It is looked up once in a run, and never for an update."""
    state = sandbox.campaign
    state.create("orgUnitBase", {"name": "emea", "label": "EMEA"})
    integration.tables = mapped(on_create={"orgUnit": "emea"})
    keys = [new_contact(sandbox, firstname=name) for name in ("Ada", "Grace")]
    assert integration.sync()["engine_calls"] == 3
    for key in keys:
        record = state.by_key(state.resource("profile"), key)
        unit = record and state.held("orgUnit", record)
        assert unit
        assert unit.values["label"] == "EMEA"
    sandbox.clear_calls()
    sandbox.dataverse.update("contact", keys[0], {"lastname": "King"})
    integration.sync()
    assert sent(sandbox, "PATCH") == [["lastName"]]
    assert not [call for call in sandbox.calls("campaign") if "orgUnitBase" in call.path]


def test_a_unit_that_is_not_there_stops_the_table_before_its_first_insert(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R120."""
    integration.tables = mapped(on_create={"orgUnit": "emea"})
    key = new_contact(sandbox)
    report = integration.run(SYNC)
    assert not report.success
    assert "Campaign shows no orgUnit 'emea'; there are: all. Correct on_create" in str(report.errors)
    assert sandbox.campaign.find("profile", "externalId", key) is None


# --- filters ---------------------------------------------------------------------------------------------------------


def active_only(**rules: Any) -> Sequence[TableMapping]:
    condition = {"source": "statecode", "comparison": "equals", "value": 0}
    return mapped(filter={"conditions": [condition]}, **rules)


INACTIVE, ACTIVE = {"statecode": 1, "statuscode": 2}, {"statecode": 0, "statuscode": 1}


def test_filtered_out_record_is_not_sent_and_its_filter_column_never_is(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R70, R85: the column that the filter looks at need not be mapped; it is read, and not sent."""
    integration.tables = active_only()
    new_contact(sandbox, **INACTIVE)
    new_contact(sandbox)
    done = integration.sync()
    assert (done["inserted"], len(sandbox.campaign.records("profile"))) == (1, 1)
    assert sent(sandbox, "POST") == [["externalId", "lastName"]]


@pytest.mark.parametrize("delete_filtered_out", [True, False])
@pytest.mark.parametrize("apply_deletes", [True, False])
def test_filtered_out_and_deleted_records_are_deleted_each_by_its_own_switch(
    sandbox: Sandbox, integration: Integration, delete_filtered_out: bool, apply_deletes: bool
) -> None:
    """R86, R91, A18."""
    integration.tables = active_only(delete_filtered_out=delete_filtered_out, apply_deletes=apply_deletes)
    filtered, deleted = new_contact(sandbox), new_contact(sandbox)
    integration.sync()
    sandbox.dataverse.update("contact", filtered, INACTIVE)
    sandbox.dataverse.delete("contact", deleted)
    assert integration.sync()["deleted"] == delete_filtered_out + apply_deletes
    assert (sandbox.campaign.find("profile", "externalId", filtered) is None) == delete_filtered_out
    assert (sandbox.campaign.find("profile", "externalId", deleted) is None) == apply_deletes


def test_record_that_never_passed_and_is_unknown_gets_no_call(sandbox: Sandbox, integration: Integration) -> None:
    """R86."""
    integration.tables = active_only(delete_filtered_out=True)
    key = new_contact(sandbox, **INACTIVE)
    integration.sync()
    sandbox.dataverse.update("contact", key, {"lastname": "King"})
    assert integration.sync()["engine_calls"] == 0
    assert not [call for call in sandbox.calls("campaign") if call.method in ("POST", "PATCH", "DELETE")]


def test_record_that_enters_the_filter_again_is_an_insert(sandbox: Sandbox, integration: Integration) -> None:
    """A20."""
    integration.tables = active_only(delete_filtered_out=True)
    key = new_contact(sandbox)
    integration.sync()
    sandbox.dataverse.update("contact", key, INACTIVE)
    assert integration.sync()["deleted"] == 1
    sandbox.dataverse.update("contact", key, ACTIVE)
    assert integration.sync()["inserted"] == 1


# --- what Campaign held before ----------------------------------------------------------------------------------------


def test_record_that_was_there_is_adopted_by_its_key_and_every_other_left_as_it_is(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R33, R34, R36, A1: the scan reads pages; what is in step already costs nothing."""
    integration.tables = mapped({"source": "emailaddress1", "target": "email"})
    same, other = (new_contact(sandbox, emailaddress1=f"{name}@example.com") for name in ("same", "other"))
    sandbox.campaign.create(
        "profile", {"externalId": same, "lastName": "Lovelace", "email": "same@example.com", "cusVip": True}
    )
    sandbox.campaign.create("profile", {"externalId": other, "lastName": "Byron", "email": "other@example.com"})
    sandbox.campaign.create("profile", {"lastName": "Stranger", "email": "same@example.com"})
    strangers = [p for p in sandbox.campaign.records("profile") if not p["externalId"]]
    planned = integration.plan()
    assert (planned["to_adopt"], planned["to_insert"], planned["unchanged"]) == (1, 0, 1)
    assert (planned["scanned"], planned["scan_calls"], planned["engine_calls"]) == (2, 1, 2)

    done = integration.sync()
    assert (done["updated"], done["engine_calls"]) == (1, 2)
    assert profile(sandbox, other)["lastName"] == "Lovelace"
    assert profile(sandbox, same)["cusVip"] is True
    assert [p for p in sandbox.campaign.records("profile") if not p["externalId"]] == strangers
    assert len(sandbox.campaign.records("profile")) == 3


def test_record_that_was_there_is_left_alone_where_adoption_is_switched_off(
    sandbox: Sandbox, integration: Integration
) -> None:
    """A1."""
    integration.tables = mapped(adopt_existing="never")
    key = new_contact(sandbox)
    sandbox.campaign.create("profile", {"externalId": key, "lastName": "Byron"})
    assert integration.sync()["engine_calls"] == 0
    assert profile(sandbox, key)["lastName"] == "Byron"


def test_field_that_is_mapped_later_is_compared_with_what_campaign_holds(
    sandbox: Sandbox, integration: Integration
) -> None:
    """A mapping that changed is handled as plain differences; an empty value in Dynamics is one too."""
    integration.tables = mapped()
    key, same = new_contact(sandbox), new_contact(sandbox, jobtitle="Analyst")
    integration.sync()
    for name, held in ((key, "Typed by hand"), (same, "Analyst")):
        sandbox.campaign.update("profile", name, {"cusJobTitle": held})
    integration.tables = mapped({"source": "jobtitle", "target": "cusJobTitle"})
    done = integration.sync()
    assert (done["updated"], done["engine_calls"]) == (1, 2)
    assert profile(sandbox, key)["cusJobTitle"] == ""
