"""Whatever happens in whatever order: the change set is what a fresh comparison says, and it drains to equality."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any, Literal

import duckdb
from hypothesis import example, given, settings
from hypothesis import strategies as st

from d365_campaign.changes import Change, Kind
from d365_campaign.errors import RecordRejected, RetriableError, UnknownOutcome
from d365_campaign.flows.write import Writer
from d365_campaign.store.staging import Staging
from d365_campaign.store.table_store import Replay
from tests.builders import CHANGES, bound, contact, page
from tests.stand_ins import Campaign, Fault

KEYS = ["c1", "c2", "c3", "c4"]
FIRST_NAME, EMAIL, CITY = ("firstname", "firstName"), ("emailaddress1", "email"), ("firstname", "location.city")
NOT_BOB = {"conditions": [{"source": "firstname", "comparison": "not_equals", "value": "Bob"}]}
MAPPINGS = [
    bound(FIRST_NAME),
    bound(FIRST_NAME, EMAIL),
    bound(FIRST_NAME, CITY),
    bound(FIRST_NAME, EMAIL, apply_deletes=False),
    bound(FIRST_NAME, EMAIL, first_load_only=["email"]),
    bound(FIRST_NAME, EMAIL, filter=NOT_BOB, delete_filtered_out=True),
    bound(FIRST_NAME, EMAIL, filter=NOT_BOB),
    bound(FIRST_NAME, EMAIL, filter=NOT_BOB, delete_filtered_out=True, apply_deletes=False),
]
LAST = 1  # every record, every change, and deletes: what a history ends with

Befall = Literal["done", "refused", "lost", "landed", "unsent"]
FAULTS: Mapping[Befall, Sequence[Fault]] = {
    "done": (),
    "refused": (Fault(RecordRejected("refused")),),
    "lost": (Fault(UnknownOutcome("no answer")),),
    "landed": (Fault(UnknownOutcome("no answer"), lands=True),),
    "unsent": (Fault(RetriableError("busy")),),
}


class History:
    """Dynamics and Campaign as dictionaries, and the staging file between them."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, existing: Sequence[str]) -> None:
        self.connection = connection
        self.staging = Staging(connection)
        self.store = self.staging.table(MAPPINGS[0])
        self.dynamics: dict[str, str | None] = {}
        self.campaign = Campaign({key: {"firstName": "of old"} for key in existing})
        self.held: set[str] = set()

    def pull(self, news: Mapping[str, str | None]) -> None:
        """Dynamics reports *news*, where "gone" is a deletion; all it holds, when a full read is due."""
        self.happen(news)
        self.store.take_up_replay()
        full = self.store.reading.phase == "full"
        rows = self.dynamics if full else {key: name for key, name in self.dynamics.items() if key in news}
        removed = [] if full else [key for key in news if key not in self.dynamics]
        people = [contact(key, firstname=name, emailaddress1=f"{name}@x.org") for key, name in rows.items()]
        self.store.absorb(
            page(self.store.table, *people, removed=removed),
            replace(CHANGES, generation=self.store.reading.generation),
        )

    def expire(self, news: Mapping[str, str | None]) -> None:
        """Dynamics forgot our delta token, and what happened since it doesn't report."""
        self.store.read_everything_again()
        self.happen(news)

    def happen(self, news: Mapping[str, str | None]) -> None:
        for key, name in news.items():
            if name == "gone":
                self.dynamics.pop(key, None)
            else:
                self.dynamics[key] = name

    def remap(self, number: int) -> None:
        self.store = self.staging.table(MAPPINGS[number])

    def replay(self, forced: bool) -> None:
        """Someone asks for a replay; the next pull takes it up."""
        mode = Replay.FORCED if forced else Replay.DIFFERENCES
        self.connection.execute("update main.table_mapping set replay_requested = $1", [mode.value])

    def hold(self, key: str) -> None:
        self.staging.privacy.hold(key, by="officer")
        self.held.add(key)

    def release(self, key: str) -> None:
        self.staging.privacy.release(key)
        self.held.discard(key)

    def plan(self, everything: bool) -> None:
        if not self.store.scanned:
            fields = [f.target.name for f in self.store.table.fields]
            self.store.note_existing(self.campaign.records(fields))
        self.store.plan(everything=everything)
        assert self.open() == dict(self.expected()), "the change set is what a fresh comparison says"

    def write(self, befalls: Sequence[Befall], killed: bool) -> None:
        """A run over some of what is open; when it is *killed*, nothing of it is settled."""
        if self.store.book_unsettled() or not self.store.planned:
            self.plan(everything=False)
        self.store.begin_writing()
        changes = self.store.take_window(len(befalls))
        assert not {change.key for change in changes} & self.held, "nothing touches a record on hold"
        self.store.claim(changes)
        outcomes = [self.written(change, befall) for change, befall in zip_longest(changes, befalls[: len(changes)])]
        if not killed:
            self.store.settle(outcomes)

    def written(self, change: Change, befall: Befall) -> Any:
        met = {(operation, change.key): FAULTS[befall] for operation in ("create", "update", "delete")}
        campaign = Campaign(self.campaign.held, met)
        return Writer(campaign, self.store.table).write(change)[0]

    def open(self) -> dict[str, tuple[str, list[str] | None]]:
        rows = self.connection.execute('select key, kind, changed from "contact"."change_set"').fetchall()
        assert len({key for key, *_ in rows}) == len(rows), "a record has one change"
        return {key: (kind, changed) for key, kind, changed in rows}

    def expected(self) -> Iterator[tuple[str, tuple[str, list[str] | None]]]:
        """The same in plain Python, from what both sides hold."""
        table = self.store.table
        deletes = self.store.reading.phase == "changes"
        desired, mirror, snapshot = self.rows("desired"), self.rows("mirror"), self.keys("snapshot", "contactid")
        in_doubt, existing, replayed = self.keys("in_flight"), self.keys("existing", "externalId"), self.replayed()
        applied = [f.target.name for f in table.fields if f.mapping.apply_updates]
        for key in sorted({*desired, *mirror, *in_doubt}):
            differing = [name for name, value in desired.get(key, {}).items() if value != mirror.get(key, {}).get(name)]
            changed = differing if key in replayed else [name for name in differing if name in applied]
            if key not in desired:
                gone = table.mapping.delete_filtered_out if key in snapshot and table.mapping.filter else None
                if deletes and (table.mapping.apply_deletes if gone is None else gone):
                    yield key, (Kind.DELETE, None)
            elif key in in_doubt:
                yield key, (Kind.ADOPT, applied if key in mirror else None)
            elif key not in mirror:
                yield key, (Kind.INSERT, None)
            elif (changed and key in existing) or replayed.get(key):
                yield key, (Kind.ADOPT, None)
            elif changed:
                yield key, (Kind.UPDATE, changed)

    def replayed(self) -> dict[str, bool]:
        """Key to whether it is forced."""
        return dict(self.connection.execute('select key, forced from "contact"."replay"').fetchall())

    def rows(self, relation: str) -> dict[str, dict[str, object]]:
        names = [f.target.name for f in self.store.table.fields]
        columns = ", ".join(f'"{name}"' for name in names)
        rows = self.connection.execute(f'select "externalId", {columns} from "contact"."{relation}"').fetchall()
        return {key: dict(zip(names, values, strict=True)) for key, *values in rows}

    def keys(self, relation: str, column: str = "key") -> set[str]:
        return {key for (key,) in self.connection.execute(f'select "{column}" from "contact"."{relation}"').fetchall()}

    def drain(self) -> None:
        """Everything goes well from now on, every record takes part, and deletes are applied."""
        for key in KEYS:
            self.release(key)
        self.remap(LAST)
        self.pull({})
        self.plan(everything=False)
        self.write(["done"] * len(KEYS), killed=False)
        self.plan(everything=True)


NEWS = st.dictionaries(
    st.sampled_from(KEYS), st.sampled_from(["Ada", "Bob", None, "gone", "gone"]), min_size=1, max_size=3
)
BEFALLS = st.lists(st.sampled_from(["done", "done", "refused", "lost", "landed", "unsent"]), min_size=1, max_size=4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pull"), NEWS),
        st.tuples(st.just("pull"), NEWS),
        st.tuples(st.just("plan"), st.booleans()),
        st.tuples(st.just("write"), BEFALLS, st.booleans()),
        st.tuples(st.just("write"), BEFALLS, st.just(False)),
        st.tuples(st.just("expire"), NEWS),
        st.tuples(st.just("remap"), st.integers(0, len(MAPPINGS) - 1)),
        st.tuples(st.just("replay"), st.booleans()),
        st.tuples(st.just("hold"), st.sampled_from(KEYS)),
        st.tuples(st.just("release"), st.sampled_from(KEYS)),
    ),
    min_size=5,
    max_size=12,
)


@given(steps=STEPS, existing=st.lists(st.sampled_from(KEYS), unique=True, max_size=2))
@example(  # an insert whose answer got lost, not sent again for want of time, its record deleted meanwhile
    steps=[
        ("pull", {"c1": "Ada"}),
        ("write", ["landed"], True),
        ("write", ["unsent"], False),
        ("pull", {"c1": "gone"}),
    ],
    existing=[],
)
@example(  # an update whose answer got lost, and that was undone meanwhile
    steps=[
        ("pull", {"c1": "Ada"}),
        ("write", ["done"], False),
        ("pull", {"c1": "Bob"}),
        ("write", ["landed"], True),
        ("pull", {"c1": "Ada"}),
    ],
    existing=[],
)
@example(  # what is read after a plan is part of the next
    steps=[("pull", {"c1": "Ada"}), ("plan", False), ("pull", {"c1": "gone", "c2": "Bob"}), ("plan", False)],
    existing=[],
)
@example(  # what no longer passes the filter stays, and what Dynamics deleted goes
    steps=[
        ("remap", 6),
        ("pull", {"c1": "Ada", "c2": "Ada"}),
        ("write", ["done", "done"], False),
        ("pull", {"c1": "Bob", "c2": "gone"}),
        ("plan", False),
        ("plan", True),
    ],
    existing=[],
)
@settings(max_examples=30, deadline=None)
def test_change_set_is_always_right_and_drains_to_equality(steps: list[Any], existing: list[str]) -> None:
    with duckdb.connect() as connection:
        history = History(connection, existing)
        for name, *arguments in steps:
            getattr(history, name)(*arguments)
        history.drain()

        resting = history.keys("reject")
        assert history.open().keys() == resting
        assert history.rows("mirror").keys() - resting == history.dynamics.keys() - resting
        for key in KEYS:
            if key in resting:
                continue
            if key in history.dynamics:
                held = history.campaign.held[key].get("firstName")
                assert (held or None) == history.dynamics[key], "Campaign holds what Dynamics does"
            elif key not in existing:
                assert key not in history.campaign.held, "what Dynamics deleted is not left behind"
