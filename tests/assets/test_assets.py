"""What Dagster's catalogue and lineage show."""

from itertools import pairwise

import dagster as dg
import pytest

from assets.ingress import TableKeys
from assets.keys import campaign_resource, dynamics_table
from d365_campaign.sandbox import Sandbox
from tests.integration import Integration
from tests.mappings import contact_mapping

SNAPSHOT, CHANGE_SET, TARGET = TableKeys.of(contact_mapping())

NUMBERS = (
    "dagster/row_count",
    "inserted",
    "updated",
    "deleted",
    "identical",
    "unchanged",
    "refused",
    "backlog",
    "engine_calls",
    "engine_calls_adobe",
    "engine_calls_saved",
    "rows_per_second",
    "seconds",
)


@pytest.fixture
def synced(sandbox: Sandbox, integration: Integration, instance: dg.DagsterInstance) -> dg.DagsterInstance:
    sandbox.seed(contacts=5)
    integration.sync()
    return instance


def latest(instance: dg.DagsterInstance, key: dg.AssetKey) -> dg.AssetMaterialization:
    event = instance.get_latest_materialization_event(key)
    assert event is not None
    assert event.asset_materialization is not None
    return event.asset_materialization


def test_each_table_is_three_assets_in_a_row_between_the_two_systems(integration: Integration) -> None:
    specs = {spec.key: spec for spec in integration.definitions.resolve_all_asset_specs()}
    in_a_row = [dynamics_table("contact"), SNAPSHOT, CHANGE_SET, TARGET, campaign_resource("profile")]
    assert set(in_a_row) <= set(specs)
    assert not specs[in_a_row[0]].deps
    for upstream, key in pairwise(in_a_row):
        assert [dep.asset_key for dep in specs[key].deps] == [upstream]


def test_every_asset_has_group_kinds_owner_description_and_the_pool_of_the_staging_file(
    integration: Integration,
) -> None:
    for asset in integration.definitions.resolve_asset_graph().asset_nodes:
        inside = asset.key in (SNAPSHOT, CHANGE_SET, TARGET)
        assert asset.group_name == "contact" if inside else asset.group_name not in (None, "default", "contact")
        assert asset.kinds
        assert asset.owners == ["team:crm"]
        assert asset.description
        assert (asset.pools or set()) == ({"staging"} if inside else set())


def test_definitions_load(integration: Integration) -> None:
    dg.Definitions.validate_loadable(integration.definitions)


def test_snapshot_tells_row_count_columns_and_where_reading_stands(synced: dg.DagsterInstance) -> None:
    metadata = latest(synced, SNAPSHOT).metadata
    assert metadata["dagster/row_count"].value == 5
    assert metadata["caught_up"].value is True
    assert "deltatoken" in str(metadata["delta_link"].value)
    schema = metadata["dagster/column_schema"].value
    assert isinstance(schema, dg.TableSchema)
    types = {column.name: column.type for column in schema.columns}
    assert types["contactid"] == "varchar"
    assert types["birthdate"] == "date"


def test_column_lineage_leads_from_the_profile_back_to_the_dynamics_column(synced: dg.DagsterInstance) -> None:
    written = latest(synced, TARGET).metadata["dagster/column_lineage"].value
    planned = latest(synced, CHANGE_SET).metadata["dagster/column_lineage"].value
    assert isinstance(written, dg.TableColumnLineage)
    assert isinstance(planned, dg.TableColumnLineage)
    assert written.deps_by_column["email"] == [dg.TableColumnDep(CHANGE_SET, "email")]
    assert planned.deps_by_column["email"] == [dg.TableColumnDep(SNAPSHOT, "emailaddress1")]
    schema = latest(synced, TARGET).metadata["dagster/column_schema"].value
    assert isinstance(schema, dg.TableSchema)
    assert {c.name: c.description for c in schema.columns}["email"] == "Dynamics contact.emailaddress1"
    assert planned.deps_by_column["externalId"] == [dg.TableColumnDep(SNAPSHOT, "contactid")]


def test_numbers_are_plain_and_come_with_every_run(synced: dg.DagsterInstance) -> None:
    """The UI plots them over time."""
    metadata = latest(synced, TARGET).metadata
    for name in NUMBERS:
        assert isinstance(metadata[name].value, int | float), name


def test_checks_are_reported_by_the_step_that_has_the_data(
    sandbox: Sandbox, integration: Integration, instance: dg.DagsterInstance
) -> None:
    sandbox.dataverse.create("contact", {"firstname": "A" * 40})
    report = integration.run("sync")
    assert report.success
    assert [check.split(":")[0] for check in report.failed_checks] == [
        "change_set/contact texts_fit",
        "campaign/profile none_refused",
    ]
