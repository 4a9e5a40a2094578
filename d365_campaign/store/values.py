"""From a Dynamics column to a Campaign value, as SQL: label, replacement, conversion, length; and what can go wrong.

The steps stand in the order in which Adobe's own integration is read to take them: the technical value, which the
filter looks at; its label, where that is wanted; a replacement; the conversion of type; the length.
"""

from collections.abc import Iterator

from d365_campaign.binding import BoundField
from d365_campaign.field_types import CONVERSIONS

# How the reason begins where a text has no room in its field.
TOO_LONG = "is longer than"


def quote(identifier: str) -> str:
    """An SQL identifier that means just these characters."""
    return '"' + identifier.replace('"', '""') + '"'


def text(value: str) -> str:
    """An SQL literal of just these characters."""
    return "'" + value.replace("'", "''") + "'"


def desired_value(field: BoundField) -> str:
    """What Campaign ought to hold; NULL for empty, and for what can't be converted."""
    value = _converted(field)
    if field.target.type != "string":
        return value
    if field.target.length and field.mapping.too_long == "truncate":
        value = f"left({value}, {field.target.length})"
    return f"nullif({value}, '')"


def faults(field: BoundField) -> Iterator[tuple[str, str]]:
    """Conditions under which a record can't be sent because of this field, each with its reason in words."""
    before, after = _replaced(field), _converted(field)
    if field.labelled:
        yield f"{quote(field.source.name)} is not null and {_label(field)} is null", "is a choice without a label"
    if field.conversion.may_fail:
        given = f"nullif(trim({before}), '')" if field.converted_from == "text" else before
        yield (
            f"{given} is not null and {after} is null",
            f"can't become {'an' if field.target.type == 'integer' else 'a'} {field.target.type}",
        )
    if field.target.type == "string" and field.target.length and field.mapping.too_long == "reject":
        yield f"length({after}) > {field.target.length}", f"{TOO_LONG} {field.target.length} characters"
    if field.target.type == "integer" and field.target.bounds:
        least, greatest = field.target.bounds
        yield f"{after} not between {least} and {greatest}", f"is not between {least} and {greatest}"


def _label(field: BoundField) -> str:
    cases = " ".join(f"when {value} then {text(label)}" for value, label in sorted(field.source.labels.items()))
    return f"case {quote(field.source.name)} {cases} end"


def _replaced(field: BoundField) -> str:
    """The value that reaches the conversion, of type `field.converted_from`."""
    value = _label(field) if field.labelled else quote(field.source.name)
    if not field.mapping.replacements:
        return value
    shown = value if field.labelled else CONVERSIONS[field.source.type, "string"].sql.format(value)
    cases = " ".join(f"when {text(r.existing)} then {text(r.new)}" for r in field.mapping.replacements)
    return f"case {shown} {cases} else {shown} end"


def _converted(field: BoundField) -> str:
    return field.conversion.sql.format(_replaced(field))
