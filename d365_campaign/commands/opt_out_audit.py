"""`opt-out audit`: ask both systems what they say of some people's opt-outs, and hold that side by side."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console

from d365_campaign.binding import BoundMapping, bind
from d365_campaign.commands import systems
from d365_campaign.commands.common import record_key, staging
from d365_campaign.commands.opt_out_words import (
    campaign_words,
    column_words,
    contact_of,
    dynamics_words,
    named,
    opt_out_desk,
    sayer,
)
from d365_campaign.commands.output import console, json_option, print_json
from d365_campaign.commands.progress import shown_progress
from d365_campaign.config import Configuration
from d365_campaign.errors import ConfigurationError, SyncError
from d365_campaign.flows.apply import EngineCallBudget
from d365_campaign.flows.opt_out_audit import Disagreement, LivePerson, SettledBy, disagreements, held_back, look_live
from d365_campaign.mapping import CONTACT
from d365_campaign.opt_out import ATTRIBUTES, OptOutDirection
from d365_campaign.store.opt_out_person import PersonOptOuts
from d365_campaign.store.opt_outs import OptOutStore
from d365_campaign.store.staging import Staging

SETTLED: Mapping[SettledBy, str] = {
    "next_run": "The next run settles it",
    "rule": "It is left as it is",
    "hold": "It stays while the privacy hold lasts",
    "guardrail": "It stays, for opt-outs of more people would be taken back than guardrails.max_opt_ins allows",
    "nothing": "Nothing settles it: this project leaves that person alone",
}


@dataclass(frozen=True, slots=True)
class _Audited:
    """People that were looked at, where both systems differ about them, and what it took."""

    people: Sequence[LivePerson]
    differences: Sequence[Disagreement]
    engine_calls: int
    direction: OptOutDirection

    @property
    def left(self) -> Sequence[Disagreement]:
        """What the next run won't settle."""
        return [each for each in self.differences if each.settled_by != "next_run"]


@click.command()
@click.argument("contactids", nargs=-1, callback=lambda ctx, param, keys: [record_key(ctx, param, key) for key in keys])
@click.option(
    "--sample",
    default=100,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many people to pick at random where no CONTACTIDS are given.",
)
@json_option("{people, engine_calls, disagreements: [...], not_in_dynamics, not_in_campaign}")
def audit(contactids: Sequence[str], sample: int, as_json: bool) -> None:
    """Ask both systems now, and tell where they differ.

    It writes to neither. Each person costs one engine call. What is learned of Campaign is kept, so that the next run
    settles it. Ends with 1 when something differs that the next run won't settle.

    \b
    Example:  d365-campaign opt-out audit --sample 500
    """
    from d365_campaign import definitions  # dagster takes seconds to import; --help should not

    configured = definitions.edited_configuration()
    if not configured.opt_outs.pairs:
        raise SyncError("opt-outs are not kept in step (opt_outs.direction), so there is nothing to hold side by side.")
    with shown_progress(quiet=as_json):
        audited = _audited(configured, list(dict.fromkeys(contactids)), sample)
    if as_json:
        print_json(_audited_as_json(audited))
    else:
        _print_audited(console(), audited)
    if audited.left:
        sys.exit(1)


def _audited(configured: Configuration, wanted: Sequence[str], sample: int) -> _Audited:
    """Look, keep what was learned and what it cost, and only then tell of an error.

    The staging file is free for runs meanwhile. About whom one of them learned something, a run looks again.
    """
    contact, settings, path = contact_of(configured), configured.settings, configured.settings.staging.path
    with ExitStack() as stack:
        dynamics, campaign = systems.dynamics(settings), systems.campaign(settings)
        stack.callback(dynamics.close)
        stack.callback(campaign.close)
        described = dynamics.describe(contact.source), campaign.describe(contact.target)
        bound = bind(contact, *described, configured.tables, configured.opt_outs)
        assert bound.opt_outs is not None, "there are pairs, and contacts become profiles"
        with staging(path) as file:
            opt_outs = _opened(file, bound)
            keys = wanted or opt_outs.sample(sample)
            _refuse_beyond_budget(configured, file, len(keys))
            before = _known(file, configured, keys)
        rows = dynamics.rows(bound.source, bound.opt_out_columns)
        target = campaign.target(bound.target, contact.key.target)
        seen = list(look_live(bound.opt_outs, keys, rows, target, settings.campaign.workers))
        people = [each for each in seen if isinstance(each, LivePerson)]
        with staging(path) as file:
            now = _known(file, configured, keys)
            moved = [key for key in keys if (before[key].campaign, before[key].dynamics) != _words(now[key])]
            words = {person.key: person.campaign for person in people if person.campaign}
            _opened(file, bound).note_audit(words, moved, len(seen))
    for each in seen:
        if isinstance(each, SyncError):
            raise each
    limit = settings.guardrails.max_opt_ins
    found = [each for person in people for each in disagreements(bound.opt_outs, person, now[person.key])]
    if len({each.key for each in found if each.outlook.takes_back}) > limit:
        found = list(map(held_back, found))
    return _Audited(people, found, len(seen), configured.opt_outs.direction)


def _opened(file: Staging, bound: BoundMapping) -> OptOutStore:
    """The opt-outs' part of the file. Raises ConfigurationError before the first run."""
    if bound.name not in file.tables:
        raise ConfigurationError(
            f"nobody is known to be in both systems yet. The first sync tells: d365-campaign sync {bound.name}"
        )
    opt_outs = file.table(bound).opt_outs
    assert opt_outs is not None, "there are pairs"
    return opt_outs


def _known(file: Staging, configured: Configuration, keys: Sequence[str]) -> Mapping[str, PersonOptOuts]:
    desk = opt_out_desk(file, configured)
    return {key: desk.person(key) for key in keys}


def _words(person: PersonOptOuts) -> tuple[object, object]:
    return person.campaign, person.dynamics


def _refuse_beyond_budget(configured: Configuration, file: Staging, calls: int) -> None:
    limits = configured.settings.engine_calls
    left = EngineCallBudget(limits.daily_budget, limits.monthly_budget, limits.other_calls).left(file.ledger)
    if left is not None and calls > left:
        raise SyncError(
            f"the audit takes {calls:,} engine calls, and {max(0, left):,} are left of the budget. Look at fewer "
            "people (--sample), or raise engine_calls.daily_budget or monthly_budget."
        )


def _audited_as_json(audited: _Audited) -> dict[str, Any]:
    return {
        "people": len(audited.people),
        "engine_calls": audited.engine_calls,
        "not_in_dynamics": [person.key for person in audited.people if person.dynamics is None],
        "not_in_campaign": [person.key for person in audited.people if person.campaign is None],
        "disagreements": [_difference_as_json(each, audited.direction) for each in audited.differences],
    }


def _difference_as_json(each: Disagreement, direction: OptOutDirection) -> dict[str, Any]:
    standing = each.outlook.standing
    return {
        "contact": each.key,
        **named(each.outlook.pair),
        "dynamics": standing.dynamics,
        "dynamics_at": standing.dynamics_at,
        "campaign": standing.campaign,
        "campaign_at": standing.campaign_at,
        "learned": each.learned,
        "settled_by": each.settled_by,
        "rule": each.outlook.decision.rule,
        "words": each.outlook.says(direction),
    }


def _print_audited(page: Console, audited: _Audited) -> None:
    say = sayer(page)
    for each in audited.differences:
        standing = each.outlook.standing
        pair = each.outlook.pair
        say(f"contact {each.key}: {ATTRIBUTES[pair.target].label}")
        say(f"  Dynamics' {column_words(pair)} says {dynamics_words(standing.dynamics, standing.dynamics_at)}.")
        say(f"  Campaign's {pair.target} says {campaign_words(standing.campaign, standing.campaign_at)}.")
        untold = "No daily file has told that so far. " if each.learned else ""
        say(f"  {untold}{SETTLED[each.settled_by]}: {_decapitalized(each.outlook.says(audited.direction))}")
    for person in audited.people:
        for system, word in (("Dynamics", person.dynamics), ("Campaign", person.campaign)):
            if word is None:
                say(f"contact {person.key}: {system} has no such record, so there is nothing to hold side by side.")
    left, settled = len(audited.left), len(audited.differences) - len(audited.left)
    say(
        f"{len(audited.people):,} people: {settled:,} opt-outs differ until the next run, {left:,} beyond it. "
        f"Engine calls: {audited.engine_calls:,}."
    )
    if settled:
        say(f"Run: d365-campaign sync {CONTACT}")


def _decapitalized(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:] if sentence.startswith("Nothing") else sentence
