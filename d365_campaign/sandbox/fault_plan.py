"""Faults still to happen, of whatever kind: HTTP requests, SFTP operations and export files meet them alike."""

from typing import Any, Generic, Protocol, TypeVar


class Meetable(Protocol):
    """A fault that meets the next *times* of what it matches, after *skip* of them have passed."""

    times: int
    skip: int

    def matches(self, *met: Any, **more: Any) -> bool: ...

    def as_dict(self) -> dict[str, Any]: ...


F = TypeVar("F", bound=Meetable)


class FaultPlan(Generic[F]):
    """The faults still to happen, in the order they were added."""

    def __init__(self) -> None:
        self._faults: list[F] = []

    def add(self, fault: F) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()

    def take(self, *met: Any, **more: Any) -> F | None:
        """The fault that is met here, used up once; none most of the time. A kind of fault says what it matches."""
        for fault in self._faults:
            if not fault.matches(*met, **more):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.times -= 1
            if fault.times <= 0:
                self._faults.remove(fault)
            return fault
        return None

    def as_dicts(self) -> list[dict[str, Any]]:
        return [fault.as_dict() for fault in self._faults]
