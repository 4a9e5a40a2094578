"""Local servers for alerts: a webhook over TLS, and mail servers with STARTTLS or TLS; what they got, and faults."""

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message as Mail
from email.policy import default as modern
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session

USER, PASSWORD = "alerts", "s3cret-mail"


class Authority:
    """A certificate authority, and a certificate of it for localhost."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.bundle = folder / "alerts-ca.pem"
        authority.cert_pem.write_to_path(str(self.bundle))
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self.server)


@dataclass
class Hook:
    """A webhook: its address, what it was sent, and what it answers next."""

    url: str = ""
    got: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    status: int = 200
    location: str | None = None

    @property
    def told(self) -> list[tuple[str, str, str]]:
        """Name, state and severity of each alert."""
        return [(each["name"], each["state"], each["severity"]) for each in self.got]


@contextmanager
def webhook(authority: Authority) -> Iterator[Hook]:
    """A webhook over TLS at a free port of localhost."""
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.headers.append(dict(self.headers.items()))
            if hook.status < 300:
                hook.got.append(json.loads(body))
            self.send_response(hook.status)
            if hook.location:
                self.send_header("Location", hook.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    server.socket = authority.server.wrap_socket(server.socket, server_side=True)
    hook.url = f"https://localhost:{server.server_port}/services/secret-path"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class MailServer:
    """A mail server: where it is, what it took, and what it answers to whom it refuses."""

    port: int = 0
    mails: list[Mail] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    refused: frozenset[str] = frozenset()
    answer: str = "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: object, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: object, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.mails.append(message_from_bytes(envelope.content, policy=modern))
            self.recipients.append(list(envelope.rcpt_tos))
        return self.answer


def _knows(server: object, session: object, envelope: object, mechanism: str, login: object) -> AuthResult:
    assert isinstance(login, LoginPassword)
    return AuthResult(success=(login.login, login.password) == (USER.encode(), PASSWORD.encode()))


@contextmanager
def mail_server(authority: Authority, *, tls: bool = False, starttls: bool = True) -> Iterator[MailServer]:
    """A mail server at a free port of localhost that takes nothing before it is encrypted and the user is known."""
    chosen: dict[str, Any] = {"ssl_context": authority.server} if tls else {}
    if starttls and not tls:
        chosen = {"tls_context": authority.server, "require_starttls": True}
    server = MailServer(free_port())
    controller = Controller(
        server,
        hostname="localhost",
        port=server.port,
        authenticator=_knows,
        auth_required=starttls and not tls,
        auth_require_tls=not tls,
        **chosen,
    )
    controller.start()
    try:
        yield server
    finally:
        controller.stop()


def free_port() -> int:
    """A port of localhost that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
