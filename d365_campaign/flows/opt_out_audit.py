"""Hold both systems' opt-outs against each other as they are right now, person by person; nothing is written to either.

What is learned of Campaign goes into the staging file, so that the next run acts on it without a daily file.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Event
from typing import Literal

from d365_campaign.binding import MODIFIED_ON, BoundOptOuts
from d365_campaign.errors import SyncError
from d365_campaign.flows.ports import RecordTarget, RowTarget
from d365_campaign.mapping import CONTACT
from d365_campaign.opt_out import CampaignWord, DynamicsWord, decide, read_campaign, read_dynamics, standings
from d365_campaign.progress import Progress
from d365_campaign.store.opt_out_person import PairOutlook, PersonOptOuts

log = logging.getLogger(__name__)

SettledBy = Literal["next_run", "rule", "hold", "guardrail", "nothing"]


@dataclass(frozen=True, slots=True)
class LivePerson:
    """What both systems answered; None where one of them has no such record."""

    key: str
    campaign: CampaignWord | None = field(default=None, repr=False)
    dynamics: DynamicsWord | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One opt-out of one person about which both systems differ, and what settles it.

    *learned*: what Campaign says of it was not known so far. *settled_by* is `rule` where the direction leaves it,
    `hold` while a privacy hold lasts, `guardrail` where too many opt-outs would be taken back, and `nothing` where the
    person was forgotten or the profile is left alone.
    """

    key: str
    outlook: PairOutlook
    learned: bool
    settled_by: SettledBy


def look_live(
    bound: BoundOptOuts, keys: Sequence[str], rows: RowTarget, target: RecordTarget, workers: int
) -> Iterator[LivePerson | SyncError]:
    """Read each person once in either system: a contact, and a profile at one engine call.

    After an error nobody else is asked for.
    """
    stop = Event()

    def look(key: str) -> LivePerson | SyncError | None:
        if stop.is_set():
            return None
        try:
            return _both(bound, key, rows, target)
        except SyncError as error:
            stop.set()
            return error

    with ThreadPoolExecutor(workers, thread_name_prefix="audit") as pool:
        for seen in pool.map(look, keys):
            if seen is not None:
                log.info(Progress(CONTACT, "looked at", 1))
                yield seen


def _both(bound: BoundOptOuts, key: str, rows: RowTarget, target: RecordTarget) -> LivePerson:
    row, found = rows.read(key), target.read(key)
    return LivePerson(
        key,
        read_campaign(found.values, bound.stamps) if found else None,
        read_dynamics(row, bound.pairs, _moment(row.get(MODIFIED_ON))) if row is not None else None,
    )


def disagreements(bound: BoundOptOuts, live: LivePerson, known: PersonOptOuts) -> Iterator[Disagreement]:
    """Where both systems differ, decided as the next run will; *known* is what the staging file had before."""
    if live.campaign is None or live.dynamics is None:
        return
    fresh = {pair.target for pair in bound.pairs if _is_fresh(pair.target, live.campaign, known.campaign)}
    sides = standings(bound.pairs, live.campaign, live.dynamics, known.news | fresh)
    for pair in bound.pairs:
        standing = sides[pair.target]
        outlook = PairOutlook(pair, standing, decide(bound.direction, standing))
        if not outlook.agree:
            yield Disagreement(live.key, outlook, pair.target in fresh, _settled_by(outlook, known))


def _is_fresh(name: str, live: CampaignWord, known: CampaignWord | None) -> bool:
    """Whether Campaign's word differs from what is known; of an unknown profile, only one that was ever said does."""
    if known is None:
        return live.values.get(name, False) or live.stamps.get(name) is not None
    return (live.values.get(name), live.stamps.get(name)) != (known.values.get(name), known.stamps.get(name))


def _settled_by(outlook: PairOutlook, known: PersonOptOuts) -> SettledBy:
    if outlook.writes_to is None:
        return "rule"
    if known.forgotten or (outlook.writes_to == "campaign" and not known.ours):
        return "nothing"
    if known.hold:
        return "hold"
    return "guardrail" if outlook.takes_back and not known.takes_back else "next_run"


def held_back(each: Disagreement) -> Disagreement:
    """The same where a run takes back no opt-out, because these would be too many."""
    if each.settled_by == "next_run" and each.outlook.takes_back:
        return replace(each, settled_by="guardrail")
    return each


def _moment(value: object) -> datetime | None:
    return datetime.fromisoformat(str(value)) if value else None
