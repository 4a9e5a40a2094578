"""How long a run may go on."""

import time
from collections.abc import Callable


class Deadline:
    """A moment some seconds from now, on a clock that no one sets back. None seconds: no end."""

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = None if seconds is None else clock() + seconds

    @property
    def passed(self) -> bool:
        return self._end is not None and self._clock() >= self._end
