"""What every step shares: the pool, retries, and how our errors and verdicts look in Dagster."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb

import dagster as dg

from d365_campaign.checks import BLOCKING, Verdict
from d365_campaign.errors import RetriableError, SyncError
from d365_campaign.settings import RunSettings

POOL = "staging"
# Of the steps that could come next, those with the highest number do; the others have none.
URGENT = {"dagster/priority": "10"}

BLOCKS = (
    "Stops this table: while it fails, nothing of it is written. The run, other tables and opt-outs go on, which is "
    "why Dagster calls the check non-blocking."
)


def retries(settings: RunSettings) -> dg.RetryPolicy:
    """Steps are safe to repeat; only errors that may pass are tried again (`errors_as_failures`)."""
    return dg.RetryPolicy(settings.retries, settings.retry_seconds, backoff=dg.Backoff.EXPONENTIAL)


@contextmanager
def errors_as_failures() -> Iterator[None]:
    """Errors as Dagster failures, which it stores and shows; of ours only what may pass by itself is tried again.

    An error of somebody else's, a database or a parser, may quote a record. Its kind and its stack are told, and not
    what it says.
    """
    try:
        yield
    except SyncError as error:
        cause = error.__cause__
        if cause is not None and not isinstance(cause, SyncError):
            error.__cause__ = withheld(cause)
        raise dg.Failure(description=str(error), allow_retries=isinstance(error, RetriableError)) from error
    except (dg.Failure, dg.RetryRequested):
        raise
    except Exception as error:
        raise dg.Failure(description=str(told := withheld(error))) from told


class Foreign(Exception):
    """An error that isn't ours, without what it says."""


def withheld(error: BaseException) -> Foreign:
    """The same kind of error from the same place, without its message."""
    kind, frames = type(error).__name__, extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    words = f"{kind}{place}. What it says is withheld, for it could quote a record; its stack tells the way."
    masked: Foreign = type(kind, (Foreign,), {})(words)
    return masked.with_traceback(error.__traceback__)


def check_specs(asset: dg.AssetKey, *names: str) -> list[dg.AssetCheckSpec]:
    """The checks that a step reports with what it makes.

    None is `blocking` in Dagster's sense: that would skip all that comes after the step, other tables and opt-outs too.
    What blocks says so, and the step that writes looks for itself.
    """
    return [
        dg.AssetCheckSpec(name, asset=asset, description=BLOCKS, metadata={"blocks": "writes of this table"})
        if name in BLOCKING
        else dg.AssetCheckSpec(name, asset=asset)
        for name in names
    ]


def check_result(verdict: Verdict) -> dg.AssetCheckResult:
    """The verdict as Dagster shows it."""
    return dg.AssetCheckResult(
        check_name=verdict.name,
        passed=verdict.passed,
        severity=severity_of(verdict),
        description=verdict.description,
        metadata=check_metadata(verdict),
    )


def check_metadata(verdict: Verdict) -> dict[str, int | float | dg.MetadataValue]:
    """Its figures, and a few keys where it names some."""
    sample = {"sample_keys": dg.MetadataValue.json(list(verdict.keys))} if verdict.keys else {}
    return {**verdict.metadata, **sample}


def severity_of(verdict: Verdict) -> dg.AssetCheckSeverity:
    """How bad it is where it doesn't hold."""
    return dg.AssetCheckSeverity.WARN if verdict.warn else dg.AssetCheckSeverity.ERROR
