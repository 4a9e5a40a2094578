"""Configuration: YAML files into frozen models. Every error names the file, the place in it and the remedy.

Secrets never stand in a file; they are references to environment variables: `client_secret: {env: D365_CLIENT_SECRET}`.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from d365_campaign.errors import ConfigurationError
from d365_campaign.mapping import TableMapping


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EnvironmentReference(_Section):
    """The value stands in this environment variable."""

    env: str = Field(min_length=1, description="Name of the environment variable that holds the value.")


Value = str | EnvironmentReference


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


class EngineCallSettings(_Section):
    """What Campaign may be asked to do. No new work is started that would go over a budget."""

    daily_budget: int | None = Field(default=None, ge=0, description="Engine calls per UTC day.")
    monthly_budget: int | None = Field(default=None, ge=0, description="Engine calls per calendar month.")
    warn_at: float = Field(default=0.8, gt=0, le=1, description="Share of a budget from which a warning is shown.")


class GuardrailSettings(_Section):
    """What a run does not do without a person's word."""

    max_delete_share: float = Field(
        default=0.2, ge=0, le=1, description="Largest share of the known Campaign records that one plan may delete."
    )
    min_deletes: int = Field(default=100, ge=0, description="Up to this many deletes pass whatever their share.")


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


class Configuration(_Section):
    """Settings with their table mappings. Relative paths in *settings* are resolved against the settings file."""

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
    settings = _read(path, Settings, faults)
    if settings is None:
        raise _refusal(faults)
    settings = _resolved(settings, path.parent)
    tables = [table for file in _table_files(settings.tables, faults) if (table := _read(file, TableMapping, faults))]
    faults += _mapped_more_than_once(tables)
    if faults:
        raise _refusal(faults)
    return Configuration(settings=settings, tables=tables)


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


Model = TypeVar("Model", bound=BaseModel)


def _read(path: Path, model: type[Model], faults: list[str]) -> Model | None:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return model.model_validate(content)
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
    except ValidationError as error:
        faults.extend(_described(path, fault) for fault in error.errors(include_url=False, include_input=False))
    return None


# What a person does about a fault that pydantic finds; anything else has its remedy in the message itself.
_REMEDIES = {
    "extra_forbidden": "unknown key. Remove it, or correct its spelling.",
    "missing": "is missing. Add it.",
    "too_short": "is empty. Add one at least.",
    "model_type": "must be a group of keys.",
    "model_attributes_type": "must be a group of keys.",
    "string_pattern_mismatch": "is not a name that either system could have. Correct it.",
}


def _described(path: Path, fault: Mapping[str, Any]) -> str:
    at = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"]).lstrip(".")
    if at.endswith(("client_secret", "client_secret.EnvironmentReference")):
        return f"{path}, {at}: a secret is given by environment variable only: {{env: NAME}}."
    remedy = _REMEDIES.get(fault["type"], str(fault["msg"]).removeprefix("Value error, "))
    return f"{path}, {at}: {remedy}" if at else f"{path}: {remedy}"


def _table_files(folder: Path, faults: list[str]) -> list[Path]:
    files = sorted(folder.glob("*.yaml"))
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
