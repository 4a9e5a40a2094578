"""Errors are named by what to do next, so a catch of one kind must not swallow another."""

import pytest

from d365_campaign.errors import (
    ConfigurationError,
    DeltaTokenExpired,
    ForeignOrigin,
    RecordRejected,
    RetriableError,
    SyncError,
    UnknownOutcome,
)

TREE = {SyncError, ConfigurationError, ForeignOrigin, RetriableError, UnknownOutcome, DeltaTokenExpired, RecordRejected}


@pytest.mark.parametrize(
    ("error", "caught_as"),
    [
        (ConfigurationError, {SyncError}),
        (ForeignOrigin, {SyncError, ConfigurationError}),
        (RetriableError, {SyncError}),
        (UnknownOutcome, {SyncError, RetriableError}),
        (DeltaTokenExpired, {SyncError}),
        (RecordRejected, {SyncError}),
    ],
)
def test_error_is_caught_as_what_to_do_next(error: type[SyncError], caught_as: set[type[SyncError]]) -> None:
    assert set(error.__mro__) & TREE - {error} == caught_as


def test_retriable_error_tells_how_long_the_server_asked_to_wait() -> None:
    assert RetriableError("busy", 30).retry_after_seconds == 30
    assert RetriableError("busy").retry_after_seconds is None
