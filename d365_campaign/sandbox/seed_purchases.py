"""Made-up purchases of contacts."""

import random
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from .dataverse_state import DataverseState
from .dataverse_table import Table
from .dataverse_values import Reference
from .seed_rows import Rows, complete_rows
from .seed_story import ordinary_ids

PRODUCTS = (
    ("Coffee beans, 1 kg", Decimal("18.90"), 1.0),
    ("Desk lamp", Decimal("49.95"), 1.35),
    ("Espresso machine", Decimal("349.00"), 9.4),
    ("Hiking backpack", Decimal("129.50"), 1.62),
    ("Notebook, 3 pieces", Decimal("11.25"), 0.48),
    ("Rain jacket", Decimal("89.99"), 0.41),
    ("Running shoes", Decimal("119.95"), 0.68),
    ("Tea subscription", Decimal("14.99"), 0.25),
    ("Travel mug", Decimal("22.49"), 0.37),
    ("Wireless headphones", Decimal("199.00"), 0.27),
)
QUANTITIES = (1, 1, 1, 1, 2, 2, 3, 5)
PER_CENT_OFF = (0, 0, 0, 10, 15, 25)
WEB, STORE = 100000000, 100000001
SALE, RETURNED, SUBSCRIPTION = "1", "2", "3"
NOTES = ("Gift wrap, no price on the slip.", "Leave with the neighbour.", "Call before delivery.")
BOUGHT_FROM, BOUGHT_DAYS = date(2023, 1, 1), 1000
_CENT = Decimal("0.01")


def purchase_rows(state: DataverseState, number: int, rng: random.Random) -> Rows:
    """Each leads to one of the contacts there are."""
    contacts = [Reference("contact", row_id) for row_id in ordinary_ids(state.table("contact"))]
    if not contacts:
        raise ValueError("purchases lead to contacts and there are none; seed contacts first")

    def values(bits: int, count: int, shared: dict[str, str]) -> tuple[Any, ...]:
        return contacts[(bits >> 56) % len(contacts)], *_values(bits)

    table = state.table("new_purchase")
    return _numbered(table, complete_rows(table, ("new_contactid", *_COLUMNS), number, rng, values))


def _numbered(table: Table, purchases: Rows) -> Rows:
    """With order numbers that follow from the keys: both have to be unique."""
    position = table.position["new_ordernumber"]
    for row_id, values in purchases:
        values[position] = f"SO-{row_id[:13].upper()}"
        yield row_id, values


EDITS: dict[str, Callable[[random.Random], Any]] = {
    "new_amount": lambda rng: Decimal(rng.randrange(500, 100_000)) / 100,
    "new_note": lambda rng: f"Customer called: case {rng.randrange(10_000):04d}.",
    "new_quantity": lambda rng: rng.randrange(1, 12),
}

# fmt: off
_COLUMNS = (
    "new_name", "new_amount", "new_quantity", "new_weight", "new_purchasedon", "new_shippedat", "new_gift",
    "new_channel", "new_tags", "new_note", "createdon",
)
# fmt: on


def _values(bits: int) -> tuple[Any, ...]:
    """Values of `_COLUMNS`."""
    name, price, weight = PRODUCTS[bits % len(PRODUCTS)]
    quantity = QUANTITIES[(bits >> 8) % len(QUANTITIES)]
    per_cent_off = PER_CENT_OFF[(bits >> 12) % len(PER_CENT_OFF)]
    bought = BOUGHT_FROM + timedelta(days=(bits >> 16) % BOUGHT_DAYS)
    shipped = bought + timedelta(days=(bits >> 28) % 4 + 1)
    hour, kind = (bits >> 32) % 9 + 8, (bits >> 36) % 100
    tags = (SALE if per_cent_off else "", RETURNED if kind < 8 else "", SUBSCRIPTION if "subscr" in name else "")
    return (
        name,
        (price * quantity * (100 - per_cent_off) / 100).quantize(_CENT),
        quantity,
        round(weight * quantity, 5),
        bought.isoformat(),
        f"{shipped.isoformat()}T{hour:02d}:15:00Z" if kind < 92 else None,
        8 <= kind < 20,
        WEB if kind % 3 else STORE,
        ",".join(tag for tag in tags if tag) or None,
        NOTES[kind % len(NOTES)] if 8 <= kind < 25 else None,
        f"{bought.isoformat()}T{hour:02d}:00:00Z",
    )
