"""What each Dataverse column type stores, and which values it refuses.

Values are kept in the form the Web API returns: stamps as text in UTC, choices as numbers, lookups as references.
"""

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple
from uuid import UUID

from .dataverse_errors import DataverseError
from .dataverse_schema import Column

MINIMUM_DATE = "1753-01-01"
MONEY_DIGITS = 4


class Reference(NamedTuple):
    """A lookup's value: the row it points to and that row's table."""

    table: str
    id: str


def guid(text: object) -> str | None:
    """The lower-case form of a GUID, with or without braces; None for anything else."""
    try:
        return str(UUID(str(text)))
    except ValueError:
        return None


def stored(column: Column, value: Any) -> Any:
    """*value* as the column keeps it; refuses what Dataverse would refuse."""
    if value is None:
        return None
    return CONVERTERS[column.type](column, value)


def _text(column: Column, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong_type(column, value)
    if column.max_length is not None and len(value) > column.max_length:
        raise DataverseError(
            "0x80044331",
            f"A validation error occurred.  The length of the '{column.name}' attribute of the entity exceeded "
            f"the maximum allowed length of '{column.max_length}'.",
        )
    return value


def _whole(column: Column, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong_type(column, value)
    return value


def _exact(digits: int | None) -> Callable[[Column, Any], Decimal]:
    def convert(column: Column, value: Any) -> Decimal:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise _wrong_type(column, value)
        places = digits if digits is not None else column.precision or 2
        try:
            return Decimal(str(value)).quantize(Decimal(1).scaleb(-places))
        except InvalidOperation:
            raise _wrong_type(column, value) from None

    return convert


def _floating(column: Column, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong_type(column, value)
    return float(value)


def _boolean(column: Column, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(column, value)
    return value


def _choice(column: Column, value: Any) -> int:
    number = _whole(column, value)
    if column.options and number not in {option.value for option in column.options}:
        raise DataverseError(
            "0x8004431A",
            f"A validation error occurred. The value {number} of '{column.name}' is outside the valid range.",
        )
    return number


def _choices(column: Column, value: Any) -> str:
    """Comma-separated numbers on the wire; order as sent ("MultiSelectPicklist", unconfirmed)."""
    if not isinstance(value, str):
        raise _wrong_type(column, value)
    numbers = [part.strip() for part in value.split(",") if part.strip()]
    if not all(re.fullmatch(r"-?\d+", number) for number in numbers):
        raise _wrong_type(column, value)
    return ",".join(str(_choice(column, int(number))) for number in numbers)


def _moment(column: Column, value: Any) -> str:
    if isinstance(value, datetime | date):
        value = value.isoformat()
    if not isinstance(value, str):
        raise _wrong_type(column, value)
    try:
        text = day(value) if column.date_only else stamp(value)
    except ValueError:
        raise _wrong_type(column, value) from None
    if text < MINIMUM_DATE:
        raise DataverseError("0x80040239", f"DateTime is less than minimum value supported for '{column.name}'.")
    return text


def day(text: str) -> str:
    return date.fromisoformat(text).isoformat()


def stamp(text: str) -> str:
    """Whole seconds in UTC; a value without offset counts as UTC already."""
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}" if moment.year >= 1000 else f"{moment.year:04d}{moment:-%m-%dT%H:%M:%SZ}"


def _identifier(column: Column, value: Any) -> str:
    found = guid(value)
    if found is None:
        raise _wrong_type(column, value)
    return found


def _reference(column: Column, value: Any) -> Reference:
    if isinstance(value, Reference):
        return value
    return Reference(column.targets[0], _identifier(column, value))


def _wrong_type(column: Column, value: Any) -> DataverseError:
    kind = type(value).__name__
    return DataverseError(
        "0x80048d19",
        "Error identified in Payload provided by the user for Entity :'', For more information on this error please "
        f"follow this help link. InnerException : Cannot convert a value of type '{kind}' to the expected type "
        f"'{column.type}' of property '{column.name}'.",
    )


CONVERTERS: dict[str, Callable[[Column, Any], Any]] = {
    "String": _text,
    "Memo": _text,
    "Integer": _whole,
    "BigInt": _whole,
    "Decimal": _exact(None),
    "Money": _exact(MONEY_DIGITS),
    "Double": _floating,
    "Boolean": _boolean,
    "Picklist": _choice,
    "State": _choice,
    "Status": _choice,
    "MultiSelectPicklist": _choices,
    "DateTime": _moment,
    "Uniqueidentifier": _identifier,
    "Lookup": _reference,
    "Customer": _reference,
    "Owner": _reference,
}
