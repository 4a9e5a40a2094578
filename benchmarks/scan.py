"""What Campaign holds before the first write, into the staging file; against only parsing the same bytes."""

import time
from itertools import count
from pathlib import Path
from urllib.parse import urlencode

import orjson

from benchmarks.report import Figure, Target, in_turn, peak_mb, seconds, spread
from benchmarks.systems import CONTACT_TO_PROFILE, Systems, profiles, running
from d365_campaign.binding import BoundMapping
from d365_campaign.clients.campaign import RECORDS_PER_PAGE
from d365_campaign.store.staging import open_staging

PROFILES = 50_000
REPEATS = 5

FIELDS = {
    **CONTACT_TO_PROFILE,
    "jobtitle": "cusJobTitle",
    "department": "cusDepartment",
    "creditlimit": "cusCreditLimit",
    "numberofchildren": "cusNumberOfChildren",
}


def run(directory: Path, scale: float) -> list[Figure]:
    records = max(1, round(PROFILES * scale))
    with running(directory, contacts=0, profiles=records) as systems:
        bound = _bound(systems)
        # The sandbox composes a page when it is first asked for and keeps it; from here on it only sends.
        _scan(systems, bound, directory / "warm-up.duckdb", records)
        files = (directory / f"staging{number}.duckdb" for number in count())
        ours, parsing = in_turn(
            lambda: seconds(lambda: _scan(systems, bound, next(files), records)),
            lambda: _seconds_of_parsing(systems, bound),
            repeats=REPEATS,
        )
    return [
        Figure(
            what="scan",
            size=f"{records:,} profiles x {len(bound.fields)} fields",
            unit="records/s",
            ours=records / min(ours),
            yardstick=records / min(parsing),
            target=Target("at least", 0.2),
            peak_mb=peak_mb(),
            spread=spread(ours),
            remark="Campaign over HTTPS to a new staging file; yardstick: orjson.loads alone over the same pages",
        )
    ]


def _bound(systems: Systems) -> BoundMapping:
    dynamics, campaign = systems.dynamics(), systems.campaign()
    try:
        return profiles(dynamics, campaign, FIELDS)
    finally:
        dynamics.close()
        campaign.close()


def _scan(systems: Systems, bound: BoundMapping, staging: Path, records: int) -> None:
    campaign = systems.campaign()
    try:
        target = campaign.target(bound.target, bound.mapping.key.target)
        with open_staging(staging) as file:
            pages = target.records([f.target.name for f in bound.fields])
            found, calls = file.table(bound).note_existing(pages)
        assert (found, calls) == (records, -(-records // RECORDS_PER_PAGE)), (found, calls)
    finally:
        campaign.close()


def _seconds_of_parsing(systems: Systems, bound: BoundMapping) -> float:
    """The very pages that a scan reads, one at a time so that they don't weigh on the peak memory."""
    query = urlencode({"_lineCount": RECORDS_PER_PAGE, "_forcePagination": "true"})
    link = f"{systems.endpoints['campaign']}/{bound.target.endpoint}/{bound.target.name}?{query}"
    headers = {"Authorization": f"Bearer {systems.campaign_tokens().current()}", "X-Api-Key": systems.campaign_api_key}
    took = 0.0
    while link:
        body = systems.fetch(link, headers)
        started = time.perf_counter()
        page = orjson.loads(body)
        took += time.perf_counter() - started
        link = page.get("next", {}).get("href", "")
    return took
