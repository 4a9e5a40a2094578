"""The daily job and its schedule, as Dagster sees them."""

import dagster as dg
import pytest

from assets.verify import DAILY, VERIFY
from tests.integration import Integration
from tests.mappings import account_mapping, contact_mapping


@pytest.mark.parametrize(
    ("starts", "status"),
    [(False, dg.DefaultScheduleStatus.STOPPED), (True, dg.DefaultScheduleStatus.RUNNING)],
    ids=["a person starts it", "it starts with the sensors"],
)
def test_schedule_is_daily_and_on_where_the_sensors_are(
    integration: Integration, starts: bool, status: dg.DefaultScheduleStatus
) -> None:
    integration.set("run", start_automatically=starts)
    integration.set("checks", verify_at="23:05")
    schedule = integration.definitions.resolve_schedule_def(DAILY)

    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("5 23 * * *", "UTC")
    assert (schedule.default_status, schedule.job_name) == (status, VERIFY)


def test_daily_job_is_all_of_its_checks_in_the_pool_of_the_staging_file_and_no_asset(integration: Integration) -> None:
    integration.tables = [account_mapping(), contact_mapping()]
    job = integration.definitions.resolve_job_def(VERIFY)

    assert {node.definition.pool for node in job.nodes if isinstance(node.definition, dg.OpDefinition)} == {"staging"}
    assert {node.name for node in job.nodes} == {"verify_account", "verify_contact"}
    assert not job.asset_layer.executable_asset_keys
    assert {key.to_user_string() for key in job.asset_layer.asset_graph.asset_check_keys} == {
        "adobe_campaign/cusAccount:mirror_drift",
        "adobe_campaign/profile:mirror_drift",
        "dataverse/account:snapshot_fresh",
        "dataverse/account:token_age",
        "dataverse/contact:snapshot_fresh",
        "dataverse/contact:token_age",
    }
