"""A connection to the staging file whose process ends between two statements."""

from contextlib import suppress

import duckdb


class Crash(BaseException):
    """The process ends here."""


class DiesAfter:
    """A connection on which only so many statements are done. `end` does what the end of its process would."""

    def __init__(self, connection: object, statements: int) -> None:
        self._connection, self._left = connection, statements

    def execute(self, query: str, parameters: object = None) -> object:
        if self._left == 0 and query != "rollback":
            raise Crash
        self._left -= 1
        return self._connection.execute(query, parameters)  # type: ignore[attr-defined]

    def end(self) -> None:
        with suppress(duckdb.TransactionException):  # there was none under way
            self._connection.execute("rollback")  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)
