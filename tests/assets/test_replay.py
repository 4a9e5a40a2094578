"""The job that replays a table from Dagster's launchpad."""

import dagster as dg
import pytest

from assets.ingress import TableKeys
from d365_campaign.sandbox import Sandbox
from d365_campaign.store.staging import open_staging
from tests.integration import Integration
from tests.mappings import contact_mapping

STORES = contact_mapping(
    source="new_store",
    target="cusStore",
    key={"source": "new_storeid", "target": "cusD365id"},
    fields=[{"source": "new_name", "target": "cusName"}],
)


def replay(integration: Integration, **asked: object) -> dg.ExecuteInProcessResult:
    """Launch the job as the launchpad does."""
    job = integration.definitions.resolve_job_def("replay")
    return job.execute_in_process(instance=integration.instance, run_config=asked, raise_on_error=False)


def full_reads(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    """Whether each snapshot was read in full."""
    return {
        event.asset_key.to_user_string(): event.step_materialization_data.materialization.metadata["full_read"].value
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None and event.asset_key.path[0] == "dynamics"
    }


@pytest.fixture
def edited(sandbox: Sandbox, integration: Integration) -> str:
    """The key of a contact, in step, whose profile was edited in Campaign by hand; beside it stands a store."""
    integration.tables = [contact_mapping(), STORES]
    key = str(sandbox.dataverse.create("contact", {"lastname": "Lovelace"}))
    sandbox.dataverse.create("new_store", {"new_name": "Harbour"})
    integration.sync()
    found = sandbox.campaign.find("profile", "externalId", key)
    assert found is not None
    sandbox.campaign.update("profile", found["PKey"], {"lastName": "By hand"})
    sandbox.clear_calls()
    return key


@pytest.mark.parametrize(("asked", "calls", "held"), [({}, 0, "By hand"), ({"force": True}, 2, "Lovelace")])
def test_one_run_reads_the_table_again_and_brings_campaign_into_step(
    sandbox: Sandbox, integration: Integration, edited: str, asked: dict[str, bool], calls: int, held: str
) -> None:
    result = replay(integration, table="contact", **asked)

    assert result.success
    assert full_reads(result) == {"dynamics/contact": True, "dynamics/new_store": False}
    made = {event.asset_key for event in result.get_asset_materialization_events()}
    assert set(TableKeys.of(contact_mapping())) <= made
    assert sandbox.engine_calls()["total"] == calls
    found = sandbox.campaign.find("profile", "externalId", edited)
    assert found is not None
    assert found["lastName"] == held


def test_a_replay_is_done_once(sandbox: Sandbox, integration: Integration, edited: str) -> None:
    replay(integration, table="contact", force=True)
    sandbox.clear_calls()

    assert integration.sync()["engine_calls"] == 0
    with open_staging(integration.staging) as file:
        assert file.desk("contact").replay_requested is None


def test_a_replay_of_too_large_a_table_fails_with_the_figure_and_the_setting(
    sandbox: Sandbox, integration: Integration, edited: str
) -> None:
    """R88."""
    integration.set("guardrails", max_replay_records=1)
    result = replay(integration, table="contact")

    [failure] = [event.step_failure_data for event in result.get_step_failure_events()]
    assert failure.user_failure_data is not None
    assert "table 'contact' has 1 records; from 1 on" in str(failure.user_failure_data.description)
    assert "guardrails.max_replay_records" in str(failure.user_failure_data.description)
    assert sandbox.engine_calls()["total"] == 0


def test_the_launchpad_knows_the_mapped_tables(integration: Integration) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match="not in enum type MappedTable"):
        replay(integration, table="account")


def test_a_sync_asks_for_no_replay(sandbox: Sandbox, integration: Integration, edited: str) -> None:
    report = integration.run("sync")

    assert report.materialized["dynamics/contact"]["full_read"] is False
