"""Composition root: configuration in, Dagster definitions out.

`D365_CAMPAIGN_CONFIG` names the settings file; without it the sandbox's is taken.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from dotenv import load_dotenv

from assets.desk import replay_job
from assets.ingress import TableKeys, table_assets
from assets.jobs import SYNC, plan_job, sync_job
from assets.run_history import ForgottenRuns, forget_in_runs
from assets.runs import RunReport, run_in_process
from assets.sensors import dynamics_changes
from d365_campaign.config import CampaignSettings, Configuration, DynamicsSettings, Settings, Value, load
from resources.campaign import CampaignResource
from resources.dynamics import DynamicsResource
from resources.staging import StagingResource

CONFIG_VARIABLE = "D365_CAMPAIGN_CONFIG"
DEFAULT_CONFIG = Path(__file__).parents[1] / "config" / "sandbox.yaml"


def build(configuration: Configuration) -> dg.Definitions:
    """Everything Dagster needs for one integration."""
    tables, settings = configuration.tables, configuration.settings
    return dg.Definitions(
        assets=[asset for table in tables for asset in table_assets(table, tables, settings)],
        jobs=[sync_job(tables), plan_job(tables), replay_job(tables)],
        sensors=[dynamics_changes(tables, starts_running=_starts_running(settings))],
        resources=resources(settings),
        executor=dg.in_process_executor,
    )


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
        "staging": StagingResource(path=str(settings.staging.path)),
    }


def _starts_running(settings: Settings) -> bool:
    """As configured; but not before there is an environment to read, as in a checkout whose sandbox isn't running."""
    file = settings.environment_file
    return settings.run.start_automatically and (file is None or file.exists())


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
    """The configured integration; variables of its environment file are set where the environment has none."""
    loaded = load(Path(os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG)))
    if loaded.settings.environment_file is not None:
        load_dotenv(loaded.settings.environment_file, override=False)
    return loaded


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
    selection = [key for each in tables for key in (TableKeys.of(each) if job == SYNC else TableKeys.of(each)[:2])]
    with dg.DagsterInstance.get() as instance:
        return run_in_process(build(integration), job, selection, instance)


def forget(keys: Sequence[str]) -> ForgottenRuns:
    """Delete what the instance of DAGSTER_HOME keeps of *keys*."""
    with dg.DagsterInstance.get() as instance:
        return forget_in_runs(instance, keys)


def _value(value: Value) -> str:
    return value if isinstance(value, str) else dg.EnvVar(value.env)
