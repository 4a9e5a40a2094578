"""How commands print: tables and sentences for people, one JSON value for machines; nothing else goes to stdout."""

import json
import os
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console

Command = TypeVar("Command", bound=Callable[..., Any])
# In a file or a pipe a table takes what it needs; a terminal, or COLUMNS, bounds it.
UNBOUNDED = 10_000
# As every Unix tool ends when its reader, such as `head`, has left.
READER_LEFT = 141


def json_option(shape: str) -> Callable[[Command], Command]:
    """The option `--json`, whose help tells the *shape* of what is printed; `...` stands for more members."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print JSON: {shape}")


class _Page(Console):
    def on_broken_pipe(self) -> None:
        leave_quietly()


def leave_quietly() -> NoReturn:
    """End without a word, for nobody reads any more; what is still buffered goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(READER_LEFT)


def console() -> Console:
    """Standard output: coloured on a terminal (not with NO_COLOR), and never cut to a width that nothing has."""
    found = _Page(highlight=False)
    if not found.is_terminal and "COLUMNS" not in os.environ:
        found.width = UNBOUNDED
    return found


def say(sentence: str) -> None:
    """A sentence on a line of its own, wrapped by the terminal alone."""
    console().print(sentence, highlight=False, markup=False, soft_wrap=True)


def print_json(shown: object) -> None:
    """The whole of it, indented; moments as ISO 8601."""
    click.echo(json.dumps(shown, indent=2, default=_plain))


def _plain(value: object) -> str:
    """What JSON has no form of its own for: moments and days, and decimal numbers."""
    return value.isoformat() if isinstance(value, datetime) else str(value)
