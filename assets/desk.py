"""What a person starts in Dagster besides a sync: the replay of a table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.ingress import TableKeys
from assets.jobs import QUIET, sync_keys
from d365_campaign.changes import Replay
from d365_campaign.config import Configuration

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

REPLAY = "replay"


def replay_job(integration: Configuration) -> "UnresolvedAssetJobDefinition":
    """A sync that reads every record of one table again.

    The launchpad asks for `table` and `force`. The other tables are brought into step as in any sync.
    """
    tables = integration.tables
    names = dg.Enum("MappedTable", [dg.EnumValue(table.name) for table in tables])
    steps = {table.name: TableKeys.of(table).snapshot.to_python_identifier() for table in tables}
    schema = {
        "table": dg.Field(names, description="The table that is replayed: its Dynamics name."),
        "force": dg.Field(
            bool,
            default_value=False,
            description="Look at every record in Campaign too, at one engine call each at least.",
        ),
    }

    def run_config(asked: Mapping[str, Any]) -> dict[str, Any]:
        mode = Replay.FORCED if asked["force"] else Replay.DIFFERENCES
        return QUIET | {"ops": {steps[asked["table"]]: {"config": {"replay": mode.name}}}}

    return dg.define_asset_job(
        REPLAY,
        selection=dg.AssetSelection.assets(*sync_keys(integration, tables)),
        executor_def=dg.in_process_executor,
        config=dg.ConfigMapping(config_fn=run_config, config_schema=schema),
        description="Read every record of one table again, and bring Campaign into step with it.",
    )
