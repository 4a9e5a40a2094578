"""The sandbox's own time: real time plus whatever a test has advanced it by."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class Clock:
    """Every stamp and every expiry in the sandbox reads this clock."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def seconds(self) -> float:
        """Seconds since the epoch, for expiries and sliding windows."""
        return self.now().timestamp()

    def advance(self, seconds: float) -> None:
        """Move time forward. Never backward: row versions and `modifiedon` rise together."""
        if seconds < 0:
            raise ValueError("the sandbox clock only moves forward")
        self._ahead += timedelta(seconds=seconds)

    def reset(self) -> None:
        self._ahead = timedelta()

    def dataverse_stamp(self) -> str:
        """Whole seconds in UTC, e.g. `2023-04-07T21:59:01Z` ("Behavior and format of the date and time column")."""
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def campaign_stamp(self) -> str:
        return campaign_stamp(self.now())


class SkewedClock(Clock):
    """The clock of a system that is so many *seconds* ahead of the sandbox's own, or behind it."""

    def __init__(self, clock: Clock, seconds: Callable[[], float]) -> None:
        super().__init__()
        self._clock, self._seconds = clock, seconds

    def now(self) -> datetime:
        return self._clock.now() + timedelta(seconds=self._seconds())


def campaign_stamp(moment: datetime) -> str:
    """Milliseconds in UTC, e.g. `2023-04-07 21:59:01.123Z` (as the samples of "Retrieving profiles" show)."""
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}Z"
