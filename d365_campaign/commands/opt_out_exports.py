"""`opt-out exports`: Campaign's daily files, and what became of each."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import click
from rich.console import Console

from d365_campaign.commands.common import configuration, staging
from d365_campaign.commands.opt_out_words import on_words, opt_out_desk, sayer
from d365_campaign.commands.output import console, json_option, print_json
from d365_campaign.opt_out_changes import Export
from d365_campaign.store.opt_out_desk import SetAside

# Files that are shown.
LATEST = 20


@click.command()
@json_option("{files: [{name, rows, refused, taken_at, ...}], set_aside: [{file, line, key, reason}]}")
def exports(as_json: bool) -> None:
    """List the latest daily files, and what became of each.

    With rows that could not be read. Ends with 1 when one was refused and not taken in since.

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
        print_json(shown)
    else:
        _print_exports(console(), files, aside)
    taken = {each.name for each in files if each.refused is None}
    if any(each.refused and each.name not in taken for each in files):
        sys.exit(1)


def _print_exports(page: Console, files: Sequence[Export], aside: Sequence[SetAside]) -> None:
    say = sayer(page)
    if not files:
        say("No daily file has come so far.")
    told: set[str] = set()
    for each in files:
        page.print(each.name, style="bold", highlight=False, markup=False, soft_wrap=True)
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
        yield f"refused {on_words(export.taken_at)}: {export.refused.rstrip('.')}"
        return
    yield f"read {on_words(export.taken_at)}"
    yield f"{export.rows:,} rows, {export.unreadable:,} of them unreadable, {export.without_key:,} without externalId"
    if export.exported_at:
        yield f"latest change {on_words(export.exported_at)}"
    if export.cut:
        yield "it ends in the middle of a row"
    if export.missing:
        yield f"it tells no {', '.join(export.missing)}"
