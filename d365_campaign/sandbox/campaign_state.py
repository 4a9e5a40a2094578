"""Records, keys, links and delivery logs of the Campaign Standard stand-in. No HTTP here."""

import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .campaign_errors import (
    duplicate_key,
    inconsistent_key,
    not_a_constant,
    read_only,
    unknown_attribute,
    unknown_key,
)
from .campaign_privacy import carry_out
from .campaign_resource import Record, Resource
from .campaign_schema import (
    DEFAULT_RESOURCES,
    OPT_OUT_STAMPS,
    Attribute,
    LinkDefinition,
    ResourceDefinition,
)
from .campaign_values import converted, empty
from .campaign_workflows import Workflows
from .clock import Clock, SkewedClock
from .opt_out_export import OptOutExport
from .settings import Settings

PKEY_BYTES = 68
HELD_LINKS = {"orgUnit": "orgUnitBase", "geoUnit": "geoUnitBase"}
"""Links of profiles written by PKey rather than joined on columns ("Updating a profile's Organizational unit", and the
same of its Geographical unit)."""
_RECORD_MEMBERS = frozenset({"PKey", "href"})


class CampaignState:
    """One Campaign instance. Its methods are safe to call from any thread."""

    def __init__(
        self,
        clock: Clock,
        settings: Settings,
        lock: threading.RLock,
        resources: Iterable[ResourceDefinition] = DEFAULT_RESOURCES,
    ) -> None:
        self.settings, self.lock = settings, lock
        self.clock: Clock = SkewedClock(clock, lambda: settings.campaign_clock_skew_seconds)
        self._initial = tuple(resources)
        self._number = 1000
        self.resources: dict[str, Resource] = {}
        self.workflow_runs = Workflows(self.clock, settings)
        self.privacy_requests: dict[str, dict[str, Any]] = {}
        self.messages: dict[str, dict[str, Any]] = {}
        self._logs: list[dict[str, Any]] = []
        self.opt_out_export = OptOutExport(self)
        self.reset()

    def reset(self) -> None:
        with self.lock:
            self.resources = {definition.name: Resource(definition) for definition in self._initial}
            for units in HELD_LINKS.values():
                if units in self.resources:
                    self.insert(self.resources[units], {"name": "all", "label": "All"})
            self.workflow_runs.reset()
            self.privacy_requests.clear()
            self.messages.clear()
            self._logs = []
            self.opt_out_export.reset()

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

    @property
    def workflows(self) -> dict[str, str]:
        """Workflow ids and the state each is in."""
        return self.workflow_runs.states

    # --- delivery logs

    def add_log(self, profile_key: str, label: str = "Send via email") -> None:
        """Note a delivery to a profile, as Campaign would when sending."""
        with self.lock:
            resource = self.resource("profile")
            record = self._stored(resource, profile_key)
            entry = {"PKey": self.new_pkey(), "label": label, "category": "email", "date": self.clock.campaign_stamp()}
            self._logs.append(entry | {"profile": record.number, "externalId": record.values.get("externalId", "")})

    def logs(self, external_id: str | None = None) -> list[dict[str, Any]]:
        """Delivery logs; those of deleted profiles are still here (R4)."""
        with self.lock:
            return [dict(log) for log in self._logs if external_id in (None, log["externalId"])]

    def logs_of(self, record: Record) -> list[dict[str, Any]]:
        shown = ("PKey", "label", "category", "date")
        return [{name: log[name] for name in shown} for log in self._logs if log["profile"] == record.number]

    def forget_logs(self, record: Record) -> None:
        """What a privacy request takes along and a plain delete leaves (R4)."""
        self._logs = [log for log in self._logs if log["profile"] != record.number]

    # --- records, for the API

    def insert(self, resource: Resource, values: Mapping[str, Any]) -> Record:
        self._number += 1
        record = Record(self._number, self.new_pkey())
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

    def linked_to_profile(self, resource: Resource) -> bool:
        """Directly or through other resources, by links of either side; decides the endpoint ("Custom resources")."""
        reached, waiting = set[str](), [resource.definition.name]
        while waiting:
            name = waiting.pop()
            if name in ("profile", "service"):
                return True
            if name not in reached:
                reached.add(name)
                waiting.extend(self._neighbours(name))
        return False

    def _neighbours(self, name: str) -> Iterator[str]:
        """Resources that a link joins with this one, whichever of the two has the link."""
        for other, resource in self.resources.items():
            for link in resource.definition.links:
                if other == name:
                    yield link.target_resource
                elif link.target_resource == name:
                    yield other

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
            if name in HELD_LINKS and resource.definition.name == "profile":
                self._hold(stored, name, value)
                continue
            attribute = self._writable(resource, name)
            if attribute is None:
                continue
            kept = converted(attribute, value, resource.definition, self.settings)
            if kept == empty(attribute):
                stored.pop(name, None)
            else:
                stored[name] = kept
        return stored

    def _hold(self, stored: dict[str, Any], name: str, value: Any) -> None:
        """Point a link at the record its PKey names; an object without one is ignored, as Campaign does."""
        if value is None:
            stored.pop(name, None)
        elif isinstance(value, Mapping) and value.get("PKey"):
            target, key = self.resource(HELD_LINKS[name]), str(value["PKey"])
            raw = self.by_key(target, key) if self.settings.raw_keys_in_links else None
            record = target.by_pkey.get(key) or raw
            if record is None:
                raise unknown_key(target.definition.name, target.definition.schema_name, key)
            stored[name] = record.pkey

    def held(self, name: str, record: Record) -> Record | None:
        """The record such a link points to, if it is still there."""
        return self.resources[HELD_LINKS[name]].by_pkey.get(record.values.get(name, ""))

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
        links = {link.name for link in resource.definition.links} | {*HELD_LINKS, "country", "stateLink"}
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

    def run_due(self) -> None:
        """Privacy requests whose time has come are carried out ("Monitoring a privacy request"), and exports made."""
        now = self.clock.seconds()
        for request in self.privacy_requests.values():
            if request["status"] == "new" and request["due"] <= now:
                carry_out(self, request)
        self.opt_out_export.run_due()

    @staticmethod
    def new_pkey() -> str:
        """Opaque, and unlike the physical key, as "Must-read" says."""
        return "@" + secrets.token_urlsafe(PKEY_BYTES)
