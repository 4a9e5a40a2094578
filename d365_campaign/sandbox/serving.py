"""How systems are served over HTTPS: sockets, certificates, and a uvicorn server that stops at once."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import trustme
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from .gateway import DroppableProtocol

STARTUP_SECONDS = 10.0
ADMIN_PATH = "/_sandbox"


def https_server(apps: Mapping[int, ASGIApp], ca_file: Path, on_serving: Callable[[], None]) -> "Server":
    """One server for the applications of all ports; the certificate of its fresh authority goes into *ca_file*."""
    config = uvicorn.Config(
        _ByPort(apps),
        http=DroppableProtocol,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        ws="none",
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
        date_header=False,
        proxy_headers=False,
    )
    config.load()
    config.ssl = _certificates(ca_file)
    return Server(config, on_serving)


class Server(uvicorn.Server):
    """Says when it really serves, and stops at once: open connections are dropped, not waited for."""

    def __init__(self, config: uvicorn.Config, on_serving: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_serving = on_serving
        self.serving = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_serving()
        self.serving.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        # The aborted connections must have heard of it, or cancelled answers count as faulty ones.
        await asyncio.sleep(0.05)
        for task in list(self.server_state.tasks):
            task.cancel()
        await super().shutdown(sockets)


class _ByPort:
    """Leads a request to the system whose port it came in on."""

    def __init__(self, apps: Mapping[int, ASGIApp]) -> None:
        self._apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Stopping cancels answers still under way, such as slow drips; their connections are gone already.
        with suppress(asyncio.CancelledError):
            await self._apps[scope["server"][1]](scope, receive, send)


class AdminBeside:
    """The admin pages share Dataverse's port but none of its faults, tokens or call log."""

    def __init__(self, admin: ASGIApp, system: ASGIApp) -> None:
        self._admin, self._system = admin, system

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_admin = scope["path"].startswith(ADMIN_PATH + "/")
        await (self._admin if is_admin else self._system)(scope, receive, send)


def listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _certificates(ca_file: Path) -> ssl.SSLContext:
    """A fresh authority, its certificate in *ca_file*, and a server context it vouches for."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


def wait_until_serving(server: Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while not server.serving.wait(0.05):
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the sandbox did not start")
