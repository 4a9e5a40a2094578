"""`opt-out`: what both systems say of a person's opt-outs and why, now and before; the daily files; the workflow."""

import click

from d365_campaign.commands.opt_out_audit import audit
from d365_campaign.commands.opt_out_explain import explain
from d365_campaign.commands.opt_out_exports import exports
from d365_campaign.commands.opt_out_workflow import restart_workflow


@click.group("opt-out")
def opt_out() -> None:
    """Explain, audit and look after opt-outs.

    \b
    Example:  d365-campaign opt-out explain 8b2d6f0e-0000-4000-8000-0123456789ab
    """


for command in (explain, audit, exports, restart_workflow):
    opt_out.add_command(command)
