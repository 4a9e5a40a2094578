"""The rules of the integration contract on large loads: what waits for a person's word, and at what pace it is written.

Each test names the rules it shows. Limits are lowered, so that a few records are a large load.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from d365_campaign import checks
from d365_campaign.changes import Replay
from d365_campaign.sandbox import Sandbox
from d365_campaign.store.staging import open_staging
from tests.agreement import assert_in_step
from tests.integration import Integration
from tests.mappings import contact_mapping


def acknowledge(integration: Integration, by: str = "Ada") -> None:
    with open_staging(integration.staging) as file:
        file.desk("contact").acknowledge_large_load(by)


def refused(integration: Integration) -> str:
    """Sync, which must fail; the checks that stopped it, in words."""
    report = integration.run("sync")
    assert not report.success
    return "\n".join(report.failed_checks)


def writes(sandbox: Sandbox) -> list[str]:
    return [call.method for call in sandbox.calls("campaign") if call.method in ("POST", "PATCH", "DELETE")]


# --- large loads ----------------------------------------------------------------------------------------------------


def test_large_load_writes_nothing_before_someone_acknowledges_it(sandbox: Sandbox, integration: Integration) -> None:
    """R41."""
    integration.set("guardrails", large_load_records=9)
    sandbox.seed(contacts=10)
    said = refused(integration)
    assert "The plan writes 10 records" in said
    assert "d365-campaign acknowledge contact --by NAME" in said
    assert writes(sandbox) == []
    acknowledge(integration)
    assert integration.sync()["inserted"] == 10
    assert_in_step(sandbox)


def test_load_at_the_limit_needs_no_acknowledgement(sandbox: Sandbox, integration: Integration) -> None:
    """R41."""
    integration.set("guardrails", large_load_records=10)
    sandbox.seed(contacts=10)
    assert integration.sync()["inserted"] == 10


def test_acknowledgement_lasts_for_the_load_and_no_longer(sandbox: Sandbox, integration: Integration) -> None:
    """R41: over as many runs as the load takes, then the next large load needs a word of its own."""
    integration.set("guardrails", large_load_records=4)
    integration.set("engine_calls", daily_budget=5)
    sandbox.seed(contacts=12)
    refused(integration)
    acknowledge(integration)
    done = integration.sync()
    assert (done["stopped_by"], done["backlog"] > 4) == ("budget", True)
    integration.set("engine_calls", daily_budget=1000)
    assert integration.sync()["inserted"] == done["backlog"]
    sandbox.seed(contacts=6, seed=2)
    sandbox.clear_calls()
    assert "6 records" in refused(integration)
    assert writes(sandbox) == []


def test_forced_replay_of_a_large_table_is_a_large_load(sandbox: Sandbox, integration: Integration) -> None:
    """R41: it asks Campaign for every record."""
    keys = sandbox.seed(contacts=8)
    integration.sync()
    integration.set("guardrails", large_load_records=7)
    with open_staging(integration.staging) as file:
        file.desk("contact").request_replay(Replay.FORCED, limit=100)
    assert "8 records" in refused(integration)
    acknowledge(integration)
    assert integration.sync()["identical"] == len(keys)


def test_rate_of_requests_is_kept(sandbox: Sandbox, integration: Integration) -> None:
    """R41: max_requests_per_second, by the call log; no second holds more, however many workers there are."""
    integration.set("campaign", max_requests_per_second=20, workers=8)
    sandbox.seed(contacts=50)
    integration.sync()
    moments = [datetime.fromisoformat(call.at) for call in sandbox.calls("campaign") if call.method == "POST"]
    assert len(moments) == 50
    assert moments[-1] - moments[0] >= timedelta(seconds=49 / 20 * 0.95)
    assert busiest_second(moments) <= 20 + 2, "a request may be under way a little longer than the one before"


def busiest_second(moments: Sequence[datetime]) -> int:
    """The greatest number of requests within any second."""
    second = timedelta(seconds=1)
    return max(sum(begin <= moment < begin + second for moment in moments) for begin in moments)


# --- the initial load -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("records", "passed"), [(15_000_000, True), (15_000_001, False)])
def test_initial_load_takes_fifteen_million_records(records: int, passed: bool) -> None:
    """R53."""
    verdict = checks.initial_load(records, limit=15_000_000)
    assert verdict.passed == passed
    assert ("guardrails.max_initial_records" in verdict.description) == (not passed)


def test_initial_load_counts_the_records_of_all_tables(sandbox: Sandbox, integration: Integration) -> None:
    """R53: refused as a whole, before the first record is written."""
    stores = contact_mapping(
        source="new_store",
        target="cusStore",
        key={"source": "new_storeid", "target": "cusD365id"},
        fields=[{"source": "new_name", "target": "cusName"}],
    )
    integration.tables = [contact_mapping(), stores]
    integration.set("guardrails", max_initial_records=5)
    sandbox.seed(contacts=3)
    for name in ("Harbour", "Hill", "Square"):
        sandbox.dataverse.create("new_store", {"new_name": name})
    assert "The first load holds 6 records of all tables; allowed are 5." in refused(integration)
    assert writes(sandbox) == []
    integration.set("guardrails", max_initial_records=6)
    integration.sync()
    assert len(sandbox.campaign.records("cusStore")) == 3


def test_later_changes_are_not_part_of_the_initial_load(sandbox: Sandbox, integration: Integration) -> None:
    """R53: incremental volume is bounded by the budget, not by this limit."""
    integration.set("guardrails", max_initial_records=5)
    sandbox.seed(contacts=5)
    integration.sync()
    sandbox.seed(contacts=5, seed=2)
    assert integration.sync()["inserted"] == 5
