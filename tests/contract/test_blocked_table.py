"""A check that blocks stops the writes of its table, and nothing else: other tables and opt-outs go on in that run.

Each test runs the product on the sandbox; limits are lowered so that a few records trip a guard.
"""

import json
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.ingress import TableKeys
from d365_campaign.changes import Replay
from d365_campaign.sandbox import Sandbox
from d365_campaign.store.staging import open_staging
from tests.flowing import Flowing
from tests.integration import Integration
from tests.mappings import account_mapping, contact_mapping, purchase_mapping

PAIRS = {"donotemail": "blackListEmail", "donotphone": "blackListPhone"}
ACCOUNT = TableKeys.of(account_mapping())


@pytest.fixture
def three(integration: Integration) -> Integration:
    """Accounts, contacts, and the contacts' purchases; opt-outs agree on both sides."""
    integration.tables = [account_mapping(), contact_mapping(), purchase_mapping()]
    integration.keep_opt_outs("bidirectional", PAIRS)
    integration.set("guardrails", max_delete_share=0.2, min_deletes=1)
    return integration


def many_accounts_go(sandbox: Sandbox, integration: Integration) -> dict[str, str]:
    """Everything is in step; then most accounts are deleted, and something happens to everything else."""
    accounts = [sandbox.dataverse.create("account", {"name": f"A{n}"}) for n in range(5)]
    contact = sandbox.dataverse.create("contact", {"lastname": "Lovelace"})
    assert integration.run("sync").success
    for account in accounts[:3]:
        sandbox.dataverse.delete("account", account)
    sandbox.dataverse.update("contact", contact, {"lastname": "King"})
    purchase = sandbox.dataverse.create("new_purchase", {"new_name": "Desk", "new_contactid": contact})
    person = sandbox.dataverse.create("contact", {"lastname": "Hopper"})
    sandbox.dataverse.update("contact", contact, {"donotemail": True})
    return {"account": accounts[0], "kept": accounts[4], "contact": contact, "purchase": purchase, "person": person}


def test_guard_on_accounts_stops_accounts_alone(sandbox: Sandbox, three: Integration) -> None:
    keys = many_accounts_go(sandbox, three)

    report = three.run("sync")

    assert not report.success
    assert report.errors == []
    assert [told.split(":")[0] for told in report.blocked] == [
        "change_set/account delete_share",
        "campaign/cusAccount not_blocked",
    ]
    made = report.materialized
    assert made["campaign/cusAccount"]["stopped_by"] == "delete_share"
    assert float(str(made["campaign/cusAccount"]["resumes_at"])) > time.time(), "the sensor doesn't ask again at once"
    assert (made["campaign/cusAccount"]["deleted"], made["campaign/cusAccount"]["backlog"]) == (0, 3)
    assert len(sandbox.campaign.records("cusAccount")) == 5
    profile = sandbox.campaign.find("profile", "externalId", keys["contact"])
    assert (profile["lastName"], profile["blackListEmail"]) == ("King", True)
    assert sandbox.campaign.find("profile", "externalId", keys["person"])
    assert sandbox.campaign.find("cusPurchase", "cusD365id", keys["purchase"])


def test_blocked_table_goes_on_once_the_cause_is_gone(sandbox: Sandbox, three: Integration) -> None:
    many_accounts_go(sandbox, three)
    three.run("sync")
    three.set("guardrails", max_delete_share=1.0)

    assert three.sync("account")["deleted"] == 3
    assert len(sandbox.campaign.records("cusAccount")) == 2


def test_check_that_blocks_is_an_error_on_the_table_with_figures_and_keys(
    sandbox: Sandbox, three: Integration, instance: dg.DagsterInstance
) -> None:
    keys = many_accounts_go(sandbox, three)
    three.run("sync")

    for key in (dg.AssetCheckKey(ACCOUNT.change_set, "delete_share"), dg.AssetCheckKey(ACCOUNT.target, "not_blocked")):
        record = instance.get_latest_asset_check_evaluation_record(key)
        assert record
        assert record.event
        assert record.event.dagster_event
        shown = record.event.dagster_event.asset_check_evaluation_data
        assert (shown.passed, shown.severity) == (False, dg.AssetCheckSeverity.ERROR)
        assert "The plan deletes 3 of 5" in str(shown.description)
        sample: Any = shown.metadata["sample_keys"].value
        assert keys["account"] in sample
        spec = three.definitions.resolve_asset_graph().get_check_spec(key)
        assert "Stops this table" in str(spec.description)


def test_blocked_parent_defers_its_new_children_only(sandbox: Sandbox, integration: Integration) -> None:
    """A contact whose account is blocked waits for it, as for any parent that isn't there; others go out."""
    fields = [*contact_mapping().model_dump()["fields"], {"source": "parentcustomerid", "target": "cusAccountId"}]
    links = [{"source": "parentcustomerid", "parent": "account"}]
    integration.tables = [account_mapping(), contact_mapping(fields=fields, links=links)]
    integration.set("guardrails", large_load_records=1)
    accounts = [sandbox.dataverse.create("account", {"name": f"A{n}"}) for n in range(2)]
    waits = sandbox.dataverse.create("contact", {"lastname": "Lovelace", "parentcustomerid": accounts[0]})
    goes = sandbox.dataverse.create("contact", {"lastname": "Hopper"})

    report = integration.run("sync")

    contacts = report.materialized["campaign/profile"]
    assert (contacts["inserted"], contacts["deferred"], contacts["stopped_by"]) == (1, 1, "")
    assert contacts["deferred_sample"] == {waits: f"account {accounts[0]}"}
    assert sandbox.campaign.find("profile", "externalId", goes)
    assert sandbox.campaign.records("cusAccount") == []

    integration.set("guardrails", large_load_records=10)
    assert integration.sync("contact")["inserted"] == 1


# --- keys that can't be trusted -------------------------------------------------------------------------------------

TWICE = "insert into contact.snapshot select * from contact.snapshot where contactid = '{0}'"
TOUCH = "insert into contact.touched values ('{0}', false)"


@pytest.mark.parametrize(
    ("break_it", "check"),
    [
        pytest.param([TWICE, TOUCH], "keys_unique", id="a key stands there twice"),
        pytest.param(
            ["update contact.snapshot set contactid = null where contactid = '{0}'"], "keys_present", id="none"
        ),
    ],
)
def test_keys_that_can_not_be_trusted_block_their_table_until_it_is_read_anew(
    sandbox: Sandbox, integration: Integration, break_it: list[str], check: str
) -> None:
    integration.tables = [account_mapping(), contact_mapping()]
    broken, other = (sandbox.dataverse.create("contact", {"lastname": name}) for name in ("Lovelace", "Hopper"))
    integration.sync()
    for statement in break_it:
        integration.change_staging(statement.format(broken))
    sandbox.dataverse.update("contact", other, {"lastname": "Murray"})
    account = sandbox.dataverse.create("account", {"name": "Engines"})

    for _ in range(2):  # it is no matter of the run that found it
        report = integration.run("sync")
        assert [told.split(":")[0] for told in report.blocked] == [
            f"dynamics/contact {check}",
            "campaign/profile not_blocked",
        ]
        assert report.materialized["campaign/profile"]["stopped_by"] == check
        assert sandbox.campaign.find("profile", "externalId", other)["lastName"] == "Hopper"
    assert sandbox.campaign.find("cusAccount", "cusD365id", account)

    with open_staging(integration.staging) as file:
        file.desk("contact").request_replay(Replay.DIFFERENCES, limit=100)
    assert integration.sync("contact")["updated"] == 1
    assert len(sandbox.campaign.records("profile")) == 2


def test_opt_outs_go_on_and_none_is_taken_back_while_keys_can_not_be_trusted(
    sandbox: Sandbox, integration: Integration
) -> None:
    """A new opt-out does no harm; one taken back by mistake would."""
    integration.keep_opt_outs("bidirectional", PAIRS)
    twice, leaves, returns = (
        sandbox.dataverse.create("contact", {"lastname": name, "donotphone": name == "Murray"})
        for name in ("Lovelace", "Hopper", "Murray")
    )
    integration.sync()
    for statement in (TWICE, TOUCH):
        integration.change_staging(statement.format(twice))
    sandbox.advance_clock(10)
    sandbox.campaign.update("profile", returns, {"blackListPhone": False})
    sandbox.campaign.update("profile", twice, {"blackListEmail": True})
    sandbox.advance_clock(10)
    sandbox.export_opt_outs()
    sandbox.dataverse.update("contact", leaves, {"donotemail": True})

    report = integration.run("sync")

    assert report.errors == []
    assert sandbox.campaign.find("profile", "externalId", leaves)["blackListEmail"] is True
    assert sandbox.dataverse.get("contact", twice)["donotemail"] is True
    assert sandbox.dataverse.get("contact", returns)["donotphone"] is True


# --- what people see ------------------------------------------------------------------------------------------------


@pytest.fixture
def flowing(integration: Integration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flowing:
    integration.tables = [account_mapping(), contact_mapping()]
    integration.set("guardrails", large_load_records=1)
    return Flowing(integration, tmp_path / "home", monkeypatch)


def test_command_line_and_flow_say_why_a_table_is_blocked_and_that_it_is_over(
    sandbox: Sandbox, flowing: Flowing
) -> None:
    """Exit code 1, and FAILED with the reason, though the run itself wrote everything else."""
    for n in range(2):
        sandbox.dataverse.create("account", {"name": f"A{n}"})
    sandbox.dataverse.create("contact", {"lastname": "Hopper"})
    flowing.say("start")

    planned = flowing.say("plan")
    ended = flowing.say("sync", "--json")

    assert (planned.exit_code, ended.exit_code) == (1, 1)
    assert "The plan writes 2 records" in ended.stderr
    told = json.loads(ended.stdout)
    assert (told["account"]["stopped_by"], told["account"]["inserted"], told["contact"]["inserted"]) == (
        "large_load",
        0,
        1,
    )
    assert flowing.state == "FAILED"
    assert "The plan writes 2 records" in flowing.status()["last_error"]
    flowing.say("sync", "contact")  # a later run about another table doesn't hide it
    assert flowing.state == "FAILED"

    assert flowing.say("acknowledge", "account", "--by", "Ada").exit_code == 0
    assert flowing.say("sync").exit_code == 0
    assert flowing.state == "RUNNING"
