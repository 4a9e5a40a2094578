"""Bodies of Campaign requests: JSON whatever the content type says, as Adobe's own SDK sends it."""

from typing import Any

import orjson

from .campaign_errors import not_a_constant


def parsed(body: bytes) -> dict[str, Any]:
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError:
        values = None
    if not isinstance(values, dict):
        raise not_a_constant(body.decode("utf-8", "replace")[:60])
    return values


def field_names(values: dict[str, Any]) -> tuple[str, ...]:
    """The names a body gives values to, members of sub-objects with a dot."""
    found: list[str] = []
    for name, value in values.items():
        found += [f"{name}.{member}" for member in value] if isinstance(value, dict) else [name]
    return tuple(found)
