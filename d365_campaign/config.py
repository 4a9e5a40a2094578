"""Configuration: YAML files into frozen models. Every error names the file, the place in it and the remedy.

Secrets never stand in a file; they are references to environment variables: `client_secret: {env: D365_CLIENT_SECRET}`.
"""

import json
import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator

from d365_campaign import guardrails
from d365_campaign.blackout import BlackoutWindows
from d365_campaign.errors import ConfigurationError
from d365_campaign.guardrails import GuardrailSettings
from d365_campaign.mapping import TableMapping

# Counts up when what a person accepts changes.
PRIVACY_TEXT = 1


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EnvironmentReference(_Section):
    """The value stands in this environment variable."""

    env: str = Field(min_length=1, description="Name of the environment variable that holds the value.")


def _by_shape(value: object, _: object) -> str | EnvironmentReference:
    """The kind of value that is meant, so that a fault is told of that kind only."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict | EnvironmentReference):
        return EnvironmentReference.model_validate(value)
    raise ValueError("must be text, in quotes where it looks like a number, or {env: NAME}.")


Value = Annotated[str | EnvironmentReference, WrapValidator(_by_shape)]


class _System(_Section):
    """What holds for the connection to either system."""

    client_id: Value
    client_secret: EnvironmentReference = Field(description="Client secret, by environment variable.")
    read_timeout_seconds: float = Field(default=60, gt=0, description="Longest silence of the server.")
    total_timeout_seconds: float = Field(default=180, gt=0, description="Longest time for one whole answer.")
    attempts: int = Field(default=6, ge=1, description="How often one request is tried when it may be repeated.")
    max_wait_seconds: float = Field(
        default=120, ge=0, description="Longest sum of waits for one request; a server that asks for more ends the run."
    )


class DynamicsSettings(_System):
    """The Dynamics 365 environment and the Entra application that reads it."""

    url: Value = Field(description="Environment URL, e.g. https://contoso.api.crm4.dynamics.com")
    token_url: Value = Field(description="https://login.microsoftonline.com/<tenant>/oauth2/v2.0/token")
    client_id: Value = Field(description="Application (client) id of the Entra app registration.")
    page_size: int = Field(default=5000, ge=1, le=5000, description="Records per page; Dataverse serves at most 5,000.")


class CampaignSettings(_System):
    """The Campaign instance and the Adobe OAuth server-to-server credential that writes to it."""

    url: Value = Field(description="https://mc.adobe.io/<instance>")
    token_url: Value = Field(
        default="https://ims-na1.adobelogin.com/ims/token/v3", description="Adobe IMS token endpoint."
    )
    client_id: Value = Field(description="Client id (API key) of the OAuth server-to-server credential.")
    scope: str = Field(
        default="openid,AdobeID,campaign_sdk,additional_info.projectedProductContext,campaign_config_server_general,"
        "deliverability_service_general",
        description="Comma-separated scopes of the credential.",
    )
    workers: int = Field(default=8, ge=1, le=64, description="Requests under way at once.")
    max_requests_per_second: float | None = Field(default=None, gt=0, description="Upper bound on the request rate.")


class StagingSettings(_Section):
    """The DuckDB file that holds snapshot, mirror and change set."""

    path: Path = Field(description="Path of the staging file, relative to this file.")


class RunSettings(_Section):
    """How long one run goes on; what is left is taken up by the next one at once."""

    pull_seconds: float = Field(default=60, gt=0, description="Longest time a run reads one table.")
    write_seconds: float = Field(default=60, gt=0, description="Longest time a run writes one table.")
    retries: int = Field(default=2, ge=0, description="How often a step is tried again after an error that may pass.")
    retry_seconds: float = Field(default=5, ge=0, description="Wait before the first of them; it doubles.")
    start_automatically: bool = Field(
        default=False, description="Whether the sensor runs from the first start on; otherwise a person switches it on."
    )
    batch_size: int = Field(
        default=200,
        ge=2,
        le=5000,
        description="Changes claimed and not yet settled: what a killed run leaves in doubt.",
    )
    reject_attempts: int = Field(
        default=1, ge=1, description="How often a change that Campaign refuses is sent before it rests."
    )
    blackout_windows: BlackoutWindows = Field(
        default=(), description="When nothing is written to Campaign; changes are read all the same."
    )


class EngineCallSettings(_Section):
    """What Campaign may be asked to do. No new work is started that would go over a budget."""

    daily_budget: int | None = Field(default=None, ge=0, description="Engine calls per UTC day.")
    monthly_budget: int | None = Field(default=None, ge=0, description="Engine calls per calendar month.")
    other_calls: int = Field(
        default=0, ge=0, description="Engine calls a month by others (landing pages, APIs); they count as spent."
    )
    warn_at: float = Field(default=0.8, gt=0, le=1, description="Share of a budget from which a warning is shown.")


class Acknowledgement(_Section):
    """Who accepted a text, and when."""

    by: str = Field(min_length=1, description="Name of the person.")
    on: date = Field(description="Day, as YYYY-MM-DD.")
    text: int = Field(description="Version of the text that was accepted; docs/privacy.md tells it.")


class PrivacySettings(_Section):
    """What a person accepted before anything runs."""

    acknowledged: Acknowledgement | None = Field(
        default=None,
        description="Privacy requests are made in both systems by you, by the procedure of docs/privacy.md; this "
        "project makes none.",
    )


class Settings(_Section):
    """One integration: one Dynamics environment, one Campaign instance, one staging file."""

    environment: str = Field(description="Label shown with every result, e.g. sandbox, stage, production.")
    environment_file: Path | None = Field(
        default=None, description="File with NAME=value lines for variables that the environment doesn't set."
    )
    ca_bundle: Value | None = Field(
        default=None, description="Certificate authorities to trust instead of the public ones."
    )
    proxy: str | None = Field(default=None, description="HTTPS proxy; the environment's proxy settings are not used.")
    tables: Path = Field(default=Path("tables"), description="Folder of the table mappings, one YAML file each.")
    dynamics: DynamicsSettings
    campaign: CampaignSettings
    staging: StagingSettings
    run: RunSettings = RunSettings()
    engine_calls: EngineCallSettings = EngineCallSettings()
    guardrails: GuardrailSettings = GuardrailSettings()
    privacy: PrivacySettings = PrivacySettings()


class Configuration(_Section):
    """Settings with their table mappings, parents before children.

    Relative paths in *settings* are resolved against the settings file.
    """

    settings: Settings
    tables: Sequence[TableMapping]

    def table(self, name: str) -> TableMapping:
        """The mapping of Dynamics table *name*. Raises ConfigurationError with the names there are."""
        for table in self.tables:
            if table.name == name:
                return table
        raise ConfigurationError(
            f"there is no table mapping '{name}'; there are: {', '.join(t.name for t in self.tables)}"
        )


def load(path: Path) -> Configuration:
    """Read a settings file and the table mappings it names.

    Raises ConfigurationError that lists every fault of every file.
    """
    faults: list[str] = []
    content = _content(path, faults)
    settings = _validated(path, content, Settings, faults)
    folder = path.parent / (settings.tables if settings else _tables_named(content))
    files = _table_files(folder, faults) if content is not None else []
    read = [_validated(file, _content(file, faults), TableMapping, faults) for file in files]
    tables = [table for table in read if table]
    faults += _mapped_more_than_once(tables)
    if settings:
        faults += guardrails.faults(tables, settings.guardrails, complete=len(tables) == len(files))
        faults += _unaccepted(path, settings)
    if faults or settings is None:
        raise _refusal(faults)
    return Configuration(settings=_resolved(settings, path.parent), tables=guardrails.parents_first(tables))


def json_schema() -> dict[str, Any]:
    """JSON Schema of both kinds of file, for editors; `$defs` has `Settings` and `TableMapping`."""
    settings = Settings.model_json_schema(ref_template="#/$defs/{model}")
    table = TableMapping.model_json_schema(ref_template="#/$defs/{model}")
    shared = settings.pop("$defs", {}) | table.pop("$defs", {})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "d365_campaign configuration",
        "anyOf": [{"$ref": "#/$defs/Settings"}, {"$ref": "#/$defs/TableMapping"}],
        "$defs": shared | {"Settings": settings, "TableMapping": table},
    }


def render_json_schema() -> str:
    """The schema file's text, as it is committed."""
    return json.dumps(json_schema(), indent=2) + "\n"


# What a bare word is besides text: its tag, what it looks like, and with what it begins.
_WORDS = [
    ("null", r"^(~|null|)$", ["~", "n", ""]),
    ("bool", r"^(true|false)$", ["t", "f"]),
    ("number", r"^-?[0-9]{1,18}(\.[0-9]{1,18})?$", [*"-0123456789"]),
]
_TAG = "tag:yaml.org,2002:{0}"


class _Loader(yaml.SafeLoader):
    """YAML that reads text as it is written, and takes no key twice.

    Of its own accord it would read `No` as false, `on` as true, `22:00` as 1320, `1.10` as 1.1 and a day as something
    else than text, and of a key that stands twice it would take the last value in silence.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        content = super().construct_mapping(node, deep=deep)
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' stands twice", key_node.start_mark)
            seen.add(key)
        return content

    def construct_number(self, node: yaml.ScalarNode) -> int | float | str:
        """The number, where it would be written just like this."""
        number = float(node.value) if "." in node.value else int(node.value)
        return number if str(number) == node.value else str(node.value)


_Loader.yaml_implicit_resolvers = {
    first: [(_TAG.format(tag), re.compile(pattern))] for tag, pattern, begins in _WORDS for first in begins
}
_Loader.add_constructor(_TAG.format("number"), _Loader.construct_number)


def read_yaml(text: str) -> Any:
    """The content of a configuration file. Raises yaml.YAMLError."""
    return yaml.load(text, _Loader)


Model = TypeVar("Model", bound=BaseModel)


def _content(path: Path, faults: list[str]) -> Any:
    """What stands in the file; None where it can't be read."""
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
        return {} if content is None else content
    except FileNotFoundError:
        faults.append(f"{path}: there is no such file. Create it, or name another with --config.")
    except OSError as error:
        faults.append(f"{path}: can't be read ({type(error).__name__}). Name a file that this user may read.")
    except UnicodeDecodeError:
        faults.append(f"{path}: this is not a text file in UTF-8. Save it as one.")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark else ""
        faults.append(f"{path}{at}: this is not YAML ({getattr(error, 'problem', None) or 'unreadable'}).")
    return None


def _validated(path: Path, content: Any, model: type[Model], faults: list[str]) -> Model | None:
    if content is None:
        return None
    try:
        return model.model_validate(content)
    except ValidationError as error:
        faults.extend(_described(path, fault) for fault in error.errors(include_url=False, include_input=False))
    return None


# What a person does about a fault that pydantic finds; anything else has its remedy in the message itself.
_REMEDIES = {
    "extra_forbidden": "unknown key. Remove it, or correct its spelling.",
    "missing": "is missing. Add it.",
    "too_short": "is empty. Add one at least.",
    "string_too_short": "is empty. Fill it in.",
    "model_type": "must be a group of keys.",
    "model_attributes_type": "must be a group of keys.",
    "dict_type": "must be a group of keys.",
    "mapping_type": "must be a group of keys.",
    "sequence_str": "must be a list.",
    "is_instance_of": "must be a list.",
    "string_type": "must be text. Put it in quotes.",
    "bool_type": "must be true or false.",
    "bool_parsing": "must be true or false.",
    "int_type": "must be a whole number.",
    "int_parsing": "must be a whole number.",
    "int_from_float": "must be a whole number.",
    "float_type": "must be a number.",
    "float_parsing": "must be a number.",
    "path_type": "must be a path, as text.",
    "string_pattern_mismatch": "is not a name that either system could have. Correct it.",
}


def _described(path: Path, fault: Mapping[str, Any]) -> str:
    kind, place = fault["type"], [part for part in fault["loc"] if part != "[key]"]
    at = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    if at.endswith("client_secret"):
        return f"{path}, {at}: a secret is given by environment variable only: {{env: NAME}}."
    message = str(fault["msg"]).removeprefix("Value error, ").replace("Input should", "must", 1).removesuffix(".")
    remedy = "must be a day, as YYYY-MM-DD." if kind.startswith("date_") else _REMEDIES.get(kind, f"{message}.")
    return f"{path}, {at}: {remedy}" if at else f"{path}: {remedy}"


def _tables_named(content: Any) -> Path:
    """The folder of table mappings in settings that are at fault elsewhere."""
    named = content.get("tables", "") if isinstance(content, dict) else ""
    return Path(named if isinstance(named, str) and named else "tables")


def _table_files(folder: Path, faults: list[str]) -> list[Path]:
    files = sorted(file for file in folder.glob("*") if file.suffix in (".yaml", ".yml"))
    if not files:
        faults.append(f"{folder}: there is no table mapping. Add one, for instance contact.yaml.")
    return files


def _mapped_more_than_once(tables: Sequence[TableMapping]) -> list[str]:
    return [
        f"{side} '{name}' is mapped {count} times. A table can be mapped once on each side; keep one of these mappings."
        for side, names in (
            ("Dynamics table", [t.source for t in tables]),
            ("Campaign resource", [t.target for t in tables]),
        )
        for name, count in Counter(names).items()
        if count > 1
    ]


def _unaccepted(path: Path, settings: Settings) -> list[str]:
    accepted = settings.privacy.acknowledged
    if accepted is not None and accepted.text == PRIVACY_TEXT:
        return []
    return [
        f"{path}, privacy.acknowledged: nothing runs before someone accepted text {PRIVACY_TEXT}: privacy requests are "
        "made by you, in both systems, by the procedure of docs/privacy.md; this project makes none, and a delete by "
        f"it is none. Add: privacy: {{acknowledged: {{by: NAME, on: YYYY-MM-DD, text: {PRIVACY_TEXT}}}}}"
    ]


def _resolved(settings: Settings, folder: Path) -> Settings:
    environment_file = settings.environment_file and folder / settings.environment_file
    return settings.model_copy(
        update={
            "environment_file": environment_file,
            "tables": folder / settings.tables,
            "staging": StagingSettings(path=(folder / settings.staging.path).resolve()),
        }
    )


def _refusal(faults: Sequence[str]) -> ConfigurationError:
    return ConfigurationError("the configuration is refused:\n" + "\n".join(f"  - {fault}" for fault in faults))
