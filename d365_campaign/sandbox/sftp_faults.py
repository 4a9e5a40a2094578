"""Faults a test can put in the way of SFTP: refused and dropped connections, denied operations, long silence."""

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

SftpFaultKind = Literal["refuse", "drop", "deny", "stall"]
OPERATIONS = (
    "connect",
    "login",
    "list",
    "stat",
    "lstat",
    "open",
    "read",
    "write",
    "remove",
    "rename",
    "posix_rename",
    "mkdir",
    "rmdir",
    "setstat",
    "realpath",
)
BEFORE_FILES = ("connect", "login")
USUAL_OPERATION = {"refuse": "connect", "drop": "read"}


@dataclass(slots=True)
class SftpFault:
    """Meets the next operations that match.

    `refuse` resets a new connection, `drop` ends one before the operation is answered, `deny` answers "permission
    denied", `stall` says nothing for some seconds and then goes on.
    """

    kind: SftpFaultKind
    operation: str = ""
    """One of OPERATIONS. Empty: `connect` for refuse, `read` for drop, otherwise any that concerns files."""
    path: str = ""
    """A regular expression, searched for in the path."""
    times: int = 1
    skip: int = 0
    """How many matching operations pass before the first is met."""
    seconds: float = 60.0
    """For `stall`, in real time."""

    def __post_init__(self) -> None:
        re.compile(self.path)
        if self.kind not in get_args(SftpFaultKind):
            raise ValueError(f"unknown SFTP fault {self.kind!r}")
        self.operation = self.operation or USUAL_OPERATION.get(self.kind, "")
        if self.operation and self.operation not in OPERATIONS:
            raise ValueError(f"unknown SFTP operation {self.operation!r}")

    def matches(self, operation: str, path: str = "") -> bool:
        fits = self.operation == operation if self.operation else operation not in BEFORE_FILES
        return fits and re.search(self.path, path) is not None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
