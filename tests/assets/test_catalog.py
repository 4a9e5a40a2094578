"""What the catalogue says before anything ran: systems outside, owners, columns, and where the code is."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.ingress import TableKeys
from assets.jobs import SYNC
from assets.keys import campaign_resource, dynamics_table, sftp_folder
from assets.opt_outs import EXPORTS, STATE, TO_CAMPAIGN, TO_DYNAMICS
from assets.output_log import OUTPUT_LOG
from d365_campaign import definitions
from d365_campaign.config import places
from tests.checking import write_files
from tests.integration import Integration
from tests.mappings import account_mapping, contact_mapping, purchase_mapping

SNAPSHOT, CHANGE_SET, TARGET = TableKeys.of(contact_mapping())
EXPORTS_FOLDER, LOGS_FOLDER = sftp_folder("d365_loads/exports"), sftp_folder("d365_loads/logs")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def everything(integration: Integration) -> Integration:
    """Three linked tables, opt-outs both ways with one pair inverted, and output logs."""
    integration.tables = [account_mapping(), contact_mapping(), purchase_mapping()]
    integration.keep_opt_outs("bidirectional")
    integration.set("sftp", output_logs=True)
    integration.set(
        "opt_outs",
        pairs=[
            {"source": "donotemail", "target": "blackListEmail"},
            {"source": "new_ccpaoptout", "target": "ccpaOptOut", "invert": True},
        ],
    )
    return integration


def specs(integration: Integration) -> dict[dg.AssetKey, dg.AssetSpec]:
    return {spec.key: spec for spec in integration.definitions.resolve_all_asset_specs()}


def upstream(spec: dg.AssetSpec) -> set[dg.AssetKey]:
    return {dep.asset_key for dep in spec.deps}


def words(spec: dg.AssetSpec) -> dict[str, str | None]:
    schema: dg.TableSchema = spec.metadata["dagster/column_schema"]
    return {column.name: column.description for column in schema.columns}


def origins(spec: dg.AssetSpec, column: str) -> set[tuple[dg.AssetKey, str]]:
    lineage: dg.TableColumnLineage = spec.metadata["dagster/column_lineage"]
    return {(dep.asset_key, dep.column_name) for dep in lineage.deps_by_column[column]}


def test_both_systems_and_their_folders_stand_at_the_ends_of_the_lineage(everything: Integration) -> None:
    found = specs(everything)
    assert upstream(found[SNAPSHOT]) == {dynamics_table("contact")}
    assert upstream(found[EXPORTS]) == {EXPORTS_FOLDER}
    assert upstream(found[campaign_resource("profile")]) == {TARGET, TO_CAMPAIGN}
    assert upstream(found[campaign_resource("cusPurchase")]) == {dg.AssetKey(["campaign", "cusPurchase"])}
    assert upstream(found[LOGS_FOLDER]) == {OUTPUT_LOG}


def test_nothing_of_ours_makes_what_lies_outside_and_no_job_runs_it(everything: Integration) -> None:
    graph = everything.definitions.resolve_asset_graph()
    outside = {dynamics_table("contact"), campaign_resource("profile"), EXPORTS_FOLDER, LOGS_FOLDER}
    assert outside <= graph.external_asset_keys
    job = everything.definitions.resolve_job_def(SYNC)
    assert not outside & job.asset_layer.selected_asset_keys


def test_every_asset_has_group_kinds_owners_and_a_description(everything: Integration) -> None:
    everything.settings["owners"] = ["team:crm", "jane@example.com"]
    for key, spec in specs(everything).items():
        assert spec.group_name not in (None, "default"), key
        assert spec.kinds, key
        assert spec.owners == ["team:crm", "jane@example.com"], key
        assert spec.description, key


def test_a_contact_is_followed_from_column_to_attribute_across_all_assets(everything: Integration) -> None:
    found = specs(everything)
    assert origins(found[campaign_resource("profile")], "email") == {(TARGET, "email")}
    assert origins(found[TARGET], "email") == {(CHANGE_SET, "email")}
    assert origins(found[CHANGE_SET], "email") == {(SNAPSHOT, "emailaddress1")}
    assert origins(found[SNAPSHOT], "emailaddress1") == {(dynamics_table("contact"), "emailaddress1")}


def test_an_opt_out_has_both_systems_words_for_its_origins(everything: Integration) -> None:
    found = specs(everything)
    assert origins(found[EXPORTS], "blackListEmail") == {(EXPORTS_FOLDER, "blackListEmail")}
    assert origins(found[STATE], "blackListEmail") == {(SNAPSHOT, "donotemail"), (EXPORTS, "blackListEmail")}
    assert origins(found[TO_DYNAMICS], "donotemail") == {(STATE, "blackListEmail")}
    assert origins(found[campaign_resource("profile")], "blackListEmail") == {(TO_CAMPAIGN, "blackListEmail")}
    assert words(found[STATE])["ccpaOptOut"] == "Dynamics contact.new_ccpaoptout: yes in it means no opt-out"


def test_a_column_in_dynamics_says_what_becomes_of_it(everything: Integration) -> None:
    table = words(specs(everything)[dynamics_table("contact")])
    assert table["emailaddress1"] == "becomes profile.email"
    assert table["donotemail"] == "becomes profile.blackListEmail"
    assert table["modifiedon"] == "when it changed last"
    purchases = words(specs(everything)[dynamics_table("new_purchase")])
    assert purchases["new_contactid"] == "becomes cusPurchase.cusContactId; filtered on"


def test_an_asset_leads_to_its_code_and_to_the_line_of_its_table_mapping(everything: Integration) -> None:
    everything.settings["tables"] = str(ROOT / "config" / "sandbox_tables")
    references = specs(everything)[TARGET].metadata["dagster/code_references"].code_references
    code, mapping = references
    assert Path(code.file_path) == ROOT / "assets" / "ingress.py"
    body = Path(code.file_path).read_text(encoding="utf-8").splitlines()[code.line_number - 1 :]
    assert next(line.strip() for line in body if line.strip().startswith("def ")) == "def target("
    assert Path(mapping.file_path) == ROOT / "config" / "sandbox_tables" / "contact.yaml"
    line = Path(mapping.file_path).read_text(encoding="utf-8").splitlines()[mapping.line_number - 1]
    assert line == "source: contact"


@pytest.mark.parametrize("content", ["source: [", "- a list", "", "\xff"], ids=["broken", "list", "empty", "latin"])
def test_a_mapping_file_at_fault_is_no_place(tmp_path: Path, content: str) -> None:
    (tmp_path / "contact.yaml").write_bytes(content.encode("latin-1"))
    (tmp_path / "account.yml").write_text("# first\n\nsource: account\n", encoding="utf-8")
    assert {name: place.line for name, place in places(tmp_path).items()} == {"account": 3}


URLS: list[tuple[str, Any, str | None, str | None]] = [
    (
        "plain",
        ("https://contoso.api.crm4.dynamics.com/", "https://mc.adobe.io/contoso-stage"),
        "https://contoso.crm4.dynamics.com/main.aspx?pagetype=entitylist&etn=contact",
        "https://contoso-stage.campaign.adobe.com",
    ),
    ("by environment", ({"env": "D365_URL"}, {"env": "CAMPAIGN_URL"}), None, None),
    ("another gateway", ("https://d365.example", "https://gateway.example/contoso"), "https://d365.example", None),
]


@pytest.mark.parametrize(
    ("addresses", "table", "instance"), [case[1:] for case in URLS], ids=[case[0] for case in URLS]
)
def test_links_lead_where_a_person_looks_as_far_as_the_settings_say_it(
    everything: Integration, monkeypatch: pytest.MonkeyPatch, addresses: Any, table: str | None, instance: str | None
) -> None:
    monkeypatch.setenv("D365_URL", "https://secret.example")
    monkeypatch.setenv("CAMPAIGN_URL", "https://secret.example")
    everything.set("dynamics", url=addresses[0])
    everything.set("campaign", url=addresses[1])
    found = specs(everything)
    link = found[dynamics_table("contact")].metadata.get("records")
    assert (str(link.value).startswith(table) if link else link) == (True if table else None)
    link = found[campaign_resource("profile")].metadata.get("instance")
    assert (link and link.value) == instance
    assert "secret.example" not in repr([spec.metadata for spec in found.values()])
    assert all("documentation" in found[key].metadata for key in (dynamics_table("contact"), EXPORTS_FOLDER))


def test_the_files_of_a_configuration_are_found_from_anywhere(
    everything: Integration, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = write_files(everything)
    monkeypatch.setenv(definitions.CONFIG_VARIABLE, str(file))
    monkeypatch.chdir("/")
    settings = definitions.configuration().settings
    assert set(places(settings.tables)) == {"account", "contact", "new_purchase"}
