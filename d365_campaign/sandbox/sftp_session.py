"""One SFTP client at work: every operation passes the faults, looks for what is due, and is noted."""

import errno
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from paramiko import SFTPServer, Transport
from paramiko.sftp import SFTP_NO_SUCH_FILE, SFTP_PERMISSION_DENIED

from .clock import Clock
from .fault_plan import FaultPlan
from .sftp_faults import SftpFault
from .sftp_jail import Jail
from .sftp_log import SftpLog

T = TypeVar("T")
STATUSES = {SFTP_NO_SUCH_FILE: "missing", SFTP_PERMISSION_DENIED: "denied"}
LOOK_AGAIN_SECONDS = 0.05


@dataclass(slots=True)
class Session:
    number: int
    transport: Transport
    jail: Jail
    clock: Clock
    faults: FaultPlan[SftpFault]
    log: SftpLog
    before_look: Callable[[], None]
    """Puts into the folder what is due by now."""
    stopping: threading.Event
    threads: list[threading.Thread] = field(default_factory=list)

    def perform(self, operation: str, path: str, action: Callable[[], T], noted: bool = True) -> T | int:
        """What *action* returns, or the code that SFTP has for its error."""
        status = "ok"
        try:
            self._meet(self.faults.take(operation, path))
            self.before_look()
            return action()
        except ConnectionAbortedError as error:
            status = "dropped"
            return _code(error)
        except OSError as error:
            code = _code(error)
            status = STATUSES.get(code, "failed")
            return code
        finally:
            if noted or status != "ok":
                self.log.add(self.number, operation, path, status)

    def _meet(self, fault: SftpFault | None) -> None:
        if fault is None:
            return
        if fault.kind == "stall":
            self._say_nothing(fault.seconds)
        elif fault.kind == "deny":
            raise PermissionError(errno.EACCES, "denied by a fault")
        else:
            self.transport.close()
            raise ConnectionAbortedError(errno.ECONNABORTED, "dropped by a fault")

    def _say_nothing(self, seconds: float) -> None:
        """Until the time is up, the client is gone or the sandbox stops."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.transport.is_active():
            if self.stopping.wait(LOOK_AGAIN_SECONDS):
                return


def _code(error: OSError) -> int:
    return int(SFTPServer.convert_errno(error.errno))
