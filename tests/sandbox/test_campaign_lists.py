"""Lists: "Filtering", "Sorting", "Pagination", "Counting", "Metadata mechanism"; quirks as the SDK sends them."""

import pytest

from d365_campaign.sandbox import Sandbox

from .conftest import Caller

EXT = "/profileAndServicesExt/profile"


@pytest.fixture
def profiles(sandbox: Sandbox) -> Sandbox:
    for number in range(30):
        values = {
            "externalId": f"id-{number:02d}",
            "lastName": f"Name{number % 3}",
            "email": f"p{number:02d}@example.com",
        }
        sandbox.campaign.create("profile", values)
    return sandbox


def test_lists_default_to_25_records_and_lead_on(profiles: Sandbox, campaign: Caller) -> None:
    first = campaign.json(EXT)
    assert len(first["content"]) == 25
    assert first["serverSidePagination"] is True
    second = campaign.json(first["next"]["href"])
    assert len(second["content"]) == 5
    assert "next" not in second
    assert len({record["PKey"] for record in first["content"] + second["content"]}) == 30
    assert campaign.json(first["count"]["href"]) == {"count": 30}


def test_line_count_is_kept_along_the_pages(profiles: Sandbox, campaign: Caller) -> None:
    url, sizes = EXT + "?_lineCount=12", []
    while url:
        page = campaign.json(url)
        sizes.append(len(page["content"]))
        url = page.get("next", {}).get("href")
    assert sizes == [12, 12, 6]


def test_big_tables_need_forced_pagination(profiles: Sandbox, campaign: Caller) -> None:
    profiles.settings.big_table_threshold = 29
    plain = campaign.json(EXT)
    assert "next" not in plain
    assert plain["serverSidePagination"] is False
    assert "next" in campaign.json(EXT + "?_forcePagination=true")


@pytest.mark.parametrize("order", ["externalId desc", "externalId%20desc"], ids=["once", "encoded twice"])
def test_descending_order(profiles: Sandbox, campaign: Caller, order: str) -> None:
    page = campaign.json(EXT, params={"_order": order, "_lineCount": "2"})
    rest = campaign.json(page["next"]["href"])
    found = [record["externalId"] for record in page["content"] + rest["content"]]
    assert found == ["id-29", "id-28", "id-27", "id-26"]


def test_one_attribute_is_an_array_of_scalars(profiles: Sandbox, campaign: Caller) -> None:
    page = campaign.json(EXT + "/externalId?_lineCount=3")
    assert page["content"] == ["id-00", "id-01", "id-02"]
    assert "count" not in page
    assert campaign.json(page["next"]["href"])["content"][0] == "id-03"


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/byEmail?email=p07@example.com", 1),
        ("/byText?text=name1", 10),
        ("/byText?text=Name&filterType=lastName", 30),
        ("/byText?text=name&filterType=lastName", 0),
        ("/byExternalId?externalId_parameter=id-05", 1),
        ("/byExternalId?externalId_parameter=nobody", 0),
        ("/byText/byEmail?text=p07&email=p07@example.com", 1),
        ("/byText%2FbyEmail?text=p07&email=p08@example.com", 0),
    ],
)
def test_filters(profiles: Sandbox, campaign: Caller, path: str, number: int) -> None:
    assert len(campaign.json(f"{EXT}{path}&_lineCount=100")["content"]) == number


@pytest.mark.parametrize("path", ["/", "//", ".json", "?limit=5&page=0"])
def test_spellings_of_a_collection(profiles: Sandbox, campaign: Caller, path: str) -> None:
    assert len(campaign.json(EXT + path)["content"]) == 25


def test_metadata_describes_attributes_as_adobe_does(campaign: Caller) -> None:
    metadata = campaign.json("/profileAndServicesExt/resourceType/profile")
    email = metadata["content"]["email"]
    assert (email["length"], email["category"], email["dataPolicy"]) == ("128", "03_emails", "email")
    assert metadata["content"]["age"]["readOnly"] is True
    assert set(metadata["content"]["gender"]["values"]) == {"unknown", "male", "female"}
    assert metadata["content"]["location"]["content"]["city"]["type"] == "string"
    assert metadata["content"]["cusPurchasesLink"]["resTarget"] == "cusPurchase"
    assert metadata["schema"] == "nms:recipient"


def test_custom_fields_are_described_on_the_extended_endpoint_only(campaign: Caller) -> None:
    assert "cusJobTitle" not in campaign.json("/profileAndServices/resourceType/profile")["content"]


@pytest.mark.parametrize("name", ["profile", "service", "history"])
def test_the_metadata_the_sdk_reads(campaign: Caller, name: str) -> None:
    assert campaign.json(f"/profileAndServices/resourceType/{name}")["name"] == name


def test_filters_are_described(campaign: Caller) -> None:
    href = campaign.json("/profileAndServicesExt/resourceType/profile")["filters"]["href"]
    assert "byExternalId" in [item["fragmentName"] for item in campaign.json(href)["content"]]


def test_the_other_lists_of_the_sdks_end_to_end_test(campaign: Caller) -> None:
    for path in ("/profileAndServices/service/", "/customResources/cusStore"):
        assert campaign.json(path)["content"] == []
    units = campaign.json("/profileAndServicesExt/orgUnitBase/")["content"]
    assert [unit["name"] for unit in units] == ["all"]
