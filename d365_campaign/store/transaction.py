"""One transaction, and frames that statements may name while it lasts."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import duckdb
import polars as pl


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All or nothing."""
    connection.execute("begin")
    try:
        yield
    except BaseException:
        connection.execute("rollback")
        raise
    connection.execute("commit")


@contextmanager
def registered(connection: duckdb.DuckDBPyConnection, **frames: pl.DataFrame) -> Iterator[None]:
    """Let SQL name *frames* as relations."""
    for name, frame in frames.items():
        connection.register(name, frame)
    try:
        yield
    finally:
        # In a transaction that failed it can't be done, and needn't: the roll-back does it.
        with suppress(duckdb.TransactionException):
            for name in frames:
                connection.unregister(name)
