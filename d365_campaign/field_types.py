"""The type table: how a Dataverse column is held in DuckDB, and how it becomes a Campaign value.

Dataverse tells a column's `AttributeType`; here that is one of few *source types*. Campaign tells an
attribute's `type` and `resType`; here that is one of seven *Campaign types*. `CONVERSIONS` says, for every
pair that is supported, the SQL that turns the one into the other; a pair that is not in it is refused when the
mapping is read, never half-way through a run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Literal

import polars as pl

SourceType = Literal["text", "integer", "decimal", "double", "boolean", "datetime", "date", "choice", "reference"]
CampaignType = Literal["string", "integer", "float", "double", "boolean", "date", "datetime"]
Wire = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Held:
    """How a source type stands in the staging file (*duckdb*) and how a page's JSON is read (*page*)."""

    duckdb: str
    page: type[pl.DataType]


HELD: Mapping[SourceType, Held] = {
    "text": Held("varchar", pl.String),
    "reference": Held("varchar", pl.String),
    "integer": Held("bigint", pl.Int64),
    "choice": Held("bigint", pl.Int64),
    "decimal": Held("decimal(38, 10)", pl.Float64),
    "double": Held("double", pl.Float64),
    "boolean": Held("boolean", pl.Boolean),
    "datetime": Held("timestamp", pl.String),
    "date": Held("date", pl.String),
}

# `AttributeTypeCode` of the Dataverse metadata ("Query table definitions using the Web API"). DateTime is told apart
# by its behaviour: only `DateOnly` changes what travels.
ATTRIBUTE_TYPES: Mapping[str, SourceType] = {
    "String": "text",
    "Memo": "text",
    "MultiSelectPicklist": "text",
    "Uniqueidentifier": "reference",
    "Lookup": "reference",
    "Customer": "reference",
    "Owner": "reference",
    "Integer": "integer",
    "BigInt": "integer",
    "Decimal": "decimal",
    "Money": "decimal",
    "Double": "double",
    "Boolean": "boolean",
    "DateTime": "datetime",
    "Picklist": "choice",
    "State": "choice",
    "Status": "choice",
}
LOOKUPS = frozenset({"Lookup", "Customer", "Owner"})

CAMPAIGN_DUCKDB: Mapping[CampaignType, str] = {
    "string": "varchar",
    "integer": "bigint",
    "float": "double",
    "double": "double",
    "boolean": "boolean",
    "date": "date",
    "datetime": "timestamp",
}

# Campaign's technical types (`resType`); the coarser `type` is only asked where `resType` says nothing.
RESOURCE_TYPES: Mapping[str, CampaignType] = {
    "string": "string",
    "memo": "string",
    "html": "string",
    "uuid": "string",
    "byte": "integer",
    "short": "integer",
    "long": "integer",
    "int64": "integer",
    "integer": "integer",
    "number": "double",
    "float": "float",
    "double": "double",
    "boolean": "boolean",
    "date": "date",
    "datetime": "datetime",
    "datetimetz": "datetime",
    "datetimenotz": "datetime",
    "timestamp": "datetime",
}

# In Campaign an empty value comes back as "", 0 or false, so it can't be told from one that was never set.
EMPTY_SQL: Mapping[CampaignType, str | None] = {
    "string": None,
    "integer": "0",
    "float": "0",
    "double": "0",
    "boolean": "false",
    "date": None,
    "datetime": None,
}
EMPTY_WIRE: Mapping[CampaignType, Wire] = {
    "string": "",
    "integer": 0,
    "float": 0,
    "double": 0,
    "boolean": False,
    "date": "",
    "datetime": "",
}

_AS_IS = "{0}"
_TEXT_OF_NUMBER = "cast({0} as varchar)"
_TEXT_OF_DECIMAL = "rtrim(rtrim(cast({0} as varchar), '0'), '.')"
_TEXT_OF_DATETIME = "strftime({0}, '%Y-%m-%dT%H:%M:%SZ')"
_DOUBLE = "cast({0} as double)"

# (source type, Campaign type) -> SQL over one column. None of these can fail for any value of the source type.
CONVERSIONS: Mapping[tuple[SourceType, CampaignType], str] = {
    ("text", "string"): _AS_IS,
    ("reference", "string"): _AS_IS,
    ("integer", "integer"): _AS_IS,
    ("integer", "float"): _DOUBLE,
    ("integer", "double"): _DOUBLE,
    ("integer", "string"): _TEXT_OF_NUMBER,
    ("choice", "integer"): _AS_IS,
    ("choice", "string"): _TEXT_OF_NUMBER,
    ("decimal", "float"): _DOUBLE,
    ("decimal", "double"): _DOUBLE,
    ("decimal", "string"): _TEXT_OF_DECIMAL,
    ("double", "float"): _AS_IS,
    ("double", "double"): _AS_IS,
    ("double", "string"): _TEXT_OF_NUMBER,
    ("boolean", "boolean"): _AS_IS,
    ("boolean", "integer"): "cast({0} as bigint)",
    ("boolean", "string"): _TEXT_OF_NUMBER,
    ("datetime", "datetime"): _AS_IS,
    ("datetime", "date"): "cast({0} as date)",
    ("datetime", "string"): _TEXT_OF_DATETIME,
    ("date", "date"): _AS_IS,
    ("date", "datetime"): "cast({0} as timestamp)",
    ("date", "string"): _TEXT_OF_NUMBER,
}


def source_type(attribute_type: str, date_only: bool) -> SourceType | None:
    """The source type of a Dataverse attribute, or None for one that can't be read as a column."""
    found = ATTRIBUTE_TYPES.get(attribute_type)
    return "date" if found == "datetime" and date_only else found


def campaign_type(kind: str, technical: str) -> CampaignType | None:
    """The Campaign type of an attribute from its metadata (`type`, `resType`), or None where it holds no value.

    Enumerations travel by the name of their value, so they are strings whatever is stored.
    """
    if kind == "enumeration":
        return "string"
    return RESOURCE_TYPES.get(technical) or RESOURCE_TYPES.get(kind)


def to_wire(value: object, kind: CampaignType) -> Wire:
    """What is sent for *value*; an explicit empty value for None, which is how Campaign clears an attribute.

    Date-times leave as `YYYY-MM-DD HH:MM:SS.mmmZ` in UTC, the form Campaign itself prints.
    """
    if value is None:
        return EMPTY_WIRE[kind]
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}.{value.microsecond // 1000:03d}Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a {type(value).__name__} is no Campaign {kind}")


# What a data policy may do to a value on its way in ("Metadata mechanism"): two values are equal in Campaign's terms
# when they are equal after this.
DATA_POLICIES: Mapping[str, Callable[[str], str]] = {
    "smartCase": lambda text: text.casefold().strip(),
    "email": lambda text: text.casefold().strip(),
    "phone": lambda text: "".join(c for c in text if c.isdigit() or c == "+"),
    "identifier": lambda text: text.strip(),
}


def same_in_campaign(desired: object, held: object, kind: CampaignType, data_policy: str = "") -> bool:
    """Whether Campaign's *held* value is already the *desired* one, in Campaign's terms.

    Empty equals null, date-times are compared as moments, and a data policy's own changes count for nothing.
    """
    return _comparable(desired, kind, data_policy) == _comparable(held, kind, data_policy)


def _comparable(value: object, kind: CampaignType, data_policy: str) -> object:
    if value is None or value == "":
        return EMPTY_WIRE[kind]
    if kind == "string":
        text = str(value)
        return DATA_POLICIES[data_policy](text) if data_policy in DATA_POLICIES else text
    if kind == "boolean":
        return str(value).lower() in ("true", "1")
    if kind in ("integer", "float", "double"):
        return Decimal(str(value))
    if kind == "date":
        return str(value)[:10]
    return _moment(value)


def _moment(value: object) -> object:
    if isinstance(value, datetime):
        moment = value
    else:
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            return str(value)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
