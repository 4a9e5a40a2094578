"""Resource metadata as Campaign describes it ("Metadata mechanism")."""

from typing import Any

from .campaign_resource import Resource
from .campaign_schema import Attribute, LinkDefinition, ResourceDefinition
from .campaign_state import HELD_LINKS, CampaignState

_RES_TYPE = {"number": "double", "enumeration": "byte"}


def filter_names(definition: ResourceDefinition) -> list[str]:
    names = ["byText"] + (["byEmail", "byKeysProfile"] if definition.name == "profile" else [])
    return names + ([f"by{definition.key[:1].upper()}{definition.key[1:]}"] if definition.key else [])


def _described(name: str, kind: str, label: str) -> dict[str, Any]:
    return {
        "PKey": f"@{name}",
        "apiName": name,
        "category": "99_none",
        "dataPolicy": "",
        "desc": "",
        "displayFormat": "",
        "help": "",
        "label": label or name,
        "lazyLoaded": False,
        "length": "",
        "mandatory": False,
        "metadata": "attribute",
        "privacy": "firstParty",
        "queryable": True,
        "readOnly": False,
        "resName": "",
        "resType": _RES_TYPE.get(kind, kind),
        "sortable": True,
        "type": kind,
    }


def _attribute(attribute: Attribute) -> dict[str, Any]:
    facts = _described(attribute.name.split(".")[-1], attribute.type, attribute.label)
    facts |= {"length": str(attribute.length or ""), "readOnly": attribute.read_only, "dataPolicy": attribute.policy}
    if attribute.whole:
        facts["resType"] = "long"
    if attribute.name == "email":
        facts["category"] = "03_emails"
    if attribute.type == "enumeration":
        facts["values"] = {
            name: {"name": name, "label": name.capitalize(), "value": str(number)}
            for number, name in enumerate(attribute.values)
        }
    return facts


def _link(name: str, kind: str, target: str) -> dict[str, Any]:
    changes = {"metadata": kind, "resTarget": target, "sortable": False, "queryable": False, "unbound": kind != "link"}
    return _described(name, kind, name) | changes


def _join(link: LinkDefinition) -> dict[str, Any]:
    """A link, with three members of our own: no page shows how metadata tells its cardinality, its join, or that
    deleting the target deletes this record too ("Configuring the resource's data structure")."""
    joins = [{"source": link.source_column, "target": link.target_key}]
    own = {"cardinality": link.cardinality, "joins": joins, "cascadeDelete": link.cascade_delete}
    return _link(link.name, "link", link.target_resource) | own


def content(state: CampaignState, resource: Resource, custom: bool) -> dict[str, Any]:
    """Attributes, links and collections by name; sub-objects as items with their own content."""
    result: dict[str, Any] = {}
    for attribute in resource.attributes.values():
        if not custom and attribute.name.startswith("cus"):
            continue
        item, _, member = attribute.name.partition(".")
        if member:
            holder = result.setdefault(item, _described(item, "item", item) | {"content": {}})
            holder["content"][member] = _attribute(attribute)
        else:
            result[item] = _attribute(attribute)
    result |= {name: _link(name, "collection", name) for name in resource.definition.collections}
    if custom:
        result |= {link.name: _join(link) for link in resource.definition.links}
        if resource.definition.name == "profile":
            result |= {name: _link(name, "link", target) for name, target in HELD_LINKS.items()}
        for child, link in state.reverse_links(resource):
            result[link.reverse] = _link(link.reverse, "collection", child.definition.name)
    return result


def resource_type(
    state: CampaignState, resource: Resource, endpoint: str, base: str, name: str | None = None
) -> dict[str, Any]:
    definition = resource.definition
    shown = name or definition.name
    custom = endpoint != "profileAndServices"
    pkey = f"@{definition.name}"
    return {
        "PKey": pkey,
        "apiName": "resourceType",
        "compatibleResources": {},
        "content": content(state, resource, custom),
        "data": f"/{endpoint}/{shown}/",
        "filters": {"href": f"{base}/{endpoint}/resourceType/{definition.name}/filters/"},
        "help": definition.label,
        "href": f"{base}/{endpoint}/{shown}/metadata",
        "label": definition.label,
        "mandatory": False,
        "name": shown,
        "keys": [definition.key] if definition.key and state.unique(resource) else [],
        "pkgStatus": "never",
        "readOnly": False,
        "schema": definition.schema_name,
        "type": "item",
    }


def filters(definition: ResourceDefinition) -> list[dict[str, Any]]:
    return [
        {
            "PKey": f"@{name}",
            "category": "",
            "condition": "",
            "data": f"{definition.name}/{name}",
            "formType": "none",
            "fragmentName": name,
            "label": name,
            "metadata": "filter",
            "resName": definition.name,
            "webPage": "",
            "webPageName": "",
        }
        for name in filter_names(definition)
    ]
