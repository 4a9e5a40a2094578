"""Read a random sample of what Campaign is known to hold back from it, and hold the one against the other.

Nothing is written to either system. Dynamics stays the source of truth, yet what somebody changed in Campaign is not
taken back behind their back (that goes by a setting): the mirror learns of it, so it goes out with the record's next
change, or with a replay.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from threading import Event
from typing import Protocol

from d365_campaign import quality
from d365_campaign.binding import BoundMapping
from d365_campaign.changes import FoundRecord
from d365_campaign.checks import Verdict
from d365_campaign.errors import SyncError
from d365_campaign.field_types import same_in_campaign
from d365_campaign.flows.allowance import Allowance
from d365_campaign.flows.ports import RecordTarget
from d365_campaign.opt_out import read_campaign
from d365_campaign.progress import Progress
from d365_campaign.quality import CheckSettings, Drifted, DriftLook
from d365_campaign.store.table_store import TableStore

log = logging.getLogger(__name__)

# Records whose calls are booked at once: what a killed look leaves unbooked.
BATCH = 50


@dataclass(frozen=True, slots=True)
class _Seen:
    """What came of one read: a record or none, or an error; *asked* is false where no call was left."""

    key: str
    found: FoundRecord | None = None
    error: SyncError | None = None
    asked: bool = True


def verify(
    store: TableStore, target: RecordTarget, *, sample: int, allowance: Allowance, workers: int, repair: bool
) -> DriftLook:
    """Read *sample* records back, a call each, as far as the *allowance* goes.

    With *repair* the next run brings what was changed back to what Dynamics says. Raises the error that stopped it,
    after what was read by then is booked.
    """
    known = store.quality.drift_sample(sample)
    store.quality.begin_drift()
    looked_at, short, stop = 0, False, Event()
    drifted: list[Drifted] = []
    keys = iter(known)
    while batch := list(islice(keys, BATCH)):
        seen = list(_read(batch, target, allowance, workers, stop))
        read = [each for each in seen if each.asked and each.error is None]
        held = {each.key: each.found for each in read}
        apart = [found for key, record in held.items() if (found := _drift(store.table, key, known[key], record))]
        values = {key: record.values for key, record in held.items() if record is not None}
        calls = sum(each.asked for each in seen)
        store.quality.note_drift(apart, values, calls, repair=repair)
        _note_opt_outs(store, values)
        log.info(Progress(store.name, "looked at", len(read)))
        looked_at, drifted = looked_at + len(read), drifted + apart
        short = short or any(not each.asked for each in seen)
        if error := next((each.error for each in seen if each.error), None):
            raise error
        if short:
            break
    return DriftLook(looked_at, store.mirrored(), drifted, short)


def _read(
    keys: Sequence[str], target: RecordTarget, allowance: Allowance, workers: int, stop: Event
) -> Iterator[_Seen]:
    """Each record once; after an error nobody else is asked for."""

    def read(key: str) -> _Seen | None:
        if stop.is_set():
            return None
        if not allowance.take(1):
            return _Seen(key, asked=False)
        try:
            return _Seen(key, target.read(key))
        except SyncError as error:
            stop.set()
            return _Seen(key, error=error)

    with ThreadPoolExecutor(workers, thread_name_prefix="verify") as pool:
        yield from (seen for seen in pool.map(read, keys) if seen is not None)


def _drift(table: BoundMapping, key: str, known: Mapping[str, object], record: FoundRecord | None) -> Drifted | None:
    """How a record differs from what is known of it, in Campaign's own terms; None where it doesn't.

    A field without `apply_updates` is Campaign's own once it was sent, and so is one for which Dynamics has nothing:
    an insert leaves it out, and Campaign's default holds.
    """
    if record is None:
        return Drifted(key, missing=True)
    fields = [
        f.target.name
        for f in table.fields
        if f.mapping.apply_updates and known[f.target.name] is not None
        if not same_in_campaign(
            known[f.target.name], record.values.get(f.target.name), f.target.type, f.target.data_policy
        )
    ]
    return Drifted(key, fields) if fields else None


def _note_opt_outs(store: TableStore, values: Mapping[str, Mapping[str, object]]) -> None:
    """What Campaign says of opt-outs was read along, so the next run acts on it without waiting for a daily file."""
    if store.opt_outs is not None:
        stamps = store.opt_outs.bound.stamps
        store.opt_outs.note_audit({key: read_campaign(held, stamps) for key, held in values.items()}, [], 0)


# --- whether it is up to date ---------------------------------------------------------------------------------------


class ChangeTeller(Protocol):
    """Dynamics, asked about a delta token; nothing is moved on."""

    def has_changes(self, delta_link: str) -> bool:
        """Whether anything changed since *delta_link*, or it has expired."""
        ...

    def delta_token_days(self) -> int | None:
        """Days for which a delta token is known; None where that isn't told."""
        ...


def up_to_date(store: TableStore, source: ChangeTeller, settings: CheckSettings, now: datetime) -> Sequence[Verdict]:
    """Whether the snapshot has what Dynamics has, and how long its delta token still lasts: told without any run."""
    reading, caught_up = store.reading, store.quality.caught_up_at()
    changes_wait = reading.delta_link is None or source.has_changes(reading.delta_link)
    # A token comes with the last page of a read. While the first read is swept, none is older than the read itself.
    since = (caught_up or reading.started_at) if reading.delta_link else None
    days = settings.token_days or source.delta_token_days() or quality.TOKEN_DAYS
    return [
        quality.snapshot_fresh(caught_up, changes_wait=changes_wait, now=now, settings=settings),
        quality.token_age(since, days, now, settings),
    ]
