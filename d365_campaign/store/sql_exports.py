"""The SQL that reads a daily opt-out file: its lines, typed as what Campaign says, and those that can't be read."""

from collections.abc import Mapping, Sequence

from d365_campaign.store.sql_opt_outs import SEEN
from d365_campaign.store.values import quote, text


def typed_lines(columns: Mapping[str, str], spellings: Mapping[bool, Sequence[str]], formats: Sequence[str]) -> str:
    """Rows of the relation `lines` (all text) typed as `SEEN`, and what of each can't be read as `fault`.

    *columns* leads from the names in `SEEN` to the file's; what it doesn't name was not told.
    """
    values, faults = [], []
    for name, kind in SEEN.items():
        if name not in columns:
            values.append(f"cast({'false' if name == 'in_doubt' else 'null'} as {kind}) as {quote(name)}")
            continue
        raw = f"trim(coalesce({quote(columns[name])}, ''))"
        value = {"boolean": _truth(raw, spellings), "timestamp": _time(raw, formats)}.get(kind, f"nullif({raw}, '')")
        values.append(f"{value} as {quote(name)}")
        if kind == "boolean":
            faults.append(f"when {value} is null then {text(f'{columns[name]} says neither yes nor no')}")
        elif kind == "timestamp":
            faults.append(f"when {raw} <> '' and {value} is null then {text(f'{columns[name]} is no moment')}")
    return f"select {', '.join(values)},\n       case {' '.join(faults)} end as fault\nfrom lines"


def _truth(raw: str, spellings: Mapping[bool, Sequence[str]]) -> str:
    cases = (
        f"when lower({raw}) in ({', '.join(text(word.lower()) for word in words)}) then {str(truth).lower()}"
        for truth, words in spellings.items()
    )
    return f"case {' '.join(cases)} end"


def _time(raw: str, formats: Sequence[str]) -> str:
    # One after the other: given as a list they take three times as long, mostly for nothing.
    return f"coalesce({', '.join(f'try_strptime({raw}, {text(format)})' for format in formats)}, null)"


def unreadable_lines(key_at: int, delimiter: str, quote_mark: str) -> str:
    """Line (where it is known), key, reason, and whether the row as such is broken, of each row that can't be read: out
    of `typed` and `reject_errors`. The key of a broken row is its column *key_at*, if it is there as a whole.

    What is taken for one row may be several lines, where a quote is never closed.
    """
    key = f"nullif(trim(fields[{key_at + 1}], {text(f' {quote_mark}')}), '')"
    return f"""select null::bigint as line, key, fault as reason, false as broken from typed where fault is not null
union all
select line, if(len(fields) > {key_at + 1}, {key}, null), reason, true
from (
  select line, reason, string_split(row, {text(delimiter)}) as fields
  from (
    select line, lower(any_value(error_type)::varchar) as reason,
      unnest(string_split(rtrim(coalesce(any_value(csv_line), ''), chr(10)), chr(10))) as row
    from reject_errors group by line
  )
)"""


def seen_in_file() -> str:
    """The latest row of each key in `typed`; where several might be that, the key is in doubt."""
    names = [name for name in SEEN if name not in ("key", "changed_at", "in_doubt")]
    latest = ", ".join(f"arg_max_null({quote(name)}, t.changed_at) as {quote(name)}" for name in names)
    own = ", ".join(map(quote, names))
    return f"""with repeated as (select key from typed where fault is null group by key having count(*) > 1),
several as (select distinct * from typed where fault is null and key in (select key from repeated))
select key, changed_at, in_doubt, {own} from typed
where fault is null and key is not null and key not in (select key from repeated where key is not null)
union all
select t.key, max(t.changed_at),
       count(*) > 1 and (bool_or(t.changed_at is null) or count(*) > count(distinct t.changed_at)), {latest}
from several as t group by t.key"""
