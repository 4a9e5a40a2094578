"""What both systems say of themselves: a Dataverse table and a Campaign resource, as far as a mapping needs them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from d365_campaign.field_types import CampaignType, SourceType


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """A readable Dataverse column. *wire_name* is how it is selected and sent: `_x_value` for a lookup `x`."""

    name: str
    type: SourceType
    wire_name: str


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
    """A Campaign attribute that can hold a value; one of a sub-object has a dotted name (`location.city`)."""

    name: str
    type: CampaignType
    length: int | None = None
    read_only: bool = False
    data_policy: str = ""


@dataclass(frozen=True, slots=True)
class TargetResource:
    """A Campaign resource and the endpoint it is on (`profileAndServicesExt`, `customResources`)."""

    name: str
    endpoint: str
    fields: Mapping[str, ResourceField] = field(repr=False)
