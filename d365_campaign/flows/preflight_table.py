"""What stands in the way of one table mapping: its Dynamics table, its Campaign resource, and what it was before."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import polars as pl

from d365_campaign import guardrails
from d365_campaign.binding import bind, binding_faults
from d365_campaign.changes import ENGINE_CALLS, RECORD_KEY, Kind
from d365_campaign.config import Configuration
from d365_campaign.flows.findings import Finding, fine, in_two, tried, warning, wrong
from d365_campaign.flows.ports import RecordTarget
from d365_campaign.mapping import LinkMapping, TableMapping
from d365_campaign.schemas import SourceTable, TargetResource
from d365_campaign.store.outside import SavedTable

# The endpoints a resource is on ("Interacting with custom resources"), and what that says of it.
BUILT_IN = "profileAndServices"
ENDPOINTS: Mapping[str, str] = {
    "profileAndServicesExt": "published",
    "customResources": "published; it isn't linked to the profile, so Campaign's privacy tool leaves it out",
    BUILT_IN: "published with its standard fields alone",
}
MAPPING = "mapping"
SHOWN_KEYS = 5


class DynamicsTables(Protocol):
    """Dynamics, as far as a table is looked at."""

    def describe(self, table: str) -> SourceTable: ...
    def try_read(self, table: SourceTable) -> None: ...
    def record_count(self, table: str) -> int | None: ...


class CampaignResources(Protocol):
    """Campaign, as far as a resource is looked at."""

    def describe(self, resource: str) -> TargetResource: ...
    def target(self, resource: TargetResource, key_field: str) -> RecordTarget: ...


@dataclass(frozen=True, slots=True)
class Systems:
    """Both systems, None where one doesn't answer. *scan_keys*: all keys that Campaign holds are listed."""

    dynamics: DynamicsTables | None
    campaign: CampaignResources | None
    scan_keys: bool = False


@dataclass(frozen=True, slots=True)
class TableLook:
    """What was found of a table. *records* is Dynamics' own count, None where it tells none.

    *source* is its Dynamics table and *target* its Campaign resource where they were found, *loads_first*: its first
    load is still to come.
    """

    mapping: TableMapping
    findings: Sequence[Finding]
    source: SourceTable | None
    target: TargetResource | None
    records: int | None
    loads_first: bool

    @property
    def first_load_calls(self) -> int:
        """Engine calls of inserting every record, filtered ones too."""
        return (self.records or 0) * insert_calls(self.mapping)


def insert_calls(mapping: TableMapping) -> int:
    """Engine calls of an insert; without a key that is declared unique, each reads first."""
    return ENGINE_CALLS[Kind.INSERT] + (0 if mapping.key.declared_unique else 1)


def look_at(
    mapping: TableMapping, configuration: Configuration, systems: Systems, earlier: Mapping[str, SavedTable] | None
) -> TableLook:
    """Everything about one mapping; *earlier* is what runs left behind, None where it can't be told."""
    saved = None if earlier is None else earlier.get(mapping.name)
    loads_first = earlier is not None and not (saved and saved.loaded)
    source, records, findings = _in_dynamics(mapping.name, systems.dynamics)
    target, in_campaign = _in_campaign(mapping, systems, records)
    findings += in_campaign
    findings += _links(mapping, target, configuration)
    findings += _saved(mapping, saved)
    if source is not None and target is not None:
        findings += _both_sides(mapping, source, target, saved)
    if loads_first:
        findings += _large_load(mapping, records, saved, configuration.settings.guardrails.large_load_records)
    return TableLook(mapping, findings, source, target, records, loads_first)


def _in_dynamics(name: str, dynamics: DynamicsTables | None) -> tuple[SourceTable | None, int | None, list[Finding]]:
    """The table and how many records it holds."""
    subject = "Dynamics table"
    if dynamics is None:
        return None, None, []
    source = tried(lambda: dynamics.describe(name), name, subject, "Check the table's logical name.")
    if isinstance(source, Finding):
        return None, None, [source]
    counted = tried(lambda: dynamics.record_count(name), name, subject, "Try again.")
    records = None if isinstance(counted, Finding) else counted
    if not source.change_tracking:
        words = f"Dynamics table '{name}' has change tracking off."
        fix = "Switch on 'Track changes' in the table's properties and publish it."
        return source, records, [wrong(name, subject, words, fix)]
    refused = tried(lambda: dynamics.try_read(source), name, subject, "Check the application user's rights.")
    if isinstance(refused, Finding):
        return source, records, [refused]
    holds = "how many records it holds isn't told" if records is None else f"about {records:,} records"
    return source, records, [fine(name, subject, f"readable, change tracking is on; {holds}.")]


def _in_campaign(
    mapping: TableMapping, systems: Systems, records: int | None
) -> tuple[TargetResource | None, list[Finding]]:
    """The resource, its endpoint and its key."""
    subject, campaign = "Campaign resource", systems.campaign
    if campaign is None:
        return None, []
    fix = "Publish the resource, then the API (Profiles & Services Ext)."
    target = tried(lambda: campaign.describe(mapping.target), mapping.name, subject, fix)
    if isinstance(target, Finding):
        return None, [target]
    held = campaign.target(target, mapping.key.target)
    findings = [_endpoint(mapping, target), _key(mapping, target, records), *_units(mapping, target, held)]
    if systems.scan_keys:
        findings.append(_keys_in_campaign(mapping, held))
    return target, findings


def _endpoint(mapping: TableMapping, target: TargetResource) -> Finding:
    subject, words = "Campaign resource", f"'{target.name}' is {ENDPOINTS[target.endpoint]} ({target.endpoint})."
    if target.endpoint != BUILT_IN:
        return fine(mapping.name, subject, words)
    fix = "Publish the Profiles & Services Ext API in Campaign."
    names = [mapping.key.target, *(f.target for f in mapping.fields), *mapping.on_create]
    own = [name for name in names if name.startswith("cus")]
    if own:
        return wrong(mapping.name, subject, f"{words} It lacks {', '.join(own)}.", fix)
    return warning(mapping.name, subject, words, fix)


def _key(mapping: TableMapping, target: TargetResource, records: int | None) -> Finding:
    """What Campaign says of the key; one that it contradicts is among the faults of `binding_faults`."""
    key = mapping.key.target
    told = None if target.unique_keys is None else key in target.unique_keys
    if not mapping.key.declared_unique:
        costs = f", {records:,} more in the first load" if records else ""
        declare = (
            "" if told else f"Declare '{key}' as a unique identification key of '{target.name}' in Campaign, then "
        )
        return warning(
            mapping.name,
            "key",
            f"each insert looks '{key}' up first: {insert_calls(mapping)} engine calls instead of 1{costs}. Whether a "
            "key stands in Campaign twice, the first plan tells, or --scan-keys.",
            f"{declare}set key.declared_unique: true." if declare else "Set key.declared_unique: true.",
        )
    if told is None:
        return warning(
            mapping.name,
            "key",
            f"Campaign doesn't tell whether '{key}' is declared as a unique key; if it isn't, an insert could double a "
            "record.",
            f"Look at the identification keys of '{target.name}' in Campaign.",
        )
    return fine(mapping.name, "key", f"'{key}' is declared as a unique key: an insert is 1 engine call.")


def _units(mapping: TableMapping, target: TargetResource, records: RecordTarget) -> Iterator[Finding]:
    """The units that new records belong to; a link that isn't there is told with the other fields."""
    for link, name in mapping.units.items():
        if link in {told.name for told in target.links}:
            found = tried(partial(records.unit, link, name), mapping.name, link, "Check on_create.")
            there = fine(mapping.name, link, f"new records belong to '{name}' (engine calls: 1).")
            yield found if isinstance(found, Finding) else there


def _keys_in_campaign(mapping: TableMapping, target: RecordTarget) -> Finding:
    """Whether a key stands there twice, for which all are listed."""
    subject = "keys in Campaign"
    listed = tried(lambda: list(target.records(())), mapping.name, subject, "Check the credential's product profile.")
    if isinstance(listed, Finding):
        return listed
    keys = pl.concat(page[RECORD_KEY] for page in listed) if listed else pl.Series(RECORD_KEY, [], pl.String)
    twice = keys.filter(keys.is_duplicated()).unique().sort()
    if twice.len():
        shown = ", ".join(twice.head(SHOWN_KEYS))
        return wrong(
            mapping.name,
            subject,
            f"{twice.len():,} values of '{mapping.key.target}' stand in '{mapping.target}' more than once, for "
            f"instance {shown}.",
            "Merge these records, or map another identification key.",
        )
    return fine(
        mapping.name, subject, f"{keys.len():,} records have one, none of them twice (engine calls: {len(listed):,})."
    )


def _links(mapping: TableMapping, target: TargetResource | None, configuration: Configuration) -> Iterator[Finding]:
    """Links that work and are known to hurt, and links of which Campaign says something else than the mapping."""
    warned = [
        warning(mapping.name, "links", *in_two(said, "Keep those that segments really need."))
        for said in guardrails.warnings([mapping], configuration.settings.guardrails)
    ]
    if target is not None and target.endpoint != BUILT_IN:
        parents = {other.name: other.target for other in configuration.tables}
        for link in mapping.links:
            warned += _link(mapping, link, parents.get(link.parent), target)
    yield from warned
    if mapping.links and target is not None and not warned:
        yield fine(mapping.name, "links", f"to {', '.join(link.parent for link in mapping.links)}.")


def _link(mapping: TableMapping, link: LinkMapping, parent: str | None, target: TargetResource) -> Iterator[Finding]:
    column = mapping.foreign_key(link)
    joined = [told for told in target.links if told.column == column]
    for told in joined:
        if told.cardinality == "1" and link.cardinality != "1":
            yield warning(
                mapping.name,
                "links",
                f"Campaign's '{told.name}' has cardinality 1: a record is hidden until its '{link.parent}' is there.",
                f"Make it 0..1 in Campaign, or set cardinality: 1 for link '{link.source}'.",
            )
    # Metadata that leaves out where a link leads, or what it is joined on, may mean this one.
    untold = any(not told.resource or (told.resource == parent and not told.column) for told in target.links)
    if not joined and not untold:
        yield warning(
            mapping.name,
            "links",
            f"no link from '{target.name}' to '{parent}' is joined on '{column}' in Campaign: a mere value there.",
            f"Add such a link and publish the resource, or remove link '{link.source}'.",
        )


def _saved(mapping: TableMapping, saved: SavedTable | None) -> Iterator[Finding]:
    if saved is not None and saved.identity != mapping.identity():
        was = ", ".join(f"{name} '{told}'" for name, told in saved.identity.items() if told != mapping.identity()[name])
        yield wrong(
            mapping.name,
            "saved mapping",
            f"it was saved with {was}; tables and keys of a saved mapping can't change.",
            "Put them back, or start with another staging file to map this table anew.",
        )


def _both_sides(
    mapping: TableMapping, source: SourceTable, target: TargetResource, saved: SavedTable | None
) -> Iterator[Finding]:
    """Whether columns and fields fit, and are what they were in the last run."""
    trackable = replace(source, change_tracking=True)  # that it is off was told already
    faults = list(binding_faults(mapping, trackable, target))
    for fault in faults:
        yield wrong(mapping.name, MAPPING, *in_two(fault, "Correct the mapping, or add it to the system."))
    if faults:
        return
    yield fine(mapping.name, MAPPING, f"every column fits its field ({len(mapping.fields)} mapped).")
    if saved is not None and saved.schema_facts:
        yield _since_the_last_run(mapping, bind(mapping, trackable, target).schema_facts(), saved.schema_facts)


def _since_the_last_run(mapping: TableMapping, now: Mapping[str, str], was: Mapping[str, str]) -> Finding:
    changed = [f"{name} was {was[name]} and is {told}" for name, told in now.items() if was.get(name, told) != told]
    if not changed:
        return fine(mapping.name, "schemas", "as in the last run.")
    return wrong(
        mapping.name,
        "schemas",
        f"they changed since the last run: {', '.join(changed)}.",
        f"Check that the mapping still says what is meant, then accept it: d365-campaign accept-schema {mapping.name}",
    )


def _large_load(mapping: TableMapping, records: int | None, saved: SavedTable | None, limit: int) -> Iterator[Finding]:
    acknowledged = saved is not None and saved.large_load_acknowledged_by is not None
    if records is not None and records > limit and not acknowledged:
        yield warning(
            mapping.name,
            "large load",
            f"{records:,} records; a plan of more than {limit:,} waits until someone acknowledges it.",
            "Stop other processes in Campaign until it is done, and once it is planned: "
            f"d365-campaign acknowledge {mapping.name} --by NAME",
        )
