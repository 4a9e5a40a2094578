"""Working out what differs, against DuckDB's bare full join of the same two tables."""

from datetime import UTC, datetime
from pathlib import Path
from random import random

import duckdb
import polars as pl

from benchmarks.report import Figure, Target, in_turn, peak_mb, seconds, spread
from d365_campaign.binding import BoundMapping, bind
from d365_campaign.changes import ChangePage, Reading
from d365_campaign.field_types import HELD, CampaignType, SourceType
from d365_campaign.mapping import FieldMapping, KeyMapping, TableMapping
from d365_campaign.schemas import ResourceField, SourceColumn, SourceTable, TargetResource
from d365_campaign.store import sql
from d365_campaign.store.staging import open_staging
from d365_campaign.store.table_store import TableStore
from d365_campaign.store.values import quote

ROWS = 5_000_000  # what the targets are set for
TOUCHED = 1_000
REPEATS = 5

# A mapped column's name and both its types, with the SQL of its value from a random number *n*: 15 of them.
COLUMNS: tuple[tuple[str, SourceType, CampaignType, str], ...] = (
    ("firstname", "text", "string", "'First ' || (n % 500)"),
    ("lastname", "text", "string", "'Last ' || (n % 20011)"),
    ("email", "text", "string", "'contact.' || n || '@example.com'"),
    ("mobile", "text", "string", "'+1 555 ' || ((n >> 3) % 10000000)"),
    ("phone", "text", "string", "case when n % 3 = 0 then '+1 555 ' || (n % 9999991) end"),
    ("street", "text", "string", "(n % 200) || ' Station Road'"),
    ("city", "text", "string", "'City ' || (n % 997)"),
    ("postalcode", "text", "string", "cast(10000 + n % 90000 as varchar)"),
    ("country", "text", "string", "'Country ' || (n % 60)"),
    ("gender", "choice", "integer", "n % 3"),
    ("children", "integer", "integer", "case when n % 2 = 0 then n % 5 end"),
    ("credit", "decimal", "double", "case when n % 3 = 0 then (n % 100000) / 4 end"),
    ("vip", "boolean", "boolean", "n % 10 = 0"),
    ("born", "date", "date", "case when n % 5 > 0 then date '1950-01-01' + cast(n % 20000 as integer) end"),
    ("lastseen", "datetime", "datetime", "timestamp '2020-01-01' + interval (n % 100000000) second"),
)


def run(directory: Path, scale: float) -> list[Figure]:
    rows, touched = max(100, round(ROWS * scale)), max(1, round(TOUCHED * min(1.0, scale)))
    staging = directory / "staging.duckdb"
    with open_staging(staging) as file:
        store = file.table(mapping())
        fill(store, rows)
    with open_staging(staging) as file:
        store = file.table(mapping())
        expected = store.plan(everything=True)
        ours, bare, part = in_turn(
            lambda: seconds(lambda: store.plan(everything=True)),
            lambda: seconds(lambda: bare_full_join(store)),
            lambda: _seconds_after_touching(store, rows, touched),
            repeats=REPEATS,
        )
        assert expected.update == rows // 100, expected
    size, peak = f"{rows:,} rows x {len(COLUMNS)} columns", peak_mb()
    return [
        Figure(
            what="plan, everything",
            size=size,
            unit="s",
            ours=min(ours),
            yardstick=min(bare),
            target=Target("at most", 1.5),
            peak_mb=peak,
            spread=spread(ours),
            remark="yardstick: one full join of snapshot and mirror in the same file, `is distinct from` per column",
        ),
        Figure(
            what="plan, touched",
            size=f"{touched:,} of {size}",
            unit="s",
            ours=min(part),
            yardstick=min(ours),
            target=Target("at most", 0.1),
            peak_mb=peak,
            spread=spread(part),
            remark="yardstick: the comparison of everything, above",
        ),
    ]


def mapping() -> BoundMapping:
    """A table of the columns above, all of them mapped."""
    sources: dict[str, SourceType] = {"contactid": "reference", **{name: kind for name, kind, _, _ in COLUMNS}}
    targets: dict[str, CampaignType] = {"externalId": "string", **{name: kind for name, _, kind, _ in COLUMNS}}
    return bind(
        TableMapping(
            source="contact",
            target="profile",
            key=KeyMapping(source="contactid", target="externalId", declared_unique=True),
            fields=[FieldMapping(source=name, target=name, picklist="technical") for name, *_ in COLUMNS],
            apply_deletes=True,
        ),
        SourceTable(
            "contact", "contacts", "contactid", True, {n: SourceColumn(n, kind, n) for n, kind in sources.items()}
        ),
        TargetResource("profile", "profileAndServicesExt", {n: ResourceField(n, kind) for n, kind in targets.items()}),
    )


def fill(store: TableStore, rows: int) -> None:
    """Snapshot and mirror of so many records; one in a hundred differs.

    In the order of their keys, as Dynamics sends them, so values come in no order: that decides how well they compress.
    """
    values = ", ".join(value for *_, value in COLUMNS)
    names = ", ".join(quote(name) for name, *_ in COLUMNS)
    snapshot, mirror = sql.relation(store.table, "snapshot"), sql.relation(store.table, "mirror")
    numbers = f"select {key_of('i')} as key, cast(hash(i) >> 8 as bigint) as n from range({rows}) as r(i)"
    earlier = f"select {key_of('i * 100')} from range({rows // 100}) as r(i)"
    for statement in (
        f"""insert into {snapshot} ("contactid", {names}, {sql.GENERATION}, {sql.PAGE})
            select key, {values}, 1, 0 from ({numbers}) order by key""",
        sql.insert_mirrored(store.table, sql.relation(store.table, "desired"), where=" order by all"),
        f"""update {mirror} set "email" = 'earlier@example.com' where "externalId" in ({earlier})""",
    ):
        connection_of(store).execute(statement)
    store._move_to(Reading(phase="changes"))


def key_of(number: str) -> str:
    """SQL of a record's key: a GUID as text."""
    return f"cast(cast(md5(cast({number} as varchar)) as uuid) as varchar)"


def bare_full_join(store: TableStore) -> None:
    """What DuckDB needs at least: keys and kinds of the rows that differ, by the stored columns as they are."""
    names = [quote(f.target.name) for f in store.table.fields]
    key, mirrored = (quote(name) for name in (store.table.mapping.key.source, store.table.mapping.key.target))
    differs = " or ".join(f"s.{name} is distinct from m.{name}" for name in names)
    connection_of(store).execute(
        f"""create or replace temp table difference as
select coalesce(s.{key}, m.{mirrored}) as key,
       case when s.{key} is null then 'delete' when m.{mirrored} is null then 'insert' else 'update' end as kind
from {sql.relation(store.table, "snapshot")} as s
full join {sql.relation(store.table, "mirror")} as m on s.{key} = m.{mirrored}
where s.{key} is null or m.{mirrored} is null or {differs}"""
    )


def connection_of(store: TableStore) -> duckdb.DuckDBPyConnection:
    """The store's own connection: a file can't be opened twice."""
    return store._connection


def touch(store: TableStore, rows: int, touched: int, column: str) -> None:
    """Absorb a page that brings other values of a text column for some records, spread over the table."""
    connection, step = connection_of(store), max(1, rows // touched)
    keys = f"select {key_of(f'i * {step} + 1')} from range({touched}) as r(i)"
    held = {column.name: HELD[column.type].page for column in store.table.columns}
    key = quote(store.table.mapping.key.source)
    query = f"from {sql.relation(store.table, 'snapshot')} where {key} in ({keys})"
    there = connection.sql(query).pl().select(pl.col(name).cast(kind) for name, kind in held.items())
    changed = there.with_columns(pl.lit(f"Value {random()}").alias(column))
    store.absorb(ChangePage(changed, [], None, None, datetime.now(UTC)), store.reading)


def _seconds_after_touching(store: TableStore, rows: int, touched: int) -> float:
    touch(store, rows, touched, "city")
    return seconds(store.plan)
