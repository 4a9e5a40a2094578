"""People's privacy in the staging file: keys that nothing may touch for a while, and people who were forgotten."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from d365_campaign.errors import ConfigurationError
from d365_campaign.mapping import PROFILE, TableMapping
from d365_campaign.store.part import FilePart
from d365_campaign.store.values import quote

PRIVACY = (
    "create table if not exists main.privacy_hold (key varchar, since timestamp, held_by varchar)",
    "create table if not exists main.forgotten (digest varchar, since timestamp)",
    "create table if not exists main.privacy_salt (salt varchar)",
    """create table if not exists main.link (
  table_name varchar, parent varchar, source_column varchar, target_column varchar
)""",
)
_DIGEST = "sha256((select salt from main.privacy_salt) || {0})"
# Where the record itself stands, with its values; in every other relation of a table its key is called `key`.
_RECORDS = ("snapshot", "mirror", "existing")


def forgotten(column: str) -> str:
    """Whether this (quoted) column holds the key of a person who was forgotten."""
    return f"{_DIGEST.format(column)} in (select digest from main.forgotten)"


FORGOTTEN = forgotten("key")


def as_sent(key: str) -> str:
    """A key as Dynamics sends it, however a person copied it: in lower case and without braces."""
    return key.strip().strip("{}").lower()


def remember_links(connection: duckdb.DuckDBPyConnection, mapping: TableMapping) -> None:
    """Keep which columns lead to other tables' records: whoever is forgotten is so with all that refers to them."""
    connection.execute("delete from main.link where table_name = $1", [mapping.name])
    for link in mapping.links:
        connection.execute(
            "insert into main.link values ($1, $2, $3, $4)",
            [mapping.name, link.parent, link.source, mapping.foreign_key(link)],
        )


@dataclass(frozen=True, slots=True)
class Hold:
    """A key that no flow writes, since when, and who asked for it."""

    key: str
    since: datetime
    held_by: str


@dataclass(frozen=True, slots=True)
class _Relation:
    """A relation with the key column of its rows and its other text columns, as the file's catalogue has them."""

    table: str
    name: str
    key: str
    texts: Sequence[str]

    @property
    def path(self) -> str:
        return f"{quote(self.table)}.{quote(self.name)}"


class Privacy(FilePart):
    """Privacy holds, and the forgetting of people, over every table of the staging file. Any spelling of a key fits."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        super().__init__(connection)
        for statement in PRIVACY:
            self._run(statement)
        if not self._rows("select 1 from main.privacy_salt"):
            self._run("insert into main.privacy_salt values ($1)", [secrets.token_hex(32)])

    # --- holds ------------------------------------------------------------------------------------------------------

    def hold(self, key: str, by: str) -> Hold:
        """Let nothing touch the record with this key until it is released. The first hold of a key stands."""
        key = as_sent(key)
        if not any(hold.key == key for hold in self.holds()):
            self._run("insert into main.privacy_hold values ($1, $2, $3)", [key, _now(), by])
        return next(hold for hold in self.holds() if hold.key == key)

    def release(self, key: str) -> bool:
        """End the hold; False when there was none."""
        return bool(self._rows("delete from main.privacy_hold where key = $1 returning key", [as_sent(key)]))

    def holds(self) -> Sequence[Hold]:
        """Every hold, oldest first."""
        rows = self._rows("select key, since, held_by from main.privacy_hold order by since, key")
        return [Hold(key, since.replace(tzinfo=UTC), held_by) for key, since, held_by in rows]

    # --- forgetting -------------------------------------------------------------------------------------------------

    def tables_of(self, key: str) -> Sequence[str]:
        """The tables that know a record with this key."""
        return sorted(
            {
                relation.table
                for relation in self._relations()
                if relation.table != "main"
                if self._rows(f"select 1 from {relation.path} where {quote(relation.key)} = $1 limit 1", [as_sent(key)])
            }
        )

    def records_of(self, key: str) -> Mapping[str, Sequence[str]]:
        """Keys by table: the record with this key, and the records whose links lead to it, to these, and so on.

        Raises ConfigurationError where people are linked to it: each of them is forgotten by a key of their own.
        """
        key, relations = as_sent(key), self._relations()
        found = {table: {key} for table in self.tables_of(key)}
        latest = {key}
        while latest:
            linked = {
                (table, child) for table, child in self._linked(relations, latest) if child not in found.get(table, ())
            }
            for table, child in linked:
                found.setdefault(table, set()).add(child)
            latest = {child for _, child in linked}
        self._refuse_people_among(found, key)
        return {table: sorted(found[table]) for table in sorted(found)}

    def forget(self, key: str) -> Mapping[str, int]:
        """Remove what `records_of` tells from every relation of the file; returns how many records, by table.

        Of the person a salted hash stays, so that no change and no replay brings them back, nor what refers to them.
        A record that isn't linked and yet names one of these keys in a field loses that value, and is read back from
        Campaign before it is written again. The holds of these keys end: nothing is left that could be written.

        The bytes stay in the file until `rewrite` is through.
        """
        key = as_sent(key)
        records = self.records_of(key)
        keys = sorted({key, *(each for found in records.values() for each in found)})
        with self._transaction():
            for relation in self._relations():
                self._remove(relation, keys)
            for relation in [r for r in self._relations() if r.name in _RECORDS]:
                self._clear_references(relation, keys)
            for hidden in keys:
                # The link to the next page may hold the key that the last page ended with: that reading starts again.
                self._run("update main.reading set next_link = null where contains(lower(next_link), $1)", [hidden])
            digest = _DIGEST.format("$1::varchar")
            self._run(
                f"insert into main.forgotten select {digest}, $2 where not {forgotten('$1::varchar')}", [key, _now()]
            )
        return {table: len(found) for table, found in records.items()}

    def _remove(self, relation: _Relation, keys: Sequence[str]) -> None:
        """A record's own rows; of lists of keys any row in which one of them stands, such as what waits for it."""
        columns = [relation.key] if relation.name in _RECORDS else [relation.key, *relation.texts]
        named = " or ".join(f"{quote(column)} = any($1)" for column in columns)
        self._run(f"delete from {relation.path} where {named}", [keys])

    def _clear_references(self, relation: _Relation, keys: Sequence[str]) -> None:
        for column in map(quote, relation.texts):
            if relation.name == "mirror":
                doubtful = f"select {quote(relation.key)}, 0 from {relation.path} where {column} = any($1)"
                self._run(f"insert into {quote(relation.table)}.in_flight {doubtful}", [keys])
            self._run(f"update {relation.path} set {column} = null where {column} = any($1)", [keys])

    def _linked(self, relations: Sequence[_Relation], keys: set[str]) -> Iterator[tuple[str, str]]:
        """Table and key of the records with a link that leads to one of *keys*."""
        for table, source, target in self._rows("select table_name, source_column, target_column from main.link"):
            for relation in relations:
                column = source if relation.name == "snapshot" else target
                if relation.table == table and relation.name in _RECORDS and column in relation.texts:
                    query = f"select {quote(relation.key)} from {relation.path} where {quote(column)} = any($1)"
                    yield from ((table, child) for (child,) in self._rows(query, [list(keys)]))

    def _refuse_people_among(self, found: Mapping[str, set[str]], key: str) -> None:
        for (table,) in self._rows("select name from main.table_mapping where target = $1", [PROFILE]):
            if people := found.get(table, set()) - {key}:
                raise ConfigurationError(
                    f"{len(people)} records of '{table}' are linked to {key}. They are people of their own: forget "
                    f"each by its own key, for instance {min(people)}. Nothing was removed."
                )

    def _relations(self) -> Sequence[_Relation]:
        """Every relation of every table's schema, and those of the whole file that hold keys, by its catalogue."""
        identities = self._rows("select name, source_key, target_key from main.table_mapping")
        own = {(name, "snapshot"): source for name, source, _ in identities}
        own |= {(name, relation): target for name, _, target in identities for relation in ("mirror", "existing")}
        columns = self._rows(
            """select schema_name, table_name, list(column_name)
               from duckdb_columns() semi join duckdb_tables() using (database_name, schema_name, table_name)
               where database_name = current_database() and data_type = 'VARCHAR'
               group by all order by all"""
        )
        return [
            _Relation(schema, name, key, [column for column in texts if column != key])
            for schema, name, texts in columns
            if (key := own.get((schema, name), "key")) in texts
        ]


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
