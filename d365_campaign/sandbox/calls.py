"""The ordered log of what reached the sandbox. It keeps addresses, statuses and names of fields, never values."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

ENGINE_CALLS = ("insert", "update_read", "update", "delete")
"""The operations Adobe counts: insert 1, delete 1, update 2 (a read and a write)."""


@dataclass(frozen=True, slots=True)
class Call:
    number: int
    system: str
    at: str
    method: str
    path: str
    query: str
    status: int
    """0 when the connection was dropped without an answer."""
    operation: str
    host: str
    token: str | None
    """A short hash, enough to see which token went where."""
    fields: tuple[str, ...] = ()
    """What a write to a Campaign record named, in order; a member of a sub-object with a dot."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class CallLog:
    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._number = 0

    def add(self, **facts: Any) -> None:
        self._number += 1
        self._calls.append(Call(number=self._number, **facts))

    def of(self, system: str | None = None) -> list[Call]:
        return [call for call in self._calls if system is None or call.system == system]

    def engine_calls(self) -> dict[str, int]:
        """Record verbs on Campaign resources by operation; lists, metadata and tokens are not engine calls."""
        counts = Counter(call.operation for call in self._calls if call.system == "campaign")
        by_operation = {operation: counts[operation] for operation in ENGINE_CALLS}
        return by_operation | {"total": sum(by_operation.values())}

    def clear(self) -> None:
        self._calls.clear()
