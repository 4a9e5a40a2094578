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
    skip: int = 0
    """How many exports pass before the first is met."""
    seconds: float = 3600.0
    """For `late` and `uploading`, on the sandbox's clock."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(ExportFaultKind):
            raise ValueError(f"unknown export fault {self.kind!r}")

    def matches(self) -> bool:
        return True

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
