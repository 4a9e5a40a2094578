"""A table mapping held against what both systems say of themselves: every name known, every type convertible."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType

from d365_campaign.errors import ConfigurationError
from d365_campaign.field_types import CONVERSIONS, HELD, REFUSED, CampaignType, Conversion, SourceType
from d365_campaign.mapping import CONTACT, PROFILE, UNITS, FieldMapping, TableMapping
from d365_campaign.opt_out import ATTRIBUTES, PROFILE_CHANGED, OptOutDirection, OptOutPair, OptOuts
from d365_campaign.record_filter import condition_faults
from d365_campaign.schemas import ResourceField, SourceColumn, SourceTable, TargetResource

# Modification stamp of every Dataverse table; the sweep after a full read filters on it.
MODIFIED_ON = "modifiedon"
# Row version of every Dataverse table; a write to it names the version that it was decided on.
VERSION = "versionnumber"
# What a constant of these Campaign types must be; of the others, anything goes out as it is.
CONSTANTS: Mapping[CampaignType, type | UnionType] = {
    "integer": int,
    "float": int | float,
    "double": int | float,
    "boolean": bool,
}
KEY_LENGTH = 36


@dataclass(frozen=True, slots=True)
class BoundField:
    """A field mapping with both sides known.

    Its way is: the technical value, its label, a replacement, the conversion, the length; `store.values` is the SQL.
    """

    mapping: FieldMapping
    source: SourceColumn
    target: ResourceField

    @property
    def labelled(self) -> bool:
        """Whether the display label of a choice is meant."""
        return self.source.type == "choice" and self.mapping.picklist == "label"

    @property
    def converted_from(self) -> SourceType:
        """The type that reaches the conversion: a label, and a value that may have been replaced, is text."""
        return "text" if self.labelled or self.mapping.replacements else self.source.type

    @property
    def conversion(self) -> Conversion:
        return CONVERSIONS[self.converted_from, self.target.type]


@dataclass(frozen=True, slots=True)
class Relation:
    """The other end of a link, as another table mapping holds it.

    *table* and *key* are that mapping's name and its Campaign key. *column* is the Campaign field with the parent's
    key: here, where *table* is the parent; there, where it is the child. *elsewhere* are other mapped tables, with
    their Dynamics keys, that a lookup of several may lead to: a record of theirs is nothing to wait for.
    """

    table: str
    key: str
    column: str
    elsewhere: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class BoundOptOuts:
    """The opt-outs of contacts with both sides known.

    *stamps* are the attributes that tell when an opt-out changed in Campaign, as far as this instance has them, in the
    order in which they count.
    """

    direction: OptOutDirection
    pairs: Sequence[OptOutPair]
    stamps: Mapping[str, Sequence[str]]

    @property
    def attributes(self) -> Sequence[str]:
        """What is to be read of a profile: every opt-out it has, when each changed, and when the profile did."""
        stamps = [stamp for stamps in self.stamps.values() for stamp in stamps]
        return [*self.stamps, *stamps, PROFILE_CHANGED]

    def fingerprint(self) -> str:
        """Changes with anything that could make a decision differ."""
        pairs = [pair.model_dump(mode="json") for pair in self.pairs]
        told = [self.direction.value, pairs, {name: list(stamps) for name, stamps in self.stamps.items()}]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class BoundMapping:
    """A table mapping held against the live schemas; every pair of types in it is supported.

    *parents* are the tables its links lead to, *children* the mapped tables whose links lead here. *opt_outs* are those
    of the table's people, where they are kept in step; none of them is among *fields*.
    """

    mapping: TableMapping
    source: SourceTable
    target: TargetResource
    fields: Sequence[BoundField] = field(repr=False)
    parents: Sequence[Relation] = ()
    children: Sequence[Relation] = ()
    opt_outs: BoundOptOuts | None = None

    @property
    def name(self) -> str:
        return self.mapping.name

    @property
    def columns(self) -> Sequence[SourceColumn]:
        """The columns the snapshot holds, each once: the key, what is mapped, filtered on or paired, `modifiedon`."""
        wanted = [self.mapping.key.source, *(f.source.name for f in self.fields)]
        wanted += [c.source for c in self.mapping.filter.conditions] if self.mapping.filter else []
        wanted += [*(pair.source for pair in self.opt_outs.pairs), VERSION] if self.opt_outs else []
        wanted += [MODIFIED_ON] if MODIFIED_ON in self.source.columns else []
        return [self.source.columns[name] for name in dict.fromkeys(wanted)]

    @property
    def opt_out_columns(self) -> Sequence[SourceColumn]:
        """The columns by which an opt-out is decided in Dynamics; none where they aren't kept in step."""
        pairs = self.opt_outs.pairs if self.opt_outs else ()
        wanted = [*(pair.source for pair in pairs), MODIFIED_ON, VERSION] if pairs else []
        return [self.source.columns[name] for name in dict.fromkeys(wanted)]

    @property
    def may_hide(self) -> bool:
        """Whether Campaign hides a record of this resource while the one that a link leads to is missing."""
        told = {link.cardinality for link in self.target.links}
        return "1" in told or any(link.cardinality == "1" for link in self.mapping.links)

    def fingerprint(self) -> str:
        """Changes with anything that could make a record's desired values, or what is done about them, differ."""
        fields = [
            [
                f.mapping.model_dump(mode="json"),
                f.source.type,
                sorted(f.source.labels.items()) if f.labelled else [],
                f.target.type,
                f.target.length,
                f.target.bounds,
            ]
            for f in self.fields
        ]
        rules = self.mapping.model_dump(mode="json", include={"filter", "apply_deletes", "delete_filtered_out"})
        return hashlib.sha256(json.dumps([fields, rules, self.mapping.adopt_existing]).encode()).hexdigest()

    def schema_facts(self) -> dict[str, str]:
        """What both systems say of each column and field that is mapped; a change of it is not taken lightly."""
        columns = {f"{self.source.name}.{column.name}": column.type for column in self.columns}
        return columns | {f"{self.target.name}.{f.target.name}": _told(f.target) for f in self.fields}


def _told(attribute: ResourceField) -> str:
    length = f"({attribute.length})" if attribute.length else ""
    policy = f", data policy {attribute.data_policy}" if attribute.data_policy else ""
    return f"{attribute.type}{length}{policy}"


def bind(
    mapping: TableMapping,
    source: SourceTable,
    target: TargetResource,
    others: Sequence[TableMapping] = (),
    opt_outs: OptOuts | None = None,
) -> BoundMapping:
    """Hold *mapping* against both schemas; *others* are all mappings of the integration, for its links.

    Raises ConfigurationError that lists every fault at once, each with its remedy; nothing has been written then.
    """
    kept = opt_outs if opt_outs and opt_outs.pairs and (mapping.source, mapping.target) == (CONTACT, PROFILE) else None
    faults = [*binding_faults(mapping, source, target), *(opt_out_faults(kept, source, target) if kept else ())]
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        raise ConfigurationError(f"table mapping '{mapping.name}' does not fit the two systems:\n{listed}")
    paired = {pair.target for pair in kept.pairs} if kept else set()
    return BoundMapping(
        mapping,
        source,
        target,
        [
            BoundField(f, source.columns[f.source], target.fields[f.target])
            for f in mapping.fields
            if f.target not in paired
        ],
        _parents(mapping, source, others),
        _children(mapping, others),
        _bound_opt_outs(kept, target) if kept else None,
    )


def _bound_opt_outs(opt_outs: OptOuts, target: TargetResource) -> BoundOptOuts:
    return BoundOptOuts(
        opt_outs.direction,
        opt_outs.pairs,
        {
            name: [stamp for stamp in opt_outs.stamps(name) if stamp in target.fields]
            for name in ATTRIBUTES
            if name in target.fields
        },
    )


def _parents(mapping: TableMapping, source: SourceTable, others: Sequence[TableMapping]) -> Sequence[Relation]:
    tables = {other.name: other for other in others}
    return [
        Relation(
            link.parent,
            tables[link.parent].key.target,
            mapping.foreign_key(link),
            tuple(
                (name, tables[name].key.source)
                for name in source.columns[link.source].refers_to
                if name != link.parent and name in tables
            ),
        )
        for link in mapping.links
        if link.parent in tables
    ]


def _children(mapping: TableMapping, others: Sequence[TableMapping]) -> Sequence[Relation]:
    return [
        Relation(other.name, other.key.target, other.foreign_key(link))
        for other in others
        for link in other.links
        if link.parent == mapping.name
    ]


def binding_faults(mapping: TableMapping, source: SourceTable, target: TargetResource) -> Iterator[str]:
    """Everything in which *mapping* doesn't fit the two systems, each fault with its remedy."""
    yield from _table_faults(mapping, source, target)
    for number, pair in enumerate(mapping.fields):
        for fault in _field_faults(pair, source, target):
            yield f"fields[{number}]: {fault}"
    for number, link in enumerate(mapping.links):
        column = source.columns.get(link.source)
        if column and column.type != "reference":
            yield f"links[{number}]: '{link.source}' is no lookup ({column.type}). Name one, or remove the link."
        elif column and column.refers_to and link.parent not in column.refers_to:
            leads = " or ".join(f"'{name}'" for name in column.refers_to)
            yield f"links[{number}]: lookup '{link.source}' leads to {leads}, not to '{link.parent}'. Correct parent."
    for number, condition in enumerate(mapping.filter.conditions if mapping.filter else ()):
        column = source.columns.get(condition.source)
        faults = condition_faults(condition, column.type) if column else [_no_column(source, condition.source)]
        yield from (f"filter.conditions[{number}]: {fault}" for fault in faults)
    for name, value in mapping.on_create.items():
        yield from (f"on_create.{name}: {fault}" for fault in _constant_faults(name, value, target))


def opt_out_faults(opt_outs: OptOuts, source: SourceTable, target: TargetResource) -> Iterator[str]:
    """Everything in which the opt-out pairs don't fit the two systems, each fault with its remedy."""
    for needed in (MODIFIED_ON, VERSION):
        if needed not in source.columns:
            yield f"opt-outs are decided by '{needed}'. {_no_column(source, needed)}"
    for pair in opt_outs.pairs:
        column, attribute = source.columns.get(pair.source), target.fields.get(pair.target)
        if column is None:
            yield f"opt-out pair: {_no_column(source, pair.source)}"
        elif column.type != "boolean":
            yield f"opt-out pair: '{pair.source}' is {column.type}; an opt-out is a yes/no column. Pair another."
        if attribute is None:
            yield f"opt-out pair: {_no_field(target, pair.target)}"
        elif attribute.type != "boolean" or attribute.read_only:
            yield f"opt-out pair: Campaign field '{pair.target}' is no opt-out that may be written. Remove the pair."


def _table_faults(mapping: TableMapping, source: SourceTable, target: TargetResource) -> Iterator[str]:
    if not source.change_tracking:
        yield (
            f"Dynamics table '{source.name}' has change tracking off. Switch on 'Track changes' in the table's "
            "properties and publish it."
        )
    if mapping.key.source != source.primary_id:
        yield (
            f"key.source is '{mapping.key.source}', but the primary key of '{source.name}' is '{source.primary_id}'. "
            "Set key.source to it."
        )
    if mapping.key.target not in target.fields:
        yield (
            f"Campaign resource '{target.name}' has no field '{mapping.key.target}' for the key. Add it as an "
            "identification key, publish the resource and its API."
        )
    elif not _can_hold_keys(target.fields[mapping.key.target]):
        yield (
            f"Campaign field '{mapping.key.target}' can't hold a Dynamics key. Set key.target to a string field of "
            f"{KEY_LENGTH} characters at least that may be written."
        )
    if mapping.key.declared_unique and target.unique_keys is not None and mapping.key.target not in target.unique_keys:
        yield (
            f"key.declared_unique is true, but Campaign doesn't declare '{mapping.key.target}' of '{target.name}' as "
            "an identification key: an insert could double a record. Declare it there, or set declared_unique to false."
        )


def _can_hold_keys(field: ResourceField) -> bool:
    return field.type == "string" and not field.read_only and (field.length or KEY_LENGTH) >= KEY_LENGTH


def _field_faults(pair: FieldMapping, source: SourceTable, target: TargetResource) -> Iterator[str]:
    column, attribute = source.columns.get(pair.source), target.fields.get(pair.target)
    if column is None:
        yield _no_column(source, pair.source)
    if attribute is None:
        yield _no_field(target, pair.target)
    if attribute and attribute.read_only:
        yield f"Campaign field '{pair.target}' is read-only. Remove the line."
    if column and column.type != "boolean" and target.name == PROFILE and pair.target in ATTRIBUTES:
        yield f"'{pair.target}' is an opt-out, and '{pair.source}' ({column.type}) is no yes/no column. Map another."
    elif column and attribute:
        bound = BoundField(pair, column, attribute)
        if bound.labelled and attribute.type != "string" and not pair.replacements:
            yield (
                f"the labels of '{pair.source}' are text, but '{pair.target}' is {attribute.type}. Set picklist: "
                "technical, or give replacements."
            )
        elif (bound.converted_from, attribute.type) not in CONVERSIONS:
            yield (
                f"'{pair.source}' ({bound.converted_from}) can't become '{pair.target}' ({attribute.type}): "
                f"{REFUSED[bound.converted_from, attribute.type]}. Map it to a field of another type."
            )
        if bound.labelled and not column.labels:
            yield f"Dynamics tells no labels for '{pair.source}'. Set picklist: technical."


def _constant_faults(name: str, value: str | int | float | bool, target: TargetResource) -> Iterator[str]:
    attribute, is_link = target.fields.get(name), name in {link.name for link in target.links}
    if name in UNITS:
        if not is_link:
            yield (
                f"Campaign resource '{target.name}' has no link '{name}'. It comes with the extended profile: publish "
                "the Profiles & Services Ext API, or remove the line."
            )
        if not isinstance(value, str):
            yield f"'{value}' is no name of a unit. Give its ID as Campaign shows it."
    elif is_link:
        yield f"'{name}' is a link, which can't be set here. Map the column that holds its key, or remove the line."
    elif attribute is None:
        yield _no_field(target, name)
    elif attribute.read_only:
        yield f"Campaign field '{name}' is read-only. Remove the line."
    elif not isinstance(value, wanted := CONSTANTS.get(attribute.type, object)) or (
        isinstance(value, bool) and wanted not in (bool, object)
    ):
        yield f"'{value}' doesn't fit into '{name}' ({attribute.type}). Correct it."


def _no_column(source: SourceTable, name: str) -> str:
    return f"Dynamics table '{source.name}' has no readable column '{name}'."


def _no_field(target: TargetResource, name: str) -> str:
    return (
        f"Campaign resource '{target.name}' has no field '{name}'. Check the name, and for a cus field that the "
        "Profiles & Services Ext API is published."
    )


def duckdb_type(column: SourceColumn) -> str:
    """The column's type in the snapshot."""
    return HELD[column.type].duckdb
