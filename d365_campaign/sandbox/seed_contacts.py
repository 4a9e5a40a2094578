"""Made-up contacts, some of them employed by accounts."""

import random
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from .dataverse_state import DataverseState
from .dataverse_values import Reference
from .seed_rows import Rows, complete_rows

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
EMPLOYED = 0.6
BORN_FROM, BORN_DAYS = date(1940, 1, 1), 24000
_BORN = tuple((BORN_FROM + timedelta(days=number)).isoformat() for number in range(BORN_DAYS))
CREATED = tuple(f"{CREATED_FROM + timedelta(days=number)}T09:30:00Z" for number in range(CREATED_DAYS))
_CREDIT_LIMITS = tuple(Decimal(number * 250).quantize(Decimal("0.0001")) for number in range(200))


def contact_rows(state: DataverseState, number: int, rng: random.Random) -> Rows:
    return complete_rows(state.table("contact"), _COLUMNS, number, rng, _values)


def employed(state: DataverseState, contacts: Rows, accounts: Sequence[str], rng: random.Random) -> Rows:
    """The same contacts, six in ten with one of *accounts* as their company."""
    position = state.table("contact").position["parentcustomerid"]
    employers = [Reference("account", account) for account in accounts]
    for row_id, values in contacts:
        if rng.random() < EMPLOYED:
            values[position] = rng.choice(employers)
        yield row_id, values


def _email(rng: random.Random) -> str:
    return f"changed.{rng.getrandbits(40):010x}@{rng.choice(DOMAINS)}"


def _phone(rng: random.Random) -> str:
    return f"+1 555 {rng.randrange(1000):03d} {rng.randrange(10000):04d}"


EDITS: dict[str, Callable[[random.Random], Any]] = {
    "emailaddress1": _email,
    "firstname": lambda rng: rng.choice(FIRST_NAMES),
    "mobilephone": _phone,
}


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
        CREATED[(bits >> 70) % CREATED_DAYS],
    )
