"""Campaign over real sockets: metadata, records by our own key, lists, and refusals."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import polars as pl
import pytest

from d365_campaign.changes import FoundRecord
from d365_campaign.clients.campaign import CampaignClient, CampaignTarget
from d365_campaign.errors import ConfigurationError, ForeignOrigin, RecordRejected, RetriableError, UnknownOutcome
from d365_campaign.sandbox import Attribute, ResourceDefinition, Sandbox
from d365_campaign.sandbox.campaign_schema import PURCHASE, Cardinality
from d365_campaign.schemas import ResourceLink, TargetResource


def profiles(connect: Any, **changes: Any) -> CampaignTarget:
    client = connect.campaign(**changes)
    target: CampaignTarget = client.target(client.describe("profile"), "externalId")
    return target


def stored(sandbox: Sandbox, key: str) -> dict[str, Any]:
    found = sandbox.campaign.find("profile", "externalId", key)
    assert found is not None
    return found


def found_by(target: CampaignTarget, key: str) -> FoundRecord:
    found = target.read(key)
    assert found is not None
    return found


# --- metadata


def test_a_profile_is_described_by_its_metadata(connect: Any) -> None:
    profile = connect.campaign().describe("profile")

    assert profile.endpoint == "profileAndServicesExt"
    assert (profile.fields["email"].type, profile.fields["email"].length) == ("string", 128)
    assert profile.fields["email"].data_policy == "email"
    assert profile.fields["age"].read_only
    assert profile.fields["gender"].type == "string"
    assert profile.fields["birthDate"].type == "date"
    assert profile.fields["cusNumberOfChildren"].type == "integer"
    assert profile.fields["location.city"].type == "string"
    assert "PKey" not in profile.fields
    assert "subscriptions" not in profile.fields


@pytest.mark.parametrize(
    ("name", "endpoint"), [("cusPurchase", "profileAndServicesExt"), ("cusStore", "customResources")]
)
def test_a_custom_resource_is_found_on_its_own_endpoint(connect: Any, name: str, endpoint: str) -> None:
    resource = connect.campaign().describe(name)

    assert resource.endpoint == endpoint
    assert resource.fields["cusD365id"].length == 36


@pytest.mark.parametrize(("cardinality", "cascades"), [("1", True), ("0..1", False)])
def test_links_tell_what_a_missing_and_a_deleted_parent_do(
    sandbox: Sandbox, connect: Any, cardinality: Cardinality, cascades: bool
) -> None:
    link = replace(PURCHASE.links[0], cardinality=cardinality, cascade_delete=cascades)
    sandbox.campaign.register(replace(PURCHASE, links=(link,)))

    purchase = connect.campaign().describe("cusPurchase")

    expected = ResourceLink("cusProfileLink", "profile", "cusContactId", cardinality, cascades)
    assert list(purchase.links) == [expected]


@pytest.mark.parametrize(("declared", "keys"), [(True, ("externalId",)), (False, ())])
def test_metadata_tells_which_keys_are_unique(
    sandbox: Sandbox, connect: Any, declared: bool, keys: tuple[str, ...]
) -> None:
    sandbox.settings.update({"external_id_unique": declared})

    assert connect.campaign().describe("profile").unique_keys == keys


def test_an_integer_field_knows_its_bounds(connect: Any) -> None:
    profile = connect.campaign().describe("profile")

    assert profile.fields["cusNumberOfChildren"].bounds == (-(2**31), 2**31 - 1)
    assert profile.fields["cusCreditLimit"].bounds is None


@pytest.mark.parametrize("error_format", ["text", "json_string"])
def test_an_unpublished_resource_says_what_to_publish(sandbox: Sandbox, connect: Any, error_format: str) -> None:
    sandbox.settings.update({"error_format": error_format})

    with pytest.raises(ConfigurationError, match="'cusNowhere' isn't published"):
        connect.campaign().describe("cusNowhere")


def test_a_wrong_instance_is_told_apart_from_an_unpublished_resource(sandbox: Sandbox, connect: Any) -> None:
    nowhere = connect.endpoints["campaign_instance"].replace("/sandbox", "/nowhere")

    for behaviour in ("403023", "500"):
        sandbox.settings.update({"unknown_tenant": behaviour})
        with pytest.raises(ConfigurationError, match=r"campaign\.url"):
            connect.campaign(url=nowhere).describe("profile")


def test_a_wrong_api_key_names_its_setting(connect: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"campaign\.client_id"):
        connect.campaign(api_key="wrong").describe("profile")


# --- records


def test_a_record_is_created_with_its_key_and_nested_fields(sandbox: Sandbox, connect: Any) -> None:
    profiles(connect).create(
        "key-1", {"email": "ada@x.org", "location.city": "Paris", "birthDate": None, "cusVip": True}
    )

    record = stored(sandbox, "key-1")
    assert (record["email"], record["location"]["city"], record["cusVip"]) == ("ada@x.org", "Paris", True)


@pytest.mark.parametrize("href_in_single_reads", [True, False])
def test_a_record_is_read_changed_and_deleted_by_our_key(
    sandbox: Sandbox, connect: Any, href_in_single_reads: bool
) -> None:
    sandbox.settings.update({"href_in_single_reads": href_in_single_reads})
    target = profiles(connect)
    target.create("key-1", {"email": "ada@x.org", "location.city": "Paris", "phone": "1"})

    found = found_by(target, "key-1")
    target.update("key-1", found, {"location.zipCode": "75001", "phone": ""})

    assert (found.values["email"], found.values["location.city"]) == ("ada@x.org", "Paris")
    record = stored(sandbox, "key-1")
    assert record["location"]["city"] == "Paris"
    assert (record["location"]["zipCode"], record["phone"]) == ("75001", "")
    target.delete("key-1")
    assert target.read("key-1") is None
    assert sandbox.campaign.records("profile") == []


@pytest.mark.parametrize("error_format", ["text", "json_string"])
def test_what_is_not_there_reads_as_none_and_is_not_deleted(sandbox: Sandbox, connect: Any, error_format: str) -> None:
    sandbox.settings.update({"error_format": error_format})
    target = profiles(connect)
    target.create("key-1", {"email": "ada@x.org"})

    assert [target.delete("key-1"), target.delete("key-1")] == [True, False]
    assert target.read("key-1") is None


def test_a_hidden_record_is_neither_read_nor_deleted(sandbox: Sandbox, connect: Any) -> None:
    sandbox.campaign.register(replace(PURCHASE, links=(replace(PURCHASE.links[0], cardinality="1"),)))
    client = connect.campaign()
    target = client.target(client.describe("cusPurchase"), "cusD365id")
    target.create("p1", {"cusContactId": "nobody yet"})

    assert target.read("p1") is None
    assert not target.delete("p1")
    assert len(sandbox.campaign.records("cusPurchase")) == 1


def test_a_delete_that_is_refused_is_no_missing_record(sandbox: Sandbox, connect: Any) -> None:
    target = profiles(connect)
    sandbox.add_fault(system="campaign", method="DELETE", status=404, body="<html>a proxy's own page</html>")

    with pytest.raises(ConfigurationError):
        target.delete("key-1")


@pytest.mark.parametrize("status", [200, 204])
def test_custom_resources_are_written_the_same_way(sandbox: Sandbox, connect: Any, status: int) -> None:
    sandbox.settings.update({"custom_resource_delete_status": status})
    client = connect.campaign()
    target = client.target(client.describe("cusStore"), "cusD365id")

    target.create("s1", {"cusName": "Main", "cusArea": 12.5})
    target.update("s1", found_by(target, "s1"), {"cusName": "Side"})
    found = found_by(target, "s1")
    assert target.delete("s1")

    assert (found.values["cusName"], found.values["cusArea"]) == ("Side", 12.5)
    assert target.read("s1") is None


@pytest.mark.parametrize("key", ["a b?c#d", "ä@ö", "100%", "a+b&c", "'quoted'", "..a"])
def test_any_key_can_stand_in_the_address(connect: Any, key: str) -> None:
    target = profiles(connect)

    target.create(key, {"email": "x@x.org"})

    assert found_by(target, key).values["externalId"] == key
    target.delete(key)
    assert target.read(key) is None


@pytest.mark.parametrize("key", ["", " ", ".", "..", "/"])
def test_a_key_that_would_name_the_whole_collection_is_refused(sandbox: Sandbox, connect: Any, key: str) -> None:
    target = profiles(connect)
    sandbox.clear_calls()

    with pytest.raises(RecordRejected):
        target.delete(key)
    assert sandbox.calls("campaign") == []


def test_every_method_is_one_engine_call(sandbox: Sandbox, connect: Any) -> None:
    target = profiles(connect)
    sandbox.clear_calls()

    target.create("key-1", {"email": "a@x.org"})
    target.update("key-1", found_by(target, "key-1"), {"email": "b@x.org"})
    target.delete("key-1")

    assert sandbox.engine_calls() == {"insert": 1, "update_read": 1, "update": 1, "delete": 1, "total": 4}


def test_r111_a_found_record_shows_neither_values_nor_pkey(connect: Any) -> None:
    target = profiles(connect)
    target.create("key-1", {"email": "ada@x.org"})

    found = found_by(target, "key-1")

    assert repr(found) == "FoundRecord()"
    assert not any(isinstance(value, str) and value.startswith("@") for value in found.values.values())


def test_r112_records_are_written_where_campaign_says_not_where_we_guess(sandbox: Sandbox, connect: Any) -> None:
    sandbox.settings.update({"random_hrefs": True})
    target = profiles(connect)
    target.create("key-1", {"email": "a@x.org"})

    target.update("key-1", found_by(target, "key-1"), {"email": "b@x.org"})

    assert stored(sandbox, "key-1")["email"] == "b@x.org"
    assert "/~" in sandbox.calls("campaign")[-1].path


def test_r113_the_key_is_never_part_of_an_update(sandbox: Sandbox, connect: Any) -> None:
    target = profiles(connect)
    target.create("key-1", {"email": "a@x.org"})

    target.update("key-1", found_by(target, "key-1"), {"externalId": "key-2", "email": "b@x.org"})

    assert stored(sandbox, "key-1")["email"] == "b@x.org"
    assert sandbox.campaign.find("profile", "externalId", "key-2") is None


# --- lists


def listed(target: CampaignTarget, fields: Sequence[str] = ()) -> pl.DataFrame:
    return pl.concat(target.records(fields))


@pytest.mark.parametrize("fields", [(), ("email", "location.city")], ids=["keys alone", "with fields"])
def test_r115_every_record_with_a_key_is_listed_even_of_a_big_table(
    sandbox: Sandbox, connect: Any, fields: Sequence[str]
) -> None:
    sandbox.settings.update({"big_table_threshold": 100})
    keys = [f"k{number:05}" for number in range(2500)]
    for key in keys:
        sandbox.campaign.create("profile", {"externalId": key})
    sandbox.campaign.create("profile", {"email": "nobody@x.org"})
    target = profiles(connect)
    sandbox.clear_calls()

    pages = list(target.records(fields))

    assert sorted(pl.concat(pages)["_key"]) == keys
    assert [page.columns for page in pages] == [["_key", *fields]] * 3
    assert len(sandbox.calls("campaign")) == 3


def test_listed_values_are_text_and_empty_ones_are_null(sandbox: Sandbox, connect: Any) -> None:
    sandbox.settings.update({"random_hrefs": True})
    values = {
        "email": 'a"b\\c@x.org',
        "location.city": "Kjøbenhavn",
        "cusVip": True,
        "cusCreditLimit": 12.5,
        "cusNumberOfChildren": 3,
        "cusModifiedInD365": "2026-05-01 08:00:00.000Z",
        "birthDate": "1815-12-10",
        "firstName": "",
    }
    target = profiles(connect)
    target.create("key-1", values)
    target.create("key-2", {})

    rows = listed(target, list(values)).sort("_key").to_dicts()

    told = {name: str(value) for name, value in values.items()}
    assert rows[0] == {"_key": "key-1", **told, "cusVip": "true", "firstName": None}
    blank = {"cusVip": "false", "cusCreditLimit": "0", "cusNumberOfChildren": "0"}
    assert rows[1] == {"_key": "key-2", **dict.fromkeys(values), **blank}


def test_lists_are_read_along_random_links(sandbox: Sandbox, connect: Any) -> None:
    sandbox.settings.update({"random_hrefs": True})
    for number in range(1200):
        sandbox.campaign.create("profile", {"externalId": f"k{number}"})

    assert listed(profiles(connect)).height == 1200


@pytest.mark.parametrize("fields", [(), ("location.city",)])
def test_an_empty_resource_is_a_page_without_rows(connect: Any, fields: Sequence[str]) -> None:
    [page] = profiles(connect).records(fields)

    assert page.schema == dict.fromkeys(("_key", *fields), pl.String)
    assert page.is_empty()


def test_a_list_that_leads_in_a_circle_comes_to_an_end(sandbox: Sandbox, connect: Any) -> None:
    target = profiles(connect)
    circle = sandbox.endpoints["campaign"] + "/profileAndServicesExt/profile/externalId?_lineCount=1000"
    body = {"content": ["k1"], "next": {"href": circle}}
    sandbox.add_fault(system="campaign", path="externalId", times=9, status=200, body=body)

    with pytest.raises(RetriableError, match="next link a second time"):
        list(target.records(()))


@pytest.mark.parametrize("fields", [(), ("email",)])
@pytest.mark.parametrize("fault", [{"truncate": 60}, {"replace": [r"(?s).{9}$", ""]}, {"status": 503}], ids=str)
def test_a_page_that_was_cut_is_read_again(
    sandbox: Sandbox, connect: Any, fields: Sequence[str], fault: dict[str, Any]
) -> None:
    sandbox.campaign.create("profile", {"externalId": "k1"})
    target = profiles(connect)
    sandbox.add_fault(system="campaign", path="profileAndServicesExt/profile", times=2, **fault)

    assert listed(target, fields)["_key"].to_list() == ["k1"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        pytest.param({}, RetriableError, id="no list"),
        pytest.param([], RetriableError, id="no object"),
        pytest.param({"content": [{"PKey": "@secret"}]}, ConfigurationError, id="objects instead of values"),
    ],
)
def test_a_list_in_another_shape_is_not_taken_for_an_empty_one(
    sandbox: Sandbox, connect: Any, body: object, kind: type[Exception]
) -> None:
    target = profiles(connect)
    sandbox.add_fault(system="campaign", path="externalId", times=9, status=200, body=str(body).replace("'", '"'))

    with pytest.raises(kind, match="records of profile") as caught:
        list(target.records(()))
    assert "secret" not in str(caught.value)


# --- units


def test_a_new_profile_belongs_to_the_unit_that_its_name_leads_to(sandbox: Sandbox, connect: Any) -> None:
    for number in range(1100):
        sandbox.campaign.create("orgUnitBase", {"name": f"unit{number}", "label": f"Unit {number}"})
    target = profiles(connect)
    sandbox.clear_calls()

    unit = target.unit("orgUnit", "unit1099")
    target.create("c1", {"lastName": "Lovelace", "orgUnit": unit})

    assert [call.method for call in sandbox.calls("campaign")] == ["GET", "GET", "POST"]
    state = sandbox.campaign
    record = state.by_key(state.resource("profile"), "c1")
    assert record is not None
    held = state.held("orgUnit", record)
    assert held is not None
    assert held.values["name"] == "unit1099"


@pytest.mark.parametrize("link", ["orgUnit", "geoUnit"])
def test_a_unit_that_campaign_does_not_show_is_named_with_those_that_it_does(connect: Any, link: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        profiles(connect).unit(link, "emea")

    assert str(caught.value).startswith(f"Campaign shows no {link} 'emea'; there are: all. Correct on_create, or let ")


@pytest.mark.parametrize("body", ["{}", "[]", '{"content": [{"name": "emea"}]}'])
def test_a_list_of_units_in_another_shape_is_no_missing_unit(sandbox: Sandbox, connect: Any, body: str) -> None:
    target = profiles(connect)
    sandbox.add_fault(system="campaign", path="orgUnitBase", times=9, status=200, body=body)

    with pytest.raises(RetriableError):
        target.unit("orgUnit", "emea")


# --- foreign links


def test_a_record_with_a_foreign_link_is_not_written(sandbox: Sandbox, connect: Any, foreign: Any) -> None:
    target = profiles(connect)
    target.create("key-1", {"email": "a@x.org"})
    pattern = r'("href":\s*")https://localhost:\d+(?=[^"]*/profile/@[^"/]*")'
    sandbox.add_fault(system="campaign", method="GET", replace=[pattern, rf"\g<1>{foreign.origin}"])

    with pytest.raises(ForeignOrigin, match="profile key-1") as caught:
        target.read("key-1")

    assert "@" not in str(caught.value)
    assert not foreign.was_visited()


def test_a_handle_that_leads_elsewhere_is_not_written_to(connect: Any, foreign: Any) -> None:
    with pytest.raises(ForeignOrigin):
        profiles(connect).update("key-1", FoundRecord({}, f"{foreign.origin}/x"), {"email": "a@x.org"})
    assert not foreign.was_visited()


def test_a_foreign_next_link_ends_the_list(sandbox: Sandbox, connect: Any, foreign: Any) -> None:
    body = {"content": ["k1"], "next": {"href": f"{foreign.origin}/next"}}
    target = profiles(connect)
    sandbox.add_fault(system="campaign", path="externalId", status=200, body=body)

    with pytest.raises(ForeignOrigin):
        list(target.records(()))
    assert not foreign.was_visited()


# --- before the first sync


def test_a_ping_proves_the_way_to_the_instance_without_an_engine_call(sandbox: Sandbox, connect: Any) -> None:
    connect.campaign().ping()

    assert [call.operation for call in sandbox.calls("campaign")] == ["metadata"]
    assert sandbox.engine_calls()["total"] == 0


def probes() -> Sequence[Callable[[CampaignClient], object]]:
    return CampaignClient.ping, CampaignClient.clock_skew_seconds


@pytest.mark.parametrize("probe", probes())
@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        pytest.param({"status": 401, "times": 2}, ConfigurationError, r"campaign\.client_id", id="401 twice"),
        pytest.param({"body": {"error_code": "403010"}}, ConfigurationError, "proxy", id="403010, token dropped"),
        pytest.param(
            {"body": {"error_code": "403023"}}, ConfigurationError, "product profile", id="403023, no profile"
        ),
        pytest.param({"status": 404, "body": "<html>"}, ConfigurationError, r"campaign\.url", id="404 of a proxy"),
        pytest.param({"status": 502, "times": 9}, RetriableError, "502", id="502, instance not set up"),
    ],
)
def test_a_refused_ping_says_what_to_change(
    sandbox: Sandbox,
    connect: Any,
    probe: Callable[[CampaignClient], object],
    fault: dict[str, Any],
    kind: type[Exception],
    words: str,
) -> None:
    sandbox.add_fault(system="campaign", **{"status": 403, **fault})

    with pytest.raises(kind, match=words):
        probe(connect.campaign())


@pytest.mark.parametrize("key", ["", "wrong"], ids=["403000, no key", "403003, wrong key"])
def test_a_ping_with_a_wrong_api_key_names_its_setting(connect: Any, key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"campaign\.client_id"):
        connect.campaign(api_key=key).ping()


@pytest.mark.parametrize("answered", ["403023", "500"])
def test_a_ping_of_an_unknown_instance_names_its_url(sandbox: Sandbox, connect: Any, answered: str) -> None:
    sandbox.settings.update({"unknown_tenant": answered})
    nowhere = connect.endpoints["campaign_instance"].replace("/sandbox", "/nowhere")

    with pytest.raises(ConfigurationError, match=r"campaign\.url"):
        connect.campaign(url=nowhere).ping()


@pytest.mark.parametrize("ahead", [-7200, 0, 600])
def test_the_instances_clock_is_compared_with_ours(sandbox: Sandbox, connect: Any, ahead: int) -> None:
    told = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
    sandbox.add_fault(system="campaign", headers={"Date": told})

    assert connect.campaign().clock_skew_seconds() == pytest.approx(ahead, abs=3)


def test_an_answer_without_a_date_tells_no_clock(sandbox: Sandbox, connect: Any) -> None:
    sandbox.add_fault(system="campaign", headers={"Date": "yesterday"})

    assert connect.campaign().clock_skew_seconds() is None


# --- refusals


@pytest.mark.parametrize("error_format", ["text", "json_string"])
def test_an_insert_that_meets_its_key_is_told_apart(sandbox: Sandbox, connect: Any, error_format: str) -> None:
    sandbox.settings.update({"error_format": error_format})
    target = profiles(connect)
    target.create("key-1", {"email": "a@x.org"})

    with pytest.raises(RecordRejected) as caught:
        target.create("key-1", {"email": "b@x.org"})

    assert caught.value.duplicate_key
    assert len(sandbox.campaign.records("profile")) == 1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        pytest.param({"gender": "secretive"}, "enumeration.*field 'gender'", id="enumeration"),
        pytest.param({"firstName": "secret" * 20}, "longer than its field", id="too long"),
        pytest.param({"cusNowhere": "secret"}, "unknown", id="unknown field"),
    ],
)
def test_a_refused_record_names_its_fields_and_no_values(connect: Any, values: dict[str, Any], words: str) -> None:
    target = profiles(connect)

    with pytest.raises(RecordRejected, match=words) as caught:
        target.create("key-1", values)

    assert "secret" not in str(caught.value)
    assert not caught.value.duplicate_key
    assert next(iter(values)) in str(caught.value)


def test_a_read_only_field_is_refused(connect: Any) -> None:
    target = profiles(connect)
    target.create("key-1", {"email": "a@x.org"})

    with pytest.raises(RecordRejected, match="read-only"):
        target.update("key-1", found_by(target, "key-1"), {"age": 7})


def test_a_record_that_went_away_between_read_and_write_is_left_open(sandbox: Sandbox, connect: Any) -> None:
    target = profiles(connect)
    target.create("key-1", {"email": "a@x.org"})
    found = found_by(target, "key-1")
    sandbox.campaign.delete("profile", "key-1")

    with pytest.raises(UnknownOutcome):
        target.update("key-1", found, {"email": "b@x.org"})


def test_refused_writes_are_sent_only_once(sandbox: Sandbox, connect: Any) -> None:
    target = profiles(connect)
    sandbox.clear_calls()

    with pytest.raises(RecordRejected):
        target.create("key-1", {"gender": "x"})
    assert len(sandbox.calls("campaign")) == 1


def test_a_resource_that_is_not_on_its_endpoint_is_no_missing_record(connect: Any) -> None:
    misplaced = TargetResource("profile", "nowhere", {})

    with pytest.raises(ConfigurationError):
        connect.campaign().target(misplaced, "externalId").read("key-1")


def test_a_key_that_may_not_stand_in_addresses_is_a_matter_of_configuration(sandbox: Sandbox, connect: Any) -> None:
    sandbox.settings.update({"custom_key_verbs": ["PATCH"]})

    with pytest.raises(ConfigurationError):
        profiles(connect).read("key-1")


def test_a_rate_limit_is_kept_to_by_many_workers(sandbox: Sandbox, connect: Any) -> None:
    target = profiles(connect)
    sandbox.settings.update({"campaign_requests_per_second": 30})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: target.create(f"k{n}", {"email": f"{n}@x.org"}), range(40)))

    assert len(sandbox.campaign.records("profile")) == 40


def test_a_new_resource_is_seen_at_once(sandbox: Sandbox, connect: Any) -> None:
    sandbox.campaign.register(ResourceDefinition("cusPet", (Attribute("cusName", length=30),), key="cusName"))

    assert connect.campaign().describe("cusPet").fields["cusName"].length == 30
