"""The staging file written anew: what was deleted from it is gone from its bytes, too."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from d365_campaign.errors import ConfigurationError, RetriableError
from d365_campaign.store.staging import UNWRITTEN, private_files
from d365_campaign.store.values import text


def rewrite(path: Path) -> None:
    """Put what the file holds into a new one that takes its place.

    DuckDB leaves the bytes of deleted rows where they are until it has a use for the room. It takes as much free space
    as the file has. Raises RetriableError while another process works on the file, and ConfigurationError when the new
    one can't be written; the file is then as it was.
    """
    fresh = path.with_name(f"{path.name}.fresh")
    with private_files():
        _fold_log_in(path)
        with _opened(path) as connection:
            # Others can't write meanwhile. What an earlier attempt, or a killed run, left behind holds the same data.
            shutil.rmtree(path.with_name(f"{path.name}.tmp"), ignore_errors=True)
            _remove(fresh)
            try:
                connection.execute(f"attach {text(str(fresh))} as fresh")
                connection.execute("copy from database staged to fresh")
                connection.execute("detach fresh")
                fresh.replace(path)
            except (*UNWRITTEN, duckdb.OutOfMemoryException, OSError) as error:
                raise ConfigurationError(
                    f"staging file {path} could not be written anew ({type(error).__name__}), so deleted values are "
                    f"still among its bytes. Make room for {path.stat().st_size:,} bytes beside it, and try again."
                ) from error
            finally:
                _remove(fresh)


def _fold_log_in(path: Path) -> None:
    """Write what stands in the log into the file: a log that outlived its file would be laid over the new one."""
    try:
        duckdb.connect(str(path)).close()
    except duckdb.IOException as error:
        raise _refusal(path, error) from error


@contextmanager
def _opened(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The file, only to be read; as long as it is open, no other process can open it to write."""
    connection = duckdb.connect(":memory:", config={"temp_directory": f"{path}.tmp"})
    try:
        try:
            connection.execute(f"attach {text(str(path))} as staged (read_only)")
        except duckdb.IOException as error:
            raise _refusal(path, error) from error
        if path.with_name(f"{path.name}.wal").exists():
            raise _in_use(path)  # a run came in between, and was killed
        yield connection
    finally:
        connection.close()


def _refusal(path: Path, error: duckdb.IOException) -> RetriableError | ConfigurationError:
    if "lock" in str(error).lower():
        return _in_use(path)
    return ConfigurationError(f"staging file {path} can't be opened for writing. Make it writable for this user.")


def _in_use(path: Path) -> RetriableError:
    return RetriableError(f"staging file {path} is in use by another process. Wait for it, and try again.")


def _remove(file: Path) -> None:
    for each in (file, file.with_name(f"{file.name}.wal")):
        each.unlink(missing_ok=True)
