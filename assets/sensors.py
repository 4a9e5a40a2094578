"""The sensor over Dynamics: it asks for one run over all tables that are due, and tells of the others why not."""

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple

import dagster as dg

from assets.ingress import TableKeys
from assets.jobs import SYNC, sync_keys
from assets.opt_outs import EXPORTS, opt_out_keys
from assets.sensors_state import (
    ASK_AGAIN_SECONDS,
    INTERVAL_SECONDS,
    latest,
    number,
    run_that_is_on,
    status_of,
    told_of,
    value,
)
from assets.steps import errors_as_failures
from assets.wakeups import last_wakeup
from d365_campaign.config import Configuration
from d365_campaign.mapping import CONTACT, TableMapping
from d365_campaign.quality import TOKEN_DAYS
from resources.dynamics import DynamicsResource

# Opt-outs that a run could not write, because a system refused or didn't answer, are tried again after so long.
OPT_OUTS_AGAIN_SECONDS = 600
WRITTEN = ("inserted", "updated", "deleted")
NOTHING_CHANGED = "nothing changed in Dynamics"
# The daemon looks every 5 s: who wants a table to be asked as often, or more often, wants it asked at each look.
EVERY_LOOK_SECONDS = 5.0

# A table in which nothing changes is read once so much of a delta token's life has passed; a later one takes its place.
RENEWED_AT = 0.5

# What the sensor remembers of one table: when it asked for a run and what was written last by then, when it asked
# Dynamics, and the last wake-up by then. No link, and nothing that a lost cursor could lose.
Remembered = dict[str, float]


class Verdict(NamedTuple):
    """Whether a table is due for a run, and why or why not."""

    due: bool
    words: str


def dynamics_changes(integration: Configuration, *, starts_running: bool) -> dg.SensorDefinition:
    """The sensor over all tables. Its state comes from materialization metadata; it never opens the staging file."""
    tables = integration.tables

    @dg.sensor(
        name="dynamics_changes",
        job_name=SYNC,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=status_of(starts_running),
        description="Asks every table's delta link for changes and goes on while there is backlog.",
    )
    def sensor(context: dg.SensorEvaluationContext, dynamics: DynamicsResource) -> dg.SensorResult | dg.SkipReason:
        if run := run_that_is_on(context.instance):
            return dg.SkipReason(f"{told_of(run)}; what changes meanwhile goes into one run after it")
        memory = _remembered(context.cursor)
        with errors_as_failures():
            verdicts = {
                table.name: _Look(
                    context.instance, integration, table, dynamics, memory.setdefault(table.name, {})
                ).verdict()
                for table in tables
            }
        due = [table for table in tables if verdicts[table.name].due]
        if not due:
            return dg.SensorResult(skip_reason=_in_words(verdicts), cursor=json.dumps(memory))
        why = _in_words({table.name: verdicts[table.name] for table in due})
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    asset_selection=_keys(context.instance, integration, due),
                    tags={"tables": ",".join(table.name for table in due), "why": why},
                )
            ],
            cursor=json.dumps(memory),
        )

    return sensor


def _keys(
    instance: dg.DagsterInstance, integration: Configuration, due: Sequence[TableMapping]
) -> Sequence[dg.AssetKey]:
    """What the run makes. The folder of daily files has a sensor of its own; each run would connect to it again."""
    keys = sync_keys(integration, due)
    return [key for key in keys if key != EXPORTS or latest(instance, EXPORTS) is None]


def _remembered(cursor: str | None) -> dict[str, Remembered]:
    """The cursor's content; what an earlier release left there is forgotten."""
    kept: Mapping[str, Any] = json.loads(cursor or "{}")
    return {name: dict(facts) for name, facts in kept.items() if isinstance(facts, dict)}


def _in_words(verdicts: Mapping[str, Verdict]) -> str:
    """Tables of which the same can be said together."""
    names = defaultdict[str, list[str]](list)
    for name, verdict in verdicts.items():
        names[verdict.words].append(name)
    return ". ".join(f"{', '.join(alike)}: {words}" for words, alike in names.items())


def _wait(records: float) -> str:
    return "1 record waits" if records == 1 else f"{records:,.0f} records wait"


@dataclass(frozen=True)
class _Look:
    """One look at one table."""

    instance: dg.DagsterInstance
    integration: Configuration
    table: TableMapping
    dynamics: DynamicsResource
    remembered: Remembered

    @cached_property
    def pulled(self) -> dg.EventLogEntry | None:
        return latest(self.instance, TableKeys.of(self.table).snapshot)

    @cached_property
    def written(self) -> dg.EventLogEntry | None:
        return latest(self.instance, TableKeys.of(self.table).target)

    def verdict(self) -> Verdict:
        """What is remembered changes with it: that a run was asked for, or that Dynamics was."""
        asked = self._asked_for_lately()
        if asked:
            return Verdict(False, asked)
        later = self._asks_later()
        reason = self._left_to_do() or (None if later else self._change())
        if reason:
            self.remembered.update(asked_for=time.time(), written=self._stamp)
            return Verdict(True, reason)
        return Verdict(False, "; ".join([later or NOTHING_CHANGED, *self._waiting()]))

    @property
    def _stamp(self) -> float:
        """When it was written last, as far as that is known."""
        return self.written.timestamp if self.written else 1.0

    def _asked_for_lately(self) -> str | None:
        """A table that was not written since it was asked for rests, although each of its runs may read."""
        ago = time.time() - self.remembered.get("asked_for", 0.0)
        if self.remembered.get("written") != self._stamp or ago >= ASK_AGAIN_SECONDS:
            return None
        return (
            f"a run was asked for {ago:.0f} s ago and has not written it, which that run tells of; the next is asked "
            f"for in {ASK_AGAIN_SECONDS - ago:.0f} s"
        )

    def _left_to_do(self) -> str | None:
        """What a run could do, whether anything changed or not."""
        pulled, written = self.pulled, self.written
        if pulled is None or written is None:
            return "first run"
        if written.timestamp < pulled.timestamp:
            return "read, and not written since"
        if not value(pulled, "caught_up"):
            return "there is more to read"
        if value(written, "backlog") and time.time() >= number(written, "resumes_at"):
            return f"a backlog of {number(written, 'backlog'):,.0f}"
        if freed := self._freed_by(written):
            return f"records waited for {freed}, which was written"
        if self._opt_outs_go_on(written):
            return "opt-outs are to be written"
        if time.time() - pulled.timestamp >= self._token_seconds * RENEWED_AT:
            return "nothing changed for long, and its delta token is to be renewed before it expires"
        return None

    @property
    def _token_seconds(self) -> float:
        """For how long Dynamics knows a delta token, as far as settings tell."""
        return 86400.0 * (self.integration.settings.checks.token_days or TOKEN_DAYS)

    # --- when Dynamics is asked

    @cached_property
    def _wakeup(self) -> int:
        """The last wake-up before Dynamics is asked: one that comes later counts at the next look."""
        return last_wakeup(self.instance, self.table.source)

    def _change(self) -> str | None:
        """What Dynamics says, asked now."""
        self.remembered.update(looked=time.time(), wakeup=self._wakeup)
        assert self.pulled is not None
        changed = self.dynamics.client.has_changes(str(value(self.pulled, "delta_link")))
        return "changed in Dynamics" if changed else None

    def _asks_later(self) -> str | None:
        """Why Dynamics is not asked at this look; None when it is."""
        every = self.integration.settings.dynamics.poll_seconds
        left = self.remembered.get("looked", 0.0) + every - time.time()
        if every <= EVERY_LOOK_SECONDS or left <= 0 or self._wakeup > self.remembered.get("wakeup", 0):
            return None
        return f"asked every {every:.0f} s, next in {left:.0f} s, or once a webhook tells of a change"

    # --- what waits

    def _waiting(self) -> Iterator[str]:
        """What is left and no run could write now."""
        written = self.written
        if written is None:
            return
        if value(written, "backlog"):
            until = datetime.fromtimestamp(number(written, "resumes_at"), UTC)
            reason = str(value(written, "stopped_by"))
            yield f"{_wait(number(written, 'backlog'))} until {until:%Y-%m-%d %H:%M} UTC ({reason})"
        if value(written, "deferred"):
            yield f"{_wait(number(written, 'deferred'))} for records of {', '.join(sorted(self._linked()))}"
        if self.table.name == CONTACT and value(written, "opt_outs_open"):
            yield f"opt-outs that could not be written are tried again every {OPT_OUTS_AGAIN_SECONDS} s"

    def _linked(self) -> set[str]:
        """Tables whose records its own may wait for: parents to be written, children to be deleted."""
        name = self.table.name
        children = {other.name for other in self.integration.tables for link in other.links if link.parent == name}
        return {link.parent for link in self.table.links} | children

    def _freed_by(self, written: dg.EventLogEntry) -> str | None:
        """The table that some of its records wait for and that was written since."""
        if not value(written, "deferred"):
            return None
        linked = self._linked()
        for other in self.integration.tables:
            event = latest(self.instance, TableKeys.of(other).target) if other.name in linked else None
            if event and event.timestamp > written.timestamp and any(value(event, name) for name in WRITTEN):
                return other.name
        return None

    def _opt_outs_go_on(self, written: dg.EventLogEntry) -> bool:
        """Whether opt-outs are left, and the last run got on with them; otherwise they are tried again after a while.

        Profiles are *written* after opt-outs, and reading them may bring new ones to light.
        """
        keys = opt_out_keys(self.integration) if self.table.name == CONTACT else []
        event = latest(self.instance, keys[-1]) if keys else None
        if event is None or not value(written, "opt_outs_open"):
            return False
        if not value(event, "open"):
            return True
        moved = [latest(self.instance, key) for key in keys]
        wrote = any(value(e, "people") or value(e, "stopped_by") for e in moved if e)
        return wrote or time.time() - event.timestamp >= OPT_OUTS_AGAIN_SECONDS
