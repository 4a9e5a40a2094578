"""Run a job in this process, and tell what it materialized in plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from d365_campaign.checks import BLOCKING

# What Dagster puts before the words of a failure.
FAILURE = f"{dg.Failure.__module__}.{dg.Failure.__qualname__}: "


@dataclass(frozen=True)
class RunReport:
    """Metadata by asset (`campaign/profile`), failed asset checks, and what went wrong in words.

    *blocked* are those checks among the failed ones for which tables were not written; everything else was.
    """

    materialized: Mapping[str, Mapping[str, object]]
    failed_checks: Sequence[str]
    errors: Sequence[str]
    blocked: Sequence[str] = ()

    @property
    def success(self) -> bool:
        return not self.errors and not self.blocked


def run_in_process(
    definitions: dg.Definitions, job: str, selection: Sequence[dg.AssetKey], instance: dg.DagsterInstance
) -> RunReport:
    """Execute *job* over *selection*; on an instance that is kept, the run shows in the UI like any other."""
    result = definitions.resolve_job_def(job).execute_in_process(
        instance=instance, asset_selection=list(selection), raise_on_error=False
    )
    failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
    return RunReport(
        materialized={
            materialization.asset_key.to_user_string(): {
                name: value.value for name, value in materialization.metadata.items()
            }
            for event in result.get_asset_materialization_events()
            for materialization in [event.step_materialization_data.materialization]
        },
        failed_checks=[*map(_failed, failed)],
        errors=[_message(event) for event in result.get_step_failure_events()],
        blocked=[_failed(check) for check in failed if check.check_name in BLOCKING],
    )


def _failed(check: dg.AssetCheckEvaluation) -> str:
    return f"{check.asset_key.to_user_string()} {check.check_name}: {check.description}"


def _message(event: dg.DagsterEvent) -> str:
    """The step and our own words; where retries ran out, Dagster wraps the failure that has them."""
    failure = event.step_failure_data
    if failure.user_failure_data and failure.user_failure_data.description:
        return f"{event.step_key}: {failure.user_failure_data.description}"
    error = failure.error
    while error is not None and error.cause is not None and error.cls_name != dg.Failure.__name__:
        error = error.cause
    told = error.message.strip().removeprefix(FAILURE) if error else "failed"
    return f"{event.step_key}: {told}"
