"""What opt-outs may be configured, and what is refused before anything runs; every refusal says what to do.

R and A are the rules of the integration contract.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from d365_campaign.binding import BoundMapping, bind
from d365_campaign.config import Configuration, load, read_yaml
from d365_campaign.errors import ConfigurationError
from d365_campaign.field_types import SourceType
from d365_campaign.opt_out import ATTRIBUTES, OptOutDirection, OptOutPair, OptOuts
from d365_campaign.schemas import ResourceField, SourceTable, TargetResource
from d365_campaign.settings import EnvironmentReference, OptOutSettings, SftpSettings
from tests.builders import mapping, source_table, target_resource

CONFIG = Path(__file__).parents[1] / "config"
SYSTEMS: dict[str, Any] = {
    "environment": "test",
    "dynamics": {
        "url": "https://contoso.api.crm4.dynamics.com",
        "token_url": "https://login.example/token",
        "client_id": "reader",
        "client_secret": {"env": "D365_CLIENT_SECRET"},
    },
    "campaign": {
        "url": "https://mc.adobe.io/contoso",
        "client_id": "writer",
        "client_secret": {"env": "CAMPAIGN_CLIENT_SECRET"},
    },
    "staging": {"path": "test.duckdb"},
    "privacy": {"acknowledged": {"by": "Jane Doe", "on": "2026-11-23", "text": 1}},
}
SFTP: dict[str, Any] = {
    "host": "contoso.campaign.adobe.com",
    "user": "integration",
    "private_key": {"env": "CAMPAIGN_SFTP_KEY"},
    "host_key": "SHA256:abc",
}
CONTACT: dict[str, Any] = {
    "source": "contact",
    "target": "profile",
    "key": {"source": "contactid", "target": "externalId"},
    "fields": [{"source": "firstname", "target": "firstName"}],
}
ACCOUNT: dict[str, Any] = {
    "source": "account",
    "target": "cusAccount",
    "key": {"source": "accountid", "target": "cusD365id"},
    "fields": [{"source": "name", "target": "cusName"}],
}
EMAIL = {"source": "donotemail", "target": "blackListEmail"}
FAX = {"source": "donotfax", "target": "blackListFax"}
ACCEPTED = {"by": "Jane Doe", "on": "2026-11-23"}
BY_CAMPAIGN = ["campaign_to_dynamics", "bidirectional"]


class Folder:
    """A configuration folder, of which each test says what it has on opt-outs. JSON is YAML, too."""

    def __init__(self, path: Path) -> None:
        self.path = path / "settings.yaml"
        (path / "tables").mkdir()

    def load(
        self,
        opt_outs: Mapping[str, Any],
        *fields: Mapping[str, Any],
        sftp: Mapping[str, Any] | None = SFTP,
        tables: Sequence[Mapping[str, Any]] = (CONTACT,),
        **rules: Any,
    ) -> Configuration:
        """*fields* and *rules* are the first table's own."""
        settings = SYSTEMS | {"opt_outs": opt_outs} | ({"sftp": sftp} if sftp else {})
        self.path.write_text(json.dumps(settings), encoding="utf-8")
        first, *others = tables
        for table in [{**first, "fields": [*first["fields"], *fields], **rules}, *others]:
            file = self.path.parent / "tables" / f"{table['source']}.yaml"
            file.write_text(json.dumps(table), encoding="utf-8")
        return load(self.path)

    def faults(self, *given: Any, **more: Any) -> list[str]:
        """What `load` refuses, each without the file."""
        with pytest.raises(ConfigurationError) as refused:
            self.load(*given, **more)
        _, *faults = str(refused.value).splitlines()
        return [fault.removeprefix(f"  - {self.path}, ") for fault in faults]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def paired(direction: str, *pairs: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"direction": direction, "pairs": list(pairs or [EMAIL]), "workflow": "d365OptOutExport"} | more


# --- directions -------------------------------------------------------------------------------------------------------


def test_there_are_four_directions_and_opt_outs_are_disabled_by_default(folder: Folder) -> None:
    """R17."""
    assert [d.value for d in OptOutDirection] == [
        "disabled",
        "dynamics_to_campaign",
        "campaign_to_dynamics",
        "bidirectional",
    ]
    assert folder.load({}).opt_outs == OptOuts(OptOutDirection.DISABLED, ())


def test_any_other_direction_is_refused_with_those_there_are(folder: Folder) -> None:
    """R17."""
    [fault] = folder.faults({"direction": "both"})

    assert fault.startswith("opt_outs.direction: must be 'disabled', 'dynamics_to_campaign', 'campaign_to_dynamics'")


@pytest.mark.parametrize("direction", BY_CAMPAIGN)
def test_directions_that_go_by_campaign_have_their_own_pairs(folder: Folder, direction: str) -> None:
    """R93."""
    kept = folder.load(paired(direction, EMAIL, FAX | {"invert": True})).opt_outs

    assert kept.direction == direction
    assert kept.pairs == [OptOutPair(**EMAIL), OptOutPair(**FAX, invert=True)]


def test_dynamics_to_campaign_takes_its_pairs_from_the_fields_of_contact(folder: Folder) -> None:
    """R93, contract 3.2: in the printed spelling as well."""
    fax = {"source": "donotfax", "target": "denyListFax"}

    kept = folder.load({"direction": "dynamics_to_campaign"}, EMAIL, fax, sftp=None).opt_outs

    assert kept.pairs == [OptOutPair(**EMAIL), OptOutPair(**FAX)]


def test_nothing_is_kept_in_step_while_disabled_whatever_is_paired_or_mapped(folder: Folder) -> None:
    """R21, A4: an opt-out may be mapped then, as any other field."""
    disabled = folder.load({"direction": "disabled", "pairs": [FAX]}, EMAIL, sftp=None)

    assert disabled.opt_outs.pairs == ()
    assert [f.target for f in disabled.table("contact").fields] == ["firstName", "blackListEmail"]


@pytest.mark.parametrize("name", ["tables", "sandbox_tables"])
def test_no_shipped_mapping_pairs_an_opt_out(name: str, folder: Folder) -> None:
    """R13."""
    tables = [json.loads(load_table(file)) for file in sorted((CONFIG / name).glob("*.yaml"))]

    configuration = folder.load({}, tables=tables)

    assert tables
    assert not [table.opt_outs for table in configuration.tables if table.opt_outs]


def test_a_fresh_production_configuration_has_no_pairs(tmp_path: Path) -> None:
    """R13, R17."""
    example = (CONFIG / "production.example.yaml").read_text(encoding="utf-8")
    accepted = example.replace("# privacy:", "privacy:").replace("#   acknowledged:", "  acknowledged:")
    settings = tmp_path / "production.yaml"
    settings.write_text(f"{accepted}\ntables: {CONFIG / 'tables'}\n", encoding="utf-8")

    configuration = load(settings)

    assert (configuration.settings.opt_outs.direction, configuration.settings.opt_outs.pairs) == ("disabled", ())
    assert configuration.opt_outs.pairs == ()


def load_table(file: Path) -> str:
    """A mapping file as JSON."""
    return json.dumps(read_yaml(file.read_text(encoding="utf-8")))


# --- what does not fit together ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", BY_CAMPAIGN)
def test_directions_that_go_by_campaign_need_pairs_a_workflow_and_sftp(folder: Folder, direction: str) -> None:
    """R13, R27, R106: all three are told at once."""
    assert folder.faults({"direction": direction}, sftp=None) == [
        f"opt_outs: {direction} has no pairs, and there are none by default. Add which column says what: pairs.",
        f"opt_outs: {direction} reads Campaign's daily files from SFTP. Add the section sftp.",
        f"opt_outs: {direction} needs the Campaign workflow that exports opt-outs: ask your Adobe contact to set it "
        "up, and give its id as workflow.",
    ]


@pytest.mark.parametrize("direction", BY_CAMPAIGN)
def test_opt_out_in_the_fields_is_refused_where_pairs_write_it(folder: Folder, direction: str) -> None:
    """A4: in either spelling, also one that isn't paired."""
    fax = {"source": "donotfax", "target": "denyListFax"}

    assert folder.faults(paired(direction), EMAIL, fax) == [
        f"opt_outs: '{name}' is mapped in the fields of contact. In {direction} each opt-out has one writer: pair it "
        "in opt_outs.pairs, and remove it there."
        for name in ("blackListEmail", "blackListFax")
    ]


@pytest.mark.parametrize(
    ("fields", "pairs", "fault"),
    [
        pytest.param(
            [EMAIL],
            [FAX],
            "in dynamics_to_campaign, opt-outs are mapped in the fields of contact. Move the pairs there.",
            id="pairs (R93)",
        ),
        pytest.param(
            [],
            [],
            "dynamics_to_campaign has nothing to do: map an opt-out such as blackListEmail in the fields of contact.",
            id="nothing mapped",
        ),
        pytest.param(
            [EMAIL | {"replacements": [{"existing": "true", "new": "false"}]}],
            [],
            "'blackListEmail' is an opt-out: it can have neither replacements nor apply_updates: false.",
            id="replacements",
        ),
        pytest.param(
            [EMAIL | {"apply_updates": False}],
            [],
            "'blackListEmail' is an opt-out: it can have neither replacements nor apply_updates: false.",
            id="first load only",
        ),
    ],
)
def test_what_does_not_fit_dynamics_to_campaign_is_refused(
    folder: Folder, fields: Sequence[Mapping[str, Any]], pairs: Sequence[Mapping[str, Any]], fault: str
) -> None:
    chosen = {"direction": "dynamics_to_campaign", "pairs": pairs}

    assert folder.faults(chosen, *fields, sftp=None) == [f"opt_outs: {fault}"]


def test_contact_that_maps_opt_outs_only_has_no_profiles_to_write_them_to(folder: Folder) -> None:
    chosen = {"direction": "dynamics_to_campaign"}

    assert folder.faults(chosen, tables=[CONTACT | {"fields": [EMAIL]}]) == [
        "opt_outs: contact maps opt-outs only. Map at least one other field, so that there are profiles to write them "
        "to."
    ]


@pytest.mark.parametrize("direction", ["dynamics_to_campaign", *BY_CAMPAIGN])
def test_opt_outs_without_contacts_and_profiles_are_refused(folder: Folder, direction: str) -> None:
    pairs = [] if direction == "dynamics_to_campaign" else [EMAIL]

    assert folder.faults(paired(direction) | {"pairs": pairs}, tables=[ACCOUNT]) == [
        "opt_outs: contacts are not mapped to profiles, so there is nobody to opt out. Add contact.yaml, or disable "
        "them."
    ]


@pytest.mark.parametrize(
    ("pairs", "fault"),
    [
        pytest.param([EMAIL, {**FAX, "source": "donotemail"}], "column 'donotemail'", id="column"),
        pytest.param([EMAIL, {**FAX, "target": "denyListEmail"}], "opt-out 'blackListEmail'", id="other spelling"),
    ],
)
@pytest.mark.parametrize("direction", BY_CAMPAIGN)
def test_what_is_paired_twice_is_refused(
    folder: Folder, direction: str, pairs: Sequence[Mapping[str, Any]], fault: str
) -> None:
    """One writer for each, on either side."""
    assert folder.faults(paired(direction, *pairs)) == [
        f"opt_outs: {fault} stands in several pairs. Each attribute has one writer; keep one of them."
    ]


@pytest.mark.parametrize("direction", BY_CAMPAIGN)
@pytest.mark.parametrize("name", ["blackListEmail", "denyListFax"])
def test_opt_out_as_a_constant_is_refused_where_pairs_write_it(folder: Folder, direction: str, name: str) -> None:
    """A4: as a constant, FALSE would be sent with each insert, and TRUE never reach Dynamics in time."""
    spelled = name.replace("denyList", "blackList")

    assert folder.faults(paired(direction), on_create={name: False}) == [
        f"opt_outs: '{spelled}' stands in on_create of contact. In {direction} each opt-out has one writer: pair it in "
        "opt_outs.pairs, and remove it there."
    ]


# --- the global opt-out -----------------------------------------------------------------------------------------------

GLOBAL = {"source": "donotsendmm", "target": "blackList"}
UNACCEPTED = (
    "opt_outs: 'blackList' stops every message to a person, order confirmations included. Review the typology rules in "
    "Campaign first, and say who did: global_opt_out_accepted: {by: NAME, on: YYYY-MM-DD}. Or map channels."
)


@pytest.mark.parametrize("name", ["blackList", "denyList"])
@pytest.mark.parametrize("direction", BY_CAMPAIGN)
def test_global_opt_out_waits_for_somebody_who_reviewed_the_typology_rules(
    folder: Folder, direction: str, name: str
) -> None:
    """R24: in either spelling."""
    chosen = paired(direction, GLOBAL | {"target": name})

    assert folder.faults(chosen) == [UNACCEPTED]
    assert folder.load(chosen | {"global_opt_out_accepted": ACCEPTED}).opt_outs.pairs == [OptOutPair(**GLOBAL)]


@pytest.mark.parametrize("direction", ["disabled", "dynamics_to_campaign"])
def test_global_opt_out_in_the_fields_of_contact_waits_as_well(folder: Folder, direction: str) -> None:
    """R24, A4."""
    chosen = {"direction": direction}

    assert folder.faults(chosen, GLOBAL) == [UNACCEPTED]
    assert folder.load(chosen | {"global_opt_out_accepted": ACCEPTED}, GLOBAL).tables


@pytest.mark.parametrize("accepted", [{"by": "", "on": "2026-11-23"}, {"by": "Jane Doe"}, {"by": "J", "on": "soon"}])
def test_acceptance_names_a_person_and_a_day(folder: Folder, accepted: Mapping[str, str]) -> None:
    """R24."""
    [fault] = folder.faults(paired("bidirectional", GLOBAL, global_opt_out_accepted=accepted))

    assert fault.startswith("opt_outs.global_opt_out_accepted.")


def test_order_of_the_times_of_the_global_opt_out_is_a_setting(folder: Folder) -> None:
    """A6: blackListLastModified counts first by default."""
    swapped = ["blackListAllLastModified", "blackListLastModified"]
    accepted = paired("bidirectional", GLOBAL, global_opt_out_accepted=ACCEPTED)

    assert list(folder.load(accepted).opt_outs.stamps("blackList")) == swapped[::-1]
    assert list(folder.load(accepted | {"global_stamps": swapped}).opt_outs.stamps("blackList")) == swapped
    assert folder.faults(accepted | {"global_stamps": []}) == ["opt_outs.global_stamps: is empty. Add one at least."]


# --- pairs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["email", "cusFlag", "blackListEmailLastModified"])
def test_pair_with_anything_but_an_opt_out_is_refused_with_those_there_are(folder: Folder, target: str) -> None:
    """R15, R95."""
    assert folder.faults(paired("bidirectional", {"source": "donotemail", "target": target})) == [
        f"opt_outs.pairs[0].target: '{target}' is no opt-out of a Campaign profile. There are: {', '.join(ATTRIBUTES)}."
    ]


def test_each_of_the_eight_opt_outs_is_accepted(folder: Folder) -> None:
    """R15."""
    pairs = [{"source": f"new_column{number}", "target": name} for number, name in enumerate(ATTRIBUTES)]

    kept = folder.load(paired("bidirectional", *pairs, global_opt_out_accepted=ACCEPTED)).opt_outs

    assert [pair.target for pair in kept.pairs] == list(ATTRIBUTES)


@pytest.mark.parametrize(
    ("pair", "fault"),
    [
        ({"source": "donotemail"}, "opt_outs.pairs[0].target: is missing. Add it."),
        (EMAIL | {"inverted": True}, "opt_outs.pairs[0].inverted: unknown key. Remove it, or correct its spelling."),
        (EMAIL | {"invert": "maybe"}, "opt_outs.pairs[0].invert: must be true or false."),
        (
            EMAIL | {"source": "do not email"},
            "opt_outs.pairs[0].source: is not a name that either system could have. Correct it.",
        ),
    ],
    ids=["no opt-out", "unknown key", "no truth", "no column"],
)
def test_pair_that_is_written_wrong_is_refused(folder: Folder, pair: Mapping[str, Any], fault: str) -> None:
    assert folder.faults(paired("bidirectional", pair)) == [fault]


# --- SFTP -------------------------------------------------------------------------------------------------------------


def test_sftp_is_optional_and_its_defaults_are_the_careful_ones(folder: Folder) -> None:
    """R106, R108."""
    sftp = folder.load({}).settings.sftp

    assert sftp is not None
    assert (sftp.port, sftp.output_logs, sftp.quota_gigabytes) == (22, False, None)
    assert OptOutSettings().exports.folder == "d365_loads/exports"
    assert folder.load({}, sftp=None).settings.sftp is None


@pytest.mark.parametrize("keys", [{"host_key": None}, {"known_hosts": "known_hosts"}], ids=["neither", "both"])
def test_host_key_is_pinned_in_exactly_one_way(folder: Folder, keys: Mapping[str, Any]) -> None:
    assert folder.faults({}, sftp=SFTP | keys) == [
        "sftp: the server's key is pinned by host_key or by known_hosts. Give one of the two."
    ]


def test_known_hosts_file_is_looked_for_beside_the_settings(folder: Folder) -> None:
    sftp = folder.load({}, sftp=SFTP | {"host_key": None, "known_hosts": "known_hosts"}).settings.sftp

    assert sftp is not None
    assert (sftp.known_hosts, sftp.host_key) == (folder.path.parent / "known_hosts", None)


@pytest.mark.parametrize("port", [1, 2222, 65535])
def test_port_is_a_number(port: int) -> None:
    assert SftpSettings.model_validate(SFTP | {"port": port}).port == port


def test_port_and_secrets_may_stand_in_the_environment() -> None:
    """R107."""
    references = {name: {"env": f"SFTP_{name.upper()}"} for name in ("host", "port", "user", "host_key", "passphrase")}

    sftp = SftpSettings.model_validate(SFTP | references)

    assert sftp.port == EnvironmentReference(env="SFTP_PORT")
    assert sftp.passphrase == EnvironmentReference(env="SFTP_PASSPHRASE")


@pytest.mark.parametrize("port", [0, 65536, -22, "22", True, 22.0, None])
def test_anything_else_is_no_port(folder: Folder, port: object) -> None:
    assert folder.faults({}, sftp=SFTP | {"port": port}) == ["sftp.port: must be a port number, or {env: NAME}."]


@pytest.mark.parametrize("name", ["private_key", "passphrase"])
def test_secrets_of_sftp_never_stand_in_the_file(folder: Folder, name: str) -> None:
    """R107: and the refusal doesn't repeat them."""
    [fault] = folder.faults({}, sftp=SFTP | {name: "hunter2"})

    assert fault.startswith(f"sftp.{name}: ")
    assert "hunter2" not in fault


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ({"quota_gigabytes": 0}, "sftp.quota_gigabytes: must be greater than 0."),
        ({"connect_timeout_seconds": 0}, "sftp.connect_timeout_seconds: must be greater than 0."),
        ({"password": "x"}, "sftp.password: unknown key. Remove it, or correct its spelling."),
    ],
    ids=["quota", "timeout", "password"],
)
def test_bad_setting_of_sftp_is_refused(folder: Folder, setting: Mapping[str, Any], fault: str) -> None:
    assert folder.faults({}, sftp=SFTP | setting) == [fault]


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        (
            {"columns": {"email": "e_mail"}},
            "opt_outs.exports.columns: 'email' is no attribute of an export. There are: blackList, ",
        ),
        ({"encoding": "klingon"}, "opt_outs.exports.encoding: 'klingon' is no encoding. Name one such as utf-8, "),
        ({"keep_days": 16}, "opt_outs.exports.keep_days: must be less than or equal to 15."),
        ({"delimiter": ""}, "opt_outs.exports.delimiter: is empty. Fill it in."),
        ({"max_bad_share": 1.5}, "opt_outs.exports.max_bad_share: must be less than or equal to 1."),
        ({"after_reading": "keep"}, "opt_outs.exports.after_reading: must be 'archive' or 'delete'."),
        ({"names": []}, "opt_outs.exports.names: is empty. Add one at least."),
    ],
    ids=["column", "encoding", "days (R117)", "delimiter", "share", "afterwards", "names"],
)
def test_bad_setting_of_the_daily_files_is_refused(folder: Folder, setting: Mapping[str, Any], fault: str) -> None:
    [told] = folder.faults(paired("bidirectional", exports=setting))

    assert told.startswith(fault)


def test_renamed_column_may_be_spelled_as_it_is_printed() -> None:
    """Contract 3.2."""
    exports = OptOutSettings.model_validate({"exports": {"columns": {"denyListEmail": "no_mail"}}}).exports

    assert exports.column("blackListEmail") == "no_mail"
    assert exports.column("blackListFax") == "blackListFax"


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("optout_20261124.csv", True),
        ("optout.csv.gz", True),
        ("optout.txt", True),
        ("optout.csv.tmp", False),
        (".optout.csv", False),
        ("~optout.csv", False),
        ("optout.CSV.PART", False),
        ("readme.md", False),
    ],
)
def test_unfinished_and_foreign_files_are_no_exports(name: str, taken: bool) -> None:
    assert OptOutSettings().exports.takes(name) is taken


def test_unknown_setting_of_opt_outs_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        OptOutSettings.model_validate({"pair": [EMAIL]})


# --- pairs held against both systems ----------------------------------------------------------------------------------

KEPT = OptOuts(OptOutDirection.BIDIRECTIONAL, [OptOutPair(**EMAIL)])


def contacts(**columns: SourceType) -> SourceTable:
    return source_table(
        contactid="reference", firstname="text", modifiedon="datetime", versionnumber="integer", **columns
    )


def profiles(*fields: ResourceField) -> TargetResource:
    plain = target_resource()
    opt_outs = fields or (
        ResourceField("blackListEmail", "boolean"),
        ResourceField("blackListEmailLastModified", "datetime", read_only=True),
    )
    return replace(plain, fields={**plain.fields, **{field.name: field for field in opt_outs}})


def bound(source: SourceTable, target: TargetResource, kept: OptOuts = KEPT) -> BoundMapping:
    return bind(mapping(("firstname", "firstName")), source, target, opt_outs=kept)


def refusal(source: SourceTable, target: TargetResource, kept: OptOuts = KEPT) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        bound(source, target, kept)
    return [fault.removeprefix("  - ") for fault in str(refused.value).splitlines()[1:]]


@pytest.mark.parametrize("column", ["donotemail", "new_nomail"])
def test_any_yes_no_column_is_taken(column: str) -> None:
    """R16: one of Dynamics' own, and a custom one."""
    kept = replace(KEPT, pairs=[OptOutPair(source=column, target="blackListEmail")])

    table = bound(contacts(**{column: "boolean"}), profiles(), kept)

    assert [c.name for c in table.opt_out_columns] == [column, "modifiedon", "versionnumber"]
    assert column in [c.name for c in table.columns]


@pytest.mark.parametrize("kind", ["text", "choice", "integer", "decimal", "datetime", "reference"])
def test_column_of_another_type_is_refused(kind: SourceType) -> None:
    """R16, R95."""
    assert refusal(contacts(donotemail=kind), profiles()) == [
        f"opt-out pair: 'donotemail' is {kind}; an opt-out is a yes/no column. Pair another."
    ]


def test_column_that_is_not_there_is_refused() -> None:
    assert refusal(contacts(), profiles()) == [
        "opt-out pair: Dynamics table 'contact' has no readable column 'donotemail'."
    ]


def test_opt_out_that_this_instance_does_not_have_is_refused() -> None:
    assert refusal(contacts(donotemail="boolean"), target_resource()) == [
        "opt-out pair: Campaign resource 'profile' has no field 'blackListEmail'. Check the name, and for a cus field "
        "that the Profiles & Services Ext API is published."
    ]


@pytest.mark.parametrize(
    "field",
    [ResourceField("blackListEmail", "boolean", read_only=True), ResourceField("blackListEmail", "string")],
    ids=["read-only", "text"],
)
def test_opt_out_that_can_not_be_written_is_refused(field: ResourceField) -> None:
    assert refusal(contacts(donotemail="boolean"), profiles(field)) == [
        "opt-out pair: Campaign field 'blackListEmail' is no opt-out that may be written. Remove the pair."
    ]


@pytest.mark.parametrize("missing", ["modifiedon", "versionnumber"])
def test_table_without_time_or_version_can_not_be_kept_in_step(missing: str) -> None:
    """Both are what a decision goes by."""
    table = contacts(donotemail="boolean")
    without = replace(table, columns={name: c for name, c in table.columns.items() if name != missing})

    assert refusal(without, profiles()) == [
        f"opt-outs are decided by '{missing}'. Dynamics table 'contact' has no readable column '{missing}'."
    ]


def test_all_faults_of_pairs_are_told_at_once() -> None:
    kept = replace(KEPT, pairs=[OptOutPair(**EMAIL), OptOutPair(**FAX)])

    assert len(refusal(contacts(donotemail="text"), profiles(), kept)) == 3, "a type, a column and a field"


def test_opt_out_without_a_time_in_this_instance_is_taken() -> None:
    """Some instances tell no time of some; FALSE never wins there."""
    table = bound(contacts(donotemail="boolean"), profiles(ResourceField("blackListEmail", "boolean")))

    assert table.opt_outs is not None
    assert table.opt_outs.stamps == {"blackListEmail": []}
    assert list(table.opt_outs.attributes) == ["blackListEmail", "lastModified"]


def test_mapped_opt_out_of_dynamics_to_campaign_is_no_ordinary_field() -> None:
    """It is written by the decision alone."""
    kept = OptOuts(OptOutDirection.DYNAMICS_TO_CAMPAIGN, [OptOutPair(**EMAIL)])
    configured = mapping(("firstname", "firstName"), ("donotemail", "denyListEmail"))

    table = bind(configured, contacts(donotemail="boolean"), profiles(), opt_outs=kept)

    assert [f.target.name for f in table.fields] == ["firstName"]
    assert table.opt_outs is not None


@pytest.mark.parametrize("kind", ["text", "integer"])
def test_opt_out_mapped_to_a_column_of_another_type_is_refused_in_any_direction(kind: SourceType) -> None:
    """R16, A4: `1` and `"true"` would be taken for a yes."""
    configured = mapping(("firstname", "firstName"), ("donotemail", "blackListEmail"))

    with pytest.raises(ConfigurationError, match=r"'blackListEmail' is an opt-out, and 'donotemail' \(\w+\) is no yes"):
        bind(configured, contacts(donotemail=kind), profiles())


def test_whatever_could_make_a_decision_differ_changes_the_fingerprint() -> None:
    """After such a change everybody is compared anew."""
    columns, target = contacts(donotemail="boolean", donotfax="boolean"), profiles()
    variants = [
        KEPT,
        replace(KEPT, direction=OptOutDirection.CAMPAIGN_TO_DYNAMICS),
        replace(KEPT, pairs=[OptOutPair(**EMAIL, invert=True)]),
        replace(KEPT, pairs=[OptOutPair(source="donotfax", target="blackListEmail")]),
    ]
    bounds = [bound(columns, target, kept).opt_outs for kept in variants]
    bounds.append(bound(columns, profiles(ResourceField("blackListEmail", "boolean"))).opt_outs)

    assert len({kept.fingerprint() for kept in bounds if kept}) == len(variants) + 1
