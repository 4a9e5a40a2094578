"""`opt-out restart-workflow`: start the Campaign workflow that exports opt-outs, which nothing does by itself."""

from contextlib import ExitStack

import click

from d365_campaign.commands import systems
from d365_campaign.commands.output import json_option, print_json, say
from d365_campaign.errors import ConfigurationError, SyncError
from d365_campaign.opt_out_checks import RUNNING


@click.command("restart-workflow")
@json_option("{workflow, before, after}")
def restart_workflow(as_json: bool) -> None:
    """Start the workflow that exports opt-outs.

    Only when it is not running. Find out first why it stopped: Campaign may export what was missed, or may not.

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
    if as_json:
        print_json({"workflow": workflow, "before": before, "after": after})
        return
    say(f"Workflow '{workflow}' was {before or 'in a state that Campaign does not tell'}; it is {after or before} now.")
    if after != RUNNING:
        say("Campaign starts it in its own time. Look again, or in Campaign: d365-campaign check contact")
