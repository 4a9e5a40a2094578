"""From Dataverse's pages to the staging file, against only parsing the same bytes, and against dlt."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import orjson

from benchmarks import against_dlt
from benchmarks.report import Figure, Target, in_turn, peak_mb, seconds, spread
from benchmarks.systems import Systems, contacts_with, running
from d365_campaign.binding import BoundMapping
from d365_campaign.clients.dataverse import API_PATH, MAX_PAGE_SIZE, NEXT_LINK
from d365_campaign.flows.deadline import Deadline
from d365_campaign.flows.pull import pull
from d365_campaign.store.staging import open_staging

CONTACTS = 200_000
REPEATS = 5
DLT_REPEATS = 3
PEAK_LIMIT_MB = 500

# With the key these make 25.
COLUMNS = (
    *("firstname", "middlename", "lastname", "salutation", "emailaddress1", "emailaddress2", "mobilephone"),
    *("telephone1", "fax", "birthdate", "gendercode", "jobtitle", "department", "address1_line1", "address1_city"),
    *("address1_postalcode", "address1_stateorprovince", "address1_country", "creditlimit", "numberofchildren"),
    *("donotemail", "donotbulkemail", "parentcustomerid", "createdon"),
)


def run(directory: Path, scale: float) -> list[Figure]:
    contacts = max(1, round(CONTACTS * scale))
    with running(directory, contacts) as systems:
        bound = contacts_with(systems.dynamics(), COLUMNS)
        # The sandbox composes a page when it is first asked for and keeps it; from here on it only sends.
        _pull(systems, bound, directory / "warm-up.duckdb", contacts)
        files = (directory / f"staging{number}.duckdb" for number in count())

        def pull_once() -> float:
            return seconds(lambda: _pull(systems, bound, next(files), contacts))

        size = f"{contacts:,} contacts x {len(bound.columns)} columns"
        ours, parsing = in_turn(pull_once, lambda: _seconds_of_parsing(systems, bound), repeats=REPEATS)
        bare = Figure(
            what="pull",
            size=size,
            unit="rows/s",
            ours=contacts / min(ours),
            yardstick=contacts / min(parsing),
            target=Target("at least", 0.3),
            peak_mb=peak_mb(),
            peak_limit_mb=PEAK_LIMIT_MB,
            spread=spread(ours),
            remark="Dynamics over HTTPS to a new staging file; yardstick: orjson.loads alone over the same pages",
        )
        return [bare, _against_dlt(systems, bound, directory, contacts, size, pull_once)]


def _against_dlt(
    systems: Systems, bound: BoundMapping, directory: Path, contacts: int, size: str, pull_once: Callable[[], float]
) -> Figure:
    """The same pages, once by us and once by dlt, in turn."""
    theirs: list[float] = []
    remark = f"yardstick: dlt {against_dlt.version()}, its rest_api source to Parquet to a new DuckDB file"
    try:
        python = against_dlt.environment()
    except against_dlt.Unavailable as error:
        ours, remark = [pull_once() for _ in range(DLT_REPEATS)], f"no yardstick, dlt can't be installed here: {error}"
    else:
        folders = (directory / f"dlt{number}" for number in count())
        query = (bound.source.entity_set, _select(bound), _prefer())
        ours, theirs = in_turn(
            pull_once,
            lambda: against_dlt.seconds_of_pull(python, systems, query, next(folders), contacts),
            repeats=DLT_REPEATS,
        )
    return Figure(
        what="pull, against dlt",
        size=size,
        unit="rows/s",
        ours=contacts / min(ours),
        yardstick=contacts / min(theirs) if theirs else None,
        target=Target("at least", 4),
        peak_mb=peak_mb(),
        spread=spread(ours),
        remark=remark,
    )


def _pull(systems: Systems, bound: BoundMapping, staging: Path, contacts: int) -> None:
    dynamics = systems.dynamics()
    try:
        with open_staging(staging) as file:
            summary = pull(dynamics, file.table(bound), Deadline(None))
        assert summary.rows == summary.records == contacts, summary
    finally:
        dynamics.close()


def _seconds_of_parsing(systems: Systems, bound: BoundMapping) -> float:
    return sum(seconds(partial(orjson.loads, body)) for body in _pages(systems, bound))


def _pages(systems: Systems, bound: BoundMapping) -> Iterator[bytes]:
    """The bytes of the very pages that a pull reads, one at a time so that they don't weigh on the peak memory."""
    link = f"{systems.endpoints['dataverse']}{API_PATH}/{bound.source.entity_set}?$select={_select(bound)}"
    headers = {"Authorization": f"Bearer {systems.dynamics_tokens().current()}", "Prefer": _prefer()}
    while link:
        body = systems.fetch(link, headers)
        yield body
        # The link stands before the rows; finding it costs no parsing.
        link = _next_link(body)


def _select(bound: BoundMapping) -> str:
    return ",".join(column.wire_name for column in bound.columns)


def _prefer() -> str:
    return f"odata.track-changes,odata.maxpagesize={MAX_PAGE_SIZE}"


def _next_link(body: bytes) -> str:
    head = body[: body.index(b'"value":')].rstrip(b",") + b"}"
    return str(orjson.loads(head).get(NEXT_LINK, ""))
