"""What a benchmark says, and how it is shown."""

import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

PACKAGES = ("d365_campaign", "duckdb", "polars", "pyarrow", "orjson", "requests")
PRINTED_WIDTH = 160  # into a file or a pipe


@dataclass(frozen=True, slots=True)
class Target:
    """The ratio of our figure to the yardstick that is good enough."""

    bound: Literal["at least", "at most"]
    ratio: float

    def met(self, ratio: float) -> bool:
        return ratio >= self.ratio if self.bound == "at least" else ratio <= self.ratio

    def __str__(self) -> str:
        return f"{'>=' if self.bound == 'at least' else '<='} {self.ratio:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: *ours* against *yardstick*, both in *unit* and taken within the same minute.

    Of several repeats the best one counts on either side: whatever else the machine does only ever slows one down.
    *spread* is the slowest repeat's ratio to the quickest, so it tells how noisy it was. *remark* goes below the table.
    A *yardstick* that can't be had here is None, and nothing is missed then.
    """

    what: str
    size: str
    unit: str
    ours: float
    yardstick: float | None
    target: Target
    peak_mb: float
    peak_limit_mb: float | None = None
    spread: float = 1.0
    remark: str = ""

    @property
    def ratio(self) -> float | None:
        return None if self.yardstick is None else self.ours / self.yardstick

    @property
    def met(self) -> bool:
        """Whether both the ratio and the peak memory are as they should be."""
        return self.ratio_met and (self.peak_limit_mb is None or self.peak_mb < self.peak_limit_mb)

    @property
    def ratio_met(self) -> bool:
        return self.ratio is None or self.target.met(self.ratio)


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds that *work* takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turn(*works: Callable[[], float], repeats: int) -> list[list[float]]:
    """The figures of each of *works*, taken turn by turn, so that a slow minute slows all of them."""
    rounds = [[work() for work in works] for _ in range(repeats)]
    return [list(figures) for figures in zip(*rounds, strict=True)]


def spread(figures: Sequence[float]) -> float:
    """The largest figure as a multiple of the smallest."""
    return max(figures) / min(figures)


def peak_mb() -> float:
    """The most memory this process ever held, or held since `forget_peak` where the system can do that."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1024 / 1024


def forget_peak() -> None:
    """Let `peak_mb` count from now on. Linux alone does it; elsewhere nothing is forgotten."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def footer() -> str:
    """When and where the figures were taken, and with what."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    names = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{datetime.now(UTC):%d %B %Y, %H:%M} UTC. A machine of {os.cpu_count()} cores ({_processor()}) and "
        f"{memory:.0f} GB of memory, {platform.system()} {platform.machine()}; load average {os.getloadavg()[2]:.1f} "
        f"over the last 15 minutes.\nPython {platform.python_version()}, {names}."
    )


def _processor() -> str:
    """Its name where the system tells one."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unnamed"


def show(figures: Sequence[Figure]) -> None:
    """Print the table, and below it what needs a sentence."""
    table = Table()
    for name in ("what", "size"):
        table.add_column(name)
    for name in ("unit", "ours", "yardstick", "ratio", "target", "spread", "peak MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for figure in figures:
        table.add_row(*_cells(figure), style=None if figure.met else "bold red")
    console = Console() if sys.stdout.isatty() else Console(width=PRINTED_WIDTH)
    console.print(table)
    for figure in figures:
        if figure.remark:
            console.print(f"{figure.what}: {figure.remark}", highlight=False, markup=False)
    console.print(footer(), highlight=False)


def _cells(figure: Figure) -> tuple[str, ...]:
    limit = "" if figure.peak_limit_mb is None else f" (< {figure.peak_limit_mb:,.0f})"
    return (
        figure.what,
        figure.size,
        figure.unit,
        _number(figure.ours),
        "none" if figure.yardstick is None else _number(figure.yardstick),
        "none" if figure.ratio is None else f"{figure.ratio:.3g}",
        f"{figure.target}{'' if figure.ratio_met else ' missed'}",
        f"{figure.spread:.2f}x",
        f"{figure.peak_mb:,.0f}{limit}",
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
