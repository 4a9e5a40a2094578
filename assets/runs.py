"""Run a job in this process, and tell what it materialized in plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg


@dataclass(frozen=True)
class RunReport:
    """Metadata by asset (`campaign/profile`), failed asset checks, and what went wrong in words."""

    materialized: Mapping[str, Mapping[str, object]]
    failed_checks: Sequence[str]
    errors: Sequence[str]

    @property
    def success(self) -> bool:
        return not self.errors


def run_in_process(
    definitions: dg.Definitions, job: str, selection: Sequence[dg.AssetKey], instance: dg.DagsterInstance
) -> RunReport:
    """Execute *job* over *selection*; on an instance that is kept, the run shows in the UI like any other."""
    result = definitions.resolve_job_def(job).execute_in_process(
        instance=instance, asset_selection=list(selection), raise_on_error=False
    )
    return RunReport(
        materialized={
            materialization.asset_key.to_user_string(): {
                name: value.value for name, value in materialization.metadata.items()
            }
            for event in result.get_asset_materialization_events()
            for materialization in [event.step_materialization_data.materialization]
        },
        failed_checks=[
            f"{check.asset_key.to_user_string()} {check.check_name}: {check.description}"
            for check in result.get_asset_check_evaluations()
            if not check.passed
        ],
        errors=[_message(event) for event in result.get_step_failure_events()],
    )


def _message(event: dg.DagsterEvent) -> str:
    """The step and our own words; where retries ran out, Dagster wraps them in a cause."""
    failure = event.step_failure_data
    if failure.user_failure_data and failure.user_failure_data.description:
        return f"{event.step_key}: {failure.user_failure_data.description}"
    error = failure.error
    while error is not None and error.cause is not None:
        error = error.cause
    return f"{event.step_key}: {error.message.strip() if error else 'failed'}"
