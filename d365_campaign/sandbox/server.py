"""The running sandbox: four systems over HTTPS, each on its own port, in one event loop."""

import asyncio
import json
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import trustme
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from . import seed as seeding
from . import seed_story as story
from .admin import AdminApi
from .calls import Call, CallLog
from .campaign_api import CampaignApi
from .campaign_schema import DEFAULT_RESOURCES, ResourceDefinition
from .campaign_state import CampaignState
from .clock import Clock
from .dataverse_api import DataverseApi
from .dataverse_schema import DEFAULT_TABLES, TableDefinition
from .dataverse_state import DataverseState
from .faults import Fault, FaultPlan
from .gateway import DroppableProtocol, Gateway
from .identity_api import EntraApi, ImsApi
from .settings import Settings
from .tokens import CAMPAIGN_APPLICATION, CAMPAIGN_SCOPE, DATAVERSE_APPLICATION, TokenIssuer

SYSTEMS = ("dataverse", "entra", "campaign", "ims")
STARTUP_SECONDS = 10.0
ADMIN_PATH = "/_sandbox"


class Sandbox:
    """Stand-ins for Dataverse, Entra ID, Campaign Standard and Adobe IMS, and the means to steer them."""

    def __init__(
        self,
        settings: Settings | None = None,
        tables: Iterable[TableDefinition] = DEFAULT_TABLES,
        resources: Iterable[ResourceDefinition] = DEFAULT_RESOURCES,
    ) -> None:
        self.settings = settings or Settings()
        self._initial_settings = replace(self.settings)
        self.clock = Clock()
        self.lock = threading.RLock()
        self.call_log, self.faults = CallLog(), FaultPlan()
        self.dataverse = DataverseState(self.clock, self.settings, self.lock, tables)
        self.campaign = CampaignState(self.clock, self.settings, self.lock, resources)
        self.entra_tokens, self.ims_tokens = TokenIssuer(self.clock), TokenIssuer(self.clock)
        self._dataverse_api = DataverseApi(self.dataverse, self.entra_tokens)
        self.endpoints: dict[str, Any] = {}

    @classmethod
    @contextmanager
    def start(
        cls,
        directory: Path,
        ports: Mapping[str, int] | None = None,
        tables: Iterable[TableDefinition] = DEFAULT_TABLES,
        resources: Iterable[ResourceDefinition] = DEFAULT_RESOURCES,
        **settings: Any,
    ) -> "Iterator[Sandbox]":
        """Serve from a background thread until the block ends. Keyword arguments are settings."""
        chosen = Settings()
        chosen.update(settings)
        sandbox = cls(chosen, tables, resources)
        server, sockets = sandbox._prepare(directory, ports or {})
        thread = threading.Thread(target=server.run, args=(sockets,), name="sandbox", daemon=True)
        thread.start()
        try:
            _wait_until_serving(server, thread)
            yield sandbox
        finally:
            server.should_exit = True
            thread.join(STARTUP_SECONDS)
            for listener in sockets:
                listener.close()

    def serve_forever(self, directory: Path, ports: Mapping[str, int]) -> None:
        """Serve in the foreground until SIGTERM or SIGINT."""
        server, sockets = self._prepare(directory, ports)

        def stop(number: int, frame: FrameType | None) -> None:
            server.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        server.run(sockets)

    # --- steering, the same as over the admin address

    def seed(
        self, contacts: int = 0, seed: int = 1, hostile: bool = False, accounts: int = 0, purchases: int = 0
    ) -> list[str]:
        """Add contacts, accounts they work for and purchases they made, repeatable by *seed*; the contacts' keys."""
        with self.lock:
            return seeding.seed(self.dataverse, contacts, seed, hostile, accounts, purchases)

    def seed_story(self) -> dict[str, str]:
        """Add a purchase that has to wait for its contact, and a contact that Campaign refuses; their keys."""
        with self.lock:
            return story.seed_story(self.dataverse)

    def activate_waiting_contact(self) -> str:
        """Go on with the story: the contact that a purchase waits for becomes active; its key."""
        with self.lock:
            return story.activate_waiting_contact(self.dataverse)

    def change(self, seed: int = 1, **tables: Mapping[str, int]) -> dict[str, dict[str, list[str]]]:
        """What is to happen to `accounts`, `contacts` and `purchases`, e.g. `purchases={"update": 5, "create": 1}`.

        Keys of what was "updated", "created" and "deleted" of each, repeatable by *seed*.
        """
        with self.lock:
            return seeding.change(self.dataverse, tables, seed)

    def change_contacts(self, update: int = 0, create: int = 0, delete: int = 0, seed: int = 1) -> dict[str, list[str]]:
        return self.change(seed, contacts={"update": update, "create": create, "delete": delete})["contacts"]

    def calls(self, system: str | None = None) -> list[Call]:
        return self.call_log.of(system)

    def clear_calls(self) -> None:
        self.call_log.clear()

    def engine_calls(self) -> dict[str, int]:
        return self.call_log.engine_calls()

    def add_fault(self, **fault: Any) -> None:
        self.faults.add(Fault(**fault))

    def clear_faults(self) -> None:
        self.faults.clear()

    def expire_tokens(self) -> None:
        """Access tokens of both identity providers stop working."""
        with self.lock:
            self.entra_tokens.expire_all()
            self.ims_tokens.expire_all()

    def expire_delta_tokens(self) -> None:
        self.dataverse.expire_delta_tokens()

    def advance_clock(self, seconds: float) -> None:
        with self.lock:
            self.clock.advance(seconds)

    def reset(self) -> None:
        """Back to the state after the start: no rows, no records, no calls, no faults, the first settings."""
        with self.lock:
            self.settings.assign(self._initial_settings)
            self.clock.reset()
            self.dataverse.reset()
            self.campaign.reset()
            self._dataverse_api.throttle.reset()
            self.call_log.clear()
            self.faults.clear()

    # --- serving

    def _prepare(self, directory: Path, ports: Mapping[str, int]) -> tuple["_Server", list[socket.socket]]:
        directory.mkdir(parents=True, exist_ok=True)
        unknown = set(ports) - set(SYSTEMS)
        if unknown:
            raise ValueError(f"unknown systems in ports: {', '.join(sorted(unknown))}")
        sockets = {system: _listen(ports.get(system, 0)) for system in SYSTEMS}
        numbers = {system: listener.getsockname()[1] for system, listener in sockets.items()}
        self.endpoints = _endpoints(numbers, directory)
        config = uvicorn.Config(
            _ByPort({numbers[system]: app for system, app in self._apps().items()}),
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
        config.ssl = _certificates(directory / "ca.pem")
        return _Server(config, lambda: self._write_endpoints(directory)), list(sockets.values())

    def _apps(self) -> dict[str, ASGIApp]:
        scopes = self._scopes
        settings, clock, lock = self.settings, self.clock, self.lock
        apps: dict[str, ASGIApp] = {
            "dataverse": self._dataverse_api.app(lock),
            "entra": EntraApi(self.entra_tokens, settings, clock, scopes).app(lock),
            "campaign": CampaignApi(self.campaign, self.ims_tokens).app(lock),
            "ims": ImsApi(self.ims_tokens, settings).app(lock),
        }
        latencies = {
            "dataverse": lambda: settings.dataverse_latency_seconds,
            "campaign": lambda: settings.campaign_latency_seconds,
        }
        throttle = {"dataverse": self._dataverse_api.throttle}
        doors: dict[str, ASGIApp] = {
            system: Gateway(system, app, self.call_log, self.faults, clock, latencies.get(system), throttle.get(system))
            for system, app in apps.items()
        }
        doors["dataverse"] = _AdminBeside(AdminApi(self).app(lock), doors["dataverse"])
        return doors

    def _scopes(self) -> set[str]:
        """What a token for Dataverse may be asked for: the environment's own address."""
        port = self.endpoints["dataverse"].rpartition(":")[2]
        return {f"https://{host}:{port}/.default" for host in ("localhost", "127.0.0.1")}

    def _write_endpoints(self, directory: Path) -> None:
        """Readable by the owner alone, and never seen half-written."""
        target = directory / "endpoints.json"
        unfinished = directory / "endpoints.json.tmp"
        unfinished.unlink(missing_ok=True)
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(self.endpoints, file, indent=2)
        unfinished.replace(target)


def serve(
    directory: Path,
    ports: Mapping[str, int],
    contacts: int = 0,
    accounts: int = 0,
    purchases: int = 0,
    with_story: bool = False,
) -> None:
    """Run the sandbox in the foreground until it is told to stop."""
    sandbox = Sandbox()
    sandbox.seed(contacts, accounts=accounts, purchases=purchases)
    if with_story:
        sandbox.seed_story()
    sandbox.serve_forever(directory, ports)


class _Server(uvicorn.Server):
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


class _AdminBeside:
    """The admin pages share Dataverse's port but none of its faults, tokens or call log."""

    def __init__(self, admin: ASGIApp, system: ASGIApp) -> None:
        self._admin, self._system = admin, system

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_admin = scope["path"].startswith(ADMIN_PATH + "/")
        await (self._admin if is_admin else self._system)(scope, receive, send)


def _listen(port: int) -> socket.socket:
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


def _wait_until_serving(server: "_Server", thread: threading.Thread) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while not server.serving.wait(0.05):
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the sandbox did not start")


def _endpoints(ports: Mapping[str, int], directory: Path) -> dict[str, Any]:
    roots = {system: f"https://localhost:{port}" for system, port in ports.items()}
    dataverse, campaign = DATAVERSE_APPLICATION, CAMPAIGN_APPLICATION
    instance = f"{roots['campaign']}/{campaign.tenant}"
    return {
        "dataverse": roots["dataverse"],
        "entra": roots["entra"],
        "campaign": f"{instance}/campaign",
        "ims": roots["ims"],
        "admin": roots["dataverse"] + ADMIN_PATH,
        "ca_bundle": str((directory / "ca.pem").resolve()),
        "pid": os.getpid(),
        "dataverse_token_url": f"{roots['entra']}/{dataverse.tenant}/oauth2/v2.0/token",
        "ims_token_url": f"{roots['ims']}/ims/token/v3",
        "campaign_instance": instance,
        "credentials": {
            "dataverse": {
                "tenant_id": dataverse.tenant,
                "client_id": dataverse.client_id,
                "client_secret": dataverse.client_secret,
                "scope": f"{roots['dataverse']}/.default",
            },
            "campaign": {
                "tenant": campaign.tenant,
                "client_id": campaign.client_id,
                "client_secret": campaign.client_secret,
                "scope": CAMPAIGN_SCOPE,
            },
        },
    }
