"""The ASGI door of one system: counts calls, lets faults happen, drops connections when told to."""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, cast

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .calls import CallLog
from .clock import Clock
from .dataverse_throttle import Throttle
from .fault_plan import FaultPlan
from .faults import Fault
from .tokens import bearer, fingerprint

DRIP_PIECES = 20


class DroppableProtocol(HttpToolsProtocol):
    """Uvicorn's own protocol; it also hands the transport to the application, which may then drop it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["sandbox.transport"] = self.transport


@dataclass(slots=True)
class Held:
    """A complete answer, held back until the faults have had their say."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    async def collect(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", []))
        else:
            self.body += message.get("body", b"")

    def set_header(self, name: bytes, value: bytes) -> None:
        self.headers = [pair for pair in self.headers if pair[0].lower() != name] + [(name, value)]


class Gateway:
    """Wraps the application of one system."""

    def __init__(
        self,
        system: str,
        app: ASGIApp,
        calls: CallLog,
        faults: FaultPlan[Fault],
        clock: Clock,
        latency_seconds: Callable[[], float] | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        self._system, self._app = system, app
        self._calls, self._faults, self._clock = calls, faults, clock
        self._latency_seconds = latency_seconds or (lambda: 0.0)
        self._throttle = throttle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        if self._throttle is not None:
            self._throttle.begin()
        try:
            await self._serve(scope, receive, send)
        except ClientDisconnect:
            # The client was gone before its request was read whole: nothing took effect, and nobody waits.
            self._log(scope, 0)
        finally:
            if self._throttle is not None:
                self._throttle.end(time.perf_counter() - started)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self._faults.take(self._system, scope["method"], scope["path"])
        pause = self._latency_seconds() + (fault.delay_seconds if fault else 0.0)
        if pause:
            await asyncio.sleep(pause)
        if fault is None:
            held = await self._ask(scope, receive)
            self._log(scope, held.status)
            await _send(held, send)
        else:
            await self._misbehave(fault, scope, receive, send)

    async def _ask(self, scope: Scope, receive: Receive) -> Held:
        held = Held()
        scope["sandbox.faults"] = self._faults
        await self._app(scope, receive, held.collect)
        return self._dated(held)

    def _dated(self, held: Held) -> Held:
        """`Date` tells the sandbox's time, so that a client sees an advanced clock wherever it looks."""
        held.set_header(b"date", format_datetime(self._clock.now(), usegmt=True).encode())
        return held

    async def _misbehave(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.reset:
            self._log(scope, 0)
            await _drop(scope, receive)
            return
        if fault.answers_itself:
            await _drain(receive)
            held = self._dated(_invented(fault))
        else:
            held = await self._ask(scope, receive)
        if fault.lose_answer:
            self._log(scope, 0)
            await _drop(scope, receive)
            return
        _edit(held, fault)
        self._log(scope, held.status)
        await _send_badly(held, fault, scope, receive, send)

    def _log(self, scope: Scope, status: int) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        self._calls.add(
            system=self._system,
            at=self._clock.campaign_stamp(),
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            status=status,
            operation=scope.get("sandbox", {}).get("operation", "other"),
            fields=scope.get("sandbox", {}).get("fields", ()),
            host=headers.get(b"host", ""),
            token=fingerprint(bearer(headers.get(b"authorization"))),
        )


def _invented(fault: Fault) -> Held:
    body = fault.body if isinstance(fault.body, str) else orjson.dumps(fault.body).decode() if fault.body else ""
    held = Held(fault.status or 500, [], body.encode())
    held.set_header(b"content-type", fault.content_type.encode())
    held.set_header(b"content-length", str(len(held.body)).encode())
    if fault.retry_after == "date":
        later = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
        held.set_header(b"retry-after", later.encode())
    elif fault.retry_after is not None:
        held.set_header(b"retry-after", str(fault.retry_after).encode())
    return held


def _edit(held: Held, fault: Fault) -> None:
    for name, value in fault.headers.items():
        held.set_header(name.lower().encode(), value.encode())
    if fault.replace is not None and held.status < 400:
        pattern, text = fault.replace
        held.body = re.sub(pattern, text, held.body.decode()).encode()
        held.set_header(b"content-length", str(len(held.body)).encode())


async def _send(held: Held, send: Send) -> None:
    await send({"type": "http.response.start", "status": held.status, "headers": held.headers})
    await send({"type": "http.response.body", "body": held.body})


async def _send_badly(held: Held, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
    if fault.truncate is not None:
        await send({"type": "http.response.start", "status": held.status, "headers": held.headers})
        await send({"type": "http.response.body", "body": held.body[: fault.truncate], "more_body": True})
        scope["sandbox.transport"].close()
        await _wait_for_disconnect(receive)
    elif fault.slow_drip:
        await _drip(held, fault.slow_drip, send)
    else:
        await _send(held, send)


async def _drip(held: Held, seconds: float, send: Send) -> None:
    await send({"type": "http.response.start", "status": held.status, "headers": held.headers})
    size = max(1, -(-len(held.body) // DRIP_PIECES))
    for start in range(0, len(held.body), size):
        await asyncio.sleep(seconds / DRIP_PIECES)
        await send({"type": "http.response.body", "body": held.body[start : start + size], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _drop(scope: Scope, receive: Receive) -> None:
    scope["sandbox.transport"].abort()
    await _wait_for_disconnect(receive)


async def _drain(receive: Receive) -> None:
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
