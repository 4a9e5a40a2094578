"""Work out what differs, before anything is written."""

import logging
from collections.abc import Iterator

import polars as pl

from d365_campaign.changes import Plan
from d365_campaign.errors import ConfigurationError
from d365_campaign.flows.allowance import Allowance
from d365_campaign.flows.ports import RecordTarget
from d365_campaign.progress import Progress
from d365_campaign.store.table_store import TableStore

log = logging.getLogger(__name__)

SAMPLE_KEYS = 5


def plan(
    store: TableStore, target: RecordTarget, *, everything: bool = False, allowance: Allowance | None = None
) -> Plan:
    """The change set of a table, computed and kept; nothing is written to either system.

    The first plan of a table reads what Campaign holds already, page by page: a record whose key is a Dynamics id is
    adopted, and costs nothing where it is in step; all others are left alone. Each page is taken from the *allowance*
    before it is asked for. Raises ConfigurationError when that is spent first, or a key stands in Campaign twice.
    """
    scanned, scan_calls = scan(store, target, allowance)
    summary = store.plan(everything=everything)
    log.info(Progress(store.table.name, "planned", summary.open))
    return Plan(
        summary,
        store.mirrored(),
        store.engine_calls_adobe,
        store.busiest_fields(),
        store.sample_keys(SAMPLE_KEYS),
        scanned,
        scan_calls,
    )


def scan(store: TableStore, target: RecordTarget, allowance: Allowance | None = None) -> tuple[int, int]:
    """List what Campaign holds, unless it is known: how many records there are, and the calls it took.

    Raises ConfigurationError when the *allowance* is spent first, or a key stands in Campaign twice.
    """
    if store.scanned:
        return 0, 0
    pages = target.records(store.scanned_fields)
    scanned, calls = store.note_existing(_affordable(pages, allowance or Allowance(), store.table.target.name))
    log.info("%s: Campaign holds %d records with a key before the first write", store.table.name, scanned)
    return scanned, calls


def _affordable(pages: Iterator[pl.DataFrame], allowance: Allowance, resource: str) -> Iterator[pl.DataFrame]:
    while allowance.take(1):
        page = next(pages, None)
        if page is None:
            allowance.give_back(1)
            return
        yield page
    raise ConfigurationError(
        f"Campaign {resource}: the engine-call budget does not last for listing what Campaign holds. That comes before "
        "the first write, and takes a call for each page. Raise engine_calls.daily_budget or monthly_budget, or wait "
        "for the next period if this one's was spent on something else."
    )
