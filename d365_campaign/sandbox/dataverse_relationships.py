"""How tables of the Dataverse stand-in relate: lookups, the collections they make, the rows behind both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from .dataverse_schema import Column
from .dataverse_state import DataverseState
from .dataverse_table import Row, Table
from .dataverse_values import Reference

WELL_KNOWN = {
    ("contact", "parentcustomerid", "account"): "contact_customer_accounts",
    ("contact", "parentcustomerid", "contact"): "contact_customer_contacts",
    ("account", "primarycontactid", "contact"): "account_primary_contact",
}
"""Schema names of relationships that every environment has (contact and account table references)."""


@dataclass(frozen=True, slots=True)
class Relation:
    """One lookup to one table, seen from either side."""

    table: Table
    column: Column
    navigation: str
    """On the table that has the lookup: single-valued."""
    target: str

    @property
    def schema_name(self) -> str:
        """Also the collection-valued navigation property on the target."""
        key = (self.table.definition.name, self.column.name, self.target)
        return WELL_KNOWN.get(key, f"{self.target}_{key[0]}_{key[1]}")

    @property
    def metadata_id(self) -> str:
        return str(uuid5(NAMESPACE_URL, f"{self.table.definition.name}/{self.navigation}"))


def relations_of(table: Table) -> list[Relation]:
    """The lookups a table has."""
    return [Relation(table, column, name, target) for name, (column, target) in table.navigation.items()]


def collections_of(state: DataverseState, table: Table) -> dict[str, Relation]:
    """The lookups other tables have to this one, by collection-valued navigation property."""
    found = (relation for other in state.tables.values() for relation in relations_of(other))
    return {relation.schema_name: relation for relation in found if relation.target == table.definition.name}


def related_row(state: DataverseState, value: Any, target: str) -> Row | None:
    """The row of table *target* that a lookup's value points to."""
    if not isinstance(value, Reference) or value.table != target or target not in state.tables:
        return None
    return state.tables[target].rows.get(value.id)


def children_of(relation: Relation) -> Callable[[str], Sequence[Row]]:
    """Rows behind a collection by the parent's key; the table is read once, when first asked."""
    index = relation.table.position[relation.column.name]
    groups: dict[str, list[Row]] | None = None

    def children(parent: str) -> Sequence[Row]:
        nonlocal groups
        if groups is None:
            groups = {}
            for row in relation.table.in_order(""):
                value = row.values[index]
                if isinstance(value, Reference) and value.table == relation.target:
                    groups.setdefault(value.id, []).append(row)
        return groups.get(parent, ())

    return children
