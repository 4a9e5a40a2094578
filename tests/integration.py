"""The product on the sandbox: settings, mappings, and its jobs run through Dagster."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb

from assets.ingress import TableKeys
from assets.jobs import PLAN, SYNC, sync_keys
from assets.runs import RunReport, run_in_process
from d365_campaign import definitions
from d365_campaign.config import Configuration
from d365_campaign.mapping import TableMapping
from d365_campaign.sandbox import Sandbox
from d365_campaign.settings import Settings
from tests.mappings import contact_mapping


class Integration:
    """One integration whose settings and mappings a test may change between two runs."""

    def __init__(self, sandbox: Sandbox, instance: dg.DagsterInstance, staging: Path) -> None:
        endpoints, credentials = sandbox.endpoints, sandbox.endpoints["credentials"]
        self.sandbox, self.instance = sandbox, instance
        self.tables: Sequence[TableMapping] = [contact_mapping()]
        self.staging = staging
        self.settings: dict[str, Any] = {
            "environment": "sandbox",
            "ca_bundle": endpoints["ca_bundle"],
            "dynamics": {
                "url": endpoints["dataverse"],
                "token_url": endpoints["dataverse_token_url"],
                "client_id": credentials["dataverse"]["client_id"],
                "client_secret": {"env": "D365_CLIENT_SECRET"},
                "attempts": 3,
            },
            "campaign": {
                "url": endpoints["campaign_instance"],
                "token_url": endpoints["ims_token_url"],
                "client_id": credentials["campaign"]["client_id"],
                "client_secret": {"env": "CAMPAIGN_CLIENT_SECRET"},
                "workers": 4,
                "attempts": 3,
            },
            "run": {"retry_seconds": 0},
            "staging": {"path": str(staging)},
        }

    def set(self, section: str, **values: Any) -> None:
        """Change settings of one section."""
        self.settings[section] = self.settings.get(section, {}) | values

    @property
    def configuration(self) -> Configuration:
        return Configuration(settings=Settings.model_validate(self.settings), tables=self.tables)

    @property
    def definitions(self) -> dg.Definitions:
        return definitions.build(self.configuration)

    def run(self, job: str, only: Sequence[str] = ()) -> RunReport:
        tables = [table for table in self.tables if not only or table.name in only]
        planned = [key for table in tables for key in TableKeys.of(table)[:2]]
        keys = sync_keys(self.configuration, tables) if job == SYNC else planned
        return run_in_process(self.definitions, job, keys, self.instance)

    def sync(self, table: str | None = None) -> Mapping[str, Any]:
        """Sync everything; what was written to the (first) table's resource."""
        report = self.run(SYNC)
        assert report.success, report.errors
        resource = next(t.target for t in self.tables if table in (None, t.name))
        return report.materialized[f"campaign/{resource}"]

    def plan(self) -> Mapping[str, Any]:
        """Plan everything; what a sync of the first table would do."""
        report = self.run(PLAN)
        assert report.success, report.errors
        return report.materialized[f"change_set/{self.tables[0].name}"]

    def keep_opt_outs(self, direction: str, pairs: Mapping[str, str] | None = None, **opt_outs: Any) -> None:
        """Keep opt-outs in step; *pairs* leads from the contact's columns to Campaign's opt-outs."""
        sftp = self.sandbox.endpoints["sftp"]
        self.settings["sftp"] = {
            "host": sftp["host"],
            "port": sftp["port"],
            "user": sftp["user"],
            "private_key": {"env": "CAMPAIGN_SFTP_KEY"},
            "host_key": sftp["host_key"],
        }
        self.settings["opt_outs"] = {
            "direction": direction,
            "workflow": "d365OptOutExport",
            "global_opt_out_accepted": {"by": "Jane Doe", "on": "2026-01-01"},
            "pairs": [{"source": s, "target": t} for s, t in (pairs or {}).items()],
            "exports": {"stable_seconds": 0},
            **opt_outs,
        }

    def change_staging(self, statement: str) -> None:
        """Change the staging file beside every rule, for what a test can't wait for."""
        with duckdb.connect(str(self.staging)) as connection:
            connection.execute(statement)

    def fail(self) -> str:
        """Sync, which must fail; what the user is told."""
        report = self.run(SYNC)
        assert not report.success
        return "\n".join(report.errors)
