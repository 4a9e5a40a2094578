"""What a person gets for a wrong secret, a wrong name or a foreign link: an error that says what to do, no write.

Nothing that was staged is lost, and the next run goes on from there.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from d365_campaign.sandbox import Sandbox
from tests.integration import Integration
from tests.mappings import contact_mapping


def writes(sandbox: Sandbox) -> list[str]:
    return [call.method for call in sandbox.calls("campaign") if call.method in ("POST", "PATCH", "DELETE")]


Spoil = Callable[[Integration, pytest.MonkeyPatch], None]


def wrong_dynamics_secret(integration: Integration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D365_CLIENT_SECRET", "wrong-secret-value")


def wrong_campaign_secret(integration: Integration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGN_CLIENT_SECRET", "wrong-secret-value")


def unreachable_dynamics(integration: Integration, monkeypatch: pytest.MonkeyPatch) -> None:
    integration.set("dynamics", url="https://localhost:1", token_url="https://localhost:1/token")


def unknown_column(integration: Integration, monkeypatch: pytest.MonkeyPatch) -> None:
    integration.tables = [contact_mapping(fields=[{"source": "shoesize", "target": "firstName"}])]


def unknown_field(integration: Integration, monkeypatch: pytest.MonkeyPatch) -> None:
    integration.tables = [contact_mapping(fields=[{"source": "firstname", "target": "cusShoeSize"}])]


def read_only_field(integration: Integration, monkeypatch: pytest.MonkeyPatch) -> None:
    integration.tables = [contact_mapping(fields=[{"source": "numberofchildren", "target": "age"}])]


def untracked_table(integration: Integration, monkeypatch: pytest.MonkeyPatch) -> None:
    key = {"source": "new_untrackedid", "target": "externalId"}
    fields = [{"source": "new_name", "target": "firstName"}]
    integration.tables = [contact_mapping(source="new_untracked", key=key, fields=fields)]


def unknown_table(integration: Integration, monkeypatch: pytest.MonkeyPatch) -> None:
    integration.tables = [contact_mapping(source="new_missing")]


def unpublished_resource(integration: Integration, monkeypatch: pytest.MonkeyPatch) -> None:
    integration.tables = [contact_mapping(target="cusMissing")]


def unknown_authority(integration: Integration, monkeypatch: pytest.MonkeyPatch) -> None:
    del integration.settings["ca_bundle"]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (wrong_dynamics_secret, ["dynamics.client_secret"]),
        (wrong_campaign_secret, ["campaign.client"]),
        (unreachable_dynamics, ["localhost", "can't be reached"]),
        (unknown_column, ["contact", "shoesize"]),
        (unknown_field, ["cusShoeSize", "published"]),
        (read_only_field, ["age", "read-only"]),
        (untracked_table, ["new_untracked", "Track changes"]),
        (unknown_table, ["new_missing", "logical name"]),
        (unpublished_resource, ["cusMissing", "publish"]),
        (unknown_authority, ["certificate", "ca_bundle"]),
    ],
    ids=lambda case: getattr(case, "__name__", ""),
)
def test_run_stops_before_anything_is_written_and_says_what_to_do(
    sandbox: Sandbox, integration: Integration, monkeypatch: pytest.MonkeyPatch, spoil: Spoil, says: list[str]
) -> None:
    sandbox.seed(contacts=3)
    good_settings, good_tables = dict(integration.settings), integration.tables
    with monkeypatch.context() as spoiled:
        spoil(integration, spoiled)
        said = integration.fail()
    assert all(words in said for words in says), said
    assert "wrong-secret-value" not in said
    assert writes(sandbox) == []
    integration.settings, integration.tables = good_settings, good_tables
    assert integration.sync()["inserted"] == 3


def test_a_missing_secret_names_the_variable(
    sandbox: Sandbox, integration: Integration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("D365_CLIENT_SECRET")
    with pytest.raises(Exception, match="D365_CLIENT_SECRET"):
        integration.run("sync")
    assert writes(sandbox) == []


def test_a_next_link_to_another_origin_stops_the_pull_at_that_page(sandbox: Sandbox, integration: Integration) -> None:
    """The token goes nowhere else, and the pages before it stay."""
    keys = sandbox.seed(contacts=30)
    integration.set("dynamics", page_size=10)
    own = sandbox.endpoints["dataverse"]
    foreign = sandbox.endpoints["campaign"].replace("localhost", "127.0.0.1").rsplit("/", 2)[0]
    sandbox.add_fault(
        system="dataverse", path="/contacts", times=1, skip=1, replace=[f'nextLink":"{own}', f'nextLink":"{foreign}']
    )
    said = integration.fail()
    assert "contact" in said
    assert "127.0.0.1" in said
    assert not [call for call in sandbox.calls("campaign") if "contacts" in call.path]
    assert writes(sandbox) == []
    sandbox.clear_calls()
    assert integration.sync()["inserted"] == len(keys)
    later = [call for call in sandbox.calls("dataverse") if "skiptoken" in call.query and "filter" not in call.query]
    assert len(later) == 2, "the first page was read once only"


def test_a_record_link_to_another_origin_stops_the_run_and_nothing_is_sent_there(
    sandbox: Sandbox, integration: Integration
) -> None:
    key = sandbox.dataverse.create("contact", {"firstname": "Ada"})
    integration.sync()
    sandbox.clear_calls()
    sandbox.dataverse.update("contact", key, {"firstname": "Augusta"})
    own = sandbox.endpoints["campaign"]
    foreign = sandbox.endpoints["dataverse"]
    elsewhere = [f'href":"{own}', f'href":"{foreign}']
    sandbox.add_fault(system="campaign", path=f"/profile/{key}", times=1, replace=elsewhere)
    said = integration.fail()
    assert key in said
    assert writes(sandbox) == []
    assert not [call for call in sandbox.calls("dataverse") if "profile" in call.path]
    assert integration.sync()["updated"] == 1


def test_a_plan_that_would_delete_a_large_part_of_campaign_is_not_written(
    sandbox: Sandbox, integration: Integration
) -> None:
    """A table that reads as empty must not empty Campaign: it takes a person's word."""
    keys = sandbox.seed(contacts=150)
    integration.sync()
    for key in keys[:120]:
        sandbox.dataverse.delete("contact", key)
    sandbox.clear_calls()
    report = integration.run("sync")
    assert not report.success
    assert any("max_delete_share" in check for check in report.failed_checks)
    assert writes(sandbox) == []
    integration.set("guardrails", max_delete_share=1.0)
    assert integration.sync()["deleted"] == 120


def test_a_staging_file_that_can_not_be_made_is_named(
    sandbox: Sandbox, integration: Integration, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "staging.duckdb"
    integration.set("staging", path=str(path))
    said = integration.fail()
    assert str(path) in said
    assert "writable" in said
    assert writes(sandbox) == []
