"""Long work, while it goes on: a bar for each table on a terminal, a line now and then elsewhere. It goes to stderr.

Nothing is asked for it: flows log how far they are (`Progress`), and this listens.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from d365_campaign.progress import Progress

FLOWS = "d365_campaign.flows"
LINE_SECONDS = 5.0


@dataclass
class TableProgress:
    """What was heard of one table so far; *total* is how many records are to be written, once that is planned."""

    name: str
    counts: dict[str, int] = field(default_factory=dict)
    total: int | None = None

    def heard(self, progress: Progress) -> None:
        if progress.doing == "planned":
            self.total = self.done + progress.records
            return
        self.counts[progress.doing] = self.counts.get(progress.doing, 0) + progress.records

    @property
    def done(self) -> int:
        return self.counts.get("written", 0)

    def __str__(self) -> str:
        of = f" of {self.total:,}" if self.total is not None else ""
        parts = [f"{number:,}{of if doing == 'written' else ''} {doing}" for doing, number in self.counts.items()]
        if self.total is not None and not self.done:
            parts.append(f"{self.total:,} to write")
        return f"{self.name}: {', '.join(parts) or 'begun'}"


class _Listener(logging.Handler):
    """Hears what flows log of their progress, and shows the table that it is about."""

    def __init__(self, show: Callable[[TableProgress], None]) -> None:
        super().__init__(logging.INFO)
        self._show, self._tables = show, dict[str, TableProgress]()

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.msg, Progress):
            table = self._tables.setdefault(record.msg.table, TableProgress(record.msg.table))
            table.heard(record.msg)
            self._show(table)


@contextmanager
def shown_progress(*, quiet: bool) -> Iterator[None]:
    """Show how far the flows are that work meanwhile; *quiet* shows nothing, as with `--json`."""
    if quiet:
        yield
        return
    with _bars() if sys.stderr.isatty() else _lines() as show:
        logger, listener = logging.getLogger(FLOWS), _Listener(show)
        before = logger.level
        logger.addHandler(listener)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.setLevel(before)
            logger.removeHandler(listener)


@contextmanager
def _bars() -> Iterator[Callable[[TableProgress], None]]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(table: TableProgress) -> None:
            task = tasks.setdefault(table.name, TaskID(-1))
            if task < 0:
                task = tasks[table.name] = bars.add_task(str(table), total=None)
            bars.update(task, description=str(table), total=table.total, completed=table.done)

        yield show


@contextmanager
def _lines() -> Iterator[Callable[[TableProgress], None]]:
    """A line at most every few seconds, so that short work has none."""
    told_at = time.monotonic()

    def show(table: TableProgress) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= LINE_SECONDS:
            told_at = time.monotonic()
            click.echo(str(table), err=True)

    yield show
