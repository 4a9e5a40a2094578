"""Campaign's SFTP storage on a real port: a folder, one user with a key, and nothing but files.

Source: "Control Panel: SFTP storage management", "Key management", "Logging into your SFTP server".
"""

import logging
import shutil
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paramiko import Transport

from .clock import Clock
from .fault_plan import FaultPlan
from .sftp_faults import SftpFault
from .sftp_files import Door, Subsystem
from .sftp_jail import Jail
from .sftp_keys import USER, SftpKeys
from .sftp_log import SftpLog, SftpOperation
from .sftp_session import Session

HOST = "127.0.0.1"
LOG_CHANNEL = "d365_campaign.sandbox.ssh"
POLL_SECONDS = 0.05
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

# Clients that break off are an everyday sight here, not worth a line on anyone's terminal.
logging.getLogger(LOG_CHANNEL).addHandler(logging.NullHandler())


class SftpServer:
    """Files below `root`; a thread per connection."""

    def __init__(self, clock: Clock, before_look: Callable[[], None]) -> None:
        """*before_look* puts into the folder what is due by now; it is called before anything is answered."""
        self._clock, self._before_look = clock, before_look
        self.log, self.faults = SftpLog(clock), FaultPlan[SftpFault]()
        self.root = Path()
        self._keys: SftpKeys | None = None
        self._listener: _Listener | None = None
        self._stopping = threading.Event()
        self._open: set[Transport] = set()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    @property
    def sessions(self) -> int:
        """How many connections there were since the last reset."""
        return self.log.sessions

    @property
    def operations(self) -> list[SftpOperation]:
        return list(self.log.operations)

    def wait_until_closed(self, seconds: float = 5.0) -> bool:
        """Whether no connection is open any more; a client's goodbye takes a moment to arrive."""
        end = time.monotonic() + seconds
        while self.connections and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        return not self.connections

    def reset(self, folder: str | None) -> None:
        """Empty the storage but for this folder, and forget operations and faults. Connections stay open."""
        self.log.clear()
        self.faults.clear()
        if self._listener is None:
            return
        shutil.rmtree(self.root, ignore_errors=True)
        (self.root / (folder or "")).mkdir(parents=True)

    # --- serving

    def listen(self, directory: Path, port: int = 0) -> dict[str, Any]:
        """Take the port, and write into *directory* what a client needs; where and how to log in."""
        self._keys = SftpKeys.made()
        self._listener = _Listener(port, self._serve)
        self.root = directory.resolve() / "sftp"
        number = int(self._listener.server_address[1])
        return {"host": HOST, "port": number} | self._keys.written(directory, number)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answer until the block ends; then every connection is dropped, and its thread is gone."""
        assert self._listener is not None, "listen() comes first"
        accepting = threading.Thread(target=self._listener.serve_forever, args=(POLL_SECONDS,), name="sandbox-sftp")
        accepting.start()
        try:
            yield
        finally:
            self._stopping.set()
            self._listener.shutdown()
            accepting.join()
            for transport in list(self._open):
                transport.close()
            self._listener.server_close()

    def _serve(self, connection: socket.socket) -> None:
        """One connection, from its first byte to its last."""
        fault = self.faults.take("connect")
        if fault is not None and fault.kind != "stall":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            connection.close()
            return
        if fault is not None:
            self._stopping.wait(fault.seconds)
        transport = Transport(connection)
        session = self._session(transport)
        self._open.add(transport)
        try:
            self._talk(transport, session)
        finally:
            self._open.discard(transport)
        for thread in session.threads:
            thread.join()

    def _session(self, transport: Transport) -> Session:
        self.log.sessions += 1
        return Session(
            number=self.log.sessions,
            transport=transport,
            jail=Jail(self.root),
            clock=self._clock,
            faults=self.faults,
            log=self.log,
            before_look=self._before_look,
            stopping=self._stopping,
        )

    def _talk(self, transport: Transport, session: Session) -> None:
        assert self._keys is not None
        transport.set_log_channel(LOG_CHANNEL)
        transport.add_server_key(self._keys.host)
        transport.set_subsystem_handler("sftp", Subsystem)
        # With an event paramiko doesn't wait for the handshake; an error in it just ends the connection.
        transport.start_server(event=threading.Event(), server=Door(session, USER, self._keys.client))
        if self._stopping.is_set():
            transport.close()
        transport.join()


class _Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, port: int, serve: Callable[[socket.socket], None]) -> None:
        super().__init__((HOST, port), socketserver.BaseRequestHandler)
        self._serve = serve

    def finish_request(self, request: Any, client_address: Any) -> None:
        self._serve(request)
