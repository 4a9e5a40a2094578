"""Pages of Dataverse, from bytes to columns; no network."""

import json
import string
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d365_campaign.changes import ChangePage
from d365_campaign.clients.dataverse_faults import judge, refusal
from d365_campaign.clients.dataverse_pages import is_delta_link, read_page
from d365_campaign.clients.dataverse_tables import column_of
from d365_campaign.clients.http import Answer, Verdict
from d365_campaign.errors import ConfigurationError, DeltaTokenExpired, RetriableError, SyncError
from d365_campaign.field_types import SourceType
from d365_campaign.schemas import SourceColumn, SourceTable

TYPES: dict[str, SourceType] = {
    "contactid": "reference",
    "firstname": "text",
    "numberofchildren": "integer",
    "creditlimit": "money",
    "donotemail": "boolean",
    "gendercode": "choice",
    "modifiedon": "datetime",
    "birthdate": "date",
    "ownerid": "reference",
}
COLUMNS = [SourceColumn(name, kind, "_ownerid_value" if name == "ownerid" else name) for name, kind in TYPES.items()]
CONTACT = SourceTable("contact", "contacts", "contactid", True, {column.name: column for column in COLUMNS})
NEXT = "https://org.example/api/data/v9.2/contacts?$skiptoken=%253ccookie%2520"


def answer(body: Any, status: int = 200, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {"Date": "Wed, 21 Oct 2015 07:28:00 GMT", **headers}, raw)


def page(*entries: dict[str, Any], **links: str) -> ChangePage:
    named = {f"@odata.{name}": link for name, link in links.items()}
    return read_page(answer({"@odata.context": "c", "value": list(entries), **named}), CONTACT, COLUMNS)


def deleted(key: str) -> dict[str, str]:
    return {"@odata.context": "https://org.example/$metadata#contacts/$deletedEntity", "id": key, "reason": "deleted"}


def test_rows_come_under_logical_names_with_their_types() -> None:
    row = {
        "@odata.etag": 'W/"1"',
        "contactid": "AB",
        "firstname": "Ann",
        "numberofchildren": 2,
        "creditlimit": 20000.0,
        "donotemail": True,
        "gendercode": 1,
        "modifiedon": "2023-04-07T21:59:01Z",
        "birthdate": "1988-03-21",
        "_ownerid_value": "CD",
        "_ownerid_value@Microsoft.Dynamics.CRM.lookuplogicalname": "systemuser",
    }

    found = page(row, nextLink=NEXT)

    expected = ("ab", "Ann", 2, "20000.0", True, 1, "2023-04-07T21:59:01Z", "1988-03-21", "cd")
    assert found.rows.columns == list(TYPES)
    assert found.rows.row(0) == expected
    assert (found.next_link, found.delta_link) == (NEXT, None)
    assert found.served_at == datetime(2015, 10, 21, 7, 28, tzinfo=UTC)


def test_deleted_entries_become_removed_keys_in_lower_case() -> None:
    found = page({"contactid": "a"}, deleted("2E45"), {"contactid": "b"}, deleted("3f"))

    assert found.rows["contactid"].to_list() == ["a", "b"]
    assert found.removed == ["2e45", "3f"]


def test_a_page_of_deletions_alone_has_typed_columns_and_no_rows() -> None:
    found = page(deleted("a"), deltaLink="https://x")

    assert found.rows.is_empty()
    assert found.rows.schema["numberofchildren"] == pl.Int64
    assert found.removed == ["a"]


def test_columns_named_like_the_parts_of_a_deletion_stay_columns() -> None:
    columns = [*COLUMNS[:1], SourceColumn("reason", "text", "reason"), SourceColumn("id", "text", "id")]
    body = {"value": [{"contactid": "a", "reason": "why not", "id": "7"}, deleted("b")]}

    found = read_page(answer(body), CONTACT, columns)

    assert found.rows.rows() == [("a", "why not", "7")]
    assert found.removed == ["b"]


@pytest.mark.parametrize("body", [{"value": []}, {"value": [], "@odata.deltaLink": "https://x"}])
def test_an_empty_page_has_typed_columns(body: dict[str, Any]) -> None:
    found = read_page(answer(body), CONTACT, COLUMNS)

    assert found.rows.shape == (0, len(COLUMNS))
    assert found.rows.schema["donotemail"] == pl.Boolean


def test_an_answer_without_a_list_is_an_empty_delta_but_never_an_empty_table() -> None:
    assert read_page(answer({}), CONTACT, COLUMNS, changed_only=True).rows.is_empty()
    with pytest.raises(RetriableError):
        read_page(answer({}), CONTACT, COLUMNS)


@pytest.mark.parametrize(
    "cut", [b"", b"{", b'{"value":[{"contactid":"a"', b"[]", b"null", b"<html>busy</html>", b'"x"']
)
def test_a_cut_or_foreign_body_under_200_may_be_asked_for_again(cut: bytes) -> None:
    with pytest.raises(RetriableError):
        read_page(answer(cut), CONTACT, COLUMNS)


@given(st.data())
def test_no_prefix_of_a_page_passes_for_a_page(data: st.DataObject) -> None:
    row = {"contactid": "a", "creditlimit": 1.5, "firstname": 'Ä"\\'}
    body = json.dumps({"value": [row, deleted("b")], "@odata.nextLink": NEXT})
    cut = data.draw(st.integers(0, len(body) - 1))

    with pytest.raises(RetriableError):
        read_page(answer(body[:cut].encode()), CONTACT, COLUMNS)


def test_an_entry_without_a_key_is_never_taken() -> None:
    with pytest.raises(RetriableError):
        page({"firstname": "Ann"})


@pytest.mark.parametrize(
    "value",
    [{"numberofchildren": "secret"}, {"creditlimit": "secret"}, {"creditlimit": True}, {"creditlimit": {"secret": 1}}],
    ids=str,
)
def test_a_value_of_another_type_is_refused_without_being_quoted(value: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"table contact.*another type") as caught:
        page({"contactid": "a", **value})

    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_integers_sent_as_floats_stay_integers() -> None:
    assert page({"contactid": "a", "numberofchildren": 3.0}).rows["numberofchildren"].to_list() == [3]


ROW = st.fixed_dictionaries(
    {
        "contactid": st.uuids().map(str),
        "firstname": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
        "numberofchildren": st.none() | st.integers(-(2**31), 2**31 - 1),
        "creditlimit": st.none() | st.floats(-1e11, 1e11, allow_nan=False).map(lambda x: round(x, 4)),
        "donotemail": st.none() | st.booleans(),
    }
)


@given(st.lists(ROW, max_size=8), st.lists(st.uuids().map(str), max_size=4), st.booleans())
def test_what_was_sent_is_what_arrives(rows: list[dict[str, Any]], removed: list[str], ascii_only: bool) -> None:
    body = json.dumps({"value": [*rows, *map(deleted, removed)]}, ensure_ascii=ascii_only).encode()

    found = read_page(answer(body), CONTACT, COLUMNS[:5])

    assert found.rows.to_dicts() == [{**row, "creditlimit": digits(row["creditlimit"])} for row in rows]
    assert found.removed == removed


def digits(number: float | None) -> str | None:
    return None if number is None else json.dumps(number)


NUMBER = st.from_regex(r"-?(0|[1-9][0-9]{0,27})(\.[0-9]{1,10})?", fullmatch=True)
# What could look like a number to quote: names, quotation marks and digits, in any order, inside a string.
SNIPPETS = ['"', "\\", '\\"', "creditlimit", '"creditlimit":7', '","creditlimit":7.0', ":", "{", ",", " ", "5", "\n"]
TRICK = st.lists(st.sampled_from(SNIPPETS), max_size=8).map("".join)
GAP = st.sampled_from(["", " ", "\n\t"])


@given(st.lists(st.tuples(TRICK, st.none() | NUMBER, TRICK), min_size=1, max_size=4), GAP, GAP)
def test_no_digit_of_a_number_is_lost_whatever_texts_hold(
    rows: list[tuple[str, str | None, str]], before: str, after: str
) -> None:
    sent = ",".join(
        f'{{{after}"contactid":{json.dumps(text)},{before}"creditlimit"{before}:{after}{number or "null"}{before},'
        f'"firstname":{json.dumps(last)}}}'
        for text, number, last in rows
    )

    found = read_page(answer(f'{{"value":[{sent}]}}'.encode()), CONTACT, COLUMNS)

    held = found.rows.select("contactid", "creditlimit", "firstname").rows()
    assert held == [(text.lower(), number, last) for text, number, last in rows]


def test_names_that_only_resemble_a_column_are_left_alone() -> None:
    body = b'{"value":[{"contactid":"a","creditlimit_base":1,"numberofchildren":2,"creditlimit":10.00}]}'

    row = read_page(answer(body), CONTACT, COLUMNS).rows

    assert (row["creditlimit"].item(), row["numberofchildren"].item()) == ("10.00", 2)


def test_a_page_that_is_no_text_may_be_asked_for_again() -> None:
    with pytest.raises(RetriableError):
        read_page(answer(b'{"value":[{"contactid":"a","creditlimit":1,"firstname":"\xff"}]}'), CONTACT, COLUMNS)


@given(st.text(string.printable, max_size=30))
def test_no_text_breaks_the_recognition_of_delta_links(text: str) -> None:
    assert is_delta_link(f"https://org.example/contacts?$select={text.replace('&', '')}&%24deltatoken=1%21x")


ATTRIBUTES: list[tuple[str, str, bool, SourceColumn | None]] = [
    ("String", "StringType", False, SourceColumn("new_x", "text", "new_x")),
    ("Lookup", "LookupType", False, SourceColumn("new_x", "reference", "_new_x_value")),
    ("Customer", "CustomerType", False, SourceColumn("new_x", "reference", "_new_x_value")),
    ("Owner", "OwnerType", False, SourceColumn("new_x", "reference", "_new_x_value")),
    ("DateTime", "DateTimeType", True, SourceColumn("new_x", "date", "new_x")),
    ("DateTime", "DateTimeType", False, SourceColumn("new_x", "datetime", "new_x")),
    ("Virtual", "MultiSelectPicklistType", False, SourceColumn("new_x", "text", "new_x")),
    ("Virtual", "VirtualType", False, None),
    ("Virtual", "ImageType", False, None),
    ("PartyList", "PartyListType", False, None),
]


@pytest.mark.parametrize(("kind", "kind_name", "date_only", "column"), ATTRIBUTES)
def test_an_attribute_is_a_column_if_it_is_a_property_of_rows(
    kind: str, kind_name: str, date_only: bool, column: SourceColumn | None
) -> None:
    facts = {
        "LogicalName": "new_x",
        "AttributeType": kind,
        "AttributeTypeName": {"Value": kind_name},
        "DateTimeBehavior": {"Value": "DateOnly" if date_only else "UserLocal"} if kind == "DateTime" else None,
        "Targets": None,
        "OptionSet": None,
    }

    assert column_of(facts) == column


def option(value: int, label: dict[str, Any] | None) -> dict[str, Any]:
    return {"Value": value, "Label": label}


@pytest.mark.parametrize(
    ("kind", "labels"), [("Picklist", {1: "Rot"}), ("State", {1: "Rot"}), ("Status", {1: "Rot"}), ("String", {})]
)
def test_a_choice_has_labels_in_the_users_language(kind: str, labels: dict[int, str]) -> None:
    german, english = {"Label": "Rot", "LanguageCode": 1031}, {"Label": "Red", "LanguageCode": 1033}
    options = [
        option(1, {"LocalizedLabels": [english, german], "UserLocalizedLabel": german}),
        option(2, {"LocalizedLabels": [english], "UserLocalizedLabel": None}),
        option(3, None),
    ]

    column = column_of({"LogicalName": "new_x", "AttributeType": kind, "OptionSet": {"Options": options}})

    assert column is not None
    assert column.labels == labels


REFUSALS: list[tuple[str, int, str, type[SyncError], str]] = [
    ("expired", 400, "0x80044352", DeltaTokenExpired, "read anew"),
    ("expired, upper case", 500, "0X80044352", DeltaTokenExpired, "read anew"),
    ("gone", 410, "", DeltaTokenExpired, "read anew"),
    ("tracking off", 400, "0x80072491", ConfigurationError, "Track changes"),
    ("unknown column", 400, "0x0", ConfigurationError, "Could not find"),
    ("no privilege", 403, "0x80040220", ConfigurationError, "security role"),
    ("no application user", 403, "0x80072560", ConfigurationError, "application user"),
    ("no such table", 404, "0x80060888", ConfigurationError, "no 'contact' here"),
    ("not found by a proxy", 404, "", ConfigurationError, "no 'contact' here"),
    ("anything else", 418, "", ConfigurationError, "dynamics.url"),
]


@pytest.mark.parametrize(("status", "code", "kind", "words"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
def test_a_refusal_says_what_to_do(status: int, code: str, kind: type[SyncError], words: str) -> None:
    refused = answer({"error": {"code": code, "message": "Could not find a property named 'x'."}}, status)

    error = refusal(refused, "contact")

    assert type(error) is kind
    assert words in str(error)


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        (429, "0x80072322", Verdict.AGAIN),
        (400, "0x80040216", Verdict.UNSURE),
        (500, "0x80044151", Verdict.UNSURE),
        (500, "", Verdict.UNSURE),
        (500, "0x80044352", Verdict.FINAL),
        (503, "", Verdict.UNSURE),
        (400, "0x0", Verdict.FINAL),
        (200, "", Verdict.FINAL),
    ],
)
def test_passing_faults_are_known_by_code_or_status(status: int, code: str, verdict: Verdict) -> None:
    assert judge(answer({"error": {"code": code, "message": ""}}, status)) is verdict


@pytest.mark.parametrize("body", [b"", b"<html/>", b"[]", b'{"error": "x"}', b'{"Message": "x"}', b"null"])
def test_errors_in_no_known_shape_are_still_errors(body: bytes) -> None:
    assert isinstance(refusal(answer(body, 400), "contact"), ConfigurationError)
