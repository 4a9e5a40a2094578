"""What stops a table from being written until a person has said so. Checks show it, and the writer looks for itself.

A check in Dagster gates only its own run, and all that comes after it; here one table is blocked, and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from d365_campaign import checks
from d365_campaign.changes import Kind
from d365_campaign.store.table_store import TableStore


@dataclass(frozen=True, slots=True)
class Guards:
    """Limits of one plan.

    *max_delete_share* of the known Campaign records may be deleted; up to *min_deletes* always pass. A plan of more
    than *large_load* records needs an acknowledgement. *max_initial* records of all tables may be loaded at first.
    """

    max_delete_share: float = 0.2
    min_deletes: int = 100
    large_load: int = 500_000
    max_initial: int = 15_000_000

    def verdicts(self, store: TableStore) -> Sequence[checks.Verdict]:
        """What stands in the way of the plan as it is now, one verdict for each limit."""
        summary, mirrored = store.summary(), store.mirrored()
        deletes = store.sample_keys(checks.SAMPLE).get(Kind.DELETE, ()) if summary.delete > self.min_deletes else ()
        return [
            checks.delete_share(summary, mirrored, self.max_delete_share, self.min_deletes, deletes),
            checks.large_load(summary, self.large_load, store.large_load_acknowledged_by, store.table.name),
            checks.initial_load(store.records_of_all_tables() if not mirrored else 0, self.max_initial),
        ]

    def failing(self, store: TableStore) -> Sequence[checks.Verdict]:
        """What keeps the table from being written: a limit, or keys that can't be trusted."""
        return [verdict for verdict in (*key_verdicts(store), *self.verdicts(store)) if not verdict.passed]


def key_verdicts(store: TableStore) -> Sequence[checks.Verdict]:
    """Whether the snapshot's keys can be trusted, as far as pulls have noted faults that are still there."""
    faults, name = store.quality.standing_key_faults(), store.table.name
    return [checks.keys_unique(faults, name), checks.keys_present(faults, name)]
