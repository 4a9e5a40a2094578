"""Anything that people, both systems and the network may do, in any order, against the real flows and the sandbox."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from d365_campaign.changes import Replay
from d365_campaign.opt_out import OptOutDirection
from tests.opt_outs.model import ARRIVALS, opted_out
from tests.opt_outs.world import POINTS, World

KEYS = [f"00000000-0000-4000-8000-00000000000{number}" for number in (1, 2)]
DAY = 86_400
RUN = ("pull", "files", "compare", "to_campaign", "to_dynamics", "sync")
RUNS_TO_REST = 3
STEPS = 15

# Which opt-outs a person changes at once, by the number of the pair; none of them: something else of the record.
EDITS = st.sampled_from(
    [
        {number: value for number, value in enumerate(values) if value is not None}
        for values in product((None, True, False), repeat=3)
    ]
)
KEY = st.sampled_from(KEYS)
POINT = st.sampled_from([*POINTS, *POINTS, *POINTS, *range(50)])
# Whole seconds are what decides; five minutes are what clocks may differ by.
AFTER = st.sampled_from([0.0, 0.4, 1.0, 2.0, 20.0, 400.0])
EDIT = st.tuples(st.sampled_from(["edit_contact", "edit_profile"]), EDITS, AFTER)  # of whom the point is about
RACES = st.dictionaries(st.sampled_from([POINTS[0], *POINTS]), EDIT, min_size=1, max_size=2)
TROUBLE = st.dictionaries(POINT, st.one_of(st.just(("kill",)), EDIT), min_size=1, max_size=2)
BEFALLS = st.one_of(st.just({}), RACES, RACES, TROUBLE)
DIRECTIONS = st.sampled_from(
    [OptOutDirection.BIDIRECTIONAL] * 6 + [OptOutDirection.CAMPAIGN_TO_DYNAMICS, OptOutDirection.DYNAMICS_TO_CAMPAIGN]
)
EXPORT_FAULTS = [None, None, "late", "out_of_order", "duplicate", "late", "out_of_order", "empty", "header_only", "cut"]
EXPORT_FAULTS += ["uploading", "renamed_columns", "bad_times", "wrong_encoding", "lost"]
THROTTLED = {"status": 429, "retry_after": 0}
FAULTS: Mapping[str, Mapping[str, Any]] = {
    "Campaign throttles": {"system": "campaign", "body": {"error_code": "429050"}, **THROTTLED},
    "Campaign drops a request": {"system": "campaign", "reset": True},
    "Campaign's answer to a write is lost": {"system": "campaign", "method": "PATCH", "lose_answer": True},
    "Campaign's answer to an insert is lost": {"system": "campaign", "method": "POST", "lose_answer": True},
    "Campaign is unavailable": {"system": "campaign", "status": 503},
    "Dynamics throttles": {"system": "dataverse", "body": {"error": {"code": "0x80072322"}}, **THROTTLED},
    "Dynamics drops a request": {"system": "dataverse", "reset": True},
    "Dynamics' answer to a write is lost": {"system": "dataverse", "method": "POST", "lose_answer": True},
    "Dynamics throttles a part": {
        "system": "dataverse",
        "in_batch": True,
        "body": {"error": {"code": "0x80072322"}},
        **THROTTLED,
    },
    "Dynamics finds another version": {
        "system": "dataverse",
        "in_batch": True,
        "status": 412,
        "body": {"error": {"code": "0x80060882"}},
    },
    "a part of Dynamics fails": {"system": "dataverse", "in_batch": True, "status": 503},
}


class OptOutMachine(RuleBasedStateMachine):
    """One sequence: an integration from its first run on, and all that may happen to it."""

    def __init__(self, world: World, *, ssh: bool = False) -> None:
        super().__init__()
        self.ssh = ssh
        self.world, self.sandbox, self.journal = world, world.sandbox, world.journal
        self.names = 0
        self.deleted_profiles: set[str] = set()
        self.rested = False  # once in the middle of a sequence, at most
        world.counts["steps"] -= 1  # how it begins is none

    def done(self) -> None:
        self.world.counts["steps"] += 1

    # --- how it begins

    @initialize(
        direction=DIRECTIONS,
        skew=st.sampled_from([0, 0, 0, 300, -300, 7, -7]),
        push_stamp=st.booleans(),
        seconds_only=st.sampled_from([False, False, True]),
        contacts=st.dictionaries(KEY, EDITS, min_size=1, max_size=2),
        profiles=st.dictionaries(KEY, EDITS, max_size=2),
        first_run=st.sampled_from([True, True, True, False]),
    )
    def begin(
        self,
        direction: OptOutDirection,
        skew: int,
        push_stamp: bool,
        seconds_only: bool,
        contacts: Mapping[str, Mapping[int, bool]],
        profiles: Mapping[str, Mapping[int, bool]],
        first_run: bool,
    ) -> None:
        self.world.begin(
            direction,
            ssh=self.ssh,
            campaign_clock_skew_seconds=float(skew),
            export_push_stamp=push_stamp,
            export_seconds_only=seconds_only,
        )
        for key, values in profiles.items():
            self._create_profile(key, values)
        for key, values in contacts.items():
            self._create_contact(key, values)
        if first_run:
            self._step(RUN, {})

    # --- what people do

    @rule(key=KEY, values=EDITS, after=AFTER)
    def edit_contact(self, key: str, values: Mapping[int, bool], after: float) -> None:
        self.sandbox.advance_clock(after)
        if self.journal.contact(key) is None:
            self._create_contact(key, values)
        else:
            self._edit_contact(key, values)

    @rule(key=KEY, values=EDITS, after=AFTER)
    def edit_profile(self, key: str, values: Mapping[int, bool], after: float) -> None:
        self.sandbox.advance_clock(after)
        if self.journal.profile(key) is None:
            self._create_profile(key, values)
        else:
            self._edit_profile(key, values)

    @rule(key=KEY, in_dynamics=st.booleans())
    def delete(self, key: str, in_dynamics: bool) -> None:
        if in_dynamics and self.journal.contact(key) is not None:
            self.sandbox.dataverse.delete("contact", key)
        elif not in_dynamics and self.journal.profile(key) is not None:
            self.sandbox.campaign.delete("profile", key)
            self.deleted_profiles.add(key)

    @rule(seconds=st.sampled_from([3600, DAY, 8 * DAY]))
    def wait(self, seconds: float) -> None:
        self.sandbox.advance_clock(seconds)

    # --- what befalls both systems

    @rule(fault=st.sampled_from(EXPORT_FAULTS), seconds=st.sampled_from([1, 5, DAY]))
    def export(self, fault: str | None, seconds: float) -> None:
        if fault is not None:
            self.sandbox.add_export_fault(kind=fault, seconds=float(seconds))
            self.world.counts["faulty files"] += 1
        self.sandbox.export_opt_outs()

    @rule(
        fault=st.sampled_from(sorted(FAULTS)),
        skip=st.integers(0, 3),
        times=st.sampled_from([1, 1, 2, 4]),
    )
    def fault(self, fault: str, skip: int, times: int) -> None:
        self.sandbox.add_fault(**FAULTS[fault], skip=skip, times=times)
        self.world.counts["faults"] += 1

    @rule(
        what=st.sampled_from(["tokens expire", "delta tokens expire", "replay", "forced replay", "another process"]),
    )
    def upset(self, what: str) -> None:
        happening: Mapping[str, Callable[[], object]] = {
            "tokens expire": self.sandbox.expire_tokens,
            "delta tokens expire": self.sandbox.expire_delta_tokens,
            "replay": lambda: self.world.replay(Replay.DIFFERENCES),
            "forced replay": lambda: self.world.replay(Replay.FORCED),
            "another process": self.world.close,
        }
        happening[what]()

    # --- what the integration does

    @rule(exported=st.booleans())
    def run(self, exported: bool) -> None:
        if exported:
            self.sandbox.export_opt_outs()
        self._step(RUN, {})

    @rule(
        key=KEY,
        values=EDITS,
        arrives=st.sampled_from([None, *ARRIVALS]),
        seconds=st.sampled_from([3, 30, DAY]),
        befalls=BEFALLS,
    )
    def news_of_campaign(
        self,
        key: str,
        values: Mapping[int, bool],
        arrives: str | None,
        seconds: float,
        befalls: Mapping[int | str, tuple[Any, ...]],
    ) -> None:
        """What happens most, in a row: somebody decides otherwise, it is exported, and a run takes it up."""
        self.edit_profile(key=key, values=values, after=2.0)
        self.export(fault=arrives, seconds=seconds)
        self._step(RUN, befalls)

    @rule(key=KEY, values=EDITS, befalls=BEFALLS)
    def news_of_dynamics(
        self, key: str, values: Mapping[int, bool], befalls: Mapping[int | str, tuple[Any, ...]]
    ) -> None:
        self.edit_contact(key=key, values=values, after=2.0)
        self._step(RUN, befalls)

    @rule(point=POINT)
    def run_until_it_is_killed(self, point: int | str) -> None:
        self._step(RUN, {point: ("kill",)})

    @rule(names=st.sampled_from([RUN[:1], RUN[1:2], RUN[2:3], RUN[2:4], RUN[2:5], RUN[5:]]), befalls=BEFALLS)
    def some_steps(self, names: Sequence[str], befalls: Mapping[int | str, tuple[Any, ...]]) -> None:
        self._step(names, befalls)

    @rule()
    def come_to_rest_for_a_while(self) -> None:
        """Once in a sequence, at most: it takes as long as anything."""
        if not self.rested:
            self.come_to_rest()

    def come_to_rest(self) -> None:
        """Everything that went wrong is over, and nobody does anything."""
        self.rested = True
        self.sandbox.clear_faults()
        self.sandbox.campaign.opt_out_export.faults.clear()
        self.sandbox.advance_clock(2 * DAY)
        self.world.export_everything()
        self.sandbox.advance_clock(1)
        to_come = self.journal.standing(KEYS)
        for _ in range(RUNS_TO_REST):
            if not self._calls_of_a_run():
                break
        else:
            calls = self._calls_of_a_run()
            self.journal.wrong(f"after {RUNS_TO_REST} runs there still are calls: {', '.join(calls)}")
        self._compare_with(to_come)
        self.journal.rested()
        self.world.counts["times at rest"] += 1

    # --- what must hold

    @invariant()
    def nothing_is_wrong(self) -> None:
        self.done()
        assert not self.journal.violations, "\n".join(self.journal.violations)

    def teardown(self) -> None:
        if not self.journal.violations:
            self.come_to_rest()
            self.nothing_is_wrong()

    def _compare_with(self, to_come: Mapping[tuple[str, str], bool | None]) -> None:
        for key in KEYS:
            contact, profile = self.journal.contact(key), self.journal.profile(key)
            if contact is None:
                continue
            if profile is None:
                if key not in self.deleted_profiles:
                    self.journal.wrong(f"{key} never became a profile")
                continue
            for pair in self.journal.pairs:
                campaign, dynamics = bool(profile[pair[1]]), opted_out(pair, contact)
                wanted = to_come.get((key, pair[1]))
                told = f"{pair[1]} of {key}: Campaign says {campaign}, Dynamics {dynamics}"
                if wanted is not None and (campaign is not wanted or dynamics is not wanted):
                    self.journal.wrong(f"at rest {told}; both are to say {wanted}")
                if self.world.direction is OptOutDirection.BIDIRECTIONAL and campaign is not dynamics:
                    self.journal.wrong(f"at rest {told}; they are to say the same")

    def _calls_of_a_run(self) -> Sequence[str]:
        """What a run has to do: calls to Campaign, and anything but reading changes in Dynamics."""
        self.sandbox.clear_calls()
        if not self._step(RUN, {}):
            self.journal.wrong("a run failed, although nothing was wrong any more")
        calls = [*self.sandbox.calls("campaign"), *(c for c in self.sandbox.calls("dataverse") if c.method != "GET")]
        return [f"{call.method} {call.path}" for call in calls]

    # --- how

    def _create_contact(self, key: str, values: Mapping[int, bool]) -> None:
        self.names += 1
        self.sandbox.dataverse.create(
            "contact", {"contactid": key, "firstname": f"Ada {self.names}", **self._columns(values)}
        )

    def _edit_contact(self, key: str, values: Mapping[int, bool]) -> None:
        self.names += 1
        if self.journal.contact(key) is not None:
            changed = self._columns(values) or {"firstname": f"Ada {self.names}"}
            self.sandbox.dataverse.update("contact", key, changed)

    def _columns(self, values: Mapping[int, bool]) -> dict[str, bool]:
        """*values* are opt-outs."""
        return {
            source: values[number] is not invert
            for number, (source, _, invert) in enumerate(self.journal.pairs)
            if number in values
        }

    def _create_profile(self, key: str, values: Mapping[int, bool]) -> None:
        self.sandbox.campaign.create("profile", {"externalId": key, "lastName": "Before", **self._attributes(values)})

    def _edit_profile(self, key: str, values: Mapping[int, bool]) -> None:
        if self.journal.profile(key) is not None:
            self.sandbox.campaign.update("profile", key, self._attributes(values) or {"lastName": "After"})

    def _attributes(self, values: Mapping[int, bool]) -> dict[str, bool]:
        return {self.journal.pairs[number][1]: value for number, value in values.items()}

    def _step(self, names: Sequence[str], befalls: Mapping[int | str, tuple[Any, ...]]) -> bool:
        happenings = {point: self._happening(*befall) for point, befall in befalls.items()}
        ended = self.world.step(names, happenings)
        self.journal.begun = self.journal.begun or (ended and "compare" in names)
        return ended

    def _happening(self, kind: str, *arguments: Any) -> Callable[[str | None], object]:
        if kind == "kill":
            return self.world.course.kill
        edit = {"edit_contact": self._edit_contact, "edit_profile": self._edit_profile}[kind]
        values, after = arguments

        def happens(key: str | None) -> None:
            self.sandbox.advance_clock(after)
            edit(key or KEYS[0], values)

        return happens


def check(world: World, sequences: int, *, seed: int, steps: int = STEPS, ssh: bool = False) -> None:
    """Try so many sequences; the same *seed* makes the same ones. Raises what the shortest that fails comes to."""

    @seeded(seed)
    def machine() -> OptOutMachine:
        return OptOutMachine(world, ssh=ssh)

    chosen = settings(
        max_examples=sequences,
        stateful_step_count=steps,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)
