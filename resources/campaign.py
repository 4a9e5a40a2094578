"""Adobe Campaign Standard as a Dagster resource."""

import dagster as dg
from pydantic import PrivateAttr

from d365_campaign.clients.campaign import CampaignClient
from d365_campaign.clients.throttle import ThrottleGate
from d365_campaign.clients.tokens import shared_tokens
from resources.connection import Connection


class CampaignResource(Connection):
    """One Campaign instance, written with an Adobe OAuth server-to-server credential."""

    scope: str
    workers: int = 8
    max_requests_per_second: float | None = None
    _client: CampaignClient | None = PrivateAttr(default=None)

    @property
    def client(self) -> CampaignClient:
        """The client, from the start of a run to its end; all workers share its throttle gate."""
        assert self._client is not None, "the resource is used outside of a run"
        return self._client

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        wire = self.wire(self.workers)
        self._client = CampaignClient(
            self.url,
            self.client_id,
            shared_tokens("Campaign", self.credentials(self.scope), wire),
            gate=ThrottleGate(self.max_requests_per_second),
            retry=self.retry(),
            wire=wire,
        )

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        self.client.close()
