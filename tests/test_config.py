"""Configuration: good files load, every bad one is refused with its file, the place in it and the remedy."""

import json
from pathlib import Path

import jsonschema
import pytest

from d365_campaign.config import Configuration, json_schema, load, read_yaml, render_json_schema
from d365_campaign.errors import ConfigurationError
from d365_campaign.mapping import TableMapping
from d365_campaign.settings import Settings

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
privacy:
  acknowledged: {by: Jane Doe, on: 2026-11-23, text: 1}
"""
CONTACT = """
source: contact
target: profile
key: {source: contactid, target: externalId, declared_unique: true}
fields:
  - {source: firstname, target: firstName}
  - {source: emailaddress1, target: email}
"""


PURCHASE = """
source: new_purchase
target: cusPurchase
key: {source: new_purchaseid, target: cusD365id}
fields:
  - {source: new_name, target: cusName}
  - {source: new_contactid, target: cusContact}
links:
  - {source: new_contactid, parent: contact}
"""
FILTER = """
filter:
  conditions:
    - {source: statecode, comparison: equals, value: 0}
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

    def add(self, name: str, text: str) -> Path:
        """One more table mapping."""
        file = self.contact.with_name(name)
        file.write_text(text)
        return file

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


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        pytest.param(
            ("environment: test", "environment: test\nenviroment: test"),
            "enviroment: unknown key. Remove it, or correct its spelling.",
            id="unknown key",
        ),
        pytest.param(("environment: test", ""), "environment: is missing. Add it.", id="missing key"),
        pytest.param(
            ("environment: test", "environment: 1"),
            "environment: must be text. Put it in quotes.",
            id="number for text",
        ),
        pytest.param(
            ("{env: D365_CLIENT_SECRET}", "hunter2"),
            "dynamics.client_secret: a secret is given by environment variable only: {env: NAME}.",
            id="secret (R102)",
        ),
        pytest.param(
            ("{env: CAMPAIGN_CLIENT_SECRET}", "hunter2"),
            "campaign.client_secret: a secret is given by environment variable only: {env: NAME}.",
            id="other secret (R102)",
        ),
        pytest.param(
            ("{env: D365_CLIENT_SECRET}", '{env: ""}'),
            "dynamics.client_secret.env: is empty. Fill it in.",
            id="variable without a name",
        ),
        pytest.param(
            ("{env: CAMPAIGN_CLIENT_ID}", "{evn: CAMPAIGN_CLIENT_ID, env: X}"),
            "campaign.client_id.evn: unknown key. Remove it, or correct its spelling.",
            id="misspelt reference",
        ),
        pytest.param(
            ("{env: CAMPAIGN_CLIENT_ID}", "12345"),
            "campaign.client_id: must be text, in quotes where it looks like a number, or {env: NAME}.",
            id="number for text or reference",
        ),
        pytest.param(("  url: https://mc.adobe.io/contoso\n", ""), "campaign.url: is missing. Add it.", id="no URL"),
        pytest.param(
            ("{path: ../staging/test.duckdb}", "../staging"), "staging: must be a group of keys.", id="no group"
        ),
        pytest.param(("../staging/test.duckdb", "[a]"), "staging.path: must be a path, as text.", id="no path"),
        pytest.param(
            ("text: 1}", "text: one}"), "privacy.acknowledged.text: must be a whole number.", id="no whole number"
        ),
        pytest.param(
            ("on: 2026-11-23", "on: 23.11.2026"),
            "privacy.acknowledged.on: must be a day, as YYYY-MM-DD.",
            id="no day (R99)",
        ),
    ],
)
def test_bad_settings_are_refused_with_file_place_and_remedy(
    folder: Folder, change: tuple[str, str], fault: str
) -> None:
    folder.settings.write_text(SETTINGS.replace(*change))

    assert folder.faults() == [f"{folder.settings}, {fault}"]
    assert "hunter2" not in fault


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ("run: {batch_size: 1}", "run.batch_size: must be greater than or equal to 2."),
        ("run: {batch_size: 2.5}", "run.batch_size: must be a whole number."),
        ("run: {pull_seconds: soon}", "run.pull_seconds: must be a number."),
        ("run: {start_automatically: perhaps}", "run.start_automatically: must be true or false."),
        ("run: {start_automatically: [1]}", "run.start_automatically: must be true or false."),
        ("run: {blackout_windows: nightly}", "run.blackout_windows: must be a list."),
        ("run: {blackout_windows: {starts: 22:00}}", "run.blackout_windows: must be a list."),
        ("run: {blackout_windows: [nightly]}", "run.blackout_windows[0]: must be a group of keys."),
        (
            "run: {blackout_windows: [{starts: 22:00, ends: 26:00}]}",
            "run.blackout_windows[0].ends: must be a local time from 00:00 to 23:59, as HH:MM.",
        ),
        (
            "run: {blackout_windows: [{starts: 2026-12-01T20:00:00, ends: 2026-12-02T06:00:00Z}]}",
            "run.blackout_windows[0].starts: must be a moment with its offset from UTC, e.g. 2026-12-01T20:00:00Z.",
        ),
        (
            "run: {blackout_windows: [{days: [Monday], starts: 22:00, ends: 06:00}]}",
            "run.blackout_windows[0].days[0]: must be 'monday', 'tuesday', 'wednesday', 'thursday', 'friday', "
            "'saturday' or 'sunday'.",
        ),
        (
            "run: {blackout_windows: [{days: monday, starts: 22:00, ends: 06:00}]}",
            "run.blackout_windows[0].days: must be a list.",
        ),
        (
            "run: {blackout_windows: [{starts: 22:00, ends: 06:00, time_zone: Europe/Bonn}]}",
            "run.blackout_windows[0].time_zone: 'Europe/Bonn' is no time zone. Use an IANA name, e.g. Europe/Berlin.",
        ),
        (
            "run: {blackout_windows: [{starts: 00:00, ends: 00:00}]}",
            "run.blackout_windows: the windows leave no time in a week to write. Shorten one, or remove it.",
        ),
        ("guardrails: {max_links: -1}", "guardrails.max_links: must be greater than or equal to 0."),
        ("engine_calls: {warn_at: 80}", "engine_calls.warn_at: must be less than or equal to 1."),
        ("engine_calls:", "engine_calls: must be a group of keys."),
    ],
)
def test_bad_section_is_refused_in_one_sentence(folder: Folder, section: str, fault: str) -> None:
    folder.settings.write_text(f"{SETTINGS}\n{section}\n")

    assert folder.faults() == [f"{folder.settings}, {fault}"]


def test_blackout_windows_of_both_kinds_are_read(folder: Folder) -> None:
    """R61."""
    folder.settings.write_text(
        SETTINGS
        + """
run:
  blackout_windows:
    - {days: [saturday, sunday], starts: 22:00, ends: 06:00, time_zone: Europe/Berlin}
    - {starts: 2026-12-01T20:00:00Z, ends: 2026-12-02T06:00:00+01:00}
"""
    )

    weekly, single = folder.load().settings.run.blackout_windows

    assert (str(weekly.starts), str(weekly.ends)) == ("22:00:00", "06:00:00")
    assert str(single.ends - single.starts) == "9:00:00"


# --- what must be accepted --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("", id="nothing"),
        pytest.param("privacy: {}", id="an empty section"),
        pytest.param("privacy: {acknowledged: {by: Jane Doe, on: 2026-11-23, text: 0}}", id="an earlier text"),
    ],
)
@pytest.mark.parametrize("deletes", [False, True])
def test_nothing_loads_before_the_privacy_text_was_accepted(folder: Folder, given: str, deletes: bool) -> None:
    """R5, R99: with deletes or without."""
    folder.settings.write_text(SETTINGS[: SETTINGS.index("privacy:")] + given)
    folder.contact.write_text(f"{CONTACT}apply_deletes: {str(deletes).lower()}\n")

    [fault] = folder.faults()

    assert fault.startswith(f"{folder.settings}, privacy.acknowledged: nothing runs before someone accepted text 1: ")
    assert "by the procedure of docs/privacy.md" in fault
    assert fault.endswith("Add: privacy: {acknowledged: {by: NAME, on: YYYY-MM-DD, text: 1}}")


def test_what_the_refusal_says_to_add_is_accepted(folder: Folder) -> None:
    """R99: who, when and which text are kept."""
    folder.settings.write_text(SETTINGS[: SETTINGS.index("privacy:")])
    [fault] = folder.faults()
    added = fault.split("Add: ")[1].replace("NAME", "Jane Doe").replace("YYYY-MM-DD", "2026-11-23")
    folder.settings.write_text(SETTINGS[: SETTINGS.index("privacy:")] + added)

    accepted = folder.load().settings.privacy.acknowledged

    assert accepted is not None
    assert (accepted.by, str(accepted.on), accepted.text) == ("Jane Doe", "2026-11-23", 1)


# --- table mappings ---------------------------------------------------------------------------------------------------


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
            ": Campaign field 'firstName' is mapped twice, from 'firstname' and 'emailaddress1'. Keep one of them.",
            id="field mapped twice",
        ),
        pytest.param(
            ("target: email}", "target: externalId}"),
            ": Campaign field 'externalId' is the key; remove it from fields and on_create, it is always sent.",
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
        pytest.param((CONTACT, "- contact"), ": must be a group of keys.", id="no group of keys"),
        pytest.param(
            ("target: email}", "target: email, picklist: labels}"),
            ", fields[1].picklist: must be 'label' or 'technical'.",
            id="unknown word",
        ),
        pytest.param(
            ("target: email}", "target: email, replacements: [{existing: #00FF00, new: green}]}"),
            ", line 8: this is not YAML (expected the node content, but found '<stream end>').",
            id="comment for a colour",
        ),
        pytest.param(
            ("target: email}", "target: email, replacements: [{existing: , new: green}]}"),
            ", fields[1].replacements[0].existing: must be text. Put it in quotes.",
            id="nothing for a text",
        ),
        pytest.param(
            ("fields:", "on_create: {org Unit: x}\nfields:"),
            ", on_create.org Unit: is not a name that either system could have. Correct it.",
            id="impossible constant",
        ),
        pytest.param(
            ("fields:", "on_create: {orgUnit: [x]}\nfields:"),
            ", on_create.orgUnit: must be one value: text, a number, a date, true or false.",
            id="list for a constant",
        ),
        pytest.param(("fields:", "on_create: x\nfields:"), ", on_create: must be a group of keys.", id="no constants"),
        pytest.param(
            ("fields:", "filter: {conditions: [{source: a, comparison: equals}]}\nfields:"),
            ", filter.conditions[0]: comparison 'equals' takes one value.",
            id="no operand",
        ),
        pytest.param(
            ("fields:", "filter: {conditions: [{source: a, comparison: equals, value: [1]}]}\nfields:"),
            ", filter.conditions[0].value: must be one value: text, a number, a date, true or false.",
            id="list for an operand",
        ),
        pytest.param(
            ("fields:", "filter: {conditions: []}\nfields:"),
            ", filter.conditions: is empty. Add one at least.",
            id="no conditions",
        ),
        pytest.param(
            ("target: profile", "target: profile\ntarget: profile"),
            ", line 4: this is not YAML (key 'target' stands twice).",
            id="key twice",
        ),
        pytest.param(
            ("target: email}", "target: email, target: fax}"),
            ", line 7: this is not YAML (key 'target' stands twice).",
            id="key twice, deep inside",
        ),
        pytest.param(
            ("target: profile", "target: {{ resource }}"),
            ", line 3: this is not YAML (found unhashable key).",
            id="template",
        ),
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
    """R67, R82."""
    folder.add("again.yaml", CONTACT)

    assert folder.faults() == [
        f"{side} is mapped 2 times. A table can be mapped once on each side; keep one of these mappings."
        for side in ("Dynamics table 'contact'", "Campaign resource 'profile'")
    ]


def test_parents_come_before_their_children(folder: Folder) -> None:
    folder.add("a_purchase.yaml", PURCHASE)

    assert [table.name for table in folder.load().tables] == ["contact", "new_purchase"]


def test_mappings_that_break_a_guardrail_together_are_refused(folder: Folder) -> None:
    """R54, R56."""
    folder.settings.write_text(
        f"{SETTINGS}\nguardrails: {{max_custom_entities: 0, max_columns: 2, max_link_depth: 0}}\n"
    )
    folder.add("purchase.yaml", PURCHASE)

    assert [fault.split(";")[0] for fault in folder.faults()] == [
        "1 custom entities are mapped",
        "table 'new_purchase' maps 3 columns with its key",
        "links go 1 deep: new_purchase > contact",
    ]


def test_file_with_the_other_ending_of_yaml_is_not_overlooked(folder: Folder) -> None:
    folder.add("purchase.yml", PURCHASE)

    assert len(folder.load().tables) == 2


def test_all_faults_of_all_files_are_told_at_once(folder: Folder) -> None:
    folder.settings.write_text(SETTINGS.replace("environment: test", "run: {retries: -1}"))
    folder.contact.write_text(CONTACT.replace("target: profile", "targt: profile"))
    lead = folder.add("lead.yaml", "source: lead\n")
    empty = folder.add("none.yaml", "")
    broken = folder.add("task.yaml", "source: [task\n")

    assert folder.faults() == [
        f"{folder.settings}, environment: is missing. Add it.",
        f"{folder.settings}, run.retries: must be greater than or equal to 0.",
        f"{folder.contact}, target: is missing. Add it.",
        f"{folder.contact}, targt: unknown key. Remove it, or correct its spelling.",
        f"{lead}, target: is missing. Add it.",
        f"{lead}, key: is missing. Add it.",
        f"{lead}, fields: is missing. Add it.",
        f"{empty}, source: is missing. Add it.",
        f"{empty}, target: is missing. Add it.",
        f"{empty}, key: is missing. Add it.",
        f"{empty}, fields: is missing. Add it.",
        f"{broken}, line 2: this is not YAML (expected ',' or ']', but got '<stream end>').",
    ]


def test_settings_at_fault_still_name_their_folder_of_tables(folder: Folder) -> None:
    folder.settings.write_text(SETTINGS.replace("environment: test", "tables: mappings"))
    folder.contact.parent.rename(folder.path / "mappings")
    folder.contact = folder.path / "mappings" / "contact.yaml"
    folder.contact.write_text("source: contact\nfields: []\n")

    assert [fault.split(": ")[0] for fault in folder.faults()] == [
        f"{folder.settings}, environment",
        *(f"{folder.contact}, {part}" for part in ("target", "key", "fields")),
    ]


def test_link_to_a_mapping_whose_file_is_at_fault_is_no_fault_of_its_own(folder: Folder) -> None:
    folder.add("purchase.yaml", PURCHASE)
    folder.contact.write_text(CONTACT.replace("target: profile", ""))

    assert folder.faults() == [f"{folder.contact}, target: is missing. Add it."]


# --- YAML -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("No", "No"),
        ("yes", "yes"),
        ("on", "on"),
        ("True", "True"),
        ("22:00", "22:00"),
        ("1.10", "1.10"),
        ("007", "007"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("1e3", "1e3"),
        ("-0", "-0"),
        (".5", ".5"),
        ("2026-01-01", "2026-01-01"),
        ("2026-13-45", "2026-13-45"),
        ("12345678901234567890", "12345678901234567890"),
        ("=", "="),
        ('"1"', "1"),
        ("'true'", "true"),
        ("true", True),
        ("false", False),
        ("0", 0),
        ("-12", -12),
        ("1.5", 1.5),
        ("1.0", 1.0),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_word_of_a_file_stays_text_unless_it_is_plainly_something_else(word: str, value: object) -> None:
    read = read_yaml(f"a: {word}")["a"]

    assert (type(read), read) == (type(value), value)


def test_values_are_compared_and_replaced_as_they_are_written(folder: Folder) -> None:
    """R84, R85."""
    words = ["No", "1.10", "007", "2026-01-01", "12:30", "1", "true"]
    replacements = ", ".join(f"{{existing: {word}, new: {word}}}" for word in words)
    folder.contact.write_text(
        CONTACT.replace("target: email}", f"target: email, replacements: [{replacements}]}}")
        + f"filter: {{conditions: [{{source: a, comparison: in, values: [{', '.join(words)}]}}]}}\n"
    )

    table = folder.load().table("contact")

    assert [(r.existing, r.new) for r in table.fields[1].replacements] == [(word, word) for word in words]
    assert table.filter is not None
    assert table.filter.conditions[0].values == [*words[:-2], 1, True]


@pytest.mark.parametrize(("word", "operand"), [("0", 0), ("false", False), ('""', "")])
def test_operand_of_nothing_is_an_operand(folder: Folder, word: str, operand: object) -> None:
    """R85."""
    folder.contact.write_text(CONTACT + FILTER.replace("value: 0", f"value: {word}"))

    table = folder.load().table("contact")

    assert table.filter is not None
    assert table.filter.conditions[0].operands == (operand,)


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
    jsonschema.validate(read_yaml(file.read_text(encoding="utf-8")), schema)


def test_schema_file_is_the_one_that_the_models_make() -> None:
    assert (CONFIG / "schema.json").read_text(encoding="utf-8") == render_json_schema()


@pytest.mark.parametrize("part", ["settings", "table"])
def test_schema_file_knows_every_way_of_writing_a_value(part: str) -> None:
    settings = read_yaml(SETTINGS)
    settings["run"] = {
        "blackout_windows": [
            {"starts": "22:00", "ends": "06:00", "days": ["monday"]},
            {"starts": "2026-12-01T20:00:00Z", "ends": "2026-12-02T06:00:00Z"},
        ]
    }
    table = read_yaml(PURCHASE + FILTER)
    table["links"][0]["cardinality"] = 1
    table["fields"][0]["replacements"] = [{"existing": 1, "new": True}, {"existing": "a", "new": 1.5}]
    content = {"settings": settings, "table": table}[part]

    jsonschema.validate(content, json_schema())
    {"settings": Settings, "table": TableMapping}[part].model_validate(content)


def test_every_key_is_described_for_editors() -> None:
    definitions = json_schema()["$defs"]

    bare = [
        f"{name}.{key}"
        for name, definition in definitions.items()
        for key, about in definition.get("properties", {}).items()
        if "description" not in about and "$ref" not in about
    ]
    assert bare == []


def test_the_schema_file_refuses_what_the_models_refuse() -> None:
    schema = json.loads((CONFIG / "schema.json").read_text(encoding="utf-8"))
    bad = {"source": "contact", "target": "profile", "key": {"source": "contactid", "targt": "x"}, "fields": []}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, schema)


def test_a_fresh_production_configuration_waits_for_the_privacy_text_alone() -> None:
    """R99."""
    with pytest.raises(ConfigurationError) as refused:
        load(CONFIG / "production.example.yaml")
    [_, fault] = str(refused.value).splitlines()
    assert "privacy.acknowledged: nothing runs before someone accepted text 1" in fault


def test_a_fresh_production_configuration_maps_contacts_to_profiles_and_nothing_else(tmp_path: Path) -> None:
    """R78."""
    example = (CONFIG / "production.example.yaml").read_text(encoding="utf-8")
    accepted = example.replace("# privacy:", "privacy:").replace("#   acknowledged:", "  acknowledged:")
    settings = tmp_path / "production.yaml"
    settings.write_text(f"{accepted}\ntables: {CONFIG / 'tables'}\n", encoding="utf-8")

    [table] = load(settings).tables

    assert (table.source, table.target) == ("contact", "profile")
    assert (table.key.source, table.key.target) == ("contactid", "externalId")
