"""What Campaign's refusals mean, by status and text; no network."""

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d365_campaign.clients.campaign import as_text, flatten, nested, text_of
from d365_campaign.clients.campaign_faults import (
    GATEWAY_FAULTS,
    INSTANCE_FAULTS,
    Meaning,
    error_text,
    is_missing,
    judge,
    refusal,
)
from d365_campaign.clients.campaign_resources import resource_of
from d365_campaign.clients.http import Answer, Verdict
from d365_campaign.clients.json_columns import items, read_object
from d365_campaign.errors import ConfigurationError, RecordRejected, SyncError, UnknownOutcome
from d365_campaign.field_types import INTEGER_BOUNDS
from d365_campaign.schemas import ResourceField, ResourceLink, TargetResource

PROFILE = TargetResource(
    "profile", "profileAndServicesExt", {n: ResourceField(n, "string") for n in ("gender", "age", "email")}
)
TROUBLE = "RST-360011 An error has occurred - please contact your administrator."
SECRET = "ada@example.org"
DUPLICATE = (
    f"A 'Profiles' with the same key '{SECRET}' already exists. PGS-220000 PostgreSQL error: ERROR: duplicate key "
    f'value violates unique constraint "x" DETAIL: Key (sEmail)=({SECRET}) already exists.'
)
ENUM = f"{TROUBLE} The value '{SECRET}' is not valid for the 'nms:recipient:gender' enumeration of the '@gender' field"
READ_ONLY = "Cannot update the 'age' property that is read-only 'age' property is not valid for the 'profile' resource."
KEY_CHANGE = f"{TROUBLE} RST-360012 Inconsistent operation on resource 'x' - Cannot update key '{SECRET}' to 'B'."
BAD_PKEY = (
    "'O5i' attribute unknown (see definition of 'Profiles (nms:recipient)' schema). XTK-170036 Unable to parse "
    "expression '@id = @O5i'."
)
TOO_LONG = "PGS-220000 PostgreSQL error: ERROR: value too long for type character varying(30)"
NOT_JSON = f"{TROUBLE} XTK-170036 '{SECRET}' is not a valid constant."
MISSING = f"{TROUBLE} Unable to find document with path 'profile' from key 'k' (document with schema 's' and name 'k')"
WRONG_PATH = f"{TROUBLE} Error rc=-2003"
UNKNOWN_FIELD = f"{TROUBLE} 'cusX' property is not valid for the 'profile' resource."
OOPS = {"code": 500, "message": "Oops. Something went wrong. Check your URI and try again."}

REFUSALS: list[tuple[str, int, Any, type[SyncError], str]] = [
    ("duplicate key", 500, DUPLICATE, RecordRejected, "PGS-220000"),
    ("enumeration", 500, ENUM, RecordRejected, "field 'gender'"),
    ("read-only", 500, READ_ONLY, RecordRejected, "field 'age'"),
    ("inconsistent key", 500, KEY_CHANGE, RecordRejected, "RST-360012"),
    ("unknown PKey attribute", 500, BAD_PKEY, RecordRejected, "XTK-170036"),
    ("too long", 500, TOO_LONG, RecordRejected, "longer"),
    ("not JSON", 500, NOT_JSON, RecordRejected, "could not read"),
    ("unknown field", 500, UNKNOWN_FIELD, RecordRejected, "unknown"),
    ("an instance text nobody knows", 500, f"XTK-170099 {SECRET}", RecordRejected, "XTK-170099"),
    ("gone since it was read", 404, MISSING, UnknownOutcome, "went away"),
    ("wrong endpoint", 404, WRONG_PATH, ConfigurationError, "Publish"),
    ("a proxy's 404", 404, "<html>", ConfigurationError, "campaign.url"),
    ("unknown instance", 500, OOPS, ConfigurationError, "campaign.url"),
    ("wrong key", 403, {"error_code": "403003", "message": ""}, ConfigurationError, "client_id"),
    ("no product profile", 403, {"error_code": "403023", "message": ""}, ConfigurationError, "product profile"),
    ("some other 403", 403, {"error_code": "403999", "message": ""}, ConfigurationError, "product profile"),
]


def answer(status: int, body: Any, as_json: bool = False) -> Answer:
    text = body if isinstance(body, str) and not as_json else json.dumps(body)
    return Answer(status, {}, text.encode())


def refused(answer: Answer) -> SyncError:
    return refusal(answer, PROFILE, "key-1", ["email", "gender"])


@pytest.mark.parametrize("as_json", [False, True], ids=["plain text", "JSON string"])
@pytest.mark.parametrize(("status", "body", "kind", "words"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
def test_a_refusal_is_known_by_its_text(
    status: int, body: Any, kind: type[SyncError], words: str, as_json: bool
) -> None:
    error = refused(answer(status, body, as_json))

    assert type(error) is kind
    assert words in str(error)
    assert "key-1" in str(error)
    assert SECRET not in str(error)


def test_only_a_duplicate_is_marked_as_one() -> None:
    errors = [refused(answer(status, body)) for _, status, body, kind, _ in REFUSALS if kind is RecordRejected]

    assert [error.duplicate_key for error in errors if isinstance(error, RecordRejected)] == [True] + [False] * 8


def test_a_refusal_names_the_fields_that_were_sent() -> None:
    assert "email, gender" in str(refused(answer(500, TOO_LONG)))


def test_a_rejection_names_the_field_it_is_about_if_campaign_does() -> None:
    about = [
        error.fields for error in map(refused, (answer(500, ENUM), answer(500, UNKNOWN_FIELD), answer(500, TOO_LONG)))
    ]

    assert about == [("gender",), (), ()]


def test_gateway_codes_inside_a_value_mean_nothing() -> None:
    text = DUPLICATE.replace(SECRET, "+49403003503010")

    assert type(refused(answer(500, text))) is RecordRejected
    assert judge(answer(500, text)) is Verdict.FINAL


@given(st.text(max_size=60), st.booleans())
def test_no_value_in_campaigns_text_reaches_an_error(value: str, as_json: bool) -> None:
    secret = f"<<{value}>>"
    text = ENUM.replace(SECRET, secret)

    assert secret not in str(refused(answer(500, text, as_json)))


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        pytest.param(500, ENUM, Verdict.FINAL, id="an instance's 500 is about the data"),
        pytest.param(500, OOPS, Verdict.FINAL, id="the gateway's 500 is about the address"),
        pytest.param(500, "", Verdict.UNSURE, id="a 500 that says nothing may pass"),
        pytest.param(502, {"code": 502, "message": OOPS["message"]}, Verdict.UNSURE, id="502"),
        pytest.param(503, {"error_code": "503010"}, Verdict.AGAIN, id="the gateway's 503 reached no instance"),
        pytest.param(503, "busy", Verdict.UNSURE, id="any other 503 may have had an effect"),
        pytest.param(504, "", Verdict.UNSURE, id="504"),
        pytest.param(429, {"error_code": "429050"}, Verdict.AGAIN, id="429"),
        pytest.param(404, MISSING, Verdict.FINAL, id="404"),
        pytest.param(200, {}, Verdict.FINAL, id="200"),
    ],
)
def test_what_may_be_sent_again(status: int, body: Any, verdict: Verdict) -> None:
    assert judge(answer(status, body)) is verdict


def test_only_the_instances_own_404_means_that_there_is_no_record() -> None:
    assert is_missing(answer(404, MISSING))
    assert not is_missing(answer(404, WRONG_PATH))
    assert not is_missing(answer(404, "<html>not here</html>"))
    assert not is_missing(answer(500, MISSING))


def test_every_meaning_is_used() -> None:
    used = {f.meaning for f in GATEWAY_FAULTS.values()} | {f.meaning for _, f in INSTANCE_FAULTS}

    assert used == set(Meaning)


@given(st.binary(max_size=80))
def test_any_body_can_be_read_as_an_error(body: bytes) -> None:
    assert isinstance(error_text(Answer(500, {}, body)), str)
    assert isinstance(judge(Answer(500, {}, body)), Verdict)


VALUES = st.none() | st.text(max_size=8) | st.integers() | st.booleans()
NAMES = st.sampled_from(["email", "gender", "cusX", "location.city", "location.zipCode", "postal.line1"])


@given(st.dictionaries(NAMES, VALUES))
def test_dotted_names_travel_nested_and_come_back_dotted(values: dict[str, object]) -> None:
    assert flatten(nested(values)) == values


def test_a_record_keeps_no_pkey_link_or_collection() -> None:
    record = {
        "PKey": "@a",
        "href": "https://x/@a",
        "email": "e",
        "location": {"city": "Paris"},
        "orgUnit": {"PKey": "@o", "href": "https://x/@o", "title": "All"},
        "subscriptions": {"href": "https://x/@a/subscriptions/"},
        "list": [{"PKey": "@z"}],
    }

    assert flatten(record) == {"email": "e", "location.city": "Paris"}


def fields_of(resource: str, content: dict[str, Any]) -> dict[str, ResourceField]:
    return dict(resource_of(resource, "e", {"content": content}).fields)


def test_a_profiles_location_is_known_even_where_metadata_does_not_tell_its_members() -> None:
    assert "location.zipCode" in fields_of("profile", {"location": {"type": "item", "resType": ""}})
    assert fields_of("cusStore", {}) == {}


def test_metadata_becomes_fields() -> None:
    content = {
        "PKey": {"type": "string", "resType": "string"},
        "cusBrand": {
            "type": "string",
            "resType": "string",
            "length": "127",
            "readOnly": False,
            "dataPolicy": "smartCase",
        },
        "age": {"type": "number", "resType": "long", "length": "", "readOnly": True},
        "gender": {"type": "enumeration", "resType": "byte", "length": "0"},
        "cusArea": {"type": "number", "resType": "double"},
        "orgUnit": {"type": "link", "resType": "string"},
        "logs": {"type": "collection"},
        "location": {"type": "item", "content": {"city": {"type": "string", "resType": "string", "length": "80"}}},
        "note": "no description",
    }

    assert fields_of("cusX", content) == {
        "cusBrand": ResourceField("cusBrand", "string", length=127, data_policy="smartCase"),
        "age": ResourceField("age", "integer", bounds=INTEGER_BOUNDS["long"], read_only=True),
        "gender": ResourceField("gender", "string"),
        "cusArea": ResourceField("cusArea", "double"),
        "location.city": ResourceField("location.city", "string", length=80),
    }


LINKS: list[tuple[str, dict[str, Any], ResourceLink]] = [
    ("a link that tells only where it leads", {"resTarget": "profile"}, ResourceLink("cusL", "profile")),
    (
        "one that tells everything",
        {"resTarget": "profile", "cardinality": "1", "joins": [{"source": "cusC"}], "cascadeDelete": False},
        ResourceLink("cusL", "profile", "cusC", "1", False),
    ),
    (
        "a join on two columns",
        {"resTarget": "profile", "joins": [{"source": "a"}, {"source": "b"}]},
        ResourceLink("cusL", "profile"),
    ),
    (
        "words that nobody knows",
        {"resTarget": "profile", "cardinality": "single", "joins": "", "cascadeDelete": "own"},
        ResourceLink("cusL", "profile"),
    ),
]


@pytest.mark.parametrize(("facts", "link"), [row[1:] for row in LINKS], ids=[row[0] for row in LINKS])
def test_what_metadata_does_not_tell_of_a_link_stays_open(facts: dict[str, Any], link: ResourceLink) -> None:
    content = {"cusL": {"type": "link", **facts}, "cusName": {"type": "string"}, "logs": {"type": "collection"}}

    assert list(resource_of("cusX", "customResources", {"content": content}).links) == [link]


@pytest.mark.parametrize(("facts", "keys"), [({}, None), ({"keys": []}, ()), ({"keys": ["cusD365id"]}, ("cusD365id",))])
def test_unique_keys_are_known_only_where_metadata_tells(facts: dict[str, Any], keys: tuple[str, ...] | None) -> None:
    assert resource_of("cusX", "customResources", {"content": {}, **facts}).unique_keys == keys


VALUE = (
    st.none()
    | st.booleans()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.integers(-(2**63), 2**63 - 1)
)


@given(
    st.lists(
        st.fixed_dictionaries(dict.fromkeys(["email", "location.city", "location.x.y", "cusN"], VALUE)), min_size=1
    )
)
def test_any_value_comes_as_its_text_and_empty_ones_as_null(rows: list[dict[str, Any]]) -> None:
    body = json.dumps({"content": [{**nested(row), "lost": {"PKey": "@x"}} for row in rows]}).encode()

    page = read_object(body, {"content": pl.List(as_text(list(rows[0])))}, "records")
    found = items(page, "content").struct.unnest().select(text_of(name).alias(name) for name in rows[0])

    assert found.to_dicts() == [
        {
            name: None if value in (None, "") else value if isinstance(value, str) else json.dumps(value)
            for name, value in row.items()
        }
        for row in rows
    ]
