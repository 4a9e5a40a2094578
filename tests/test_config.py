"""Configuration: good files load, every bad one is refused with its file, the place in it and the remedy."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from d365_campaign.config import Configuration, json_schema, load, render_json_schema
from d365_campaign.errors import ConfigurationError

CONFIG = Path(__file__).parents[1] / "config"

SETTINGS = """
environment: test
dynamics:
  url: https://contoso.api.crm4.dynamics.com
  token_url: https://login.example/token
  client_id: reader
  client_secret: {env: D365_CLIENT_SECRET}
campaign:
  url: https://mc.adobe.io/contoso
  client_id: {env: CAMPAIGN_CLIENT_ID}
  client_secret: {env: CAMPAIGN_CLIENT_SECRET}
staging: {path: ../staging/test.duckdb}
"""
CONTACT = """
source: contact
target: profile
key: {source: contactid, target: externalId, declared_unique: true}
fields:
  - {source: firstname, target: firstName}
  - {source: emailaddress1, target: email}
"""


class Folder:
    """A configuration folder: a good one, until a test changes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "test.yaml"
        self.contact = path / "tables" / "contact.yaml"
        self.contact.parent.mkdir()
        self.settings.write_text(SETTINGS)
        self.contact.write_text(CONTACT)

    def load(self) -> Configuration:
        return load(self.settings)

    def faults(self) -> list[str]:
        with pytest.raises(ConfigurationError) as refused:
            self.load()
        head, *faults = str(refused.value).splitlines()
        assert head == "the configuration is refused:"
        return [fault.removeprefix("  - ") for fault in faults]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_good_files_load_and_paths_are_resolved_against_the_settings_file(folder: Folder) -> None:
    configuration = folder.load()

    assert [table.name for table in configuration.tables] == ["contact"]
    assert configuration.settings.staging.path == (folder.path.parent / "staging" / "test.duckdb").resolve()
    assert configuration.settings.tables == folder.path / "tables"


def test_defaults_are_the_careful_ones(folder: Folder) -> None:
    configuration = folder.load()

    assert configuration.settings.run.start_automatically is False
    assert configuration.settings.guardrails.max_delete_share == 0.2
    assert configuration.table("contact").apply_deletes is False


def test_unknown_table_is_answered_with_the_known_ones(folder: Folder) -> None:
    with pytest.raises(ConfigurationError, match="no table mapping 'acount'; there are: contact"):
        folder.load().table("acount")


@pytest.mark.parametrize(
    ("change", "place", "remedy"),
    [
        pytest.param(
            ("environment: test", "enviroment: test"),
            "enviroment",
            "unknown key. Remove it, or correct its spelling.",
            id="unknown key",
        ),
        pytest.param(("environment: test", ""), "environment", "is missing. Add it.", id="missing key"),
        pytest.param(("{env: D365_CLIENT_SECRET}", "hunter2"), "dynamics.client_secret", "{env: NAME}.", id="secret"),
        pytest.param(
            ("{env: CAMPAIGN_CLIENT_SECRET}", "hunter2"), "campaign.client_secret", "{env: NAME}.", id="other secret"
        ),
        pytest.param(
            ("{path: ../staging/test.duckdb}", "../staging"), "staging", "must be a group of keys.", id="no group"
        ),
        pytest.param(
            ("environment: test", "environment: test\nrun: {batch_size: 1}"),
            "run.batch_size",
            "greater than or equal to 2",
            id="number out of range",
        ),
    ],
)
def test_bad_settings_are_refused_with_file_place_and_remedy(
    folder: Folder, change: tuple[str, str], place: str, remedy: str
) -> None:
    folder.settings.write_text(SETTINGS.replace(*change))

    faults = folder.faults()

    assert any(fault.startswith(f"{folder.settings}, {place}: ") and fault.endswith(remedy) for fault in faults)
    assert "hunter2" not in "".join(faults)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        pytest.param(
            ("target: email}", "target: email, update: never}"),
            ", fields[1].update: unknown key. Remove it, or correct its spelling.",
            id="unknown key",
        ),
        pytest.param(
            ("target: email}", "target: firstName}"),
            ": Campaign field 'firstName' is mapped twice, from 'firstname' and 'emailaddress1'. Keep one of the two.",
            id="field mapped twice",
        ),
        pytest.param(
            ("target: email}", "target: externalId}"),
            ": Campaign field 'externalId' is the key; remove it from fields, it is always sent.",
            id="key among the fields",
        ),
        pytest.param(
            ("key: {source: contactid, target: externalId, declared_unique: true}", ""),
            ", key: is missing. Add it.",
            id="no key",
        ),
        pytest.param(
            ("key: {source: contactid, ", "key: {"), ", key.source: is missing. Add it.", id="key without its column"
        ),
        pytest.param(
            (CONTACT[CONTACT.index("fields:") :], "fields: []"),
            ", fields: is empty. Add one at least.",
            id="no fields",
        ),
        pytest.param(
            ("source: firstname", "source: First Name"),
            ", fields[0].source: is not a name that either system could have. Correct it.",
            id="impossible name",
        ),
        pytest.param((CONTACT, ""), ": must be a group of keys.", id="empty file"),
        pytest.param(
            ("  - {source: firstname, target: firstName}", "  - {source: firstname, target: firstName"),
            ", line 7: this is not YAML (expected ',' or '}', but got '{').",
            id="not YAML",
        ),
    ],
)
def test_bad_table_mapping_is_refused_with_file_place_and_remedy(
    folder: Folder, change: tuple[str, str], fault: str
) -> None:
    folder.contact.write_text(CONTACT.replace(*change))

    assert folder.faults() == [f"{folder.contact}{fault}"]


def test_file_that_is_not_text_is_refused_by_name(folder: Folder) -> None:
    folder.contact.write_bytes(CONTACT.replace("contact", "Zoë").encode("latin-1"))

    assert folder.faults() == [f"{folder.contact}: this is not a text file in UTF-8. Save it as one."]


def test_missing_settings_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml: there is no such file\. Create it"):
        load(tmp_path / "nowhere.yaml")


def test_folder_in_the_place_of_the_settings_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"can't be read \(IsADirectoryError\)"):
        load(tmp_path)


def test_configuration_without_tables_is_refused(folder: Folder) -> None:
    folder.contact.unlink()

    tables = folder.contact.parent
    assert folder.faults() == [f"{tables}: there is no table mapping. Add one, for instance contact.yaml."]


def test_table_mapped_twice_on_either_side_is_refused(folder: Folder) -> None:
    folder.contact.with_name("again.yaml").write_text(CONTACT)

    assert folder.faults() == [
        f"{side} is mapped 2 times. A table can be mapped once on each side; keep one of these mappings."
        for side in ("Dynamics table 'contact'", "Campaign resource 'profile'")
    ]


def test_all_faults_of_all_files_are_told_at_once(folder: Folder) -> None:
    folder.contact.write_text(CONTACT.replace("target: profile", "targt: profile"))
    folder.contact.with_name("lead.yaml").write_text("source: lead\n")

    assert folder.faults() == [
        f"{folder.contact}, target: is missing. Add it.",
        f"{folder.contact}, targt: unknown key. Remove it, or correct its spelling.",
        f"{folder.contact.with_name('lead.yaml')}, target: is missing. Add it.",
        f"{folder.contact.with_name('lead.yaml')}, key: is missing. Add it.",
        f"{folder.contact.with_name('lead.yaml')}, fields: is missing. Add it.",
    ]


def test_secrets_are_not_part_of_the_settings(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D365_CLIENT_SECRET", "hunter2")
    monkeypatch.setenv("CAMPAIGN_CLIENT_SECRET", "hunter2")

    configuration = folder.load()

    assert "hunter2" not in f"{configuration!r} {configuration} {configuration.model_dump_json()}"


# --- the files that are committed -----------------------------------------------------------------------------------


def test_committed_sandbox_configuration_loads() -> None:
    assert load(CONFIG / "sandbox.yaml").table("contact").key.target == "externalId"


def test_json_schema_text_is_what_editors_read() -> None:
    assert json.loads(render_json_schema()) == json_schema()


@pytest.mark.parametrize("file", sorted(CONFIG.rglob("*.yaml")), ids=lambda file: file.name)
def test_committed_configuration_fits_the_schema_file_that_editors_use(file: Path) -> None:
    schema = json.loads((CONFIG / "schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(yaml.safe_load(file.read_text(encoding="utf-8")), schema)


def test_the_schema_file_refuses_what_the_models_refuse() -> None:
    schema = json.loads((CONFIG / "schema.json").read_text(encoding="utf-8"))
    bad = {"source": "contact", "target": "profile", "key": {"source": "contactid", "targt": "x"}, "fields": []}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, schema)


def test_a_fresh_checkout_maps_contacts_to_profiles_and_nothing_else() -> None:
    """R78."""
    [table] = load(CONFIG / "sandbox.yaml").tables
    assert (table.source, table.target) == ("contact", "profile")
    assert (table.key.source, table.key.target) == ("contactid", "externalId")
