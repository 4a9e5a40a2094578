"""What happens to a value on its way from a Dynamics column to a Campaign field, in words a person would use."""

from collections.abc import Iterator, Sequence

from d365_campaign.binding import BoundField
from d365_campaign.field_types import CampaignType, SourceType
from d365_campaign.mapping import FieldMapping, FieldReplacement
from d365_campaign.opt_out import OptOutPair

# Pairs of types in which a value stays what it is.
ALIKE: frozenset[tuple[SourceType, CampaignType]] = frozenset(
    {
        ("text", "string"),
        ("reference", "string"),
        ("integer", "integer"),
        ("double", "double"),
        ("boolean", "boolean"),
        ("date", "date"),
        ("datetime", "datetime"),
    }
)
NAMED_REPLACEMENTS = 3


def way_of(field: FieldMapping, bound: BoundField | None, parent: str | None) -> str:
    """Each step of a value's way; nothing for one that goes out as it came.

    What only the systems can tell, a column's type and a field's length, is left out where they weren't asked (*bound*
    is None). *parent* is the table that a link leads to.
    """
    return "; ".join(_steps(field, bound, parent))


def way_of_opt_out(pair: OptOutPair) -> str:
    """What the value of a paired column means."""
    return "yes in it means no opt-out" if pair.invert else "yes in it is an opt-out"


def _steps(field: FieldMapping, bound: BoundField | None, parent: str | None) -> Iterator[str]:
    if bound and bound.source.type == "choice":
        yield "the choice's label" if bound.labelled else "the choice's number"
    if field.replacements:
        yield _replaced(field.replacements)
    if bound and (bound.converted_from, bound.target.type) not in ALIKE:
        yield f"{bound.converted_from} becomes {bound.target.type}"
    if field.too_long == "truncate":
        yield f"cut after {bound.target.length} characters" if bound and bound.target.length else "cut if too long"
    if not field.apply_updates:
        yield "later changes are not sent"
    if parent:
        yield f"links to {parent}, whose record comes first"


def _replaced(replacements: Sequence[FieldReplacement]) -> str:
    named = [f"{each.existing!r} as {each.new!r}" for each in replacements[:NAMED_REPLACEMENTS]]
    more = len(replacements) - len(named)
    return "sent otherwise: " + ", ".join([*named, *([f"and {more} more"] if more else [])])
