"""What a customer configures for one table: which columns become which Campaign fields, and which records take part.

`binding.bind` holds a `TableMapping` against what both systems say of themselves.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from d365_campaign.opt_out import ATTRIBUTES, on_wire
from d365_campaign.record_filter import LogicalName, RecordFilter, scalar

CampaignName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,127}$")]
CampaignField = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,127}(\.[A-Za-z][A-Za-z0-9_]{0,127})?$"),
    AfterValidator(on_wire),
]


def _as_text(value: object) -> object:
    """`1` and `true` are a number and a truth in YAML; here they are meant as text."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Text = Annotated[str, BeforeValidator(_as_text, json_schema_input_type=str | int | float | bool)]
Cardinality = Annotated[Literal["0..1", "1"], BeforeValidator(_as_text, json_schema_input_type=Literal["0..1", "1", 1])]
Constant = Annotated[str | int | float | bool, BeforeValidator(scalar)]
CONTACT, PROFILE = "contact", "profile"
# Links of a profile that only its PKey can set, and the resource that has their records ("Updating a profile's
# Organizational unit", "Updating a profile's Geographical unit").
UNITS: Mapping[str, str] = {"orgUnit": "orgUnitBase", "geoUnit": "geoUnitBase"}


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


class FieldReplacement(BaseModel):
    """A value that stands for another: the label or technical value as text, and what is sent instead."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    existing: Text = Field(description="The value to be replaced, as text; of a choice as `picklist` says.")
    new: Text = Field(description="What is sent instead.")


class FieldMapping(BaseModel):
    """One Dynamics column that becomes one Campaign field. Dots name a field of a sub-object: `location.city`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: LogicalName = Field(description="Logical name of the Dynamics column.")
    target: CampaignField = Field(description="Campaign field; location.city for a field of a sub-object.")
    apply_updates: bool = Field(
        default=True, description="Send later changes too; otherwise the first load of a record and a replay only."
    )
    picklist: Literal["label", "technical"] = Field(
        default="label", description="Whether a choice is sent as its display label or as its number."
    )
    replacements: Sequence[FieldReplacement] = Field(
        default=(), description="Values that are sent as others; what isn't listed stays as it is."
    )
    too_long: Literal["reject", "truncate"] = Field(
        default="reject",
        description="Text that is longer than the Campaign field: the record is set aside (reject), or the text is cut "
        "(truncate).",
    )
    personal: bool = Field(default=False, description="Whether it holds personal data; the preflight looks at it.")

    @model_validator(mode="after")
    def _each_value_replaced_once(self) -> "FieldMapping":
        for value, count in Counter(r.existing for r in self.replacements).items():
            if count > 1:
                raise ValueError(f"'{value}' of '{self.source}' is replaced {_times(count)}. Keep one of these lines.")
        return self


class LinkMapping(BaseModel):
    """A lookup of this table that leads to a record of another mapped table, its parent.

    A record whose parent isn't in Campaign yet waits, and goes out once the parent is there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: LogicalName = Field(description="Lookup column, e.g. new_contactid; it must be mapped in fields.")
    parent: LogicalName = Field(description="Dynamics table of the parent, e.g. contact; it must be mapped too.")
    cardinality: Cardinality = Field(
        default="0..1", description="Cardinality of the simple link in Campaign; 0..1 is to be preferred."
    )
    deletes_cascade: bool = Field(
        default=False, description="Campaign deletes this record with its parent, as personal data asks for."
    )


class TableMapping(BaseModel):
    """One Dynamics table that becomes one Campaign resource."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: LogicalName = Field(description="Logical name of the Dynamics table, e.g. contact.")
    target: CampaignName = Field(description="Campaign resource, e.g. profile or cusPurchase.")
    key: KeyMapping
    fields: Sequence[FieldMapping] = Field(min_length=1, description="Columns that are kept in step.")
    links: Sequence[LinkMapping] = Field(default=(), description="Lookups that lead to other mapped tables.")
    filter: RecordFilter | None = Field(default=None, description="Which records are kept in step; without it, all.")
    apply_deletes: bool = Field(
        default=False, description="Delete the Campaign record when the Dynamics one is deleted."
    )
    delete_filtered_out: bool = Field(
        default=False,
        description="Delete the Campaign record when the Dynamics one no longer passes the filter, whatever "
        "apply_deletes says.",
    )
    adopt_existing: Literal["by_key", "never"] = Field(
        default="by_key",
        description="Whether a Campaign record that was there before, with the key of a Dynamics record, is kept in "
        "step (by_key) or left alone (never).",
    )
    on_create: Mapping[CampaignField, Constant] = Field(
        default={},
        description="Constant values sent once, with the insert; of orgUnit and geoUnit the name (ID) of the unit.",
    )
    contains_personal_data: bool = Field(default=False, description="Whether any of its fields holds personal data.")
    accept_unlinked_personal_data: bool = Field(
        default=False, description="Accept personal data in a resource without a link to the profile."
    )

    @property
    def name(self) -> str:
        """What this mapping is called everywhere: its Dynamics table."""
        return self.source

    @property
    def deletes(self) -> bool:
        """Whether anything is ever deleted in Campaign."""
        return self.apply_deletes or self.delete_filtered_out

    @property
    def personal(self) -> bool:
        """Whether it is said to hold personal data."""
        return self.contains_personal_data or any(f.personal for f in self.fields)

    @model_validator(mode="after")
    def _fits_together(self) -> "TableMapping":
        faults = [*_targets_mapped_twice(self), *_links_that_lead_nowhere(self)]
        if self.delete_filtered_out and self.filter is None:
            faults.append("delete_filtered_out needs a filter. Add one, or remove the line.")
        if faults:
            raise ValueError(" ".join(faults))
        return self

    @property
    def opt_outs(self) -> Sequence[FieldMapping]:
        """The fields that are opt-outs of a profile."""
        return [f for f in self.fields if self.target == PROFILE and f.target in ATTRIBUTES]

    @property
    def units(self) -> Mapping[str, str]:
        """The units that new records belong to: link to the unit's name."""
        return {link: str(name) for link, name in self.on_create.items() if link in UNITS}

    @property
    def constants(self) -> Mapping[str, Constant]:
        """What new records are sent with just as it stands here."""
        return {name: value for name, value in self.on_create.items() if name not in UNITS}

    def identity(self) -> dict[str, str]:
        """What can't change once records were written: both tables and both key columns."""
        return {
            "source": self.source,
            "target": self.target,
            "source_key": self.key.source,
            "target_key": self.key.target,
        }

    def foreign_key(self, link: LinkMapping) -> str:
        """The Campaign field that holds the key of the link's parent."""
        return next(f.target for f in self.fields if f.source == link.source)


def _targets_mapped_twice(mapping: TableMapping) -> Iterator[str]:
    counts = Counter([mapping.key.target, *(f.target for f in mapping.fields), *mapping.on_create])
    for target in [target for target, count in counts.items() if count > 1]:
        if target == mapping.key.target:
            yield f"Campaign field '{target}' is the key; remove it from fields and on_create, it is always sent."
        elif target in mapping.on_create:
            yield f"Campaign field '{target}' stands in fields and in on_create. Keep one of them."
        else:
            sources = " and ".join(f"'{f.source}'" for f in mapping.fields if f.target == target)
            yield f"Campaign field '{target}' is mapped {_times(counts[target])}, from {sources}. Keep one of them."


def _times(count: int) -> str:
    return "twice" if count == 2 else f"{count} times"


def _links_that_lead_nowhere(mapping: TableMapping) -> Iterator[str]:
    for source, count in Counter(link.source for link in mapping.links).items():
        if count > 1:
            yield f"link '{source}' stands {_times(count)}. Keep one of them; a record waits for every parent."
    for link in mapping.links:
        mapped = [f for f in mapping.fields if f.source == link.source]
        if len(mapped) != 1:
            yield f"link '{link.source}' must be mapped in fields once, to the column that holds the parent's key."
        elif mapped[0].replacements or not mapped[0].apply_updates:
            yield f"'{link.source}' is a link: its field can have neither replacements nor apply_updates: false."
        if link.parent == mapping.source:
            yield f"link '{link.source}' leads to its own table; such a link can't be kept in order. Remove it."
