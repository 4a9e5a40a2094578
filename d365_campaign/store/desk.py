"""The operator's desk: what a person asks of one table, answered by the staging file alone.

Neither system is reached, and no mapping is needed: the table's name and the relations that are in the file suffice.
What is asked for here is done by the next run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb

from d365_campaign.binding import MODIFIED_ON
from d365_campaign.changes import Cause, Kind, Reject, Replay
from d365_campaign.errors import ConfigurationError
from d365_campaign.store.part import TablePart, utc
from d365_campaign.store.privacy import FORGOTTEN, Hold
from d365_campaign.store.sql import GENERATION, HASHED, NOW, WRITTEN, related
from d365_campaign.store.trace import Awaited, LastCall, Trace, TracedField
from d365_campaign.store.values import quote


@dataclass(frozen=True, slots=True)
class Retried:
    """Keys of rejects that the next run sends again, of those that can't be sent as they are, and of none at all."""

    woken: Sequence[str] = ()
    unfit: Sequence[str] = ()
    unknown: Sequence[str] = ()


class TableDesk(TablePart):
    """One table's part of the staging file, by the table's name. Raises ConfigurationError before its first run."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        super().__init__(connection, name)
        keys = self._rows("select source_key, target_key from main.table_mapping where name = $1", [name])
        if not keys:
            raise ConfigurationError(
                f"the staging file knows nothing of table '{name}' yet. Its first run does: d365-campaign sync {name}"
            )
        source_key, self._target_key = keys[0]
        by_target = dict.fromkeys(("desired", "mirror", "existing"), self._target_key)
        self._key_columns = {"snapshot": source_key, **by_target}  # in any other relation it is called `key`

    # --- replay -----------------------------------------------------------------------------------------------------

    @property
    def replay_requested(self) -> Replay | None:
        """The replay that the next run takes up, if there is one."""
        requested = self._state("replay_requested")
        return None if requested is None else Replay(requested)

    def request_replay(self, mode: Replay, limit: int) -> None:
        """Let the next run read every record again, and send what differs or, *forced*, look at each in Campaign.

        Asked for twice it is done once, in the latest mode. Raises ConfigurationError when *limit* records, or as
        many changes in the backlog, are reached.
        """
        refuse_large_replay(self.name, backlog=self.backlog(), records=self.records(), limit=limit)
        self._set("replay_requested", mode.value)

    def withdraw_replay(self) -> bool:
        """Forget the request; False when there was none, or a run has taken it up already."""
        pending = self.replay_requested is not None
        self._set("replay_requested", None)
        return pending

    def backlog(self) -> int:
        """Changes that wait to be written; what rests, waits for another record or is held is none of them."""
        return self._count(
            f"""{self._relation("change_set")}
                where key not in (select key from {self._relation("reject")} where resting)
                  and key not in (select key from {self._relation("deferred")})
                  and key not in (select key from main.privacy_hold)"""
        )

    def records(self) -> int:
        """How many records the snapshot holds."""
        return self._count(self._relation("snapshot"))

    # --- what a run asks a person for -------------------------------------------------------------------------------

    def acknowledge_large_load(self, by: str) -> None:
        """Let the load at hand go on however large it is; it holds until nothing waits any more."""
        self._run(
            f"""update main.table_mapping set large_load_acknowledged_by = $1, large_load_acknowledged_at = {NOW}
                where name = $2""",
            [by, self.name],
        )

    def accept_schema(self) -> None:
        """Let the next run take what both systems say of the mapped columns as it is then."""
        self._set("schema_facts", "{}")

    # --- rejects ----------------------------------------------------------------------------------------------------

    def rejects(self, keys: Sequence[str] = (), limit: int | None = None) -> Sequence[Reject]:
        """The changes that could not go out, or those of *keys* among them, latest first."""
        query = f"""select key, reason, cause, fields, attempts, first_at, retry_at, resting
                    from {self._relation("reject")}
                    where len($keys) = 0 or list_contains($keys, key)
                    order by last_at desc, key limit $limit"""
        return [
            Reject(key, reason, Cause(cause), fields or (), attempts, utc(since), utc(retry_at), resting)
            for key, reason, cause, fields, attempts, since, retry_at, resting in self._rows(
                query, {"keys": list(keys), "limit": limit}
            )
        ]

    def retry(self, keys: Sequence[str] = ()) -> Retried:
        """Let the next run send refused and hidden changes again: those of *keys*, or all of them.

        What is unfit is not worth a call: it goes out once its data or the mapping changes.
        """
        found = {reject.key: reject.cause for reject in self.rejects(keys)}
        woken = [key for key, cause in found.items() if cause is not Cause.UNFIT]
        self._run(
            f"""update {self._relation("reject")} set resting = false, attempts = 0, retry_at = null
                where list_contains($1, key)""",
            [woken],
        )
        return Retried(
            woken,
            [key for key, cause in found.items() if cause is Cause.UNFIT],
            [key for key in keys if key not in found],
        )

    # --- one record -------------------------------------------------------------------------------------------------

    def trace(self, key: str, *, show_values: bool = False) -> Trace:
        """All that is known of the record with this *key*; its values only on request, for they are personal data."""
        read = self._one("snapshot", [GENERATION], key)
        written = self._one("mirror", [*WRITTEN], key)
        change = self._one("change_set", ["kind", "changed"], key)
        to_compare = (read or written) and self._state("compare_everything")
        return Trace(
            self.name,
            key,
            in_dynamics=read is not None,
            modified_on=self._modified_on(key),
            wanted=self._one("desired", [self._target_key], key) is not None,
            mirrored=written is not None,
            existing=self._one("existing", [self._target_key], key) is not None,
            compared=not (to_compare or self._one("touched", ["key"], key)),
            reading=not self._rows("select 1 from main.reading where name = $1 and phase = 'changes'", [self.name]),
            fields=self._fields(key, show_values=show_values),
            change=Kind(change[0]) if change else None,
            changed=(change[1] or ()) if change else (),
            reject=next(iter(self.rejects([key])), None),
            waits_for=self._waits_for(key),
            hold=self._hold(key),
            in_doubt=self._one("in_flight", ["key"], key) is not None,
            replayed=self._one("replay", ["key"], key) is not None,
            last_call=self._last_call(key),
            forgotten=bool(self._rows(f"select key from (select $1 as key) where {FORGOTTEN}", [key])),
        )

    def _modified_on(self, key: str) -> datetime | None:
        if MODIFIED_ON not in self._columns("snapshot"):
            return None
        read = self._one("snapshot", [MODIFIED_ON], key)
        return utc(read[0]) if read else None

    def _fields(self, key: str, *, show_values: bool) -> Sequence[TracedField]:
        names = [name for name in self._columns("mirror") if name not in (self._target_key, *WRITTEN, *HASHED)]
        desired, known = self._one("desired", names, key), self._one("mirror", names, key)
        if desired is None and known is None:
            return ()
        nothing = (None,) * len(names)
        return [
            TracedField(name, _differ(wanted, held), *((wanted, held) if show_values else ()))
            for name, wanted, held in zip(names, desired or nothing, known or nothing, strict=True)
        ]

    def _waits_for(self, key: str) -> Sequence[Awaited]:
        rows = self._rows(f"select table_name, awaited from {self._relation('deferred')} where key = $1", [key])
        return [
            Awaited(table, awaited, self._is_in_campaign(table, awaited), self._hold(awaited) is not None)
            for table, awaited in rows
        ]

    def _is_in_campaign(self, table: str, key: str) -> bool:
        known = self._rows("select target_key from main.table_mapping where name = $1", [table])
        mirror = related(table, "mirror")
        return any(self._rows(f"select 1 from {mirror} where {quote(column)} = $1", [key]) for (column,) in known)

    def _hold(self, key: str) -> Hold | None:
        rows = self._rows("select key, since, held_by from main.privacy_hold where key = $1", [key])
        return next((Hold(held, since.replace(tzinfo=UTC), by) for held, since, by in rows), None)

    def _last_call(self, key: str) -> LastCall | None:
        """The latest of what is kept of the last write, the last deletion and the last refusal."""
        rows = self._rows(
            f"""select _written_at as called_at, if(_written_as = 'identical', '{Kind.UPDATE}', _written_as),
                       if(_written_as = 'identical', 'identical', 'done')
                from {self._relation("mirror")} where {quote(self._target_key)} = $1 and _written_at is not null
                union all
                select deleted_at, '{Kind.DELETE}', 'done' from {self._relation("deleted")} where key = $1
                union all
                select last_at, kind, cause from {self._relation("reject")} where key = $1 and cause <> '{Cause.UNFIT}'
                order by called_at desc limit 1""",
            [key],
        )
        return next((LastCall(at.replace(tzinfo=UTC), kind, result) for at, kind, result in rows), None)

    # --- plumbing ---------------------------------------------------------------------------------------------------

    def _one(self, relation: str, columns: Sequence[str], key: str) -> tuple[Any, ...] | None:
        """These columns of the record with this *key*."""
        named, of_key = ", ".join(map(quote, columns)), quote(self._key_columns.get(relation, "key"))
        rows = self._rows(f"select {named} from {self._relation(relation)} where {of_key} = $1 limit 1", [key])
        return rows[0] if rows else None

    def _columns(self, relation: str) -> Sequence[str]:
        query = """select column_name from duckdb_columns() where schema_name = $1 and table_name = $2
                   order by column_index"""
        return [name for (name,) in self._rows(query, [self.name, relation])]

    def _count(self, rows: str) -> int:
        return int(self._rows(f"select count(*) from {rows}")[0][0])


def refuse_large_replay(table: str, *, backlog: int, records: int, limit: int) -> None:
    """Raise ConfigurationError where Campaign would be harmed by a replay ("Synchronize data": replay)."""
    for number, what in ((backlog, "changes in its backlog"), (records, "records")):
        if number >= limit:
            raise ConfigurationError(
                f"table '{table}' has {number:,} {what}; from {limit:,} on a replay is refused "
                "(guardrails.max_replay_records). Raise that limit, once Campaign can take as much."
            )


def _differ(desired: object, known: object) -> bool:
    """Campaign knows no empty number or truth: to it, nothing is zero and false."""
    return desired != known and bool(desired or known)
