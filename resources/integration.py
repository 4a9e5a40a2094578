"""Both systems and the staging file together, opened for one table."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from d365_campaign.binding import BoundMapping, bind
from d365_campaign.clients.campaign import CampaignTarget
from d365_campaign.clients.dataverse import DataverseClient
from d365_campaign.clients.dataverse_writes import DataverseRows
from d365_campaign.config import Configuration
from d365_campaign.mapping import TableMapping
from d365_campaign.store.ledger import Ledger
from d365_campaign.store.opt_outs import OptOutStore
from d365_campaign.store.table_store import TableStore
from resources.campaign import CampaignResource
from resources.dynamics import DynamicsResource
from resources.staging import StagingResource


@dataclass(frozen=True)
class OpenTable:
    """What a step works with."""

    bound: BoundMapping
    source: DataverseClient
    target: CampaignTarget
    rows: DataverseRows
    store: TableStore
    ledger: Ledger

    @property
    def opt_outs(self) -> OptOutStore:
        """The opt-outs of the table's people; it has them wherever they are kept in step."""
        assert self.store.opt_outs is not None, f"{self.bound.name} has no opt-outs"
        return self.store.opt_outs


@contextmanager
def open_table(
    mapping: TableMapping,
    integration: Configuration,
    dynamics: DynamicsResource,
    campaign: CampaignResource,
    staging: StagingResource,
) -> Iterator[OpenTable]:
    """The table, once its mapping has been held against what both systems say of themselves now.

    Raises ConfigurationError, with every fault, before the staging file is touched.
    """
    source, target = dynamics.client, campaign.client
    described = source.describe(mapping.source), target.describe(mapping.target)
    bound = bind(mapping, *described, integration.tables, integration.opt_outs)
    with staging.open() as file:
        yield OpenTable(
            bound,
            source,
            target.target(bound.target, mapping.key.target),
            source.rows(bound.source, bound.opt_out_columns),
            file.table(bound),
            file.ledger,
        )
