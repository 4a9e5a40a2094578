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
from tests.builders import CHANGES, bound, contact, page
from tests.stand_ins import Campaign, Fault

KEYS = ["c1", "c2", "c3", "c4"]
FIRST_NAME, EMAIL, CITY = ("firstname", "firstName"), ("emailaddress1", "email"), ("firstname", "location.city")
MAPPINGS = [
    bound(FIRST_NAME),
    bound(FIRST_NAME, EMAIL),
    bound(FIRST_NAME, CITY),
    bound(FIRST_NAME, EMAIL, apply_deletes=False),
]

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
        self.store.note_existing(iter([existing]))

    def pull(self, news: Mapping[str, str | None]) -> None:
        """Dynamics reports *news*, where "gone" is a deletion; all it holds, when a full read is due."""
        self.happen(news)
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

    def plan(self, everything: bool) -> None:
        self.store.plan(everything=everything)
        assert self.open() == dict(self.expected()), "the change set is what a fresh comparison says"

    def write(self, befalls: Sequence[Befall], killed: bool) -> None:
        """A run over some of what is open; when it is *killed*, nothing of it is settled."""
        if self.store.book_unsettled() or not self.store.planned:
            self.plan(everything=False)
        changes = self.store.pending(len(befalls))
        self.store.claim(changes)
        outcomes = [self.written(change, befall) for change, befall in zip_longest(changes, befalls[: len(changes)])]
        if not killed:
            self.store.settle(outcomes)

    def written(self, change: Change, befall: Befall) -> Any:
        met = {(operation, change.key): FAULTS[befall] for operation in ("create", "update", "delete")}
        campaign = Campaign(self.campaign.records, met)
        fields = [f.target for f in self.store.table.fields]
        return Writer(campaign, fields, declared_unique=True).write(change)[0]

    def open(self) -> dict[str, tuple[str, list[str] | None]]:
        rows = self.connection.execute('select key, kind, changed from "contact"."change_set"').fetchall()
        assert len({key for key, *_ in rows}) == len(rows), "a record has one change"
        return {key: (kind, changed) for key, kind, changed in rows}

    def expected(self) -> Iterator[tuple[str, tuple[str, list[str] | None]]]:
        """The same in plain Python, from what both sides hold."""
        deletes = self.store.table.mapping.apply_deletes and self.store.reading.phase == "changes"
        desired, mirror = self.rows("desired"), self.rows("mirror")
        in_doubt, existing = self.keys("in_flight"), self.keys("existing")
        for key in sorted({*desired, *mirror, *in_doubt}):
            changed = [name for name, value in desired.get(key, {}).items() if value != mirror.get(key, {}).get(name)]
            if key not in desired:
                if deletes:
                    yield key, (Kind.DELETE, None)
            elif key in in_doubt:
                yield key, (Kind.ADOPT, None)
            elif key not in mirror:
                yield key, (Kind.ADOPT if key in existing else Kind.INSERT, None)
            elif changed:
                yield key, (Kind.UPDATE, changed)

    def rows(self, relation: str) -> dict[str, dict[str, object]]:
        names = [f.target.name for f in self.store.table.fields]
        columns = ", ".join(f'"{name}"' for name in names)
        rows = self.connection.execute(f'select "externalId", {columns} from "contact"."{relation}"').fetchall()
        return {key: dict(zip(names, values, strict=True)) for key, *values in rows}

    def keys(self, relation: str) -> set[str]:
        return {key for (key,) in self.connection.execute(f'select key from "contact"."{relation}"').fetchall()}

    def drain(self) -> None:
        """Everything goes well from now on, and deletes are applied."""
        self.remap(1)
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
                held = history.campaign.records[key].get("firstName")
                assert (held or None) == history.dynamics[key], "Campaign holds what Dynamics does"
            elif key not in existing:
                assert key not in history.campaign.records, "what Dynamics deleted is not left behind"
