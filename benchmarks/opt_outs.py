"""Opt-outs: deciding all people, a daily file from the SFTP server to decided state, and write-backs to Dynamics."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.plan import connection_of, key_of
from benchmarks.report import Figure, Target, forget_peak, in_turn, peak_mb, seconds, spread
from benchmarks.systems import Systems, running
from d365_campaign.binding import MODIFIED_ON, VERSION, BoundMapping, bind
from d365_campaign.clients.dataverse_writes import BATCH_SIZE
from d365_campaign.clients.sftp import SftpArea, SftpLogin
from d365_campaign.flows.deadline import Deadline
from d365_campaign.flows.exports import take_exports
from d365_campaign.flows.opt_outs import write_to_dynamics
from d365_campaign.flows.pull import pull
from d365_campaign.mapping import FieldMapping, KeyMapping, TableMapping
from d365_campaign.opt_out import ATTRIBUTES, OptOutDirection, OptOutPair, OptOuts
from d365_campaign.opt_out_files import ExportSettings
from d365_campaign.schemas import ResourceField, SourceColumn, SourceTable, TargetResource
from d365_campaign.store import sql, sql_opt_outs
from d365_campaign.store.staging import open_staging
from d365_campaign.store.table_store import TableStore
from d365_campaign.store.values import quote, text

CONTACTS = 5_000_000  # what the target is set for
FILE_ROWS, LARGE_FILE_ROWS = 1_000_000, 10_000_000
WRITE_BACKS = 12_000
REPEATS = 3
WRITE_BACK_REPEATS = 2
# About what Dataverse takes for a $batch of 100 updates, which it makes one after the other: 20 milliseconds each.
BATCH_SECONDS = 2.0
PARALLEL = 4
# What DuckDB may take of a file of ten million rows, and all of the process with it.
LARGE_FILE_MEMORY, LARGE_FILE_LIMIT_MB = "2GB", 3_000.0
FOLDER = "d365_loads/exports"

PAIRS = [OptOutPair(source=f"new_{name.lower()}", target=name) for name in ATTRIBUTES]
EMAIL = [OptOutPair(source="donotemail", target="blackListEmail")]


def run(directory: Path, scale: float, full: bool = False) -> list[Figure]:
    contacts = max(1_000, round(CONTACTS * scale))
    rows = max(1_000, round(FILE_ROWS * scale))
    written = max(2 * PARALLEL * BATCH_SIZE, round(WRITE_BACKS * min(1.0, scale)))
    figures = [
        _deciding(directory / "deciding.duckdb", contacts),
        *_file(directory / "file", rows),
        _write_backs(directory / "write_backs", written),
    ]
    return (
        [*figures, *_large_file(directory / "large", max(1_000, round(LARGE_FILE_ROWS * scale)))] if full else figures
    )


# --- deciding ---------------------------------------------------------------------------------------------------------


def _deciding(staging: Path, contacts: int) -> Figure:
    with open_staging(staging) as file:
        _fill(file.table(_people()), contacts)
    with open_staging(staging) as file:
        store = file.table(_people())
        forget_peak()
        ours, bare = in_turn(
            lambda: _seconds_of_deciding(store, contacts), lambda: seconds(lambda: _bare_join(store)), repeats=REPEATS
        )
    return Figure(
        what="opt-outs, decide",
        size=f"{contacts:,} contacts x {len(PAIRS)} pairs",
        unit="contacts/s",
        ours=contacts / min(ours),
        yardstick=contacts / min(bare),
        target=Target("at least", 0.5),
        peak_mb=peak_mb(),
        spread=spread(ours),
        remark="all people anew; yardstick: the bare join of both tables over all 16 values, keeping whoever differs",
    )


def _seconds_of_deciding(store: TableStore, contacts: int) -> float:
    assert store.opt_outs is not None
    took = seconds(lambda: store.opt_outs and store.opt_outs.compare(everything=True))
    summary = store.opt_outs.summary()
    assert summary.profiles == contacts, summary
    assert 0 < summary.open < contacts // 10, summary
    return took


def _bare_join(store: TableStore) -> None:
    key = quote(store.table.mapping.key.source)
    pairs = [(f"s.{quote(pair.source)}", f"k.{quote(pair.target)}") for pair in PAIRS]
    total = " + ".join(f"{value}::integer" for pair in pairs for value in pair)
    connection_of(store).execute(
        f"""create or replace table bare_join as
select s.{key} as key, {total} as opted_out
from {sql.relation(store.table, "snapshot")} as s
join {sql_opt_outs.relation("campaign")} as k on k.key = s.{key}
where {" or ".join(f"{one} <> {other}" for one, other in pairs)}"""
    )


def _people() -> BoundMapping:
    columns = {"contactid": "reference", "firstname": "text", MODIFIED_ON: "datetime", VERSION: "integer"}
    sources = {name: SourceColumn(name, kind, name) for name, kind in columns.items()}  # type: ignore[arg-type]
    sources |= {pair.source: SourceColumn(pair.source, "boolean", pair.source) for pair in PAIRS}
    fields = {name: ResourceField(name, "string") for name in ("externalId", "firstName")}
    fields |= {name: ResourceField(name, "boolean") for name in ATTRIBUTES}
    stamps = [stamp for attribute in ATTRIBUTES.values() for stamp in attribute.stamps]
    fields |= {name: ResourceField(name, "datetime") for name in ("lastModified", *stamps)}
    return bind(
        TableMapping(
            source="contact",
            target="profile",
            key=KeyMapping(source="contactid", target="externalId", declared_unique=True),
            fields=[FieldMapping(source="firstname", target="firstName")],
        ),
        SourceTable("contact", "contacts", "contactid", True, sources),
        TargetResource("profile", "profileAndServicesExt", fields),
        opt_outs=OptOuts(OptOutDirection.BIDIRECTIONAL, PAIRS),
    )


def _fill(store: TableStore, contacts: int) -> None:
    """Both words of everybody: one in ten opts out of each by chance, and of one in a hundred both words differ."""
    _fill_snapshot(store, contacts)
    words = ", ".join(
        f"(n % {number + 10} = 0) <> (i % 800 = {number}), timestamp '2026-01-01' + interval (n % 10000000) second"
        for number in range(len(PAIRS))
    )
    names = ", ".join(f"{quote(name)}, {quote(name + sql_opt_outs.AT)}" for name in ATTRIBUTES)
    connection_of(store).execute(
        f"""insert into {sql_opt_outs.relation("campaign")} (key, changed_at, in_doubt, {names})
            select {key_of("i")}, timestamp '2026-05-01', false, {words} from ({_numbers(contacts)}) order by 1"""
    )
    news = ", ".join(f"{quote(name + sql_opt_outs.NEWS)} = false" for name in ATTRIBUTES)
    connection_of(store).execute(f"update {sql_opt_outs.relation('campaign')} set {news}")


def _fill_snapshot(store: TableStore, contacts: int) -> None:
    values = ", ".join(f"n % {number + 10} = 0" for number in range(len(PAIRS)))
    names = ", ".join(quote(pair.source) for pair in PAIRS)
    own = f'"contactid", "firstname", {quote(MODIFIED_ON)}, {quote(VERSION)}'
    connection_of(store).execute(
        f"""insert into {sql.relation(store.table, "snapshot")} ({own}, {names}, {sql.GENERATION}, {sql.PAGE})
            select {key_of("i")}, 'First ' || (n % 500), timestamp '2026-02-01', i, {values}, 1, 0
            from ({_numbers(contacts)}) order by 1"""
    )


def _numbers(rows: int) -> str:
    return f"select i, cast(hash(i) >> 8 as bigint) as n from range({rows}) as r(i)"


# --- a daily file -----------------------------------------------------------------------------------------------------


class _Timed:
    """An SFTP area that tells how long downloads took."""

    def __init__(self, area: SftpArea) -> None:
        self._area, self.seconds = area, 0.0

    def __getattr__(self, name: str) -> object:
        return getattr(self._area, name)

    def download(self, folder: str, name: str, into: object) -> None:
        self.seconds += seconds(lambda: self._area.download(folder, name, into))  # type: ignore[arg-type]


def _file(directory: Path, rows: int) -> list[Figure]:
    parts, reading = _takes(directory, rows, repeats=REPEATS)
    totals = [sum(part.values()) for part in parts]
    best = parts[totals.index(min(totals))]
    split = ", ".join(f"{name} {took:.2f} s" for name, took in best.items())
    return [
        Figure(
            what="opt-outs, file",
            size=f"{rows:,} rows x {2 + 2 * len(PAIRS)} columns",
            unit="rows/s",
            ours=rows / min(totals),
            yardstick=rows / min(reading),
            target=Target("at least", 0.1),
            peak_mb=peak_mb(),
            spread=spread(totals),
            remark=f"SFTP server to decided state: {split}; yardstick: DuckDB only reading the same local file as text",
        )
    ]


def _large_file(directory: Path, rows: int) -> list[Figure]:
    [parts], [reading] = _takes(directory, rows, repeats=1, memory=LARGE_FILE_MEMORY)
    total = sum(parts.values())
    return [
        Figure(
            what="opt-outs, large file",
            size=f"{rows:,} rows x {2 + 2 * len(PAIRS)} columns",
            unit="rows/s",
            ours=rows / total,
            yardstick=rows / reading,
            target=Target("at least", 0.05),
            peak_mb=peak_mb(),
            peak_limit_mb=LARGE_FILE_LIMIT_MB,
            remark=f"DuckDB with {LARGE_FILE_MEMORY}: "
            + ", ".join(f"{name} {took:.1f} s" for name, took in parts.items()),
        )
    ]


def _takes(
    directory: Path, rows: int, repeats: int, memory: str = "80%"
) -> tuple[list[Mapping[str, float]], list[float]]:
    """Seconds of download, stage and decide of a file of all contacts, and of DuckDB only reading it, turn by turn."""
    parts: list[Mapping[str, float]] = []
    reading: list[float] = []
    with running(directory, contacts=0) as systems:
        template = directory / "people.duckdb"
        with open_staging(template) as file:
            _fill_snapshot(file.table(_people()), rows)
            export = directory / "export.csv"
            _write_export(file.table(_people()), export, rows)
        for number in range(repeats):
            staging = directory / f"staging{number}.duckdb"
            shutil.copyfile(template, staging)
            shutil.copyfile(export, directory / "sftp" / FOLDER / "optout.csv")
            with open_staging(staging) as file:
                store = file.table(_people())
                connection_of(store).execute(f"set memory_limit = '{memory}'")
                forget_peak()
                parts.append(_take(systems, store, staging, rows))
                reading.append(seconds(lambda: _only_read(store, export)))  # noqa: B023
            staging.unlink()
    return parts, reading


def _take(systems: Systems, store: TableStore, staging: Path, rows: int) -> Mapping[str, float]:
    assert store.opt_outs is not None
    settings = ExportSettings(stable_seconds=0)
    started = time.perf_counter()
    with SftpArea(_login(systems)) as connected:
        area = _Timed(connected)
        taken = take_exports(area, store.exports(settings), settings, staging)  # type: ignore[arg-type]
    staged = time.perf_counter()
    summary = store.opt_outs.compare()
    decided = time.perf_counter()
    assert [(export.rows, export.unreadable) for export in taken.exports] == [(rows, 0)], taken
    assert 0 < summary.to_dynamics < rows // 10, summary
    return {"download": area.seconds, "stage": staged - started - area.seconds, "decide": decided - staged}


def _login(systems: Systems) -> SftpLogin:
    sftp = systems.endpoints["sftp"]
    return SftpLogin(sftp["host"], sftp["user"], sftp["private_key_file"], sftp["port"], host_key=sftp["host_key"])


def _write_export(store: TableStore, file: Path, rows: int) -> None:
    """What Campaign says of everybody, as its workflow writes it; of one in a hundred it is news to Dynamics."""
    columns = ['key as "externalId"', f'{_stamp("n")} as "lastModified"']
    for number, name in enumerate(ATTRIBUTES):
        columns += [
            f'(n % {number + 10} = 0 or i % 800 = {number})::integer as "{name}"',
            f'{_stamp(f"n + {number}")} as "{ATTRIBUTES[name].stamps[0]}"',
        ]
    connection_of(store).execute(
        f"""copy (select {", ".join(columns)} from (select {key_of("i")} as key, * from ({_numbers(rows)})))
            to {text(str(file))} (header, delimiter ';')"""
    )


def _stamp(number: str) -> str:
    moment = f"timestamp '2026-03-01' + interval (({number}) % 5000000000) millisecond"
    return f"strftime({moment}, '%Y-%m-%d %H:%M:%S.%gZ')"


def _only_read(store: TableStore, file: Path) -> None:
    connection_of(store).execute(
        f"""create or replace temp table only_read as
            select * from read_csv({text(str(file))}, delim = ';', header = true, all_varchar = true)"""
    )
    connection_of(store).execute("drop table temp.only_read")


# --- write-backs ------------------------------------------------------------------------------------------------------


def _write_backs(directory: Path, contacts: int) -> Figure:
    with running(directory, contacts, workers=16) as systems:
        speeds = [
            _speed_of_write_backs(systems, directory / f"{n}.duckdb", contacts) for n in range(WRITE_BACK_REPEATS)
        ]
    return Figure(
        what="opt-outs, write back",
        size=f"{contacts:,} contacts, {PARALLEL} $batch of {BATCH_SIZE} at once, {BATCH_SECONDS:g} s each",
        unit="contacts/s",
        ours=max(speeds),
        yardstick=PARALLEL * BATCH_SIZE / BATCH_SECONDS,
        target=Target("at least", 0.9),
        peak_mb=peak_mb(),
        spread=spread(speeds),
        remark="yardstick: batches at once x size of one / latency; each contact is written in the version decided on",
    )


def _speed_of_write_backs(systems: Systems, staging: Path, contacts: int) -> float:
    dynamics, campaign = systems.dynamics(), systems.campaign()
    try:
        mapping = _email_mapping()
        source = dynamics.describe("contact")
        bound = bind(
            mapping, source, campaign.describe("profile"), opt_outs=OptOuts(OptOutDirection.BIDIRECTIONAL, EMAIL)
        )
        with open_staging(staging) as file:
            store = file.table(bound)
            assert store.opt_outs is not None
            systems.admin("POST", "settings", {"dataverse_latency_seconds": 0.0, "dop_hint": PARALLEL})
            pull(dynamics, store, Deadline(None))
            _say_otherwise(store)
            assert store.opt_outs.compare(everything=True).to_dynamics == contacts
            systems.admin("POST", "settings", {"dataverse_latency_seconds": BATCH_SECONDS})
            rows = dynamics.rows(bound.source, bound.opt_out_columns)
            target = campaign.target(bound.target, mapping.key.target)
            done = write_to_dynamics(store.opt_outs, rows, target, workers=16, deadline=Deadline(None))
        assert done.people == contacts, done
        return contacts / done.seconds
    finally:
        dynamics.close()
        campaign.close()


def _email_mapping() -> TableMapping:
    return TableMapping(
        source="contact",
        target="profile",
        key=KeyMapping(source="contactid", target="externalId", declared_unique=True),
        fields=[FieldMapping(source="firstname", target="firstName")],
    )


def _say_otherwise(store: TableStore) -> None:
    """Everybody opted out in Campaign, and in Dynamics nobody did."""
    snapshot = sql.relation(store.table, "snapshot")
    connection_of(store).execute(f'update {snapshot} set "donotemail" = false')
    later = f"{quote(MODIFIED_ON)} + interval 1 hour"
    word = '"blackListEmail", "blackListEmail_at", "blackListEmail_news"'
    connection_of(store).execute(
        f"""insert into {sql_opt_outs.relation("campaign")} (key, changed_at, in_doubt, {word})
            select "contactid", {later}, false, true, {later}, true from {snapshot}"""
    )
