"""`$expand`: rows joined into rows ("Join tables using OData")."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .dataverse_errors import BAD_REQUEST, DataverseError, not_here, unknown_property
from .dataverse_filter import parse_filter
from .dataverse_read import Selection, annotated_row, rows_of, sort_rows
from .dataverse_relationships import Relation, children_of, collections_of, related_row
from .dataverse_state import DataverseState
from .dataverse_table import Row, Table

LIMIT = 15
OPTIONS = frozenset({"$select", "$filter", "$orderby", "$top", "$expand"})


@dataclass(slots=True)
class Expansion:
    """One expanded navigation property; its `join` turns a row into what stands in the answer."""

    name: str
    selection: Selection
    target: Table
    nested: "list[Expansion]"
    join: Callable[[Row], Row | Sequence[Row] | None]
    link_options: str = ""

    def size(self) -> int:
        return 1 + sum(inner.size() for inner in self.nested)


def parse_expand(text: str, state: DataverseState, table: Table) -> list[Expansion]:
    """The expansions a request names; at most fifteen, nested ones among them."""
    found = [_expansion(part, state, table) for part in _split(text, ",")]
    if sum(expansion.size() for expansion in found) > LIMIT:
        raise DataverseError(BAD_REQUEST, f"The number of $expand options exceeds the limit of {LIMIT}.")
    return found


def expanded_rows(
    state: DataverseState,
    selection: Selection,
    rows: Sequence[Row],
    expansions: list[Expansion],
    annotate: bool,
    root: str,
) -> list[dict[str, Any]]:
    """Rows with the rows joined to them; *root* is the address of the listed entity set, for next links."""
    plain = [annotated_row(state, selection, row) for row in rows] if annotate else rows_of(selection, rows)
    for row, result in zip(rows, plain, strict=True):
        for expansion in expansions:
            joined = expansion.join(row)
            if joined is None or isinstance(joined, Row):
                one = [] if joined is None else [joined]
                inner = expanded_rows(state, expansion.selection, one, expansion.nested, annotate, "")
                result[expansion.name] = inner[0] if inner else None
            else:
                result[expansion.name] = expanded_rows(
                    state, expansion.selection, joined, expansion.nested, annotate, ""
                )
                if root:
                    link = f"{root}({row.id})/{expansion.name}{expansion.link_options}"
                    result[f"{expansion.name}@odata.nextLink"] = link
    return plain


def _expansion(part: str, state: DataverseState, table: Table) -> Expansion:
    name, _, rest = part.strip().partition("(")
    inside = rest[: rest.rindex(")")] if ")" in rest else ""
    options = dict(option.strip().partition("=")[::2] for option in _split(inside, ";"))
    unknown = set(options) - OPTIONS
    if unknown:
        raise DataverseError(BAD_REQUEST, f"'{min(unknown)}' is not supported in $expand.")
    if name in table.navigation:
        return _single(name, options, state, table)
    relation = collections_of(state, table).get(name.removesuffix("/$ref"))
    if relation is None:
        raise unknown_property(name, table.definition.name)
    if name.endswith("/$ref"):
        raise DataverseError(BAD_REQUEST, "Expand with $ref is not supported on collection-valued properties.")
    return _collection(name, options, state, relation)


def _single(name: str, options: Mapping[str, str], state: DataverseState, table: Table) -> Expansion:
    column, target_name = table.navigation[name]
    if target_name not in state.tables:
        raise not_here(f"the table '{target_name}', which '{name}' leads to")
    refused = {"$filter", "$orderby", "$top"} & set(options)
    if refused:
        raise DataverseError(
            BAD_REQUEST, f"'{min(refused)}' is not supported for single-valued navigation property '{name}'."
        )
    target, index = state.tables[target_name], table.position[column.name]
    selection = Selection.of(options.get("$select"), target)
    nested = _nested(options, state, target)
    return Expansion(name, selection, target, nested, lambda row: related_row(state, row.values[index], target_name))


def _collection(name: str, options: Mapping[str, str], state: DataverseState, relation: Relation) -> Expansion:
    target, children = relation.table, children_of(relation)
    text, order, top = options.get("$filter"), options.get("$orderby"), options.get("$top", "")
    wanted = parse_filter(text, state, target, {}) if text else None

    def join(row: Row) -> Sequence[Row]:
        found = [child for child in children(row.id) if wanted is None or wanted.matches(child)]
        if order:
            found = sort_rows(state, target, found, order)
        return found[: int(top)] if top.isdigit() else found

    selection = Selection.of(options.get("$select"), target)
    link = "&".join(f"{option}={quote(value, safe=',')}" for option, value in options.items())
    nested = _nested(options, state, target)
    return Expansion(name, selection, target, nested, join, f"?{link}" if link else "")


def _nested(options: Mapping[str, str], state: DataverseState, target: Table) -> list[Expansion]:
    return [_expansion(part, state, target) for part in _split(options.get("$expand", ""), ",")]


def _split(text: str, separator: str) -> list[str]:
    """Parts of *text* at the top level: separators inside parentheses and quotes do not count."""
    parts, depth, quoted, start = [], 0, False, 0
    for at, character in enumerate(text):
        if character == "'":
            quoted = not quoted
        elif not quoted:
            depth += (character == "(") - (character == ")")
            if character == separator and depth == 0:
                parts.append(text[start:at])
                start = at + 1
    return [part for part in (*parts, text[start:]) if part.strip()]
