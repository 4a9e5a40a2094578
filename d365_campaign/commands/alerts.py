"""`alerts`: who is told when runs or checks fail, tried out before it matters."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import click

from d365_campaign.alerts import trial
from d365_campaign.clients.alerts import notifier
from d365_campaign.commands.output import json_option, print_json, say
from d365_campaign.errors import ConfigurationError, SyncError
from d365_campaign.settings import Hook, Settings


@click.group()
def alerts() -> None:
    """Try out who is told when something fails.

    \b
    Example:  d365-campaign alerts test
    """


class Tried(NamedTuple):
    """A hook, and why it did not take the test."""

    hook: Hook
    fault: str | None


@alerts.command()
@click.option("--hook", "names", multiple=True, help="Only this hook, by its name; may be given several times.")
@json_option("{hooks: [{name, kind, delivered, fault}]}")
def test(names: Sequence[str], as_json: bool) -> None:
    """Send a test alert to every hook.

    What it says is that nothing is wrong. Ends with 1 when a hook did not take it.

    \b
    Example:  d365-campaign alerts test --hook "on call"
    """
    from d365_campaign import definitions  # dagster takes seconds to import; --help should not

    settings = definitions.edited_configuration().settings
    tried = [_tried(hook, settings) for hook in _chosen(settings, names)]
    if as_json:
        hooks = [{"name": hook.name, "kind": hook.kind, "delivered": not why, "fault": why} for hook, why in tried]
        print_json({"hooks": hooks})
    else:
        for hook, why in tried:
            say(f"{hook.kind} '{hook.name}': {why or 'took it'}")
    if any(why for _, why in tried):
        sys.exit(1)


def _chosen(settings: Settings, names: Sequence[str]) -> Sequence[Hook]:
    hooks = settings.alerts.hooks
    if not hooks:
        raise ConfigurationError(
            "there is no hook to try. Add one to alerts.hooks; the settings schema has both kinds."
        )
    if unknown := set(names) - {hook.name for hook in hooks}:
        there_are = ", ".join(hook.name for hook in hooks)
        raise click.BadParameter(f"there is no hook {', '.join(sorted(unknown))}; there are: {there_are}")
    return [hook for hook in hooks if not names or hook.name in names]


def _tried(hook: Hook, settings: Settings) -> Tried:
    message = trial(settings.environment, hook.name, settings.alerts.dagster_url, datetime.now(UTC))
    try:
        notifier(hook, settings.proxy).send(message)
    except SyncError as error:
        return Tried(hook, str(error))
    return Tried(hook, None)
