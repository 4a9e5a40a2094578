"""How far a flow is: logged as an object, so that a command can draw it and a log can print it."""

from dataclasses import dataclass
from typing import Literal

Doing = Literal["read", "planned", "written", "looked at"]


@dataclass(frozen=True, slots=True)
class Progress:
    """So many more records of a table were read, planned to be written, written, or looked at."""

    table: str
    doing: Doing
    records: int

    def __str__(self) -> str:
        return f"{self.table}: {self.records:,} records {self.doing}"
