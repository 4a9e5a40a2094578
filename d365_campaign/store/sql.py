"""A table mapping's own schema in the staging file: its relations, and the SQL that fills and reads the snapshot.

All SQL is made by builders from `BoundMapping` to text, here and in `sql_plan`, `sql_waiting` and `sql_apply`.

Identifiers pass through `quote`; values are bound parameters, or literals of the mapping in a view. The relations, one
set per mapping:

    snapshot     what Dynamics holds, typed                       key, columns, _generation, _page
    desired      what Campaign ought to hold (a view)             key, Campaign fields
    mirror       what Campaign is known to hold                   key, Campaign fields, _written_at, _written_as, _hash
    deleted      what was deleted in Campaign                     key, deleted_at
    existing     what Campaign held before the first write, as far as nothing was done about it yet
    touched      keys that pulls brought since the last plan      key, removed
    replay       keys that are to be sent again in full           key, forced
    change_set   what differs, one row per record                 key, kind, changed, engine_calls
    deferred     changes that wait for another table's record     key, table_name, awaited
    in_flight    changes that were sent and not yet settled, with the engine calls reserved for them; with none, records
                 that are in doubt since an earlier run
    reject       changes that can't be sent, or that Campaign refused or hides
"""

from d365_campaign.binding import BoundMapping, duckdb_type
from d365_campaign.field_types import CAMPAIGN_DUCKDB, FROM_CAMPAIGN, HELD
from d365_campaign.store.values import desired_value, quote

# The full read and the page that a row came with. Pages count up for ever, so the rows of the last few stand together
# at the end: what was touched since the last plan is found there, and the rest of a large table is not looked at.
GENERATION, PAGE = "_generation", "_page"
# When a record was last written, and as what: a `Kind`, or `identical` where Campaign held the values by then. Empty
# for one that was in step before this project wrote anything. Whole batches share both, so they take hardly any room.
WRITTEN = {"_written_at": "timestamp", "_written_as": "varchar"}
# A number made from the key: a thousand records among millions are found by it in a fraction of the time that text keys
# take. Two keys may share it, so what it finds is held against the key itself. md5 is the same in every version.
HASHED = {"_hash": "ubigint"}
NOW = "now() at time zone 'UTC'"


def relation(table: BoundMapping, name: str) -> str:
    """The mapping's relation *name*, in the schema of its own."""
    return related(table.name, name)


def related(table: str, name: str) -> str:
    """The relation *name* of the mapping called *table*."""
    return f"{quote(table)}.{quote(name)}"


def snapshot_columns(table: BoundMapping) -> dict[str, str]:
    """Column name to DuckDB type."""
    return {column.name: duckdb_type(column) for column in table.columns} | {GENERATION: "integer", PAGE: "bigint"}


def mirror_columns(table: BoundMapping) -> dict[str, str]:
    """Column name to DuckDB type."""
    return {table.mapping.key.target: "varchar"} | {f.target.name: CAMPAIGN_DUCKDB[f.target.type] for f in table.fields}


OWN_RELATIONS = {
    "touched": {"key": "varchar", "removed": "boolean"},
    "replay": {"key": "varchar", "forced": "boolean"},
    "deleted": {"key": "varchar", "deleted_at": "timestamp"},
    "change_set": {"key": "varchar", "kind": "varchar", "changed": "varchar[]", "engine_calls": "utinyint"},
    "deferred": {"key": "varchar", "table_name": "varchar", "awaited": "varchar"},
    "in_flight": {"key": "varchar", "reserved": "integer"},
    "reject": {
        "key": "varchar",
        "kind": "varchar",
        "cause": "varchar",
        "reason": "varchar",
        "fields": "varchar[]",
        "fingerprint": "varchar",
        "attempts": "integer",
        "resting": "boolean",
        "retry_at": "timestamp",
        "first_at": "timestamp",
        "last_at": "timestamp",
    },
}


def create_relations(table: BoundMapping) -> list[str]:
    """Statements that make the schema and whatever relation isn't there yet."""
    held = mirror_columns(table)
    own = {"snapshot": snapshot_columns(table), "mirror": held | WRITTEN | HASHED, "existing": held, **OWN_RELATIONS}
    return [f"create schema if not exists {quote(table.name)}"] + [
        f"create table if not exists {relation(table, name)} ({typed(columns)})" for name, columns in own.items()
    ]


def typed(columns: dict[str, str]) -> str:
    """A column list of a `create table`."""
    return ", ".join(f"{quote(name)} {kind}" for name, kind in columns.items())


def hashed(key: str) -> str:
    """The number that `_hash` holds for a key."""
    return f"md5_number_lower({key})"


def insert_mirrored(table: BoundMapping, source: str, *, more: str = "", where: str = "") -> str:
    """Insert rows of the relation *source* into the mirror, with its further columns *more*."""
    key = quote(table.mapping.key.target)
    columns = ", ".join(map(quote, mirror_columns(table))) + more
    return (
        f"insert into {relation(table, 'mirror')} ({columns}, _hash)\n"
        f"select {columns}, {hashed(key)} from {source}{where}"
    )


def insert_page(table: BoundMapping) -> str:
    """Insert the registered frame `page` into the snapshot, as of full read $generation and page $page."""
    typed = ", ".join(HELD[column.type].load.format(quote(column.name)) for column in table.columns)
    names = ", ".join(quote(name) for name in snapshot_columns(table))
    return f"insert into {relation(table, 'snapshot')} ({names})\nselect {typed}, $generation, $page from page"


def insert_existing(table: BoundMapping) -> str:
    """Insert the registered frame `found`, texts as Campaign sent them, into what was there before."""
    key, *fields = mirror_columns(table)
    types = {f.target.name: f.target.type for f in table.fields}
    values = "".join(f",\n       {FROM_CAMPAIGN[types[name]].format(quote(name))}" for name in fields)
    names = ", ".join(map(quote, (key, *fields)))
    return f"insert into {relation(table, 'existing')} ({names})\nselect _key{values}\nfrom found"


def create_desired(table: BoundMapping) -> str:
    """The view that is the mapping: every Campaign value as an expression over the snapshot."""
    return f"create or replace view {relation(table, 'desired')} as\n{desired_rows(table)}"


def desired_rows(table: BoundMapping, *conditions: str) -> str:
    """The view's query, over snapshot rows that meet *conditions* besides the filter."""
    key = table.mapping.key
    values = "".join(f",\n       {desired_value(f)} as {quote(f.target.name)}" for f in table.fields)
    select = f"select {quote(key.source)} as {quote(key.target)}{values}\nfrom {relation(table, 'snapshot')}"
    passing = [f"({passes(table)})"] if table.mapping.filter else []
    wanted = " and ".join([*conditions, *passing])
    return f"{select}\nwhere {wanted}" if wanted else select


def passes(table: BoundMapping) -> str:
    """The record filter as a condition over the snapshot."""
    types = {name: column.type for name, column in table.source.columns.items()}
    return table.mapping.filter.sql(types, quote) if table.mapping.filter else "true"
