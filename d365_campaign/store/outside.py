"""The staging file as it lies there: nothing of it is made, changed or waited for."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from d365_campaign.errors import ConfigurationError, RetriableError
from d365_campaign.store.sql import related
from d365_campaign.store.staging import FORMAT

ANYBODY = 0o077


@dataclass(frozen=True, slots=True)
class Place:
    """Where the staging file is, or is to be. *exposed* are its files that other users may reach."""

    is_there: bool
    writable: bool
    exposed: Sequence[Path]
    free_bytes: int


@dataclass(frozen=True, slots=True)
class SavedTable:
    """What the file keeps of a table mapping that was run.

    *scanned*: Campaign's keys were listed, and none stood there twice. *loaded*: the first load has begun.
    """

    identity: Mapping[str, str]
    schema_facts: Mapping[str, str]
    scanned: bool
    loaded: bool
    large_load_acknowledged_by: str | None


def place_of(path: Path) -> Place:
    """What a run would find there; a folder that isn't there yet is made by the first one."""
    folder = next(parent for parent in path.parents if os.access(parent, os.F_OK))
    beside = path.with_name(f"{path.name}.wal")
    files = [file for file in (path, beside) if os.access(file, os.F_OK)]
    return Place(
        is_there=path in files,
        writable=os.access(folder, os.W_OK | os.X_OK) and all(_writable_file(file) for file in files),
        exposed=[file for file in files if file.stat().st_mode & ANYBODY],
        free_bytes=shutil.disk_usage(folder).free,
    )


def _writable_file(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK | os.W_OK)


def saved_tables(path: Path) -> Mapping[str, SavedTable]:
    """What the file keeps, by table mapping; nothing where there is no file.

    Raises RetriableError while another process works on it, ConfigurationError for a file that no run could use.
    """
    if not os.access(path, os.F_OK):
        return {}
    with _opened(path) as connection:
        there = {
            (schema, table)
            for schema, table in connection.execute("select schema_name, table_name from duckdb_tables()").fetchall()
        }
        if ("main", "staging_format") in there:
            _refuse_other_format(path, connection)
        if ("main", "table_mapping") not in there:
            return {}
        rows = connection.execute(
            """select name, source, target, source_key, target_key, schema_facts, scanned, large_load_acknowledged_by
               from main.table_mapping"""
        ).fetchall()
        return {
            name: SavedTable(
                dict(zip(("source", "target", "source_key", "target_key"), identity, strict=True)),
                json.loads(schema_facts),
                bool(scanned),
                (name, "mirror") in there and _has_rows(connection, related(name, "mirror")),
                acknowledged_by,
            )
            for name, *identity, schema_facts, scanned, acknowledged_by in rows
        }


@contextmanager
def _opened(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.IOException as error:
        if "could not set lock" in str(error).lower():
            raise RetriableError(f"staging file {path} is in use by a run.") from error
        raise ConfigurationError(
            f"staging file {path} can't be read as one. Make it readable for this user, or set staging.path to another."
        ) from error
    try:
        yield connection
    finally:
        connection.close()


def _refuse_other_format(path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    if connection.execute("select version from main.staging_format").fetchall() != [(FORMAT,)]:
        raise ConfigurationError(
            f"staging file {path} was made by another version of this project. Set staging.path to a new file: what "
            "Dynamics and Campaign hold is read again."
        )


def _has_rows(connection: duckdb.DuckDBPyConnection, relation: str) -> bool:
    return bool(connection.execute(f"select 1 from {relation} limit 1").fetchall())
