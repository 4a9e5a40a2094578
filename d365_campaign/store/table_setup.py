"""A table mapping as it was at the last run, and as it is now: what the staging file keeps of it is brought up to date.

What a changed mapping makes unknown is read again, and everything is compared once.
"""

import json

import duckdb

from d365_campaign.binding import BoundMapping
from d365_campaign.changes import Reading
from d365_campaign.errors import ConfigurationError
from d365_campaign.mapping import PROFILE
from d365_campaign.store import sql, sql_quality
from d365_campaign.store.opt_outs import OptOutStore, switched_off
from d365_campaign.store.part import TablePart
from d365_campaign.store.privacy import remember_links
from d365_campaign.store.values import quote


class TableSetup(TablePart):
    """The relations of one table mapping, before a run uses them."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, table: BoundMapping, opt_outs: OptOutStore | None
    ) -> None:
        super().__init__(connection, table.name)
        self._table, self._opt_outs = table, opt_outs

    def prepare(self) -> None:
        """Make or fit what this table has there. Belongs to the caller's transaction.

        Raises ConfigurationError where the mapping, or what both systems say of it, is not what it was.
        """
        for statement in (*sql.create_relations(self._table), *sql_quality.create_relations(self._table)):
            self._run(statement)
        self._remember_mapping()
        remember_links(self._connection, self._table.mapping)
        self._refuse_changed_schema()
        if self._fit_columns("snapshot", sql.snapshot_columns(self._table)) and self.reading != Reading():
            # Without the new column a record looks as if Dynamics had cleared it: none is compared before it is read.
            self._run(f"truncate {self._relation('snapshot')}")
            self._move_to(Reading(generation=self.reading.generation + 1))
        held = sql.mirror_columns(self._table)
        fresh = [self._fit_columns("mirror", held | sql.WRITTEN | sql.HASHED), self._fit_columns("existing", held)]
        if any(fresh) and (self._any("mirror") or self._any("existing")):
            self._set("scanned", False)  # what Campaign holds in a field that is mapped from now on, is to be read
        if self._opt_outs:
            self._opt_outs.prepare()
        elif self._table.mapping.target == PROFILE:
            switched_off(self._connection)
        self._run(sql.create_desired(self._table))
        if self._state("fingerprint") != self._table.fingerprint():
            self._set("fingerprint", self._table.fingerprint())
            self._set("compare_everything", True)

    def _remember_mapping(self) -> None:
        identity = self._table.mapping.identity()
        known = self._rows(
            "select source, target, source_key, target_key from main.table_mapping where name = $1", [self.name]
        )
        if not known:
            self._run(
                "insert into main.table_mapping (name, source, target, source_key, target_key) "
                "values ($1, $2, $3, $4, $5)",
                [self.name, *identity.values()],
            )
        elif known[0] != tuple(identity.values()):
            was = ", ".join(f"{name} {old!r}" for name, old in zip(identity, known[0], strict=True))
            raise ConfigurationError(
                f"table mapping '{self.name}' was saved with {was}; tables and keys of a saved mapping can't "
                "change. Put them back, or start with another staging file to map this table anew."
            )

    def _refuse_changed_schema(self) -> None:
        """A column or field that is mapped as before, and means something else now, stops the table."""
        was, now = json.loads(self._state("schema_facts")), self._table.schema_facts()
        known = {name: was[name] for name in now if name in was}
        changed = [f"{name} was {told} and is {now[name]}" for name, told in known.items() if told != now[name]]
        if changed:
            raise ConfigurationError(
                f"table mapping '{self.name}': a schema changed since the last run: {', '.join(changed)}. "
                "Nothing was read or written. Check that the mapping still says what is meant, then accept it: "
                f"d365-campaign accept-schema {self.name}"
            )
        self._set("schema_facts", json.dumps(now))

    def _fit_columns(self, name: str, wanted: dict[str, str]) -> bool:
        """Add, drop and retype columns; tell whether there are new ones, whose values are yet to be read."""
        there = dict(
            self._rows(
                "select column_name, lower(data_type) from duckdb_columns() where schema_name = $1 and table_name = $2",
                [self.name, name],
            )
        )
        wanted = {column: kind.replace(", ", ",") for column, kind in wanted.items()}
        fresh = [column for column, kind in wanted.items() if there.get(column) != kind]
        stale = [column for column, kind in there.items() if wanted.get(column) != kind]
        if fresh or stale:
            self._run(f"drop view if exists {self._relation('desired')}")
        for column in stale:
            self._run(f"alter table {self._relation(name)} drop column {quote(column)}")
        for column in fresh:
            self._run(f"alter table {self._relation(name)} add column {quote(column)} {wanted[column]}")
        return bool(fresh)
