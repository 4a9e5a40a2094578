"""`opt-out`: what both systems say of a person's opt-outs and why, now and before; the daily files; the workflow."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import click
from rich.console import Console

from d365_campaign.binding import BoundMapping, bind
from d365_campaign.commands import systems
from d365_campaign.commands.common import configuration, record_key, staging
from d365_campaign.config import Configuration
from d365_campaign.errors import ConfigurationError, SyncError
from d365_campaign.flows.apply import EngineCallBudget
from d365_campaign.flows.opt_out_audit import Disagreement, LivePerson, SettledBy, disagreements, held_back, look_live
from d365_campaign.mapping import CONTACT, TableMapping
from d365_campaign.opt_out import ATTRIBUTES, OptOutDirection, OptOutPair, words_of
from d365_campaign.opt_out_changes import Export, LedgerEntry
from d365_campaign.opt_out_checks import RUNNING
from d365_campaign.store.opt_out_desk import OptOutDesk, SetAside
from d365_campaign.store.opt_out_person import PersonOptOuts, moment_words, value_words
from d365_campaign.store.opt_outs import OptOutStore
from d365_campaign.store.staging import Staging

# Files that `exports` shows.
LATEST = 20
SETTLED: Mapping[SettledBy, str] = {
    "next_run": "The next run settles it",
    "rule": "It is left as it is",
    "hold": "It stays while the privacy hold lasts",
    "guardrail": "It stays, for opt-outs of more people would be taken back than guardrails.max_opt_ins allows",
    "nothing": "Nothing settles it: this project leaves that person alone",
}


@click.group("opt-out")
def opt_out() -> None:
    """Explain, audit and look after opt-outs.

    \b
    Example:  d365-campaign opt-out explain 8b2d6f0e-0000-4000-8000-0123456789ab
    """


# --- explain ----------------------------------------------------------------------------------------------------------


@opt_out.command()
@click.argument("contactid", callback=record_key)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def explain(contactid: str, as_json: bool) -> None:
    """Tell what both systems say of CONTACTID, what was written, and why.

    Neither system is reached: it is told as of the last run.

    \b
    Example:  d365-campaign opt-out explain 8b2d6f0e-0000-4000-8000-0123456789ab
    """
    configured = configuration()
    with staging(configured.settings.staging.path) as file:
        person = opt_out_desk(file, configured).person(contactid)
    if not person.known:
        raise SyncError(f"nothing is known of opt-outs of {contactid}, as of the last run. Is it the contactid?")
    if as_json:
        click.echo(json.dumps(explained_as_json(person), indent=2, default=datetime.isoformat))
    else:
        print_explained(Console(), person)


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
        **_named(pair),
        "dynamics": dynamics and dynamics.values[pair.target],
        "dynamics_at": dynamics and dynamics.changed_at,
        "campaign": campaign and campaign.values[pair.target],
        "campaign_at": campaign and campaign.stamps[pair.target],
        "news": pair.target in person.news,
        "rule": outlook and outlook.decision.rule,
        "writes_to": outlook and outlook.writes_to,
        "words": outlook and outlook.says(person.direction),
    }


def _named(pair: OptOutPair) -> dict[str, str]:
    return {"column": pair.source, "attribute": pair.target, "label": ATTRIBUTES[pair.target].label}


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


def print_explained(console: Console, person: PersonOptOuts) -> None:
    """The same for people: each opt-out, then what was decided before, then what comes next."""
    say = _sayer(console)
    console.print(f"contact {person.key}", style="bold", highlight=False, markup=False, soft_wrap=True)
    if person.dynamics is not None:
        say(f"In Dynamics, anything of the contact changed last {_on(person.dynamics.changed_at)}.")
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
        yield f"Dynamics' {_column(pair)} says {value_words(dynamics.values[pair.target])}."
    if campaign is not None:
        word = _campaign_word(campaign.values[pair.target], campaign.stamps[pair.target])
        yield f"Campaign's {pair.target} says {word}."
    if outlook is not None:
        yield "They agree." if outlook.agree else outlook.says(person.direction)


def _print_entry(say: Callable[[str], None], entry: LedgerEntry) -> None:
    standing, name = entry.standing, entry.source if entry.written_to == "dynamics" else entry.attribute
    say(f"Decided on {moment_words(entry.decided_at)}: {ATTRIBUTES[entry.attribute].label}")
    say(f"  Dynamics' {entry.source} said {_dynamics_word(standing.dynamics, standing.dynamics_at)}.")
    say(f"  Campaign's {entry.attribute} said {_campaign_word(standing.campaign, standing.campaign_at)}.")
    why = words_of(OptOutDirection(entry.direction), entry.decision.rule)
    say(f"  {why[0].upper()}{why[1:]} (rule {entry.decision.rule}, {entry.direction}).")
    say(f"  Written to {entry.written_to.capitalize()}: {name} became {value_words(_written(entry))}.")


def _column(pair: OptOutPair) -> str:
    return f"{pair.source} (yes means no opt-out)" if pair.invert else pair.source


def _dynamics_word(value: bool, at: datetime | None) -> str:
    return f"{value_words(value)}, when the contact had changed last {_on(at)}"


def _campaign_word(value: bool, at: datetime | None) -> str:
    return f"{value_words(value)}, changed {_on(at)}" if at else f"{value_words(value)}, and no time"


def _on(at: datetime | None) -> str:
    return f"on {moment_words(at)}" if at else moment_words(at)


# --- audit ------------------------------------------------------------------------------------------------------------


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


@opt_out.command()
@click.argument("contactids", nargs=-1, callback=lambda ctx, param, keys: [record_key(ctx, param, key) for key in keys])
@click.option(
    "--sample",
    default=100,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many people to pick at random where no CONTACTIDS are given.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def audit(contactids: Sequence[str], sample: int, as_json: bool) -> None:
    """Ask both systems now what they say, and tell where they differ; writes to neither.

    Each person costs one engine call. What is learned of Campaign is kept, so that the next run settles it. Ends with 1
    when something differs that the next run won't settle.

    \b
    Example:  d365-campaign opt-out audit --sample 500
    """
    from d365_campaign import definitions  # dagster takes seconds to import; --help should not

    configured = definitions.edited_configuration()
    if not configured.opt_outs.pairs:
        raise SyncError("opt-outs are not kept in step (opt_outs.direction), so there is nothing to hold side by side.")
    audited = _audited(configured, list(dict.fromkeys(contactids)), sample)
    if as_json:
        click.echo(json.dumps(_audited_as_json(audited), indent=2, default=datetime.isoformat))
    else:
        _print_audited(Console(), audited)
    if audited.left:
        sys.exit(1)


def _audited(configured: Configuration, wanted: Sequence[str], sample: int) -> _Audited:
    """Look, keep what was learned and what it cost, and only then tell of an error.

    The staging file is free for runs meanwhile. About whom one of them learned something, a run looks again.
    """
    contact, settings, path = _contact(configured), configured.settings, configured.settings.staging.path
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
        **_named(each.outlook.pair),
        "dynamics": standing.dynamics,
        "dynamics_at": standing.dynamics_at,
        "campaign": standing.campaign,
        "campaign_at": standing.campaign_at,
        "learned": each.learned,
        "settled_by": each.settled_by,
        "rule": each.outlook.decision.rule,
        "words": each.outlook.says(direction),
    }


def _print_audited(console: Console, audited: _Audited) -> None:
    say = _sayer(console)
    for each in audited.differences:
        standing = each.outlook.standing
        pair = each.outlook.pair
        say(f"contact {each.key}: {ATTRIBUTES[pair.target].label}")
        say(f"  Dynamics' {_column(pair)} says {_dynamics_word(standing.dynamics, standing.dynamics_at)}.")
        say(f"  Campaign's {pair.target} says {_campaign_word(standing.campaign, standing.campaign_at)}.")
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


# --- the daily files --------------------------------------------------------------------------------------------------


@opt_out.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def exports(as_json: bool) -> None:
    """List the latest daily files with what became of each, and rows that could not be read.

    Ends with 1 when one was refused and not taken in since.

    \b
    Example:  d365-campaign opt-out exports
    """
    configured = configuration()
    with staging(configured.settings.staging.path) as file:
        desk = opt_out_desk(file, configured)
        files = desk.exports(LATEST)
        aside = desk.set_aside([each.name for each in files])
    if as_json:
        shown = {"files": [asdict(each) for each in files], "set_aside": [asdict(row) for row in aside]}
        click.echo(json.dumps(shown, indent=2, default=datetime.isoformat))
    else:
        _print_exports(Console(), files, aside)
    taken = {each.name for each in files if each.refused is None}
    if any(each.refused and each.name not in taken for each in files):
        sys.exit(1)


def _print_exports(console: Console, files: Sequence[Export], aside: Sequence[SetAside]) -> None:
    say = _sayer(console)
    if not files:
        say("No daily file has come so far.")
    told: set[str] = set()
    for each in files:
        console.print(each.name, style="bold", highlight=False, markup=False, soft_wrap=True)
        say(f"  {'; '.join(_became(each))}.")
        for row in aside:
            if row.file == each.name and each.name not in told:
                line = f"line {row.line:,}, " if row.line is not None else ""
                whose = f"contact {row.key}" if row.key else "no contact that is known"
                say(f"  set aside: {line}{whose}: {row.reason}")
        told.add(each.name)


def _became(export: Export) -> Iterator[str]:
    """What a person wants to know of a file, part by part."""
    if export.refused:
        yield f"refused {_on(export.taken_at)}: {export.refused.rstrip('.')}"
        return
    yield f"read {_on(export.taken_at)}"
    yield f"{export.rows:,} rows, {export.unreadable:,} of them unreadable, {export.without_key:,} without externalId"
    if export.exported_at:
        yield f"latest change {_on(export.exported_at)}"
    if export.cut:
        yield "it ends in the middle of a row"
    if export.missing:
        yield f"it tells no {', '.join(export.missing)}"


# --- the workflow -----------------------------------------------------------------------------------------------------


@opt_out.command("restart-workflow")
def restart_workflow() -> None:
    """Start the workflow that exports opt-outs, when it is not running.

    Find out first why it stopped: Campaign may export what was missed, or may not.

    \b
    Example:  d365-campaign opt-out restart-workflow
    """
    from d365_campaign import definitions

    settings = definitions.edited_configuration().settings
    workflow = settings.opt_outs.workflow
    if workflow is None:
        raise ConfigurationError("no workflow is configured that could be started. Give its id as opt_outs.workflow.")
    with ExitStack() as stack:
        campaign = systems.campaign(settings, systems.PATIENCE)
        stack.callback(campaign.close)
        before = campaign.workflow_state(workflow)
        if before == RUNNING:
            raise SyncError(f"workflow '{workflow}' is running ({before}), so there is nothing to restart.")
        campaign.start_workflow(workflow)
        after = campaign.workflow_state(workflow)
    say = _sayer(Console())
    say(f"Workflow '{workflow}' was {before or 'in a state that Campaign does not tell'}; it is {after or before} now.")
    if after != RUNNING:
        say("Campaign starts it in its own time. Look again, or in Campaign: d365-campaign check contact")


# --- what these share -------------------------------------------------------------------------------------------------


def opt_out_desk(file: Staging, configured: Configuration) -> OptOutDesk:
    """The desk of an open staging file, by the settings."""
    limit = configured.settings.guardrails.max_opt_ins
    return file.opt_out_desk(_contact(configured), configured.opt_outs, limit)


def _contact(configured: Configuration) -> TableMapping:
    return configured.table(CONTACT)


def _sayer(console: Console) -> Callable[[str], None]:
    def say(sentence: str) -> None:
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    return say


def _decapitalized(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:] if sentence.startswith("Nothing") else sentence
