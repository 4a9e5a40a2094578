"""What every step shares: the pool, retries, and how our errors and verdicts look in Dagster."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from d365_campaign.checks import Verdict
from d365_campaign.errors import RetriableError, SyncError
from d365_campaign.settings import RunSettings

POOL = "staging"
# Of the steps that could come next, those with the highest number do; the others have none.
URGENT = {"dagster/priority": "10"}


def retries(settings: RunSettings) -> dg.RetryPolicy:
    """Steps are safe to repeat; only errors that may pass are tried again (`errors_as_failures`)."""
    return dg.RetryPolicy(settings.retries, settings.retry_seconds, backoff=dg.Backoff.EXPONENTIAL)


@contextmanager
def errors_as_failures() -> Iterator[None]:
    """Our errors as Dagster failures; only what may pass by itself is tried again."""
    try:
        yield
    except SyncError as error:
        raise dg.Failure(description=str(error), allow_retries=isinstance(error, RetriableError)) from error


def check_result(verdict: Verdict) -> dg.AssetCheckResult:
    """The verdict as Dagster shows it."""
    return dg.AssetCheckResult(
        check_name=verdict.name,
        passed=verdict.passed,
        severity=severity_of(verdict),
        description=verdict.description,
        metadata=dict(verdict.metadata),
    )


def severity_of(verdict: Verdict) -> dg.AssetCheckSeverity:
    """How bad it is where it doesn't hold."""
    return dg.AssetCheckSeverity.WARN if verdict.warn else dg.AssetCheckSeverity.ERROR
