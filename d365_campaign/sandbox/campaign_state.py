"""Records, keys, links and delivery logs of the Campaign Standard stand-in. No HTTP here."""

import secrets
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Any

from .campaign_errors import (
    duplicate_key,
    inconsistent_key,
    not_a_constant,
    read_only,
    unknown_attribute,
    unknown_key,
    wrong_path,
)
from .campaign_schema import (
    DEFAULT_RESOURCES,
    DEFAULT_WORKFLOWS,
    OPT_OUT_STAMPS,
    SYSTEM_ATTRIBUTES,
    Attribute,
    LinkDefinition,
    ResourceDefinition,
)
from .campaign_values import converted, empty
from .clock import Clock
from .settings import Settings

PKEY_BYTES = 68
_RECORD_MEMBERS = frozenset({"PKey", "href"})


class Record:
    """One stored record. Attributes at their empty value are left out of `values`."""

    __slots__ = ("number", "pkey", "values")

    def __init__(self, number: int, pkey: str) -> None:
        self.number = number
        self.pkey = pkey
        self.values: dict[str, Any] = {}


class Index:
    """Records by the value of one attribute; most values have one record."""

    def __init__(self) -> None:
        self._records: dict[Any, list[Record]] = {}

    def find(self, value: Any) -> list[Record]:
        return self._records.get(value, [])

    def add(self, value: Any, record: Record) -> None:
        self._records.setdefault(value, []).append(record)

    def remove(self, value: Any, record: Record) -> None:
        self._records[value].remove(record)
        if not self._records[value]:
            del self._records[value]


class Resource:
    """Records of one resource, in the order they were made."""

    def __init__(self, definition: ResourceDefinition) -> None:
        self.definition = definition
        own = {attribute.name for attribute in definition.attributes}
        system = (attribute for attribute in SYSTEM_ATTRIBUTES if attribute.name not in own)
        self.attributes = {attribute.name: attribute for attribute in (*definition.attributes, *system)}
        self.items = {name.split(".")[0] for name in self.attributes if "." in name}
        self.order: list[Record] = []
        self.by_pkey: dict[str, Record] = {}
        self.indexes: dict[str, Index] = {definition.key: Index()} if definition.key else {}
        for link in definition.links:
            self.indexes.setdefault(link.source_column, Index())

    def add(self, record: Record) -> None:
        self.order.append(record)
        self.by_pkey[record.pkey] = record
        self._index(record)

    def remove(self, record: Record) -> None:
        del self.order[bisect_left(self.order, record.number, key=lambda other: other.number)]
        del self.by_pkey[record.pkey]
        self._unindex(record)

    def replace(self, record: Record, values: dict[str, Any]) -> None:
        self._unindex(record)
        record.values = values
        self._index(record)

    def value(self, record: Record, name: str) -> Any:
        attribute = self.attributes[name]
        if name == "age":
            return _age(record.values.get("birthDate", ""))
        return record.values.get(name, empty(attribute))

    def records_after(self, number: int) -> Iterator[Record]:
        start = bisect_right(self.order, number, key=lambda other: other.number)
        return (self.order[index] for index in range(start, len(self.order)))

    def index_on(self, name: str) -> Index:
        """The index on an attribute, made on first use."""
        if name not in self.indexes:
            index = self.indexes[name] = Index()
            for record in self.order:
                if record.values.get(name):
                    index.add(record.values[name], record)
        return self.indexes[name]

    def _index(self, record: Record) -> None:
        for name, index in self.indexes.items():
            if record.values.get(name):
                index.add(record.values[name], record)

    def _unindex(self, record: Record) -> None:
        for name, index in self.indexes.items():
            if record.values.get(name):
                index.remove(record.values[name], record)


class CampaignState:
    """One Campaign instance. Its methods are safe to call from any thread."""

    def __init__(
        self,
        clock: Clock,
        settings: Settings,
        lock: threading.RLock,
        resources: Iterable[ResourceDefinition] = DEFAULT_RESOURCES,
    ) -> None:
        self.clock, self.settings, self.lock = clock, settings, lock
        self._initial = tuple(resources)
        self._number = 1000
        self.resources: dict[str, Resource] = {}
        self.workflows: dict[str, str] = {}
        self._logs: list[dict[str, Any]] = []
        self.reset()

    def reset(self) -> None:
        with self.lock:
            self.resources = {definition.name: Resource(definition) for definition in self._initial}
            self.workflows = dict.fromkeys(DEFAULT_WORKFLOWS, "started")
            self._logs = []

    def register(self, definition: ResourceDefinition) -> None:
        """Publish a resource, or a changed definition of one; its records stay."""
        with self.lock:
            old = self.resources.get(definition.name)
            resource = self.resources[definition.name] = Resource(definition)
            for record in old.order if old else ():
                resource.add(record)

    # --- records by name, for tests and the admin pages

    def create(self, resource_name: str, values: Mapping[str, Any]) -> str:
        """Insert a record and return its PKey."""
        with self.lock:
            return self.insert(self.resource(resource_name), values).pkey

    def update(self, resource_name: str, key: str, values: Mapping[str, Any]) -> None:
        """Change the record with this PKey or key value."""
        with self.lock:
            resource = self.resource(resource_name)
            self.change(resource, self._stored(resource, key), values, key)

    def delete(self, resource_name: str, key: str) -> None:
        with self.lock:
            resource = self.resource(resource_name)
            self.drop(resource, self._stored(resource, key))

    def get(self, resource_name: str, key: str) -> dict[str, Any]:
        """The record with this PKey or key value, hidden or not."""
        with self.lock:
            resource = self.resource(resource_name)
            return self.as_dict(resource, self._stored(resource, key))

    def find(self, resource_name: str, attribute: str, value: Any) -> dict[str, Any] | None:
        """The first visible record with this value, with all its attributes."""
        with self.lock:
            resource = self.resource(resource_name)
            for record in resource.index_on(attribute).find(value):
                if self.visible(resource, record):
                    return self.as_dict(resource, record)
            return None

    def records(self, resource_name: str) -> list[dict[str, Any]]:
        """Every stored record, hidden ones too."""
        with self.lock:
            resource = self.resource(resource_name)
            return [self.as_dict(resource, record) for record in resource.order]

    def resource(self, name: str) -> Resource:
        resource = self.resources.get(name)
        if resource is None or not resource.definition.published:
            raise unknown_key(name, "xtk:resourceType", name)
        return resource

    # --- delivery logs

    def add_log(self, profile_key: str, label: str = "Send via email") -> None:
        """Note a delivery to a profile, as Campaign would when sending."""
        with self.lock:
            resource = self.resource("profile")
            record = self._stored(resource, profile_key)
            entry = {"PKey": self._new_pkey(), "label": label, "category": "email", "date": self.clock.campaign_stamp()}
            self._logs.append(entry | {"profile": record.number, "externalId": record.values.get("externalId", "")})

    def logs(self, external_id: str | None = None) -> list[dict[str, Any]]:
        """Delivery logs; those of deleted profiles are still here (R4)."""
        with self.lock:
            return [dict(log) for log in self._logs if external_id in (None, log["externalId"])]

    def logs_of(self, record: Record) -> list[dict[str, Any]]:
        shown = ("PKey", "label", "category", "date")
        return [{name: log[name] for name in shown} for log in self._logs if log["profile"] == record.number]

    # --- records, for the API

    def insert(self, resource: Resource, values: Mapping[str, Any]) -> Record:
        self._number += 1
        record = Record(self._number, self._new_pkey())
        stored = self._assigned(resource, {}, values)
        self._check_unique(resource, record, stored)
        stored["created"] = self.clock.campaign_stamp()
        self._stamp(resource, stored, {}, values)
        record.values = stored
        resource.add(record)
        return record

    def change(self, resource: Resource, record: Record, values: Mapping[str, Any], address: str) -> None:
        """Update a record; *address* is how the request named it and must not contradict the body."""
        key = resource.definition.key
        old_key = record.values.get(key, "") if key else ""
        for name, old in (("PKey", record.pkey), (key or "", old_key)):
            if name in values and old and values[name] != old:
                raise inconsistent_key(resource.definition.name, address, values[name])
        stored = self._assigned(resource, record.values, values)
        self._check_unique(resource, record, stored)
        self._stamp(resource, stored, record.values, values)
        resource.replace(record, stored)

    def drop(self, resource: Resource, record: Record) -> None:
        """A plain delete: the record goes, its delivery logs stay; links that cascade take their children along."""
        resource.remove(record)
        for child in self.resources.values():
            for link in child.definition.links:
                if link.cascade_delete and link.target_resource == resource.definition.name:
                    value = record.values.get(link.target_key, "")
                    for orphan in list(child.index_on(link.source_column).find(value)) if value else ():
                        self.drop(child, orphan)

    def visible(self, resource: Resource, record: Record) -> bool:
        """A link of cardinality 1 is an inner join: without its target a record exists but can't be seen (R46)."""
        return all(
            self.target(link, record) is not None for link in resource.definition.links if link.cardinality == "1"
        )

    def target(self, link: LinkDefinition, record: Record) -> Record | None:
        value = record.values.get(link.source_column)
        if not value or link.target_resource not in self.resources:
            return None
        found = self.resources[link.target_resource].index_on(link.target_key).find(value)
        return found[0] if found else None

    def children(self, resource: Resource, record: Record, collection: str) -> tuple[Resource, list[Record]] | None:
        """The records behind a collection link; None when there is no such link."""
        for child, link in self.reverse_links(resource):
            if link.reverse == collection:
                value = record.values.get(link.target_key, "")
                found = child.index_on(link.source_column).find(value) if value else []
                return child, [item for item in found if self.visible(child, item)]
        return None

    def reverse_links(self, resource: Resource) -> list[tuple[Resource, LinkDefinition]]:
        return [
            (child, link)
            for child in self.resources.values()
            for link in child.definition.links
            if link.reverse and link.target_resource == resource.definition.name
        ]

    def by_key(self, resource: Resource, value: str) -> Record | None:
        """The record a custom key names; profiles have such a key only while `externalId` is declared unique."""
        key = resource.definition.key
        if key is None or not self.unique(resource):
            return None
        found = resource.indexes[key].find(value)
        return found[0] if found else None

    def unique(self, resource: Resource) -> bool:
        return resource.definition.name != "profile" or self.settings.external_id_unique

    def linked_to_profile(self, resource: Resource, seen: tuple[str, ...] = ()) -> bool:
        """Directly or through other resources; decides the endpoint ("Interacting with custom resources")."""
        name = resource.definition.name
        if name in ("profile", "service"):
            return True
        targets = {link.target_resource for link in resource.definition.links} - set(seen)
        return any(self.linked_to_profile(self.resources[t], (*seen, name)) for t in targets if t in self.resources)

    def as_dict(self, resource: Resource, record: Record, custom: bool = True) -> dict[str, Any]:
        """PKey and attributes by name, sub-objects nested; without custom fields when *custom* is false."""
        result: dict[str, Any] = {"PKey": record.pkey}
        for name in resource.attributes:
            if not custom and name.startswith("cus"):
                continue
            item, _, member = name.partition(".")
            value = resource.value(record, name)
            if member:
                result.setdefault(item, {})[member] = value
            else:
                result[name] = value
        return result

    # --- workflows

    def command_workflow(self, name: str, method: str) -> str:
        """The workflow's state after `start`, `stop`, `pause` or `resume`."""
        states = {"start": "started", "stop": "stopped", "pause": "paused", "resume": "started"}
        if name not in self.workflows:
            raise unknown_key("workflow", "xtk:workflow", name)
        if method not in states:
            raise wrong_path()
        self.workflows[name] = states[method]
        return self.workflows[name]

    # --- inside

    def _stored(self, resource: Resource, key: str) -> Record:
        record = resource.by_pkey.get(key)
        if record is None and resource.definition.key:
            record = next(iter(resource.indexes[resource.definition.key].find(key)), None)
        if record is None:
            raise unknown_key(resource.definition.name, resource.definition.schema_name, key)
        return record

    def _assigned(self, resource: Resource, old: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
        stored = dict(old)
        for name, value in self._flat(resource, values):
            attribute = self._writable(resource, name)
            if attribute is None:
                continue
            kept = converted(attribute, value, resource.definition, self.settings)
            if kept == empty(attribute):
                stored.pop(name, None)
            else:
                stored[name] = kept
        return stored

    def _flat(self, resource: Resource, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Members of sub-objects under their dotted names: a PATCH of `location` leaves its other members alone."""
        for name, value in values.items():
            if name not in resource.items:
                yield name, value
                continue
            if not isinstance(value, Mapping):
                raise not_a_constant(str(value))
            yield from ((f"{name}.{member}", inner) for member, inner in value.items())

    def _writable(self, resource: Resource, name: str) -> Attribute | None:
        """The attribute to write; None for names whose values are ignored, such as links given as objects."""
        attribute = resource.attributes.get(name)
        if attribute is not None and attribute.read_only:
            raise read_only(name, resource.definition.name)
        if attribute is not None:
            return attribute
        links = {link.name for link in resource.definition.links} | {"orgUnit", "geoUnit", "country", "stateLink"}
        if name in _RECORD_MEMBERS or name in links:
            return None
        raise unknown_attribute(name, resource.definition.name)

    def _check_unique(self, resource: Resource, record: Record, values: Mapping[str, Any]) -> None:
        """Hidden records hold their keys too."""
        key = resource.definition.key
        value = values.get(key) if key else None
        if not key or not value or not self.unique(resource):
            return
        if any(other is not record for other in resource.indexes[key].find(value)):
            raise duplicate_key(resource.definition.label, resource.definition.schema_name, key, value)

    def _stamp(
        self, resource: Resource, stored: dict[str, Any], old: Mapping[str, Any], written: Mapping[str, Any]
    ) -> None:
        """Times and computed attributes. An opt-out's stamp follows a change of its value."""
        now = stored["lastModified"] = self.clock.campaign_stamp()
        if resource.definition.name != "profile":
            return
        for name, stamps in OPT_OUT_STAMPS.items():
            changed = name in written and stored.get(name, False) != old.get(name, False)
            if changed or (name in written and not old and self.settings.stamp_false_on_create):
                stored.update(dict.fromkeys(stamps, now))
        email = stored.get("email", "")
        names = " ".join(stored[part] for part in ("firstName", "lastName") if part in stored)
        stored["title"] = f"{names} ({email})".strip()[:255]
        stored["domain"] = email.rpartition("@")[2]

    @staticmethod
    def _new_pkey() -> str:
        """Opaque, and unlike the physical key, as "Must-read" says."""
        return "@" + secrets.token_urlsafe(PKEY_BYTES)


def _age(birth_date: str) -> int:
    if not birth_date:
        return 0
    born, today = date.fromisoformat(birth_date), date.today()
    return max(0, today.year - born.year - ((today.month, today.day) < (born.month, born.day)))
