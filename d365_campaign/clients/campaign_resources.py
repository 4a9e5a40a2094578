"""Campaign resources by their metadata ("Metadata mechanism"): attributes, links, identification keys.

How the metadata writes a link's cardinality, its joins and what a deletion does, and the resource's keys, isn't
documented: the members read here are those of our sandbox, and where an instance has none of them we don't know.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from d365_campaign.field_types import INTEGER_BOUNDS, campaign_type
from d365_campaign.schemas import Cardinality, ResourceField, ResourceLink, TargetResource

PROFILE = "profile"
IDENTITY = frozenset({"PKey", "href"})
# The members of a profile's `location`; metadata names the sub-object but not always what is in it.
LOCATION = ("address1", "address2", "address3", "address4", "city", "countryCode", "stateCode", "zipCode")

Facts = Mapping[str, Any]


def resource_of(name: str, endpoint: str, facts: Facts) -> TargetResource:
    """The resource that its metadata describes."""
    content = facts.get("content") or {}
    links = (link_of(short, about) for short, about in content.items() if _kind(about) == "link")
    return TargetResource(name, endpoint, fields_of(name, content), tuple(links), _unique_keys(facts))


def fields_of(resource: str, content: Facts) -> Mapping[str, ResourceField]:
    """The attributes that hold values, those of sub-objects under dotted names."""
    found = dict(_fields(content, ""))
    if resource == PROFILE:
        standard = {f"location.{name}": ResourceField(f"location.{name}", "string") for name in LOCATION}
        return {**standard, **found}
    return found


def link_of(name: str, facts: Facts) -> ResourceLink:
    """A link to one record. A join on several columns counts as none: no one column holds the key then."""
    joins, cardinality, cascades = facts.get("joins"), facts.get("cardinality"), facts.get("cascadeDelete")
    columns = [str(join.get("source") or "") for join in joins] if isinstance(joins, list) else []
    return ResourceLink(
        name=name,
        resource=str(facts.get("resTarget") or ""),
        column=columns[0] if len(columns) == 1 else "",
        cardinality=cardinality if cardinality in get_args(Cardinality) else None,
        cascades=cascades if isinstance(cascades, bool) else None,
    )


def _fields(content: Facts, prefix: str) -> Iterator[tuple[str, ResourceField]]:
    for short, facts in content.items():
        name, kind = prefix + short, _kind(facts)
        if short in IDENTITY or kind is None:
            continue
        if kind == "item":
            yield from _fields(facts.get("content") or {}, f"{name}.")
        elif kind not in ("link", "collection") and (found := _field(name, kind, facts)):
            yield name, found


def _field(name: str, kind: str, facts: Facts) -> ResourceField | None:
    technical = str(facts.get("resType", ""))
    held = campaign_type(kind, technical)
    if held is None:
        return None
    return ResourceField(
        name=name,
        type=held,
        length=_length(facts.get("length")),
        bounds=INTEGER_BOUNDS.get(technical) if held == "integer" else None,
        read_only=facts.get("readOnly") in (True, "true"),
        data_policy=str(facts.get("dataPolicy") or ""),
    )


def _kind(facts: object) -> str | None:
    """The type of a member; None for one that describes nothing."""
    return str(facts.get("type", "")) if isinstance(facts, dict) else None


def _length(text: object) -> int | None:
    """Metadata tells lengths as text; empty or 0 where there is no limit."""
    return int(str(text)) or None if str(text).isdecimal() else None


def _unique_keys(facts: Facts) -> Sequence[str] | None:
    keys = facts.get("keys")
    return tuple(str(key) for key in keys) if isinstance(keys, list) else None
