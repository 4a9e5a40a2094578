"""The jobs: one that brings everything into step, and one that stops before anything is written."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from assets.ingress import TableKeys
from assets.opt_outs import STATE, opt_out_keys
from assets.output_log import output_log_keys
from d365_campaign.config import Configuration
from d365_campaign.mapping import CONTACT, TableMapping

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

SYNC = "sync"
PLAN = "plan"
OPT_OUTS = "opt_outs"
# Every event stands in the UI; commands print what someone should look at.
QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


def sync_keys(integration: Configuration, tables: Sequence[TableMapping]) -> Sequence[dg.AssetKey]:
    """What a sync of *tables* makes; opt-outs go with contacts, and a log of the run with all of it."""
    opt_outs = opt_out_keys(integration) if CONTACT in {table.name for table in tables} else []
    made = [key for table in tables for key in TableKeys.of(table)]
    return [*opt_outs, *made, *output_log_keys(integration)]


def sync_job(integration: Configuration) -> "UnresolvedAssetJobDefinition":
    """Pull, plan and write the selected tables, in one process."""
    return _job(SYNC, sync_keys(integration, integration.tables), "Bring both systems into step.")


def opt_outs_job(integration: Configuration, contact: TableMapping) -> "UnresolvedAssetJobDefinition":
    """The same of contacts alone: what a new daily file asks for."""
    return _job(OPT_OUTS, sync_keys(integration, [contact]), "Take in daily files, and bring contacts into step.")


def plan_keys(integration: Configuration, tables: Sequence[TableMapping]) -> Sequence[dg.AssetKey]:
    """What a plan of *tables* makes; with contacts, what is known of opt-outs is compared. No file is taken in."""
    state = [key for key in sync_keys(integration, tables) if key == STATE]
    return [*state, *(key for table in tables for key in TableKeys.of(table)[:2])]


def plan_job(integration: Configuration) -> "UnresolvedAssetJobDefinition":
    """Pull and plan only: what a sync would do, and what it would cost."""
    keys = plan_keys(integration, integration.tables)
    return _job(PLAN, keys, "Work out what a sync would write and cost; write nothing to either system.")


def _job(name: str, keys: Sequence[dg.AssetKey], description: str) -> "UnresolvedAssetJobDefinition":
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*keys),
        executor_def=dg.in_process_executor,
        config=QUIET,
        description=description,
    )
