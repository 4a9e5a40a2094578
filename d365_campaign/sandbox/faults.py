"""Faults a test can put in the way of requests: errors, delays, lost answers, cut and edited bodies."""

import re
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Fault:
    """Meets the next requests that match. What is left unset does not happen."""

    system: str | None = None
    method: str | None = None
    path: str = ""
    """A regular expression, searched for in the path."""
    in_batch: bool = False
    """Meets operations inside a `$batch` instead of requests: each that matches is answered without an effect."""
    times: int = 1
    skip: int = 0
    """How many matching requests pass before the first is met."""
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    """Text, or a JSON value."""
    content_type: str = "application/json"
    retry_after: int | str | None = None
    """Seconds, or "date" for an HTTP date two seconds ahead in real time, the time clients know."""
    delay_seconds: float = 0.0
    reset: bool = False
    """Drop the connection; the request has no effect."""
    truncate: int | None = None
    """Send the whole Content-Length but only so many bytes of the body."""
    lose_answer: bool = False
    """The request has its effect, then the connection is dropped."""
    slow_drip: float = 0.0
    """Seconds the body takes to arrive, in small pieces."""
    replace: tuple[str, str] | None = None
    """A pattern and its replacement, applied to the text of a successful answer."""

    def __post_init__(self) -> None:
        re.compile(self.path)
        if self.replace is not None:
            pattern, text = self.replace
            re.compile(pattern)
            self.replace = (pattern, text)

    def matches(self, system: str, method: str, path: str, in_batch: bool = False) -> bool:
        return (
            self.in_batch is in_batch
            and self.system in (None, system)
            and (self.method is None or self.method.upper() == method)
            and re.search(self.path, path) is not None
        )

    @property
    def answers_itself(self) -> bool:
        return self.status is not None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
