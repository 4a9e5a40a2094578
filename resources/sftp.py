"""The SFTP area of the Campaign instance as a Dagster resource."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from d365_campaign.clients.sftp import SftpArea, SftpLogin


class SftpResource(dg.ConfigurableResource["SftpResource"]):
    """Where daily opt-out files come from. Each step or look opens one connection and closes it."""

    host: str
    port: str
    user: str
    private_key: str
    passphrase: str | None = None
    host_key: str | None = None
    known_hosts: str | None = None
    connect_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 60.0

    @contextmanager
    def open(self) -> Iterator[SftpArea]:
        """A connection. Raises RetriableError where the server can't be reached, ConfigurationError for a wrong key."""
        login = SftpLogin(
            self.host,
            self.user,
            self.private_key,
            port=int(self.port),
            passphrase=self.passphrase,
            host_key=self.host_key,
            known_hosts=Path(self.known_hosts) if self.known_hosts else None,
            connect_timeout_seconds=self.connect_timeout_seconds,
            read_timeout_seconds=self.read_timeout_seconds,
        )
        with SftpArea(login) as area:
            yield area
