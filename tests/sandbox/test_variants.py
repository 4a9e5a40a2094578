"""What no page confirms is a setting, and each of its variants is shown here (our wire notes mark them)."""

import pytest

from d365_campaign.sandbox import Sandbox

from .conftest import Caller, client_credentials

EXT = "/profileAndServicesExt/profile"
TRACK = {"Prefer": "odata.track-changes,odata.maxpagesize=2"}


# --- Dataverse: lists


@pytest.mark.parametrize(("variant", "status"), [("cap", 200), ("refuse", 400)])
def test_a_page_above_the_maximum(sandbox: Sandbox, dataverse: Caller, variant: str, status: int) -> None:
    sandbox.settings.update({"oversized_page": variant})
    assert dataverse.get("contacts", headers={"Prefer": "odata.maxpagesize=9000"}).status_code == status


@pytest.mark.parametrize(
    ("capped", "bom", "text"), [(False, False, b"5001"), (True, False, b"5000"), (False, True, b"\xef\xbb\xbf5001")]
)
def test_the_count_segment(sandbox: Sandbox, dataverse: Caller, capped: bool, bom: bool, text: bytes) -> None:
    sandbox.seed(5001)
    sandbox.settings.update({"count_segment_capped": capped, "count_segment_bom": bom})
    assert dataverse.get("contacts/$count").content == text


@pytest.mark.parametrize("every_page", [False, True])
def test_tracking_asked_for_once_or_on_every_page(sandbox: Sandbox, dataverse: Caller, every_page: bool) -> None:
    sandbox.seed(3)
    sandbox.settings.update({"track_every_page": every_page})
    link = dataverse.json("contacts", headers=TRACK)["@odata.nextLink"]
    assert ("@odata.deltaLink" in dataverse.json(link)) is not every_page
    assert "@odata.deltaLink" in dataverse.json(link, headers=TRACK)


@pytest.mark.parametrize("appears", [True, False])
def test_a_change_of_a_column_that_was_not_selected(sandbox: Sandbox, dataverse: Caller, appears: bool) -> None:
    sandbox.settings.update({"delta_unselected_changes": appears})
    ids = sandbox.seed(2)
    link = dataverse.json("contacts?$select=lastname", headers={"Prefer": "odata.track-changes"})["@odata.deltaLink"]
    sandbox.dataverse.update("contact", ids[0], {"jobtitle": "Nurse"})
    sandbox.dataverse.update("contact", ids[1], {"lastname": "New"})
    made = sandbox.dataverse.create("contact", {"jobtitle": "Writer"})
    found = {row["contactid"] for row in dataverse.json(link)["value"]}
    assert found == ({*ids, made} if appears else {ids[1], made})


@pytest.mark.parametrize("linked", [True, False])
def test_a_delta_without_changes(sandbox: Sandbox, dataverse: Caller, linked: bool) -> None:
    sandbox.settings.update({"empty_delta_link": linked})
    link = dataverse.json("contacts", headers={"Prefer": "odata.track-changes"})["@odata.deltaLink"]
    assert ("@odata.deltaLink" in dataverse.json(link)) is linked


# --- Dataverse: statuses, rights, writes


@pytest.mark.parametrize("status", [400, 410])
def test_the_status_of_an_expired_delta_token(sandbox: Sandbox, dataverse: Caller, status: int) -> None:
    sandbox.settings.update({"expired_token_status": status})
    link = dataverse.json("contacts", headers={"Prefer": "odata.track-changes"})["@odata.deltaLink"]
    sandbox.expire_delta_tokens()
    response = dataverse.get(link)
    assert (response.status_code, response.json()["error"]["code"]) == (status, "0x80044352")


@pytest.mark.parametrize("status", [404, 400])
def test_the_status_of_a_missing_key(sandbox: Sandbox, dataverse: Caller, status: int) -> None:
    sandbox.settings.update({"missing_key_status": status})
    assert dataverse.get("new_stores(new_code='S1')").status_code == status


@pytest.mark.parametrize("status", [412, 400])
def test_the_status_of_a_duplicate_key(sandbox: Sandbox, dataverse: Caller, status: int) -> None:
    sandbox.settings.update({"duplicate_key_status": status})
    sandbox.dataverse.create("new_store", {"new_code": "S1"})
    assert dataverse("POST", "new_stores", json={"new_name": "x", "new_code": "S1"}).status_code == status


@pytest.mark.parametrize("variant", ["empty", "json"])
def test_the_body_of_a_401(sandbox: Sandbox, dataverse: Caller, variant: str) -> None:
    sandbox.settings.update({"unauthorized_body": variant})
    sandbox.expire_tokens()
    response = dataverse.get("WhoAmI")
    assert response.headers["WWW-Authenticate"].startswith("Bearer ")
    assert bool(response.content) is (variant == "json")


@pytest.mark.parametrize(("allowed", "status"), [(True, 200), (False, 403)])
def test_an_application_without_a_user(sandbox: Sandbox, dataverse: Caller, allowed: bool, status: int) -> None:
    sandbox.settings.update({"application_user": allowed})
    response = dataverse.get("WhoAmI")
    assert response.status_code == status
    assert ("0x80072560" in response.text) is not allowed


@pytest.mark.parametrize(("allowed", "status"), [(True, 200), (False, 403)])
def test_the_right_to_track_changes(sandbox: Sandbox, dataverse: Caller, allowed: bool, status: int) -> None:
    sandbox.settings.update({"change_tracking_privilege": allowed})
    assert dataverse.get("contacts", headers={"Prefer": "odata.track-changes"}).status_code == status
    assert dataverse.get("contacts").status_code == 200


@pytest.mark.parametrize(("variant", "status"), [("clear", 204), ("refuse", 400)])
def test_null_for_a_navigation_property(sandbox: Sandbox, dataverse: Caller, variant: str, status: int) -> None:
    sandbox.settings.update({"null_lookup_in_body": variant})
    account = sandbox.dataverse.create("account", {"name": "Contoso"})
    bind = {"lastname": "x", "parentcustomerid_account@odata.bind": f"/accounts({account})"}
    url = dataverse("POST", "contacts", json=bind).headers["OData-EntityId"]
    assert dataverse("PATCH", url, json={"parentcustomerid_account": None}).status_code == status
    assert (dataverse.json(url)["_parentcustomerid_value"] is None) is (variant == "clear")


@pytest.mark.parametrize(("variant", "state"), [("set", 1), ("ignore", 0)])
def test_a_state_given_on_create(sandbox: Sandbox, dataverse: Caller, variant: str, state: int) -> None:
    sandbox.settings.update({"state_on_create": variant})
    body = {"lastname": "x", "statecode": 1, "statuscode": 2}
    assert dataverse.json(dataverse("POST", "contacts", json=body).headers["OData-EntityId"])["statecode"] == state


@pytest.mark.parametrize("sent", [True, False])
def test_the_affinity_cookie(sandbox: Sandbox, dataverse: Caller, sent: bool) -> None:
    sandbox.settings.update({"affinity_cookie": sent})
    assert ("ARRAffinity" in dataverse.get("WhoAmI").headers.get("Set-Cookie", "")) is sent


@pytest.mark.parametrize(("form", "text"), [("seconds", "1,200.00"), ("timespan", "00:20:00.0000000")])
def test_the_form_of_the_time_left(sandbox: Sandbox, dataverse: Caller, form: str, text: str) -> None:
    sandbox.settings.update({"time_remaining_format": form})
    assert dataverse.get("WhoAmI").headers["x-ms-ratelimit-time-remaining-xrm-requests"] == text


@pytest.mark.parametrize("seconds", [0.0, 60.0], ids=["at once", "a minute later"])
def test_when_an_alternate_key_becomes_active(sandbox: Sandbox, dataverse: Caller, seconds: float) -> None:
    sandbox.settings.update({"key_activation_seconds": seconds})
    url = "EntityDefinitions(LogicalName='contact')/Keys"
    key = {"SchemaName": "new_key", "KeyAttributes": ["externaluseridentifier"]}
    assert dataverse("POST", url, json=key).status_code == 204
    row = "contacts(externaluseridentifier='e1')"
    if seconds:
        assert dataverse.json(url)["value"][0]["EntityKeyIndexStatus"] == "Pending"
        assert dataverse("PATCH", row, json={"lastname": "x"}).status_code == 400
        sandbox.advance_clock(seconds)
    assert dataverse.json(url)["value"][0]["EntityKeyIndexStatus"] == "Active"
    assert dataverse("PATCH", row, json={"lastname": "x"}).status_code == 204


def test_an_alternate_key_over_equal_values_fails(sandbox: Sandbox, dataverse: Caller) -> None:
    for _ in range(2):
        sandbox.dataverse.create("contact", {"externaluseridentifier": "same"})
    url = "EntityDefinitions(LogicalName='contact')/Keys"
    dataverse("POST", url, json={"SchemaName": "new_key", "KeyAttributes": ["externaluseridentifier"]})
    assert dataverse.json(url)["value"][0]["EntityKeyIndexStatus"] == "Failed"


@pytest.mark.parametrize("sent", [True, False])
def test_the_extended_expiry_of_an_entra_token(sandbox: Sandbox, anonymous: Caller, sent: bool) -> None:
    sandbox.settings.update({"entra_ext_expires_in": sent})
    form = client_credentials(sandbox.endpoints["credentials"]["dataverse"])
    answer = anonymous("POST", sandbox.endpoints["dataverse_token_url"], data=form).json()
    assert ("ext_expires_in" in answer) is sent


# --- Campaign


@pytest.mark.parametrize("status", [404, 500])
def test_a_write_to_a_record_that_is_gone(sandbox: Sandbox, campaign: Caller, status: int) -> None:
    sandbox.settings.update({"deleted_pkey_status": status})
    pkey = campaign("POST", EXT, json={"lastName": "x"}).json()["PKey"]
    campaign("DELETE", f"{EXT}/{pkey}")
    for method in ("PATCH", "DELETE"):
        response = campaign(method, f"{EXT}/{pkey}", json={})
        assert response.status_code == status
        assert response.text.startswith("RST-360011")


@pytest.mark.parametrize("inline", [False, True])
def test_the_count_of_a_list_on_one_page(sandbox: Sandbox, campaign: Caller, inline: bool) -> None:
    sandbox.settings.update({"count_inline": inline})
    campaign("POST", EXT, json={"lastName": "x"})
    assert (campaign.json(EXT)["count"].get("value") == 1) is inline


@pytest.mark.parametrize(("maximum", "found"), [(0, 7), (5, 5)])
def test_the_largest_line_count(sandbox: Sandbox, campaign: Caller, maximum: int, found: int) -> None:
    sandbox.settings.update({"line_count_maximum": maximum})
    for _ in range(7):
        sandbox.campaign.create("profile", {})
    assert len(campaign.json(f"{EXT}?_lineCount=100")["content"]) == found


@pytest.mark.parametrize("longer", [False, True])
def test_hrefs_may_name_a_record_by_a_longer_pkey(sandbox: Sandbox, campaign: Caller, longer: bool) -> None:
    sandbox.settings.update({"href_pkeys_differ": longer})
    made = campaign("POST", EXT, json={"lastName": "x"}).json()
    named = made["href"].rsplit("/", 1)[1]
    assert (len(named) > len(made["PKey"])) is longer
    assert campaign("PATCH", made["href"], json={"lastName": "y"}).json()["PKey"] == made["PKey"]
    assert campaign.json(made["href"])["lastName"] == "y"
    assert campaign.json(f"{EXT}/{made['PKey']}")["lastName"] == "y"


@pytest.mark.parametrize(("raw", "status"), [(True, 200), (False, 404)])
def test_business_keys_in_links(sandbox: Sandbox, campaign: Caller, raw: bool, status: int) -> None:
    sandbox.settings.update({"raw_keys_in_links": raw})
    pkey = campaign("POST", EXT, json={"lastName": "x"}).json()["PKey"]
    response = campaign("PATCH", f"{EXT}/{pkey}", json={"orgUnit": {"PKey": "all"}})
    assert response.status_code == status
