"""`$filter` expressions as predicates over rows ("Filter rows using OData")."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .dataverse_conditions import (
    COMPARISONS,
    CRM_FUNCTIONS,
    PERIODS,
    STRING_FUNCTIONS,
    Operand,
    in_period,
    like,
    typed,
    value_of,
)
from .dataverse_errors import BAD_REQUEST, PARSE, DataverseError, unknown_property
from .dataverse_relationships import children_of, collections_of, related_row
from .dataverse_state import DataverseState
from .dataverse_table import Row, Table
from .dataverse_values import stamp

Predicate = Callable[[Row], bool]

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


@dataclass(slots=True)
class Filter:
    """A parsed filter; `modified_since` is a bound every matching row obeys, when the text implies one."""

    matches: Predicate
    modified_since: str | None = None


@dataclass(slots=True)
class _Bounds:
    """What the conjuncts seen at the top level say about `modifiedon`."""

    depth: int = 0
    alternatives: bool = False
    since: list[str] = field(default_factory=list)


def parse_filter(text: str, state: DataverseState, table: Table, aliases: Mapping[str, str]) -> Filter:
    parser = _Parser(text, state, table, aliases)
    predicate = parser.parse()
    bounds = parser.bounds
    since = max(bounds.since) if bounds.since and not bounds.alternatives else None
    return Filter(predicate, since)


class _Parser:
    """Recursive descent: or < and < not < comparison, function or parenthesis."""

    def __init__(self, text: str, state: DataverseState, table: Table, aliases: Mapping[str, str]) -> None:
        self._state, self._table, self._aliases = state, table, aliases
        self._variable = ""
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
        if kind == "name" and self._lambda_ahead():
            return self._lambda()
        return self._comparison()

    def _comparison(self) -> Predicate:
        left = self._operand()
        operator = self._expect("name")
        if operator not in COMPARISONS:
            raise _syntax_error(operator)
        right = self._operand()
        self._note_bound(left, operator, right)
        compare, first, second = COMPARISONS[operator], value_of(left, right), value_of(right, left)
        return lambda row: compare(first(row), second(row))

    def _note_bound(self, left: Operand, operator: str, right: Operand) -> None:
        on_modified = left.own and left.column is not None and left.column.name == "modifiedon"
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
        get = operand.get
        if get is None:
            raise _syntax_error(name)
        matches = like(STRING_FUNCTIONS[name].format(wanted.literal)).match
        return lambda row: isinstance(value := get(row), str) and matches(value) is not None

    def _crm_function(self) -> Predicate:
        name = self._expect("name").rpartition(".")[2]
        if name not in CRM_FUNCTIONS and name not in PERIODS:
            raise DataverseError(BAD_REQUEST, f"The query function '{name}' is not supported.")
        self._expect("sign", "(")
        named: dict[str, list[Operand]] = {}
        while not self._accept("sign", ")"):
            argument = self._expect("name")
            self._expect("sign", "=")
            named[argument] = self._argument()
            self._accept("sign", ",")
        return self._crm_predicate(name, named)

    def _crm_predicate(self, name: str, named: Mapping[str, list[Operand]]) -> Predicate:
        if "PropertyName" not in named:
            raise _syntax_error(f"{name} without PropertyName")
        column = self._walked([str(named["PropertyName"][0].literal)])
        value = value_of(column, Operand())
        given = named.get("PropertyValues") or named.get("PropertyValue") or []
        if name in PERIODS:
            number = int(str(given[0].literal)) if given else 0
            within = in_period(self._state.clock.now(), name, number)
            return lambda row: within(value(row))
        if not given:
            raise _syntax_error(f"{name} without PropertyValues")
        values = [typed(column.column, operand) for operand in given]
        test = CRM_FUNCTIONS[name]
        return lambda row: test(value(row), values)

    def _argument(self) -> list[Operand]:
        if not self._accept("sign", "["):
            kind, text = self._peek()
            if kind == "alias":
                self._next += 1
                return _Parser(self._aliases.get(text, ""), self._state, self._table, {})._argument()
            return [self._operand()]
        operands = []
        while not self._accept("sign", "]"):
            operands.append(self._operand())
            self._accept("sign", ",")
        return operands

    def _operand(self) -> Operand:
        kind, text = self._take()
        if kind == "alias":
            return _Parser(self._aliases.get(text, ""), self._state, self._table, {})._operand()
        if kind == "string":
            return Operand(kind=kind, literal=text[1:-1].replace("''", "'"))
        if kind in ("guid", "date", "number"):
            return Operand(kind=kind, literal=text)
        if kind == "name" and text in ("null", "true", "false"):
            return Operand(kind="constant", literal={"null": None, "true": True, "false": False}[text])
        if kind == "name":
            return self._walked(self._path(text))
        raise _syntax_error(text)

    # --- columns, of the table itself or along navigation properties

    def _path(self, first: str) -> list[str]:
        names = [first]
        while self._accept("sign", "/"):
            names.append(self._expect("name"))
        return names

    def _walked(self, names: list[str]) -> Operand:
        """The column at the end of a path through single-valued navigation properties."""
        own = len(names) == 1 and not self._variable
        if names[0] == self._variable and len(names) > 1:
            names = names[1:]
        table, row_of = self._hops(names[:-1])
        index = table.by_property.get(names[-1])
        if index is None:
            raise unknown_property(names[-1], table.definition.name)
        column = table.columns[index]
        if row_of is None:
            return Operand(column, lambda row: row.values[index], own, "column")
        found = row_of
        return Operand(
            column, lambda row: None if (target := found(row)) is None else target.values[index], False, "column"
        )

    def _hops(self, names: list[str]) -> tuple[Table, Callable[[Row], Row | None] | None]:
        table, row_of = self._table, None
        for name in names:
            if name not in table.navigation:
                raise unknown_property(name, table.definition.name)
            column, target = table.navigation[name]
            row_of = _hop(row_of, self._state, table, table.position[column.name], target)
            table = self._state.table(target)
        return table, row_of

    def _lambda_ahead(self) -> bool:
        at = self._next + 1
        while self._tokens[at] == ("sign", "/"):
            if self._tokens[at + 1] in (("name", "any"), ("name", "all")) and self._tokens[at + 2] == ("sign", "("):
                return True
            at += 2
        return False

    def _lambda(self) -> Predicate:
        """`any` and `all` over a collection-valued navigation property."""
        names = self._path(self._expect("name"))
        quantifier = names.pop()
        if names[0] == self._variable and len(names) > 1:
            names = names[1:]
        table, row_of = self._hops(names[:-1])
        relation = collections_of(self._state, table).get(names[-1])
        if relation is None:
            raise unknown_property(names[-1], table.definition.name)
        self._expect("sign", "(")
        inner: Predicate = lambda row: True  # noqa: E731
        if not self._accept("sign", ")"):
            before = self._table, self._variable
            variable = self._expect("name")
            self._expect("sign", ":")
            self._table, self._variable = relation.table, variable
            inner = self._either()
            self._table, self._variable = before
            self._expect("sign", ")")
        children = children_of(relation)
        test = any if quantifier == "any" else all

        def matches(row: Row) -> bool:
            parent = row if row_of is None else row_of(row)
            return parent is not None and test(inner(child) for child in children(parent.id))

        return matches

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


def _hop(
    before: Callable[[Row], Row | None] | None, state: DataverseState, table: Table, index: int, target: str
) -> Callable[[Row], Row | None]:
    """One step further along a path; None where a lookup is empty, leads elsewhere or to a row that is gone."""

    def step(row: Row) -> Row | None:
        source = row if before is None else before(row)
        return None if source is None else related_row(state, source.values[index], target)

    return step


def _tokens(text: str) -> list[tuple[str, str]]:
    text, tokens, at = text.strip(), [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _syntax_error(text[at : at + 10])
        tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
        at = match.end()
    return [*tokens, ("end", ""), ("end", ""), ("end", "")]


def _syntax_error(at: str) -> DataverseError:
    return DataverseError(PARSE, f"Syntax error in '$filter' at '{at}'.")
