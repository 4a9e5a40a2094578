"""Handing out the change set, booking what became of it, and counting it."""

from d365_campaign.binding import MODIFIED_ON, BoundField, BoundMapping
from d365_campaign.changes import Cause, Kind
from d365_campaign.store.sql import NOW, WRITTEN, hashed, insert_mirrored, mirror_columns, relation, typed
from d365_campaign.store.values import quote, text


def open_window(table: BoundMapping) -> list[str]:
    """Make `tried`, and an empty `change_window`: the changes a run has taken and not settled, with what it sends.

    The window's own columns begin with a stroke, which no Campaign field does.
    """
    columns = {"_key": "varchar", "_kind": "varchar", "_changed": "varchar[]"} | mirror_columns(table)
    del columns[table.mapping.key.target]
    return [
        "create or replace temp table tried (key varchar)",
        f"create or replace temp table change_window ({typed(columns)})",
    ]


def take_window(table: BoundMapping) -> list[str]:
    """Choose up to $limit open changes that this run didn't try yet, and bring them into the window."""
    key = quote(table.mapping.key.target)
    values = "".join(f", d.{quote(f.target.name)}" for f in table.fields)
    return [
        f"""create or replace temp table chosen as
select key, kind, changed
from {relation(table, "change_set")}
where key not in (select key from tried)
  and key not in (select key from {relation(table, "reject")} where resting)
  and key not in (select key from {relation(table, "deferred")})
  and key not in (select key from main.privacy_hold)
limit $limit""",
        f"""insert into change_window
select n.key, n.kind, n.changed{values}
from chosen as n
left join {relation(table, "desired")} as d on d.{key} = n.key and n.kind <> '{Kind.DELETE}'""",
        "insert into tried select key from chosen",
    ]


CHOSEN = "select * from change_window where _key in (select key from chosen) order by _key"


def settle(table: BoundMapping) -> list[str]:
    """Book the registered frame `outcome` (key, kind, result, ...): to be run in one transaction.

    The mirror takes what was sent. A field that was withheld from an update keeps what Campaign is known to hold.
    """
    key, mirror = quote(table.mapping.key.target), relation(table, "mirror")
    done = "select key from outcome where result = 'done'"
    replaced = f"where result = 'done' and key in (select _key from change_window where _kind <> '{Kind.INSERT}')"
    written = f"o.result = 'done' and o.kind <> '{Kind.DELETE}'"
    values = "".join(f",\n       {_settled(f)} as {quote(f.target.name)}" for f in table.fields)
    values += f",\n       {NOW} as _written_at, if(o.identical, 'identical', o.kind) as _written_as"
    in_flight, answered = relation(table, "in_flight"), "key in (select key from outcome where result"
    withheld = any(not f.mapping.apply_updates for f in table.fields)
    known = f"\nleft join {mirror} as m on m.{key} = o.key" if withheld else ""
    return [
        f"create or replace temp table settled as\nselect o.key as {key}{values}\nfrom outcome as o\n"
        f"join change_window as w on w._key = o.key{known}\nwhere {written}",
        f"delete from {mirror} where rowid in (\n"
        f"  select rowid from {mirror} where _hash in (select {hashed('key')} from outcome {replaced})\n"
        f") and {key} in (select key from outcome {replaced})",
        insert_mirrored(table, "settled", more="".join(f", {name}" for name in WRITTEN)),
        f"insert into {relation(table, 'deleted')}\nselect key, {NOW} from outcome\n"
        f"where result = 'done' and kind = '{Kind.DELETE}'",
        f"delete from {relation(table, 'change_set')} where key in ({done})",
        f"delete from {relation(table, 'existing')} where {key} in ({done})",
        f"delete from {relation(table, 'replay')} where key in ({done})",
        f"delete from {relation(table, 'reject')} where key in ({done})",
        f"delete from {in_flight} where reserved > 0 and {answered} <> 'unknown')",
        f"delete from {in_flight} where reserved = 0 and {answered} in ('done', 'unknown'))",
        f"update {in_flight} set reserved = 0 where key in (select key from outcome)",
        "delete from change_window where _key in (select key from outcome)",
    ]


def _settled(field: BoundField) -> str:
    name = quote(field.target.name)
    if field.mapping.apply_updates:
        return f"w.{name}"
    sent = f"w._changed is null or list_contains(w._changed, {text(field.target.name)}) or o.kind = '{Kind.INSERT}'"
    return f"case when {sent} then w.{name} else m.{name} end"


def field_updates(table: BoundMapping) -> str:
    """Campaign field, the updates in the frame `outcome` that it was part of, and the calls of those without another.

    Whatever became of them: it is these fields that they were made for.
    """
    return f"""select field, count(*), coalesce(sum(calls) filter (alone), 0)::bigint
from (
  select unnest(w._changed) as field, len(w._changed) = 1 as alone, o.engine_calls as calls
  from outcome as o
  join change_window as w on w._key = o.key
  where w._kind = '{Kind.UPDATE}' and o.engine_calls > 0
)
group by field"""


def summary(table: BoundMapping) -> str:
    """Changes by kind and by what becomes of them: open, held, refused or deferred."""
    return f"""select c.kind,
       case when h.key is not null then 'held'
            when r.resting and r.cause = '{Cause.HIDDEN}' then 'deferred'
            when r.resting then 'refused'
            when d.key is not null then 'deferred'
            else 'open' end as state,
       count(*)
from {relation(table, "change_set")} as c
left join (select distinct key from main.privacy_hold) as h on h.key = c.key
left join {relation(table, "reject")} as r on r.key = c.key
left join (select distinct key from {relation(table, "deferred")}) as d on d.key = c.key
group by all"""


def latency(table: BoundMapping) -> str:
    """Median and longest time, in seconds, of records written from $began on that changed in Dynamics from $followed
    on; NULL without any. Two clocks tell it, so what looks like less than nothing is nothing."""
    key, modified = table.mapping.key, quote(MODIFIED_ON)
    return f"""select median(seconds), max(seconds)
from (
  select greatest(0, epoch(m._written_at) - epoch(s.{modified})) as seconds
  from {relation(table, "mirror")} as m
  join {relation(table, "snapshot")} as s on s.{quote(key.source)} = m.{quote(key.target)}
  where m._written_at >= $began and s.{modified} >= $followed
)"""


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
