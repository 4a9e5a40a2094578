"""The rules of the integration contract on privacy, end to end: holds, plain deletes beside privacy requests, traces.

Each test names the rules it shows. A privacy request is staged inside the stand-in, as its own console would do it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner

from d365_campaign.changes import Replay
from d365_campaign.cli import main
from d365_campaign.rehearsal import CONFIG_VARIABLE
from d365_campaign.sandbox import Sandbox, campaign_privacy
from d365_campaign.store.staging import open_staging
from tests.checking import write_files
from tests.integration import Integration
from tests.mappings import contact_mapping, purchase_mapping

ROOT = Path(__file__).parents[2]
MARKER = "quillfeather@example.com"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    return tmp_path / "dagster"


@pytest.fixture
def people(integration: Integration, home: Path, monkeypatch: pytest.MonkeyPatch) -> Integration:
    """Contacts and their purchases, deletes switched on, and commands that find its files."""
    integration.tables = [contact_mapping(apply_deletes=True), purchase_mapping()]
    monkeypatch.setenv(CONFIG_VARIABLE, str(write_files(integration)))
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    return integration


@pytest.fixture
def kept(people: Integration, home: Path) -> Iterator[Integration]:
    """The same, with its runs kept in a folder, as a user's are."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        people.instance = instance
        yield people


def command(*arguments: str) -> str:
    """What a command says that ends well."""
    ended = CliRunner().invoke(main, arguments)
    assert ended.exit_code == 0, ended.output
    return str(ended.output)


def contact(sandbox: Sandbox, name: str, **values: Any) -> str:
    return sandbox.dataverse.create("contact", {"firstname": name, **values})


def purchase(sandbox: Sandbox, buyer: str) -> str:
    return sandbox.dataverse.create("new_purchase", {"new_contactid": buyer, "new_name": "Lamp"})


def profile(sandbox: Sandbox, key: str) -> dict[str, Any] | None:
    return sandbox.campaign.find("profile", "externalId", key)


def writes(sandbox: Sandbox) -> Sequence[str]:
    """What Campaign was asked to change, in order."""
    return [call.method for call in sandbox.calls("campaign") if call.method in ("POST", "PATCH", "DELETE")]


def replayed(integration: Integration, mode: Replay = Replay.FORCED) -> None:
    """Everything is read anew, and every record is looked at in Campaign."""
    with open_staging(integration.staging) as file:
        for table in file.tables:
            file.desk(table).request_replay(mode, 1000)
    integration.sync()


def privacy_delete_in_campaign(sandbox: Sandbox, address: str) -> None:
    """What Privacy Service brings about there: the profile, what is linked to it, and its logs are gone."""
    with sandbox.lock:
        wanted = {"namespaceName": "EMAIL", "reconciliationValue": address, "label": "Request", "regulation": "gdpr"}
        request = campaign_privacy.create(sandbox.campaign, wanted | {"name": "request", "type": "delete"})
        sandbox.clock.advance(sandbox.settings.privacy_request_seconds)
        sandbox.campaign.run_due()
    assert request["status"] == "complete"


# --- deletes --------------------------------------------------------------------------------------------------------


def test_a_plain_delete_takes_the_profile_and_leaves_its_logs(sandbox: Sandbox, people: Integration) -> None:
    """R4: a privacy delete would take the logs, too."""
    ada, grace = contact(sandbox, "Ada"), contact(sandbox, "Grace", emailaddress1="grace@example.com")
    people.sync()
    for key in (ada, grace):
        sandbox.campaign.add_log(key)
    sandbox.dataverse.delete("contact", ada)

    assert people.sync()["deleted"] == 1
    privacy_delete_in_campaign(sandbox, "grace@example.com")

    assert [profile(sandbox, key) for key in (ada, grace)] == [None, None]
    assert len(sandbox.campaign.logs(ada)) == 1
    assert sandbox.campaign.logs(grace) == []


@pytest.mark.parametrize(
    "arguments", [("plan",), ("sync",), ("hold", "5c1b2f0e-8d0a-4b7e-9a55-0c7d3f1f2a11", "--by", "x")]
)
def test_nothing_runs_before_somebody_accepted_what_privacy_requests_ask_of_them(
    sandbox: Sandbox, people: Integration, arguments: Sequence[str]
) -> None:
    """R5, R99: deletes are switched on, and the refusal names the procedure."""
    contact(sandbox, "Ada")
    write_files(people, privacy={})

    ended = CliRunner().invoke(main, arguments)

    assert ended.exit_code == 2
    assert "privacy.acknowledged: nothing runs before someone accepted text 1" in ended.output
    assert "by the procedure of docs/privacy.md" in ended.output
    assert sandbox.calls() == []
    assert not people.staging.exists()


# --- the procedure --------------------------------------------------------------------------------------------------


def test_deletion_in_dynamics_after_a_privacy_delete_in_campaign_ends_well(
    sandbox: Sandbox, people: Integration
) -> None:
    """R9: without a hold, as the steps themselves go. The delete finds nothing, and that is as good as done."""
    ada = contact(sandbox, "Ada", emailaddress1=MARKER)
    bought = purchase(sandbox, ada)
    people.sync()
    privacy_delete_in_campaign(sandbox, MARKER)
    assert profile(sandbox, ada) is None
    sandbox.dataverse.delete("new_purchase", bought)
    sandbox.dataverse.delete("contact", ada)
    sandbox.clear_calls()

    first, second = people.sync(), people.sync()

    assert (first["deleted"], first["deferred"]) == (0, 1), "purchases go before their contact"
    assert (second["deleted"], second["refused"], second["backlog"], second["deferred"]) == (1, 0, 0, 0)
    assert [call.status for call in sandbox.calls("campaign") if call.method == "DELETE"] == [404, 404]
    assert writes(sandbox) == ["DELETE", "DELETE"]
    assert [sandbox.campaign.records(name) for name in ("profile", "cusPurchase")] == [[], []]
    sandbox.clear_calls()
    assert people.sync()["engine_calls"] == 0


@pytest.mark.parametrize("end", ["release", "forget"])
def test_the_procedure_with_a_hold_brings_nothing_back(sandbox: Sandbox, people: Integration, end: str) -> None:
    """R9, R10: hold, privacy delete in Campaign, an edit that comes in between, deletion in Dynamics; then the end."""
    ada, grace = contact(sandbox, "Ada", emailaddress1=MARKER), contact(sandbox, "Grace")
    bought = purchase(sandbox, ada)
    people.sync()
    command("hold", ada, "--by", "Edith")
    privacy_delete_in_campaign(sandbox, MARKER)
    sandbox.clear_calls()
    sandbox.dataverse.update("contact", ada, {"firstname": "Augusta"})
    sandbox.dataverse.update("new_purchase", bought, {"new_note": "Call her"})
    assert people.sync()["held"] == 1
    assert writes(sandbox) == []
    sandbox.dataverse.delete("new_purchase", bought)
    sandbox.dataverse.delete("contact", ada)
    assert people.sync()["held"] == 1

    command(end, ada, *(["--yes"] if end == "forget" else []))
    people.sync()
    replayed(people)

    assert [found["externalId"] for found in sandbox.campaign.records("profile")] == [grace]
    assert sandbox.campaign.records("cusPurchase") == []
    assert "POST" not in writes(sandbox)
    done = people.sync()
    assert (done["held"], done["refused"], done["backlog"], done["engine_calls"]) == (0, 0, 0, 0)


# --- holds ----------------------------------------------------------------------------------------------------------


def test_nothing_touches_a_record_on_hold_and_its_changes_go_out_after_the_release(
    sandbox: Sandbox, people: Integration
) -> None:
    """R10: neither an update nor a forced replay; the record of somebody else goes out meanwhile."""
    ada, grace = contact(sandbox, "Ada"), contact(sandbox, "Grace")
    people.sync()
    command("hold", ada, "--by", "Edith")
    before = profile(sandbox, ada)
    for key in (ada, grace):
        sandbox.dataverse.update("contact", key, {"lastname": "Changed"})
    purchase(sandbox, ada)
    sandbox.clear_calls()

    assert people.sync()["held"] == 1
    assert writes(sandbox) == ["PATCH"]
    replayed(people)

    assert not [call.path for call in sandbox.calls("campaign") if ada in call.path]
    assert writes(sandbox) == ["PATCH"]
    assert profile(sandbox, ada) == before
    assert sandbox.campaign.records("cusPurchase") == [], "what belongs to the record waits with it"
    command("release", ada)
    people.sync()
    released = profile(sandbox, ada)
    assert released is not None
    assert released["lastName"] == "Changed"
    assert len(sandbox.campaign.records("cusPurchase")) == 1


def test_a_contact_that_is_deleted_while_on_hold_is_deleted_after_the_release_and_never_made_again(
    sandbox: Sandbox, people: Integration
) -> None:
    """R10."""
    ada = contact(sandbox, "Ada")
    contact(sandbox, "Grace")
    people.sync()
    command("hold", ada, "--by", "Edith")
    sandbox.dataverse.update("contact", ada, {"lastname": "Changed"})
    sandbox.dataverse.delete("contact", ada)
    sandbox.clear_calls()

    assert people.sync()["held"] == 1
    replayed(people)
    assert profile(sandbox, ada) is not None
    assert writes(sandbox) == []

    command("release", ada)
    assert people.sync()["deleted"] == 1
    replayed(people)
    assert profile(sandbox, ada) is None
    assert writes(sandbox) == ["DELETE"]


def test_a_contact_that_no_longer_passes_the_filter_is_not_deleted_while_on_hold(
    sandbox: Sandbox, people: Integration
) -> None:
    """R10: deletes by the filter are no exception."""
    only_active = {"conditions": [{"source": "statecode", "comparison": "equals", "value": 0}]}
    people.tables = [contact_mapping(filter=only_active, delete_filtered_out=True)]
    ada = contact(sandbox, "Ada")
    people.sync()
    command("hold", ada, "--by", "Edith")
    sandbox.dataverse.update("contact", ada, {"statecode": 1, "statuscode": 2})

    assert people.sync()["held"] == 1
    assert profile(sandbox, ada) is not None
    command("release", ada)
    assert people.sync()["deleted"] == 1


# --- forgetting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [*Replay], ids=lambda mode: mode.value)
def test_no_replay_brings_a_forgotten_person_back_even_while_dynamics_still_has_them(
    sandbox: Sandbox, people: Integration, mode: Replay
) -> None:
    """R9, R10: nor what they bought, nor a change that comes later."""
    ada, grace = contact(sandbox, "Ada", emailaddress1=MARKER), contact(sandbox, "Grace")
    for buyer in (ada, grace):
        purchase(sandbox, buyer)
    people.sync()
    privacy_delete_in_campaign(sandbox, MARKER)
    command("forget", ada, "--yes")
    sandbox.clear_calls()

    replayed(people, mode)
    sandbox.dataverse.update("contact", ada, {"firstname": "Augusta"})
    purchase(sandbox, ada)
    people.sync()
    sandbox.expire_delta_tokens()
    people.sync()

    assert writes(sandbox) == []
    assert [found["externalId"] for found in sandbox.campaign.records("profile")] == [grace]
    content = people.staging.read_bytes()
    assert [told.encode() in content for told in (ada, MARKER, grace)] == [False, False, True]


# --- traces ---------------------------------------------------------------------------------------------------------


def test_no_personal_value_stands_in_any_log_run_or_output(
    sandbox: Sandbox,
    kept: Integration,
    home: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """R6, R31: of records that are sent, refused by us and by Campaign, held, unanswered, deleted and forgotten."""
    caplog.set_level("DEBUG")
    ada = contact(sandbox, "Quillfeather", emailaddress1=MARKER)
    contact(sandbox, "Quillfeather" * 4, emailaddress1=MARKER)
    contact(sandbox, "Quillfeather", emailaddress1=f"two@at@{MARKER}")
    sandbox.add_fault(system="campaign", method="POST", path="profile", times=1, status=500, body=f"broken: {MARKER}")
    reports = [kept.run("plan"), kept.run("sync"), kept.run("sync")]
    sandbox.dataverse.update("contact", ada, {"lastname": "Quillfeather"})
    said = [command("hold", ada, "--by", "Edith"), command("holds", "--json"), command("plan")]
    reports.append(kept.run("sync"))
    said.append(command("release", ada))
    sandbox.dataverse.delete("contact", ada)
    reports.append(kept.run("sync"))

    def holding_it() -> list[str]:
        return [
            file.name for file in home.rglob("*") if file.is_file() and b"quillfeather" in file.read_bytes().lower()
        ]

    assert holding_it() == []
    said.append(command("forget", ada, "--yes"))  # it deletes runs: looked at before and after
    assert holding_it() == []
    counted = [report.materialized.get("campaign/profile", {}) for report in reports]
    assert {"inserted", "refused", "held", "deleted"} <= {name for c in counted for name, number in c.items() if number}
    shown = capfd.readouterr()
    seen = " ".join([repr(reports), *said, shown.out, shown.err, caplog.text])
    assert "quillfeather" not in seen.lower()


def test_the_files_with_personal_data_are_their_owners_alone(sandbox: Sandbox, people: Integration) -> None:
    """R6: while they are open, afterwards, and after somebody was forgotten."""
    ada = contact(sandbox, "Ada")
    people.sync()

    def modes() -> dict[str, str]:
        beside = people.staging.parent.glob(f"{people.staging.name}*")
        return {file.name: oct(file.stat().st_mode & 0o777) for file in beside}

    with open_staging(people.staging) as file:
        file.privacy.hold(ada, by="Edith")
        assert modes() == {"staging.duckdb": "0o600", "staging.duckdb.wal": "0o600"}
    command("forget", ada, "--yes")
    assert modes() == {"staging.duckdb": "0o600"}


def test_no_privacy_request_is_made_in_either_system(sandbox: Sandbox, people: Integration) -> None:
    """R7: by nothing that the integration does, deletes and commands included."""
    ada, grace = contact(sandbox, "Ada"), contact(sandbox, "Grace")
    purchase(sandbox, ada)
    people.sync()
    command("hold", ada, "--by", "Edith")
    sandbox.dataverse.update("contact", grace, {"lastname": "Hopper"})
    people.sync()
    command("release", ada)
    sandbox.dataverse.delete("contact", grace)
    replayed(people)
    before = len(sandbox.calls())
    command("forget", ada, "--yes")

    assert len(sandbox.calls()) == before, "forgetting reaches nobody"
    assert not [call.path for call in sandbox.calls() if "privacy" in call.path.lower()]
    assert {call.method for call in sandbox.calls("dataverse")} == {"GET"}
    addresses = {call.host for call in sandbox.calls()}
    assert addresses <= {sandbox.endpoints[name].split("/")[2] for name in ("dataverse", "entra", "campaign", "ims")}


def test_help_and_guide_name_both_steps_and_no_command_is_one_of_them() -> None:
    """R8."""
    guide = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
    for told in (guide, command("hold", "--help"), command("forget", "--help")):
        words = " ".join(told.split())
        assert "Adobe Experience Platform Privacy Service" in words
        assert "Dynamics" in words
    assert not [name for name in main.commands if "privacy" in name or "request" in name]
