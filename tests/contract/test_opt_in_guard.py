"""Nothing takes back many opt-outs at once before a person allows it; new opt-outs are written all the same."""

from d365_campaign.sandbox import Sandbox
from tests.integration import Integration
from tests.mappings import contact_mapping

PAIRS = {"donotemail": "blackListEmail", "donotphone": "blackListPhone"}
TO_CAMPAIGN, TO_DYNAMICS = "opt_outs/to_campaign", "opt_outs/to_dynamics"


def opted_out(sandbox: Sandbox, people: int) -> list[str]:
    """So many contacts who opted out of e-mail in Dynamics, and their profiles."""
    return [sandbox.dataverse.create("contact", {"lastname": f"N{n}", "donotemail": True}) for n in range(people)]


def opt_in_at_campaign(sandbox: Sandbox, keys: list[str]) -> None:
    sandbox.advance_clock(10)
    for key in keys:
        sandbox.campaign.update("profile", key, {"blackListEmail": False})
    sandbox.advance_clock(10)
    sandbox.export_opt_outs()


def still_opted_out(sandbox: Sandbox, keys: list[str]) -> int:
    return sum(bool(sandbox.dataverse.get("contact", key)["donotemail"]) for key in keys)


def test_more_opt_ins_than_allowed_are_held_back_and_told(sandbox: Sandbox, integration: Integration) -> None:
    integration.keep_opt_outs("bidirectional", PAIRS)
    integration.set("guardrails", max_opt_ins=2)
    keys = opted_out(sandbox, 3)
    integration.sync()
    opt_in_at_campaign(sandbox, keys)

    report = integration.run("sync")

    assert report.success
    assert still_opted_out(sandbox, keys) == 3
    assert any("max_opt_ins" in told for told in report.failed_checks)


def test_opt_outs_are_written_while_opt_ins_are_held_back(sandbox: Sandbox, integration: Integration) -> None:
    integration.keep_opt_outs("bidirectional", PAIRS)
    integration.set("guardrails", max_opt_ins=0)
    [key] = opted_out(sandbox, 1)
    integration.sync()
    sandbox.campaign.update("profile", key, {"blackListPhone": True})
    opt_in_at_campaign(sandbox, [key])

    integration.sync()

    row = sandbox.dataverse.get("contact", key)
    assert (row["donotemail"], row["donotphone"]) == (True, True)


def test_allowed_opt_ins_go_through_with_the_next_run(sandbox: Sandbox, integration: Integration) -> None:
    integration.keep_opt_outs("bidirectional", PAIRS)
    integration.set("guardrails", max_opt_ins=0)
    keys = opted_out(sandbox, 2)
    integration.sync()
    opt_in_at_campaign(sandbox, keys)
    integration.sync()
    assert still_opted_out(sandbox, keys) == 2

    integration.set("guardrails", max_opt_ins=2)
    integration.sync()

    assert still_opted_out(sandbox, keys) == 0


def test_switching_to_dynamics_as_the_truth_does_not_undo_what_people_said_in_campaign_unasked(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R18 holds once a person has allowed it."""
    keys = [sandbox.dataverse.create("contact", {"lastname": f"N{n}"}) for n in range(3)]
    integration.sync()
    for key in keys:
        sandbox.campaign.update("profile", key, {"blackListEmail": True})
    fields = [*contact_mapping().model_dump()["fields"], {"source": "donotemail", "target": "blackListEmail"}]
    integration.tables = [contact_mapping(fields=fields)]
    integration.keep_opt_outs("dynamics_to_campaign")
    integration.set("guardrails", max_opt_ins=2)

    integration.sync()
    assert all(sandbox.campaign.get("profile", key)["blackListEmail"] for key in keys)

    integration.set("guardrails", max_opt_ins=3)
    integration.sync()
    assert not any(sandbox.campaign.get("profile", key)["blackListEmail"] for key in keys)
