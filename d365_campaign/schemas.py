"""What both systems say of themselves: a Dataverse table and a Campaign resource, as far as a mapping needs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from d365_campaign.field_types import CampaignType, SourceType

Cardinality = Literal["1", "0..1", "N"]


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """A readable Dataverse column. *wire_name* is how it is selected and sent: `_x_value` for a lookup `x`.

    *labels* are the display labels of a choice, by technical value; *refers_to* the tables a lookup may lead to.
    """

    name: str
    type: SourceType
    wire_name: str
    labels: Mapping[int, str] = field(default_factory=dict, repr=False)
    refers_to: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A Dataverse table: *name* is its logical name, *entity_set* the one that stands in URLs."""

    name: str
    entity_set: str
    primary_id: str
    change_tracking: bool
    columns: Mapping[str, SourceColumn] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ResourceField:
    """A Campaign attribute that can hold a value; one of a sub-object has a dotted name (`location.city`).

    *length* is in characters, *bounds* are the least and greatest value of an integer; None where nothing limits it.
    """

    name: str
    type: CampaignType
    length: int | None = None
    bounds: tuple[int, int] | None = None
    read_only: bool = False
    data_policy: str = ""


@dataclass(frozen=True, slots=True)
class ResourceLink:
    """A link of a Campaign resource. What its metadata doesn't tell is None, or empty for *column*.

    *column* is the attribute here that holds the key of the *resource* it leads to; *cascades*: deleting that record
    deletes the records linked to it ("Configuring the resource's data structure").
    """

    name: str
    resource: str
    column: str = ""
    cardinality: Cardinality | None = None
    cascades: bool | None = None


@dataclass(frozen=True, slots=True)
class TargetResource:
    """A Campaign resource and the endpoint it is on (`profileAndServicesExt`, `customResources`).

    *unique_keys* are the fields that Campaign declares as identification keys; None where metadata doesn't tell.
    """

    name: str
    endpoint: str
    fields: Mapping[str, ResourceField] = field(repr=False)
    links: Sequence[ResourceLink] = ()
    unique_keys: Sequence[str] | None = None
