"""Bodies and row addresses of Dataverse writes: `@odata.bind`, alternate keys, conditions."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from .dataverse_errors import (
    BAD_REQUEST,
    DUPLICATE_RECORD,
    NO_ROW_FOR_KEY,
    PAYLOAD,
    VERSION_MISMATCH,
    DataverseError,
    does_not_exist,
)
from .dataverse_state import DataverseState, invalid_property
from .dataverse_table import Row, Table
from .dataverse_values import Reference, guid

_KEY_PART = re.compile(r"\s*(\w+)\s*=\s*('(?:[^']|'')*'|[^,']+)\s*(?:,|$)")
_UNSAFE = re.compile(r"[/<>*%&:\\?+]")
_BIND = re.compile(r"^(?:https?://[^/]+/api/data/v9\.\d)?/?(\w+)\((.+)\)$")


def body_of(content: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise DataverseError(PAYLOAD, "Error identified in Payload provided by the user: Stream was not readable.")
    return body


class Address:
    """A row named in a URL, by primary key or by alternate key; the row may not exist yet."""

    def __init__(self, table: Table, key: str) -> None:
        self.table, self.values = table, dict[str, Any]()
        self.id = guid(key.strip("'"))
        if self.id is None:
            self.values = _key_values(table, key)
            columns = _declared_key(table, self.values)
            self.id = table.find(columns, tuple(self.values[name] for name in columns))

    @property
    def row(self) -> Row | None:
        return self.table.rows.get(self.id) if self.id else None

    def existing(self) -> Row:
        if self.row is not None:
            return self.row
        if self.values:
            raise DataverseError(NO_ROW_FOR_KEY, "A record with the specified key values does not exist in the table.")
        raise does_not_exist(self.table.definition.name, str(self.id))


def address_in_url(table: Table, key: str) -> Address:
    """An address from a path. Some characters of key values never survive there ("Work with alternate keys")."""
    address = Address(table, key)
    for value in address.values.values():
        if isinstance(value, str) and _UNSAFE.search(value):
            raise DataverseError(
                BAD_REQUEST, "A potentially dangerous Request.Path value was detected from the client."
            )
    return address


def _key_values(table: Table, key: str) -> dict[str, Any]:
    values, at = dict[str, Any](), 0
    while at < len(key):
        part = _KEY_PART.match(key, at)
        if part is None:
            raise _invalid_key(table)
        values[part[1]] = _literal(part[2].strip())
        at = part.end()
    return values


def _literal(text: str) -> Any:
    if text.startswith("'"):
        return text[1:-1].replace("''", "'")
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def _declared_key(table: Table, values: Mapping[str, Any]) -> tuple[str, ...]:
    for key in table.definition.keys:
        if key.active and set(key.columns) == set(values):
            return key.columns
    raise _invalid_key(table)


def _invalid_key(table: Table) -> DataverseError:
    name = table.definition.entity_set
    return DataverseError(BAD_REQUEST, f"The key in the request URI is not valid for resource '{name}'.")


def values_of(state: DataverseState, table: Table, body: Mapping[str, Any], creating: bool) -> dict[str, Any]:
    """Column values from a request body; names that can't be written are refused."""
    values: dict[str, Any] = {}
    for name, value in body.items():
        if name.endswith("@odata.bind"):
            column, reference = _bound(state, table, name.removesuffix("@odata.bind"), value)
            values[column] = reference
        elif "@" in name:
            continue
        elif value is None and name in table.navigation and state.settings.null_lookup_in_body == "clear":
            values[table.navigation[name][0].name] = None
        else:
            values[name] = _writable(table, name, value)
    if creating and state.settings.state_on_create == "ignore":
        return {name: value for name, value in values.items() if name not in ("statecode", "statuscode")}
    return values


def _writable(table: Table, name: str, value: Any) -> Any:
    index = table.by_property.get(name)
    column = table.columns[index] if index is not None else None
    if column is None or column.is_lookup:
        if name in table.navigation:
            raise _undeclared(name, table)
        raise invalid_property(name, table)
    if value is None and column.required == "SystemRequired":
        raise DataverseError("0x80040200", f"The required field '{name}' is missing.")
    return value


def _bound(state: DataverseState, table: Table, name: str, target: Any) -> tuple[str, Reference | None]:
    """The lookup column behind a navigation property, and the row it is to point to."""
    if name not in table.navigation:
        raise _undeclared(name, table)
    column, target_table = table.navigation[name]
    if target is None:
        return column.name, None
    address = _BIND.match(str(target))
    if address is None:
        raise DataverseError(PAYLOAD, f"Invalid resource reference in '{name}@odata.bind'.")
    found = state.table_of_set(address[1])
    if found.definition.name != target_table:
        raise DataverseError(BAD_REQUEST, f"'{address[1]}' is not valid for navigation property '{name}'.")
    return column.name, Reference(target_table, Address(found, address[2]).existing().id)


def row_address(state: DataverseState, url: str, table: Table) -> Address:
    """The row of *table* that an `@odata.id` names, absolute or relative; it may not exist yet."""
    match = _BIND.match(url)
    if match is None:
        raise DataverseError(PAYLOAD, "A reference needs the address of a row in '@odata.id'.")
    if state.table_of_set(match[1]) is not table:
        raise DataverseError(BAD_REQUEST, f"'{match[1]}' is not the entity set of '{table.definition.name}'.")
    return Address(table, match[2])


def _undeclared(name: str, table: Table) -> DataverseError:
    return DataverseError(
        PAYLOAD,
        f"An error occurred while validating input parameters: An undeclared property '{name}' which only has "
        "property annotations in the payload but no property value was found in the payload. Table: "
        f"{table.definition.name}.",
    )


def check_conditions(address: Address, if_match: str | None, if_none_match: str | None) -> None:
    """`If-Match` and `If-None-Match` ("Perform conditional operations using the Web API")."""
    if if_none_match == "*" and address.row is not None:
        raise DataverseError(DUPLICATE_RECORD, "A record with matching key values already exists.")
    if if_match == "*":
        address.existing()
    elif if_match and address.existing().etag != if_match:
        raise DataverseError(
            VERSION_MISMATCH, "The version of the existing record doesn't match the RowVersion property provided."
        )
