"""What a customer configures for one table: which columns become which Campaign fields.

`TableMapping` is the configuration; `bind` holds it against what both systems say of themselves and gives a
`BoundMapping`, from which all SQL is built.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from d365_campaign.errors import ConfigurationError
from d365_campaign.field_types import CONVERSIONS, HELD
from d365_campaign.schemas import ResourceField, SourceColumn, SourceTable, TargetResource

LogicalName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,127}$")]
CampaignName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,127}(\.[A-Za-z][A-Za-z0-9_]{0,127})?$")
]

# Modification stamp of every Dataverse table; the sweep after a full read filters on it.
MODIFIED_ON = "modifiedon"


class KeyMapping(BaseModel):
    """The pair that ties a Dynamics record to its Campaign record; it is chosen once.

    `declared_unique`: the Campaign resource declares this column as a unique identification key. Then an insert needs
    no look-up, because a duplicate is refused; otherwise each insert reads first, at one more engine call.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: LogicalName = Field(description="Primary key column of the Dynamics table, e.g. contactid.")
    target: CampaignName = Field(description="Campaign identification key that holds it, e.g. externalId.")
    declared_unique: bool = Field(
        default=False, description="Campaign declares this key as unique, so an insert needs no look-up first."
    )


class FieldMapping(BaseModel):
    """One Dynamics column that becomes one Campaign field. Dots name a field of a sub-object: `location.city`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: LogicalName = Field(description="Logical name of the Dynamics column.")
    target: CampaignName = Field(description="Campaign field; location.city for a field of a sub-object.")


class TableMapping(BaseModel):
    """One Dynamics table that becomes one Campaign resource."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: LogicalName = Field(description="Logical name of the Dynamics table, e.g. contact.")
    target: CampaignName = Field(description="Campaign resource, e.g. profile or cusPurchase.")
    key: KeyMapping
    fields: Sequence[FieldMapping] = Field(min_length=1, description="Columns that are kept in step.")
    apply_deletes: bool = Field(
        default=False, description="Delete the Campaign record when the Dynamics one is deleted."
    )

    @property
    def name(self) -> str:
        """What this mapping is called everywhere: its Dynamics table."""
        return self.source

    @model_validator(mode="after")
    def _each_target_once(self) -> "TableMapping":
        faults = [fault for target in _repeated(self) for fault in [self._mapped_twice(target)]]
        if faults:
            raise ValueError(" ".join(faults))
        return self

    def _mapped_twice(self, target: str) -> str:
        if target == self.key.target:
            return f"Campaign field '{target}' is the key; remove it from fields, it is always sent."
        sources = " and ".join(f"'{f.source}'" for f in self.fields if f.target == target)
        return f"Campaign field '{target}' is mapped twice, from {sources}. Keep one of the two."

    def identity(self) -> dict[str, str]:
        """What can't change once records were written: both tables and both key columns."""
        return {
            "source": self.source,
            "target": self.target,
            "source_key": self.key.source,
            "target_key": self.key.target,
        }


def _repeated(mapping: TableMapping) -> Iterator[str]:
    counts = Counter([mapping.key.target, *(f.target for f in mapping.fields)])
    return (target for target, count in counts.items() if count > 1)


@dataclass(frozen=True, slots=True)
class BoundField:
    """A field mapping with both types known: *expression* is the SQL that makes the Campaign value."""

    source: SourceColumn
    target: ResourceField

    @property
    def expression(self) -> str:
        return CONVERSIONS[self.source.type, self.target.type]


@dataclass(frozen=True, slots=True)
class BoundMapping:
    """A table mapping held against the live schemas; every pair of types in it is supported."""

    mapping: TableMapping
    source: SourceTable
    target: TargetResource
    fields: Sequence[BoundField] = field(repr=False)

    @property
    def name(self) -> str:
        return self.mapping.name

    @property
    def columns(self) -> Sequence[SourceColumn]:
        """The columns the snapshot holds, each once: the key, what is mapped, and `modifiedon` where there is one."""
        wanted = [self.mapping.key.source, *(f.source.name for f in self.fields)]
        wanted += [MODIFIED_ON] if MODIFIED_ON in self.source.columns else []
        return [self.source.columns[name] for name in dict.fromkeys(wanted)]

    def fingerprint(self) -> str:
        """Changes with anything that could make a record's desired values differ."""
        rules = [[f.source.name, f.source.type, f.target.name, f.target.type] for f in self.fields]
        return hashlib.sha256(json.dumps([rules, self.mapping.apply_deletes]).encode()).hexdigest()


def bind(mapping: TableMapping, source: SourceTable, target: TargetResource) -> BoundMapping:
    """Hold *mapping* against both schemas.

    Raises ConfigurationError that lists every fault at once, each with its remedy; nothing has been written then.
    """
    faults = [*_table_faults(mapping, source, target), *_field_faults(mapping, source, target)]
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        raise ConfigurationError(f"table mapping '{mapping.name}' does not fit the two systems:\n{listed}")
    fields = [BoundField(source.columns[f.source], target.fields[f.target]) for f in mapping.fields]
    return BoundMapping(mapping, source, target, fields)


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


def _field_faults(mapping: TableMapping, source: SourceTable, target: TargetResource) -> Iterator[str]:
    for number, pair in enumerate(mapping.fields):
        at = f"fields[{number}]"
        column, attribute = source.columns.get(pair.source), target.fields.get(pair.target)
        if column is None:
            yield f"{at}: Dynamics table '{source.name}' has no readable column '{pair.source}'."
        if attribute is None:
            yield (
                f"{at}: Campaign resource '{target.name}' has no field '{pair.target}'. Check the name, and for a cus "
                "field that the Profiles & Services Ext API is published."
            )
        if attribute and attribute.read_only:
            yield f"{at}: Campaign field '{pair.target}' is read-only. Remove the line."
        if column and attribute and (column.type, attribute.type) not in CONVERSIONS:
            yield (
                f"{at}: a {column.type} ('{pair.source}') can't become a {attribute.type} ('{pair.target}'). Map it "
                "to a field of another type."
            )


def duckdb_type(column: SourceColumn) -> str:
    """The column's type in the snapshot."""
    return HELD[column.type].duckdb
