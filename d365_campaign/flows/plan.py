"""Work out what differs, before anything is written."""

import logging

from d365_campaign.changes import Plan
from d365_campaign.flows.ports import RecordTarget
from d365_campaign.store.table_store import TableStore

log = logging.getLogger(__name__)

SAMPLE_KEYS = 5


def plan(store: TableStore, target: RecordTarget, *, everything: bool = False) -> Plan:
    """The change set of a table, computed and kept; nothing is written to either system.

    The first plan of a table reads the keys that Campaign holds already, page by page: a record whose key is a Dynamics
    id is adopted, all others are left alone. Raises ConfigurationError when a key stands in Campaign twice.
    """
    if not store.keys_scanned:
        found = store.note_existing(target.keys())
        log.info("%s: Campaign holds %d records with a key before the first write", store.table.name, found)
    summary = store.plan(everything=everything)
    return Plan(
        summary, store.mirrored(), store.engine_calls_adobe, store.busiest_fields(), store.sample_keys(SAMPLE_KEYS)
    )
