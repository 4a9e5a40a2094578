"""What any sequence has brought to light, each as a case of its own."""

from d365_campaign.sandbox import Sandbox
from tests.integration import Integration

PUSH = "blackListPushnotification"


def somebody_who_opts_in_again_in_campaign(sandbox: Sandbox, integration: Integration) -> str:
    """Their opt-out stood in both systems, and files don't tell when it changed."""
    sandbox.settings.update({"export_push_stamp": False})
    integration.keep_opt_outs("bidirectional", {"donotbulkemail": PUSH})
    key = str(sandbox.dataverse.create("contact", {"firstname": "Ada", "donotbulkemail": True}))
    integration.sync()
    sandbox.dataverse.update("contact", key, {"firstname": "Augusta"})
    integration.sync()
    sandbox.advance_clock(60)
    sandbox.campaign.update("profile", key, {PUSH: False})
    return key


def test_an_opt_out_of_dynamics_holds_where_a_file_tells_an_opt_in_without_its_time(
    sandbox: Sandbox, integration: Integration
) -> None:
    """Campaign's opt-out was known with its time, by a live read; what a file says without one was never verified, so
    both systems went on to disagree, and messages went out to somebody who had opted out in Dynamics."""
    key = somebody_who_opts_in_again_in_campaign(sandbox, integration)
    sandbox.advance_clock(60)
    sandbox.dataverse.update("contact", key, {"donotbulkemail": True})
    sandbox.export_opt_outs()

    integration.sync()

    assert sandbox.dataverse.get("contact", key)["donotbulkemail"] is True
    assert sandbox.campaign.get("profile", key)[PUSH] is True


def test_an_opt_in_that_a_file_tells_without_its_time_is_verified_and_holds(
    sandbox: Sandbox, integration: Integration
) -> None:
    key = somebody_who_opts_in_again_in_campaign(sandbox, integration)
    sandbox.advance_clock(1)
    sandbox.export_opt_outs()

    integration.sync()

    assert sandbox.dataverse.get("contact", key)["donotbulkemail"] is False
    assert sandbox.campaign.get("profile", key)[PUSH] is False
