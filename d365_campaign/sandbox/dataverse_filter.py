"""`$filter` expressions as predicates over rows ("Filter rows using OData")."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fnmatch import translate
from typing import Any

from .dataverse_errors import BAD_REQUEST, PARSE, DataverseError, unknown_property
from .dataverse_schema import Column
from .dataverse_state import Row, Table
from .dataverse_values import Reference, day, guid, stamp

Predicate = Callable[[Row], bool]
Value = Callable[[Row], Any]

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>'(?:[^']|'')*'|"[^"]*")
    | (?P<guid>[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})
    | (?P<date>-?\d{4}-\d\d-\d\d(?:T[\d:.]+(?:Z|[+-]\d\d:\d\d)?)?)
    | (?P<number>-?\d+(?:\.\d+)?)
    | (?P<alias>@\w+)
    | (?P<name>[A-Za-z_][\w.]*)
    | (?P<sign>[(),=\[\]/:])
    )""",
    re.VERBOSE,
)

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda left, right: left == right,
    "ne": lambda left, right: left != right,
    "gt": lambda left, right: left is not None and right is not None and left > right,
    "ge": lambda left, right: left is not None and right is not None and left >= right,
    "lt": lambda left, right: left is not None and right is not None and left < right,
    "le": lambda left, right: left is not None and right is not None and left <= right,
}
STRING_FUNCTIONS = {"contains": "%{}%", "startswith": "{}%", "endswith": "%{}"}
CRM_FUNCTIONS: dict[str, Callable[[Any, list[Any]], bool]] = {
    "In": lambda value, given: value in given,
    "NotIn": lambda value, given: value not in given,
    "Between": lambda value, given: value is not None and given[0] <= value <= given[1],
    "On": lambda value, given: value is not None and value[:10] == given[0][:10],
    "OnOrAfter": lambda value, given: value is not None and value[:10] >= given[0][:10],
    "OnOrBefore": lambda value, given: value is not None and value[:10] <= given[0][:10],
}


@dataclass(slots=True)
class Filter:
    """A parsed filter; `modified_since` is a bound every matching row obeys, when the text implies one."""

    matches: Predicate
    modified_since: str | None = None


@dataclass(slots=True)
class _Operand:
    """One side of a comparison: a column, or a literal whose meaning depends on the column it meets."""

    column: Column | None = None
    index: int = 0
    kind: str = ""
    literal: Any = None


@dataclass(slots=True)
class _Bounds:
    """What the conjuncts seen at the top level say about `modifiedon`."""

    depth: int = 0
    alternatives: bool = False
    since: list[str] = field(default_factory=list)


def parse_filter(text: str, table: Table, aliases: Mapping[str, str]) -> Filter:
    parser = _Parser(text, table, aliases)
    predicate = parser.parse()
    bounds = parser.bounds
    since = max(bounds.since) if bounds.since and not bounds.alternatives else None
    return Filter(predicate, since)


class _Parser:
    """Recursive descent: or < and < not < comparison, function or parenthesis."""

    def __init__(self, text: str, table: Table, aliases: Mapping[str, str]) -> None:
        self._table, self._aliases = table, aliases
        self._tokens = _tokens(text)
        self._next = 0
        self.bounds = _Bounds()

    def parse(self) -> Predicate:
        predicate = self._either()
        if self._peek()[0] != "end":
            raise _syntax_error(self._peek()[1])
        return predicate

    def _either(self) -> Predicate:
        parts = [self._both()]
        while self._accept("name", "or"):
            self.bounds.alternatives = True
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda row: any(part(row) for part in parts)

    def _both(self) -> Predicate:
        parts = [self._negated()]
        while self._accept("name", "and"):
            parts.append(self._negated())
        return parts[0] if len(parts) == 1 else lambda row: all(part(row) for part in parts)

    def _negated(self) -> Predicate:
        if not self._accept("name", "not"):
            return self._primary()
        self.bounds.alternatives = True
        inner = self._negated()
        return lambda row: not inner(row)

    def _primary(self) -> Predicate:
        if self._accept("sign", "("):
            inner = self._either()
            self._expect("sign", ")")
            return inner
        kind, text = self._peek()
        if kind == "name" and self._tokens[self._next + 1] == ("sign", "("):
            return self._crm_function() if text.startswith("Microsoft.Dynamics.CRM.") else self._string_function()
        return self._comparison()

    def _comparison(self) -> Predicate:
        left = self._operand()
        operator = self._expect("name")
        if operator not in COMPARISONS:
            raise _syntax_error(operator)
        right = self._operand()
        self._note_bound(left, operator, right)
        compare, first, second = COMPARISONS[operator], _value(left, right), _value(right, left)
        return lambda row: compare(first(row), second(row))

    def _note_bound(self, left: _Operand, operator: str, right: _Operand) -> None:
        on_modified = left.column is not None and left.column.name == "modifiedon"
        if on_modified and operator in ("ge", "gt") and right.kind == "date":
            self.bounds.since.append(stamp(right.literal))

    def _string_function(self) -> Predicate:
        name = self._expect("name")
        if name not in STRING_FUNCTIONS:
            raise DataverseError(BAD_REQUEST, f"The function '{name}' is not supported.")
        self._expect("sign", "(")
        operand = self._operand()
        self._expect("sign", ",")
        wanted = self._operand()
        self._expect("sign", ")")
        matches = re.compile(_like(STRING_FUNCTIONS[name].format(wanted.literal)), re.IGNORECASE | re.DOTALL).match
        index = operand.index
        return lambda row: isinstance(row.values[index], str) and matches(row.values[index]) is not None

    def _crm_function(self) -> Predicate:
        name = self._expect("name").rpartition(".")[2]
        if name not in CRM_FUNCTIONS:
            raise DataverseError(BAD_REQUEST, f"The query function '{name}' is not supported.")
        self._expect("sign", "(")
        named: dict[str, list[_Operand]] = {}
        while not self._accept("sign", ")"):
            argument = self._expect("name")
            self._expect("sign", "=")
            named[argument] = self._argument()
            self._accept("sign", ",")
        return self._crm_predicate(name, named)

    def _crm_predicate(self, name: str, named: Mapping[str, list[_Operand]]) -> Predicate:
        try:
            column = self._column(named["PropertyName"][0].literal)
            given = named.get("PropertyValues") or named["PropertyValue"]
        except KeyError as missing:
            raise _syntax_error(f"{name} without {missing.args[0]}") from None
        values = [_typed(column.column, operand) for operand in given]
        test, value = CRM_FUNCTIONS[name], _value(column, _Operand())
        return lambda row: test(value(row), values)

    def _argument(self) -> list[_Operand]:
        if not self._accept("sign", "["):
            kind, text = self._peek()
            if kind == "alias":
                self._next += 1
                return _Parser(self._aliases.get(text, ""), self._table, {})._argument()
            return [self._operand()]
        operands = []
        while not self._accept("sign", "]"):
            operands.append(self._operand())
            self._accept("sign", ",")
        return operands

    def _operand(self) -> _Operand:
        kind, text = self._take()
        if kind == "alias":
            return _Parser(self._aliases.get(text, ""), self._table, {})._operand()
        if kind == "string":
            return _Operand(kind=kind, literal=text[1:-1].replace("''", "'"))
        if kind in ("guid", "date", "number"):
            return _Operand(kind=kind, literal=text)
        if kind == "name" and text in ("null", "true", "false"):
            return _Operand(kind="constant", literal={"null": None, "true": True, "false": False}[text])
        if kind == "name":
            return self._column(text)
        raise _syntax_error(text)

    def _column(self, name: str) -> _Operand:
        index = self._table.by_property.get(name)
        if index is None:
            raise unknown_property(name, self._table.definition.name)
        return _Operand(column=self._table.columns[index], index=index, kind="column")

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._next]

    def _take(self) -> tuple[str, str]:
        token = self._tokens[self._next]
        self._next += token[0] != "end"
        return token

    def _accept(self, kind: str, text: str) -> bool:
        found = self._peek() == (kind, text)
        self._next += found
        return found

    def _expect(self, kind: str, text: str | None = None) -> str:
        found = self._take()
        if found[0] != kind or (text is not None and found[1] != text):
            raise _syntax_error(found[1])
        return found[1]


def _tokens(text: str) -> list[tuple[str, str]]:
    text, tokens, at = text.strip(), [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _syntax_error(text[at : at + 10])
        tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
        at = match.end()
    return [*tokens, ("end", ""), ("end", "")]


def _value(operand: _Operand, other: _Operand) -> Value:
    """How to get an operand's value from a row, in a form that compares as Dataverse compares."""
    if operand.column is None:
        constant = _typed(other.column, operand)
        return lambda row: constant
    index = operand.index
    if operand.column.is_lookup:
        return lambda row: row.values[index].id if isinstance(row.values[index], Reference) else None
    if operand.column.type in ("String", "Memo", "MultiSelectPicklist"):
        return lambda row: None if row.values[index] is None else row.values[index].casefold()
    return lambda row: row.values[index]


def _typed(column: Column | None, operand: _Operand) -> Any:
    """A literal as the column it is compared with keeps its values."""
    literal = operand.literal
    if not isinstance(literal, str) or column is None:
        return literal
    try:
        return (
            _LITERALS.get(column.type, str.casefold)(literal) if column.type != "DateTime" else _date(column, literal)
        )
    except (ValueError, ArithmeticError):
        raise DataverseError(
            PARSE, f"A binary operator with incompatible types was detected at '{column.property_name}'."
        ) from None


def _date(column: Column, literal: str) -> str:
    return day(literal[:10]) if column.date_only else stamp(literal)


def _identifier(literal: str) -> str:
    found = guid(literal)
    if found is None:
        raise ValueError(literal)
    return found


_LITERALS: dict[str, Callable[[str], Any]] = {
    "Uniqueidentifier": _identifier,
    "Lookup": _identifier,
    "Customer": _identifier,
    "Owner": _identifier,
    "Integer": int,
    "BigInt": int,
    "Picklist": int,
    "State": int,
    "Status": int,
    "Decimal": Decimal,
    "Money": Decimal,
    "Double": float,
}


def _like(pattern: str) -> str:
    """`%` and `_` are wildcards in the string functions, as they are in SQL."""
    special = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return translate("".join(special.get(character, character) for character in pattern))


def _syntax_error(at: str) -> DataverseError:
    return DataverseError(PARSE, f"Syntax error in '$filter' at '{at}'.")
