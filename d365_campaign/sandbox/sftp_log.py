"""What SFTP clients did, in order. It keeps names of operations and paths, never contents."""

from dataclasses import asdict, dataclass
from typing import Any

from .clock import Clock


@dataclass(frozen=True, slots=True)
class SftpOperation:
    number: int
    session: int
    """Which connection it came over; the first since the last reset is 1."""
    at: str
    operation: str
    path: str
    """As the client sees it, from the root of its folder."""
    status: str
    """`ok`, `missing`, `denied`, `failed`, or `dropped` when it was never answered."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class SftpLog:
    """A file that is read or written in many pieces has one entry for them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._number = 0
        self.sessions = 0
        """How many connections there were."""
        self.operations: list[SftpOperation] = []

    def add(self, session: int, operation: str, path: str, status: str) -> None:
        self._number += 1
        at = self._clock.campaign_stamp()
        self.operations.append(SftpOperation(self._number, session, at, operation, path, status))

    def clear(self) -> None:
        self.sessions = 0
        self.operations.clear()
