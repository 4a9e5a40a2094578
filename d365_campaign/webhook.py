"""The receiver of Dataverse's webhook posts: a good one wakes its table's sensor, and nothing of it is kept.

What Dataverse sends ("Use WebHooks to create external handlers for server events"): a POST with the execution context
as JSON, up to 256 KB, the table's name in a header, and the key that was registered with the webhook in a header or in
the address. Nothing signs the body, and no order or number of deliveries is promised; so a post is believed only as
far as that somebody who knows the key says "look at this table".
"""

import asyncio
import hmac
import json
import logging
import re
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from d365_campaign.errors import ConfigurationError

log = logging.getLogger(__name__)

PATH, HEALTH = "/dataverse", "/health"
ENTITY_HEADER = "x-ms-dynamics-entity-name"
ENTITY_NAME = re.compile(r"[a-z][a-z0-9_]{0,127}")
SHORTEST_KEY = 16
# Dataverse itself gives up after 60 s.
BODY_SECONDS = 20.0
# Of all posts about one table within so long, one wake-up comes.
COALESCE_SECONDS = 1.0
CONNECTIONS = 64

# What is wrong with a post, and the status that Dataverse keeps of it.
REFUSALS: Mapping[str, int] = {
    "wrong_path": 404,
    "wrong_method": 405,
    "wrong_key": 401,
    "too_large": 413,
    "too_slow": 408,
    "wrong_content": 400,
}

Wake = Callable[[str, int], None]


class _Refused(Exception):
    """The post is not taken; the message is one of REFUSALS."""


@dataclass(frozen=True)
class Door:
    """Who is let in: the key and where it stands, how much is read, and which tables are mapped."""

    key: str = field(repr=False)
    sent_in: str
    name: str
    max_bytes: int
    tables: Collection[str]

    def __post_init__(self) -> None:
        if len(self.key) < SHORTEST_KEY or not self.key.isascii():
            raise ConfigurationError(
                f"webhook.key: the variable holds fewer than {SHORTEST_KEY} characters, or others than ASCII. Take a "
                'long random one, for instance of: python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
            )

    def opens(self, request: Request) -> bool:
        """Whether the key is right, in a time that tells nothing of it."""
        given = request.headers if self.sent_in == "header" else request.query_params
        return hmac.compare_digest(given.get(self.name, "").encode("utf-8", "replace"), self.key.encode())


class Receiver:
    """The application, and its counts since it was started."""

    def __init__(self, door: Door, wake: Wake, coalesce_seconds: float = COALESCE_SECONDS) -> None:
        self._door, self._wake, self._coalesce_seconds = door, wake, coalesce_seconds
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._posts: Counter[str] = Counter()
        self._reporting: dict[str, asyncio.Task[None]] = {}
        self._closing = asyncio.Event()

    def app(self) -> Starlette:
        verbs = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
        return Starlette(
            routes=[Route(PATH, self._take, methods=verbs), Route(HEALTH, self._health, methods=["GET"])],
            exception_handlers={404: self._no_such_page, 405: self._no_such_page},
            lifespan=self._lifespan,
        )

    async def _take(self, request: Request) -> Response:
        try:
            table = await self._table_of(request)
        except _Refused as refusal:
            return self._refuse(str(refusal))
        except ClientDisconnect:  # nobody waits for an answer
            return self._refuse("too_slow")
        if table in self._door.tables:
            self.accepted["woke"] += 1
            self._report_soon(table)
        else:
            # To refuse it would have Dataverse keep a failed system job for each change of a table that isn't mapped.
            self.accepted["not_mapped"] += 1
        return Response(status_code=202)

    async def _table_of(self, request: Request) -> str:
        """The table of a good post. Its key is looked at before anything of its body is read."""
        if request.method != "POST":
            raise _Refused("wrong_method")
        if not self._door.opens(request):
            raise _Refused("wrong_key")
        return _table_named(request.headers.get(ENTITY_HEADER), await self._body(request))

    async def _body(self, request: Request) -> bytes:
        """The whole body, read no further than the limit."""
        announced = request.headers.get("content-length", "0")
        if not announced.isdecimal() or int(announced) > self._door.max_bytes:
            raise _Refused("too_large")
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for piece in request.stream():
                    body += piece
                    if len(body) > self._door.max_bytes:
                        raise _Refused("too_large")
        except TimeoutError:
            raise _Refused("too_slow") from None
        return bytes(body)

    def _refuse(self, reason: str) -> Response:
        self.refused[reason] += 1
        log.info("a post was refused: %s", reason)
        # What is left of the body is not read.
        return Response(status_code=REFUSALS[reason], headers={"connection": "close"})

    async def _no_such_page(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return self._refuse("wrong_path" if error.status_code == 404 else "wrong_method")

    async def _health(self, request: Request) -> Response:
        """Counts only, so that no key is asked for."""
        return JSONResponse({"accepted": dict(self.accepted), "refused": dict(self.refused)})

    # --- wake-ups

    def _report_soon(self, table: str) -> None:
        self._posts[table] += 1
        if table not in self._reporting:
            self._reporting[table] = asyncio.create_task(self._report(table))

    async def _report(self, table: str) -> None:
        """One wake-up at once; then one for all posts of each second in which there were any."""
        while posts := self._posts.pop(table, 0):
            try:
                await run_in_threadpool(self._wake, table, posts)
                self.accepted["wakeups"] += 1
            except Exception as error:  # whatever Dagster's storage does: polling finds the change all the same
                self.refused["not_kept"] += 1
                log.error("a wake-up of %s could not be kept (%s); tried again", table, type(error).__name__)
                if not self._closing.is_set():
                    self._posts[table] += posts
            try:
                await asyncio.wait_for(self._closing.wait(), self._coalesce_seconds)
            except TimeoutError:
                continue
        del self._reporting[table]

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        self._closing.set()
        await asyncio.gather(*self._reporting.values())


def _table_named(header: str | None, body: bytes) -> str:
    """The table that the header names, or else the body; both may not name different ones."""
    try:
        context = json.loads(body)
    except (ValueError, RecursionError):
        raise _Refused("wrong_content") from None
    within = context.get("PrimaryEntityName") if isinstance(context, dict) else None
    names = {name for name in (header, within) if name is not None}
    if not isinstance(context, dict) or len(names) != 1:
        raise _Refused("wrong_content")
    [name] = names
    if not isinstance(name, str) or not ENTITY_NAME.fullmatch(name):
        raise _Refused("wrong_content")
    return name


def server(
    receiver: Receiver, host: str, port: int, certificate: Path | None = None, private_key: Path | None = None
) -> uvicorn.Server:
    """A server for it, over TLS where there is a certificate. No access log: a key may stand in the address."""
    config = uvicorn.Config(
        receiver.app(),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        loop="asyncio",
        ws="none",
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=5,
        ssl_certfile=str(certificate) if certificate else None,
        ssl_keyfile=str(private_key) if private_key else None,
        ssl_version=ssl.PROTOCOL_TLS_SERVER,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """Leaves no connection behind when it stops."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        connections = list(self.server_state.connections)
        await super().shutdown(sockets)
        for connection in connections:
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0.05)  # until they have heard of it
