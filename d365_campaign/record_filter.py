"""Which records of a table pass on to Campaign: conditions over raw Dynamics values, and the SQL they become.

A condition looks at the *technical* value, before any label, replacement or conversion. Text is compared as Dynamics
itself compares it, without regard to upper and lower case. An empty value equals nothing, so `not_equals` lets it pass;
empty text is an empty value.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from math import isfinite
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from d365_campaign.field_types import SourceType

LogicalName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,127}$")]
Comparison = Literal[
    "equals",
    "not_equals",
    "in",
    "not_in",
    "is_empty",
    "is_not_empty",
    "contains",
    "not_contains",
    "starts_with",
    "ends_with",
    "greater_than",
    "greater_or_equal",
    "less_than",
    "less_or_equal",
]


def scalar(value: object) -> object:
    """*value*, if it is one; otherwise each type that it isn't would be told of on its own."""
    if isinstance(value, bool | int | float | date | str):
        return value
    raise ValueError("must be one value: text, a number, a date, true or false.")


Operand = Annotated[bool | int | float | date | datetime | str, BeforeValidator(scalar)]

NUMBERS: frozenset[SourceType] = frozenset({"integer", "choice", "decimal", "double", "money"})
MOMENTS: frozenset[SourceType] = frozenset({"datetime", "date"})
TEXTS: frozenset[SourceType] = frozenset({"text"})
ORDERED = NUMBERS | MOMENTS
ANY: frozenset[SourceType] = ORDERED | TEXTS | {"reference", "boolean"}


@dataclass(frozen=True, slots=True)
class ComparisonRule:
    """SQL over a column {0} and its operands {1}, the source types it is for, and how many operands it takes."""

    sql: str
    types: frozenset[SourceType]
    operands: Literal["none", "one", "many"] = "one"


# Every condition is true or false; with an empty value none but these three is true: not_equals, not_in, is_empty.
COMPARISONS: Mapping[Comparison, ComparisonRule] = {
    "equals": ComparisonRule("coalesce({0} = {1}, false)", ANY),
    "not_equals": ComparisonRule("({0} is distinct from {1})", ANY),
    "in": ComparisonRule("coalesce({0} in ({1}), false)", ANY, "many"),
    "not_in": ComparisonRule("coalesce({0} not in ({1}), true)", ANY, "many"),
    "is_empty": ComparisonRule("({0} is null)", ANY, "none"),
    "is_not_empty": ComparisonRule("({0} is not null)", ANY, "none"),
    "contains": ComparisonRule("coalesce(contains({0}, {1}), false)", TEXTS),
    "not_contains": ComparisonRule("coalesce(not contains({0}, {1}), true)", TEXTS),
    "starts_with": ComparisonRule("coalesce(starts_with({0}, {1}), false)", TEXTS),
    "ends_with": ComparisonRule("coalesce(ends_with({0}, {1}), false)", TEXTS),
    "greater_than": ComparisonRule("coalesce({0} > {1}, false)", ORDERED),
    "greater_or_equal": ComparisonRule("coalesce({0} >= {1}, false)", ORDERED),
    "less_than": ComparisonRule("coalesce({0} < {1}, false)", ORDERED),
    "less_or_equal": ComparisonRule("coalesce({0} <= {1}, false)", ORDERED),
}
COMPARED: Mapping[SourceType, str] = {
    "text": "lower(nullif({0}, ''))",
    "reference": "lower({0})",
    "money": "try_cast({0} as decimal(38, 10))",
}
# What a column can hold, and an operand must: bigint, and decimal(38, 10) with room for its rounding.
INTEGERS = range(-(2**63), 2**63)
LARGEST_DECIMAL = 10**27


class FilterCondition(BaseModel):
    """One comparison of a Dynamics column, mapped or not, with a value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: LogicalName = Field(description="Logical name of the Dynamics column; it need not be mapped.")
    comparison: Comparison = Field(description="Text is compared without regard to upper and lower case.")
    value: Operand | None = Field(
        default=None,
        description="What the column is compared with: a date as YYYY-MM-DD, a moment as YYYY-MM-DDTHH:MM:SSZ, a "
        "choice by its number, a lookup by its GUID. is_empty and is_not_empty take none.",
    )
    values: Sequence[Operand] = Field(default=(), description="What it is compared with by in and not_in.")

    @model_validator(mode="after")
    def _operands_as_the_comparison_takes_them(self) -> "FilterCondition":
        given = ("one" if self.value is not None else "none", "many" if self.values else "none")
        wanted = COMPARISONS[self.comparison].operands
        allowed = {"none": ("none", "none"), "one": ("one", "none"), "many": ("none", "many")}[wanted]
        if given != allowed:
            takes = {"none": "neither value nor values", "one": "one value", "many": "values, a list of them"}[wanted]
            raise ValueError(f"comparison '{self.comparison}' takes {takes}.")
        return self

    @property
    def operands(self) -> Sequence[Operand]:
        """Every operand, whichever way it was given."""
        return (*(() if self.value is None else (self.value,)), *self.values)


class RecordFilter(BaseModel):
    """Conditions that a record must meet to be kept in step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    match: Literal["all", "any"] = Field(default="all", description="Whether all conditions must hold, or any of them.")
    conditions: Sequence[FilterCondition] = Field(min_length=1, description="What is asked of each record.")

    def sql(self, types: Mapping[str, SourceType], quoted: Callable[[str], str]) -> str:
        """The filter as one SQL condition over columns of these *types*, whose names pass through *quoted*."""
        word = " and " if self.match == "all" else " or "
        return word.join(_condition_sql(c, types[c.source], quoted(c.source)) for c in self.conditions)


def condition_faults(condition: FilterCondition, kind: SourceType) -> Iterator[str]:
    """What keeps *condition* from being asked of a column of this type."""
    if kind not in COMPARISONS[condition.comparison].types:
        able = ", ".join(name for name, rule in COMPARISONS.items() if kind in rule.types)
        yield f"'{condition.comparison}' can't be asked of '{condition.source}' ({kind}). Use one of {able}."
        return
    for operand in condition.operands:
        try:
            literal(operand, kind)
        except (ValueError, ArithmeticError):
            yield f"'{operand}' can't be compared with '{condition.source}' ({kind}). Correct it."
        if operand == "" and kind in TEXTS:
            yield f"'{condition.source}' is compared with empty text. Use is_empty or is_not_empty."


def _condition_sql(condition: FilterCondition, kind: SourceType, column: str) -> str:
    operands = ", ".join(literal(operand, kind) for operand in condition.operands)
    return COMPARISONS[condition.comparison].sql.format(COMPARED.get(kind, "{0}").format(column), operands)


def literal(value: Operand, kind: SourceType) -> str:
    """*value* as an SQL literal of a column's type. Raises ValueError or ArithmeticError where it is none."""
    text = str(value)
    if kind in ("integer", "choice"):
        return _integer(int(text))
    if kind in ("decimal", "money"):
        return _decimal(Decimal(text))
    if kind == "double":
        return f"cast('{_finite(float(text))!r}' as double)"
    if kind == "boolean":
        return _boolean(text.lower())
    if kind == "date":
        return f"date '{date.fromisoformat(text)}'"
    if kind == "datetime":
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
        return f"timestamp '{moment}'"
    if kind == "reference":
        return f"'{UUID(text)}'"
    text.encode()  # half a character can't be sent to DuckDB; this raises ValueError for it
    # DuckDB's lower case of a letter isn't always Python's, so DuckDB makes it on both sides.
    return "lower('" + text.replace("'", "''") + "')"


def _integer(number: int) -> str:
    if number not in INTEGERS:
        raise ValueError("out of range")
    return str(number)


def _decimal(number: Decimal) -> str:
    if not number.is_finite() or abs(number) >= LARGEST_DECIMAL:
        raise ValueError("out of range")
    return f"{number:.10f}"


def _finite(number: float) -> float:
    if not isfinite(number):
        raise ValueError("out of range")
    return number


def _boolean(word: str) -> str:
    if word not in ("true", "1", "false", "0"):
        raise ValueError("neither true nor false")
    return "true" if word in ("true", "1") else "false"
