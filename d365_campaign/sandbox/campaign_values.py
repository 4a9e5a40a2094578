"""What each Campaign attribute type accepts, transforms and returns when empty."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

from .campaign_errors import not_a_constant, not_in_enumeration, refused_by_policy, too_long
from .campaign_schema import Attribute, ResourceDefinition
from .settings import Settings

EMPTY: dict[str, Any] = {"string": "", "number": 0, "boolean": False, "date": "", "datetime": "", "enumeration": ""}
"""An empty value reads back like this, so NULL can't be told from empty ("Custom resources", sample bodies)."""


def empty(attribute: Attribute) -> Any:
    return EMPTY[attribute.type] if attribute.default is None else attribute.default


def converted(attribute: Attribute, value: Any, resource: ResourceDefinition, settings: Settings) -> Any:
    """*value* as the instance keeps it, after data policies; refuses what it would refuse."""
    if value is None or (value == "" and attribute.type != "string"):
        return empty(attribute)
    if attribute.type == "enumeration":
        if value not in attribute.values:
            raise not_in_enumeration(value, resource.schema_name, attribute.name)
        return value
    return CONVERTERS[attribute.type](attribute, value, settings)


def _string(attribute: Attribute, value: Any, settings: Settings) -> str:
    if isinstance(value, dict | list):
        raise not_a_constant(type(value).__name__)
    text = _policy(attribute, str(value).lower() if isinstance(value, bool) else str(value), settings)
    if attribute.length and len(text) > attribute.length:
        if settings.overlong_text == "error":
            raise too_long(attribute.length)
        text = text[: attribute.length]
    return text


def _policy(attribute: Attribute, text: str, settings: Settings) -> str:
    """Data policies transform or refuse ("Metadata mechanism")."""
    if attribute.policy == "smartCase" and settings.smart_case:
        return re.sub(r"[^\W\d_]+", lambda word: word[0].capitalize(), text)
    if attribute.policy == "email":
        if settings.email_check and text and not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", text):
            raise refused_by_policy(attribute.name, "email")
        return text.strip().lower() if settings.email_lower_case else text
    return text


def _number(attribute: Attribute, value: Any, settings: Settings) -> int | float:
    try:
        number = float(value) if not isinstance(value, int) else int(value)
    except (TypeError, ValueError):
        raise not_a_constant(str(value)) from None
    if attribute.whole or (isinstance(number, float) and number.is_integer() and abs(number) < 2**53):
        return int(number)
    return number


def _boolean(attribute: Attribute, value: Any, settings: Settings) -> bool:
    text = str(value).lower()
    if text not in ("true", "false", "1", "0"):
        raise not_a_constant(str(value))
    return text in ("true", "1")


def _date(attribute: Attribute, value: Any, settings: Settings) -> str:
    try:
        return date.fromisoformat(str(value)[:10]).isoformat()
    except ValueError:
        raise not_a_constant(str(value)) from None


def _datetime(attribute: Attribute, value: Any, settings: Settings) -> str:
    """Space or `T` between date and time, with or without fraction and offset."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise not_a_constant(str(value)) from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return f"{moment.date().isoformat()} {moment:%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


CONVERTERS: dict[str, Callable[[Attribute, Any, Settings], Any]] = {
    "string": _string,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
}
