"""`opt-out explain`: what both systems say of a person's opt-outs and why, as of the last run."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console

from d365_campaign.commands.common import configuration, record_key, staging
from d365_campaign.commands.opt_out_words import (
    campaign_words,
    column_words,
    dynamics_words,
    named,
    on_words,
    opt_out_desk,
    sayer,
)
from d365_campaign.commands.output import console, json_option, print_json
from d365_campaign.errors import SyncError
from d365_campaign.opt_out import ATTRIBUTES, OptOutDirection, OptOutPair, words_of
from d365_campaign.opt_out_changes import LedgerEntry
from d365_campaign.store.opt_out_person import PersonOptOuts, moment_words, value_words


@click.command()
@click.argument("contactid", callback=record_key)
@json_option("{contact, sentence, opt_outs: [...], decisions: [...], hold, ...}")
def explain(contactid: str, as_json: bool) -> None:
    """Tell who said what of a person's opt-outs, and why.

    Of CONTACTID: what both systems say, what was decided and written, and by which rule. Neither system is reached: it
    is told as of the last run.

    \b
    Example:  d365-campaign opt-out explain 8b2d6f0e-0000-4000-8000-0123456789ab
    """
    configured = configuration()
    with staging(configured.settings.staging.path) as file:
        person = opt_out_desk(file, configured).person(contactid)
    if not person.known:
        raise SyncError(f"nothing is known of opt-outs of {contactid}, as of the last run. Is it the contactid?")
    if as_json:
        print_json(explained_as_json(person))
    else:
        print_explained(console(), person)


def explained_as_json(person: PersonOptOuts) -> dict[str, Any]:
    """Everything of `explain` for machines."""
    return {
        "contact": person.key,
        "direction": person.direction.value,
        "sentence": person.sentence,
        "in_dynamics": person.dynamics is not None,
        "in_campaign": person.campaign is not None,
        "in_doubt": person.in_doubt,
        "compared": person.compared,
        "forgotten": person.forgotten,
        "hold": asdict(person.hold) if person.hold else None,
        "opt_outs": [_pair_as_json(person, pair) for pair in person.pairs],
        "decisions": [_entry_as_json(entry) for entry in person.decisions],
    }


def _pair_as_json(person: PersonOptOuts, pair: OptOutPair) -> dict[str, Any]:
    dynamics, campaign, outlook = person.dynamics, person.campaign, person.outlooks.get(pair.target)
    return {
        **named(pair),
        "dynamics": dynamics and dynamics.values[pair.target],
        "dynamics_at": dynamics and dynamics.changed_at,
        "campaign": campaign and campaign.values[pair.target],
        "campaign_at": campaign and campaign.stamps[pair.target],
        "news": pair.target in person.news,
        "rule": outlook and outlook.decision.rule,
        "writes_to": outlook and outlook.writes_to,
        "words": outlook and outlook.says(person.direction),
    }


def _entry_as_json(entry: LedgerEntry) -> dict[str, Any]:
    standing, decision = entry.standing, entry.decision
    return {
        "decided_at": entry.decided_at,
        "column": entry.source,
        "attribute": entry.attribute,
        "direction": entry.direction,
        "dynamics": standing.dynamics,
        "dynamics_at": standing.dynamics_at,
        "campaign": standing.campaign,
        "campaign_at": standing.campaign_at,
        "rule": decision.rule,
        "why": words_of(OptOutDirection(entry.direction), decision.rule),
        "written_to": entry.written_to,
        "written": _written(entry),
    }


def _written(entry: LedgerEntry) -> bool:
    return entry.decision.campaign if entry.written_to == "campaign" else entry.decision.dynamics


def print_explained(page: Console, person: PersonOptOuts) -> None:
    """The same for people: each opt-out, then what was decided before, then what comes next."""
    say = sayer(page)
    page.print(f"contact {person.key}", style="bold", highlight=False, markup=False, soft_wrap=True)
    if person.dynamics is not None:
        say(f"In Dynamics, anything of the contact changed last {on_words(person.dynamics.changed_at)}.")
    for pair in person.pairs:
        say(" ".join([f"{ATTRIBUTES[pair.target].label}:", *_pair_in_words(person, pair)]))
    for entry in person.decisions:
        _print_entry(say, entry)
    if not person.decisions:
        say("No disagreement is on record.")
    say(person.sentence)


def _pair_in_words(person: PersonOptOuts, pair: OptOutPair) -> Iterator[str]:
    """Who says what, and what is decided where both say something."""
    dynamics, campaign, outlook = person.dynamics, person.campaign, person.outlooks.get(pair.target)
    if dynamics is not None:
        yield f"Dynamics' {column_words(pair)} says {value_words(dynamics.values[pair.target])}."
    if campaign is not None:
        word = campaign_words(campaign.values[pair.target], campaign.stamps[pair.target])
        yield f"Campaign's {pair.target} says {word}."
    if outlook is not None:
        yield "They agree." if outlook.agree else outlook.says(person.direction)


def _print_entry(say: Callable[[str], None], entry: LedgerEntry) -> None:
    standing, name = entry.standing, entry.source if entry.written_to == "dynamics" else entry.attribute
    say(f"Decided on {moment_words(entry.decided_at)}: {ATTRIBUTES[entry.attribute].label}")
    say(f"  Dynamics' {entry.source} said {dynamics_words(standing.dynamics, standing.dynamics_at)}.")
    say(f"  Campaign's {entry.attribute} said {campaign_words(standing.campaign, standing.campaign_at)}.")
    why = words_of(OptOutDirection(entry.direction), entry.decision.rule)
    say(f"  {why[0].upper()}{why[1:]} (rule {entry.decision.rule}, {entry.direction}).")
    say(f"  Written to {entry.written_to.capitalize()}: {name} became {value_words(_written(entry))}.")
