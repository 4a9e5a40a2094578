"""The type table: how a Dataverse column is held in DuckDB, and how it becomes a Campaign value.

Dataverse tells a column's `AttributeType`; here that is one of few *source types*. Campaign tells an attribute's
`type` and `resType`; here that is one of seven *Campaign types*. Every pair of the two stands in one of two tables:
`CONVERSIONS` has the SQL that turns the one into the other, `REFUSED` the reason why there is none. A refused pair is
found when the mapping is read, never half-way through a run; a single value that can't be converted is a fault of its
record alone.
"""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Literal

import polars as pl

SourceType = Literal[
    "text", "integer", "decimal", "double", "boolean", "datetime", "date", "choice", "money", "reference"
]
CampaignType = Literal["string", "integer", "float", "double", "boolean", "date", "datetime"]
Wire = str | int | float | bool | None

# --- Dynamics ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Held:
    """How a source type stands in the staging file (*duckdb*), how a page's JSON is read (*page*), and the SQL from the
    one to the other (*load*).

    Each holds every value that Dataverse can send, exactly. So *load* fails for nothing that a record may hold; it
    does, and loudly, for what is no value of the type at all.
    """

    duckdb: str
    page: type[pl.DataType]
    load: str = "{0}"


HELD: Mapping[SourceType, Held] = {
    "text": Held("varchar", pl.String),
    "reference": Held("varchar", pl.String),
    "money": Held("varchar", pl.String),
    "integer": Held("bigint", pl.Int64),
    "choice": Held("bigint", pl.Int64),
    "decimal": Held("decimal(38, 10)", pl.String, "cast({0} as decimal(38, 10))"),
    "double": Held("double", pl.Float64),
    "boolean": Held("boolean", pl.Boolean),
    # A plain cast to `timestamp` would ignore an offset. (Without any, the session's zone would count, which is UTC.)
    "datetime": Held("timestamp", pl.String, "timezone('UTC', cast({0} as timestamptz))"),
    "date": Held("date", pl.String, "cast({0} as date)"),
}

# A JSON number of these is taken by its text: read as a binary number it would lose digits and trailing zeros.
RAW_NUMBERS: frozenset[SourceType] = frozenset({"decimal", "money"})

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
    "Money": "money",
    "Double": "double",
    "Boolean": "boolean",
    "DateTime": "datetime",
    "Picklist": "choice",
    "State": "choice",
    "Status": "choice",
}
LOOKUPS = frozenset({"Lookup", "Customer", "Owner"})


def source_type(attribute_type: str, date_only: bool) -> SourceType | None:
    """The source type of a Dataverse attribute, or None for one that can't be read as a column."""
    found = ATTRIBUTE_TYPES.get(attribute_type)
    return "date" if found == "datetime" and date_only else found


# --- Campaign ---------------------------------------------------------------------------------------------------------

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

# The least and the greatest value of Campaign's integers, by `resType` (Adobe's JavaScript SDK, "Data Types").
INTEGER_BOUNDS: Mapping[str, tuple[int, int]] = {
    "byte": (-(2**7), 2**7 - 1),
    "short": (-(2**15), 2**15 - 1),
    "long": (-(2**31), 2**31 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
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


def campaign_type(kind: str, technical: str) -> CampaignType | None:
    """The Campaign type of an attribute from its metadata (`type`, `resType`), or None where it holds no value.

    Enumerations travel by the name of their value, so they are strings whatever is stored.
    """
    if kind == "enumeration":
        return "string"
    return RESOURCE_TYPES.get(technical) or RESOURCE_TYPES.get(kind)


# --- from the one to the other ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Conversion:
    """SQL over one DuckDB expression `{0}` of a source type, which it may mention several times.

    It never raises. With *may_fail* it is NULL for a value that can't be converted: a fault of that record. Text of
    nothing but blanks is no such fault; it is empty.
    """

    sql: str
    may_fail: bool = False


# Text is matched before it is cast: DuckDB alone would round 1.5, and take 1_000, 0x1F, 1-2-3 and `epoch` for values.
_DAY = r"\d\d\d\d-\d\d-\d\d"
_TIME = r"[T ]\d\d:\d\d(:\d\d(\.\d+)?)?"
_OFFSET = r"[+-]\d\d:?[0-5]\d"
_UTC_TEXT = f"regexp_extract(trim({{0}}), '^{_DAY}({_TIME}Z?)?$')"
_OFFSET_TEXT = f"regexp_extract(trim({{0}}), '^{_DAY}{_TIME}{_OFFSET}$')"
_ANY_MOMENT = f"coalesce(try_cast({_UTC_TEXT} as timestamp), timezone('UTC', try_cast({_OFFSET_TEXT} as timestamptz)))"
_INTEGER_TEXT = r"regexp_extract(trim({0}), '^([+-]?[0-9]+)(\.0*)?$', 1)"
_NUMBER_TEXT = r"regexp_extract(trim({0}), '^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$')"

# Digits and exponent of a double's shortest text, and that text written out: `1e-05` is to arrive as `0.00001`.
_SHORTEST = "cast(abs({0}) as varchar)"
_DIGITS = f"replace(regexp_extract({_SHORTEST}, '[0-9.]+'), '.', '')"
_EXPONENT = f"try_cast(regexp_extract({_SHORTEST}, 'e(.+)', 1) as integer)"
_WRITTEN_OUT = f"""if({{0}} < 0, '-', '') || case
  when {_EXPONENT} < 0 then '0.' || repeat('0', -{_EXPONENT} - 1) || {_DIGITS}
  when {_EXPONENT} > 0 then rpad({_DIGITS}, {_EXPONENT} + 1, '0')
  when isfinite({{0}}) then regexp_replace({_SHORTEST}, '[.]0$', '') end"""

# Campaign's `float` is of single precision (same page).
_GREATEST_FLOAT = "3.4028234663852886e38"


def _float(double: str) -> Conversion:
    """Finite, and small enough for Campaign; NaN is greater than any number here."""
    return Conversion(f"case when abs({double}) <= {_GREATEST_FLOAT} then {double} end", may_fail=True)


def _finite(double: str) -> Conversion:
    return Conversion(f"case when isfinite({double}) then {double} end", may_fail=True)


_UNCHANGED = Conversion("{0}")
_TO_TEXT = Conversion("cast({0} as varchar)")
_TO_DOUBLE = Conversion("cast({0} as double)")
_WHOLE = Conversion("case when {0} = trunc({0}) then try_cast({0} as bigint) end", may_fail=True)
_ZERO_OR_ONE = Conversion("case {0} when 0 then false when 1 then true end", may_fail=True)
_READ_INTEGER = Conversion(f"try_cast({_INTEGER_TEXT} as bigint)", may_fail=True)
_READ_FLOAT = _float(f"try_cast({_NUMBER_TEXT} as double)")
_READ_DOUBLE = _finite(f"try_cast({_NUMBER_TEXT} as double)")
_READ_BOOLEAN = Conversion(
    "case when lower(trim({0})) in ('true', 'yes', '1') then true"
    " when lower(trim({0})) in ('false', 'no', '0') then false end",
    may_fail=True,
)
_READ_MOMENT = Conversion(
    f"case when year({_ANY_MOMENT}) between 1 and 9999 then date_trunc('milliseconds', {_ANY_MOMENT}) end",
    may_fail=True,
)

CONVERSIONS: Mapping[tuple[SourceType, CampaignType], Conversion] = {
    ("text", "string"): _UNCHANGED,
    ("text", "integer"): _READ_INTEGER,  # 12 and 12.00, but not 12.5
    ("text", "float"): _READ_FLOAT,
    ("text", "double"): _READ_DOUBLE,
    ("text", "boolean"): _READ_BOOLEAN,
    ("text", "date"): Conversion(f"cast({_READ_MOMENT.sql} as date)", may_fail=True),  # of a moment, its day in UTC
    ("text", "datetime"): _READ_MOMENT,  # ISO 8601; without an offset it is UTC
    ("integer", "string"): _TO_TEXT,
    ("integer", "integer"): _UNCHANGED,
    ("integer", "float"): _TO_DOUBLE,
    ("integer", "double"): _TO_DOUBLE,
    ("integer", "boolean"): _ZERO_OR_ONE,
    ("choice", "string"): _TO_TEXT,
    ("choice", "integer"): _UNCHANGED,
    ("choice", "float"): _TO_DOUBLE,
    ("choice", "double"): _TO_DOUBLE,
    ("choice", "boolean"): _ZERO_OR_ONE,
    ("decimal", "string"): Conversion("rtrim(rtrim(cast({0} as varchar), '0'), '.')"),
    ("decimal", "integer"): _WHOLE,
    ("decimal", "float"): _TO_DOUBLE,
    ("decimal", "double"): _TO_DOUBLE,
    ("decimal", "boolean"): _ZERO_OR_ONE,
    ("double", "string"): Conversion(_WRITTEN_OUT, may_fail=True),
    ("double", "integer"): _WHOLE,
    ("double", "float"): _float("{0}"),
    ("double", "double"): _finite("{0}"),
    ("double", "boolean"): _ZERO_OR_ONE,
    ("boolean", "string"): _TO_TEXT,
    ("boolean", "integer"): Conversion("cast({0} as bigint)"),
    ("boolean", "float"): _TO_DOUBLE,
    ("boolean", "double"): _TO_DOUBLE,
    ("boolean", "boolean"): _UNCHANGED,
    ("datetime", "string"): Conversion("replace(cast({0} as varchar), ' ', 'T') || 'Z'"),
    ("datetime", "date"): Conversion("cast({0} as date)"),  # its day in UTC
    ("datetime", "datetime"): Conversion("date_trunc('milliseconds', {0})"),  # Campaign keeps no more of it
    ("date", "string"): _TO_TEXT,
    ("date", "date"): _UNCHANGED,
    ("date", "datetime"): Conversion("try_cast({0} as timestamp)", may_fail=True),  # midnight in UTC
    ("money", "string"): _UNCHANGED,
    ("money", "integer"): _READ_INTEGER,
    ("money", "float"): _READ_FLOAT,
    ("money", "double"): _READ_DOUBLE,
    ("reference", "string"): _UNCHANGED,
}

_REFUSALS: Sequence[tuple[Sequence[SourceType], Sequence[CampaignType], str]] = [
    (
        ["integer", "choice", "decimal", "double", "money"],
        ["date", "datetime"],
        "a number doesn't tell what it counts and since when, so it is no date",
    ),
    (["money"], ["boolean"], "an amount of money is neither true nor false"),
    (["boolean"], ["date", "datetime"], "true and false are no dates"),
    (["date", "datetime"], ["integer", "float", "double"], "a date is no number unless one says what to count"),
    (["date", "datetime"], ["boolean"], "a date is neither true nor false"),
    (["reference"], ["integer", "float", "double", "boolean", "date", "datetime"], "an id is passed on as text only"),
]
REFUSED: Mapping[tuple[SourceType, CampaignType], str] = {
    (source, target): reason for sources, targets, reason in _REFUSALS for source in sources for target in targets
}

# SQL from the text of a Campaign JSON value to `CAMPAIGN_DUCKDB`; NULL for what is empty or can't be read.
FROM_CAMPAIGN: Mapping[CampaignType, str] = {
    **{kind: CONVERSIONS["text", kind].sql for kind in CAMPAIGN_DUCKDB},
    "string": "nullif({0}, '')",
}

# --- what is sent, and what is the same -------------------------------------------------------------------------------


def to_wire(value: object, kind: CampaignType) -> Wire:
    """What is sent for *value*; an explicit empty value for None, which is how Campaign clears an attribute.

    Date-times leave as `YYYY-MM-DD HH:MM:SS.mmmZ` in UTC, the form Campaign itself prints.
    """
    if value is None:
        return EMPTY_WIRE[kind]
    if isinstance(value, datetime):
        return f"{_in_utc(value).replace(tzinfo=None).isoformat(' ', 'milliseconds')}Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return value + 0.0  # no number but -0.0 is changed by that
    if isinstance(value, str | int | bool):
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
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


def same_in_campaign(desired: object, held: object, kind: CampaignType, data_policy: str = "") -> bool:
    """Whether Campaign's *held* value is already the *desired* one, in Campaign's terms.

    Empty equals null, numbers are compared in the precision of their type, date-times as moments, and a data policy's
    own changes count for nothing. A value that can't be read is the same as none but its like.
    """
    return _comparable(desired, kind, data_policy) == _comparable(held, kind, data_policy)


def _comparable(value: object, kind: CampaignType, data_policy: str) -> object:
    if value is None or value == "":
        return EMPTY_WIRE[kind]
    if kind == "string":
        text = str(value)
        return DATA_POLICIES[data_policy](text) if data_policy in DATA_POLICIES else text
    if kind == "boolean":
        return _TRUTHS.get(str(value).lower(), str(value))
    if kind in ("integer", "float", "double"):
        return _number(value, kind)
    moment = _moment(value)
    return moment.date() if kind == "date" and isinstance(moment, datetime) else moment


def _number(value: object, kind: CampaignType) -> object:
    try:
        number = Decimal(int(value) if isinstance(value, bool) else str(value))
    except InvalidOperation:
        return str(value)
    if not number.is_finite():
        return str(value)
    if kind == "integer":
        return number
    return float(number) if kind == "double" else ctypes.c_float(float(number)).value


def _moment(value: object) -> datetime | str:
    try:
        moment = _in_utc(value if isinstance(value, datetime) else datetime.fromisoformat(str(value)))
    except (ValueError, OverflowError):
        return str(value)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
