"""The type table, executed: what Dynamics sends, through DuckDB, into what Campaign is sent."""

from datetime import UTC, date, datetime, timedelta, timezone

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d365_campaign.changes import Reading
from d365_campaign.field_types import (
    ATTRIBUTE_TYPES,
    CAMPAIGN_DUCKDB,
    CONVERSIONS,
    EMPTY_WIRE,
    HELD,
    CampaignType,
    SourceType,
    campaign_type,
    same_in_campaign,
    source_type,
    to_wire,
)
from d365_campaign.store.staging import Staging
from tests.builders import one_field, page

Pair = tuple[SourceType, CampaignType]

# What a page holds -> what the desired view makes of it. Each row also has a null, which stays null.
CASES: dict[Pair, list[tuple[object, object]]] = {
    ("text", "string"): [("Ada", "Ada"), ("", None), (" padded ", " padded "), ("Zoë 'x'\n", "Zoë 'x'\n")],
    ("reference", "string"): [("5b1f8a5c-0000-0000-0000-000000000001", "5b1f8a5c-0000-0000-0000-000000000001")],
    ("integer", "integer"): [(0, 0), (-1, -1), (2**63 - 1, 2**63 - 1), (-(2**63), -(2**63))],
    ("integer", "float"): [(3, 3.0)],
    ("integer", "double"): [(3, 3.0), (-(2**31), -2147483648.0)],
    ("integer", "string"): [(0, "0"), (-7, "-7"), (2**63 - 1, "9223372036854775807")],
    ("choice", "integer"): [(100000000, 100000000), (-1, -1)],
    ("choice", "string"): [(1, "1"), (100000000, "100000000")],
    ("decimal", "float"): [(0.5, 0.5)],
    ("decimal", "double"): [(100000000000.01, 100000000000.01), (-0.0000000001, -1e-10), (0.0, 0.0)],
    ("decimal", "string"): [
        (100.0, "100"),
        (0.0, "0"),
        (-0.5, "-0.5"),
        (0.0000000001, "0.0000000001"),
        (100000000000.01, "100000000000.01"),
        (1234567890.1234, "1234567890.1234"),
    ],
    ("double", "float"): [(0.1, 0.1)],
    ("double", "double"): [(0.1, 0.1), (1e300, 1e300)],
    ("double", "string"): [(0.1, "0.1"), (2.0, "2.0")],
    ("boolean", "boolean"): [(True, True), (False, False)],
    ("boolean", "integer"): [(True, 1), (False, 0)],
    ("boolean", "string"): [(True, "true"), (False, "false")],
    ("datetime", "datetime"): [
        ("2026-05-01T08:00:00Z", datetime(2026, 5, 1, 8)),
        ("1753-01-01T00:00:00Z", datetime(1753, 1, 1)),
        ("2026-05-01T08:00:00.123Z", datetime(2026, 5, 1, 8, 0, 0, 123000)),
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59)),
    ],
    ("datetime", "date"): [("2026-05-01T23:59:59Z", date(2026, 5, 1))],
    ("datetime", "string"): [("2026-05-01T08:00:00Z", "2026-05-01T08:00:00Z")],
    ("date", "date"): [("1815-12-10", date(1815, 12, 10)), ("2024-02-29", date(2024, 2, 29))],
    ("date", "datetime"): [("1815-12-10", datetime(1815, 12, 10))],
    ("date", "string"): [("1815-12-10", "1815-12-10")],
}


@pytest.mark.parametrize("pair", CONVERSIONS, ids=" to ".join)
def test_every_supported_pair_makes_the_campaign_value(pair: Pair) -> None:
    cases = [*CASES[pair], (None, None)]
    bound = one_field(*pair)
    with duckdb.connect() as connection:
        store = Staging(connection).table(bound)
        store.absorb(page(bound, *({"contactid": str(n), "a": held} for n, (held, _) in enumerate(cases))), Reading())
        made = connection.execute('select "b" from "contact"."desired" order by cast("externalId" as integer)')
        assert [(type(v), v) for (v,) in made.fetchall()] == [(type(expected), expected) for _, expected in cases]


def test_every_conversion_gives_the_type_the_mirror_holds() -> None:
    with duckdb.connect() as connection:
        for (source, target), expression in CONVERSIONS.items():
            made = connection.execute(
                f"select lower(typeof({expression.format('x')})) from (select cast(null as {HELD[source].duckdb}) as x)"
            ).fetchall()
            assert made == [(CAMPAIGN_DUCKDB[target],)], f"{source} to {target}"


def test_every_dataverse_type_is_a_source_type_that_can_be_held() -> None:
    assert set(ATTRIBUTE_TYPES.values()) | {"date"} == set(HELD)


@pytest.mark.parametrize(
    ("attribute_type", "date_only", "expected"),
    [
        ("DateTime", False, "datetime"),
        ("DateTime", True, "date"),
        ("String", True, "text"),
        ("Money", False, "decimal"),
        ("PartyList", False, None),
    ],
)
def test_dataverse_attribute_becomes_source_type(
    attribute_type: str, date_only: bool, expected: SourceType | None
) -> None:
    assert source_type(attribute_type, date_only) == expected


@pytest.mark.parametrize(
    ("kind", "technical", "expected"),
    [
        ("string", "string", "string"),
        ("number", "byte", "integer"),
        ("number", "", "double"),
        ("enumeration", "byte", "string"),
        ("datetime", "datetimenotz", "datetime"),
        ("link", "link", None),
        ("collection", "", None),
    ],
)
def test_campaign_metadata_becomes_campaign_type(kind: str, technical: str, expected: CampaignType | None) -> None:
    assert campaign_type(kind, technical) == expected


@pytest.mark.parametrize(
    ("value", "kind", "wire"),
    [
        ("Ada", "string", "Ada"),
        (0, "integer", 0),
        (0.5, "double", 0.5),
        (False, "boolean", False),
        (date(1815, 12, 10), "date", "1815-12-10"),
        (datetime(2026, 5, 1, 8), "datetime", "2026-05-01 08:00:00.000Z"),
        (datetime(2026, 5, 1, 8, 0, 0, 123999), "datetime", "2026-05-01 08:00:00.123Z"),
    ],
)
def test_value_leaves_in_the_form_campaign_prints(value: object, kind: CampaignType, wire: object) -> None:
    assert to_wire(value, kind) == wire


@pytest.mark.parametrize("kind", EMPTY_WIRE)
def test_none_leaves_as_an_explicit_empty_value_that_campaign_cannot_tell_from_none(kind: CampaignType) -> None:
    assert to_wire(None, kind) is not None
    assert same_in_campaign(None, to_wire(None, kind), kind)


def test_value_of_a_foreign_type_is_not_sent() -> None:
    with pytest.raises(TypeError, match="a bytes is no Campaign string"):
        to_wire(b"Ada", "string")


AT_EIGHT = datetime(2026, 5, 1, 8)


@pytest.mark.parametrize(
    ("desired", "held", "kind", "data_policy", "same"),
    [
        pytest.param("Ada", "Ada", "string", "", True, id="equal text"),
        pytest.param("Ada", "ada", "string", "", False, id="case counts without a policy"),
        pytest.param("McDonald", "Mcdonald", "string", "smartCase", True, id="smart case"),
        pytest.param("Straße", "STRASSE", "string", "smartCase", True, id="smart case folds sharp s"),
        pytest.param("Ada", "Bob", "string", "smartCase", False, id="smart case, another name"),
        pytest.param("Ada@X.org ", "ada@x.org", "string", "email", True, id="e-mail in lower case"),
        pytest.param("+49 (170) 12-34", "+49170 1234", "string", "phone", True, id="phone punctuation"),
        pytest.param("0170", "+0170", "string", "phone", False, id="phone plus sign"),
        pytest.param(" x ", "x", "string", "identifier", True, id="identifier is trimmed"),
        pytest.param("a", "A", "string", "unheardOf", False, id="unknown policy changes nothing"),
        pytest.param(None, "", "string", "smartCase", True, id="empty text is null"),
        pytest.param(None, 0, "integer", "", True, id="zero is null"),
        pytest.param(None, False, "boolean", "", True, id="false is null"),
        pytest.param(None, "", "datetime", "", True, id="empty moment is null"),
        pytest.param(3, "3", "integer", "", True, id="number as text"),
        pytest.param(2**53 + 1, 2**53, "integer", "", False, id="large neighbours differ"),
        pytest.param(0.1, "0.1", "double", "", True, id="fraction as text"),
        pytest.param(1, 1.0, "double", "", True, id="integer as double"),
        pytest.param(True, "true", "boolean", "", True, id="boolean as text"),
        pytest.param(True, 1, "boolean", "", True, id="boolean as number"),
        pytest.param(True, False, "boolean", "", False, id="other boolean"),
        pytest.param(date(1815, 12, 10), "1815-12-10", "date", "", True, id="date as text"),
        pytest.param(date(1815, 12, 10), "1815-12-10 00:00:00.000Z", "date", "", True, id="date as moment"),
        pytest.param(AT_EIGHT, "2026-05-01 08:00:00.000Z", "datetime", "", True, id="moment in Campaign's form"),
        pytest.param(AT_EIGHT, "2026-05-01T10:00:00+02:00", "datetime", "", True, id="moment of another zone"),
        pytest.param(AT_EIGHT, AT_EIGHT.replace(microsecond=999), "datetime", "", True, id="below a millisecond"),
        pytest.param(AT_EIGHT, "2026-05-01 08:00:01.000Z", "datetime", "", False, id="a second later"),
        pytest.param(AT_EIGHT, "some day", "datetime", "", False, id="unreadable moment"),
    ],
)
def test_sameness_is_campaigns(desired: object, held: object, kind: CampaignType, data_policy: str, same: bool) -> None:
    assert same_in_campaign(desired, held, kind, data_policy) is same


VALUES: dict[CampaignType, st.SearchStrategy[object]] = {
    "string": st.text(),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "date": st.dates(date(1753, 1, 1)),
    "datetime": st.datetimes(datetime(1753, 1, 1))
    | st.datetimes(datetime(1753, 1, 1), timezones=st.sampled_from([UTC, timezone(timedelta(hours=2))])),
}
TYPED_VALUES = st.sampled_from(sorted(VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), VALUES[kind] | st.none()))
POLICIES = st.sampled_from(["", "smartCase", "email", "phone", "identifier"])


@given(TYPED_VALUES, POLICIES)
def test_every_value_is_the_same_as_itself(typed: tuple[CampaignType, object], data_policy: str) -> None:
    kind, value = typed
    assert same_in_campaign(value, value, kind, data_policy)


@given(TYPED_VALUES, POLICIES)
def test_what_was_sent_is_what_was_desired(typed: tuple[CampaignType, object], data_policy: str) -> None:
    kind, value = typed
    if isinstance(value, datetime):
        value = value.replace(tzinfo=None)
    assert same_in_campaign(value, to_wire(value, kind), kind, data_policy)
