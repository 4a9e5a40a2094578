"""`$filter` on table definitions ("Query table definitions using the Web API").

Managed properties compare through `/Value`; enumerations carry their namespace: `...AttributeTypeCode'Picklist'`.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from .dataverse_errors import PARSE, DataverseError

Item = dict[str, Any]
Predicate = Callable[[Item], bool]

_TOKEN = re.compile(
    r"""\s*(?:
      (?:Microsoft\.Dynamics\.CRM\.\w+)?'(?P<text>(?:[^']|'')*)'
    | (?P<sign>[(),])
    | (?P<word>[\w./-]+)
    )""",
    re.VERBOSE,
)
_FUNCTIONS: dict[str, Callable[[str, str], bool]] = {
    "startswith": str.startswith,
    "endswith": str.endswith,
    "contains": str.__contains__,
}
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda left, right: left == right,
    "ne": lambda left, right: left != right,
    "gt": lambda left, right: left > right,
    "ge": lambda left, right: left >= right,
    "lt": lambda left, right: left < right,
    "le": lambda left, right: left <= right,
}
_CONSTANTS = {"true": True, "false": False, "null": None}


def select_where(items: Iterable[Item], condition: str | None) -> list[Item]:
    if not condition:
        return list(items)
    parser = _Parser(condition)
    matches = parser.either()
    parser.finish()
    return [item for item in items if matches(item)]


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        at, text = 0, text.strip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise _error(text[at : at + 10])
            self._tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            at = match.end()
        self._tokens += [("end", "")] * 2
        self._next = 0

    def either(self) -> Predicate:
        parts = [self._both()]
        while self._accept("word", "or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda item: any(part(item) for part in parts)

    def _both(self) -> Predicate:
        parts = [self._single()]
        while self._accept("word", "and"):
            parts.append(self._single())
        return parts[0] if len(parts) == 1 else lambda item: all(part(item) for part in parts)

    def _single(self) -> Predicate:
        if self._accept("word", "not"):
            inner = self._single()
            return lambda item: not inner(item)
        if self._accept("sign", "("):
            inner = self.either()
            self._expect("sign", ")")
            return inner
        name = self._expect("word")
        if name in _FUNCTIONS and self._accept("sign", "("):
            return self._function(_FUNCTIONS[name])
        operator = self._expect("word")
        if operator not in _OPERATORS:
            raise _error(operator)
        compare, path, wanted = _OPERATORS[operator], name, self._literal()
        return lambda item: compare(_value(item, path), wanted)

    def _function(self, test: Callable[[str, str], bool]) -> Predicate:
        path = self._expect("word")
        self._expect("sign", ",")
        wanted = str(self._literal())
        self._expect("sign", ")")
        return lambda item: test(str(_value(item, path)), wanted)

    def _literal(self) -> Any:
        kind, text = self._tokens[self._next]
        self._next += 1
        if kind == "text":
            return text.replace("''", "'")
        if kind == "word":
            return int(text) if re.fullmatch(r"-?\d+", text) else _CONSTANTS.get(text, text)
        raise _error(text)

    def finish(self) -> None:
        self._expect("end")

    def _accept(self, kind: str, text: str) -> bool:
        found = self._tokens[self._next] == (kind, text)
        self._next += found
        return found

    def _expect(self, kind: str, text: str | None = None) -> str:
        found = self._tokens[self._next]
        if found[0] != kind or text not in (None, found[1]):
            raise _error(found[1])
        self._next += 1
        return found[1]


def _value(item: Item, path: str) -> Any:
    name = path.removesuffix("/Value")
    if name not in item:
        raise DataverseError(PARSE, f"Could not find a property named '{name}' on this type.")
    value = item[name]
    return value["Value"] if isinstance(value, dict) and "Value" in value else value


def _error(at: str) -> DataverseError:
    return DataverseError(PARSE, f"Syntax error in '$filter' at '{at}'.")
