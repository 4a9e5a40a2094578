"""What can go wrong with a daily export file between Campaign's workflow and whoever reads it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

ExportFaultKind = Literal[
    "late",
    "empty",
    "header_only",
    "cut",
    "duplicate",
    "out_of_order",
    "uploading",
    "renamed_columns",
    "bad_times",
    "wrong_encoding",
    "lost",
]


@dataclass(slots=True)
class ExportFault:
    """Meets the next exports.

    How it arrives: `late`, by some seconds; `uploading`, half of it at once and the rest some seconds later;
    `duplicate`, a second time under another name; `out_of_order`, after the next one; `lost`, never.
    What is in it: `empty`, no byte; `header_only`, no row; `cut`, ends inside a row; `renamed_columns`; `bad_times`,
    no stamp can be read; `wrong_encoding`, UTF-16.
    """

    kind: ExportFaultKind
    times: int = 1
    seconds: float = 3600.0
    """For `late` and `uploading`, on the sandbox's clock."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(ExportFaultKind):
            raise ValueError(f"unknown export fault {self.kind!r}")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class ExportFaultPlan:
    """The faults still to happen, in the order they were added."""

    def __init__(self) -> None:
        self._faults: list[ExportFault] = []

    def add(self, fault: ExportFault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()

    def take(self) -> ExportFault | None:
        """The fault the next export meets, used up once."""
        if not self._faults:
            return None
        fault = self._faults[0]
        fault.times -= 1
        if fault.times <= 0:
            self._faults.remove(fault)
        return fault

    def as_dicts(self) -> list[dict[str, Any]]:
        return [fault.as_dict() for fault in self._faults]
