"""Bring a table's changes from Dynamics into the staging file.

The reading goes through three phases, each committed with the rows it stands behind: a full read of every record, a
sweep over what was modified while that read ran, and from then on the changes behind the delta link. A pull that is
interrupted anywhere goes on from the last committed page.
"""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

from d365_campaign.binding import MODIFIED_ON
from d365_campaign.changes import ChangePage, PullSummary, Reading
from d365_campaign.errors import DeltaTokenExpired
from d365_campaign.flows.deadline import Deadline
from d365_campaign.flows.ports import ChangeSource
from d365_campaign.progress import Progress
from d365_campaign.store.table_store import TableStore

log = logging.getLogger(__name__)

# The token that ends a full read is as young as the last page, yet pages read early may have changed since
# (powerapps-docs #3862): the sweep asks for what was modified since a little before the read began.
SWEEP_MARGIN = timedelta(minutes=5)


def pull(source: ChangeSource, store: TableStore, deadline: Deadline) -> PullSummary:
    """Read until the table is caught up or the deadline has passed, whichever comes first.

    A delta token that Dynamics no longer knows leads to one full read, whose end removes the records it didn't meet.
    """
    started = time.monotonic()
    if store.take_up_replay():
        log.info("%s: replay: reading every record again", store.table.name)
    total = PullSummary(full_read=store.reading.phase == "full")
    restarted = False
    while not total.caught_up:
        try:
            total = _pull_phase(source, store, deadline, total)
        except DeltaTokenExpired:
            if restarted:
                raise
            restarted = True
            log.warning("%s: Dynamics no longer knows our delta token; reading every record again", store.table.name)
            store.read_everything_again()
            total = replace(total, full_read=True)
        if deadline.passed:
            break
    return replace(
        total,
        seconds=time.monotonic() - started,
        records=store.records(),
        key_faults=store.quality.note_keys(),
        delta_link=store.reading.delta_link,
    )


def _pull_phase(source: ChangeSource, store: TableStore, deadline: Deadline, total: PullSummary) -> PullSummary:
    reading = replace(store.reading, caught_up=False)
    # Pages left over by an earlier pull belong to a call of that time: what came since is behind their delta link.
    left_over = reading.next_link is not None
    for page in _one_ahead(_pages(source, store, reading)):
        reading = _after(page, reading, has_modified_on=MODIFIED_ON in store.table.source.columns)
        reading = replace(reading, caught_up=reading.caught_up and not left_over)
        store.absorb(page, reading)
        log.info(Progress(store.table.name, "read", page.rows.height + len(page.removed)))
        total = replace(
            total,
            rows=total.rows + page.rows.height,
            removed=total.removed + len(page.removed),
            pages=total.pages + 1,
            caught_up=reading.caught_up,
        )
        if deadline.passed:
            break
    return total


def _pages(source: ChangeSource, store: TableStore, reading: Reading) -> Iterator[ChangePage]:
    table, columns = store.table.source, store.table.columns
    if reading.phase == "sweep" and reading.started_at is not None:
        return source.modified_since(table, columns, reading.started_at - SWEEP_MARGIN, reading.next_link)
    return source.changes(table, columns, reading.next_link or reading.delta_link)


def _after(page: ChangePage, reading: Reading, *, has_modified_on: bool) -> Reading:
    """Where the reading stands once *page* is stored."""
    here = replace(reading, next_link=page.next_link, started_at=reading.started_at or page.served_at)
    if page.next_link is not None:
        return here
    if reading.phase == "full":
        return replace(here, phase="sweep" if has_modified_on else "changes", delta_link=page.delta_link)
    if reading.phase == "sweep":
        return replace(here, phase="changes")
    return replace(here, delta_link=page.delta_link or reading.delta_link, caught_up=True)


def _one_ahead(pages: Iterator[ChangePage]) -> Iterator[ChangePage]:
    """The same pages; the next one is fetched while the caller stores the last."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="next-page") as fetcher:
        coming = fetcher.submit(next, pages, None)
        while (page := coming.result()) is not None:
            coming = fetcher.submit(next, pages, None)
            yield page
