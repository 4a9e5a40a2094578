"""The running sandbox: four systems over HTTPS, each on its own port, in one event loop, and SFTP beside them."""

import signal
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from starlette.types import ASGIApp

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
from .endpoints import endpoints, write_endpoints
from .export_faults import ExportFault
from .fault_plan import FaultPlan
from .faults import Fault
from .gateway import Gateway
from .identity_api import EntraApi, ImsApi
from .opt_out_export import EXPORTS_FOLDER
from .serving import STARTUP_SECONDS, AdminBeside, Server, https_server, listen, wait_until_serving
from .settings import Settings
from .sftp_faults import SftpFault
from .sftp_server import SftpServer
from .tokens import TokenIssuer

SYSTEMS = ("dataverse", "entra", "campaign", "ims")
"""Those on HTTPS."""
PORTS = (*SYSTEMS, "sftp")


class Sandbox:
    """Stand-ins for Dataverse, Entra ID, Campaign Standard, its SFTP storage and Adobe IMS, and how to steer them."""

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
        self.call_log, self.faults = CallLog(), FaultPlan[Fault]()
        self.dataverse = DataverseState(self.clock, self.settings, self.lock, tables)
        self.campaign = CampaignState(self.clock, self.settings, self.lock, resources)
        self.entra_tokens, self.ims_tokens = TokenIssuer(self.clock), TokenIssuer(self.clock)
        self._dataverse_api = DataverseApi(self.dataverse, self.entra_tokens)
        self.sftp = SftpServer(self.clock, self._run_due)
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
        with sandbox.sftp.serving():
            thread.start()
            try:
                wait_until_serving(server, thread)
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
        with self.sftp.serving():
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
        """Forget requests and SFTP operations, and begin to count both anew."""
        self.call_log.clear()
        self.sftp.log.clear()

    def engine_calls(self) -> dict[str, int]:
        return self.call_log.engine_calls()

    def add_fault(self, **fault: Any) -> None:
        self.faults.add(Fault(**fault))

    def clear_faults(self) -> None:
        self.faults.clear()

    def export_opt_outs(self) -> str | None:
        """Run the daily export now, whatever its schedule; its file's name, None when no file comes of it."""
        with self.lock:
            self.campaign.run_due()
            return self.campaign.opt_out_export.run()

    def add_export_fault(self, **fault: Any) -> None:
        """What happens to the next exports, e.g. `kind="late", times=1, seconds=3600`."""
        self.campaign.opt_out_export.faults.add(ExportFault(**fault))

    def add_sftp_fault(self, **fault: Any) -> None:
        """What happens to the next SFTP operations, e.g. `kind="deny", operation="rename"`."""
        self.sftp.faults.add(SftpFault(**fault))

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
            self.campaign.run_due()

    def reset(self) -> None:
        """Back to the state after the start: no rows, no records, no files, no calls, no faults, the first settings."""
        with self.lock:
            self.settings.assign(self._initial_settings)
            self.clock.reset()
            self.dataverse.reset()
            self.campaign.reset()
            self._dataverse_api.throttle.reset()
            self.call_log.clear()
            self.faults.clear()
            self._empty_storage()

    # --- serving

    def _prepare(self, directory: Path, ports: Mapping[str, int]) -> tuple[Server, list[socket.socket]]:
        directory.mkdir(parents=True, exist_ok=True)
        unknown = set(ports) - set(PORTS)
        if unknown:
            raise ValueError(f"unknown systems in ports: {', '.join(sorted(unknown))}")
        sockets = {system: listen(ports.get(system, 0)) for system in SYSTEMS}
        numbers = {system: listener.getsockname()[1] for system, listener in sockets.items()}
        self.endpoints = endpoints(numbers, self.sftp.listen(directory, ports.get("sftp", 0)), directory)
        self._empty_storage()
        self.campaign.opt_out_export.connect(self.sftp.root)
        apps = {numbers[system]: app for system, app in self._apps().items()}
        server = https_server(apps, directory / "ca.pem", lambda: write_endpoints(self.endpoints, directory))
        return server, list(sockets.values())

    def _empty_storage(self) -> None:
        self.sftp.reset(EXPORTS_FOLDER if self.settings.sftp_exports_folder else None)

    def _run_due(self) -> None:
        with self.lock:
            self.campaign.run_due()

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
        throttle, clocks = {"dataverse": self._dataverse_api.throttle}, {"campaign": self.campaign.clock}
        doors: dict[str, ASGIApp] = {
            system: Gateway(
                system,
                app,
                self.call_log,
                self.faults,
                clocks.get(system, clock),
                latencies.get(system),
                throttle.get(system),
            )
            for system, app in apps.items()
        }
        doors["dataverse"] = AdminBeside(AdminApi(self).app(lock), doors["dataverse"])
        return doors

    def _scopes(self) -> set[str]:
        """What a token for Dataverse may be asked for: the environment's own address."""
        port = self.endpoints["dataverse"].rpartition(":")[2]
        return {f"https://{host}:{port}/.default" for host in ("localhost", "127.0.0.1")}


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
