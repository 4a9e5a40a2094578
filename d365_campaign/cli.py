"""The command line: parse, run a job, print.

Exit codes: 0 all is well; 1 something is wrong with data or a system, or is left over; 2 wrong use, or a file, a
setting or a right that a person has to change first.
"""

import os
from pathlib import Path
from typing import Any

import click

from d365_campaign import config, config_reference, rehearsal
from d365_campaign.commands import (
    alerts,
    desk,
    engine_calls,
    flows,
    opt_out,
    privacy,
    rehearse,
    running,
    scaffold,
    webhook,
)
from d365_campaign.commands import check as checking
from d365_campaign.commands import verify as verifying
from d365_campaign.commands.output import json_option, leave_quietly
from d365_campaign.errors import ConfigurationError, SyncError


class _ToBeChanged(click.ClickException):
    """Something that a person has to change first: a file, a setting or a right."""

    exit_code = 2


class _Group(click.Group):
    """Shows our own errors as a sentence instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SyncError as error:
            kind = _ToBeChanged if isinstance(error, ConfigurationError) else click.ClickException
            raise kind(str(error)) from error
        except BrokenPipeError:
            leave_quietly()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="Settings file; default config/sandbox.yaml."
)
def main(config_file: Path | None) -> None:
    """Keep Adobe Campaign Standard in step with Microsoft Dynamics 365.

    Ends with 0 when all is well; with 1 when something is wrong with data or a system, or is left over; with 2 when it
    was used wrongly, or a person has to change a file, a setting or a right first.

    \b
    Example:  d365-campaign plan contact
    """
    if config_file:
        os.environ[rehearsal.CONFIG_VARIABLE] = str(config_file.resolve())


@main.command()
@click.option("--check", is_flag=True, help="Only tell whether the files are up to date.")
@json_option("the schema itself, and write no file.")
def schema(check: bool, as_json: bool) -> None:
    """Write the schema of configuration files.

    It goes to config/schema.json, from which editors complete and check them, and to docs/configuration.md for people.

    \b
    Example:  d365-campaign schema --check
    """
    made = {
        Path("config/schema.json"): config.render_json_schema(),
        Path("docs/configuration.md"): config_reference.render(),
    }
    if as_json:
        click.echo(config.render_json_schema(), nl=False)
        return
    for file, rendered in made.items():
        if not check:
            file.parent.mkdir(exist_ok=True)
            file.write_text(rendered, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != rendered:
            raise click.ClickException(f"{file} is not what the models say. Run: d365-campaign schema")


for command in (running.plan, running.sync, rehearse.demo, rehearse.dev, rehearse.sandbox):
    main.add_command(command)
for command in (desk.replay, desk.rejects, desk.trace, desk.acknowledge, desk.accept_schema):
    main.add_command(command)
main.add_command(checking.check)
main.add_command(verifying.verify)
for command in (privacy.hold, privacy.release, privacy.holds, privacy.forget):
    main.add_command(command)
main.add_command(engine_calls.engine_calls)
main.add_command(opt_out.opt_out)
main.add_command(alerts.alerts)
main.add_command(scaffold.init)
for command in (flows.status, flows.start, flows.stop):
    main.add_command(command)
main.add_command(webhook.webhook)
