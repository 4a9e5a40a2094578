"""Write one change to Campaign, and say what became of it.

What the outcome of a write is that got no answer is settled by reading the record back, never by inserting again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from threading import Lock

from d365_campaign.binding import BoundMapping
from d365_campaign.changes import Change, FoundRecord, Kind, Outcome, Result
from d365_campaign.errors import RecordHidden, RecordRejected, SyncError, UnknownOutcome
from d365_campaign.field_types import same_in_campaign, to_wire
from d365_campaign.flows.allowance import Allowance
from d365_campaign.flows.ports import RecordTarget
from d365_campaign.opt_out import CampaignWord, decide, read_campaign, standings
from d365_campaign.opt_out_changes import Decided


class AllowanceSpent(SyncError):
    """The next engine call would go over the budget, so it is not made."""


class _Units:
    """The units that new records of a table belong to. The first insert of all looks them up, at a call each."""

    def __init__(self, target: RecordTarget, names: Mapping[str, str]) -> None:
        self._target, self._names = target, names
        self._found: dict[str, object] = {}
        self._lock = Lock()

    def values(self, count_call: Callable[[], None]) -> Mapping[str, object]:
        """By link, what a new record is sent with."""
        with self._lock:
            for link, name in self._names.items():
                if link not in self._found:
                    count_call()
                    self._found[link] = self._target.unit(link, name)
            return self._found


class Writer:
    """Writes changes of one table. Of a change it keeps nothing, so workers share it.

    What a change costs by the formula was taken from the *allowance* by who sends it; every call beyond that is taken
    here.
    """

    def __init__(self, target: RecordTarget, table: BoundMapping, *, allowance: Allowance | None = None) -> None:
        self._target = target
        self._table = table
        self._allowance = allowance or Allowance()
        self._units = _Units(target, table.mapping.units)

    def write(self, change: Change) -> tuple[Outcome, SyncError | None]:
        """The outcome, and the error that should stop the whole run, if there was one."""
        attempt = _Attempt(self._target, self._table, self._units, change, self._allowance)
        try:
            return self._outcome(change, attempt)
        finally:
            self._allowance.give_back(max(0, change.engine_calls - attempt.calls))

    def _outcome(self, change: Change, attempt: "_Attempt") -> tuple[Outcome, SyncError | None]:
        try:
            kind, identical = attempt.run()
            outcome = Outcome(change.key, kind, Result.DONE, attempt.calls, identical)
            return replace(outcome, opt_outs=attempt.opt_outs, decided=attempt.decided), None
        except (RecordRejected, RecordHidden) as refusal:
            result = Result.REFUSED if isinstance(refusal, RecordRejected) else Result.DEFERRED
            fields = refusal.fields if isinstance(refusal, RecordRejected) else ()
            outcome = Outcome(change.key, change.kind, result, attempt.calls, reason=str(refusal), fields=fields)
            return replace(outcome, opt_outs=attempt.opt_outs), None
        except UnknownOutcome as doubt:
            return Outcome(change.key, change.kind, Result.UNKNOWN, attempt.calls, reason=str(doubt)), None
        except SyncError as error:
            result = Result.UNKNOWN if attempt.sent_without_answer else Result.UNSENT
            outcome = Outcome(change.key, change.kind, result, attempt.calls, reason=str(error))
            return outcome, None if isinstance(error, AllowanceSpent) else error


class _Attempt:
    """One change on its way, and the engine calls it has taken so far."""

    def __init__(
        self, target: RecordTarget, table: BoundMapping, units: _Units, change: Change, allowance: Allowance
    ) -> None:
        self._target = target
        self._table = table
        self._units = units
        self._change = change
        self._allowance = allowance
        self.calls = 0
        self.sent_without_answer = False
        # What Campaign says of opt-outs, once it was read or written.
        self.opt_outs: CampaignWord | None = None
        self.decided: Sequence[Decided] = ()

    def run(self) -> tuple[Kind, bool]:
        """Do it. Returns what was done in the end, and whether Campaign held the desired values already."""
        match self._change.kind:
            case Kind.DELETE:
                return self._delete()
            case Kind.INSERT if self._table.mapping.key.declared_unique:
                return self._insert()
            case kind:
                return self._bring_into_step(kind)

    def _delete(self) -> tuple[Kind, bool]:
        try:
            self._count_call()
            was_there = self._target.delete(self._change.key)
        except UnknownOutcome:
            if self._read_back() is not None:
                raise
        else:
            if not was_there and self._table.may_hide:
                raise RecordHidden(
                    f"Campaign {self._table.target.name} {self._change.key}: there is nothing to delete, or it is "
                    "hidden while the record that its link leads to is missing."
                )
        return Kind.DELETE, False

    def _insert(self) -> tuple[Kind, bool]:
        try:
            self._create()
        except RecordRejected as refusal:
            if not refusal.duplicate_key:
                raise
            return self._adopt(refusal)
        return Kind.INSERT, False

    def _adopt(self, refusal: RecordRejected) -> tuple[Kind, bool]:
        found = self._read()
        if found is None:
            raise RecordHidden(
                f"{refusal} Yet it can't be read: it is hidden until the record that its link leads to exists."
            ) from refusal
        self._refuse_to_adopt()
        return Kind.ADOPT, self._patch(found)

    def _refuse_to_adopt(self) -> None:
        if self._table.mapping.adopt_existing == "never":
            raise RecordRejected(
                f"Campaign {self._table.target.name} {self._change.key}: it is there already, and adopt_existing is "
                "never. Delete it in Campaign, or set adopt_existing to by_key."
            )

    def _bring_into_step(self, kind: Kind) -> tuple[Kind, bool]:
        found = self._read()
        if found is None:
            return self._insert()
        if kind is Kind.INSERT:
            self._refuse_to_adopt()
        return (Kind.ADOPT if kind is Kind.INSERT else kind), self._patch(found)

    def _create(self) -> None:
        values = {
            name: value
            for name, value in self._wire(self._change.values).items()
            if self._change.values[name] is not None
        }
        decided = self._decided(CampaignWord({}))
        opt_outs = _written(decided)
        fixed = {**self._table.mapping.constants, **self._units.values(self._count_call)}
        try:
            self._count_call()
            made = self._target.create(self._change.key, {**fixed, **values, **opt_outs})
        except UnknownOutcome:
            found = self._read_back()
            if found is None:
                raise
            self.decided = decided
            self._patch(found)
        else:
            self.decided = decided
            if kept := self._table.opt_outs:
                self.opt_outs = read_campaign({**(made or {}), **opt_outs}, kept.stamps)

    def _patch(self, found: FoundRecord) -> bool:
        """Write what differs from *found*; True when nothing does."""
        decided = self._decided(self.opt_outs) if self.opt_outs else ()
        differing = {**self._wire(self._differing(found)), **_written(decided)}
        if not differing:
            return True
        try:
            self._count_call()
            self._target.update(self._change.key, found, differing)
        except UnknownOutcome:
            again = self._read_back()
            if again is None or self._differing(again) or (self.opt_outs and self._decided(self.opt_outs)):
                raise
        if self.opt_outs:
            self.opt_outs = self.opt_outs.after(_written(decided))
        self.decided = (*self.decided, *decided)
        return False

    def _decided(self, campaign: CampaignWord) -> Sequence[Decided]:
        """The opt-outs to write along where Campaign says *campaign*; of a record that isn't there yet, it says FALSE.

        No FALSE is: of an insert, its fresh time could later outrank an opt-out in Dynamics, and what is taken back of
        others is written by `flows.opt_outs`, where a guard watches over it.
        """
        kept = self._table.opt_outs
        if kept is None or self._change.opt_outs is None:
            return ()
        sides = standings(kept.pairs, campaign, self._change.opt_outs)
        decided = [Decided(name, side, decide(kept.direction, side), "campaign") for name, side in sides.items()]
        return [d for d in decided if d.decision.campaign and not d.standing.campaign]

    def _differing(self, found: FoundRecord) -> Mapping[str, object]:
        """The values to write over a record that is there; what is withheld from later updates is left as it is."""
        desired, may_be_sent = self._change.values, self._change.changed
        return {
            f.target.name: desired[f.target.name]
            for f in self._table.fields
            if f.mapping.apply_updates or may_be_sent is None or f.target.name in may_be_sent
            if not same_in_campaign(
                desired[f.target.name], found.values.get(f.target.name), f.target.type, f.target.data_policy
            )
        }

    def _wire(self, values: Mapping[str, object]) -> dict[str, object]:
        return {
            f.target.name: to_wire(values[f.target.name], f.target.type)
            for f in self._table.fields
            if f.target.name in values
        }

    def _read(self) -> FoundRecord | None:
        self._count_call()
        found = self._target.read(self._change.key)
        if found is not None and self._table.opt_outs is not None:
            self.opt_outs = read_campaign(found.values, self._table.opt_outs.stamps)
        return found

    def _read_back(self) -> FoundRecord | None:
        self.sent_without_answer = True
        return self._read()

    def _count_call(self) -> None:
        if self.calls >= self._change.engine_calls and not self._allowance.take(1):
            raise AllowanceSpent("The engine-call budget is spent.")
        self.calls += 1


def _written(decided: Sequence[Decided]) -> dict[str, bool]:
    return {d.attribute: d.decision.campaign for d in decided}
