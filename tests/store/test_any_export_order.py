"""Whatever order daily files come in, and however often: what holds in the end is what the latest of them says."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d365_campaign.opt_out import CampaignWord
from d365_campaign.store.staging import open_staging
from d365_campaign.store.table_store import TableStore
from tests.opt_out_exports import EXPORTS, content, in_doubt, lines, people, read_in, row, told

BEGIN = datetime(2026, 5, 1, 10)
ATTRIBUTES = ("blackListEmail", "blackListPhone")
NUMBERS = count()


@dataclass(frozen=True)
class Snapshot:
    """What Campaign says of a profile at one moment: of each opt-out its value, and when it changed."""

    at: datetime
    values: tuple[bool, bool]
    stamps: tuple[datetime | None, datetime | None] = (None, None)

    def after(self, at: datetime, change: tuple[bool, bool]) -> "Snapshot":
        stamps = [at if new is not old else was for new, old, was in zip(change, self.values, self.stamps, strict=True)]
        return Snapshot(at, change, (stamps[0], stamps[1]))

    def row(self, key: str, *, fractions: bool, stamped: bool) -> str:
        def shown(moment: datetime | None) -> str:
            return f"{moment:%H:%M:%S}{f'.{moment.microsecond // 1000:03}' if fractions else ''}" if moment else ""

        email, phone = (shown(stamp) if stamped else "" for stamp in self.stamps)
        values = [str(int(value)) for value in self.values]
        return row(key, shown(self.at), values[0], email, values[1], phone)


@st.composite
def histories(draw: st.DrawFn, gaps: st.SearchStrategy[int], first: st.SearchStrategy[bool]) -> list[Snapshot]:
    """A profile over a day, changed after so many milliseconds each; some changes concern no opt-out."""
    snapshots = [Snapshot(BEGIN + timedelta(milliseconds=draw(st.integers(0, 999))), (draw(first), draw(first)))]
    for gap, change in draw(st.lists(st.tuples(gaps, st.tuples(st.booleans(), st.booleans())), max_size=6)):
        snapshots.append(snapshots[-1].after(snapshots[-1].at + timedelta(milliseconds=gap), change))
    return snapshots


def orders(snapshots: list[Snapshot]) -> st.SearchStrategy[list[Snapshot]]:
    """Files of some of them, in any order and repeated; the latest is among them."""
    some = st.lists(st.sampled_from(snapshots), max_size=8)
    return some.flatmap(lambda files: st.permutations([*files, snapshots[-1]]))


@pytest.fixture(scope="module")
def stores() -> Iterator[dict[bool, TableStore]]:
    """By whether Campaign tells when an opt-out changed. Each example has a person of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        open_staging(Path(folder) / "stamped") as stamped,
        open_staging(Path(folder) / "unstamped") as unstamped,
    ):
        yield {True: read_in(stamped.table(people())), False: read_in(unstamped.table(people(stamped=False)))}


def take(store: TableStore, key: str, files: list[Snapshot], *, fractions: bool, stamped: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            text = lines(file.row(key, fractions=fractions, stamped=stamped))
            store.exports(EXPORTS).take(content(Path(folder), text))


@settings(max_examples=30, deadline=None)
@given(data=st.data(), fractions=st.booleans(), stamped=st.booleans())
def test_the_latest_word_holds_or_is_read_live(
    stores: dict[bool, TableStore], data: st.DataObject, fractions: bool, stamped: bool
) -> None:
    """Often within one second, where files can't be put in order; then Campaign itself is asked."""
    store, key = stores[stamped], f"p{next(NUMBERS)}"
    history = data.draw(histories(gaps=st.sampled_from([1, 300, 1_000, 60_000]), first=st.booleans()))

    take(store, key, data.draw(orders(history)), fractions=fractions, stamped=stamped)

    latest = dict(zip(ATTRIBUTES, history[-1].values, strict=True))
    held = {name: told(store, key, name) for name in ATTRIBUTES}
    assert held == latest or in_doubt(store, key)
    assert store.opt_outs is not None
    with store._transaction():
        store.opt_outs.note_seen({key: CampaignWord(latest, {}, None)})
    assert not in_doubt(store, key)
    assert {name: told(store, key, name) for name in ATTRIBUTES} == latest


@settings(max_examples=20, deadline=None)
@given(data=st.data(), fractions=st.booleans())
def test_the_latest_word_holds_without_a_call_where_changes_lie_seconds_apart(
    stores: dict[bool, TableStore], data: st.DataObject, fractions: bool
) -> None:
    store, key = stores[True], f"p{next(NUMBERS)}"
    history = data.draw(histories(gaps=st.integers(1_000, 7_000_000), first=st.just(False)))

    take(store, key, data.draw(orders(history)), fractions=fractions, stamped=True)

    assert not in_doubt(store, key)
    assert tuple(told(store, key, name) for name in ATTRIBUTES) == history[-1].values
