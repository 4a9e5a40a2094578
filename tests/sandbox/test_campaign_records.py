"""Records: "Creating profiles", "Updating profiles", "Must-read" (keys), "API troubleshooting" (texts)."""

from typing import Any

import pytest

from d365_campaign.sandbox import Sandbox

from .conftest import Caller

EXT, BASIC = "/profileAndServicesExt/profile", "/profileAndServices/profile"
KEY = "60c4e274-0d87-4000-8000-000000000001"


def test_post_answers_201_with_the_whole_record_and_its_defaults(campaign: Caller) -> None:
    response = campaign("POST", EXT, json={"externalId": KEY, "firstName": "Ann", "location": {"city": "Rome"}})
    record = response.json()
    assert response.status_code == 201
    assert record["PKey"].startswith("@")
    assert 80 <= len(record["PKey"]) <= 200
    assert record["href"].endswith("/profile/" + record["PKey"])
    assert (record["gender"], record["emailFormat"], record["preferredLanguage"]) == ("unknown", "unknown", "none")
    assert (record["lastName"], record["birthDate"], record["cusCreditLimit"], record["blackList"]) == (
        "",
        "",
        0,
        False,
    )
    assert record["location"]["city"] == "Rome"
    assert record["location"]["zipCode"] == ""
    assert record["lastModified"].endswith("Z")
    assert record["lastModified"][10] == " "


def test_a_record_is_reached_by_pkey_encoded_or_not_and_by_its_custom_key(campaign: Caller) -> None:
    pkey = campaign("POST", EXT, json={"externalId": KEY}).json()["PKey"]
    for address in (pkey, pkey.replace("@", "%40"), KEY):
        assert campaign.json(f"{EXT}/{address}")["PKey"] == pkey


def test_patch_answers_pkey_and_href_and_keeps_what_it_does_not_name(campaign: Caller) -> None:
    campaign("POST", EXT, json={"externalId": KEY, "firstName": "Ann", "location": {"city": "Rome"}})
    response = campaign("PATCH", f"{EXT}/{KEY}", json={"lastName": "Bell", "location": {"zipCode": "00100"}})
    assert response.status_code == 200
    assert set(response.json()) == {"PKey", "href"}
    record = campaign.json(response.json()["href"])
    assert (record["firstName"], record["lastName"], record["title"]) == ("Ann", "Bell", "Ann Bell ()")
    assert (record["location"]["city"], record["location"]["zipCode"]) == ("Rome", "00100")


def test_null_and_empty_read_back_the_same(campaign: Caller) -> None:
    campaign("POST", EXT, json={"externalId": KEY, "firstName": None, "lastName": "", "birthDate": None})
    record = campaign.json(f"{EXT}/{KEY}")
    assert (record["firstName"], record["lastName"], record["birthDate"]) == ("", "", "")


def test_delete_leaves_delivery_logs_behind(sandbox: Sandbox, campaign: Caller) -> None:
    pkey = campaign("POST", EXT, json={"externalId": KEY}).json()["PKey"]
    sandbox.campaign.add_log(KEY)
    assert len(campaign.json(f"{EXT}/{pkey}/logs/")["content"]) == 1
    assert campaign("DELETE", f"{EXT}/{KEY}", data="{}").status_code == 200
    assert campaign.get(f"{EXT}/{KEY}").status_code == 404
    assert len(sandbox.campaign.logs(KEY)) == 1


def test_custom_fields_exist_only_on_the_extended_endpoint(campaign: Caller) -> None:
    campaign("POST", EXT, json={"externalId": KEY, "cusJobTitle": "Nurse"})
    assert campaign.json(f"{EXT}/{KEY}")["cusJobTitle"] == "Nurse"
    assert "cusJobTitle" not in campaign.json(f"{BASIC}/{KEY}")
    assert campaign("PATCH", f"{BASIC}/{KEY}", json={"cusJobTitle": "x"}).status_code == 500


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"age": 1}, "'age' property that is read-only"),
        ({"gender": "invalid"}, "The value 'invalid' is not valid for the 'nms:recipient:gender' enumeration"),
        ({"nothing": 1}, "'nothing' property is not valid for the 'profile' resource."),
        ({"firstName": "x" * 31}, "value too long for type character varying(30)"),
        ({"externalId": "other"}, "Inconsistent operation on resource 'profile' - Cannot update key"),
        ({"birthDate": "soon"}, "'soon' is not a valid constant"),
    ],
    ids=["read-only", "enumeration", "unknown", "length", "key", "date"],
)
def test_faults_of_the_data_are_500_texts(campaign: Caller, body: dict[str, Any], text: str) -> None:
    campaign("POST", EXT, json={"externalId": KEY})
    response = campaign("PATCH", f"{EXT}/{KEY}", json=body)
    assert response.status_code == 500
    assert text in response.text
    assert response.headers["Content-Type"].startswith("text/plain")


def test_a_body_that_is_not_json(campaign: Caller) -> None:
    """The SDK's end-to-end test sends the bare text `@gibberish`."""
    campaign("POST", EXT, json={"externalId": KEY})
    assert "'@gibberish' is not a valid constant" in campaign("PATCH", f"{EXT}/{KEY}", data="@gibberish").text


def test_json_is_read_whatever_the_content_type(campaign: Caller) -> None:
    headers = {"Content-Type": "text/plain;charset=UTF-8"}
    response = campaign("POST", BASIC + "/", data='{"firstName":"Ann"}', headers=headers)
    assert response.status_code == 201


@pytest.mark.parametrize(
    ("address", "status", "text"),
    [
        ("unknown-key", 404, "Unable to find document with path 'profile' from key 'unknown-key'"),
        ("@O5iRp40EGA", 500, "'O5iRp40EGA' attribute unknown (see definition of 'Profiles (nms:recipient)' schema)"),
        ("@" + "x" * 91, 404, "RST-360011"),
    ],
    ids=["key", "malformed PKey", "deleted PKey"],
)
def test_addresses_that_lead_nowhere(campaign: Caller, address: str, status: int, text: str) -> None:
    for method in ("GET", "PATCH", "DELETE"):
        response = campaign(method, f"{EXT}/{address}", json={})
        assert response.status_code == status
        assert text in response.text


def test_errors_may_come_as_json_strings(sandbox: Sandbox, campaign: Caller) -> None:
    sandbox.settings.error_format = "json_string"
    assert campaign.get(f"{EXT}/unknown").json().startswith("RST-360011")


def test_a_duplicate_key_is_refused_while_the_key_is_declared_unique(sandbox: Sandbox, campaign: Caller) -> None:
    campaign("POST", EXT, json={"externalId": KEY})
    response = campaign("POST", EXT, json={"externalId": KEY})
    assert response.status_code == 500
    assert f"A 'Profiles' with the same key '{KEY}' already exists. PGS-220000" in response.text


def test_without_a_unique_key_duplicates_are_made_and_custom_keys_fail(sandbox: Sandbox, campaign: Caller) -> None:
    sandbox.settings.external_id_unique = False
    assert [campaign("POST", EXT, json={"externalId": KEY}).status_code for _ in range(2)] == [201, 201]
    assert campaign.get(f"{EXT}/{KEY}").status_code == 404
    found = campaign.json(f"{EXT}/byExternalId", params={"externalId_parameter": KEY})
    assert len(found["content"]) == 2


@pytest.mark.parametrize("verb", ["GET", "PATCH", "DELETE"])
def test_verbs_that_take_a_custom_key_are_a_setting(sandbox: Sandbox, campaign: Caller, verb: str) -> None:
    campaign("POST", EXT, json={"externalId": KEY})
    sandbox.settings.custom_key_verbs = tuple({"GET", "PATCH", "DELETE"} - {verb})
    assert campaign(verb, f"{EXT}/{KEY}", json={}).status_code == 404
    sandbox.settings.custom_key_verbs = (verb,)
    assert campaign(verb, f"{EXT}/{KEY}", json={}).status_code == 200


@pytest.mark.parametrize(("policy", "expected"), [(True, "Mary-Ann O'Hara"), (False, "mary-ann o'HARA")])
def test_smart_case_is_a_data_policy(sandbox: Sandbox, campaign: Caller, policy: bool, expected: str) -> None:
    sandbox.settings.smart_case = policy
    assert campaign("POST", EXT, json={"firstName": "mary-ann o'HARA"}).json()["firstName"] == expected


@pytest.mark.parametrize(("policy", "expected"), [(True, "ann@example.com"), (False, "Ann@Example.com")])
def test_email_case_is_a_data_policy(sandbox: Sandbox, campaign: Caller, policy: bool, expected: str) -> None:
    sandbox.settings.email_lower_case = policy
    assert campaign("POST", EXT, json={"email": "Ann@Example.com"}).json()["email"] == expected


@pytest.mark.parametrize(("check", "status"), [(True, 500), (False, 201)])
def test_email_check_is_a_data_policy(sandbox: Sandbox, campaign: Caller, check: bool, status: int) -> None:
    sandbox.settings.email_check = check
    assert campaign("POST", EXT, json={"email": "no-at-sign"}).status_code == status


def test_over_long_text_may_be_cut_instead(sandbox: Sandbox, campaign: Caller) -> None:
    sandbox.settings.overlong_text = "truncate"
    assert campaign("POST", EXT, json={"firstName": "x" * 40}).json()["firstName"] == "x" * 30


def test_opt_outs_are_stamped_when_their_value_changes(sandbox: Sandbox, campaign: Caller) -> None:
    """ "DataModel Profile": each opt-out has its own time of last change."""
    record = campaign("POST", EXT, json={"externalId": KEY, "blackListEmail": True, "blackListFax": False}).json()
    stamp = record["blackListEmailLastModified"]
    assert stamp
    assert record["blackListFaxLastModified"] == ""
    assert record["blackListLastModified"] == ""
    sandbox.advance_clock(60)
    campaign("PATCH", f"{EXT}/{KEY}", json={"blackListEmail": True, "ccpaOptOut": True})
    record = campaign.json(f"{EXT}/{KEY}")
    assert record["blackListEmailLastModified"] == stamp < record["ccpaOptOutLastModified"]


def test_writing_false_on_create_may_stamp_too(sandbox: Sandbox, campaign: Caller) -> None:
    sandbox.settings.stamp_false_on_create = True
    record = campaign("POST", EXT, json={"blackListEmail": False}).json()
    assert record["blackListEmailLastModified"]
    assert record["blackListFaxLastModified"] == ""


def test_single_reads_may_lack_their_href(sandbox: Sandbox, campaign: Caller) -> None:
    campaign("POST", EXT, json={"externalId": KEY})
    sandbox.settings.href_in_single_reads = False
    assert "href" not in campaign.json(f"{EXT}/{KEY}")


def test_links_given_as_objects_are_ignored(campaign: Caller) -> None:
    response = campaign("POST", EXT, json={"firstName": "Ann", "orgUnit": {"name": "x"}})
    assert response.status_code == 201


def test_random_hrefs_lead_to_the_same_record(sandbox: Sandbox, campaign: Caller) -> None:
    """R112: clients follow hrefs, they don't compose them."""
    sandbox.settings.random_hrefs = True
    record = campaign("POST", EXT, json={"externalId": KEY}).json()
    assert "/~" in record["href"]
    assert campaign.json(record["href"])["PKey"] == record["PKey"]
