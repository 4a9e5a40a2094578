"""The type table, executed: what Dynamics sends, through DuckDB, into what Campaign is sent."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from itertools import product
from typing import get_args

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d365_campaign.field_types import (
    ATTRIBUTE_TYPES,
    CAMPAIGN_DUCKDB,
    CONVERSIONS,
    EMPTY_WIRE,
    FROM_CAMPAIGN,
    HELD,
    INTEGER_BOUNDS,
    RAW_NUMBERS,
    REFUSED,
    RESOURCE_TYPES,
    CampaignType,
    SourceType,
    campaign_type,
    same_in_campaign,
    source_type,
    to_wire,
)

Pair = tuple[SourceType, CampaignType]
FAULT = "a fault of the record"

# Whether all values of a Dynamics type can become one of a Campaign type, some of them, or none.
VERDICTS = """
              string   integer  float    double   boolean  date     datetime
   text       all      some     some     some     some     some     some
   integer    all      all      all      all      some     none     none
   choice     all      all      all      all      some     none     none
   decimal    all      some     all      all      some     none     none
   double     some     some     some     some     some     none     none
   boolean    all      all      all      all      all      none     none
   datetime   all      none     none     none     none     all      all
   date       all      none     none     none     none     all      some
   money      all      some     some     some     none     none     none
   reference  all      none     none     none     none     none     none
"""

# What a page holds -> what Campaign is to hold. Each row also has a null, which stays null.
CASES: dict[Pair, list[tuple[object, object]]] = {
    ("text", "string"): [
        ("Ada", "Ada"),
        ("", ""),
        (" padded ", " padded "),
        ("Zoë 'x'\n", "Zoë 'x'\n"),
        ("1,3", "1,3"),
    ],
    ("text", "integer"): [
        ("12", 12),
        ("-12", -12),
        ("+12", 12),
        (" 012 ", 12),
        ("12.", 12),
        ("12.00", 12),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", FAULT),
        ("12.5", FAULT),
        ("1e3", FAULT),
        ("1_000", FAULT),
        ("1,000", FAULT),
        ("0x1F", FAULT),
        ("twelve", FAULT),
        ("12\n", FAULT),
        ("", None),
        ("  ", None),
    ],
    ("text", "float"): [("0.5", 0.5), ("3.4e38", 3.4e38), ("3.5e38", FAULT), ("-3.5e38", FAULT), ("", None)],
    ("text", "double"): [
        ("0.1", 0.1),
        (" -12 ", -12.0),
        ("+.5", 0.5),
        ("5.", 5.0),
        ("1e300", 1e300),
        ("1.5E-3", 0.0015),
        ("1e999", FAULT),
        ("NaN", FAULT),
        ("inf", FAULT),
        ("12,5", FAULT),
        ("1_0", FAULT),
        (".", FAULT),
        ("", None),
    ],
    ("text", "boolean"): [
        *((text, True) for text in ("true", "True", "yes", "YES", "1", " true ")),
        *((text, False) for text in ("false", "FALSE", "no", "0")),
        *((text, FAULT) for text in ("2", "1.0", "t", "y", "on", "ja")),
        ("", None),
    ],
    ("text", "date"): [
        ("2026-11-23", date(2026, 11, 23)),
        (" 2024-02-29 ", date(2024, 2, 29)),
        ("2026-11-23T23:30:00-05:00", date(2026, 11, 24)),
        ("0001-01-01", date(1, 1, 1)),
        ("9999-12-31", date(9999, 12, 31)),
        ("0000-01-01", FAULT),
        ("10000-01-01", FAULT),
        ("2026-02-29", FAULT),
        ("2026-1-2", FAULT),
        ("2026/11/23", FAULT),
        ("23.11.2026", FAULT),
        ("20261123", FAULT),
        ("epoch", FAULT),
        ("", None),
    ],
    ("text", "datetime"): [
        ("2026-11-23", datetime(2026, 11, 23)),
        ("2026-11-23T10:00:00Z", datetime(2026, 11, 23, 10)),
        ("2026-11-23 10:00", datetime(2026, 11, 23, 10)),
        ("2026-11-23T10:00:00.123Z", datetime(2026, 11, 23, 10, 0, 0, 123000)),
        ("2026-11-23T10:00:00.9999999Z", datetime(2026, 11, 23, 10, 0, 0, 999000)),
        ("2026-11-23T10:00:00+02:00", datetime(2026, 11, 23, 8)),
        ("2026-11-23T10:00-0330", datetime(2026, 11, 23, 13, 30)),
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59)),
        ("9999-12-31T23:59:59-01:00", FAULT),
        ("0001-01-01T00:00:00+01:00", FAULT),
        ("2026-11-23T10:00:00+05:99", FAULT),
        ("2026-11-23T25:00:00Z", FAULT),
        ("2026-11-23 10:00:00 Europe/Berlin", FAULT),
        ("infinity", FAULT),
        ("10:00", FAULT),
        ("", None),
    ],
    ("integer", "string"): [(0, "0"), (-7, "-7"), (2**63 - 1, "9223372036854775807")],
    ("integer", "integer"): [(0, 0), (-1, -1), (2**63 - 1, 2**63 - 1), (-(2**63), -(2**63))],
    ("integer", "float"): [(3, 3.0)],
    ("integer", "double"): [(3, 3.0), (2**53, 2.0**53), (2**53 + 1, 2.0**53)],
    ("integer", "boolean"): [(1, True), (0, False), (2, FAULT), (-1, FAULT)],
    ("choice", "string"): [(1, "1"), (100000000, "100000000")],
    ("choice", "integer"): [(100000000, 100000000), (-1, -1)],
    ("choice", "float"): [(1, 1.0)],
    ("choice", "double"): [(100000000, 1e8)],
    ("choice", "boolean"): [(1, True), (0, False), (100000000, FAULT)],
    ("decimal", "string"): [
        ("100.0000", "100"),
        ("0.00", "0"),
        ("-0.5", "-0.5"),
        ("0.0000000001", "0.0000000001"),
        ("100000000000.01", "100000000000.01"),
        ("12345678901.0123456789", "12345678901.0123456789"),
    ],
    ("decimal", "integer"): [("100.00", 100), ("-3", -3), ("2.5", FAULT), ("0.0000000001", FAULT)],
    ("decimal", "float"): [("0.5", 0.5)],
    ("decimal", "double"): [("100000000000.01", 100000000000.01), ("-0.0000000001", -1e-10), ("0.10", 0.1)],
    ("decimal", "boolean"): [("1.00", True), ("0", False), ("0.5", FAULT)],
    ("double", "string"): [
        (0.1, "0.1"),
        (2.0, "2"),
        (1200.0, "1200"),
        (-0.0, "0"),
        (0.00001, "0.00001"),
        (-0.0000125, "-0.0000125"),
        (100000000000.01, "100000000000.01"),
        (-2.5e17, "-250000000000000000"),
        (1e22, "1" + 22 * "0"),
        (5e-324, "0." + 323 * "0" + "5"),
        (float("nan"), FAULT),
        (float("-inf"), FAULT),
    ],
    ("double", "integer"): [
        (2.0, 2),
        (-0.0, 0),
        (-(2.0**63), -(2**63)),
        (2.5, FAULT),
        (2.0**63, FAULT),
        (float("nan"), FAULT),
        (float("inf"), FAULT),
    ],
    ("double", "float"): [(0.1, 0.1), (3.4e38, 3.4e38), (-3.5e38, FAULT), (float("nan"), FAULT)],
    ("double", "double"): [(0.1, 0.1), (1e300, 1e300), (float("nan"), FAULT), (float("inf"), FAULT)],
    ("double", "boolean"): [(1.0, True), (-0.0, False), (0.5, FAULT), (float("nan"), FAULT)],
    ("boolean", "string"): [(True, "true"), (False, "false")],
    ("boolean", "integer"): [(True, 1), (False, 0)],
    ("boolean", "float"): [(True, 1.0), (False, 0.0)],
    ("boolean", "double"): [(True, 1.0), (False, 0.0)],
    ("boolean", "boolean"): [(True, True), (False, False)],
    ("datetime", "string"): [
        ("2026-05-01T08:00:00Z", "2026-05-01T08:00:00Z"),
        ("2026-05-01T00:00:00Z", "2026-05-01T00:00:00Z"),
        ("2026-05-01T08:00:00.500Z", "2026-05-01T08:00:00.5Z"),
        ("0999-01-01T00:00:00Z", "0999-01-01T00:00:00Z"),
    ],
    ("datetime", "date"): [
        ("2026-05-01T23:59:59Z", date(2026, 5, 1)),
        ("2026-05-01T23:59:59-02:00", date(2026, 5, 2)),
    ],
    ("datetime", "datetime"): [
        ("2026-05-01T08:00:00Z", datetime(2026, 5, 1, 8)),
        ("2026-05-01T08:00:00+02:00", datetime(2026, 5, 1, 6)),
        ("2026-05-01T08:00:00.1239999Z", datetime(2026, 5, 1, 8, 0, 0, 123000)),
    ],
    ("date", "string"): [("1815-12-10", "1815-12-10"), ("0999-01-01", "0999-01-01")],
    ("date", "date"): [("1815-12-10", date(1815, 12, 10)), ("2024-02-29", date(2024, 2, 29))],
    ("date", "datetime"): [("1815-12-10", datetime(1815, 12, 10)), ("999999-12-31", FAULT)],
    ("money", "string"): [("20000.0000", "20000.0000"), ("-922337203685477.5807", "-922337203685477.5807")],
    ("money", "integer"): [("20000.0000", 20000), ("922337203685477.0000", 922337203685477), ("0.5000", FAULT)],
    ("money", "float"): [("12.5000", 12.5), ("1e39", FAULT)],
    ("money", "double"): [("12.5000", 12.5), ("922337203685477.5807", 922337203685477.5807), ("1e999", FAULT)],
    ("reference", "string"): [("5b1f8a5c-0000-0000-0000-000000000001", "5b1f8a5c-0000-0000-0000-000000000001")],
}


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """Far from UTC, so that a conversion that depends on where it runs shows."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'America/St_Johns'")
        yield connection


def hold(database: duckdb.DuckDBPyConnection, source: SourceType, *stored: object) -> None:
    """Load a page of one column into the table `held`."""
    page = pl.DataFrame({"n": range(len(stored)), "x": pl.Series(stored, dtype=HELD[source].page)})
    database.execute(f"create or replace table held (n integer, x {HELD[source].duckdb})")
    database.register("page", page)
    database.execute(f"insert into held select n, {HELD[source].load.format('x')} from page")
    database.unregister("page")


def held(database: duckdb.DuckDBPyConnection, sql: str = "x") -> list[object]:
    return [value for (value,) in database.execute(f"select {sql} from held order by n").fetchall()]


def converted(database: duckdb.DuckDBPyConnection, pair: Pair, *stored: object) -> list[object]:
    """The Campaign value of each stored one; FAULT where there was a value and conversion leaves none."""
    conversion = CONVERSIONS[pair]
    hold(database, pair[0], *stored)
    made = held(database, conversion.sql.format("x"))
    return [
        FAULT if conversion.may_fail and value is None and str(before or "").strip() else value
        for before, value in zip(held(database), made, strict=True)
    ]


def exactly(values: list[object]) -> list[tuple[type, object]]:
    return [(type(value), value) for value in values]


def verdicts() -> dict[Pair, str]:
    targets, *rows = (line.split() for line in VERDICTS.strip().splitlines())
    return {(source, target): said for source, *row in rows for target, said in zip(targets, row, strict=True)}


def test_every_pair_has_its_verdict() -> None:
    ours = {pair: "some" if conversion.may_fail else "all" for pair, conversion in CONVERSIONS.items()}
    assert not CONVERSIONS.keys() & REFUSED.keys()
    assert ours | dict.fromkeys(REFUSED, "none") == verdicts()
    assert set(verdicts()) == set(product(get_args(SourceType), get_args(CampaignType)))


def test_every_refusal_has_a_reason() -> None:
    assert all(len(reason.split()) > 4 for reason in REFUSED.values())


@pytest.mark.parametrize("pair", CONVERSIONS, ids=" to ".join)
def test_every_convertible_pair_makes_the_campaign_value(database: duckdb.DuckDBPyConnection, pair: Pair) -> None:
    stored, expected = zip(*CASES[pair], (None, None), strict=True)
    assert exactly(converted(database, pair, *stored)) == exactly(list(expected))


def test_every_pair_that_may_fail_is_seen_to_fail() -> None:
    failing = {pair for pair, cases in CASES.items() if any(expected is FAULT for _, expected in cases)}
    assert failing == {pair for pair, said in verdicts().items() if said == "some"}


@pytest.mark.parametrize("pair", CONVERSIONS, ids=" to ".join)
def test_every_conversion_gives_the_type_the_mirror_holds(database: duckdb.DuckDBPyConnection, pair: Pair) -> None:
    hold(database, pair[0], None)
    assert held(database, f"lower(typeof({CONVERSIONS[pair].sql.format('x')}))") == [CAMPAIGN_DUCKDB[pair[1]]]


# --- holding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "stored", "expected"),
    [
        ("integer", -(2**63), -(2**63)),
        ("integer", 2**63 - 1, 2**63 - 1),
        ("choice", 2**31 - 1, 2**31 - 1),
        ("decimal", "100000000000.0000000000", Decimal("100000000000")),
        ("decimal", "-99999999999.9999999999", Decimal("-99999999999.9999999999")),
        ("decimal", "1E-10", Decimal("0.0000000001")),
        ("money", "922337203685477.5807", "922337203685477.5807"),
        ("money", "0.0000", "0.0000"),
        ("double", 100000000000.0, 100000000000.0),
        ("datetime", "1753-01-01T00:00:00Z", datetime(1753, 1, 1)),
        ("datetime", "9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59)),
        ("date", "1753-01-01", date(1753, 1, 1)),
        ("date", "9999-12-31", date(9999, 12, 31)),
    ],
)
def test_what_lies_furthest_out_in_dataverse_is_held_exactly(
    database: duckdb.DuckDBPyConnection, source: SourceType, stored: object, expected: object
) -> None:
    hold(database, source, stored)
    assert exactly(held(database)) == exactly([expected])


@pytest.mark.parametrize(
    ("source", "stored"),
    [
        ("decimal", "twelve"),
        ("decimal", "1e28"),
        ("datetime", "2026-02-30T00:00:00Z"),
        ("datetime", "soon"),
        ("date", "2026-02-30"),
        ("date", ""),
    ],
)
def test_what_is_no_value_of_its_type_is_not_taken_for_an_empty_one(
    database: duckdb.DuckDBPyConnection, source: SourceType, stored: object
) -> None:
    with pytest.raises(duckdb.ConversionException):
        hold(database, source, stored)


def test_numbers_that_are_read_by_their_text_come_in_pages_of_text() -> None:
    assert {HELD[source].page for source in RAW_NUMBERS} == {pl.String}


def test_every_dataverse_type_is_a_source_type_that_can_be_held() -> None:
    assert set(ATTRIBUTE_TYPES.values()) | {"date"} == set(HELD) == set(get_args(SourceType))


# --- for any value ----------------------------------------------------------------------------------------------------

NUMBER_TEXTS = st.from_regex(r"\s?[+-]?[0-9]{0,25}\.?[0-9]{0,12}([eE][+-]?[0-9]{1,4})?\s?", fullmatch=True)
DAY_TEXTS = st.from_regex(r"\s?[0-9]{4}-[01][0-9]-[0-3][0-9]", fullmatch=True)
TIME_TEXTS = st.from_regex(
    r"([T ][0-2][0-9]:[0-6][0-9](:[0-6][0-9](\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?", fullmatch=True
)
MOMENT_TEXTS = st.tuples(DAY_TEXTS, TIME_TEXTS).map("".join)
DECIMALS = st.decimals(-(10**28) + 1, 10**28 - 1, places=10)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
STORED: dict[SourceType, st.SearchStrategy[object]] = {
    "text": st.text() | NUMBER_TEXTS | MOMENT_TEXTS,
    "integer": st.integers(-(2**63), 2**63 - 1),
    "choice": st.integers(-(2**31), 2**31 - 1),
    "decimal": DECIMALS,
    "double": st.floats(),
    "boolean": st.booleans(),
    "datetime": st.datetimes() | st.sampled_from(["infinity", "-infinity", "290309-12-22 (BC) 00:00:00"]),
    "date": st.dates() | st.sampled_from(["infinity", "-infinity", "5881580-07-10", "5877642-06-25 (BC)"]),
    "money": NUMBER_TEXTS | st.text(),
    "reference": st.uuids().map(str) | st.text(),
}


def of_any(source: SourceType) -> st.SearchStrategy[tuple[SourceType, object]]:
    return st.tuples(st.just(source), STORED[source])


def becomes(database: duckdb.DuckDBPyConnection, value: object, source: SourceType, target: CampaignType) -> object:
    """What one held value is converted to."""
    stored = f"select cast($value as {HELD[source].duckdb}) as x"
    given = format(value, "f") if isinstance(value, Decimal) else value
    [row] = database.execute(
        f"select {CONVERSIONS[source, target].sql.format('x')} from ({stored})", {"value": given}
    ).fetchall()
    return row[0]


@settings(deadline=None)
@given(st.sampled_from(get_args(SourceType)).flatmap(of_any))
def test_no_value_at_all_makes_a_conversion_raise(
    database: duckdb.DuckDBPyConnection, stored: tuple[SourceType, object]
) -> None:
    source, value = stored
    for target in CAMPAIGN_DUCKDB:
        if (source, target) in CONVERSIONS:
            made = becomes(database, value, source, target)
            assert made is not None or CONVERSIONS[source, target].may_fail


@settings(deadline=None)
@given(STORED["integer"])
def test_integer_reads_back_from_its_text(database: duckdb.DuckDBPyConnection, value: int) -> None:
    assert becomes(database, becomes(database, value, "integer", "string"), "text", "integer") == value


@settings(deadline=None)
@given(FINITE | st.floats(-1e11, 1e11).map(lambda x: round(x, 5)))
def test_text_of_a_double_is_its_shortest_in_plain_digits(database: duckdb.DuckDBPyConnection, value: float) -> None:
    text = str(becomes(database, value, "double", "string"))
    assert text == f"{Decimal(repr(value)):f}".removesuffix(".0").replace("-0", "-0" if value else "0")
    assert float(text) == value
    assert becomes(database, text, "text", "double") == value


@settings(deadline=None)
@given(DECIMALS)
def test_text_of_a_decimal_is_exact_and_its_double_the_nearest(
    database: duckdb.DuckDBPyConnection, value: Decimal
) -> None:
    text = str(becomes(database, value, "decimal", "string"))
    assert Decimal(text) == value
    assert not ("." in text and text[-1] in ".0")
    assert becomes(database, value, "decimal", "double") == float(value) == becomes(database, text, "money", "double")


@settings(deadline=None)
@given(DECIMALS | st.integers(-(2**64), 2**64).map(Decimal))
def test_decimal_becomes_the_same_integer_or_none(database: duckdb.DuckDBPyConnection, value: Decimal) -> None:
    expected = int(value) if value == int(value) and -(2**63) <= value < 2**63 else None
    assert becomes(database, value, "decimal", "integer") == expected
    assert becomes(database, format(value, "f"), "money", "integer") == expected


@settings(deadline=None)
@given(STORED["double"])
def test_double_becomes_the_same_integer_or_none(database: duckdb.DuckDBPyConnection, value: float) -> None:
    fits = value.is_integer() and -(2.0**63) <= value < 2.0**63
    assert becomes(database, value, "double", "integer") == (int(value) if fits else None)


OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=OFFSETS)


@settings(deadline=None)
@given(MOMENTS)
def test_moment_of_any_zone_reads_back_from_its_text_in_utc(
    database: duckdb.DuckDBPyConnection, value: datetime
) -> None:
    in_utc = value.astimezone(UTC).replace(tzinfo=None)
    to_the_millisecond = in_utc.replace(microsecond=in_utc.microsecond // 1000 * 1000)
    assert becomes(database, value.isoformat(), "text", "datetime") == to_the_millisecond
    assert becomes(database, value.isoformat(), "text", "date") == in_utc.date()
    assert becomes(database, becomes(database, in_utc, "datetime", "string"), "text", "datetime") == to_the_millisecond


@settings(deadline=None)
@given(st.dates())
def test_day_reads_back_from_its_text(database: duckdb.DuckDBPyConnection, value: date) -> None:
    assert becomes(database, becomes(database, value, "date", "string"), "text", "date") == value


# --- metadata ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attribute_type", "date_only", "expected"),
    [
        ("DateTime", False, "datetime"),
        ("DateTime", True, "date"),
        ("String", True, "text"),
        ("Money", False, "money"),
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


def test_every_integer_of_campaign_has_its_bounds() -> None:
    assert INTEGER_BOUNDS.keys() == {technical for technical, kind in RESOURCE_TYPES.items() if kind == "integer"}
    assert INTEGER_BOUNDS["byte"] == (-128, 127)
    assert INTEGER_BOUNDS["short"] == (-32768, 32767)
    assert INTEGER_BOUNDS["long"] == INTEGER_BOUNDS["integer"] == (-2147483648, 2147483647)
    assert INTEGER_BOUNDS["int64"] == (-9223372036854775808, 9223372036854775807)


# --- to and from Campaign ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kind", "wire"),
    [
        ("Ada", "string", "Ada"),
        (0, "integer", 0),
        (2**63 - 1, "integer", 2**63 - 1),
        (0.5, "double", 0.5),
        (1e300, "double", 1e300),
        (-0.0, "double", 0.0),
        (False, "boolean", False),
        (date(1815, 12, 10), "date", "1815-12-10"),
        (date(1, 1, 1), "date", "0001-01-01"),
        (datetime(2026, 5, 1, 8), "datetime", "2026-05-01 08:00:00.000Z"),
        (datetime(2026, 5, 1, 8, 0, 0, 123999), "datetime", "2026-05-01 08:00:00.123Z"),
        (datetime(999, 1, 2), "datetime", "0999-01-02 00:00:00.000Z"),
        (datetime(9999, 12, 31, 23, 59, 59, 999999), "datetime", "9999-12-31 23:59:59.999Z"),
        (datetime(2026, 5, 1, 8, tzinfo=timezone(timedelta(hours=2))), "datetime", "2026-05-01 06:00:00.000Z"),
    ],
)
def test_value_leaves_in_the_form_campaign_prints(value: object, kind: CampaignType, wire: object) -> None:
    assert repr(to_wire(value, kind)) == repr(wire)


@pytest.mark.parametrize("kind", EMPTY_WIRE)
def test_none_leaves_as_an_explicit_empty_value_that_campaign_cannot_tell_from_none(kind: CampaignType) -> None:
    assert to_wire(None, kind) is not None
    assert same_in_campaign(None, to_wire(None, kind), kind)


def test_value_of_a_foreign_type_is_not_sent() -> None:
    with pytest.raises(TypeError, match="a bytes is no Campaign string"):
        to_wire(b"Ada", "string")


def from_campaign(database: duckdb.DuckDBPyConnection, text: object, kind: CampaignType) -> object:
    [row] = database.execute(
        f"select {FROM_CAMPAIGN[kind].format('x')} from (select cast($text as varchar) as x)", {"text": text}
    ).fetchall()
    return row[0]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("string", "Ada", "Ada"),
        ("string", " ", " "),
        ("integer", "12", 12),
        ("integer", "0", 0),
        ("integer", "9223372036854775807", 2**63 - 1),
        ("integer", "12.0", 12),
        ("integer", "12.5", None),
        ("float", "12.5", 12.5),
        ("double", "1e300", 1e300),
        ("double", "many", None),
        ("boolean", "true", True),
        ("boolean", "false", False),
        ("boolean", "maybe", None),
        ("date", "2026-11-23", date(2026, 11, 23)),
        ("date", "2026-11-23 00:00:00.000Z", date(2026, 11, 23)),
        ("datetime", "2026-11-23 10:00:00.123Z", datetime(2026, 11, 23, 10, 0, 0, 123000)),
        ("datetime", "2026-11-23", datetime(2026, 11, 23)),
        ("datetime", "0001-01-01 00:00:00.000Z", datetime(1, 1, 1)),
        ("datetime", "some day", None),
        *((kind, "", None) for kind in CAMPAIGN_DUCKDB),
        *((kind, None, None) for kind in CAMPAIGN_DUCKDB),
    ],
)
def test_what_a_campaign_list_holds_is_read(
    database: duckdb.DuckDBPyConnection, kind: CampaignType, text: str | None, expected: object
) -> None:
    assert exactly([from_campaign(database, text, kind)]) == exactly([expected])


# --- sameness ---------------------------------------------------------------------------------------------------------

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
        pytest.param(0, None, "integer", "", True, id="null is zero"),
        pytest.param(0, "", "integer", "", True, id="empty text is zero"),
        pytest.param(None, "0.0", "double", "", True, id="zero as text is null"),
        pytest.param(None, False, "boolean", "", True, id="false is null"),
        pytest.param(None, "", "datetime", "", True, id="empty moment is null"),
        pytest.param(None, "2026-05-01", "date", "", False, id="no day"),
        pytest.param(3, "3", "integer", "", True, id="number as text"),
        pytest.param(1, True, "integer", "", True, id="number as boolean"),
        pytest.param(2**53 + 1, 2**53, "integer", "", False, id="large neighbours differ"),
        pytest.param(2**63 - 1, "9223372036854775807", "integer", "", True, id="64 bits as text"),
        pytest.param(0.1, "0.1", "double", "", True, id="fraction as text"),
        pytest.param(0.1, "0.1000000000000000055", "double", "", True, id="double printed at length"),
        pytest.param(0.1, "0.10000001", "double", "", False, id="doubles apart"),
        pytest.param(0.1, "0.10000000149", "float", "", True, id="single precision"),
        pytest.param(0.1, "0.1001", "float", "", False, id="floats apart"),
        pytest.param(1, 1.0, "double", "", True, id="integer as double"),
        pytest.param(1e300, "1E+300", "double", "", True, id="large double"),
        pytest.param(-0.0, 0, "double", "", True, id="negative zero"),
        pytest.param(1.0, "NaN", "double", "", False, id="not a number"),
        pytest.param(1.0, "sNaN", "float", "", False, id="signalling not a number"),
        pytest.param(float("nan"), float("nan"), "double", "", True, id="not a number twice"),
        pytest.param(3, "three", "integer", "", False, id="unreadable number"),
        pytest.param(True, "true", "boolean", "", True, id="boolean as text"),
        pytest.param(True, "True", "boolean", "", True, id="boolean in capitals"),
        pytest.param(True, 1, "boolean", "", True, id="boolean as number"),
        pytest.param(False, "0", "boolean", "", True, id="false as number"),
        pytest.param(True, False, "boolean", "", False, id="other boolean"),
        pytest.param(False, "perhaps", "boolean", "", False, id="unreadable boolean"),
        pytest.param(date(1815, 12, 10), "1815-12-10", "date", "", True, id="date as text"),
        pytest.param(date(1815, 12, 10), "1815-12-10 00:00:00.000Z", "date", "", True, id="date as moment"),
        pytest.param(date(2026, 5, 1), "2026-05-02T01:00:00+02:00", "date", "", True, id="day of another zone"),
        pytest.param(date(1815, 12, 10), "1815-12-11", "date", "", False, id="another day"),
        pytest.param(AT_EIGHT, "2026-05-01 08:00:00.000Z", "datetime", "", True, id="moment in Campaign's form"),
        pytest.param(AT_EIGHT, "2026-05-01T10:00:00+02:00", "datetime", "", True, id="moment of another zone"),
        pytest.param(AT_EIGHT, AT_EIGHT.replace(microsecond=999), "datetime", "", True, id="below a millisecond"),
        pytest.param(AT_EIGHT, "2026-05-01 08:00:01.000Z", "datetime", "", False, id="a second later"),
        pytest.param(datetime(2026, 5, 1), "2026-05-01", "datetime", "", True, id="moment as date"),
        pytest.param(datetime(999, 5, 1), "0999-05-01 00:00:00.000Z", "datetime", "", True, id="far moment"),
        pytest.param(AT_EIGHT, "0001-01-01T00:00:00+02:00", "datetime", "", False, id="moment before all years"),
        pytest.param(AT_EIGHT, "some day", "datetime", "", False, id="unreadable moment"),
    ],
)
def test_sameness_is_campaigns(desired: object, held: object, kind: CampaignType, data_policy: str, same: bool) -> None:
    assert same_in_campaign(desired, held, kind, data_policy) is same


VALUES: dict[CampaignType, st.SearchStrategy[object]] = {
    "string": st.text(),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "double": FINITE,
    "boolean": st.booleans(),
    "date": st.dates(),
    "datetime": st.datetimes() | MOMENTS,
}
TYPED_VALUES = st.sampled_from(sorted(VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), VALUES[kind] | st.none()))
POLICIES = st.sampled_from(["", "smartCase", "email", "phone", "identifier"])


@settings(deadline=None)
@given(TYPED_VALUES, POLICIES)
def test_every_value_is_the_same_as_itself(typed: tuple[CampaignType, object], data_policy: str) -> None:
    kind, value = typed
    assert same_in_campaign(value, value, kind, data_policy)


@settings(deadline=None)
@given(TYPED_VALUES, POLICIES)
def test_what_was_sent_is_what_was_desired(typed: tuple[CampaignType, object], data_policy: str) -> None:
    kind, value = typed
    assert same_in_campaign(value, to_wire(value, kind), kind, data_policy)


@settings(deadline=None)
@given(TYPED_VALUES)
def test_what_was_sent_reads_back_from_a_list(
    database: duckdb.DuckDBPyConnection, typed: tuple[CampaignType, object]
) -> None:
    kind, value = typed
    wire = to_wire(value, kind)
    text = str(wire).lower() if isinstance(wire, bool) else str(wire)
    read = from_campaign(database, text, kind)
    assert same_in_campaign(value, read, kind)
    assert to_wire(read, kind) == wire


@settings(deadline=None)
@given(VALUES["string"] | st.floats() | st.integers() | st.booleans(), TYPED_VALUES)
def test_nothing_campaign_holds_stops_a_comparison(found: object, typed: tuple[CampaignType, object]) -> None:
    kind, value = typed
    assert same_in_campaign(value, found, kind) == same_in_campaign(found, value, kind)
