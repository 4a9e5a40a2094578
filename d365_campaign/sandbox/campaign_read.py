"""Lists and single records of Campaign as JSON: hrefs, links, filters, order and pages."""

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Any
from urllib.parse import quote, unquote

from .campaign_errors import unknown_attribute, wrong_path
from .campaign_resource import Record, Resource
from .campaign_state import HELD_LINKS, CampaignState

Predicate = Callable[[Record], bool]
PKEY_LENGTH = 92


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request came in; hrefs lead back to the same host and endpoint."""

    base: str
    endpoint: str
    random_hrefs: bool = False
    longer_pkeys: bool = False

    @property
    def custom(self) -> bool:
        """Custom fields show on every endpoint but the built-in one."""
        return self.endpoint != "profileAndServices"

    def href(self, path: str) -> str:
        detour = f"/~{secrets.token_urlsafe(6)}" if self.random_hrefs else ""
        return f"{self.base}{detour}/{self.endpoint}/{path}"

    def linked(self, record: Record) -> str:
        """A record's PKey as hrefs write it: longer than its `PKey` field when the setting says so."""
        return record.pkey + sha256(record.pkey.encode()).hexdigest()[:48] if self.longer_pkeys else record.pkey

    def plain(self, pkey: str) -> str:
        """The PKey behind either form."""
        return pkey[:PKEY_LENGTH] if self.longer_pkeys else pkey


def shown(state: CampaignState, resource: Resource, record: Record, place: Place, href: bool = True) -> dict[str, Any]:
    """A record as lists and single reads show it: attributes, links, hrefs of its collections."""
    result = state.as_dict(resource, record, place.custom)
    own = f"{resource.definition.name}/{place.linked(record)}"
    for name in resource.definition.collections:
        result[name] = {"href": place.href(f"{own}/{name}/")}
    if place.custom:
        for link in resource.definition.links:
            result[link.name] = _simple_link(state, link.target_resource, state.target(link, record), place)
        if resource.definition.name == "profile":
            for name, target in HELD_LINKS.items():
                result[name] = _simple_link(state, target, state.held(name, record), place)
        for _, link in state.reverse_links(resource):
            result[link.reverse] = {"href": place.href(f"{own}/{link.reverse}/")}
    if href:
        result["href"] = place.href(own)
    return result


def _simple_link(state: CampaignState, target: str, record: Record | None, place: Place) -> dict[str, Any] | None:
    if record is None:
        return None
    resource = state.resources[target]
    names = ("title", "label", "cusName", resource.definition.key or "")
    title = next((record.values[name] for name in names if record.values.get(name)), "")
    return {"PKey": record.pkey, "href": place.href(f"{target}/{place.linked(record)}"), "title": title}


def filter_records(state: CampaignState, resource: Resource, names: list[str], query: Mapping[str, str]) -> Predicate:
    """All filters named in the path, joined by AND ("Filtering")."""
    predicates = [_filter(state, resource, name, query) for name in names]
    return lambda record: state.visible(resource, record) and all(predicate(record) for predicate in predicates)


def _filter(state: CampaignState, resource: Resource, name: str, query: Mapping[str, str]) -> Predicate:
    if name == "byText":
        return _by_text(resource, query)
    if name in ("byEmail", "byKeysProfile") and "email" in resource.attributes:
        email = query.get("email", "").lower()
        return lambda record: str(record.values.get("email", "")).lower() == email
    attribute = custom_filter(resource, name)
    if attribute is None:
        raise wrong_path()
    wanted = query.get(f"{attribute}_parameter", "")
    return lambda record: str(resource.value(record, attribute)) == wanted


def custom_filter(resource: Resource, name: str) -> str | None:
    """The attribute behind `by<Attribute>`; Campaign lets users define such filters for any column."""
    if not name.startswith("by"):
        return None
    wanted = name[2:]
    return next((known for known in resource.attributes if wanted in (known, known[:1].upper() + known[1:])), None)


def _by_text(resource: Resource, query: Mapping[str, str]) -> Predicate:
    """Searches e-mail and last name; with `filterType` it is a case-sensitive prefix match on that field."""
    kind = query.get("filterType")
    if kind:
        name = kind if kind in resource.attributes else f"cus{kind}"
        if name not in resource.attributes:
            raise unknown_attribute(kind, resource.definition.name)
        prefix = query.get(name, query.get("text", ""))
        return lambda record: str(resource.value(record, name)).startswith(prefix)
    text = query.get("text", "").lower()
    searched = [n for n in ("email", "lastName", "name", "label", resource.definition.key) if n in resource.attributes]
    return lambda record: any(text in str(resource.value(record, name)).lower() for name in searched)


@dataclass(frozen=True, slots=True)
class Listing:
    records: list[Record]
    next_start: str | None
    server_side_pagination: bool


def list_records(
    state: CampaignState, resource: Resource, names: list[str], query: Mapping[str, str], only: Iterable[Record] | None
) -> Listing:
    """One page; above the big-table threshold the way to the next one shows only when asked for ("Pagination")."""
    matches = filter_records(state, resource, names, query)
    size = max(1, int(query["_lineCount"])) if query.get("_lineCount", "").isdigit() else 0
    size = size or state.settings.default_line_count
    size = min(size, state.settings.line_count_maximum or size)
    start = decode_start(query.get("_lineStart"))
    found = list(islice(_candidates(resource, names, query, start, only, matches), size + 1))
    paginated = (
        len(resource.order) <= state.settings.big_table_threshold or query.get("_forcePagination", "").lower() == "true"
    )
    page, following = found[:size], None
    if len(found) > size and paginated:
        following = encode_start(start + size if query.get("_order") else page[-1].number)
    return Listing(page, following, paginated)


def _candidates(
    resource: Resource,
    names: list[str],
    query: Mapping[str, str],
    start: int,
    only: Iterable[Record] | None,
    matches: Predicate,
) -> Iterable[Record]:
    order = unquote(query.get("_order", ""))
    if order:
        everything = resource.order if only is None else only
        return islice(_ordered(resource, filter(matches, everything), order), start, None)
    if only is None:
        only = _indexed(resource, names, query)
    if only is not None:
        return (record for record in only if record.number > start and matches(record))
    return filter(matches, resource.records_after(start))


def _indexed(resource: Resource, names: list[str], query: Mapping[str, str]) -> list[Record] | None:
    """A filter on the business key reads its index instead of the table."""
    for name in names:
        attribute = custom_filter(resource, name)
        if attribute is not None and attribute == resource.definition.key:
            return resource.indexes[attribute].find(query.get(f"{attribute}_parameter", ""))
    return None


def _ordered(resource: Resource, records: Iterable[Record], order: str) -> list[Record]:
    name, _, direction = order.partition(" ")
    if name not in resource.attributes:
        raise unknown_attribute(name, resource.definition.name)
    return sorted(records, key=lambda record: resource.value(record, name), reverse=direction.strip() == "desc")


def encode_start(number: int) -> str:
    return "@" + urlsafe_b64encode(f"start:{number}:{'.' * 24}".encode()).decode().rstrip("=")


def decode_start(text: str | None) -> int:
    if not text:
        return 0
    try:
        padded = text.lstrip("@") + "=" * (-len(text.lstrip("@")) % 4)
        return int(urlsafe_b64decode(padded).split(b":")[1])
    except (ValueError, IndexError):
        raise wrong_path() from None


def page_link(place: Place, path: str, query: Mapping[str, str], start: str) -> str:
    kept = {name: value for name, value in query.items() if name != "_lineStart"} | {"_lineStart": start}
    text = "&".join(f"{name}={quote(value, safe='@')}" for name, value in kept.items())
    return place.href(f"{path}?{text}")
