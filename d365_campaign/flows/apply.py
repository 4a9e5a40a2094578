"""Write the open change set to Campaign: many workers, one staging file, results settled in batches."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import takewhile
from queue import SimpleQueue
from threading import Event

from d365_campaign.changes import ApplySummary, Change, Kind, Outcome, Result
from d365_campaign.errors import RetriableError, SyncError
from d365_campaign.flows.allowance import Allowance
from d365_campaign.flows.deadline import Deadline
from d365_campaign.flows.guards import Guards
from d365_campaign.flows.plan import plan
from d365_campaign.flows.ports import RecordTarget
from d365_campaign.flows.write import Writer
from d365_campaign.progress import Progress
from d365_campaign.store.ledger import Ledger
from d365_campaign.store.table_store import TableStore

log = logging.getLogger(__name__)

SAMPLES = 5
# Open changes that are fetched from the staging file at once, with their values.
WINDOW = 5000
# So many changes without an answer are no accident: Campaign is in trouble, and the run stops asking.
MOST_UNKNOWN = 20


@dataclass(frozen=True, slots=True)
class EngineCallBudget:
    """Engine calls allowed per UTC day and calendar month, over all tables; None is no limit.

    *others* are the calls a month that other users of Campaign make: they come out of the monthly budget too.
    """

    daily: int | None = None
    monthly: int | None = None
    others: int = 0

    def left(self, ledger: Ledger) -> int | None:
        """What may still be spent now; None when nothing limits it."""
        spent = ledger.spent()
        limits = ((self.daily, spent.today), (self.monthly, spent.this_month + self.others))
        return min((limit - used for limit, used in limits if limit is not None), default=None)


@dataclass(frozen=True, slots=True)
class Pace:
    """How many changes are under way at once. A run that is killed leaves at most *batch_size* of them in doubt.

    *max_attempts*: how often a refused change is sent before it rests. *blackout* tells whether nothing may be written
    at this moment.
    """

    workers: int = 8
    batch_size: int = 200
    max_attempts: int = 1
    blackout: Callable[[], bool] = lambda: False


def apply(
    store: TableStore,
    ledger: Ledger,
    target: RecordTarget,
    *,
    pace: Pace,
    budget: EngineCallBudget,
    guards: Guards,
    deadline: Deadline,
) -> ApplySummary:
    """Write what is open, at most until *deadline* and within *budget*; what is left is the next run's backlog.

    Raises the error that stopped the run (a setting, a right, a system that can't be reached) after everything that had
    an answer by then was settled. Where a guard stops the plan nothing is written, and `stopped_by` names it.
    """
    started, began = time.monotonic(), datetime.now(UTC)
    in_doubt = store.book_unsettled()
    allowance = Allowance(budget.left(ledger))
    if in_doubt or not store.planned:
        plan(store, target, allowance=allowance)
    store.begin_writing()
    if failed := guards.failing(store):
        log.error("%s: nothing is written: %s", store.table.name, " ".join(verdict.description for verdict in failed))
        return _blocked(store, ledger, failed[0].name, time.monotonic() - started)
    writer = Writer(target, store.table, allowance=allowance)
    run = _Run(store, ledger, writer, pace=pace, allowance=allowance, deadline=deadline)
    run.go()
    summary = replace(run.summary(time.monotonic() - started), latency=store.latency(began))
    if not summary.backlog:
        store.end_large_load()
    if run.error is not None:
        log.error("%s: stopped after %d engine calls", store.table.name, summary.engine_calls)
        raise run.error
    return summary


def _blocked(store: TableStore, ledger: Ledger, guard: str, seconds: float) -> ApplySummary:
    left = store.summary()
    return ApplySummary(
        unchanged=left.unchanged,
        refused=left.refused,
        deferred=left.deferred,
        held=left.held,
        backlog=left.open,
        seconds=seconds,
        stopped_by=guard,
        mirrored=store.mirrored(),
        rejects=store.rejects(SAMPLES),
        waiting=store.waiting(SAMPLES),
        spent=ledger.spent(),
    )


class _Run:
    """One run's way through the change set: the main thread owns the staging file, workers only talk to Campaign."""

    def __init__(
        self,
        store: TableStore,
        ledger: Ledger,
        writer: Writer,
        *,
        pace: Pace,
        allowance: Allowance,
        deadline: Deadline,
    ) -> None:
        self._store, self._ledger, self._writer = store, ledger, writer
        self._pace, self._allowance, self._deadline = pace, allowance, deadline
        self._answers: SimpleQueue[tuple[Outcome, SyncError | None]] = SimpleQueue()
        self._stop = Event()
        self._counts: Counter[str] = Counter()
        self._stopped_by: str | None = None
        self._unknown: list[Outcome] = []
        self._error: SyncError | None = None

    def go(self) -> None:
        """Send and settle. Claimed and not yet settled are never more than a batch: half of it is sent while the
        answers to the other half are booked."""
        half = max(1, self._pace.batch_size // 2)
        batches = self._batches(half)
        under_way = 0
        unsettled: list[Outcome] = []
        with ThreadPoolExecutor(self._pace.workers, thread_name_prefix="campaign") as pool:
            try:
                more = True
                while more or under_way:
                    if more and under_way + len(unsettled) <= half:
                        batch = next(batches, ())
                        more = bool(batch)
                        under_way += len(batch)
                        for change in batch:
                            pool.submit(self._attempt, change)
                    if under_way:
                        unsettled.append(self._next_answer())
                        under_way -= 1
                    if len(unsettled) >= half or not under_way:
                        self._settle(unsettled)
                        unsettled = []
            except BaseException:
                self._stop.set()
                raise

    def _batches(self, size: int) -> Iterator[Sequence[Change]]:
        """Claimed batches of open changes, until there are no more, the time is up or the budget is spent."""
        while window := self._window():
            while window:
                if not self._goes_on():
                    return
                affordable = list(takewhile(lambda change: self._allowance.take(change.engine_calls), window[:size]))
                if not affordable:
                    return
                self._store.claim(affordable)
                yield affordable
                window = window[len(affordable) :]

    def _window(self) -> Sequence[Change]:
        return self._store.take_window(WINDOW) if self._goes_on() else ()

    def _goes_on(self) -> bool:
        if self._pace.blackout():
            self._stopped_by = "blackout"
        elif self._deadline.passed:
            self._stopped_by = "time"
        return not (self._stopped_by or self._stop.is_set() or self._allowance.spent)

    def _attempt(self, change: Change) -> None:
        if self._stop.is_set() or self._deadline.passed:
            self._answers.put((Outcome(change.key, change.kind, Result.UNSENT), None))
            return
        try:
            outcome, fault = self._writer.write(change)
        except BaseException as error:
            fault = SyncError(f"{self._store.table.name} {change.key}: {type(error).__name__} while it was written")
            fault.__cause__ = error
            outcome = Outcome(change.key, change.kind, Result.UNKNOWN, change.engine_calls)
        if fault is not None:
            self._stop.set()
        self._answers.put((outcome, fault))

    def _next_answer(self) -> Outcome:
        outcome, error = self._answers.get()
        self._error = self._error or error
        return outcome

    def _settle(self, outcomes: Sequence[Outcome]) -> None:
        if not outcomes:
            return
        self._store.settle(outcomes, self._pace.max_attempts)
        log.info(Progress(self._store.table.name, "written", len(outcomes)))
        for outcome in outcomes:
            self._counts["engine_calls"] += outcome.engine_calls
            if outcome.result is Result.DONE:
                self._counts["identical" if outcome.identical else outcome.kind] += 1
            if outcome.result is Result.UNKNOWN:
                self._unknown.append(outcome)
            if outcome.result is Result.UNSENT and self._deadline.passed:
                self._stopped_by = self._stopped_by or "time"
        if len(self._unknown) >= MOST_UNKNOWN:
            self._stop.set()

    @property
    def error(self) -> SyncError | None:
        """What stopped the run. A few changes without an answer are backlog; many, or nothing else, are an error."""
        if self._error or not self._unknown:
            return self._error
        if len(self._unknown) < MOST_UNKNOWN and any(self._counts[kind] for kind in (*Kind, "identical")):
            return None
        first = self._unknown[0]
        return RetriableError(
            f"{self._store.table.name}: {len(self._unknown)} changes got no answer from Campaign, for instance "
            f"{first.key}: {first.reason} The next run reads them back before it goes on."
        )

    def summary(self, seconds: float) -> ApplySummary:
        left, counts = self._store.summary(), self._counts
        written = counts[Kind.INSERT] + counts[Kind.UPDATE] + counts[Kind.ADOPT] + counts["identical"]
        return ApplySummary(
            inserted=counts[Kind.INSERT],
            updated=counts[Kind.UPDATE] + counts[Kind.ADOPT],
            deleted=counts[Kind.DELETE],
            identical=counts["identical"],
            unchanged=left.unchanged - written,
            refused=left.refused,
            deferred=left.deferred,
            held=left.held,
            backlog=left.open,
            engine_calls=counts["engine_calls"],
            engine_calls_adobe=self._store.take_adobe_engine_calls(),
            seconds=seconds,
            stopped_by=self._stopped_by or ("budget" if self._allowance.spent else None),
            mirrored=self._store.mirrored(),
            rejects=self._store.rejects(SAMPLES),
            waiting=self._store.waiting(SAMPLES),
            spent=self._ledger.spent(),
        )
