"""Record filters as DuckDB answers them: every comparison on every type it is for, and operands that stay operands.

R70, R85: conditions over Dynamics columns, mapped or not, combined with And or Or.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, get_args

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from d365_campaign.field_types import HELD, SourceType
from d365_campaign.record_filter import COMPARISONS, FilterCondition, RecordFilter, condition_faults, literal
from d365_campaign.store.values import quote

LOW, MIDDLE, HIGH = (f"{n:08x}-0000-4000-8000-00000000abcd" for n in (1, 2, 3))
# Of each type three values in ascending order, and operands that mean the second and the third of them.
EXAMPLES: dict[SourceType, tuple[Sequence[Any], Any, Any]] = {
    "text": (["Ada", "MIDDLE", "Zoe"], "mIdDlE", "ZOE"),
    "reference": ([LOW, MIDDLE, HIGH.upper()], MIDDLE.upper(), f"{{{HIGH}}}"),
    "integer": ([-5, 0, 12], 0, "12"),
    "choice": ([1, 2, 100_000_000], 2, 100_000_000),
    "decimal": ([Decimal("-0.5"), Decimal("9.99"), Decimal("10")], 9.99, 10),
    "money": (["9.5000", "10.0000", "100"], "10", 100.0),
    "double": ([-1e300, 0.1, 1e300], 0.1, "1e300"),
    "boolean": ([False, True], True, None),
    "date": ([date(1899, 12, 31), date(2026, 1, 2), date(2026, 1, 10)], "2026-01-02", date(2026, 1, 10)),
    "datetime": (
        [datetime(2026, 1, 1, 9), datetime(2026, 1, 1, 10), datetime(2026, 1, 1, 10, 0, 1)],
        "2026-01-01T12:00:00+02:00",
        datetime(2026, 1, 1, 10, 0, 1),
    ),
}
# Which of these rows pass when they are compared with the middle one, or with the middle one and the high one.
PASSING: dict[str, set[int | None]] = {
    "equals": {1},
    "not_equals": {0, 2, None},
    "in": {1, 2},
    "not_in": {0, None},
    "is_empty": {None},
    "is_not_empty": {0, 1, 2},
    "contains": {1},
    "not_contains": {0, 2, None},
    "starts_with": {1},
    "ends_with": {1},
    "greater_than": {2},
    "greater_or_equal": {1, 2},
    "less_than": {0},
    "less_or_equal": {0, 1},
}


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def condition(comparison: Any, *operands: Any, source: str = "a") -> FilterCondition:
    many = COMPARISONS[comparison].operands == "many"
    given = {"values": operands} if many else dict(zip(["value"], operands, strict=False))
    return FilterCondition(source=source, comparison=comparison, **given)


def passing(
    database: duckdb.DuckDBPyConnection, kind: SourceType, values: Sequence[Any], record_filter: RecordFilter
) -> list[Any]:
    """Those of *values* in a column `a` of this type that pass."""
    database.execute(f"create or replace table record (n integer, a {HELD[kind].duckdb})")
    database.executemany("insert into record values (?, ?)", [[n, value] for n, value in enumerate(values)])
    found = database.execute(f"select n from record where {record_filter.sql({'a': kind}, quote)} order by n")
    return [values[n] for (n,) in found.fetchall()]


@pytest.mark.parametrize(
    ("comparison", "kind"), [(name, kind) for name, rule in COMPARISONS.items() for kind in sorted(rule.types)]
)
def test_every_comparison_is_right_on_every_type_it_is_for(
    database: duckdb.DuckDBPyConnection, comparison: str, kind: SourceType
) -> None:
    rows, middle, high = EXAMPLES[kind]
    operands = {"none": (), "one": (middle,), "many": (middle, high)}[COMPARISONS[comparison].operands]
    asked = condition(comparison, *(operand for operand in operands if operand is not None))

    assert [*condition_faults(asked, kind)] == []
    assert passing(database, kind, [*rows, None], RecordFilter(conditions=[asked])) == [
        value for n, value in [*enumerate(rows), (None, None)] if n in PASSING[comparison]
    ]


def test_every_source_type_can_be_filtered() -> None:
    assert EXAMPLES.keys() == set(get_args(SourceType)) == {kind for r in COMPARISONS.values() for kind in r.types}


@pytest.mark.parametrize(
    ("comparison", "operand", "rows", "expected"),
    [
        pytest.param("equals", "O'Brien", ["o'brien", "obrien"], ["o'brien"], id="quote"),
        pytest.param("equals", "' or true --", ["a", "' OR TRUE --"], ["' OR TRUE --"], id="quote that would close"),
        pytest.param("contains", "50%", ["50% off", "500"], ["50% off"], id="percent is no wildcard"),
        pytest.param("starts_with", "a_", ["A_b", "axb"], ["A_b"], id="underscore is no wildcard"),
        pytest.param("ends_with", "\\", ["c:\\", "c:"], ["c:\\"], id="backslash escapes nothing"),
        pytest.param("contains", "{0}", ["{0}", "a"], ["{0}"], id="braces are no placeholder"),
        pytest.param("equals", "MÜLLER", ["Müller", "Muller"], ["Müller"], id="letters with marks"),
        pytest.param("equals", "ΟΔΟΣ", ["ΟΔΟΣ", "οδοσ", "a"], ["ΟΔΟΣ", "οδοσ"], id="a Greek word's last letter"),
        pytest.param("equals", "İZMİR", ["İZMİR", "a"], ["İZMİR"], id="a Turkish capital"),
        pytest.param("equals", 1, ["1", "01"], ["1"], id="number of YAML"),
        pytest.param("equals", True, ["true", "1"], ["true"], id="truth of YAML"),
        pytest.param("equals", "2026-01-01", ["2026-01-01"], ["2026-01-01"], id="day"),
        pytest.param("not_equals", "a", ["A", "b", "", None], ["b", "", None], id="empty text differs from any"),
        pytest.param("not_contains", "a", ["bab", "b", "", None], ["b", "", None], id="empty text contains nothing"),
        pytest.param("is_empty", None, ["a", " ", "", None], ["", None], id="empty text is empty"),
        pytest.param("is_not_empty", None, ["a", " ", "", None], ["a", " "], id="blank is not empty"),
    ],
)
def test_text_is_compared_letter_by_letter_without_regard_to_case(
    database: duckdb.DuckDBPyConnection, comparison: str, operand: Any, rows: list[Any], expected: list[Any]
) -> None:
    asked = condition(comparison, *([] if operand is None else [operand]))

    assert passing(database, "text", rows, RecordFilter(conditions=[asked])) == expected


@pytest.mark.parametrize(
    ("kind", "operand", "value"),
    [
        pytest.param("integer", "5", 5, id="number in quotes"),
        pytest.param("choice", 0, 0, id="nought is an operand"),
        pytest.param("choice", -(2**63), -(2**63), id="the least integer"),
        pytest.param("boolean", False, False, id="false is an operand"),
        pytest.param("boolean", "True", True, id="truth in quotes"),
        pytest.param("boolean", 0, False, id="truth by number"),
        pytest.param("decimal", 0.1, Decimal("0.1"), id="binary fraction as it is written"),
        pytest.param("decimal", "1e2", Decimal(100), id="power of ten"),
        pytest.param("decimal", "0.12345678904", Decimal("0.1234567890"), id="more places than Dynamics has"),
        pytest.param("money", "19.9", "19.9000", id="money by its amount"),
        pytest.param("double", 0.1, 0.1, id="double"),
        pytest.param("double", "5e-324", 5e-324, id="the least double"),
        pytest.param("date", date(2026, 1, 1), date(2026, 1, 1), id="day"),
        pytest.param("datetime", "2026-01-01", datetime(2026, 1, 1), id="moment by its day is midnight UTC"),
        pytest.param("datetime", datetime(2026, 1, 1), datetime(2026, 1, 1), id="moment without offset is UTC"),
        pytest.param(
            "datetime",
            datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-5))),
            datetime(2026, 1, 1, 5),
            id="moment with offset",
        ),
        pytest.param("datetime", "2026-01-01T00:00:00.5Z", datetime(2026, 1, 1, 0, 0, 0, 500_000), id="half a second"),
        pytest.param("reference", LOW.replace("-", ""), LOW, id="GUID without hyphens"),
    ],
)
def test_operand_of_any_spelling_equals_its_value(
    database: duckdb.DuckDBPyConnection, kind: SourceType, operand: Any, value: Any
) -> None:
    asked = condition("equals", operand)

    assert [*condition_faults(asked, kind)] == []
    assert passing(database, kind, [value, None], RecordFilter(conditions=[asked])) == [value]


@pytest.mark.parametrize(
    ("kind", "operand"),
    [
        ("integer", "many"),
        ("integer", 1.5),
        ("integer", True),
        ("integer", 2**63),
        ("choice", "Female"),
        ("choice", "1; drop table record"),
        ("decimal", "1,5"),
        ("decimal", True),
        ("decimal", "nan"),
        ("decimal", "-inf"),
        ("decimal", "1e27"),
        ("decimal", "1e999999999999999999"),
        ("money", "$5"),
        ("double", "1e400"),
        ("double", "nan"),
        ("double", False),
        ("boolean", "yes"),
        ("boolean", 2),
        ("date", "01.02.2026"),
        ("date", "2026-02-30"),
        ("date", "2026-01-01T00:00:00Z"),
        ("datetime", "yesterday"),
        ("datetime", "0001-01-01T00:00:00+02:00"),
        ("reference", "Jane Doe"),
        ("reference", 42),
    ],
)
def test_operand_of_the_wrong_type_is_told(kind: SourceType, operand: Any) -> None:
    for asked in (condition("equals", operand), condition("not_in", operand, operand)):
        faults = [*condition_faults(asked, kind)]
        assert set(faults) == {f"'{operand}' can't be compared with 'a' ({kind}). Correct it."}
        assert len(faults) == len(asked.operands)


def test_comparison_that_a_type_does_not_know_is_told_with_those_it_knows() -> None:
    assert [*condition_faults(condition("contains", "1"), "choice")] == [
        "'contains' can't be asked of 'a' (choice). Use one of equals, not_equals, in, not_in, is_empty, is_not_empty, "
        "greater_than, greater_or_equal, less_than, less_or_equal."
    ]
    assert [*condition_faults(condition("greater_than", True), "boolean")] == [
        "'greater_than' can't be asked of 'a' (boolean). Use one of equals, not_equals, in, not_in, is_empty, "
        "is_not_empty."
    ]


@pytest.mark.parametrize("comparison", ["equals", "not_equals", "contains", "in"])
def test_comparison_with_empty_text_is_told_the_one_that_is_meant(comparison: str) -> None:
    assert [*condition_faults(condition(comparison, ""), "text")] == [
        "'a' is compared with empty text. Use is_empty or is_not_empty."
    ]


@pytest.mark.parametrize(
    ("given", "comparison", "takes"),
    [
        pytest.param({}, "equals", "one value", id="none for one"),
        pytest.param({"values": [1]}, "equals", "one value", id="several for one"),
        pytest.param({"value": 1, "values": [1]}, "equals", "one value", id="both"),
        pytest.param({"value": 1}, "in", "values, a list of them", id="one for several"),
        pytest.param({"values": []}, "not_in", "values, a list of them", id="an empty list"),
        pytest.param({"value": 1}, "is_empty", "neither value nor values", id="one for none"),
        pytest.param({"values": [1]}, "is_not_empty", "neither value nor values", id="several for none"),
    ],
)
def test_comparison_takes_as_many_operands_as_it_needs(given: dict[str, Any], comparison: Any, takes: str) -> None:
    with pytest.raises(ValidationError, match=f"comparison '{comparison}' takes {takes}."):
        FilterCondition(source="a", comparison=comparison, **given)


@pytest.mark.parametrize(
    "operand",
    [True, False, 0, 1, 1.0, 1.5, "", "true", "1", "2026-01-01", date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)],
    ids=repr,
)
def test_operand_keeps_the_type_it_was_given_in(operand: Any) -> None:
    asked = FilterCondition(source="a", comparison="equals", value=operand)

    assert asked.operands == (operand,)
    assert type(asked.value) is type(operand)
    assert [type(value) for value in condition("in", operand).values] == [type(operand)]


@pytest.mark.parametrize("operand", [[1], {"a": 1}, [None]], ids=repr)
def test_operand_that_is_no_single_value_is_one_fault(operand: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        FilterCondition(source="a", comparison="equals", value=operand)

    assert [fault["loc"] for fault in refused.value.errors()] == [("value",)]
    assert "must be one value: text, a number, a date, true or false." in str(refused.value)


def test_filter_without_conditions_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        RecordFilter(conditions=[])


# --- against plain Python ---------------------------------------------------------------------------------------------

COLUMNS: dict[str, SourceType] = {"name": "text", "age": "integer", "credit": "decimal", "vip": "boolean", "on": "date"}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "name": st.text("aAbB'%_\\ äÄ", max_size=3),
    "age": st.integers(-2, 2),
    "credit": st.decimals(-1, 1, places=1),
    "vip": st.booleans(),
    "on": st.dates(date(2026, 1, 1), date(2026, 1, 4)),
}
ROWS = st.lists(st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()}), max_size=6)
HOLDS: dict[str, Callable[[Any, Sequence[Any]], bool]] = {
    "equals": lambda value, operands: value == operands[0],
    "not_equals": lambda value, operands: value != operands[0],
    "in": lambda value, operands: value in operands,
    "not_in": lambda value, operands: value not in operands,
    "is_empty": lambda value, operands: value is None,
    "is_not_empty": lambda value, operands: value is not None,
    "contains": lambda value, operands: operands[0] in value,
    "not_contains": lambda value, operands: operands[0] not in value,
    "starts_with": lambda value, operands: value.startswith(operands[0]),
    "ends_with": lambda value, operands: value.endswith(operands[0]),
    "greater_than": lambda value, operands: value > operands[0],
    "greater_or_equal": lambda value, operands: value >= operands[0],
    "less_than": lambda value, operands: value < operands[0],
    "less_or_equal": lambda value, operands: value <= operands[0],
}


@st.composite
def questions(draw: st.DrawFn) -> tuple[FilterCondition, Sequence[Any]]:
    """A condition of any kind, and its operands as plain Python compares them."""
    source = draw(st.sampled_from(sorted(COLUMNS)))
    able = [name for name, rule in COMPARISONS.items() if COLUMNS[source] in rule.types]
    comparison = draw(st.sampled_from(able))
    least, most = {"none": (0, 0), "one": (1, 1), "many": (1, 3)}[COMPARISONS[comparison].operands]
    operands = draw(st.lists(VALUES[source].filter(lambda value: value != ""), min_size=least, max_size=most))
    spelt = [str(operand) if isinstance(operand, Decimal | date) else operand for operand in operands]
    return condition(comparison, *spelt, source=source), [plain(operand) for operand in operands]


def plain(value: Any) -> Any:
    return value.lower() or None if isinstance(value, str) else value


def holds(asked: FilterCondition, operands: Sequence[Any], row: Mapping[str, Any]) -> bool:
    value = plain(row[asked.source])
    if value is None:
        return asked.comparison in ("is_empty", "not_equals", "not_in", "not_contains")
    return HOLDS[asked.comparison](value, operands)


@given(ROWS, st.lists(questions(), min_size=1, max_size=3), st.sampled_from(["all", "any"]))
def test_any_filter_passes_what_plain_python_would_pass(
    database: duckdb.DuckDBPyConnection,
    rows: list[dict[str, Any]],
    asked: list[tuple[FilterCondition, Sequence[Any]]],
    match: Literal["all", "any"],
) -> None:
    """R85."""
    record_filter = RecordFilter(match=match, conditions=[condition for condition, _ in asked])
    columns = ", ".join(f"{quote(name)} {HELD[kind].duckdb}" for name, kind in COLUMNS.items())
    database.execute(f"create or replace table record (n integer, {columns})")
    for n, row in enumerate(rows):
        database.execute("insert into record values (?, ?, ?, ?, ?, ?)", [n, *(row[name] for name in COLUMNS)])

    passed = database.execute(f"select n from record where {record_filter.sql(COLUMNS, quote)} order by n").fetchall()

    combine = all if match == "all" else any
    assert [n for (n,) in passed] == [
        n for n, row in enumerate(rows) if combine(holds(*question, row) for question in asked)
    ]


# --- operands stay operands -------------------------------------------------------------------------------------------


@given(st.text())
@example("'; drop table record; --")
@example("\\' or 1=1 /*")
@example("$$ {0} ? $1 \0 \n")
def test_text_operand_is_its_text_and_nothing_else(database: duckdb.DuckDBPyConnection, text: str) -> None:
    condition_sql = RecordFilter(conditions=[condition("equals", text)]).sql({"a": "text"}, quote)

    held = database.execute(f"select {literal(text, 'text')} = lower(?)", [text]).fetchone()

    assert held == (True,)
    assert len(database.extract_statements(f"select * from record where {condition_sql}")) == 1


LITERAL = {
    "integer": r"-?\d+",
    "choice": r"-?\d+",
    "decimal": r"-?\d+\.\d{10}",
    "money": r"-?\d+\.\d{10}",
    "double": r"cast\('-?\d[\d.e+-]*' as double\)",
    "boolean": "true|false",
    "date": r"date '\d{4}-\d\d-\d\d'",
    "datetime": r"timestamp '\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{6})?'",
    "reference": r"'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'",
}


@given(
    st.sampled_from(sorted(LITERAL)),
    st.text()
    | st.text("0123456789-+:.TZeE_ '")
    | st.uuids().map(str)
    | st.datetimes().map(str)
    | st.floats().map(str)
    | st.integers().map(str),
)
def test_operand_of_any_other_type_has_no_room_for_sql(kind: SourceType, text: str) -> None:
    try:
        made = literal(text, kind)
    except (ValueError, ArithmeticError):
        return
    assert re.fullmatch(LITERAL[kind], made, re.ASCII)


def test_half_a_character_is_no_text() -> None:
    """YAML can spell one; DuckDB can't be asked with it."""
    with pytest.raises(UnicodeEncodeError):
        literal("\ud800", "text")
