"""The jobs: one that brings everything into step, and one that stops before anything is written."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from assets.ingress import TableKeys
from d365_campaign.mapping import TableMapping

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

SYNC = "sync"
PLAN = "plan"
# Every event stands in the UI; commands print what someone should look at.
QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


def sync_job(tables: Sequence[TableMapping], opt_outs: Sequence[dg.AssetKey]) -> "UnresolvedAssetJobDefinition":
    """Pull, plan and write the selected tables, in one process; *opt_outs* are the assets that go with contacts."""
    keys = [*opt_outs, *(key for table in tables for key in TableKeys.of(table))]
    return _job(SYNC, keys, "Bring Campaign into step with Dynamics.")


def plan_job(tables: Sequence[TableMapping]) -> "UnresolvedAssetJobDefinition":
    """Pull and plan only: what a sync would do, and what it would cost."""
    keys = [key for table in tables for key in TableKeys.of(table)[:2]]
    return _job(PLAN, keys, "Work out what a sync would write and cost; write nothing to either system.")


def _job(name: str, keys: Sequence[dg.AssetKey], description: str) -> "UnresolvedAssetJobDefinition":
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*keys),
        executor_def=dg.in_process_executor,
        config=QUIET,
        description=description,
    )
