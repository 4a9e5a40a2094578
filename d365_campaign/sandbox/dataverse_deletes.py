"""Deleting rows that others lead to ("Configure table relationship cascading behavior")."""

from collections.abc import Iterable, Iterator, Sequence

from .dataverse_schema import Column
from .dataverse_state import DataverseState
from .dataverse_table import Table
from .dataverse_values import Reference

PARENTAL = frozenset({("contact", "parentcustomerid", "account")})
"""Lookups whose rows go with the row they lead to: `contact_customer_accounts` has "Delete: Cascade" (account table
reference). With all others here, as with custom lookups unless a maker chose otherwise, it is "Remove Link"."""


def delete_rows(state: DataverseState, table_name: str, row_ids: Sequence[str]) -> dict[str, list[str]]:
    """Delete rows as Dataverse does, all or none; keys of the deleted ones by table.

    A row whose lookup became empty has a new version: it changed.
    """
    deleted: dict[str, list[str]] = {}
    with state.lock:
        _delete(state, table_name, row_ids, deleted)
    return deleted


def _delete(state: DataverseState, table_name: str, row_ids: Sequence[str], deleted: dict[str, list[str]]) -> None:
    wanted = dict.fromkeys(state.row(table_name, row_id).id for row_id in row_ids)
    if not wanted:
        return
    for table, column in _lookups_to(state, table_name):
        name = table.definition.name
        children = _referring(table, column, table_name, wanted)
        if (name, column.name, table_name) in PARENTAL:
            _delete(state, name, children, deleted)
            continue
        for child in children:
            if name != table_name or child not in wanted:
                state.update(name, child, {column.name: None})
    for row_id in wanted:
        state.delete(table_name, row_id)
    deleted.setdefault(table_name, []).extend(wanted)


def _lookups_to(state: DataverseState, table_name: str) -> Iterator[tuple[Table, Column]]:
    return (
        (table, column)
        for table in state.tables.values()
        for column in table.columns
        if column.is_lookup and table_name in column.targets
    )


def _referring(table: Table, column: Column, target: str, row_ids: Iterable[str]) -> list[str]:
    """Keys of the rows whose lookup leads to one of these rows; the table is read once for all of them."""
    position = table.position[column.name]
    references = {Reference(target, row_id) for row_id in row_ids}
    return [row.id for row in table.rows.values() if row.values[position] in references]
