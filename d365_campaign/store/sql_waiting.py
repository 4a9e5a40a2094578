"""What can't go out for now: changes that no call is worth, that were refused, or that wait for another record."""

from collections.abc import Sequence

from d365_campaign.binding import BoundMapping, Relation
from d365_campaign.changes import Cause, Kind
from d365_campaign.store.sql import NOW, OWN_RELATIONS, related, relation, typed
from d365_campaign.store.values import faults, quote, text

MINUTES_A_DAY = 1440


def hold_back_unfit(table: BoundMapping, *, touched: bool) -> list[str]:
    """Reject what no call is worth: a value that can't be converted, or that its Campaign field has no room for."""
    found = [(condition, f.target.name, reason) for f in table.fields for condition, reason in faults(f)]
    reject, change_set = relation(table, "reject"), relation(table, "change_set")
    among = f"select key from {relation(table, 'touched')}" if touched else f"select key from {change_set}"
    forget = f"delete from {reject} where cause = '{Cause.UNFIT}'" + (f" and key in ({among})" if touched else "")
    if not found:
        return [forget]
    cases = ",\n    ".join(
        f"case when {condition} then {{'field': {text(name)}, 'reason': {text(f'{name} {reason}')}}} end"
        for condition, name, reason in found
    )
    source, key = quote(table.mapping.key.source), quote(table.mapping.key.target)
    return [
        forget,
        f"""insert into {reject}
select s.key, c.kind, '{Cause.UNFIT}', list_aggregate(list_transform(s.found, lambda f: f.reason), 'string_agg', '; '),
       list_transform(s.found, lambda f: f.field), {_fingerprint("d")}, 0, true, null, {NOW}, {NOW}
from (
  select {source} as key, list_filter([
    {cases}
  ], lambda f: f is not null) as found
  from {relation(table, "snapshot")}
  where {source} in (select key from {change_set} where kind <> '{Kind.DELETE}')
    and {source} in ({among})
) as s
join {change_set} as c on c.key = s.key
join {relation(table, "desired")} as d on d.{key} = s.key
where len(s.found) > 0""",
    ]


def release_changed_rejects(table: BoundMapping) -> list[str]:
    """Forget rejects whose difference is gone; wake those whose time has come, or that would send other values now."""
    key, reject = quote(table.mapping.key.target), relation(table, "reject")
    return [
        f"delete from {reject} where key not in (select key from {relation(table, 'change_set')})",
        f"update {reject} set resting = false where retry_at <= {NOW}",
        f"""update {reject} as r set resting = false, attempts = 0
from (
  select r.key, {_fingerprint("d")} as fingerprint
  from {reject} as r
  left join {relation(table, "desired")} as d on d.{key} = r.key
) as now
where r.key = now.key and r.cause <> '{Cause.UNFIT}' and r.fingerprint is distinct from now.fingerprint""",
    ]


def _fingerprint(row: str) -> str:
    return f"md5(cast({row} as varchar))"


def defer(table: BoundMapping, parents: Sequence[Relation], children: Sequence[Relation], *, coming: bool) -> list[str]:
    """Note which changes wait: for a parent that isn't in Campaign, or to be deleted after their children.

    *coming*: a parent that is about to be inserted counts as there, as it will be when its children's turn comes.
    """
    deferred = relation(table, "deferred")
    statements = [f"delete from {deferred}"]
    statements += [_wait_for_parent(table, parent, coming=coming) for parent in parents]
    if not coming:
        statements += [_wait_for_children(table, child) for child in children]
    return statements


def _wait_for_parent(table: BoundMapping, parent: Relation, *, coming: bool) -> str:
    key, column = quote(table.mapping.key.target), quote(parent.column)
    there = f"select {quote(parent.key)} from {related(parent.table, 'mirror')}"
    if coming:
        there += f""" union all
    select key from {related(parent.table, "change_set")}
    where kind <> '{Kind.DELETE}'
      and key not in (select key from {related(parent.table, "reject")} where resting)
      and key not in (select key from {related(parent.table, "deferred")})"""
    for other, its_key in parent.elsewhere:
        there += f" union all\n    select {quote(its_key)} from {related(other, 'snapshot')}"
    return f"""insert into {relation(table, "deferred")}
select c.key, {text(parent.table)}, d.{column}
from {relation(table, "change_set")} as c
join {relation(table, "desired")} as d on d.{key} = c.key
where c.kind <> '{Kind.DELETE}' and d.{column} is not null
  and (d.{column} in (select key from main.privacy_hold)
   or d.{column} not in (
    {there}
  ))"""


def _wait_for_children(table: BoundMapping, child: Relation) -> str:
    column = quote(child.column)
    return f"""insert into {relation(table, "deferred")}
select c.key, {text(child.table)}, min(m.{quote(child.key)})
from {relation(table, "change_set")} as c
join {related(child.table, "mirror")} as m on m.{column} = c.key
join {related(child.table, "change_set")} as waiting on waiting.key = m.{quote(child.key)}
where c.kind = '{Kind.DELETE}' and waiting.kind = '{Kind.DELETE}'
  and waiting.key not in (select key from {related(child.table, "reject")} where resting)
group by c.key"""


def stand_in_for_parent(parent: Relation) -> list[str]:
    """Empty relations of a parent that was never synced: its children wait for it."""
    asked = {"mirror": {parent.key: "varchar"}} | {n: OWN_RELATIONS[n] for n in ("change_set", "reject", "deferred")}
    return [f"create schema if not exists {quote(parent.table)}"] + [
        f"create table if not exists {related(parent.table, name)} ({typed(columns)})"
        for name, columns in asked.items()
    ]


def book_rejects(table: BoundMapping) -> list[str]:
    """Keep what was refused or hidden, from the frame `outcome`: it rests from its $max_attempts-th time on.

    A hidden record is tried again after a while that doubles, from a minute to a day.
    """
    key, reject = quote(table.mapping.key.target), relation(table, "reject")
    answered = "('refused', 'deferred')"
    attempts = "coalesce(r.attempts, 0) + 1"
    return [
        f"""create or replace temp table refused as
select o.key, o.kind, case o.result when 'deferred' then '{Cause.HIDDEN}' else '{Cause.REFUSED}' end as cause,
       o.reason, o.fields, {_fingerprint("d")} as fingerprint, {attempts} as attempts,
       o.result = 'deferred' or {attempts} >= $max_attempts as resting,
       case o.result when 'deferred' then {NOW} + to_minutes(least({MINUTES_A_DAY}, 1 << least({attempts}, 11)))
       end as retry_at,
       coalesce(r.first_at, {NOW}) as first_at, {NOW} as last_at
from outcome as o
left join {reject} as r on r.key = o.key
left join {relation(table, "desired")} as d on d.{key} = o.key
where o.result in {answered}""",
        f"delete from {reject} where key in (select key from outcome where result in {answered})",
        f"insert into {reject} select * from refused",
    ]
