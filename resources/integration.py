"""Both systems and the staging file together, opened for one table."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from d365_campaign.binding import BoundMapping, bind
from d365_campaign.clients.campaign import CampaignTarget
from d365_campaign.clients.dataverse import DataverseClient
from d365_campaign.mapping import TableMapping
from d365_campaign.store.ledger import Ledger
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
    store: TableStore
    ledger: Ledger


@contextmanager
def open_table(
    mapping: TableMapping,
    tables: Sequence[TableMapping],
    dynamics: DynamicsResource,
    campaign: CampaignResource,
    staging: StagingResource,
) -> Iterator[OpenTable]:
    """The table, once its mapping has been held against what both systems say of themselves now.

    *tables* are all mappings of the integration, which its links may lead to.

    Raises ConfigurationError, with every fault, before the staging file is touched.
    """
    source, target = dynamics.client, campaign.client
    bound = bind(mapping, source.describe(mapping.source), target.describe(mapping.target), tables)
    with staging.open() as file:
        yield OpenTable(bound, source, target.target(bound.target, mapping.key.target), file.table(bound), file.ledger)
