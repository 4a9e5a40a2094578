"""Service protection limits of Dataverse: a sliding window of requests and their time."""

from collections import deque

from .clock import Clock
from .dataverse_errors import DataverseError
from .settings import Settings


class Throttle:
    """Counts requests and execution time of the last window ("Service protection API limits")."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._admitted: deque[float] = deque()
        self._spent: deque[tuple[float, float]] = deque()
        self._running = 0

    def reset(self) -> None:
        self._admitted.clear()
        self._spent.clear()

    def begin(self) -> None:
        self._running += 1

    def end(self, seconds: float) -> None:
        self._running -= 1
        if self._settings.service_protection:
            self._spent.append((self._clock.seconds(), seconds))

    def admit(self) -> None:
        """Count one request; refuse it when a limit is reached. Off unless the setting is on."""
        if not self._settings.service_protection:
            return
        self._forget_old()
        settings = self._settings
        if self._running > settings.service_protection_concurrency:
            limit = settings.service_protection_concurrency
            raise DataverseError("0x80072326", f"Number of concurrent requests exceeded the limit of {limit}.")
        if self._execution_seconds() > settings.service_protection_execution_seconds:
            limit = int(settings.service_protection_execution_seconds * 1000)
            raise DataverseError(
                "0x80072321",
                f"Combined execution time of incoming requests exceeded limit of {limit:,} milliseconds over time "
                f"window of {settings.service_protection_window_seconds} seconds. Decrease number of concurrent "
                "requests or reduce the duration of requests and try again later.",
            )
        if len(self._admitted) >= settings.service_protection_requests:
            raise DataverseError(
                "0x80072322",
                f"Number of requests exceeded the limit of {settings.service_protection_requests} over time window "
                f"of {settings.service_protection_window_seconds} seconds.",
            )
        self._admitted.append(self._clock.seconds())

    def retry_after_seconds(self) -> int:
        """Until the oldest request leaves the window."""
        if not self._admitted:
            return 1
        age = self._clock.seconds() - self._admitted[0]
        return max(1, round(self._settings.service_protection_window_seconds - age))

    def remaining(self) -> tuple[int, float]:
        settings = self._settings
        requests = settings.service_protection_requests - len(self._admitted)
        return requests, settings.service_protection_execution_seconds - self._execution_seconds()

    def _execution_seconds(self) -> float:
        return sum(seconds for _, seconds in self._spent)

    def _forget_old(self) -> None:
        start = self._clock.seconds() - self._settings.service_protection_window_seconds
        while self._admitted and self._admitted[0] < start:
            self._admitted.popleft()
        while self._spent and self._spent[0][0] < start:
            self._spent.popleft()


def time_text(seconds: float, form: str) -> str:
    """The execution time left, in the form a setting chooses: no page shows it."""
    if form == "seconds":
        return f"{seconds:,.2f}"
    hours, rest = divmod(max(0.0, seconds), 3600)
    return f"{int(hours):02d}:{int(rest // 60):02d}:{rest % 60:010.7f}"
