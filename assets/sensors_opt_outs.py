"""The sensors of Campaign's daily files: one asks for a run when a new one is there, one tells when none came."""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import dagster as dg

from assets.jobs import OPT_OUTS, sync_keys
from assets.opt_outs import EXPORTS, workflow_runs
from assets.sensors_state import ASK_AGAIN_SECONDS, latest, number, run_that_is_on, status_of, told_of, value
from assets.steps import errors_as_failures, severity_of
from d365_campaign import opt_out_checks as checks
from d365_campaign.config import Configuration
from d365_campaign.mapping import TableMapping
from resources.campaign import CampaignResource
from resources.sftp import SftpResource

LOOK_AT_EXPORTS_SECONDS = 60
WATCH_SECONDS = 900

# By file name: its size and time, and when a run was asked for.
Files = dict[str, list[float]]


def opt_out_exports(integration: Configuration, contact: TableMapping, *, starts_running: bool) -> dg.SensorDefinition:
    """The sensor over the folder of Campaign's daily files, one connection for each look.

    A file is asked for once its size and time are those of the last look. One that a run left there, because it was
    refused, is not asked for again until it changes; one that no run got to is, after a while. A run that is on makes
    no file wait: the one that is asked for comes next.
    """
    exports = integration.settings.opt_outs.exports

    @dg.sensor(
        name="opt_out_exports",
        job_name=OPT_OUTS,
        minimum_interval_seconds=LOOK_AT_EXPORTS_SECONDS,
        default_status=status_of(starts_running),
        description=f"Looks for daily opt-out files in {exports.folder} and asks for a run when there is a new one.",
    )
    def sensor(context: dg.SensorEvaluationContext, sftp: SftpResource) -> dg.SensorResult:
        known: Mapping[str, Files] = json.loads(context.cursor or "{}")
        with errors_as_failures(), sftp.open() as area:
            seen: Files = {
                file.name: [file.size, file.modified_at.timestamp()]
                for file in area.files(exports.folder)
                if exports.takes(file.name)
            }
        asked = {
            name: facts
            for name, facts in known.get("asked", {}).items()
            if seen.get(name) == facts[:2] and not _was_missed(context.instance, facts)
        }
        fresh = {name: facts for name, facts in seen.items() if name not in asked}
        complete = {name: facts for name, facts in fresh.items() if known.get("seen", {}).get(name) == facts}
        run = run_that_is_on(context.instance, OPT_OUTS)
        if not complete or run is not None:
            return dg.SensorResult(
                skip_reason=_in_words(exports.folder, seen, fresh, complete, run),
                cursor=json.dumps({"asked": asked, "seen": seen}),
            )
        now = time.time()
        asked |= {name: [*facts, now] for name, facts in complete.items()}
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    asset_selection=sync_keys(integration, [contact]),
                    tags={"exports": str(len(complete)), "why": f"{_files(complete)} new in {exports.folder}"},
                )
            ],
            cursor=json.dumps({"asked": asked, "seen": seen}),
        )

    return sensor


def _was_missed(instance: dg.DagsterInstance, facts: list[float]) -> bool:
    """Whether no run looked into the folder since one was asked for: it failed before, or could not connect."""
    asked_at = facts[2] if len(facts) > 2 else 0.0
    looked = latest(instance, EXPORTS)
    reached = looked is not None and looked.timestamp >= asked_at and value(looked, "reached") is not False
    return not reached and time.time() - asked_at >= ASK_AGAIN_SECONDS


def _in_words(folder: str, seen: Files, fresh: Files, complete: Files, run: dg.DagsterRun | None) -> str:
    """Why no run is asked for."""
    if complete and run is not None:
        return f"{told_of(run)}; {_files(complete)} new in {folder}, looked at again after it"
    if fresh:
        return f"{_files(fresh)} new in {folder}, and may still be growing; the next look tells"
    if seen:
        return f"there is no new file in {folder}; {_files(seen)} there for which a run was asked before"
    return f"there is no new file in {folder}"


def _files(files: Files) -> str:
    return "1 file is" if len(files) == 1 else f"{len(files)} files are"


def opt_out_watch(integration: Configuration, *, starts_running: bool) -> dg.SensorDefinition:
    """The sensor that tells when no daily file came in time, or the workflow that exports them is not running.

    It changes nothing in Campaign: a person restarts the workflow. So it is on from the beginning, unless a person
    switches it off; *starts_running* is false where there is nothing to connect to.
    """
    chosen = integration.settings.opt_outs
    workflow = str(chosen.workflow)

    @dg.sensor(
        name="opt_out_watch",
        minimum_interval_seconds=WATCH_SECONDS,
        default_status=status_of(starts_running),
        description=f"Watches that workflow {workflow} runs and that its daily files come.",
    )
    def sensor(context: dg.SensorEvaluationContext, campaign: CampaignResource) -> dg.SensorResult | dg.SkipReason:
        exports = latest(context.instance, EXPORTS)
        if exports is None:
            return dg.SkipReason("no run has looked for daily files yet")
        latest_at = datetime.fromtimestamp(number(exports, "latest_at"), UTC)
        with errors_as_failures():
            verdicts = [
                checks.exports_fresh(latest_at, datetime.now(UTC), chosen.exports, workflow),
                workflow_runs(campaign, workflow),
            ]
        return dg.SensorResult(
            asset_events=[
                dg.AssetCheckEvaluation(
                    asset_key=EXPORTS,
                    check_name=verdict.name,
                    passed=verdict.passed,
                    severity=severity_of(verdict),
                    description=verdict.description,
                    metadata=dict(verdict.metadata),
                )
                for verdict in verdicts
            ],
            skip_reason=" ".join(verdict.description for verdict in verdicts),
        )

    return sensor
