"""`replay`, `rejects`, `trace`, `acknowledge` and `accept-schema`: questions to the staging file, and requests to it.

Neither system is reached. What is asked for here is done by the next sync.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click
from rich.table import Table

from d365_campaign.changes import Reject, Replay
from d365_campaign.commands.common import configuration, staging
from d365_campaign.commands.output import console, json_option, print_json, say
from d365_campaign.config import Configuration
from d365_campaign.errors import SyncError
from d365_campaign.store.desk import Retried, TableDesk
from d365_campaign.store.privacy import as_sent
from d365_campaign.store.trace import Trace


@click.command()
@click.argument("table")
@click.option("--force", is_flag=True, help="Look at every record in Campaign too: one engine call each at least.")
@click.option("--withdraw", is_flag=True, help="Take back a request that no sync has taken up yet.")
@json_option("{table, replay, records}")
def replay(table: str, force: bool, withdraw: bool, as_json: bool) -> None:
    """Let the next sync read all of TABLE again.

    It sends what differs, and with --force looks at every record in Campaign.

    \b
    Example:  d365-campaign replay contact
    """
    if force and withdraw:
        raise click.UsageError("--force asks for a replay and --withdraw takes it back. Give one of them.")
    configured = configuration()
    with _desk(configured, table) as desk:
        records = desk.records()
        if withdraw:
            _withdraw(desk)
        else:
            limit = configured.settings.guardrails.max_replay_records
            desk.request_replay(Replay.FORCED if force else Replay.DIFFERENCES, limit)
    if as_json:
        asked = None if withdraw else "forced" if force else "differences"
        print_json({"table": table, "replay": asked, "records": records})
    elif withdraw:
        say(f"The replay of {table} is withdrawn.")
    else:
        _print_replay(table, records, force=force)


def _print_replay(table: str, records: int, *, force: bool) -> None:
    does = "looks at each of them in Campaign, and sends" if force else "sends"
    say(f"The next sync of {table} reads all its records again, {records:,} so far, {does} what differs. {_run(table)}")


def _withdraw(desk: TableDesk) -> None:
    if not desk.withdraw_replay():
        raise SyncError(f"no replay of '{desk.name}' waits to be taken up, so there is none to withdraw.")


@click.command()
@click.argument("table")
@click.argument("keys", nargs=-1)
@click.option("--retry", is_flag=True, help="Let the next sync send them again: those of KEYS, or all.")
@json_option("{rejects: [{key, cause, attempts, since, reason, ...}], retried}")
def rejects(table: str, keys: Sequence[str], retry: bool, as_json: bool) -> None:
    """List records of TABLE that could not be sent, and why.

    Or were turned down by Campaign. Ends with 1 when there are some; with --retry, when some can't be sent again.

    \b
    Example:  d365-campaign rejects contact --retry
    """
    wanted = [as_sent(key) for key in keys]
    with _desk(configuration(), table) as desk:
        retried = desk.retry(wanted) if retry else None
        found = desk.rejects(wanted)
    if as_json:
        print_json(_rejects_as_json(found, retried))
    elif retried is None:
        _print_rejects(table, found)
    else:
        _print_retried(table, retried)
    if found if retried is None else retried.unfit or retried.unknown:
        sys.exit(1)


def _rejects_as_json(found: Sequence[Reject], retried: Retried | None) -> dict[str, Any]:
    return {"rejects": [asdict(reject) for reject in found], "retried": asdict(retried) if retried else None}


def _print_rejects(table: str, found: Sequence[Reject]) -> None:
    if not found:
        say(f"No record of {table} is turned down.")
        return
    shown = Table(title=f"{len(found):,} rejects of {table}", title_justify="left")
    shown.add_column("key", no_wrap=True)
    for heading in ("cause", "sent", "since", "reason"):
        shown.add_column(heading, justify="right" if heading == "sent" else "left", overflow="fold")
    for reject in found:
        times = f"{reject.attempts:,}"
        shown.add_row(reject.key, _cause(reject), times, _moment(reject.since), reject.reason)
    console().print(shown, highlight=False, markup=False)


def _cause(reject: Reject) -> str:
    if not reject.resting:
        return f"{reject.cause}, goes out with the next sync"
    return f"{reject.cause}, again from {_moment(reject.retry_at)}" if reject.retry_at else reject.cause


def _print_retried(table: str, retried: Retried) -> None:
    if retried.woken:
        say(f"The next sync of {table} sends {len(retried.woken):,} records again. {_run(table)}")
    if retried.unfit:
        say(f"Can't be sent as they are, and go out once their data or the mapping changes: {', '.join(retried.unfit)}")
    if retried.unknown:
        say(f"Not among the rejects of {table}: {', '.join(retried.unknown)}")
    if not (retried.woken or retried.unfit or retried.unknown):
        say(f"No record of {table} is turned down, so there is nothing to send again.")


@click.command()
@click.argument("key")
@click.option("--table", help="Look in this table only.")
@click.option("--show-values", is_flag=True, help="Show field values too; they are personal data.")
@json_option("{TABLE: {key, sentence, in_dynamics, mirrored, change, fields, ...}}")
def trace(key: str, table: str | None, show_values: bool, as_json: bool) -> None:
    """Tell what happened to one record, and why.

    KEY is its Dynamics id. Ends with 1 when it was turned down.

    \b
    Example:  d365-campaign trace 8b2d6f0e-0000-4000-8000-0123456789ab
    """
    configured = configuration()
    names = [configured.table(table).name] if table else [mapping.name for mapping in configured.tables]
    with staging(configured.settings.staging.path) as file:
        desks = [file.desk(name) for name in names if name in file.tables]
        traces = [desk.trace(as_sent(key), show_values=show_values) for desk in desks]
    found = [each for each in traces if each.known] or [each for each in traces if each.hold or each.forgotten][:1]
    if not found:
        raise SyncError(f"no record {as_sent(key)} is known in {', '.join(names)}, as of the last sync.")
    if as_json:
        told = {each.table: _trace_as_json(each, show_values=show_values) for each in found}
        print_json(told)
    else:
        for each in found:
            _print_trace(each, show_values=show_values)
    if any(each.refused for each in found):
        sys.exit(1)


def _trace_as_json(trace: Trace, *, show_values: bool) -> dict[str, Any]:
    told = asdict(trace) | {"sentence": trace.sentence}
    if not show_values:
        told["fields"] = [{"name": field.name, "differs": field.differs} for field in trace.fields]
    return told


def _print_trace(trace: Trace, *, show_values: bool) -> None:
    page, lines = console(), Table.grid(padding=(0, 2))
    for fact, told in _facts(trace):
        lines.add_row(fact, told)
    page.print(f"{trace.table} {trace.key}", style="bold", highlight=False, markup=False, soft_wrap=True)
    page.print(lines, highlight=False, markup=False)
    if show_values and trace.fields:
        values = Table("field", "ought to be", "is known to be", "differs")
        for field in trace.fields:
            values.add_row(field.name, _shown(field.desired), _shown(field.known), "yes" if field.differs else "")
        page.print(values, highlight=False, markup=False)
    say(trace.sentence)


def _facts(trace: Trace) -> Iterator[tuple[str, str]]:
    modified = f", modified {_moment(trace.modified_on)}" if trace.modified_on else ""
    filtered = "" if trace.wanted else ", doesn't pass the filter"
    yield "in Dynamics", f"yes{modified}{filtered}" if trace.in_dynamics else "no"
    yield "in Campaign", "yes" if trace.mirrored else "before the first sync" if trace.existing else "no"
    if trace.last_call:
        yield "last call", f"{trace.last_call.kind}, {trace.last_call.result}, {_moment(trace.last_call.at)}"
    if trace.change:
        yield "open change", " of ".join(filter(None, [trace.change, ", ".join(trace.changed)]))
    if differing := [field.name for field in trace.fields if field.differs]:
        yield "differs in", ", ".join(differing)
    if trace.reject:
        yield "turned down", f"{trace.reject.cause}, sent {trace.reject.attempts} times, {_moment(trace.reject.since)}"
    for awaited in trace.waits_for:
        yield "waits for", f"{awaited.table} {awaited.key}"
    if trace.replayed:
        yield "replay", "sent again, not yet written"


@click.command()
@click.argument("table")
@click.option("--by", required=True, help="Who says so; it is kept and shown with the load.")
@json_option("{table, acknowledged_by}")
def acknowledge(table: str, by: str, as_json: bool) -> None:
    """Let a large load of TABLE go on.

    Once Campaign has nothing else to do.

    \b
    Example:  d365-campaign acknowledge contact --by "Ada Lovelace"
    """
    if not by.strip():
        raise click.UsageError("--by is empty. Name the person who says so.")
    with _desk(configuration(), table) as desk:
        desk.acknowledge_large_load(by.strip())
    if as_json:
        print_json({"table": table, "acknowledged_by": by.strip()})
    else:
        say(f"The load of {table} at hand may go on; it ends with its last record. {_run(table)}")


@click.command(name="accept-schema")
@click.argument("table")
@json_option("{table, accepted}")
def accept_schema(table: str, as_json: bool) -> None:
    """Go on after a column or field changed its type.

    Or its length: the next sync takes those of TABLE as both systems describe them then.

    \b
    Example:  d365-campaign accept-schema contact
    """
    with _desk(configuration(), table) as desk:
        desk.accept_schema()
    if as_json:
        print_json({"table": table, "accepted": True})
    else:
        say(f"The next sync of {table} takes both systems' schemas as they are then. {_run(table)}")


@contextmanager
def _desk(configured: Configuration, table: str) -> Iterator[TableDesk]:
    """Raises ConfigurationError with the names there are for a table that isn't mapped."""
    name = configured.table(table).name
    with staging(configured.settings.staging.path) as file:
        yield file.desk(name)


def _run(table: str) -> str:
    return f"Run: d365-campaign sync {table}"


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else ""


def _shown(value: object) -> str:
    return "" if value is None else str(value)
