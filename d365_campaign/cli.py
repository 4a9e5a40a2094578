"""The command line: parse, run a job, print. Exit codes: 0 done, 1 work refused or left over, 2 wrong use."""

import os
from pathlib import Path
from typing import Any

import click

from d365_campaign import config, rehearsal
from d365_campaign.commands import check as checking
from d365_campaign.commands import desk, engine_calls, flows, opt_out, privacy, rehearse, running
from d365_campaign.errors import SyncError


class _Group(click.Group):
    """Shows our own errors as a sentence instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SyncError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="Settings file; default config/sandbox.yaml."
)
def main(config_file: Path | None) -> None:
    """Keep Adobe Campaign Standard in step with Microsoft Dynamics 365.

    \b
    Example:  d365-campaign plan contact
    """
    if config_file:
        os.environ[rehearsal.CONFIG_VARIABLE] = str(config_file.resolve())


@main.command()
@click.option("--check", is_flag=True, help="Only tell whether the file is up to date.")
def schema(check: bool) -> None:
    """Write config/schema.json, from which editors complete and check the configuration files."""
    file, rendered = Path("config/schema.json"), config.render_json_schema()
    if not check:
        file.write_text(rendered, encoding="utf-8")
    elif not file.exists() or file.read_text(encoding="utf-8") != rendered:
        raise click.ClickException("config/schema.json is not what the models say. Run: d365-campaign schema")


for command in (running.plan, running.sync, rehearse.demo, rehearse.dev, rehearse.sandbox):
    main.add_command(command)
for command in (desk.replay, desk.rejects, desk.trace, desk.acknowledge, desk.accept_schema):
    main.add_command(command)
main.add_command(checking.check)
for command in (privacy.hold, privacy.release, privacy.holds, privacy.forget):
    main.add_command(command)
main.add_command(engine_calls.engine_calls)
main.add_command(opt_out.opt_out)
for command in (flows.status, flows.start, flows.stop):
    main.add_command(command)
