"""What can go wrong, named by what to do next.

    SyncError
    ├── ConfigurationError    a person must change a file, a setting or a right; nothing was written
    │   └── ForeignOrigin     a server's link leads elsewhere; the token was not sent there
    ├── RetriableError        the same request may succeed later; the next run goes on from here
    │   └── UnknownOutcome    a write may or may not have taken effect: read the record back
    ├── DeltaTokenExpired     Dynamics no longer knows our place in its changes: read everything again
    ├── RecordRejected        Campaign refused one record; the others go on
    └── RecordHidden          Campaign holds a record and doesn't show it; it is tried again later

Messages hold keys, field names and counts, never field values or secrets.
"""

from collections.abc import Sequence


class SyncError(Exception):
    """Anything this project raises on purpose."""


class ConfigurationError(SyncError):
    """A person must change a file, a setting or a right before the run can go on."""


class ForeignOrigin(ConfigurationError):
    """A link in an answer, or a redirect, leads to another origin than the one the token is for."""


class RetriableError(SyncError):
    """The same request may succeed later.

    *retry_after_seconds* is what the server asked for, or None when it named no time.
    """

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class UnknownOutcome(RetriableError):
    """A write got no answer, or a server error: whether it took effect is to be read back."""


class DeltaTokenExpired(SyncError):
    """Dynamics no longer answers for this delta token; only a full read finds what changed since."""


class RecordRejected(SyncError):
    """Campaign refused one record for a fault in its data; sent again unchanged it fails again.

    *duplicate_key*: a record with this key exists already, so what was meant as an insert is an update. *fields* names
    the Campaign fields that the refusal is about, as far as it tells.
    """

    def __init__(self, message: str, *, duplicate_key: bool = False, fields: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.duplicate_key = duplicate_key
        self.fields = fields


class RecordHidden(SyncError):
    """Campaign has a record with this key and neither shows nor changes it while its parent is missing."""
