"""The staging file: one DuckDB file per integration, one process at a time."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from d365_campaign.binding import BoundMapping
from d365_campaign.errors import ConfigurationError, RetriableError
from d365_campaign.mapping import TableMapping
from d365_campaign.opt_out import OptOuts
from d365_campaign.store.desk import TableDesk
from d365_campaign.store.ledger import Ledger
from d365_campaign.store.opt_out_desk import OptOutDesk
from d365_campaign.store.output_log import OutputLog
from d365_campaign.store.part import STATE, FilePart
from d365_campaign.store.privacy import Privacy
from d365_campaign.store.table_store import TableStore

# Small commits would otherwise rewrite the last row group again and again; closing the file folds the log in.
CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "preserve_insertion_order": "false",
    "checkpoint_threshold": "256MB",
    # The compression of later versions makes a row in the middle of a table several times dearer to fetch.
    "storage_compatibility_version": "v1.2.0",
}
# Counts up when relations of the file change in a way that `create table if not exists` doesn't bring about.
FORMAT = 2
# A disk that is full shows as any of these: while a statement writes, or when its transaction is to be committed.
UNWRITTEN = (duckdb.IOException, duckdb.TransactionException, duckdb.FatalException)


class Staging(FilePart):
    """An open staging file. `open_staging` gives one; it is closed when that block ends."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, logged_run: str | None = None) -> None:
        super().__init__(connection)
        self._run("set TimeZone = 'UTC'")  # in another, moments would be shifted on their way in
        with self._transaction():
            self._refuse_other_format()
            for statement in STATE:
                self._run(statement)
            self.ledger = Ledger(connection)
            self.privacy = Privacy(connection)
            self.output_log = OutputLog(connection, logged_run) if logged_run else None

    def _refuse_other_format(self) -> None:
        """All of the file can be made anew from both systems, so an older one is not converted."""
        self._run("create table if not exists main.staging_format (version integer)")
        if not self._rows("select 1 from duckdb_tables() where table_name <> 'staging_format' limit 1"):
            self._run("truncate main.staging_format")
            self._run("insert into main.staging_format values ($1)", [FORMAT])
        if self._rows("select version from main.staging_format") != [(FORMAT,)]:
            raise ConfigurationError(
                "the staging file was made by another version of this project. Keep it until a run with a new file "
                "went well (set staging.path): what Dynamics and Campaign hold is read again."
            )

    def table(self, bound: BoundMapping) -> TableStore:
        """The part of the file that belongs to one table mapping, made or brought up to date where needed."""
        return TableStore(self._connection, self.ledger, bound, self.output_log)

    def desk(self, name: str) -> TableDesk:
        """The same part, as a person asks about it. Raises ConfigurationError before the table's first run."""
        return TableDesk(self._connection, name)

    def opt_out_desk(self, contact: TableMapping, opt_outs: OptOuts, max_opt_ins: int) -> OptOutDesk:
        """What a person may ask about opt-outs. Raises ConfigurationError before the first run that keeps them."""
        return OptOutDesk(self._connection, contact, opt_outs, max_opt_ins)

    @property
    def tables(self) -> Sequence[str]:
        """The names of the table mappings that were run with this file."""
        return [name for (name,) in self._rows("select name from main.table_mapping")]


@contextmanager
def open_staging(path: Path, logged_run: str | None = None) -> Iterator[Staging]:
    """Open the staging file, made with its folder when it isn't there; readable by its owner only.

    *logged_run* is the id of a run of which is kept, for the output log, what became of each record.
    Raises RetriableError while another process works on it, ConfigurationError where it can't be opened at all.
    """
    with private_files():
        connection = _connect(path)
        try:
            yield Staging(connection, logged_run)
        except UNWRITTEN as error:
            raise RetriableError(
                f"staging file {path} could not be written ({type(error).__name__}): check free space and rights of "
                "its folder. What was committed before is kept; the next run goes on from there."
            ) from error
        finally:
            connection.close()


@contextmanager
def private_files() -> Iterator[None]:
    """DuckDB makes further files, with the same personal data, beside its own for as long as it is open."""
    previous = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(previous)


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return duckdb.connect(str(path), config=CONFIG)
    except duckdb.IOException as error:
        if "could not set lock" in str(error).lower():
            raise RetriableError(
                f"staging file {path} is in use by another process. One run at a time works on it: wait for that run."
            ) from error
        raise _unusable(path) from error
    except OSError as error:
        raise _unusable(path) from error


def _unusable(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"staging file {path} can't be opened for writing. Make its folder writable for this user, or set staging.path."
    )
