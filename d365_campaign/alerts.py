"""Alerts: which change of state a hook is told of, once, and when one that could not be told is tried again.

Something that is watched (`Subject`) is fine, or shows a warning or an error. A hook sees that by its own minimum: what
lies below is fine to it. It is told whenever what it sees has changed since it was last told; so it hears of each
change once, of a recovery once, and of nothing twice, however often the same is observed.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from d365_campaign.errors import SyncError

# What may pass by itself is an error once it has lasted so long.
PASSING_SECONDS = 900
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 30, 900
# An alert that no longer tells anything new: the hook is broken, and its tick has said so ever since.
GIVE_UP_SECONDS = 86_400
MOST_WAITING = 100
# Words of others, such as a long list of keys, are cut; the run has the whole of it.
MOST_WORDS = 1000
KEY = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Level(StrEnum):
    """How bad it is, from fine to worst."""

    FINE = "fine"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        return list(Level).index(self)

    def or_worse(self, other: "Level") -> "Level":
        """The worse of the two."""
        return max(self, other, key=lambda level: level.rank)

    def seen_from(self, minimum: "Level") -> "Level":
        """The same to a hook that is told of nothing below *minimum*."""
        return self if self.rank >= minimum.rank else Level.FINE


class _Kept(BaseModel):
    """What is remembered from look to look."""

    model_config = ConfigDict(frozen=True)


class Subject(_Kept):
    """What is watched: the runs of a job, a check of an asset, or the looks of a sensor."""

    kind: Literal["run", "check", "sensor", "test"]
    name: str

    @property
    def key(self) -> str:
        return f"{self.kind} {self.name}"


class Observation(_Kept):
    """How a subject was found at a moment (epoch), in words; *run_id* and *asset* say where to look.

    No record's key stays in the words: they go to chats and mailboxes, where nothing can be forgotten.
    """

    subject: Subject
    level: Level
    at: float
    words: str
    run_id: str | None = None
    asset: str | None = None

    @field_validator("words")
    @classmethod
    def _told(cls, words: str) -> str:
        return KEY.sub("(key)", words)[:MOST_WORDS]


class Standing(_Kept):
    """A subject that is not fine: as it was found last, and since when it is not."""

    observed: Observation
    since: float


class Alert(_Kept):
    """One change of state as a hook is told of it.

    *level* is what it is now; of a recovery *before* says what it was. The *id* is the same however often it is sent.
    """

    subject: Subject
    level: Level
    before: Level
    since: float
    at: float
    words: str
    run_id: str | None = None
    asset: str | None = None

    @property
    def id(self) -> str:
        parts = (self.subject.key, self.level, repr(self.since), repr(self.at))
        return sha256("\n".join(parts).encode()).hexdigest()[:32]

    @property
    def recovered(self) -> bool:
        return self.level is Level.FINE


class Waiting(_Kept):
    """An alert that a hook is still to be told, how often that failed, and when (epoch) it is tried again."""

    alert: Alert
    tries: int = 0
    next_at: float = 0.0


class HookMemory(_Kept):
    """What a hook was told of subjects that are not fine, and what waits to be told, oldest first."""

    told: Mapping[str, Level] = {}
    waiting: Sequence[Waiting] = ()


class Memory(_Kept):
    """Everything that is remembered between two looks: subjects that are not fine, and each hook's part."""

    standing: Mapping[str, Standing] = {}
    hooks: Mapping[str, HookMemory] = {}


def level_of_trouble(*, passing: bool, since: float, at: float) -> Level:
    """How bad trouble is that began at *since*: what may pass by itself is a warning at first."""
    return Level.WARNING if passing and at - since < PASSING_SECONDS else Level.ERROR


def taken_in(memory: Memory, observations: Iterable[Observation], minimums: Mapping[str, Level]) -> Memory:
    """*memory* after *observations*, with what each hook is to be told; *minimums* has the hooks there are.

    A hook that is new is told of what is not fine already; one that is gone is forgotten.
    """
    standing = dict(memory.standing)
    hooks = {name: memory.hooks.get(name, HookMemory()) for name in minimums}

    def tell(subject: Subject, now: Standing | None, found: Observation, since: float) -> None:
        for name, minimum in minimums.items():
            hooks[name] = _told(hooks[name], now.observed.level if now else Level.FINE, minimum, found, since)

    for known in memory.standing.values():
        tell(known.observed.subject, known, known.observed, known.since)
    for found in sorted(observations, key=lambda each: each.at):
        before = standing.pop(found.subject.key, None)
        since = before.since if before else found.at
        now = None if found.level is Level.FINE else Standing(observed=found, since=since)
        if now:
            standing[found.subject.key] = now
        tell(found.subject, now, found, since)
    return Memory(standing=standing, hooks=hooks)


def _told(hook: HookMemory, level: Level, minimum: Level, found: Observation, since: float) -> HookMemory:
    """*hook* with an alert waiting, where what it sees is not what it was told last."""
    key, sees = found.subject.key, level.seen_from(minimum)
    before = hook.told.get(key, Level.FINE)
    if sees is before:
        return hook
    told = {name: each for name, each in hook.told.items() if name != key}
    if sees is not Level.FINE:
        told[key] = sees
    alert = Alert(
        subject=found.subject,
        level=sees,
        before=before,
        since=since,
        at=found.at,
        words=found.words,
        run_id=found.run_id,
        asset=found.asset,
    )
    return HookMemory(told=told, waiting=(*hook.waiting, Waiting(alert=alert)))


def only(memory: Memory, subjects: Iterable[Subject]) -> Memory:
    """*memory* of those *subjects* alone: what is no longer watched can't recover, and is forgotten in silence."""
    kept = {subject.key for subject in subjects}
    return Memory(
        standing={key: each for key, each in memory.standing.items() if key in kept},
        hooks={
            name: HookMemory(told={key: level for key, level in hook.told.items() if key in kept}, waiting=hook.waiting)
            for name, hook in memory.hooks.items()
        },
    )


@dataclass(frozen=True)
class Delivered:
    """A hook after its turn: how many alerts it took, why it took no more, and which were given up."""

    hook: HookMemory
    sent: int = 0
    fault: str | None = None
    given_up: Sequence[Alert] = ()


def deliver(hook: HookMemory, send: Callable[[Alert], None], now: float, goes_on: Callable[[], bool]) -> Delivered:
    """Send what waits, oldest first, up to the first that fails: that one is tried again, after growing waits.

    So that a recovery never overtakes what it is the end of, nothing behind one that failed is sent. *goes_on* is asked
    before each. An alert is given up after a day, and the oldest of more than a hundred are.
    """
    queue = list(hook.waiting)
    stale = [each.alert for each in queue if now - each.alert.at > GIVE_UP_SECONDS and each.tries]
    fresh = [each for each in queue if each.alert not in stale]
    given_up = stale + [each.alert for each in fresh[:-MOST_WAITING]]
    fresh = fresh[-MOST_WAITING:]
    sent, fault = 0, None
    while fresh and fresh[0].next_at <= now and fault is None and goes_on():
        try:
            send(fresh[0].alert)
            fresh.pop(0)
            sent += 1
        except Exception as error:
            # Whatever a hook does, the others keep their places; the text of an error not ours could hold a secret.
            fault, tries = str(error) if isinstance(error, SyncError) else type(error).__name__, fresh[0].tries + 1
            wait = min(FIRST_WAIT_SECONDS * 2 ** min(tries - 1, 10), LONGEST_WAIT_SECONDS)
            fresh[0] = Waiting(alert=fresh[0].alert, tries=tries, next_at=now + wait)
    return Delivered(HookMemory(told=hook.told, waiting=tuple(fresh)), sent, fault, given_up)


# --- what is told ---------------------------------------------------------------------------------------------------

WHAT: Mapping[str, tuple[str, str]] = {
    "run": ("runs of {0} fail", "runs of {0} succeed again"),
    "check": ("check {0} fails", "check {0} passes again"),
    "sensor": ("sensor {0} can't look", "sensor {0} looks again"),
    "test": ("a test of {0}", "a test of {0}"),
}


@dataclass(frozen=True)
class Message:
    """An alert in words, the same for every hook. *dagster_url* is where Dagster's UI is, if that is known."""

    alert: Alert
    environment: str
    dagster_url: str | None = None

    @property
    def headline(self) -> str:
        """One line, e.g. `production, error: runs of sync fail`."""
        bad, good = WHAT[self.alert.subject.kind]
        if self.alert.recovered:
            return f"{self.environment}, recovered: {good.format(self.alert.subject.name)}"
        return f"{self.environment}, {self.alert.level}: {bad.format(self.alert.subject.name)}"

    @property
    def lines(self) -> Sequence[str]:
        """What there is to say, line by line."""
        alert, since = self.alert, f"{_moment(self.alert.since):%Y-%m-%d %H:%M} UTC"
        when = f"It was not fine from {since} on." if alert.recovered else f"Since {since}."
        return [line for line in (f"{self.headline}.", alert.words, when, self.link or "") if line]

    @property
    def link(self) -> str | None:
        """Where to look in Dagster's UI."""
        alert, base = self.alert, (self.dagster_url or "").rstrip("/")
        if not base:
            return None
        if alert.subject.kind == "check" and alert.asset:
            return f"{base}/assets/{alert.asset}?view=checks"
        return f"{base}/runs/{alert.run_id}" if alert.run_id else f"{base}/automation"

    def payload(self) -> dict[str, Any]:
        """What a webhook is sent; `text` is what chat tools show."""
        alert = self.alert
        return {
            "id": alert.id,
            "environment": self.environment,
            "state": "recovered" if alert.recovered else "failing",
            "severity": alert.before if alert.recovered else alert.level,
            "kind": alert.subject.kind,
            "name": alert.subject.name,
            "since": _moment(alert.since).isoformat(),
            "at": _moment(alert.at).isoformat(),
            "words": alert.words,
            "run_id": alert.run_id,
            "asset": alert.asset,
            "link": self.link,
            "text": "\n".join(self.lines),
        }

    def body(self) -> bytes:
        """The payload as it goes over the wire."""
        return json.dumps(self.payload()).encode()


def trial(environment: str, hook: str, dagster_url: str | None, at: datetime) -> Message:
    """A message that says it is only a test."""
    subject = Subject(kind="test", name=f"hook {hook}")
    words = "Somebody ran `d365-campaign alerts test`; nothing is wrong."
    moment = at.timestamp()
    alert = Alert(subject=subject, level=Level.WARNING, before=Level.FINE, since=moment, at=moment, words=words)
    return Message(alert, environment, dagster_url)


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
