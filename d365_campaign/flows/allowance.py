"""How many engine calls a run may still make."""

import math
from threading import Lock


class Allowance:
    """Engine calls that workers take before they make them, so that a budget is never exceeded. None: no limit."""

    def __init__(self, calls: int | None = None) -> None:
        self._left = math.inf if calls is None else max(0, calls)
        self._missed = 0
        self._lock = Lock()

    def take(self, calls: int) -> bool:
        """Whether there were as many left."""
        with self._lock:
            if calls > self._left:
                self._missed = calls
                return False
            self._left -= calls
            return True

    def give_back(self, calls: int) -> None:
        """Calls that were taken and turned out not to be needed."""
        with self._lock:
            self._left += calls

    @property
    def spent(self) -> bool:
        """Whether calls were asked for in vain, and could not be made now either: what came back may have made room."""
        with self._lock:
            return self._left < self._missed
