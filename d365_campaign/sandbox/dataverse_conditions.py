"""What `$filter` compares and how: operators, functions, literals ("Filter rows using OData")."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fnmatch import translate
from typing import Any

from .dataverse_errors import PARSE, DataverseError
from .dataverse_schema import Column
from .dataverse_table import Row
from .dataverse_values import Reference, day, guid, stamp

Value = Callable[[Row], Any]
Test = Callable[[Any, list[Any]], bool]

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda left, right: left == right,
    "ne": lambda left, right: left != right,
    "gt": lambda left, right: left is not None and right is not None and left > right,
    "ge": lambda left, right: left is not None and right is not None and left >= right,
    "lt": lambda left, right: left is not None and right is not None and left < right,
    "le": lambda left, right: left is not None and right is not None and left <= right,
}
STRING_FUNCTIONS = {"contains": "%{}%", "startswith": "{}%", "endswith": "%{}"}


def _like_test(form: str) -> Test:
    def test(value: Any, given: list[Any]) -> bool:
        return isinstance(value, str) and like(form.format(given[0])).match(value) is not None

    return test


def _choices(value: Any) -> set[str]:
    return set(str(value).split(",")) if value else set()


CRM_FUNCTIONS: dict[str, Test] = {
    "In": lambda value, given: value in given,
    "NotIn": lambda value, given: value not in given,
    "Between": lambda value, given: value is not None and given[0] <= value <= given[1],
    "NotBetween": lambda value, given: value is not None and not given[0] <= value <= given[1],
    "On": lambda value, given: value is not None and value[:10] == given[0][:10],
    "NotOn": lambda value, given: value is not None and value[:10] != given[0][:10],
    "OnOrAfter": lambda value, given: value is not None and value[:10] >= given[0][:10],
    "OnOrBefore": lambda value, given: value is not None and value[:10] <= given[0][:10],
    "Contains": _like_test("%{}%"),
    "BeginsWith": _like_test("{}%"),
    "EndsWith": _like_test("%{}"),
    "Like": _like_test("{}"),
    "ContainValues": lambda value, given: bool(_choices(value) & {str(item) for item in given}),
    "DoesNotContainValues": lambda value, given: not _choices(value) & {str(item) for item in given},
}


def _days(now: datetime, first: int, after_last: int) -> tuple[datetime, datetime]:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + timedelta(days=first), midnight + timedelta(days=after_last)


def _month(now: datetime, months: int) -> tuple[datetime, datetime]:
    start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    number = start.year * 12 + start.month - 1 + months
    first = start.replace(year=number // 12, month=number % 12 + 1)
    return first, (first + timedelta(days=32)).replace(day=1)


def _year(now: datetime, years: int) -> tuple[datetime, datetime]:
    first = now.replace(year=now.year + years, month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
    return first, first.replace(year=first.year + 1)


_EVER, _SECOND = datetime.min, timedelta(seconds=1)
PERIODS: dict[str, Callable[[datetime, int], tuple[datetime, datetime]]] = {
    "Today": lambda now, _: _days(now, 0, 1),
    "Yesterday": lambda now, _: _days(now, -1, 0),
    "Tomorrow": lambda now, _: _days(now, 1, 2),
    "Last7Days": lambda now, _: _days(now, -7, 1),
    "Next7Days": lambda now, _: _days(now, 0, 8),
    "LastXHours": lambda now, number: (now - timedelta(hours=number), now + _SECOND),
    "NextXHours": lambda now, number: (now, now + timedelta(hours=number)),
    "LastXDays": lambda now, number: (_days(now, -number, 0)[0], now + _SECOND),
    "NextXDays": lambda now, number: (now, _days(now, 0, number + 1)[1]),
    "LastXWeeks": lambda now, number: (_days(now, -7 * number, 0)[0], now + _SECOND),
    "ThisMonth": lambda now, _: _month(now, 0),
    "LastMonth": lambda now, _: _month(now, -1),
    "ThisYear": lambda now, _: _year(now, 0),
    "LastYear": lambda now, _: _year(now, -1),
    "OlderThanXMinutes": lambda now, number: (_EVER.replace(tzinfo=now.tzinfo), now - timedelta(minutes=number)),
    "OlderThanXHours": lambda now, number: (_EVER.replace(tzinfo=now.tzinfo), now - timedelta(hours=number)),
    "OlderThanXDays": lambda now, number: (_EVER.replace(tzinfo=now.tzinfo), _days(now, -number, 0)[0]),
}
"""Functions that name a time relative to now: its start and the moment after its end."""


def in_period(now: datetime, name: str, number: int) -> Callable[[Any], bool]:
    start, end = (f"{moment.replace(microsecond=0).isoformat()[:19]}Z" for moment in PERIODS[name](now, number))
    return lambda value: value is not None and start[: len(value)] <= value < end


@dataclass(slots=True)
class Operand:
    """One side of a comparison: a column of some row, or a literal whose meaning depends on the column it meets."""

    column: Column | None = None
    get: Value | None = None
    own: bool = False
    """Whether the column belongs to the listed table itself."""
    kind: str = ""
    literal: Any = None


def value_of(operand: Operand, other: Operand) -> Value:
    """How to get an operand's value from a row, in a form that compares as Dataverse compares."""
    get = operand.get
    if operand.column is None or get is None:
        constant = typed(other.column, operand)
        return lambda row: constant
    if operand.column.is_lookup:
        return lambda row: value.id if isinstance(value := get(row), Reference) else None
    if operand.column.type in ("String", "Memo", "MultiSelectPicklist"):
        return lambda row: None if (value := get(row)) is None else value.casefold()
    return get


def typed(column: Column | None, operand: Operand) -> Any:
    """A literal as the column it is compared with keeps its values."""
    literal = operand.literal
    if not isinstance(literal, str) or column is None:
        return literal
    try:
        if column.type == "DateTime":
            return day(literal[:10]) if column.date_only else stamp(literal)
        return _LITERALS.get(column.type, str.casefold)(literal)
    except (ValueError, ArithmeticError):
        raise DataverseError(
            PARSE, f"A binary operator with incompatible types was detected at '{column.property_name}'."
        ) from None


def _identifier(literal: str) -> str:
    found = guid(literal)
    if found is None:
        raise ValueError(literal)
    return found


_LITERALS: dict[str, Callable[[str], Any]] = {
    "Uniqueidentifier": _identifier,
    "Lookup": _identifier,
    "Customer": _identifier,
    "Owner": _identifier,
    "Integer": int,
    "BigInt": int,
    "Picklist": int,
    "State": int,
    "Status": int,
    "Decimal": Decimal,
    "Money": Decimal,
    "Double": float,
}


def like(pattern: str) -> re.Pattern[str]:
    """`%` and `_` are wildcards in the string functions, as they are in SQL; case does not matter."""
    special = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    text = translate("".join(special.get(character, character) for character in pattern))
    return re.compile(text, re.IGNORECASE | re.DOTALL)
