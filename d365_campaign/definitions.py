"""Composition root: configuration in, Dagster definitions out.

`D365_CAMPAIGN_CONFIG` names the settings file; without it the sandbox's is taken. From `start` to `stop` the active
configuration stands in for the files.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import dagster as dg
from dotenv import dotenv_values

from assets import active
from assets.alerts import Watched, alerts_sensor
from assets.catalog import Asset, catalogued
from assets.desk import REPLAY, replay_job
from assets.flow_states import flow_assets, flow_checks, flow_states
from assets.flows import (
    FLOWS,
    INGRESS,
    OPT_OUT_WATCH,
    Flow,
    flows_of,
    is_on,
    runs_on,
    status,
    switch_off,
    switch_on,
)
from assets.flows import FlowStatus as FlowStatus
from assets.ingress import table_assets
from assets.jobs import OPT_OUTS, SYNC, opt_outs_job, plan_job, plan_keys, sync_job, sync_keys
from assets.opt_outs import opt_out_assets
from assets.output_log import output_log_assets
from assets.outside import outside_assets
from assets.run_history import ForgottenRuns, forget_in_runs
from assets.runs import RunReport, run_in_process
from assets.sensors import dynamics_changes
from assets.sensors_opt_outs import opt_out_exports, opt_out_watch
from assets.verify import VERIFY, verify_checks, verify_job, verify_schedule
from assets.wakeups import waker
from d365_campaign.config import Configuration, load, places
from d365_campaign.errors import ConfigurationError, SyncError
from d365_campaign.mapping import CONTACT
from d365_campaign.settings import (
    CampaignSettings,
    DynamicsSettings,
    EnvironmentReference,
    Settings,
    SftpSettings,
    Value,
)
from resources.alerts import AlertHooks
from resources.campaign import CampaignResource
from resources.dynamics import DynamicsResource
from resources.sftp import SftpResource
from resources.staging import StagingResource

log = logging.getLogger(__name__)

CONFIG_VARIABLE = "D365_CAMPAIGN_CONFIG"
DEFAULT_CONFIG = Path(__file__).parents[1] / "config" / "sandbox.yaml"
# Which variables of this process came from the environment file, with a fingerprint of what it said.
FROM_FILE_VARIABLE = "D365_CAMPAIGN_FROM_FILE"


def build(configuration: Configuration) -> dg.Definitions:
    """Everything Dagster needs for one integration."""
    tables, settings, starts_running = (
        configuration.tables,
        configuration.settings,
        _starts_running(configuration.settings),
    )
    contact = next((table for table in tables if table.name == CONTACT), None)
    verifying = verify_job(configuration)
    jobs = [sync_job(configuration), plan_job(configuration), replay_job(configuration), verifying]
    sensors = [dynamics_changes(configuration, starts_running=starts_running), flow_states(_told_of_flows)]
    if contact is not None and configuration.opt_outs.direction.reads_exports:
        jobs.append(opt_outs_job(configuration, contact))
        sensors.append(opt_out_exports(configuration, contact, starts_running=starts_running))
        sensors.append(opt_out_watch(configuration, starts_running=_can_connect(settings)))
    if settings.alerts.hooks:
        watched = _watched(configuration, starts_running=starts_running)
        sensors.append(alerts_sensor(watched, {hook.name: hook.minimum for hook in settings.alerts.hooks}))
    assets: list[Asset] = [
        *opt_out_assets(configuration),
        *(asset for table in tables for asset in table_assets(table, configuration)),
        *output_log_assets(configuration),
        *outside_assets(configuration),
        *flow_assets(flows_of(configuration)),
    ]
    return dg.Definitions(
        assets=catalogued(assets, configuration, places(settings.tables)),
        asset_checks=[*verify_checks(configuration), *flow_checks(flows_of(configuration), _told_of_flows)],
        jobs=jobs,
        schedules=[verify_schedule(configuration, verifying, starts_running=starts_running)],
        sensors=sensors,
        resources=resources(settings),
        executor=dg.in_process_executor,
    )


def _watched(configuration: Configuration, *, starts_running: bool) -> Watched:
    """What alerts are about: every job but `plan`, and the sensors that ask for runs or watch over files."""
    sensors = dict.fromkeys(flows_of(configuration), starts_running)
    if not configuration.opt_outs.direction.reads_exports:
        return Watched([SYNC, REPLAY, VERIFY], sensors)
    watch = {OPT_OUT_WATCH: _can_connect(configuration.settings)}
    return Watched([SYNC, REPLAY, VERIFY, OPT_OUTS], {**sensors, **watch})


def resources(settings: Settings) -> dict[str, object]:
    """Both systems and the staging file. What the environment holds is read when a run starts."""
    dynamics, campaign = settings.dynamics, settings.campaign
    return {
        "dynamics": DynamicsResource(**_connection(settings, dynamics), page_size=dynamics.page_size),
        "campaign": CampaignResource(
            **_connection(settings, campaign),
            scope=campaign.scope,
            workers=campaign.workers,
            max_requests_per_second=campaign.max_requests_per_second,
        ),
        "staging": StagingResource(
            path=str(settings.staging.path), output_logs=bool(settings.sftp and settings.sftp.output_logs)
        ),
        **({"sftp": _sftp(settings.sftp)} if settings.sftp else {}),
        **({"alert_hooks": AlertHooks(settings)} if settings.alerts.hooks else {}),
    }


def _sftp(settings: SftpSettings) -> SftpResource:
    return SftpResource(
        host=_value(settings.host),
        port=str(settings.port) if isinstance(settings.port, int) else _value(settings.port),
        user=_value(settings.user),
        private_key=_value(settings.private_key),
        passphrase=_value(settings.passphrase) if settings.passphrase else None,
        host_key=_value(settings.host_key) if settings.host_key else None,
        known_hosts=str(settings.known_hosts) if settings.known_hosts else None,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        read_timeout_seconds=settings.read_timeout_seconds,
    )


def _starts_running(settings: Settings) -> bool:
    """As configured; but not before it could."""
    return settings.run.start_automatically and _can_connect(settings)


def _can_connect(settings: Settings) -> bool:
    """Whether there is an environment to read; there is none in a checkout whose sandbox isn't running."""
    return settings.environment_file is None or settings.environment_file.exists()


def _connection(settings: Settings, system: DynamicsSettings | CampaignSettings) -> dict[str, Any]:
    return {
        "url": _value(system.url),
        "token_url": _value(system.token_url),
        "client_id": _value(system.client_id),
        "client_secret": _value(system.client_secret),
        "ca_bundle": settings.ca_bundle and _value(settings.ca_bundle),
        "proxy": settings.proxy,
        "read_timeout_seconds": system.read_timeout_seconds,
        "total_timeout_seconds": system.total_timeout_seconds,
        "attempts": system.attempts,
        "max_wait_seconds": system.max_wait_seconds,
    }


def configuration() -> Configuration:
    """The configured integration: the active configuration, or what the files say while none is.

    Variables of its environment file are set where the environment has none.
    """
    return _with_variables(active.read(settings_file()) or load(settings_file()))


def edited_configuration() -> Configuration:
    """What the files say now: what the next start would take up."""
    return _with_variables(load(settings_file()))


def _with_variables(found: Configuration) -> Configuration:
    if found.settings.environment_file is not None:
        _set_variables(found.settings.environment_file)
    return found


def settings_file() -> Path:
    """The settings file that the environment names."""
    return Path(os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG)).absolute()


def _set_variables(file: Path) -> None:
    """Set what the environment doesn't, and what it has from an earlier reading of the file.

    A run inherits the variables of the long-lived process that launches it; a secret that was changed in the file has
    to reach it all the same.
    """
    from_file: dict[str, str] = json.loads(os.environ.get(FROM_FILE_VARIABLE, "{}"))
    for name, value in dotenv_values(file).items():
        held = os.environ.get(name)
        if value is not None and (held is None or from_file.get(name) == _fingerprint(held)):
            os.environ[name] = value
            from_file[name] = _fingerprint(value)
    os.environ[FROM_FILE_VARIABLE] = json.dumps(from_file)


def _fingerprint(value: str) -> str:
    return sha256(value.encode()).hexdigest()[:16]


@dg.definitions
def defs() -> dg.Definitions:
    """What `dagster dev` and the jobs load."""
    return build(configuration())


def run(job: str, table: str | None = None) -> RunReport:
    """Run *job* here and now, over one table mapping or over all of them, on the instance of DAGSTER_HOME.

    Raises ConfigurationError for a table that is not mapped.
    """
    integration = configuration()
    tables = integration.tables if table is None else [integration.table(table)]
    selection = (sync_keys if job == SYNC else plan_keys)(integration, tables)
    with dg.DagsterInstance.get() as instance:
        return run_in_process(build(integration), job, selection, instance)


@dataclass(frozen=True)
class Status:
    """Every flow there is, and how the configuration it goes by stands to the files.

    *by_files*: there is no active configuration, so that each run reads the files. *faults* tells why the files could
    not be read.
    """

    flows: Sequence[FlowStatus]
    by_files: bool
    pending: bool
    faults: str | None


def flow_status() -> Status:
    """How the flows stand on the instance of DAGSTER_HOME. Raises ConfigurationError when there is nothing to go by."""
    with dg.DagsterInstance.get() as instance:
        return _flow_status(instance)


def _flow_status(instance: dg.DagsterInstance) -> Status:
    file = settings_file()
    started_with = active.read(file)
    faults: str | None = None
    try:
        in_files = load(file)
    except ConfigurationError as error:
        if started_with is None:
            raise
        in_files, faults = started_with, str(error)
    goes_by = started_with or in_files
    on = _starts_running(goes_by.settings)
    found = [status(instance, flow, goes_by, starts_running=on) for flow in flows_of(goes_by)]
    pending = faults is not None or (started_with is not None and not active.same(started_with, in_files))
    return Status(found, by_files=started_with is None, pending=pending, faults=faults)


def _told_of_flows(instance: dg.DagsterInstance) -> tuple[Sequence[FlowStatus], bool]:
    found = _flow_status(instance)
    return found.flows, found.pending


def start() -> None:
    """Make what the files say the active configuration, and switch the flows' sensors on.

    Raises SyncError while one runs, and ConfigurationError when the files are refused.
    """
    file = settings_file()
    with dg.DagsterInstance.get() as instance:
        if running := _running(instance, file):
            raise SyncError(f"{running[0].name} is running. To let changed files take effect, stop it first.")
        in_files = load(file)
        active.write(file, in_files)
        try:
            dg.Definitions.validate_loadable(build(configuration()))
            for flow in flows_of(in_files):
                switch_on(instance, flow)
        except BaseException:
            active.forget(file)
            raise


def stop(patience_seconds: float) -> None:
    """Switch the flows' sensors off, wait for the run that is on, and forget the active configuration.

    Raises SyncError when they are stopped, or when the run has not ended after *patience_seconds*.
    """
    file = settings_file()
    with dg.DagsterInstance.get() as instance:
        running = _running(instance, file)
        if not running:
            if not active.forget(file):
                raise SyncError(f"{INGRESS.name} is stopped.")
            return
        unfinished = [flow for flow in running if not switch_off(instance, flow, patience_seconds)]
        for flow in unfinished:
            runs = ", ".join(run.run_id[:8] for run in runs_on(instance, flow)) or "the sensor's last look"
            raise SyncError(
                f"{flow.name} starts no more runs, but {runs} is still on. Wait and stop it again, or terminate the "
                "run in Dagster's UI."
            )
    active.forget(file)


def _running(instance: dg.DagsterInstance, file: Path) -> Sequence[Flow]:
    """The flows that are on. Files that are refused start nothing by themselves."""
    starting: Sequence[Flow] = []
    try:
        goes_by = active.read(file) or load(file)
        starting = flows_of(goes_by) if _starts_running(goes_by.settings) else []
    except ConfigurationError as error:
        log.debug("the files are not fit to start with: %s", error)
    return [flow for flow in FLOWS if is_on(instance, flow, starts_running=flow in starting)]


@contextmanager
def wakeups() -> Iterator[Callable[[str, int], None]]:
    """What keeps a table's wake-up on the instance of DAGSTER_HOME, until the block ends."""
    with dg.DagsterInstance.get() as instance:
        yield waker(instance)


def forget(keys: Sequence[str]) -> ForgottenRuns:
    """Delete what the instance of DAGSTER_HOME keeps of *keys*."""
    with dg.DagsterInstance.get() as instance:
        return forget_in_runs(instance, keys)


def _value(value: Value | EnvironmentReference) -> str:
    return value if isinstance(value, str) else dg.EnvVar(value.env)
