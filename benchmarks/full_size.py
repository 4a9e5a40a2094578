"""One table at its full size: `python -m benchmarks.full_size --rows 15000000`. It takes a while, and room on the disk.

The pages of a full read, the plan of the initial load, a minute of writing it, and a round of changes: amid the backlog
that is left then, and once the table is in step. Each phase is a process of its own that opens the staging file, as a
run does. Campaign is a stand-in that answers after a while and keeps nothing.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import duckdb
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks import plan as planning
from benchmarks.plan import COLUMNS, connection_of
from benchmarks.report import PRINTED_WIDTH, footer, peak_mb, seconds
from d365_campaign.binding import BoundMapping
from d365_campaign.changes import Change, ChangePage, FoundRecord, Outcome, Reading
from d365_campaign.field_types import HELD
from d365_campaign.flows.apply import EngineCallBudget, Pace, apply
from d365_campaign.flows.deadline import Deadline
from d365_campaign.flows.guards import Guards
from d365_campaign.flows.plan import plan
from d365_campaign.store import sql
from d365_campaign.store.ledger import Ledger
from d365_campaign.store.staging import open_staging
from d365_campaign.store.table_store import TableStore
from d365_campaign.store.values import quote, text

PAGE_ROWS = 5_000
CHANGED = 1_000
LATENCY_SECONDS = 0.05
WORKERS = 16
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured. Without *memory_limit* DuckDB takes up to 80 % of the machine's memory before it spills."""

    rows: int
    write_seconds: float
    memory_limit: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What a phase did, and the seconds that count for it."""

    records: int
    seconds: float
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase as it was measured, the seconds that its file took to open and close, and the file's size after it.

    *steps* are the seconds of each step that it repeats, by name.
    """

    what: str
    done: Done
    opening: float
    closing: float
    file_mb: float
    peak_mb: float
    steps: Mapping[str, Sequence[float]]


class TimedStore(TableStore):
    """Notes how long each of its repeated steps takes, and when the last one ended."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, ledger: Ledger, table: BoundMapping) -> None:
        super().__init__(connection, ledger, table)
        self.ledger = ledger
        self.steps: dict[str, list[float]] = {}
        self.last_step_at = time.monotonic()

    def absorb(self, page: ChangePage, then: Reading) -> None:
        self._timed("absorb", super().absorb, page, then)

    def take_window(self, limit: int) -> list[Change]:
        return self._timed("window", super().take_window, limit)

    def claim(self, changes: Sequence[Change]) -> None:
        self._timed("claim", super().claim, changes)

    def settle(self, outcomes: Sequence[Outcome], max_attempts: int = 1) -> None:
        self._timed("settle", super().settle, outcomes, max_attempts)

    def _timed(self, step: str, work: Callable[..., T], *given: object) -> T:
        started = time.monotonic()
        done = work(*given)
        self.last_step_at = time.monotonic()
        self.steps.setdefault(step, []).append(self.last_step_at - started)
        return done


class Latent:
    """Campaign as far as time goes: every call takes the latency, and nothing is kept."""

    def __init__(self) -> None:
        self.first_call: float | None = None

    def clock(self) -> float:
        """Seconds since the first call; so a deadline spares what comes before it."""
        return 0.0 if self.first_call is None else time.monotonic() - self.first_call

    def read(self, key: str) -> FoundRecord | None:
        self._take_a_while()
        return FoundRecord({}, key)

    def create(self, key: str, values: Mapping[str, object]) -> None:
        self._take_a_while()

    def update(self, key: str, found: FoundRecord, values: Mapping[str, object]) -> None:
        self._take_a_while()

    def delete(self, key: str) -> bool:
        self._take_a_while()
        return True

    def records(self, fields: Sequence[str]) -> Iterator[pl.DataFrame]:
        return iter(())

    def _take_a_while(self) -> None:
        self.first_call = self.first_call or time.monotonic()
        time.sleep(LATENCY_SECONDS)


# --- the phases, in their order ---------------------------------------------------------------------------------------


def absorb_pages(store: TimedStore, settings: Settings) -> Done:
    """A full read, page by page, in the order of the keys."""
    reading = Reading()
    with duckdb.connect(config={"memory_limit": "500MB"}) as maker:
        for first in range(0, settings.rows, PAGE_ROWS):
            last = min(first + PAGE_ROWS, settings.rows)
            if last == settings.rows:
                reading = replace(reading, phase="changes", caught_up=True)
            store.absorb(_page(_rows(maker, settings, f"range({first}, {last})")), reading)
    return Done(settings.rows, sum(store.steps["absorb"]))


def plan_initial_load(store: TimedStore, settings: Settings) -> Done:
    took = seconds(lambda: plan(store, Latent()))
    assert store.summary().insert == settings.rows, store.summary()
    return Done(settings.rows, took)


def write_inserts(store: TimedStore, settings: Settings) -> Done:
    return _write(store, settings)


def plan_changes_amid_backlog(store: TimedStore, settings: Settings) -> Done:
    """Nearly all of the inserts are still open when changes come in."""
    return _absorb_and_plan_changes(store, settings)


def plan_everything_in_step(store: TimedStore, settings: Settings) -> Done:
    """The mirror is filled first, as if everything had been written; that doesn't count."""
    connection_of(store).execute(f"delete from {sql.relation(store.table, 'mirror')}")
    connection_of(store).execute(sql.insert_mirrored(store.table, sql.relation(store.table, "desired")))
    took = seconds(lambda: store.plan(everything=True))
    assert store.summary().open == 0, store.summary()
    return Done(settings.rows, took)


def plan_changes_in_step(store: TimedStore, settings: Settings) -> Done:
    return _absorb_and_plan_changes(store, settings)


def write_updates(store: TimedStore, settings: Settings) -> Done:
    return _write(store, settings)


PHASES: Sequence[Callable[[TimedStore, Settings], Done]] = (
    absorb_pages,
    plan_initial_load,
    write_inserts,
    plan_changes_amid_backlog,
    plan_everything_in_step,
    plan_changes_in_step,
    write_updates,
)


def _absorb_and_plan_changes(store: TimedStore, settings: Settings) -> Done:
    """A page of changes, spread over the table, and the plan of them."""
    number = min(CHANGED, settings.rows)
    step = settings.rows // number
    with duckdb.connect() as maker:
        rows = _rows(maker, settings, f"(select i * {step} + {step - 1} from range({number}) as r(i))")
    other = pl.lit(f"City {time.time()}")
    store.absorb(_page(rows.with_columns(city=other)), replace(store.reading, caught_up=True))
    return Done(number, store.steps["absorb"][0] + seconds(lambda: plan(store, Latent())))


def _write(store: TimedStore, settings: Settings) -> Done:
    """For as long as is set from the first call on; the guards just let so many pass."""
    target = Latent()
    started = time.monotonic()
    summary = apply(
        store,
        store.ledger,
        target,
        pace=Pace(workers=WORKERS),
        budget=EngineCallBudget(),
        guards=Guards(large_load=settings.rows, max_initial=settings.rows),
        deadline=Deadline(settings.write_seconds, target.clock),
    )
    ended = time.monotonic()
    assert target.first_call is not None
    writing = store.last_step_at - target.first_call
    remark = (
        f"{summary.engine_calls:,} calls, {summary.engine_calls / writing:.0f} a second of at most "
        f"{WORKERS / LATENCY_SECONDS:.0f}; {target.first_call - started:.1f} s before the first, "
        f"{ended - store.last_step_at:.1f} s after the last"
    )
    return Done(summary.inserted + summary.updated, writing, remark)


# --- what they share --------------------------------------------------------------------------------------------------


@contextmanager
def _opened(file: Path, settings: Settings) -> Iterator[TimedStore]:
    with open_staging(file) as staging:
        plain = staging.table(planning.mapping())
        if settings.memory_limit is not None:
            connection_of(plain).execute(f"set memory_limit = {text(settings.memory_limit)}")
        yield TimedStore(connection_of(plain), staging.ledger, plain.table)


def _page(rows: pl.DataFrame) -> ChangePage:
    return ChangePage(rows, [], None, None, datetime.now(UTC))


def _rows(maker: duckdb.DuckDBPyConnection, settings: Settings, numbers: str) -> pl.DataFrame:
    """Records of these numbers, in the types of a page. Their keys rise with the numbers."""
    values = ", ".join(f"{value} as {quote(name)}" for name, _, _, value in COLUMNS)
    spacing, digits = 0xFFFFFFFF // settings.rows, "substr(md5(cast(i as varchar)), 1, 24)"
    made: pl.DataFrame = maker.sql(
        f"""select contactid, {values}
        from (
          select cast(cast(printf('%08x', i * {spacing}) || {digits} as uuid) as varchar) as contactid,
                 cast(hash(i) >> 8 as bigint) as n
          from {numbers} as r(i)
        )"""
    ).pl()
    held = {"contactid": HELD["reference"].page} | {name: HELD[kind].page for name, kind, _, _ in COLUMNS}
    return made.select(pl.col(name).cast(kind) for name, kind in held.items())


# --- one phase, and all of them ---------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.full_size", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=15_000_000)
    parser.add_argument("--write-seconds", type=float, default=60.0, help="how long the initial load is written")
    parser.add_argument("--memory-limit", help="DuckDB's memory_limit, such as 4GB; without it 80 %% of the machine's")
    parser.add_argument("--directory", type=Path, help="where the staging file is made; a temporary folder otherwise")
    parser.add_argument("--child", choices=[phase.__name__ for phase in PHASES], help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    settings = Settings(given.rows, given.write_seconds, given.memory_limit)
    if given.child:
        print(json.dumps(asdict(_measured(given.child, given.directory / "staging.duckdb", settings))))
        return 0
    with tempfile.TemporaryDirectory(prefix="full-size-", dir=given.directory) as directory:
        taken = []
        for phase in PHASES:
            print(f"{phase.__name__} ...", file=sys.stderr, flush=True)
            taken.append(_measured_apart(phase.__name__, Path(directory), settings))
            print(_told(taken[-1]), file=sys.stderr, flush=True)
    _show(taken, settings)
    return 0


def _measured(name: str, file: Path, settings: Settings) -> Phase:
    phase = next(phase for phase in PHASES if phase.__name__ == name)
    started = time.monotonic()
    with _opened(file, settings) as store:
        opening = time.monotonic() - started
        done = phase(store, settings)
        steps, ending = store.steps, time.monotonic()
    closing = time.monotonic() - ending
    what = name.replace("_", " ")
    return Phase(what, done, opening, closing, file.stat().st_size / 1e6, peak_mb(), steps)


def _measured_apart(name: str, directory: Path, settings: Settings) -> Phase:
    """In a new process, as a run is one, so that its peak memory is its own."""
    command = [sys.executable, "-m", "benchmarks.full_size", "--child", name, "--directory", str(directory)]
    command += ["--rows", str(settings.rows), "--write-seconds", str(settings.write_seconds)]
    command += [] if settings.memory_limit is None else ["--memory-limit", settings.memory_limit]
    facts = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return Phase(**facts | {"done": Done(**facts["done"])})


def _show(phases: Sequence[Phase], settings: Settings) -> None:
    table = Table(
        title=f"{settings.rows:,} rows x {len(COLUMNS)} columns, memory_limit {settings.memory_limit or 'none'}"
    )
    table.add_column("phase")
    for name in ("records", "s", "records/s", "s to open", "s to close", "file MB", "peak MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for phase in phases:
        table.add_row(*_cells(phase))
    console = Console() if sys.stdout.isatty() else Console(width=PRINTED_WIDTH)
    console.print(table)
    for phase in phases:
        for line in _remarks(phase):
            console.print(line, highlight=False, markup=False)
    console.print(footer(), highlight=False)


def _told(phase: Phase) -> str:
    return " | ".join(_cells(phase)) + "".join(f"\n  {line}" for line in _remarks(phase))


def _cells(phase: Phase) -> tuple[str, ...]:
    return (
        phase.what,
        f"{phase.done.records:,}",
        f"{phase.done.seconds:,.2f}",
        f"{phase.done.records / phase.done.seconds:,.0f}",
        f"{phase.opening:.2f}",
        f"{phase.closing:.2f}",
        f"{phase.file_mb:,.0f}",
        f"{phase.peak_mb:,.0f}",
    )


def _remarks(phase: Phase) -> Iterator[str]:
    if phase.done.remark:
        yield f"{phase.what}: {phase.done.remark}"
    for step, took in phase.steps.items():
        tenth = len(took) // 10 + 1
        middle, first, last = (statistics.median(part) * 1000 for part in (took, took[:tenth], took[-tenth:]))
        yield (
            f"{phase.what}: {len(took):,} x {step}, {sum(took):,.1f} s in all; median {middle:,.0f} ms, "
            f"first tenth {first:,.0f} ms, last tenth {last:,.0f} ms, slowest {max(took) * 1000:,.0f} ms"
        )


if __name__ == "__main__":
    sys.exit(main())
