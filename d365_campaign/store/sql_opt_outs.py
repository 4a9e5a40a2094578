"""The opt-outs' own schema in the staging file, and the SQL that brings both systems' words together.

What Dynamics says stands in the snapshot of contacts. The relations here, one set for the whole file:

    campaign     what Campaign is known to say of each profile     key, changed_at, in_doubt, and of each opt-out its
                 value, `_at` (when it changed) and `_news` (it changed since it was last acted on)
    touched      keys about which either system said something since the last comparison
    open         people with an opt-out that is to be written, or read first because Campaign's word is in doubt
    in_flight    people who are being written, with the engine calls reserved for them
    writing      those among them whose profile may be written meanwhile; with nobody at it, by a run that was killed
    decision     what was decided about a disagreement, and what was written; it is kept
    export       daily files that were taken in or refused
    unreadable   rows of these files that could not be read
    setting      what the last comparison went by

The schema's name has a stroke, so no Dynamics table has the same.
"""

from collections.abc import Mapping, Sequence

from d365_campaign.binding import MODIFIED_ON, VERSION, BoundMapping, BoundOptOuts
from d365_campaign.changes import RECORD_KEY
from d365_campaign.field_types import CONVERSIONS, HELD
from d365_campaign.opt_out import ATTRIBUTES, PROFILE_CHANGED, OptOutDirection, OptOutPair, decision_sql
from d365_campaign.store.privacy import forgotten
from d365_campaign.store.sql import related, typed
from d365_campaign.store.sql import relation as own_relation
from d365_campaign.store.values import quote

SCHEMA = "opt-outs"
# The columns of each opt-out beside its value.
AT, NEWS = "_at", "_news"
STALE = "_stale"  # and while it is merged: what is told of it is no later than what is known
NOT_HELD = "key not in (select key from main.privacy_hold)"


def relation(name: str) -> str:
    """The relation *name* of this schema."""
    return related(SCHEMA, name)


def _word_columns() -> dict[str, str]:
    return {name + part: kind for name in ATTRIBUTES for part, kind in (("", "boolean"), (AT, "timestamp"))}


SEEN = {"key": "varchar", "changed_at": "timestamp", "in_doubt": "boolean", **_word_columns()}
CAMPAIGN = {**SEEN, **{name + NEWS: "boolean" for name in ATTRIBUTES}}
RELATIONS = {
    "campaign": CAMPAIGN,
    "touched": {"key": "varchar"},
    "open": {"key": "varchar", **dict.fromkeys(("to_campaign", "to_dynamics", "opts_in", "in_doubt"), "boolean")},
    "in_flight": {"key": "varchar", "reserved": "integer"},
    "writing": {"key": "varchar"},
    "decision": {
        "key": "varchar",
        "attribute": "varchar",
        "source": "varchar",
        "direction": "varchar",
        "campaign": "boolean",
        "campaign_at": "timestamp",
        "dynamics": "boolean",
        "dynamics_at": "timestamp",
        "campaign_gets": "boolean",
        "dynamics_gets": "boolean",
        "rule": "varchar",
        "written_to": "varchar",
        "decided_at": "timestamp",
    },
    "export": {
        "name": "varchar",
        "digest": "varchar",
        "format": "varchar",
        "bytes": "bigint",
        "modified_at": "timestamp",
        "rows": "bigint",
        "unreadable": "bigint",
        "without_key": "bigint",
        "missing": "varchar[]",
        "refused": "varchar",
        "cut": "boolean",
        "exported_at": "timestamp",
        "taken_at": "timestamp",
    },
    "unreadable": {"file": "varchar", "line": "bigint", "key": "varchar", "reason": "varchar"},
    "setting": {"fingerprint": "varchar", "direction": "varchar", "baseline": "boolean", "since": "timestamp"},
}


def create_relations() -> list[str]:
    """Statements that make the schema and whatever relation isn't there yet."""
    return [f"create schema if not exists {quote(SCHEMA)}"] + [
        f"create table if not exists {relation(name)} ({typed(columns)})" for name, columns in RELATIONS.items()
    ]


# --- what Campaign says -----------------------------------------------------------------------------------------------


def merge_seen(*, live: bool, baseline: bool = False) -> list[str]:
    """Take the relation `seen` (columns of `SEEN`; what is null was not told) into what Campaign is known to say.

    What was read *live* holds as it stands. A file may be older than what is known, so of each opt-out the later word
    holds. A word that may be later, because the file tells whole seconds only, is taken and put in doubt: it is read
    live before anything is done about it. Of a *baseline* only opt-outs are news.
    """
    values = ",\n       ".join(_merged(name, live=live, baseline=baseline) for name in ATTRIBUTES)
    doubt = " or ".join(["s.in_doubt", *([] if live else ["k.in_doubt", *map(_unsure, ATTRIBUTES)])])
    columns = ", ".join(map(quote, CAMPAIGN))
    judged = [] if live else [f"{_stale(name)} as {quote(name + STALE)}" for name in ATTRIBUTES]
    both = ",\n       ".join(["s", "k", *judged])
    return [
        f"""create or replace temp table merged as
with judged as (select {both}
from seen as s
left join {relation("campaign")} as k on k.key = s.key
where s.key is not null and not {forgotten("s.key")})
select s.key, greatest(k.changed_at, s.changed_at) as changed_at, coalesce({doubt}, false) as in_doubt,
       {values}
from judged""",
        f"delete from {relation('campaign')} where key in (select key from merged)",
        f"insert into {relation('campaign')} ({columns}) select {columns} from merged",
        f"insert into {relation('touched')} select key from merged",
    ]


def seen_in_scan(opt_outs: BoundOptOuts) -> str:
    """Profiles of the frame `found`, texts as Campaign lists them, as `SEEN`."""
    moment, truth = CONVERSIONS["text", "datetime"].sql, CONVERSIONS["text", "boolean"].sql
    values = []
    for name in ATTRIBUTES:
        told = [moment.format(quote(stamp)) for stamp in opt_outs.stamps.get(name, ())]
        value = f"coalesce({truth.format(quote(name))}, false)" if name in opt_outs.stamps else "null::boolean"
        at = f"coalesce({', '.join([*told, 'null'])})::timestamp"
        values += [f"{value} as {quote(name)}", f"{at} as {quote(name + AT)}"]
    changed = moment.format(quote(PROFILE_CHANGED))
    return f"select {RECORD_KEY} as key, {changed} as changed_at, false as in_doubt, {', '.join(values)} from found"


def _merged(name: str, *, live: bool, baseline: bool) -> str:
    value, at, news = quote(name), quote(name + AT), quote(name + NEWS)
    taken = f"s.{value} is not null" if live else f"(s.{value} is not null and not {quote(name + STALE)})"
    fresh = f"s.{value}" if baseline else f"(s.{value} or s.{at} is not null)"
    # A file that tells whole seconds only, and a live read, tell the same change by different stamps.
    other = f"{_second(f's.{at}')} is distinct from {_second(f'k.{at}')}"
    # What a baseline tells of an opt-in that is known may be the time of our own write.
    again = f"(s.{value} and {other})" if baseline else other
    changed = f"if(k.key is null, {fresh}, s.{value} is distinct from k.{value} or {again})"
    return (
        f"if({taken}, s.{value}, coalesce(k.{value}, false)) as {value}, if({taken}, s.{at}, k.{at}) as {at},\n"
        f"       coalesce(k.{news}, false) or ({taken} and {changed}) as {news}"
    )


def _second(moment: str) -> str:
    return f"date_trunc('second', {moment})"


def _stale(name: str) -> str:
    """Whether what a file says of an opt-out is no later than what is known; where there is no telling, it may be.

    A stamp without a fraction may have lost it: it may stand for the end of its second.
    """
    value, at = quote(name), quote(name + AT)
    latest = f"if({_second(f's.{at}')} = s.{at}, s.{at} + interval 999 milliseconds, s.{at})"
    same = f"s.{value} = k.{value} and {_second(f's.{at}')} = {_second(f'k.{at}')}"
    return f"""coalesce(case
            when s.{at} is not null and k.{at} is not null then {latest} <= k.{at} or ({same})
            when s.{at} is not null then false
            when k.{at} is not null then not s.{value}
            else s.changed_at < {_second("k.changed_at")} end, false)"""


def _unsure(name: str) -> str:
    """Whether a file contradicts what is known, and may or may not be later."""
    value, at = quote(name), quote(name + AT)
    later = f"coalesce({_second('s.changed_at')} > {_second('k.changed_at')}, false)"
    earlier = f"coalesce(s.changed_at < {_second('k.changed_at')}, false)"
    return f"""(s.{value} <> k.{value} and case
            when s.{at} is not null and k.{at} is not null then {_second(f"s.{at}")} = {_second(f"k.{at}")}
            when s.{at} is null and k.{at} is not null then s.{value} or not {earlier}
            else not {later} and not {quote(name + STALE)} end)"""


def doubt(keys: str) -> list[str]:
    """Put profiles in doubt, known or not: the contacts among the *keys* (a query) are read live before long."""
    columns = ["key", "in_doubt", *ATTRIBUTES, *(name + NEWS for name in ATTRIBUTES)]
    values = ", ".join(["key", "true", *["false"] * (len(columns) - 2)])
    return [
        f"update {relation('campaign')} set in_doubt = true where key in ({keys})",
        f"insert into {relation('campaign')} ({', '.join(map(quote, columns))})\n"
        f"select {values} from ({keys}) where key not in (select key from {relation('campaign')})",
        f"insert into {relation('touched')} ({keys})",
    ]


# --- both sides -------------------------------------------------------------------------------------------------------


def dynamics_value(pair: OptOutPair) -> str:
    """Whether the contact `s` opts out; an empty column is no opt-out."""
    column = f"s.{quote(pair.source)}"
    return f"coalesce({f'not {column}' if pair.invert else column}, false)"


def standing(pair: OptOutPair) -> Mapping[str, str]:
    """The parts of a `Standing`, of contact `s` and profile `k`."""
    return {
        "campaign": f"k.{quote(pair.target)}",
        "campaign_at": f"k.{quote(pair.target + AT)}",
        "dynamics": dynamics_value(pair),
        "dynamics_at": f"s.{quote(MODIFIED_ON)}",
        "news": f"k.{quote(pair.target + NEWS)}",
    }


def compare(table: BoundMapping, opt_outs: BoundOptOuts, *, everything: bool) -> list[str]:
    """Decide every pair of the touched people, or of *everything*, and keep those with something to write as open."""
    key, touched = quote(table.mapping.key.source), f"select key from {relation('touched')}"
    among = "" if everything else f"\nwhere s.{key} in ({touched})"
    # Where both systems say the same there is nothing to decide, whatever the rules.
    differ = " or ".join(f"{parts['campaign']} <> {parts['dynamics']}" for parts in map(standing, opt_outs.pairs))
    differ = f"{'and' if among else 'where'} ({differ} or k.in_doubt)"
    wanted: dict[str, list[str]] = {"to_campaign": [], "to_dynamics": [], "opts_in": []}
    for pair in opt_outs.pairs:
        parts = standing(pair)
        decided = decision_sql(opt_outs.direction, parts)
        wanted["to_campaign"].append(f"({decided.campaign}) <> {parts['campaign']}")
        wanted["to_dynamics"].append(f"({decided.dynamics}) <> {parts['dynamics']}")
        wanted["opts_in"].append(
            f"({decided.campaign}) < {parts['campaign']} or ({decided.dynamics}) < {parts['dynamics']}"
        )
    to_campaign, to_dynamics, opts_in = ("\n    or ".join(conditions) for conditions in wanted.values())
    return [
        f"delete from {relation('open')}" + ("" if everything else f" where key in ({touched})"),
        # Their times are fetched for those alone who differ, which are few: it halves the width of the large join.
        f"""insert into {relation("open")}
with differing as materialized (
  select s.rowid as contact, k.rowid as profile
  from {own_relation(table, "snapshot")} as s
  join {relation("campaign")} as k on k.key = s.{key}{among}
  {differ}
)
select key, to_campaign, to_dynamics, opts_in, in_doubt
from (
  select s.{key} as key,
    ({to_campaign}) and {_ours(table)} as to_campaign,
    ({to_dynamics}) as to_dynamics,
    ({opts_in}) as opts_in,
    k.in_doubt
  from differing
  join {own_relation(table, "snapshot")} as s on s.rowid = differing.contact
  join {relation("campaign")} as k on k.rowid = differing.profile
)
where to_campaign or to_dynamics or in_doubt""",
        *_settle_news(table, opt_outs, among, "" if everything else f" and key in ({touched})"),
        f"truncate {relation('touched')}",
    ]


def _ours(table: BoundMapping) -> str:
    """Whether the profile `k` may be written: those that were there before are left alone where the mapping says so."""
    if table.mapping.adopt_existing == "by_key":
        return "true"
    key = quote(table.mapping.key.target)
    return f"k.key in (select {key} from {own_relation(table, 'mirror')})"


def _settle_news(table: BoundMapping, opt_outs: BoundOptOuts, among: str, keys: str) -> list[str]:
    """What both sides agree on is news no longer, nor is an opt-in that isn't paired: a pair that is added later begins
    with opt-outs. Only where Campaign alone decides does it matter what is news."""
    if opt_outs.direction is not OptOutDirection.CAMPAIGN_TO_DYNAMICS:
        return []
    key, among = quote(table.mapping.key.source), among or "\nwhere true"
    sides = {pair.target: standing(pair) for pair in opt_outs.pairs}
    agreed = [
        f"""update {relation("campaign")} set {quote(name + NEWS)} = false
where {quote(name + NEWS)} and key in (
  select k.key from {own_relation(table, "snapshot")} as s
  join {relation("campaign")} as k on k.key = s.{key}{among} and {parts["campaign"]} = {parts["dynamics"]}
)"""
        for name, parts in sides.items()
    ]
    unpaired = [(quote(name), quote(name + NEWS)) for name in ATTRIBUTES if name not in sides]
    if not unpaired:
        return agreed
    opted_out = ", ".join(f"{news} = {news} and {value}" for value, news in unpaired)
    opted_in = " or ".join(f"({news} and not {value})" for value, news in unpaired)
    return [*agreed, f"update {relation('campaign')} set {opted_out}\nwhere ({opted_in}){keys}"]


def news_is_what_opts_out() -> str:
    """Begin anew with what counts as news: opt-outs do, and no opt-in does before it changes."""
    columns = ", ".join(f"{quote(name + NEWS)} = coalesce({quote(name)}, false)" for name in ATTRIBUTES)
    return f"update {relation('campaign')} set {columns}"


def take_open(table: BoundMapping, opt_outs: BoundOptOuts, wanted: str) -> str:
    """Both sides of up to $limit open people for whom *wanted* holds and who weren't tried in this run: key, version,
    when the contact changed, when the profile did, whether it may be written, then of each pair Dynamics' value,
    Campaign's value, its time, and whether it is news.
    """
    return f"""{_both_words(table, opt_outs)}
where s.{quote(table.mapping.key.source)} in (
  select key from {relation("open")}
  where ({wanted}) and {NOT_HELD} and key not in (select key from opt_outs_tried)
  limit $limit
)"""


def _both_words(table: BoundMapping, opt_outs: BoundOptOuts) -> str:
    key = quote(table.mapping.key.source)
    parts = [standing(pair) for pair in opt_outs.pairs]
    columns = ", ".join(f"{p['dynamics']}, {p['campaign']}, {p['campaign_at']}, {p['news']}" for p in parts)
    return f"""select s.{key}, s.{quote(VERSION)}, s.{quote(MODIFIED_ON)}, k.changed_at, {_ours(table)}, {columns}
from {own_relation(table, "snapshot")} as s
join {relation("campaign")} as k on k.key = s.{key}"""


def dynamics_words(table: BoundMapping, opt_outs: BoundOptOuts, keys: str) -> str:
    """Key, when the contact changed, and whether it opts out by each pair; of contacts among the *keys* (a query)."""
    key, values = quote(table.mapping.key.source), ", ".join(map(dynamics_value, opt_outs.pairs))
    return f"""select s.{key}, s.{quote(MODIFIED_ON)}, {values}
from {own_relation(table, "snapshot")} as s where s.{key} in ({keys})"""


def one(table: BoundMapping, opt_outs: BoundOptOuts) -> str:
    """The same of the person with $key, open or not."""
    return f"{_both_words(table, opt_outs)}\nwhere s.{quote(table.mapping.key.source)} = $key"


def both_sides(table: BoundMapping) -> str:
    """Keys of the people that both systems have."""
    key = quote(table.mapping.key.source)
    snapshot = own_relation(table, "snapshot")
    return f"select {key} as key from {snapshot} where {key} in (select key from {relation('campaign')})"


def update_snapshot(table: BoundMapping, pairs: Sequence[OptOutPair]) -> str:
    """Take the frame `rows` (key, version, when modified, the pairs' columns) into the snapshot."""
    columns = ", ".join(f"{quote(pair.source)} = r.{quote(pair.source)}" for pair in pairs)
    modified = HELD["datetime"].load.format(f"r.{quote(MODIFIED_ON)}")
    return f"""update {own_relation(table, "snapshot")} as s
set {columns}, {quote(VERSION)} = r.{quote(VERSION)}, {quote(MODIFIED_ON)} = {modified}
from rows as r where s.{quote(table.mapping.key.source)} = r.key"""


def summary() -> str:
    """How many profiles Campaign's word is known of, and how many people are open, by what is to be done."""
    held = "key in (select key from main.privacy_hold)"
    return f"""select (select count(*) from {relation("campaign")}), count(*) filter (to_campaign and not held),
       count(*) filter (to_dynamics and not held), count(*) filter (in_doubt and not held),
       count(*) filter (opts_in and not held), count(*) filter (held)
from (select *, {held} as held from {relation("open")})"""
