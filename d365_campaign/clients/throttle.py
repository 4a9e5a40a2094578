"""When to send again: the gate all workers pass, and how long a request may be tried."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from d365_campaign.errors import RetriableError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long one request is tried. A server's Retry-After wins over the doubling back-off.

    No attempt starts later than *max_wait_seconds* after the first; a server that asks for a longer pause ends the
    attempts at once.
    """

    attempts: int = 6
    max_wait_seconds: float = 120.0
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 30.0


class ThrottleGate:
    """One gate for all workers of one system: it keeps a rate, and closes for everybody when the server says so.

    "Wait exactly Retry-After, gate all workers together" is what Microsoft asks for ("Service protection API limits");
    whoever keeps pushing is made to wait longer.
    """

    def __init__(
        self,
        max_requests_per_second: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 1 / max_requests_per_second if max_requests_per_second else 0.0
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._held_until = self._next_slot = clock()

    def hold(self, seconds: float) -> None:
        """Close the gate for *seconds*; a hold that lasts longer already stays."""
        with self._lock:
            self._held_until = max(self._held_until, self._clock() + seconds)

    def pass_through(self, seconds: float) -> None:
        """Wait for an open gate and a free slot, for at most so many *seconds*.

        Raises RetriableError at once when the gate is known to stay closed longer than that.
        """
        until = self._clock() + seconds
        while wait := self._take_slot():
            if self._clock() + wait > until:
                raise RetriableError(f"the server asked for a pause of another {wait:.0f} s", wait)
            self._sleep(wait)

    def _take_slot(self) -> float:
        """Seconds still to wait; 0.0 when the slot was free and is taken now."""
        with self._lock:
            now = self._clock()
            opens = max(self._held_until, self._next_slot)
            if opens > now:
                return opens - now
            self._next_slot = now + self._interval
            return 0.0


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """What `Retry-After` asks for, in seconds or as a date; None without one that can be read.

    A date is held against the answer's own `Date`, so a clock that is wrong here does no harm.
    """
    asked = headers.get("Retry-After", "").strip()
    if asked.isdecimal():
        return float(asked)
    moment = http_date(asked)
    if moment is None:
        return None
    now = http_date(headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (moment - now).total_seconds())


def http_date(text: str) -> datetime | None:
    """An HTTP date in UTC, or None for anything else."""
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
