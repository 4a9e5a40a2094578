"""What both systems' resources share: where to ask for tokens, and whom to trust."""

from pathlib import Path

import dagster as dg

from d365_campaign.clients.throttle import RetryPolicy
from d365_campaign.clients.tokens import ClientCredentials
from d365_campaign.clients.wire import WireSettings


class Connection(dg.ConfigurableResource["Connection"]):
    """An application's credentials for one system; `ca_bundle` replaces the public certificate authorities."""

    url: str
    token_url: str
    client_id: str
    client_secret: str
    ca_bundle: str | None = None
    proxy: str | None = None
    read_timeout_seconds: float = 60.0
    total_timeout_seconds: float = 180.0
    attempts: int = 6
    max_wait_seconds: float = 120.0

    def credentials(self, scope: str) -> ClientCredentials:
        """The client credentials for *scope*."""
        return ClientCredentials(self.token_url, self.client_id, self.client_secret, scope)

    def wire(self, workers: int = 1) -> WireSettings:
        """Time limits and trust for so many connections."""
        return WireSettings(
            read_timeout_seconds=self.read_timeout_seconds,
            total_timeout_seconds=self.total_timeout_seconds,
            ca_bundle=Path(self.ca_bundle) if self.ca_bundle else None,
            proxy=self.proxy,
            workers=workers,
        )

    def retry(self) -> RetryPolicy:
        """How often and how long one request is tried."""
        return RetryPolicy(self.attempts, self.max_wait_seconds)
