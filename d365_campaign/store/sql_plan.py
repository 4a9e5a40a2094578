"""What differs between Dynamics and Campaign: the change set of a table mapping."""

from d365_campaign.binding import BoundField, BoundMapping
from d365_campaign.changes import ENGINE_CALLS, IDENTICAL, Kind
from d365_campaign.field_types import EMPTY_SQL
from d365_campaign.store.sql import PAGE, desired_rows, hashed, insert_mirrored, mirror_columns, relation
from d365_campaign.store.values import quote, text


def refresh_mirror(table: BoundMapping) -> list[str]:
    """Take what a scan found of records that are in the mirror already: a field that is new to it is known then."""
    key = quote(table.mapping.key.target)
    mirror, existing = relation(table, "mirror"), relation(table, "existing")
    known = f"{key} in (select {key} from refreshed)"
    return [
        f"create or replace temp table refreshed as\nselect * from {existing}\n"
        f"where {key} in (select {key} from {mirror})",
        f"delete from {mirror} where {known}",
        insert_mirrored(table, "refreshed"),
        f"delete from {existing} where {known}",
    ]


def adopt_existing(table: BoundMapping, *, touched: bool) -> str:
    """Take what Campaign held before into the mirror, for records that ought to be there; with *touched*, for these."""
    key = quote(table.mapping.key.target)
    among = f"\n  and {key} in (select key from {relation(table, 'touched')})" if touched else ""
    where = f"""
where {key} in (select {key} from {relation(table, "desired")})
  and {key} not in (select {key} from {relation(table, "mirror")}){among}"""
    return insert_mirrored(table, relation(table, "existing"), where=where)


def forget_adopted(table: BoundMapping, *, touched: bool) -> str:
    """Records that were there before and are in step: from now on they are like any other."""
    key = quote(table.mapping.key.target)
    among = f"\n  and {key} in (select key from {relation(table, 'touched')})" if touched else ""
    return f"""delete from {relation(table, "existing")}
where {key} in (select {key} from {relation(table, "mirror")})
  and {key} not in (select key from {relation(table, "change_set")}){among}"""


def differences(table: BoundMapping, desired: str, mirror: str, *, deletes: bool, replaying: bool) -> str:
    """The rows of the change set: how the relation *desired* differs from the relation *mirror*.

    With *replaying*, records of `replay` are compared in every field, and sent in any case where it is forced. A field
    without `apply_updates` makes no difference otherwise.
    """
    key = quote(table.mapping.key.target)
    changed = ", ".join(f"case when {_differs(f, replaying)} then {text(f.target.name)} end" for f in table.fields)
    conditions = [_differs(f, replaying) for f in table.fields if replaying or f.mapping.apply_updates]
    differs = " or ".join([*conditions, *(["r.forced"] if replaying else [])] or ["false"])
    gone = _gone(table) if deletes else None
    if gone:  # a record that is gone differs in every field, and yet may have to stay
        differs = f"d.{key} is not null and ({differs})"
    join, gone = ("full", f"\n   or d.{key} is null{gone}") if gone is not None else ("left", "")
    replay = f"\n  left join {relation(table, 'replay')} as r on d.{key} = r.key" if replaying else ""
    adopts = table.mapping.adopt_existing == "by_key"
    known = f"when e.{key} is not null then '{Kind.ADOPT}'" if adopts else ""
    known += f" when r.forced and m.{key} is not null then '{Kind.ADOPT}'" if replaying else ""
    left_alone = "" if adopts else f"\n  and e.{key} is null"
    return f"""with difference as (
  select coalesce(d.{key}, m.{key}) as key,
         case when d.{key} is null then '{Kind.DELETE}'
              {known}
              when m.{key} is not null then '{Kind.UPDATE}'
              else '{Kind.INSERT}' end as kind,
         list_filter([{changed}], lambda name: name is not null) as changed
  from {desired} as d
  {join} join {mirror} as m on d.{key} = m.{key}
  left join {relation(table, "existing")} as e on d.{key} = e.{key}{replay}
  where (m.{key} is null{gone}
     or {differs}){left_alone}
)
select key, kind, case when kind = '{Kind.UPDATE}' then changed end as changed, {_costs()} as engine_calls
from difference"""


def _gone(table: BoundMapping) -> str | None:
    """What else must hold for a record without desired values to be deleted; None where none ever is."""
    mapping = table.mapping
    if not mapping.filter or mapping.apply_deletes == mapping.delete_filtered_out:
        return "" if mapping.apply_deletes else None
    key = quote(mapping.key.source)
    word = "in" if mapping.delete_filtered_out else "not in"
    return f" and m.{quote(mapping.key.target)} {word} (select {key} from {relation(table, 'snapshot')})"


def _differs(field: BoundField, replaying: bool) -> str:
    name, empty = quote(field.target.name), EMPTY_SQL[field.target.type]
    differs = (
        f"d.{name} is distinct from m.{name}"
        if empty is None
        else f"coalesce(d.{name}, {empty}) <> coalesce(m.{name}, {empty})"
    )
    if field.mapping.apply_updates:
        return differs
    return f"(r.key is not null and {differs})" if replaying else "false"


def _costs() -> str:
    cases = " ".join(f"when '{kind}' then {calls}" for kind, calls in ENGINE_CALLS.items())
    return f"case kind {cases} end"


def compare_everything(table: BoundMapping, *, deletes: bool, replaying: bool) -> list[str]:
    """Compute the change set anew from the whole of both sides."""
    change_set = relation(table, "change_set")
    desired, mirror = relation(table, "desired"), relation(table, "mirror")
    rows = differences(table, desired, mirror, deletes=deletes, replaying=replaying)
    return [f"delete from {change_set}", f"insert into {change_set}\n{rows}"]


def compare_touched(table: BoundMapping, *, planned_page: int, deletes: bool, replaying: bool) -> list[str]:
    """Compute the change set anew for the touched keys; what is open besides stays open.

    Every touched row that is still there came with a page after *planned_page*, the last one that a plan took in.
    Mirror rows are found by the hash of their key alone, fetched by position, and then held against the key.
    """
    change_set, touched = relation(table, "change_set"), f"select key from {relation(table, 'touched')}"
    mirror, target = relation(table, "mirror"), quote(table.mapping.key.target)
    columns = ", ".join(map(quote, mirror_columns(table)))
    rows = differences(table, "touched_desired", "touched_mirror", deletes=deletes, replaying=replaying)
    return [
        f"create or replace temp table touched_desired as\n{desired_rows(table, f'{PAGE} > {planned_page}')}",
        f"""create or replace temp table touched_mirror as
with found as materialized (
  select {columns} from {mirror}
  where rowid in (
    select rowid from {mirror} where _hash in (select {hashed("key")} from {relation(table, "touched")})
  )
)
select * from found where {target} in ({touched})""",
        f"delete from {change_set} where key in ({touched})",
        f"insert into {change_set}\n{rows}",
    ]


def doubt(table: BoundMapping, *, deletes: bool) -> list[str]:
    """Put records in doubt into the change set, to be read before they are written.

    A run that ended before it settled them may have written them. So one that looks in step may hold what Dynamics had
    for a while, and one that Dynamics no longer holds, and the mirror never did, may be there to be deleted.
    """
    key, change_set = quote(table.mapping.key.target), relation(table, "change_set")
    source_key, snapshot = quote(table.mapping.key.source), relation(table, "snapshot")
    filtered_out, applied = table.mapping.delete_filtered_out, table.mapping.apply_deletes
    wanted = [f"(found is null and {str(applied).lower()})", f"(found is not null and {str(filtered_out).lower()})"]
    allowed = f"kind <> '{Kind.DELETE}'" + (f" or {' or '.join(wanted)}" if deletes else "")
    sent_later = ", ".join(text(f.target.name) for f in table.fields if f.mapping.apply_updates)
    return [
        f"create or replace temp table in_doubt as\nselect distinct key from {relation(table, 'in_flight')}",
        f"delete from {change_set} where key in (select key from in_doubt)",
        f"""insert into {change_set}
select key, kind, changed, {_costs()}
from (
  select f.key, s.{source_key} as found,
         case when d.{key} is null then '{Kind.DELETE}' else '{Kind.ADOPT}' end as kind,
         case when d.{key} is not null and m.{key} is not null then [{sent_later}]::varchar[] end as changed
  from in_doubt as f
  left join {relation(table, "desired")} as d on d.{key} = f.key
  left join {relation(table, "mirror")} as m on m.{key} = f.key
  left join {snapshot} as s on s.{source_key} = f.key
)
where {allowed}""",
    ]


def replay_everything(table: BoundMapping) -> str:
    """Note every record that ought to be in Campaign for a replay, $forced or not."""
    key = quote(table.mapping.key.target)
    return f"insert into {relation(table, 'replay')}\nselect {key}, $forced from {relation(table, 'desired')}"


def end_replay_of_equals(table: BoundMapping) -> str:
    """Replayed records that don't differ have nothing to send."""
    return f"delete from {relation(table, 'replay')} where key not in (select key from {relation(table, 'change_set')})"


def adobe_engine_calls(table: BoundMapping) -> str:
    """What Adobe's integration spends on the touched keys: it sends every record that Dynamics reports as modified.

    By Adobe's formula that is one call even for a record which turns out identical.
    """
    return f"""select coalesce(sum(coalesce(c.engine_calls, case when t.removed then 0 else {IDENTICAL} end)), 0)
from (select key, arg_max(removed, rowid) as removed from {relation(table, "touched")} group by key) as t
left join {relation(table, "change_set")} as c on c.key = t.key"""
