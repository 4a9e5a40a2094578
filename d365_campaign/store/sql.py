"""All SQL over a table mapping's own schema, as builders from `BoundMapping` to text.

Identifiers pass through `quote`; values are always bound parameters. The relations, one set per mapping:

    snapshot     what Dynamics holds, typed                       key, columns, _generation, _page
    desired      what Campaign ought to hold (a view)             key, Campaign fields
    mirror       what Campaign is known to hold                   key, Campaign fields
    existing     keys that were in Campaign before the first write
    touched      keys that pulls brought since the last plan      key, removed
    change_set   what differs, one row per record                 key, kind, changed, engine_calls
    in_flight    changes that were sent and not yet settled, with the engine calls reserved for them; with none, records
                 that are in doubt since an earlier run
    reject       changes that Campaign refused
"""

from d365_campaign.changes import ENGINE_CALLS, IDENTICAL, Kind
from d365_campaign.field_types import CAMPAIGN_DUCKDB, EMPTY_SQL
from d365_campaign.mapping import BoundField, BoundMapping, duckdb_type
from d365_campaign.schemas import SourceColumn

# The full read and the page that a row came with. Pages count up for ever, so the rows of the last few stand together
# at the end: what was touched since the last plan is found there, and the rest of a large table is not looked at.
GENERATION, PAGE = "_generation", "_page"


def quote(identifier: str) -> str:
    """An SQL identifier that means just these characters."""
    return '"' + identifier.replace('"', '""') + '"'


def relation(table: BoundMapping, name: str) -> str:
    """The mapping's relation *name*, in the schema of its own."""
    return f"{quote(table.name)}.{quote(name)}"


def snapshot_columns(table: BoundMapping) -> dict[str, str]:
    """Column name to DuckDB type."""
    return {column.name: duckdb_type(column) for column in table.columns} | {GENERATION: "integer", PAGE: "bigint"}


def mirror_columns(table: BoundMapping) -> dict[str, str]:
    """Column name to DuckDB type."""
    return {table.mapping.key.target: "varchar"} | {f.target.name: CAMPAIGN_DUCKDB[f.target.type] for f in table.fields}


def create_relations(table: BoundMapping) -> list[str]:
    """Statements that make the schema and whatever relation isn't there yet."""
    own = {
        "snapshot": snapshot_columns(table),
        "mirror": mirror_columns(table),
        "existing": {"key": "varchar"},
        "touched": {"key": "varchar", "removed": "boolean"},
        "change_set": {"key": "varchar", "kind": "varchar", "changed": "varchar[]", "engine_calls": "utinyint"},
        "in_flight": {"key": "varchar", "reserved": "integer"},
        "reject": {
            "key": "varchar",
            "kind": "varchar",
            "reason": "varchar",
            "fingerprint": "varchar",
            "attempts": "integer",
            "resting": "boolean",
            "first_at": "timestamp",
            "last_at": "timestamp",
        },
    }
    return [f"create schema if not exists {quote(table.name)}"] + [
        f"create table if not exists {relation(table, name)} ({_typed(columns)})" for name, columns in own.items()
    ]


def _typed(columns: dict[str, str]) -> str:
    return ", ".join(f"{quote(name)} {kind}" for name, kind in columns.items())


def create_desired(table: BoundMapping) -> str:
    """The view that is the mapping: every Campaign value as an expression over the snapshot."""
    return f"create or replace view {relation(table, 'desired')} as\n{_desired(table)}"


def _desired(table: BoundMapping) -> str:
    key = table.mapping.key
    values = "".join(f",\n       {_value(f)} as {quote(f.target.name)}" for f in table.fields)
    return f"select {quote(key.source)} as {quote(key.target)}{values}\nfrom {relation(table, 'snapshot')}"


def _value(field: BoundField) -> str:
    expression = field.expression.format(quote(field.source.name))
    return f"nullif({expression}, '')" if field.target.type == "string" else expression


def insert_page(table: BoundMapping) -> str:
    """Insert the registered frame `page` into the snapshot, as of full read $generation and page $page."""
    typed = ", ".join(_cast(column) for column in table.columns)
    names = ", ".join(quote(name) for name in snapshot_columns(table))
    return f"insert into {relation(table, 'snapshot')} ({names})\nselect {typed}, $generation, $page from page"


def _cast(column: SourceColumn) -> str:
    name, kind = quote(column.name), duckdb_type(column)
    if column.type == "decimal":  # by way of its shortest text: a double times 10^10 is no longer exact
        return f"cast(cast({name} as varchar) as {kind})"
    return name if kind in ("varchar", "bigint", "boolean", "double") else f"cast({name} as {kind})"


def differences(table: BoundMapping, desired: str, mirror: str, *, deletes: bool) -> str:
    """The rows of the change set: how the relation *desired* differs from the relation *mirror*."""
    key = quote(table.mapping.key.target)
    differs = " or ".join(_differs(f) for f in table.fields)
    changed = ", ".join(f"case when {_differs(f)} then {_literal(f.target.name)} end" for f in table.fields)
    join, gone = ("full", f"\n   or d.{key} is null") if deletes else ("left", "")
    return f"""with difference as (
  select coalesce(d.{key}, m.{key}) as key,
         case when d.{key} is null then '{Kind.DELETE}'
              when m.{key} is not null then '{Kind.UPDATE}'
              when e.key is not null then '{Kind.ADOPT}'
              else '{Kind.INSERT}' end as kind,
         list_filter([{changed}], lambda name: name is not null) as changed
  from {desired} as d
  {join} join {mirror} as m on d.{key} = m.{key}
  left join {relation(table, "existing")} as e on d.{key} = e.key
  where m.{key} is null{gone}
     or {differs}
)
select key, kind, case when kind = '{Kind.UPDATE}' then changed end as changed, {_costs()} as engine_calls
from difference"""


def _differs(field: BoundField) -> str:
    name, empty = quote(field.target.name), EMPTY_SQL[field.target.type]
    if empty is None:
        return f"d.{name} is distinct from m.{name}"
    return f"coalesce(d.{name}, {empty}) <> coalesce(m.{name}, {empty})"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _costs() -> str:
    cases = " ".join(f"when '{kind}' then {calls}" for kind, calls in ENGINE_CALLS.items())
    return f"case kind {cases} end"


def compare_everything(table: BoundMapping, *, deletes: bool) -> list[str]:
    """Compute the change set anew from the whole of both sides."""
    change_set = relation(table, "change_set")
    rows = differences(table, relation(table, "desired"), relation(table, "mirror"), deletes=deletes)
    return [f"delete from {change_set}", f"insert into {change_set}\n{rows}"]


def compare_touched(table: BoundMapping, *, planned_page: int, deletes: bool) -> list[str]:
    """Compute the change set anew for the touched keys; what is open besides stays open.

    Every touched row that is still there came with a page after *planned_page*, the last one that a plan took in.
    Mirror rows are found by their key column alone and then fetched by position.
    """
    change_set, touched = relation(table, "change_set"), f"select key from {relation(table, 'touched')}"
    mirror, target = relation(table, "mirror"), quote(table.mapping.key.target)
    return [
        f"create or replace temp table touched_desired as\n{_desired(table)}\nwhere {PAGE} > {planned_page}",
        f"create or replace temp table touched_mirror as\nselect * from {mirror}\n"
        f"where rowid in (select rowid from {mirror} where {target} in ({touched}))",
        f"delete from {change_set} where key in ({touched})",
        f"insert into {change_set}\n{differences(table, 'touched_desired', 'touched_mirror', deletes=deletes)}",
    ]


def doubt(table: BoundMapping, *, deletes: bool) -> list[str]:
    """Put records in doubt into the change set, to be read before they are written.

    A run that ended before it settled them may have written them. So one that looks in step may hold what Dynamics had
    for a while, and one that Dynamics no longer holds, and the mirror never did, may be there to be deleted.
    """
    key, change_set = quote(table.mapping.key.target), relation(table, "change_set")
    wanted = "" if deletes else "\nwhere kind <> 'delete'"
    return [
        f"create or replace temp table in_doubt as\nselect distinct key from {relation(table, 'in_flight')}",
        f"delete from {change_set} where key in (select key from in_doubt)",
        f"""insert into {change_set}
select key, kind, null, {_costs()}
from (
  select f.key, case when d.{key} is null then '{Kind.DELETE}' else '{Kind.ADOPT}' end as kind
  from in_doubt as f
  left join {relation(table, "desired")} as d on d.{key} = f.key
){wanted}""",
    ]


def adobe_engine_calls(table: BoundMapping) -> str:
    """What Adobe's integration spends on the touched keys: it sends every record that Dynamics reports as modified.

    By the seed's formula that is one call even for a record which turns out identical.
    """
    return f"""select coalesce(sum(coalesce(c.engine_calls, case when t.removed then 0 else {IDENTICAL} end)), 0)
from (select key, arg_max(removed, rowid) as removed from {relation(table, "touched")} group by key) as t
left join {relation(table, "change_set")} as c on c.key = t.key"""


def release_changed_rejects(table: BoundMapping) -> list[str]:
    """Forget rejects whose difference is gone; wake those whose desired values are others than were refused."""
    key = quote(table.mapping.key.target)
    return [
        f"delete from {relation(table, 'reject')} where key not in (select key from {relation(table, 'change_set')})",
        f"""update {relation(table, "reject")} as r set resting = false
from (
  select r.key, {_fingerprint("d")} as fingerprint
  from {relation(table, "reject")} as r
  left join {relation(table, "desired")} as d on d.{key} = r.key
) as now
where r.key = now.key and r.fingerprint is distinct from now.fingerprint""",
    ]


def _fingerprint(row: str) -> str:
    return f"md5(cast({row} as varchar))"


def pending(table: BoundMapping) -> str:
    """The next $limit open changes after key $after, with their desired values; resting rejects left out."""
    key = quote(table.mapping.key.target)
    values = "".join(f", d.{quote(f.target.name)}" for f in table.fields)
    return f"""with next as (
  select key, kind, changed
  from {relation(table, "change_set")}
  where key > $after and key not in (select key from {relation(table, "reject")} where resting)
  order by key
  limit $limit
)
select n.key, n.kind, n.changed{values}
from next as n
left join {relation(table, "desired")} as d on d.{key} = n.key
order by n.key"""


def summary(table: BoundMapping) -> str:
    """Open changes by kind, and how many of them rest as refused."""
    return f"""select c.kind, r.key is not null as refused, count(*)
from {relation(table, "change_set")} as c
left join {relation(table, "reject")} as r on r.key = c.key and r.resting
group by all"""


def busiest_fields(table: BoundMapping) -> str:
    """Campaign field and the number of open updates it is part of, most first."""
    return f"""select field, count(*) as updates
from (select unnest(changed) as field from {relation(table, "change_set")})
group by field
order by updates desc, field"""


def sample_keys(table: BoundMapping) -> str:
    """Kind and up to $limit keys of it."""
    return f"""select kind, list(key order by key)[1:$limit] as keys
from {relation(table, "change_set")}
group by kind"""


def settle(table: BoundMapping) -> list[str]:
    """Book the registered frame `outcome` (key, kind, result, engine_calls, reason): to be run in one transaction."""
    key = quote(table.mapping.key.target)
    done = "select key from outcome where result = 'done'"
    columns = ", ".join(quote(name) for name in mirror_columns(table))
    desired = f"select {columns} from {relation(table, 'desired')}"
    in_flight, answered = relation(table, "in_flight"), "key in (select key from outcome where result"
    return [
        f"delete from {relation(table, 'mirror')} where {key} in ({done})",
        f"insert into {relation(table, 'mirror')} ({columns})\n{desired}\nwhere {key} in ({done} and kind <> 'delete')",
        f"delete from {relation(table, 'change_set')} where key in ({done})",
        f"delete from {relation(table, 'existing')} where key in ({done})",
        *_book_rejects(table),
        f"delete from {in_flight} where reserved > 0 and {answered} <> 'unknown')",
        f"delete from {in_flight} where reserved = 0 and {answered} in ('done', 'unknown'))",
        f"update {in_flight} set reserved = 0 where key in (select key from outcome)",
    ]


def _book_rejects(table: BoundMapping) -> list[str]:
    key, reject = quote(table.mapping.key.target), relation(table, "reject")
    return [
        f"""create or replace temp table refused as
select o.key, o.kind, o.reason, {_fingerprint("d")} as fingerprint, coalesce(r.attempts, 0) + 1 as attempts,
       true as resting, coalesce(r.first_at, now() at time zone 'UTC') as first_at, now() at time zone 'UTC' as last_at
from outcome as o
left join {reject} as r on r.key = o.key
left join {relation(table, "desired")} as d on d.{key} = o.key
where o.result = 'refused'""",
        f"delete from {reject} where key in (select key from outcome where result in ('done', 'refused'))",
        f"insert into {reject} select * from refused",
    ]
