"""Complete rows made and stored by the hundred thousand, the same for the same random numbers."""

import gc
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .dataverse_state import CURRENCY, SYSTEM_USER, DataverseState
from .dataverse_table import Table

MANY = 100_000
"""From here on the collector need never look at the seeded rows: they refer to nothing that refers back."""
CONSTANT: dict[str, Any] = {"ownerid": SYSTEM_USER, "transactioncurrencyid": CURRENCY}

Rows = Iterator[tuple[str, list[Any]]]
ValuesOf = Callable[[int, int, dict[str, str]], tuple[Any, ...]]
"""A row's values from its random number and its count; texts that many rows have are kept once, in the mapping."""


def load_rows(state: DataverseState, table_name: str, rows: Rows) -> list[str]:
    """Rows made and stored one by one. The garbage collector rests: it would look at every row again and again."""
    made: list[str] = []

    def noted() -> Rows:
        for row_id, values in rows:
            made.append(row_id)
            yield row_id, values

    was_enabled = gc.isenabled()
    gc.disable()
    try:
        state.load(table_name, noted())
        state.table(table_name).sort_ids()
    finally:
        if was_enabled:
            gc.enable()
    if len(made) >= MANY:
        gc.freeze()
    return made


def complete_rows(table: Table, columns: Sequence[str], number: int, rng: random.Random, values_of: ValuesOf) -> Rows:
    """Rows in column order. One random number per row decides its values: this has to be quick."""
    template = [column.default for column in table.columns]
    for name, value in CONSTANT.items():
        if name in table.position:
            template[table.position[name]] = value
    positions = [table.position[name] for name in columns]
    shared: dict[str, str] = {}
    for count in range(number):
        bits, row_id = rng.getrandbits(96), free_id(table, rng)
        values = template.copy()
        for position, value in zip(positions, values_of(bits, count, shared), strict=True):
            values[position] = value
        values[0] = row_id
        yield row_id, values


def free_id(table: Table, rng: random.Random) -> str:
    """A random GUID that no row has yet: the same seed number may be used again."""
    row_id = _guid(rng)
    while row_id in table.rows:
        row_id = _guid(rng)
    return row_id


def _guid(rng: random.Random) -> str:
    """Of version 4, as `uuid4` makes them but three times as fast."""
    number = rng.getrandbits(128) & ~(0xC000 << 48) & ~(0xF000 << 64) | 0x8000 << 48 | 4 << 76
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
