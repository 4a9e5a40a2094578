"""How many engine calls a run may still make."""

import math
from threading import Lock


class Allowance:
    """Engine calls that workers take before they make them, so that a budget is never exceeded. None: no limit."""

    def __init__(self, calls: int | None = None) -> None:
        self._left = math.inf if calls is None else calls
        self._lock = Lock()
        self.spent = False

    def take(self, calls: int) -> bool:
        """Whether there were as many left; from the first time there weren't, the allowance counts as *spent*."""
        with self._lock:
            if calls > self._left:
                self.spent = True
                return False
            self._left -= calls
            return True

    def give_back(self, calls: int) -> None:
        """Calls that were taken and turned out not to be needed."""
        with self._lock:
            self._left += calls
