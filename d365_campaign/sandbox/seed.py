"""Made-up rows and made-up changes to them, the same for the same seed number."""

import random
from collections.abc import Callable, Mapping
from typing import Any

from . import seed_accounts, seed_contacts, seed_purchases
from .dataverse_deletes import delete_rows
from .dataverse_state import DataverseState
from .seed_contacts import LAST_NAMES
from .seed_hostile import HOSTILE_CONTACTS
from .seed_rows import Rows, free_id, load_rows
from .seed_story import ordinary_ids

TABLES = {"accounts": "account", "contacts": "contact", "purchases": "new_purchase"}
"""What a person calls them and their tables, parents first."""
_MAKERS: dict[str, Callable[[DataverseState, int, random.Random], Rows]] = {
    "account": seed_accounts.account_rows,
    "contact": seed_contacts.contact_rows,
    "new_purchase": seed_purchases.purchase_rows,
}
_EDITS: dict[str, dict[str, Callable[[random.Random], Any]]] = {
    "account": seed_accounts.EDITS,
    "contact": seed_contacts.EDITS,
    "new_purchase": seed_purchases.EDITS,
}
Changed = dict[str, list[str]]


def seed(
    state: DataverseState, contacts: int, seed: int, hostile: bool = False, accounts: int = 0, purchases: int = 0
) -> list[str]:
    """Add accounts, contacts and purchases; the contacts' keys.

    Each table has random numbers of its own: other tables' rows change no contact, but for the company it works for.
    Hostile contacts, when wanted, come first and are among their number; they work for none.
    """
    employers = _loaded(state, "account", accounts, _numbers("accounts", seed))
    rng, table = _numbers("contacts", seed), state.table("contact")
    strange = HOSTILE_CONTACTS[:contacts] if hostile else ()
    made = [state.create("contact", {"contactid": free_id(table, rng), **values}) for values in strange]
    ordinary = seed_contacts.contact_rows(state, contacts - len(made), rng)
    if employers:
        ordinary = seed_contacts.employed(state, ordinary, employers, _numbers("employers", seed))
    made += load_rows(state, "contact", ordinary)
    _loaded(state, "new_purchase", purchases, _numbers("purchases", seed))
    return made


def _loaded(state: DataverseState, table_name: str, number: int, rng: random.Random) -> list[str]:
    return load_rows(state, table_name, _MAKERS[table_name](state, number, rng)) if number else []


def change(state: DataverseState, wanted: Mapping[str, Mapping[str, int]], seed: int) -> dict[str, Changed]:
    """Update, create and delete at random; each update gives a column a different value.

    The keys of what was changed by the same names, of accounts' contacts too: they are deleted with their account.
    """
    unknown = sorted(set(wanted) - set(TABLES))
    if unknown:
        raise ValueError(f"unknown tables {', '.join(unknown)}; known are {', '.join(TABLES)}")
    changed: dict[str, Changed] = {}
    for name, table_name in TABLES.items():
        if name in wanted:
            rng = _numbers("changes" if name == "contacts" else f"changes of {name}", seed)
            updated, created, deleted = _change(state, table_name, rng, **wanted[name])
            _lists(changed, name)["updated"] += updated
            _lists(changed, name)["created"] += created
            for other, other_table in TABLES.items():
                if other_table in deleted:
                    _lists(changed, other)["deleted"] += deleted[other_table]
    return changed


def _lists(changed: dict[str, Changed], name: str) -> Changed:
    return changed.setdefault(name, {"updated": [], "created": [], "deleted": []})


def _change(
    state: DataverseState, table_name: str, rng: random.Random, update: int = 0, create: int = 0, delete: int = 0
) -> tuple[list[str], list[str], dict[str, list[str]]]:
    chosen = rng.sample(ordinary_ids(state.table(table_name)), update + delete)
    updated = chosen[:update]
    for row_id in updated:
        edit_row(state, table_name, row_id, rng)
    created = _loaded(state, table_name, create, rng)
    return updated, created, delete_rows(state, table_name, chosen[update:])


def edit_any(state: DataverseState, table_name: str) -> str:
    """Change one row picked at random; its key."""
    row_id = pick_any(state, table_name)
    edit_row(state, table_name, row_id, random.Random())
    return row_id


def pick_any(state: DataverseState, table_name: str) -> str:
    ids = ordinary_ids(state.table(table_name))
    if not ids:
        raise ValueError(f"{table_name} has no rows")
    return random.choice(ids)


def edit_row(state: DataverseState, table_name: str, row_id: str, rng: random.Random) -> None:
    """Give one column another value than it has."""
    table = state.table(table_name)
    edits = _EDITS.get(table_name) or {table.definition.primary_name: _phrase}
    column = rng.choice(sorted(edits))
    old = state.row(table_name, row_id).values[table.position[column]]
    new = edits[column](rng)
    while new == old:
        new = edits[column](rng)
    state.update(table_name, row_id, {column: new})


def _phrase(rng: random.Random) -> str:
    return f"{rng.choice(LAST_NAMES)} {rng.randrange(10_000)}"


def _numbers(purpose: str, seed: int) -> random.Random:
    return random.Random(f"{purpose}/{seed}")
