"""What the checks of data quality ask of the staging file, and what they remember there.

The relations, in the schema of the table mapping; those of a key go with whoever is forgotten:

    repeated     keys that stood in the snapshot more than once when a pull looked       key
    waiting      changes that wait for another table's record, since when                key, since
    drift        what the last sample found changed in Campaign, a row for each field    key, field, found_at

and, for all tables, `main.pulled`: how many records a table held on a day, and when it was last caught up then.
"""

from d365_campaign.binding import BoundMapping
from d365_campaign.changes import Cause
from d365_campaign.field_types import FROM_CAMPAIGN
from d365_campaign.store.sql import NOW, related, relation, typed
from d365_campaign.store.values import quote, text

RELATIONS = {
    "repeated": {"key": "varchar"},
    "waiting": {"key": "varchar", "since": "timestamp"},
    "drift": {"key": "varchar", "field": "varchar", "found_at": "timestamp"},
}
# A row for each table and day, so that it stays small.
PULLED = """create table if not exists main.pulled (
  table_name varchar, day date, first_records bigint, last_records bigint, caught_up_at timestamp
)"""


def create_relations(table: BoundMapping) -> list[str]:
    """Statements that make whatever relation isn't there yet."""
    return [PULLED] + [
        f"create table if not exists {relation(table, name)} ({typed(columns)})" for name, columns in RELATIONS.items()
    ]


# --- keys -----------------------------------------------------------------------------------------------------------


def note_repeated(table: BoundMapping) -> list[str]:
    """Keep the keys that stand in the snapshot more than once, among those touched now and those noted before."""
    repeated, touched = relation(table, "repeated"), relation(table, "touched")
    among = f"select key from {touched} union select key from {repeated}"
    return [
        f"create or replace temp table repeated_now as\n{_repeated(table, among)}",
        f"delete from {repeated}",
        f"insert into {repeated} select key from repeated_now",
    ]


def standing_repeated(table: BoundMapping) -> str:
    """Noted key, and how many of its rows are too many: what is still so."""
    return _repeated(table, f"select key from {relation(table, 'repeated')}")


def _repeated(table: BoundMapping, among: str) -> str:
    key = quote(table.mapping.key.source)
    return f"""select {key} as key, count(*) - 1 as too_many
from {relation(table, "snapshot")}
where {key} in ({among})
group by all
having count(*) > 1
order by key"""


def missing_keys(table: BoundMapping) -> str:
    """How many rows of the snapshot have no key."""
    return f"select count(*) from {relation(table, 'snapshot')} where {quote(table.mapping.key.source)} is null"


# --- volume and freshness -------------------------------------------------------------------------------------------

NOTE_PULLED = f"""merge into main.pulled as known using (select $table as table_name) as added
on known.day = ({NOW})::date and known.table_name = added.table_name
when matched then update set last_records = $records, caught_up_at = {NOW}
when not matched then insert values ($table, ({NOW})::date, $records, $records, {NOW})"""
FORGET_PULLED = f"delete from main.pulled where day < ({NOW})::date - 366"
# The median of the days before today; on a table's first day, what it began with.
USUAL = f"""select coalesce(
  (select median(last_records) from main.pulled
   where table_name = $table and day < ({NOW})::date and day >= ({NOW})::date - $days::integer),
  (select first_records from main.pulled where table_name = $table and day = ({NOW})::date)
)"""
CAUGHT_UP = "select max(caught_up_at) from main.pulled where table_name = $table"


def came_or_went(table: BoundMapping, *, more: bool) -> str:
    """Up to $limit keys that only the snapshot has (*more*), or only the mirror."""
    source, target = quote(table.mapping.key.source), quote(table.mapping.key.target)
    dynamics = f"select {source} as key from {relation(table, 'snapshot')}"
    campaign = f"select {target} as key from {relation(table, 'mirror')}"
    here, there = (dynamics, campaign) if more else (campaign, dynamics)
    return f"select key from ({here}) where key is not null and key not in ({there}) order by key limit $limit"


# --- what can't be sent, and what waits -----------------------------------------------------------------------------


def unfit(table: BoundMapping) -> str:
    """Reason as `hold_back_unfit` words it, how many records have it, and up to $limit of their keys."""
    return f"""select reason, count(*), list(key order by key)[1:$limit]
from (select key, unnest(string_split(reason, '; ')) as reason
      from {relation(table, "reject")} where cause = '{Cause.UNFIT}')
group by reason
order by reason"""


def note_waiting(table: BoundMapping) -> list[str]:
    """Keep since when changes wait for another table's record, hidden ones among them."""
    waiting = relation(table, "waiting")
    now = f"""select key from {relation(table, "deferred")} union
  select key from {relation(table, "reject")} where cause = '{Cause.HIDDEN}' and resting"""
    return [
        f"delete from {waiting} where key not in ({now})",
        f"insert into {waiting}\nselect key, {NOW} from ({now}) where key not in (select key from {waiting})",
    ]


def waiting(table: BoundMapping) -> str:
    """How many wait, the seconds that the oldest does, and up to $limit keys, oldest first."""
    return f"""select count(*), coalesce(epoch({NOW}) - epoch(min(since)), 0), list(key order by since, key)[1:$limit]
from {relation(table, "waiting")}"""


def orphans(table: BoundMapping, parent: str, parent_key: str) -> str:
    """Changes whose parent Dynamics itself doesn't have, as far as that table was read."""
    return f"""select key from {relation(table, "deferred")}
where table_name = {text(parent)}
  and awaited not in (select {quote(parent_key)} from {related(parent, "snapshot")})
order by key"""


# --- mirror drift ---------------------------------------------------------------------------------------------------


def drift_sample(table: BoundMapping, size: int) -> str:
    """Keys and values of *size* records that Campaign is known to hold, another choice each time.

    Left out is what can't tell anything: records in doubt, hidden ones, and those on privacy hold.
    """
    key = quote(table.mapping.key.target)
    values = "".join(f", {quote(f.target.name)}" for f in table.fields)
    return f"""select * from (
  select {key}{values} from {relation(table, "mirror")}
  where {key} not in (select key from {relation(table, "in_flight")})
    and {key} not in (select key from {relation(table, "reject")} where cause = '{Cause.HIDDEN}')
    and {key} not in (select key from main.privacy_hold)
) using sample {int(size)} rows"""


def learn(table: BoundMapping) -> list[str]:
    """Take what the frame `drifted` (texts as Campaign sent them, and the `_fields` that differ) found into the mirror.

    So each of these records differs from Dynamics from now on, and goes out with its next change or a replay.
    """
    key, mirror = quote(table.mapping.key.target), relation(table, "mirror")
    return [
        f"""update {mirror} as m
set {quote(f.target.name)} = {FROM_CAMPAIGN[f.target.type].format(f"d.{quote(f.target.name)}")}
from drifted as d
where m.{key} = d._key and list_contains(d._fields, {text(f.target.name)})"""
        for f in table.fields
    ]


def put_in_doubt(table: BoundMapping) -> str:
    """Let the next run read the records of the frame `drifted` and bring them into step, as those in doubt."""
    in_flight = relation(table, "in_flight")
    return f"insert into {in_flight} select _key, 0 from drifted where _key not in (select key from {in_flight})"
