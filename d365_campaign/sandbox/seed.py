"""Made-up contacts and made-up changes to them, the same for the same seed number."""

import gc
import random
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from .dataverse_state import CURRENCY, SYSTEM_USER, DataverseState
from .dataverse_table import Table
from .seed_hostile import HOSTILE_CONTACTS

# fmt: off
FIRST_NAMES = (
    "Ada", "Alan", "Amelia", "Anders", "Aisha", "Beatriz", "Björn", "Carla", "Chen", "Claire", "Daniel", "Dmitri",
    "Elena", "Emil", "Fatima", "Felix", "Freya", "Giulia", "Grace", "Hana", "Henrik", "Ines", "Ivan", "Jamal",
    "José", "Julia", "Kai", "Karin", "Lars", "Leila", "Liam", "Lucía", "Mara", "Marco", "Mei", "Mikael", "Nadia",
    "Noah", "Nora", "Oliver", "Olga", "Omar", "Paula", "Peter", "Priya", "Quentin", "Rafael", "Ravi", "Rosa",
    "Ruth", "Sami", "Sara", "Sofia", "Søren", "Tara", "Thomas", "Uma", "Valentina", "Viktor", "Wanda", "Wei",
    "Xavier", "Yara", "Yusuf", "Zoé",
)
LAST_NAMES = (
    "Abbott", "Almeida", "Andersson", "Bauer", "Becker", "Bianchi", "Brown", "Carvalho", "Chen", "Clark", "Costa",
    "Cruz", "Dubois", "Eriksen", "Evans", "Fischer", "Fontaine", "Garcia", "Gruber", "Haddad", "Hansen", "Hill",
    "Hoffmann", "Ito", "Ivanova", "Jansen", "Johnson", "Kaya", "Keller", "Khan", "Kim", "Kowalski", "Larsen",
    "Lopez", "Martin", "Meyer", "Moreau", "Müller", "Nakamura", "Nguyen", "Novak", "O'Brien", "Okafor", "Olsen",
    "Patel", "Petrov", "Quinn", "Ricci", "Rossi", "Santos", "Schmidt", "Silva", "Singh", "Smith", "Suzuki",
    "Tanaka", "Taylor", "Torres", "Usman", "Vogel", "Wagner", "Weber", "Wood", "Yilmaz", "Young", "Zhou",
)
# fmt: on
JOB_TITLES = ("Accountant", "Analyst", "Buyer", "Consultant", "Director", "Engineer", "Nurse", "Teacher", "Writer")
DEPARTMENTS = ("Finance", "Marketing", "Operations", "Research", "Sales", None, None)
SALUTATIONS = ("Mr.", "Ms.", "Dr.", None)
PLACES = (
    ("Berlin", "10115", "BE", "Germany"),
    ("Boston", "02108", "MA", "United States"),
    ("København", "1050", None, "Denmark"),
    ("Lisboa", "1000-001", None, "Portugal"),
    ("London", "SW1A 1AA", None, "United Kingdom"),
    ("Lyon", "69001", None, "France"),
    ("Madrid", "28001", None, "Spain"),
    ("Milano", "20121", "MI", "Italy"),
    ("Oslo", "0150", None, "Norway"),
    ("Seattle", "98101", "WA", "United States"),
    ("Sydney", "2000", "NSW", "Australia"),
    ("Wien", "1010", None, "Austria"),
)
STREETS = ("Main Street", "Park Avenue", "High Street", "Station Road", "Mill Lane", "Harbour Way", "Church Road")
DOMAINS = ("example.com", "example.org", "example.net")
CREATED_FROM, CREATED_DAYS = date(2021, 1, 1), 1800
MANY = 100_000
"""From here on the collector need never look at the seeded rows: they refer to nothing that refers back."""
BORN_FROM, BORN_DAYS = date(1940, 1, 1), 24000
_BORN = tuple((BORN_FROM + timedelta(days=number)).isoformat() for number in range(BORN_DAYS))
_CREATED = tuple(f"{CREATED_FROM + timedelta(days=number)}T09:30:00Z" for number in range(CREATED_DAYS))
_CREDIT_LIMITS = tuple(Decimal(number * 250).quantize(Decimal("0.0001")) for number in range(200))


def seed_contacts(state: DataverseState, contacts: int, seed: int, hostile: bool) -> list[str]:
    """Add contacts; the hostile ones, when wanted, come first and are among their number."""
    rng = random.Random(f"contacts/{seed}")
    table = state.table("contact")
    strange = HOSTILE_CONTACTS[:contacts] if hostile else ()
    made = [state.create("contact", {"contactid": _new_id(rng), **values}) for values in strange]
    return made + _load(state, table, contacts - len(made), rng)


def _load(state: DataverseState, table: Table, number: int, rng: random.Random) -> list[str]:
    """Rows made and stored one by one. The garbage collector rests: it would look at every row again and again."""
    made: list[str] = []

    def noted() -> Iterator[tuple[str, list[Any]]]:
        for row_id, values in _ordinary(table, number, rng):
            made.append(row_id)
            yield row_id, values

    was_enabled = gc.isenabled()
    gc.disable()
    try:
        state.load(table.definition.name, noted())
        table.sort_ids()
    finally:
        if was_enabled:
            gc.enable()
    if number >= MANY:
        gc.freeze()
    return made


def change_contacts(state: DataverseState, update: int, create: int, delete: int, seed: int) -> dict[str, list[str]]:
    """Update, create and delete at random; each update gives a name, an e-mail or a number a different value."""
    rng = random.Random(f"changes/{seed}")
    chosen = rng.sample(state.table("contact").ids, update + delete)
    updated, deleted = chosen[:update], chosen[update:]
    for row_id in updated:
        edit_row(state, "contact", row_id, rng)
    created = _load(state, state.table("contact"), create, rng)
    for row_id in deleted:
        state.delete("contact", row_id)
    return {"updated": updated, "created": created, "deleted": deleted}


def edit_any(state: DataverseState, table_name: str) -> str:
    """Change one row picked at random; its key."""
    row_id = pick_any(state, table_name)
    edit_row(state, table_name, row_id, random.Random())
    return row_id


def pick_any(state: DataverseState, table_name: str) -> str:
    ids = state.table(table_name).ids
    if not ids:
        raise ValueError(f"{table_name} has no rows")
    return random.choice(ids)


def edit_row(state: DataverseState, table_name: str, row_id: str, rng: random.Random) -> None:
    """Give one column another value than it has."""
    table = state.table(table_name)
    edits = _EDITS if table_name == "contact" else {table.definition.primary_name: _phrase}
    column = rng.choice(sorted(edits))
    old = state.row(table_name, row_id).values[table.position[column]]
    new = edits[column](rng)
    while new == old:
        new = edits[column](rng)
    state.update(table_name, row_id, {column: new})


def _email(rng: random.Random) -> str:
    return f"changed.{rng.getrandbits(40):010x}@{rng.choice(DOMAINS)}"


def _phone(rng: random.Random) -> str:
    return f"+1 555 {rng.randrange(1000):03d} {rng.randrange(10000):04d}"


def _phrase(rng: random.Random) -> str:
    return f"{rng.choice(LAST_NAMES)} {rng.randrange(10_000)}"


_EDITS: dict[str, Callable[[random.Random], str]] = {
    "emailaddress1": _email,
    "firstname": lambda rng: rng.choice(FIRST_NAMES),
    "mobilephone": _phone,
}


def _ordinary(table: Table, number: int, rng: random.Random) -> Iterator[tuple[str, list[Any]]]:
    """Complete rows in column order. One random number per row decides its values: this has to be quick."""
    template = [column.default for column in table.columns]
    constant: dict[str, Any] = {"ownerid": SYSTEM_USER, "transactioncurrencyid": CURRENCY}
    for name, value in constant.items():
        template[table.position[name]] = value
    positions = [table.position[name] for name in _COLUMNS]
    shared: dict[str, str] = {}
    for count in range(number):
        bits, row_id = rng.getrandbits(96), _new_id(rng)
        values = template.copy()
        for position, value in zip(positions, _values(bits, count, shared), strict=True):
            values[position] = value
        values[0] = row_id
        yield row_id, values


# fmt: off
_COLUMNS = (
    "firstname", "lastname", "fullname", "salutation", "emailaddress1", "mobilephone", "telephone1", "birthdate",
    "gendercode", "jobtitle", "department", "address1_line1", "address1_city", "address1_postalcode",
    "address1_stateorprovince", "address1_country", "creditlimit", "numberofchildren", "donotemail", "donotbulkemail",
    "donotphone", "createdon",
)
# fmt: on


def _values(bits: int, count: int, shared: dict[str, str]) -> tuple[Any, ...]:
    """Values of `_COLUMNS`. Texts that many rows have are kept once, in *shared*."""
    first, last = FIRST_NAMES[bits % len(FIRST_NAMES)], LAST_NAMES[(bits >> 8) % len(LAST_NAMES)]
    city, postal_code, state, country = PLACES[(bits >> 16) % len(PLACES)]
    kind = (bits >> 20) % 100
    full_name = f"{first} {last}"
    street = f"{(bits >> 50) % 200 + 1} {STREETS[(bits >> 58) % len(STREETS)]}"
    return (
        first,
        last,
        shared.setdefault(full_name, full_name),
        SALUTATIONS[kind % 4],
        f"contact.{bits & 0xFFFFFFFF:08x}.{count}@{DOMAINS[kind % 3]}",
        f"+1 555 {(bits >> 24) % 1000:03d} {(bits >> 34) % 10000:04d}",
        f"+1 555 {(bits >> 44) % 1000:03d} {(bits >> 54) % 10000:04d}" if kind % 3 == 0 else None,
        _BORN[(bits >> 30) % BORN_DAYS] if kind < 80 else None,
        (None, 1, 2)[(bits >> 40) % 3],
        JOB_TITLES[(bits >> 42) % len(JOB_TITLES)],
        DEPARTMENTS[(bits >> 46) % len(DEPARTMENTS)],
        shared.setdefault(street, street),
        city,
        postal_code,
        state,
        country,
        _CREDIT_LIMITS[(bits >> 60) % 200] if kind < 30 else None,
        (bits >> 66) % 5 if kind < 50 else None,
        kind in (7, 8),
        kind in (7, 8, 9, 10, 11),
        kind == 12,
        _CREATED[(bits >> 70) % CREATED_DAYS],
    )


def _new_id(rng: random.Random) -> str:
    """A random GUID of version 4, as `uuid4` makes them but three times as fast."""
    number = rng.getrandbits(128) & ~(0xC000 << 48) & ~(0xF000 << 64) | 0x8000 << 48 | 4 << 76
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
