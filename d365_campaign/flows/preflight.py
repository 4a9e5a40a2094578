"""The preflight: whether everything that a run needs is in place. It only reads, in both systems and on disk.

Each probe is tried on its own, so that one failing system doesn't hide what is to be said of the other.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from d365_campaign import checks
from d365_campaign.config import Configuration
from d365_campaign.errors import ConfigurationError, RetriableError, SyncError
from d365_campaign.flows.findings import Finding, fine, in_two, tried, warning, wrong
from d365_campaign.flows.preflight_opt_outs import Storage, WorkflowProbe, look_at_opt_outs, pairs_fit
from d365_campaign.flows.preflight_privacy import personal_data
from d365_campaign.flows.preflight_table import CampaignResources, DynamicsTables, Systems, TableLook, look_at
from d365_campaign.mapping import CONTACT
from d365_campaign.settings import EngineCallSettings, PrivacySettings
from d365_campaign.store.outside import SavedTable, place_of, saved_tables

CONFIGURATION, DYNAMICS, CAMPAIGN = "Configuration", "Dynamics", "Campaign"
STAGING, FIRST_LOAD = "Staging file", "First load"
THREADS = 8
# Opt-outs of both systems are decided by their times; beyond five minutes tokens are refused as well.
SKEW_WARNED, SKEW_WRONG = 60.0, 300.0
# Snapshot and mirror with the log of a first load, which was measured at 0.9 kB for 130 characters of text.
BYTES_PER_RECORD = 2_000
SPARE_BYTES = 1_000_000_000


class Identity(Protocol):
    """Whom Dynamics takes us for."""

    @property
    def user_id(self) -> str: ...
    @property
    def organization_id(self) -> str: ...


class DynamicsProbe(DynamicsTables, Protocol):
    """Dynamics, as a preflight asks it."""

    def who_am_i(self) -> Identity: ...
    def clock_skew_seconds(self) -> float | None: ...


class CampaignProbe(CampaignResources, WorkflowProbe, Protocol):
    """Campaign, as a preflight asks it."""

    def ping(self) -> None: ...
    def clock_skew_seconds(self) -> float | None: ...


def refused_configuration(error: ConfigurationError) -> list[Finding]:
    """The faults for which no configuration could be loaded, one finding each."""
    _, *faults = str(error).split("\n  - ")
    return [wrong(CONFIGURATION, "files", *in_two(fault, "Correct it.")) for fault in faults or [str(error)]]


def preflight(
    configuration: Configuration,
    connect_dynamics: Callable[[], DynamicsProbe],
    connect_campaign: Callable[[], CampaignProbe],
    find_storage: Callable[[], Storage] | None = None,
    *,
    table: str | None = None,
    scan_keys: bool = False,
) -> list[Finding]:
    """Everything that is fine, worth knowing or wrong; with *table*, of that mapping and what it needs.

    The connectors raise SyncError where there is nothing to connect with; of the SFTP area, that is asked of opt-outs
    only. With *scan_keys* all keys that Campaign
    holds are listed, which takes an engine call for each thousand.
    """
    mappings = configuration.tables if table is None else [configuration.table(table)]
    names = [mapping.name for mapping in mappings]
    with ThreadPoolExecutor(THREADS, thread_name_prefix="check") as pool:
        to_dynamics = pool.submit(_dynamics, connect_dynamics, names)
        to_campaign = pool.submit(_campaign, connect_campaign, names)
        earlier, in_file = _staging(configuration.settings.staging.path)
        (dynamics, of_dynamics), (campaign, of_campaign) = to_dynamics.result(), to_campaign.result()
        systems = Systems(dynamics, campaign, scan_keys)
        looks = list(pool.map(lambda mapping: look_at(mapping, configuration, systems, earlier), mappings))
        privacy = personal_data(looks, configuration, campaign, pool)
        opt_outs = look_at_opt_outs(configuration, campaign, find_storage) if CONTACT in names else []
    return [
        *_configuration(configuration),
        *of_dynamics,
        *of_campaign,
        *_room(configuration.settings.staging.path, looks),
        *in_file,
        *(finding for look in looks for finding in (*look.findings, *privacy.get(look.mapping.name, ()))),
        *(finding for look in looks for finding in _pairs(look, configuration)),
        *opt_outs,
        *_first_load(configuration, looks, complete=table is None),
    ]


def _pairs(look: TableLook, configuration: Configuration) -> Iterator[Finding]:
    if look.mapping.name == CONTACT:
        yield from pairs_fit(configuration.opt_outs, look.source, look.target)


def _configuration(configuration: Configuration) -> Iterator[Finding]:
    settings = configuration.settings
    names = ", ".join(mapping.name for mapping in configuration.tables)
    yield fine(CONFIGURATION, "environment", f"'{settings.environment}', with the tables {names}.")
    yield _acknowledgement(settings.privacy)


def _acknowledgement(privacy: PrivacySettings) -> Finding:
    accepted, subject = privacy.acknowledged, "privacy requests"
    if accepted is None:
        words = "nobody accepted that privacy requests are made by you, in both systems."
        return wrong(CONFIGURATION, subject, words, "Read docs/privacy.md, and set privacy.acknowledged.")
    return fine(CONFIGURATION, subject, f"text {accepted.text} was accepted by {accepted.by} on {accepted.on}.")


def _dynamics(
    connect: Callable[[], DynamicsProbe], tables: Sequence[str]
) -> tuple[DynamicsProbe | None, Sequence[Finding]]:
    """Dynamics, where it answers and knows us; None where nothing more can be asked of it."""
    try:
        probe = connect()
        me = probe.who_am_i()
    except SyncError as error:
        return None, [*_unconnected(DYNAMICS, error, tables)]
    words = f"its certificate and our credentials are accepted; application user {me.user_id}"
    return probe, [
        fine(DYNAMICS, "connection", f"{words} of organization {me.organization_id}."),
        _clock(DYNAMICS, probe.clock_skew_seconds),
    ]


def _campaign(
    connect: Callable[[], CampaignProbe], tables: Sequence[str]
) -> tuple[CampaignProbe | None, Sequence[Finding]]:
    """Campaign, likewise."""
    try:
        probe = connect()
        probe.ping()
    except SyncError as error:
        return None, [*_unconnected(CAMPAIGN, error, tables)]
    words = "its certificate, our credentials, the API key and the product profile are accepted."
    return probe, [fine(CAMPAIGN, "connection", words), _clock(CAMPAIGN, probe.clock_skew_seconds)]


def _unconnected(system: str, error: SyncError, tables: Sequence[str]) -> Iterator[Finding]:
    place = system.lower()
    words, fix = in_two(str(error), f"Check {place}.url, {place}.token_url and the network in between, then try again.")
    yield wrong(system, "connection", f"unable to connect: {words}", fix)
    yield warning(
        system,
        "tables",
        f"its side of {', '.join(tables)} was not looked at.",
        "Put right what is said above, and check again.",
    )


def _clock(system: str, skew_seconds: Callable[[], float | None]) -> Finding:
    skew = tried(skew_seconds, system, "clock", "Try again.")
    if isinstance(skew, Finding):
        return skew
    if skew is None:
        words = "its answers bear no date, so its clock can't be compared with this machine's."
        return warning(system, "clock", words, "Let a time service keep this machine's clock.")
    apart = abs(skew)
    words = f"{apart:,.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    fix = "Let a time service set this machine's clock."
    if apart > SKEW_WRONG:
        return wrong(system, "clock", f"{words}; tokens would be taken for expired, or for not yet valid.", fix)
    if apart > SKEW_WARNED:
        return warning(system, "clock", f"{words}; opt-outs of both systems are decided by their times.", fix)
    return fine(system, "clock", f"within {max(1.0, apart):.0f} s of this machine's.")


def _staging(path: Path) -> tuple[Mapping[str, SavedTable] | None, Sequence[Finding]]:
    """What earlier runs left in the staging file; None where it can't be told. A file in use is no fault."""
    try:
        saved = saved_tables(path)
    except RetriableError as error:
        words = f"{error} Schemas and keys were not compared with those of the last run."
        return None, [warning(STAGING, "last run", words, "Check again once that run has ended.")]
    except ConfigurationError as error:
        return None, [wrong(STAGING, "last run", *in_two(str(error), "Set staging.path to another file."))]
    if not saved:
        return {}, [fine(STAGING, "last run", "there was none yet.")]
    return saved, [fine(STAGING, "last run", f"{', '.join(saved)} were run with it.")]


def _room(path: Path, looks: Sequence[TableLook]) -> Iterator[Finding]:
    """Whether the staging file can be written, grows without filling the disk, and stays its owner's."""
    place = place_of(path)
    if not place.writable:
        yield wrong(
            STAGING,
            "folder",
            f"{path} can't be opened for writing.",
            "Make it and its folder writable for this user, or set staging.path.",
        )
        return
    yield fine(
        STAGING, "folder", f"{path} {'is there' if place.is_there else 'can be made'}, and written by this user."
    )
    if place.exposed:
        yield warning(
            STAGING,
            "privacy",
            "other users of this machine may reach it, and it holds personal data.",
            f"chmod 600 {' '.join(map(str, place.exposed))}",
        )
    needed = max(SPARE_BYTES, sum(look.records or 0 for look in looks) * BYTES_PER_RECORD)
    free = f"{place.free_bytes / 1e9:,.1f} GB are free"
    if place.free_bytes < needed:
        words = f"{free}; about {needed / 1e9:,.1f} GB should be."
        yield warning(STAGING, "disk", words, "Make room, or set staging.path to a larger disk.")
    else:
        yield fine(STAGING, "disk", f"{free}.")


def _first_load(configuration: Configuration, looks: Sequence[TableLook], *, complete: bool) -> Iterator[Finding]:
    """What the tables that weren't loaded yet amount to; *complete*: *looks* are those of all tables."""
    waiting = [look for look in looks if look.loads_first]
    if not any(look.records for look in waiting):
        return
    settings = configuration.settings
    if complete:
        records = sum(look.records or 0 for look in looks)
        verdict = checks.initial_load(records, settings.guardrails.max_initial_records)
        if verdict.passed:
            yield fine(FIRST_LOAD, "records", verdict.description)
        else:
            fix = "Map fewer tables, or raise guardrails.max_initial_records."
            yield wrong(FIRST_LOAD, "records", in_two(verdict.description, fix)[0], fix)
    yield _cost(sum(look.first_load_calls for look in waiting), settings.engine_calls)


def _cost(calls: int, limits: EngineCallSettings) -> Finding:
    """Engine calls against the budgets; records that a filter leaves out are counted too."""
    words = f"{calls:,} at most, by Dynamics' own counts"
    monthly = None if limits.monthly_budget is None else max(0, limits.monthly_budget - limits.other_calls)
    for budget, setting, period in (
        (monthly, "monthly_budget", "months"),
        (limits.daily_budget, "daily_budget", "days"),
    ):
        if budget is not None and calls > budget:
            lasts = f"takes {math.ceil(calls / budget):,} {period}" if budget else "never begins"
            return warning(
                FIRST_LOAD,
                "engine calls",
                f"{words}; with {budget:,} left in engine_calls.{setting} it {lasts}.",
                f"Raise engine_calls.{setting} for the first load, or let it take its time.",
            )
    unlimited = monthly is None and limits.daily_budget is None
    return fine(FIRST_LOAD, "engine calls", f"{words}; {'no budget is set' if unlimited else 'the budgets allow it'}.")
