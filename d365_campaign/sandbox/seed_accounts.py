"""Made-up accounts: the companies that contacts work for."""

import random
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from .dataverse_state import DataverseState
from .seed_contacts import CREATED, CREATED_DAYS, LAST_NAMES, PLACES, STREETS
from .seed_rows import Rows, complete_rows

TRADES = ("Bakery", "Consulting", "Foods", "Interiors", "Logistics", "Media", "Motors", "Outdoor", "Software", "Travel")
CENTS_PER_HEAD = 9_000_000
_STORED = Decimal("0.0001")
_WEB_NAMES = tuple(
    "".join(letter for letter in unicodedata.normalize("NFKD", name).casefold() if "a" <= letter <= "z")
    for name in LAST_NAMES
)


def account_rows(state: DataverseState, number: int, rng: random.Random) -> Rows:
    return complete_rows(state.table("account"), _COLUMNS, number, rng, _values)


EDITS: dict[str, Callable[[random.Random], Any]] = {
    "address1_city": lambda rng: rng.choice(PLACES)[0],
    "name": lambda rng: f"{rng.choice(LAST_NAMES)} {rng.choice(TRADES)} {rng.randrange(1900, 2026)}",
    "numberofemployees": lambda rng: rng.randrange(2, 5000),
}

# fmt: off
_COLUMNS = (
    "name", "accountnumber", "emailaddress1", "telephone1", "websiteurl", "numberofemployees", "revenue",
    "address1_line1", "address1_city", "address1_postalcode", "address1_stateorprovince", "address1_country",
    "donotemail", "createdon",
)
# fmt: on


def _values(bits: int, count: int, shared: dict[str, str]) -> tuple[Any, ...]:
    """Values of `_COLUMNS`."""
    owner, trade = bits % len(LAST_NAMES), TRADES[(bits >> 8) % len(TRADES)]
    city, postal_code, state, country = PLACES[(bits >> 16) % len(PLACES)]
    kind = (bits >> 20) % 100
    site = f"{_WEB_NAMES[owner]}-{trade.lower()}.example.com"
    employees = (bits >> 28) % (20 if kind < 50 else 4000) + 2
    revenue = Decimal(employees * CENTS_PER_HEAD + (bits >> 40) % 10_000_000) / 100
    return (
        f"{LAST_NAMES[owner]} {trade}",
        f"A{bits & 0xFFFFFFFF:08X}",
        f"info@{site}",
        f"+1 555 {(bits >> 24) % 1000:03d} {(bits >> 34) % 10000:04d}",
        f"https://www.{site}" if kind < 90 else None,
        employees,
        revenue.quantize(_STORED) if kind < 80 else None,
        f"{(bits >> 50) % 200 + 1} {STREETS[(bits >> 58) % len(STREETS)]}",
        city,
        postal_code,
        state,
        country,
        kind in (3, 4),
        CREATED[(bits >> 70) % CREATED_DAYS],
    )
