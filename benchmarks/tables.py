"""Planning many wide tables one after another, against DuckDB's bare full joins of the same tables."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path

from benchmarks import plan
from benchmarks.plan import bare_full_join, connection_of, key_of, touch
from benchmarks.report import Figure, Target, forget_peak, in_turn, peak_mb, seconds, spread
from d365_campaign.binding import BoundMapping, bind
from d365_campaign.changes import Reading
from d365_campaign.field_types import CampaignType, SourceType
from d365_campaign.mapping import FieldMapping, KeyMapping, LinkMapping, TableMapping
from d365_campaign.schemas import ResourceField, SourceColumn, SourceTable, TargetResource
from d365_campaign.store import sql
from d365_campaign.store.staging import open_staging
from d365_campaign.store.table_store import TableStore
from d365_campaign.store.values import quote, text

ENTITIES = 20
COLUMNS = 50
ROWS = 50_000
CHANGED = 100
REPEATS = 3

CONTACT = "contact"
LINK = "new_parentid"
CHANGING = "city6"
# Entity to what its lookup leads to: eight hang on the contact, four on one of these, the others on nothing.
LINKS = dict.fromkeys(range(8), CONTACT) | {number: f"new_entity{number - 8}" for number in range(8, 12)}


def run(directory: Path, scale: float) -> list[Figure]:
    rows = max(2 * CHANGED, round(ROWS * scale))
    staging = directory / "staging.duckdb"
    with open_staging(staging) as file:
        for store in map(file.table, mappings()):
            _fill(store, rows)
    with open_staging(staging) as file:
        stores = [file.table(bound) for bound in mappings()]
        size = f"{len(stores)} tables x {rows:,} rows x {COLUMNS} columns"
        first, first_peak = _with_its_peak(lambda: _seconds_of_first_plans(stores, rows))
        loads = [first, *(_seconds_of_first_plans(stores, rows) for _ in range(REPEATS - 1))]
        _bring_into_step(stores)
        after, after_peak = _with_its_peak(lambda: _seconds_after_changes(stores, rows))
        changes, joins = in_turn(
            lambda: _seconds_after_changes(stores, rows), lambda: _seconds_of_bare_joins(stores), repeats=REPEATS
        )
    changes.append(after)
    return [
        Figure(
            what="tables, first plan",
            size=size,
            unit="s",
            ours=min(loads),
            yardstick=min(joins),
            target=Target("at most", 1.5),
            peak_mb=first_peak,
            spread=spread(loads),
            # With nothing in the mirrors yet, a bare join would look at no value at all.
            remark="all inserts, some deferred; yardstick: bare full joins of these tables in turn, the mirrors full",
        ),
        Figure(
            what="tables, changes",
            size=f"{CHANGED} of each of {size}",
            unit="s",
            ours=min(changes),
            yardstick=min(joins),
            target=Target("at most", 1.0),
            peak_mb=after_peak,
            spread=spread(changes),
            remark="yardstick: the same joins",
        ),
    ]


def _with_its_peak(work: Callable[[], float]) -> tuple[float, float]:
    """What *work* says, and the most memory that was held meanwhile; the yardstick's own is left out."""
    forget_peak()
    return work(), peak_mb()


def _seconds_of_first_plans(stores: Sequence[TableStore], rows: int) -> float:
    """All tables, parents first, as a run goes through them; nothing is in Campaign yet."""
    took = sum(seconds(partial(store.plan, everything=True)) for store in stores)
    for store in stores:
        summary = store.summary()
        assert summary.insert + summary.deferred == rows, summary
        assert bool(summary.deferred) == bool(store.table.parents), summary
    return took


def _seconds_after_changes(stores: Sequence[TableStore], rows: int) -> float:
    """The plans alone, after a page of changes came in for each table."""
    for store in stores:
        touch(store, rows, CHANGED, CHANGING)
    took = sum(seconds(store.plan) for store in stores)
    for store in stores:
        summary = store.summary()
        assert summary.update + summary.deferred == CHANGED, summary
    return took


def _seconds_of_bare_joins(stores: Sequence[TableStore]) -> float:
    return sum(seconds(partial(bare_full_join, store)) for store in stores)


def _bring_into_step(stores: Sequence[TableStore]) -> None:
    """As if everything had been written."""
    for store in stores:
        connection_of(store).execute(sql.insert_mirrored(store.table, sql.relation(store.table, "desired")))
        summary = store.plan(everything=True)
        assert not summary.open + summary.deferred, summary


def mappings() -> list[BoundMapping]:
    """The contact and its entities, parents first."""
    entities = {f"new_entity{number}": LINKS.get(number) for number in range(ENTITIES)}
    tables = [_mapping(CONTACT, None), *(_mapping(name, parent) for name, parent in entities.items())]
    return [_bound(table, tables) for table in tables]


def columns() -> Mapping[str, tuple[SourceType, CampaignType, str]]:
    """Both types of each column by its name, and the SQL of its value from a random number *n*."""
    return {
        f"{name}{number}": (source, target, value)
        for number, (name, source, target, value) in enumerate(islice(cycle(plan.COLUMNS), COLUMNS))
    }


def _mapping(name: str, parent: str | None) -> TableMapping:
    pairs = [FieldMapping(source=column, target=column, picklist="technical") for column in columns()]
    if parent is not None:
        pairs[-1] = FieldMapping(source=LINK, target=LINK)
    return TableMapping(
        source=name,
        target=name,
        key=KeyMapping(source=f"{name}id", target="externalId", declared_unique=True),
        fields=pairs,
        links=[] if parent is None else [LinkMapping(source=LINK, parent=parent)],
        apply_deletes=True,
    )


def _bound(mapping: TableMapping, others: Sequence[TableMapping]) -> BoundMapping:
    key, known = mapping.key, columns()
    types = {f.source: known[f.source][:2] for f in mapping.fields if f.source != LINK}
    types |= {link.source: ("reference", "string") for link in mapping.links}
    sources = {key.source: SourceColumn(key.source, "reference", key.source)}
    sources |= {name: SourceColumn(name, kind, name) for name, (kind, _) in types.items()}
    targets = {key.target: ResourceField(key.target, "string")}
    targets |= {name: ResourceField(name, kind) for name, (_, kind) in types.items()}
    return bind(
        mapping,
        SourceTable(mapping.source, f"{mapping.source}s", key.source, True, sources),
        TargetResource(mapping.target, "customResources", targets),
        others,
    )


def _fill(store: TableStore, rows: int) -> None:
    """A snapshot that was read in full, and nothing in Campaign yet. One link in a hundred leads nowhere."""
    linked = f"case when i % 100 = 0 then -1 - i else n % {rows} end"
    values = {name: value for name, (_, _, value) in columns().items()} | {LINK: key_of(f"({linked})")}
    wanted = [f.source.name for f in store.table.fields]
    names = ", ".join(map(quote, (store.table.mapping.key.source, *wanted)))
    connection_of(store).execute(
        f"""insert into {sql.relation(store.table, "snapshot")} ({names}, {sql.GENERATION}, {sql.PAGE})
            select {key_of("i")}, {", ".join(values[name] for name in wanted)}, 1, 0
            from (select i, cast(hash(i, {text(store.table.name)}) >> 8 as bigint) as n from range({rows}) as r(i))
            order by 1"""
    )
    store._move_to(Reading(phase="changes"))
