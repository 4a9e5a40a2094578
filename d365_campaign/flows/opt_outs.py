"""Write opt-outs to both systems: first what Campaign is to hold, then what Dynamics is.

Opt-outs pass budgets, blackout windows and the hold on large loads; only a privacy hold stops them. A person is decided
anew on what Campaign says at that moment wherever a mistake could cost an opt-out.
"""

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Event

from d365_campaign.binding import MODIFIED_ON, VERSION, BoundOptOuts
from d365_campaign.changes import RowOutcome, RowResult, RowUpdate
from d365_campaign.errors import RecordRejected, RetriableError, SyncError, UnknownOutcome
from d365_campaign.flows.deadline import Deadline
from d365_campaign.flows.ports import RecordTarget, RowTarget
from d365_campaign.opt_out import (
    OPT_OUT_WINS,
    CampaignWord,
    Decision,
    DynamicsWord,
    Standing,
    decide,
    read_campaign,
    read_dynamics,
    standings,
    to_second,
)
from d365_campaign.opt_out_changes import Decided, OpenOptOuts, Side, WriteBacks, Written
from d365_campaign.store.opt_outs import OptOutStore

log = logging.getLogger(__name__)

# People that are taken from the staging file at once, written, and settled in one transaction. Dynamics takes some
# hundreds at a time, so it needs several times as many to be kept busy.
WINDOWS: Mapping[Side, int] = {"campaign": 500, "dynamics": 2_000}
# How often a contact is decided anew because it changed in Dynamics meanwhile; then the next run goes on with it.
MOST_DECISIONS = 3
NO_LIMIT = sys.maxsize
SAMPLES = 5


def write_to_campaign(
    store: OptOutStore, target: RecordTarget, *, workers: int, deadline: Deadline, max_opt_ins: int = NO_LIMIT
) -> WriteBacks:
    """Read and, where they still differ, write the profiles of all open people. What is left is the next run's.

    Where opt-outs of more than *max_opt_ins* people would be taken back, none is; new ones are written all the same.
    Raises the error that stopped it after what had an answer by then was settled.
    """

    rule = _Rule(store.bound, takes_back=store.summary().opt_ins <= max_opt_ins)

    def written(people: Sequence[OpenOptOuts]) -> Iterator[Written | SyncError]:
        return _in_parallel(lambda person: _to_profile(rule, target, person), people, workers)

    return _run(store, "campaign", written, deadline)


def write_to_dynamics(
    store: OptOutStore,
    rows: RowTarget,
    target: RecordTarget,
    *,
    workers: int,
    deadline: Deadline,
    max_opt_ins: int = NO_LIMIT,
) -> WriteBacks:
    """Write the contacts of all open people, each only in the version that was decided on.

    Before a FALSE is written, Campaign's live word is read: a daily file is hours old; so it is before an opt-out is
    written over a later change of the contact. A contact that changed meanwhile is read and decided anew. Raises as
    `write_to_campaign`.
    """

    rule = _Rule(store.bound, takes_back=store.summary().opt_ins <= max_opt_ins)

    def written(people: Sequence[OpenOptOuts]) -> Iterator[Written | SyncError]:
        return _ToDynamics(rule, rows, target, workers).write(people)

    return _run(store, "dynamics", written, deadline)


def _run(
    store: OptOutStore,
    side: Side,
    write: Callable[[Sequence[OpenOptOuts]], Iterator[Written | SyncError]],
    deadline: Deadline,
) -> WriteBacks:
    started, tally, stopped_by = time.monotonic(), _Tally(side), None
    store.begin()
    while people := store.take(side, WINDOWS[side]):
        results = list(write(people))
        settled = [result for result in results if isinstance(result, Written)]
        store.settle(settled)
        tally.add(settled)
        errors = [result for result in results if isinstance(result, SyncError)]
        if not errors and settled and all(result.unknown for result in settled):
            told = f"opt-outs to {side}: no answer for any of {len(settled)} people, for instance {settled[0].key}."
            errors = [RetriableError(f"{told} They stay open, and the next run goes on with them.")]
        if errors:
            log.error("opt-outs to %s: stopped after %d people", side, tally.counts["people"])
            raise errors[0]
        if deadline.passed:
            stopped_by = "time"
            break
    return tally.summary(time.monotonic() - started, stopped_by)


class _Tally:
    def __init__(self, side: Side) -> None:
        self._side = side
        self.counts: Counter[str] = Counter()
        self._rejects: dict[str, str] = {}

    def add(self, results: Sequence[Written]) -> None:
        for result in results:
            written = [d for d in result.decided if d.written_to == self._side]
            self.counts["people"] += bool(written)
            for decided in written:
                self.counts["opted_out" if getattr(decided.decision, self._side) else "opted_in"] += 1
            self.counts["engine_calls"] += result.engine_calls
            for name in ("gone", "unknown"):
                self.counts[name] += getattr(result, name)
            if result.refused:
                self.counts["refused"] += 1
                self._rejects[result.key] = result.refused

    def summary(self, seconds: float, stopped_by: str | None) -> WriteBacks:
        rejects = dict(list(self._rejects.items())[:SAMPLES])
        return WriteBacks(**self.counts, seconds=seconds, stopped_by=stopped_by, rejects=rejects)


def _in_parallel(
    work: Callable[[OpenOptOuts], Written], people: Sequence[OpenOptOuts], workers: int
) -> Iterator[Written | SyncError]:
    """Results as they come. After an error nothing more is begun; who was not begun has no result."""
    stop = Event()

    def attempt(person: OpenOptOuts) -> Written | SyncError | None:
        if stop.is_set():
            return None
        try:
            return work(person)
        except SyncError as error:
            stop.set()
            return error

    with ThreadPoolExecutor(workers, thread_name_prefix="opt-outs") as pool:
        try:
            yield from (result for result in pool.map(attempt, people) if result is not None)
        finally:
            stop.set()


@dataclass(frozen=True, slots=True)
class _Rule:
    """How a run decides. Where it *takes_back* no opt-out, a decision for FALSE leaves both sides as they are."""

    bound: BoundOptOuts
    takes_back: bool

    def decide(
        self, campaign: CampaignWord, dynamics: DynamicsWord, news: frozenset[str]
    ) -> Mapping[str, tuple[Standing, Decision]]:
        sides = standings(self.bound.pairs, campaign, dynamics, news)
        return {name: (standing, self._decision(standing)) for name, standing in sides.items()}

    def _decision(self, standing: Standing) -> Decision:
        decision = decide(self.bound.direction, standing)
        if self.takes_back or (decision.campaign >= standing.campaign and decision.dynamics >= standing.dynamics):
            return decision
        return Decision(standing.campaign, standing.dynamics, decision.rule)


# --- Campaign ---------------------------------------------------------------------------------------------------------


def _to_profile(rule: _Rule, target: RecordTarget, person: OpenOptOuts) -> Written:
    """Bring one profile into step, by what it says now."""
    found = target.read(person.key)
    if found is None:
        return Written(person.key, engine_calls=1, gone=True)
    live = read_campaign(found.values, rule.bound.stamps)
    decided = rule.decide(live, person.dynamics, _news(person, live))
    wanted = {name: d.campaign for name, (s, d) in decided.items() if person.ours and d.campaign is not s.campaign}
    read = Written(person.key, engine_calls=1, seen=live, decided=_listed(decided, wanted, "campaign"))
    if not wanted:
        return read
    try:
        target.update(person.key, found, wanted)
    except RecordRejected as refusal:
        return replace(read, engine_calls=2, refused=str(refusal), decided=())
    except UnknownOutcome:
        unsettled = replace(read, engine_calls=3, unknown=True, decided=())
        try:
            again = target.read(person.key)
        except SyncError:
            return unsettled
        now = read_campaign(again.values, rule.bound.stamps) if again else live
        arrived = all(now.values.get(name) is value for name, value in wanted.items())
        return replace(read, engine_calls=3, seen=now) if arrived else replace(unsettled, seen=now)
    return replace(read, engine_calls=2, seen=live.after(wanted))


def _news(person: OpenOptOuts, live: CampaignWord) -> frozenset[str]:
    """Which opt-outs are news once Campaign's live word is known. A file may have told whole seconds only."""
    known = person.campaign
    return person.news | {
        name
        for name, value in live.values.items()
        if value is not known.values.get(name, value)
        or _second(live.stamps.get(name)) != _second(known.stamps.get(name))
    }


def _second(moment: datetime | None) -> datetime | None:
    return moment and to_second(moment)


def _listed(
    decided: Mapping[str, tuple[Standing, Decision]], written: Mapping[str, object], side: Side
) -> Sequence[Decided]:
    """What was *written*, and why, for the ledger."""
    return [
        Decided(name, standing, decision, side) for name, (standing, decision) in decided.items() if name in written
    ]


# --- Dynamics ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Case:
    """A person on the way to Dynamics: what is known by now, and the engine calls it took."""

    person: OpenOptOuts
    seen: CampaignWord | None = None
    row: Mapping[str, object] | None = None
    engine_calls: int = 0


class _ToDynamics:
    """One window of people, decided and written in rounds: who changed meanwhile comes into the next one."""

    def __init__(self, rule: _Rule, rows: RowTarget, target: RecordTarget, workers: int) -> None:
        self._rule, self._rows, self._target, self._workers = rule, rows, target, workers
        self._bound = rule.bound

    def write(self, people: Sequence[OpenOptOuts]) -> Iterator[Written | SyncError]:
        cases = [_Case(person) for person in people]
        for _ in range(MOST_DECISIONS):
            stale: list[_Case] = []
            for result in self._round(cases):
                if isinstance(result, _Case):
                    stale.append(result)
                else:
                    yield result
                    if isinstance(result, SyncError):
                        return
            cases = stale
        yield from (self._result(case) for case in cases)

    def _round(self, cases: Sequence[_Case]) -> Iterator[Written | SyncError | _Case]:
        """A result for each case, or the case again with the contact as it is now."""
        ready: dict[str, tuple[_Case, Mapping[str, tuple[Standing, Decision]], RowUpdate]] = {}
        for case in self._with_live_word(cases):
            if isinstance(case, Written | SyncError):
                yield case
                continue
            decided = self._decided(case)
            values = {
                pair.source: pair.column_value(decision.dynamics)
                for pair in self._bound.pairs
                for standing, decision in [decided[pair.target]]
                if decision.dynamics is not standing.dynamics
            }
            if values:
                ready[case.person.key] = case, decided, RowUpdate(case.person.key, case.person.version, values)
            else:
                yield self._result(case)
        try:
            for outcome in self._rows.update([update for _, _, update in ready.values()]):
                case, decided, update = ready[outcome.key]
                yield self._settled(case, decided, update, outcome)
        except SyncError as error:
            yield error

    def _with_live_word(self, cases: Sequence[_Case]) -> Iterator[Written | SyncError | _Case]:
        """The same cases; by what Campaign says now, where what is known of it may be too old to go by."""
        asked: dict[str, _Case] = {}
        for case in cases:
            if case.seen is None and any(_needs_live_word(*decided) for decided in self._decided(case).values()):
                asked[case.person.key] = case
            else:
                yield case
        results = _in_parallel(self._read_profile, [case.person for case in asked.values()], self._workers)
        for result in results:
            if isinstance(result, SyncError):
                yield result
                continue
            case = asked[result.key]
            if result.seen is None:
                yield replace(result, engine_calls=case.engine_calls + result.engine_calls)
                continue
            person = replace(case.person, campaign=result.seen, news=_news(case.person, result.seen))
            yield replace(case, person=person, seen=result.seen, engine_calls=case.engine_calls + 1)

    def _read_profile(self, person: OpenOptOuts) -> Written:
        found = self._target.read(person.key)
        seen = read_campaign(found.values, self._bound.stamps) if found else None
        return Written(person.key, engine_calls=1, seen=seen, gone=found is None)

    def _decided(self, case: _Case) -> Mapping[str, tuple[Standing, Decision]]:
        return self._rule.decide(case.person.campaign, case.person.dynamics, case.person.news)

    def _settled(
        self,
        case: _Case,
        decided: Mapping[str, tuple[Standing, Decision]],
        update: RowUpdate,
        outcome: RowOutcome,
    ) -> Written | _Case:
        written = {pair.target for pair in self._bound.pairs if pair.source in update.values}
        match outcome.result:
            case RowResult.DONE:
                listed = _listed(decided, dict.fromkeys(written), "dynamics")
                return replace(self._result(case), row=outcome.row, decided=listed)
            case RowResult.STALE:
                return self._read_again(case)
            case RowResult.REFUSED:
                return replace(self._result(case), refused=outcome.reason)
            case RowResult.UNKNOWN | RowResult.UNSENT:
                return replace(self._result(case), unknown=True)
            case _:
                return self._result(case)

    def _read_again(self, case: _Case) -> Written | _Case:
        """The case with the contact as it is now. Campaign's word is read anew too before a FALSE is written."""
        row = self._rows.read(case.person.key)
        if row is None:
            return self._result(case)
        dynamics = read_dynamics(row, self._bound.pairs, _moment(row.get(MODIFIED_ON)))
        version = int(str(row[VERSION]))
        return replace(case, person=replace(case.person, version=version, dynamics=dynamics), row=row, seen=None)

    def _result(self, case: _Case) -> Written:
        return Written(case.person.key, case.engine_calls, case.seen, case.row)


def _needs_live_word(standing: Standing, decision: Decision) -> bool:
    """Whether an opt-out would be taken back in Dynamics, or made there although the contact changed later than what is
    known of Campaign: whoever changed it may have opted in in both systems."""
    writes = decision.dynamics is not standing.dynamics
    return writes and (standing.dynamics or decision.rule == OPT_OUT_WINS)


def _moment(value: object) -> datetime | None:
    return datetime.fromisoformat(str(value)) if value else None
