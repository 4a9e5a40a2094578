"""Dynamics 365 as a Dagster resource."""

import dagster as dg
from pydantic import PrivateAttr

from d365_campaign.clients.dataverse import MAX_PAGE_SIZE, DataverseClient
from d365_campaign.clients.tokens import shared_tokens
from resources.connection import Connection


class DynamicsResource(Connection):
    """One Dynamics environment, read with an Entra application's credentials."""

    page_size: int = MAX_PAGE_SIZE
    _client: DataverseClient | None = PrivateAttr(default=None)

    @property
    def client(self) -> DataverseClient:
        """The client, from the start of a run to its end."""
        assert self._client is not None, "the resource is used outside of a run"
        return self._client

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        wire = self.wire()
        tokens = shared_tokens("Dynamics", self.credentials(f"{self.url.rstrip('/')}/.default"), wire)
        self._client = DataverseClient(self.url, tokens, page_size=self.page_size, retry=self.retry(), wire=wire)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        self.client.close()
