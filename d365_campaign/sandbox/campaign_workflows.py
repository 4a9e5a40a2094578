"""Workflows of a Campaign instance: commands and signal activities, as state without HTTP.

Source: "Controlling a workflow", "Triggering a signal activity". The fields `state` and `lastStart` are ours, Adobe
documents none.
"""

from collections.abc import Mapping
from typing import Any

from .campaign_errors import InstanceError, unknown_key, unknown_parameter
from .campaign_schema import DEFAULT_WORKFLOWS, SIGNALS
from .clock import Clock
from .settings import Settings

COMMANDS = {"start": "started", "stop": "stopped", "pause": "paused", "resume": "started"}
TOO_SOON = "This signal activity was triggered less than {minutes} minutes ago."
"""Plain text with a T in front, so that clients which expect JSON stumble as they do on the real thing."""
MAX_PARAMETER_BYTES = 64 * 1024


class Workflows:
    def __init__(self, clock: Clock, settings: Settings) -> None:
        self._clock, self._settings = clock, settings
        self.states: dict[str, str] = {}
        self.last_starts: dict[str, str] = {}
        """When each workflow last ran; those that never did are missing."""
        self.restarts: dict[str, str] = {}
        """When each was last started after it had been stopped, as opposed to paused."""
        self._signalled: dict[tuple[str, str], float] = {}

    def reset(self) -> None:
        self.states = dict.fromkeys(DEFAULT_WORKFLOWS, "started")
        self._signalled.clear()
        self.last_starts.clear()
        self.restarts.clear()

    def state(self, name: str) -> str:
        if name not in self.states:
            raise unknown_key("workflow", "xtk:workflow", name)
        return self.states[name]

    def command(self, name: str, method: str) -> str:
        """The workflow's state after `start`, `stop`, `pause` or `resume`."""
        self.state(name)
        if method not in COMMANDS:
            raise InstanceError(500, f"The method '{method}' is not defined for workflows.")
        self.set_state(name, COMMANDS[method])
        return self.states[name]

    def set_state(self, name: str, state: str) -> None:
        if state == "started" and self.states.get(name) == "stopped":
            self.restarts[name] = self._clock.campaign_stamp()
        self.states[name] = state

    def signal(self, name: str, activity: str, body: Mapping[str, Any], size: int) -> str | None:
        """Trigger a signal activity; the refusal's text when it comes too soon after the last one."""
        declared = SIGNALS.get(name, {}).get(activity)
        if declared is None:
            raise unknown_key("activity", "xtk:workflow", activity)
        if not body.get("source"):
            raise InstanceError(500, "RST-360000 The 'source' parameter is mandatory.")
        if self.state(name) != "started":
            raise InstanceError(500, f"RST-360000 The workflow '{name}' is not running.")
        if size > MAX_PARAMETER_BYTES:
            raise InstanceError(500, "RST-360000 The parameters exceed 64 KB.")
        for parameter in body.get("parameters") or {}:
            if parameter not in declared:
                raise unknown_parameter(parameter)
        now, window = self._clock.seconds(), self._settings.signal_seconds
        if now - self._signalled.get((name, activity), float("-inf")) < window:
            return TOO_SOON.format(minutes=window // 60)
        self._signalled[(name, activity)] = now
        return None
