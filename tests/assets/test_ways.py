"""What a column's description says of the way to its Campaign field."""

from typing import Any

import pytest

from assets.ways import way_of, way_of_opt_out
from d365_campaign.binding import BoundField
from d365_campaign.field_types import CampaignType, SourceType
from d365_campaign.mapping import FieldMapping
from d365_campaign.opt_out import OptOutPair
from d365_campaign.schemas import ResourceField, SourceColumn

MALE = {"existing": "Male", "new": "male"}
MANY = [{"existing": name, "new": name.lower()} for name in ("A", "B", "C", "D", "E")]

# name, source type, Campaign type, mapping, way as far as the mapping tells, way once both systems were asked
WAYS: list[tuple[str, SourceType, CampaignType, dict[str, Any], str, str]] = [
    ("as it is", "text", "string", {}, "", ""),
    ("label", "choice", "string", {}, "", "the choice's label"),
    (
        "number",
        "choice",
        "string",
        {"picklist": "technical"},
        "",
        "the choice's number; choice becomes string",
    ),
    (
        "label, replaced",
        "choice",
        "string",
        {"replacements": [MALE]},
        "sent otherwise: 'Male' as 'male'",
        "the choice's label; sent otherwise: 'Male' as 'male'",
    ),
    (
        "many replacements",
        "text",
        "string",
        {"replacements": MANY},
        "sent otherwise: 'A' as 'a', 'B' as 'b', 'C' as 'c', and 2 more",
        "sent otherwise: 'A' as 'a', 'B' as 'b', 'C' as 'c', and 2 more",
    ),
    ("converted", "money", "double", {}, "", "money becomes double"),
    (
        "replaced to a number",
        "integer",
        "double",
        {"replacements": [MALE]},
        "sent otherwise: 'Male' as 'male'",
        "sent otherwise: 'Male' as 'male'; text becomes double",
    ),
    ("cut", "text", "string", {"too_long": "truncate"}, "cut if too long", "cut after 20 characters"),
    ("once", "text", "string", {"apply_updates": False}, "later changes are not sent", "later changes are not sent"),
]


@pytest.mark.parametrize(
    ("source", "target", "mapping", "told", "known"), [w[1:] for w in WAYS], ids=[w[0] for w in WAYS]
)
def test_the_way_of_a_value_is_told(
    source: SourceType, target: CampaignType, mapping: dict[str, Any], told: str, known: str
) -> None:
    field = FieldMapping.model_validate({"source": "new_column", "target": "cusField", **mapping})
    column = SourceColumn("new_column", source, "new_column", {1: "Male"})
    bound = BoundField(field, column, ResourceField("cusField", target, length=20))
    assert way_of(field, None, None) == told
    assert way_of(field, bound, None) == known


def test_a_link_says_whose_record_comes_first() -> None:
    field = FieldMapping(source="parentcustomerid", target="cusAccountId")
    assert way_of(field, None, "account") == "links to account, whose record comes first"


@pytest.mark.parametrize(
    ("invert", "words"), [(False, "yes in it is an opt-out"), (True, "yes in it means no opt-out")]
)
def test_an_inverted_opt_out_is_told(invert: bool, words: str) -> None:
    assert way_of_opt_out(OptOutPair(source="donotemail", target="blackListEmail", invert=invert)) == words
