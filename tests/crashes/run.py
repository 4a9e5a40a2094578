"""One sync of contacts, in a process that can be killed at a named point.

    python -m tests.crashes.run ENDPOINTS STAGING [POINT]

A point is `<moment> <step> <n>`: SIGKILL `before` the n-th time that step starts, `uncommitted` when all its statements
have run but its transaction is still open, or `after` it was done.
"""

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from d365_campaign.binding import bind
from d365_campaign.clients.campaign import CampaignClient, CampaignTarget
from d365_campaign.clients.dataverse import DataverseClient
from d365_campaign.clients.tokens import ClientCredentials, TokenSource
from d365_campaign.clients.wire import WireSettings
from d365_campaign.flows.apply import EngineCallBudget, Pace, apply
from d365_campaign.flows.deadline import Deadline
from d365_campaign.flows.guards import Guards
from d365_campaign.flows.plan import plan
from d365_campaign.flows.pull import pull
from d365_campaign.store.staging import open_staging
from d365_campaign.store.table_store import TableStore
from tests.mappings import contact_mapping

PAGE_SIZE = 20
BATCH_SIZE = 10

STEPS: dict[str, type] = {
    "absorb": TableStore,
    "note_existing": TableStore,
    "plan": TableStore,
    "book_unsettled": TableStore,
    "claim": TableStore,
    "settle": TableStore,
    "create": CampaignTarget,
    "read": CampaignTarget,
    "update": CampaignTarget,
    "delete": CampaignTarget,
}
REMOTE = {name for name, owner in STEPS.items() if owner is CampaignTarget}


def sync(endpoints: dict[str, Any], staging: Path) -> int:
    """Pull, plan and apply; the engine calls that were made."""
    wire = WireSettings(ca_bundle=Path(endpoints["ca_bundle"]))
    dynamics, adobe = endpoints["credentials"]["dataverse"], endpoints["credentials"]["campaign"]
    source = DataverseClient(
        endpoints["dataverse"],
        TokenSource("Dynamics", credentials(endpoints["dataverse_token_url"], dynamics), wire),
        page_size=PAGE_SIZE,
        wire=wire,
    )
    campaign = CampaignClient(
        endpoints["campaign_instance"],
        adobe["client_id"],
        TokenSource("Campaign", credentials(endpoints["ims_token_url"], adobe), wire),
        wire=wire,
    )
    mapping = contact_mapping()
    bound = bind(mapping, source.describe(mapping.source), campaign.describe(mapping.target))
    target = campaign.target(bound.target, mapping.key.target)
    with open_staging(staging) as file:
        store = file.table(bound)
        pull(source, store, Deadline(None))
        plan(store, target)
        done = apply(
            store,
            file.ledger,
            target,
            pace=Pace(workers=4, batch_size=BATCH_SIZE),
            budget=EngineCallBudget(),
            guards=Guards(),
            deadline=Deadline(None),
        )
    source.close()
    campaign.close()
    return done.engine_calls


def credentials(token_url: str, application: dict[str, str]) -> ClientCredentials:
    return ClientCredentials(token_url, application["client_id"], application["client_secret"], application["scope"])


def kill_at(point: str) -> None:
    """Have this process killed at *point*."""
    moment, step, number = point.split()
    owner, met = STEPS[step], Counter[str]()
    original = getattr(owner, step)

    @wraps(original)
    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        met[step] += 1
        at_point = met[step] == int(number)
        if at_point and moment == "before":
            die()
        if at_point and moment == "uncommitted":
            self._connection = DiesAtCommit(self._connection)
        result = original(self, *args, **kwargs)
        if at_point and moment == "after":
            die()
        return result

    setattr(owner, step, watched)


class DiesAtCommit:
    """A DuckDB connection whose next commit never happens."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, query: str, parameters: object = None) -> Any:
        if query == "commit":
            die()
        return self._connection.execute(query, parameters)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self._connection, name)  # type: ignore[no-any-return]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        kill_at(sys.argv[3])
    print(sync(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])))
