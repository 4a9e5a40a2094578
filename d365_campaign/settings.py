"""Settings of one integration, as a person writes them. `config.load` reads and checks them.

Secrets never stand in a file; they are references to environment variables: `client_secret: {env: D365_CLIENT_SECRET}`.
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WrapValidator, model_validator

from d365_campaign.alerts import Level
from d365_campaign.blackout import BlackoutWindows
from d365_campaign.guardrails import GuardrailSettings
from d365_campaign.opt_out import OptOutDirection, OptOutPair
from d365_campaign.opt_out_files import ExportSettings
from d365_campaign.quality import CheckSettings

# Counts up when what a person accepts changes.
PRIVACY_TEXT = 1


class Section(BaseModel):
    """A group of keys: frozen, and no others are taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EnvironmentReference(Section):
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


class _System(Section):
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
    poll_seconds: float = Field(
        default=5,
        ge=5,
        description="How often each table is asked for changes; one that a webhook tells of is asked at once. The "
        "sensor looks every 5 s.",
    )


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


class StagingSettings(Section):
    """The DuckDB file that holds snapshot, mirror and change set."""

    path: Path = Field(description="Path of the staging file, relative to this file.")


class RunSettings(Section):
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


class EngineCallSettings(Section):
    """What Campaign may be asked to do. No new work is started that would go over a budget."""

    daily_budget: int | None = Field(default=None, ge=0, description="Engine calls per UTC day.")
    monthly_budget: int | None = Field(default=None, ge=0, description="Engine calls per calendar month.")
    other_calls: int = Field(
        default=0, ge=0, description="Engine calls a month by others (landing pages, APIs); they count as spent."
    )
    warn_at: float = Field(default=0.8, gt=0, le=1, description="Share of a budget from which a warning is shown.")


class Acknowledgement(Section):
    """Who accepted a text, and when."""

    by: str = Field(min_length=1, description="Name of the person.")
    on: date = Field(description="Day, as YYYY-MM-DD.")
    text: int = Field(description="Version of the text that was accepted; docs/privacy.md tells it.")


class PrivacySettings(Section):
    """What a person accepted before anything runs."""

    acknowledged: Acknowledgement | None = Field(
        default=None,
        description="Privacy requests are made in both systems by you, by the procedure of docs/privacy.md; this "
        "project makes none.",
    )


def _number_or_reference(value: object, _: object) -> int | EnvironmentReference:
    if isinstance(value, dict | EnvironmentReference):
        return EnvironmentReference.model_validate(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536:
        return value
    raise ValueError("must be a port number, or {env: NAME}.")


class SftpSettings(Section):
    """The SFTP area of the Campaign instance. Its host key is pinned, by fingerprint or by a known_hosts file."""

    host: Value = Field(description="<instance>.campaign.adobe.com")
    port: Annotated[int | EnvironmentReference, WrapValidator(_number_or_reference)] = Field(
        default=22, description="Port of the SFTP server."
    )
    user: Value = Field(description="User name, from Control Panel.")
    private_key: EnvironmentReference = Field(
        description="Environment variable with the private key, or with the path of the file that holds it."
    )
    passphrase: EnvironmentReference | None = Field(default=None, description="Passphrase of the private key.")
    host_key: Value | None = Field(default=None, description="The server's key as SHA256:..., by ssh-keygen -lf.")
    known_hosts: Path | None = Field(default=None, description="A known_hosts file that has the server's key instead.")
    connect_timeout_seconds: float = Field(default=10, gt=0, description="Longest time to connect and to log in.")
    read_timeout_seconds: float = Field(default=60, gt=0, description="Longest silence of the server.")
    quota_gigabytes: float | None = Field(
        default=None,
        gt=0,
        description="Licensed capacity (GB of 10^9 bytes); a warning comes at 80 %, an error at 90 %.",
    )
    output_logs: bool = Field(
        default=False, description="Write what each run did to a log file there: keys, field names and results."
    )
    logs_folder: str = Field(default="d365_loads/logs", description="Where those log files go.")

    @model_validator(mode="after")
    def _host_key_is_pinned(self) -> "SftpSettings":
        if (self.host_key is None) == (self.known_hosts is None):
            raise ValueError("the server's key is pinned by host_key or by known_hosts. Give one of the two.")
        return self


class GlobalOptOut(Section):
    """Who accepted that the global opt-out stops every message, order confirmations included."""

    by: str = Field(min_length=1, description="Name of the person.")
    on: date = Field(description="Day, as YYYY-MM-DD.")


class OptOutSettings(Section):
    """How opt-outs of contacts and profiles are kept in step; docs/opt-outs.md tells what each direction means."""

    direction: OptOutDirection = Field(
        default=OptOutDirection.DISABLED, description="Which system is the source of truth for opt-outs."
    )
    pairs: Sequence[OptOutPair] = Field(
        default=(),
        description="Which column says the same as which Campaign opt-out; for dynamics_to_campaign they are mapped in "
        "the fields of contact instead.",
    )
    global_opt_out_accepted: GlobalOptOut | None = Field(
        default=None,
        description="Typology rules were reviewed, and blackList is meant to stop transactional messages too.",
    )
    global_stamps: Sequence[Literal["blackListLastModified", "blackListAllLastModified"]] = Field(
        default=("blackListLastModified", "blackListAllLastModified"),
        min_length=1,
        description="Which attributes tell when blackList changed; the first that does counts.",
    )
    workflow: str | None = Field(
        default=None, min_length=1, description="Id of the Campaign workflow that exports opt-outs, set up on request."
    )
    exports: ExportSettings = ExportSettings()


class _Hook(Section):
    """What holds for every hook."""

    name: str = Field(min_length=1, description="What messages call it; each hook has another.")
    minimum: Literal[Level.WARNING, Level.ERROR] = Field(
        default=Level.WARNING, description="What it is told of: warning (errors too), or error."
    )
    ca_bundle: Path | None = Field(
        default=None, description="Certificate authorities to trust instead of the public ones; a file."
    )


class SecretHeader(Section):
    """A header that lets a webhook know us."""

    name: str = Field(pattern=r"^[A-Za-z0-9-]+$", description="Its name, e.g. Authorization.")
    value: EnvironmentReference = Field(description="Environment variable with its value.")


class WebhookSettings(_Hook):
    """An address that is sent small JSON; its `text` is what Slack, Teams and the like show."""

    kind: Literal["webhook"] = Field(description="webhook: an address on the web.")
    url: Value = Field(description="Where to, over https; {env: NAME} where the address itself is the secret.")
    header: SecretHeader | None = Field(default=None, description="A header that goes along.")


class EmailSettings(_Hook):
    """Recipients of an e-mail, by way of an SMTP server."""

    kind: Literal["email"] = Field(description="email: recipients by way of an SMTP server.")
    host: Value = Field(description="SMTP server.")
    port: Annotated[int | EnvironmentReference, WrapValidator(_number_or_reference)] = Field(
        default=587, description="Its port; 465 with security tls."
    )
    security: Literal["starttls", "tls"] = Field(
        default="starttls", description="How it is encrypted: STARTTLS, or TLS from the first byte. It always is."
    )
    user: Value | None = Field(default=None, description="User name, where the server wants one.")
    password: EnvironmentReference | None = Field(default=None, description="Environment variable with the password.")
    sender: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", description="Address that it comes from.")
    recipients: Sequence[Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]] = Field(
        min_length=1, description="Addresses that it goes to."
    )

    @model_validator(mode="after")
    def _user_has_a_password(self) -> "EmailSettings":
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password go together. Give both, or neither.")
        return self


Hook = Annotated[WebhookSettings | EmailSettings, Field(discriminator="kind")]


class AlertSettings(Section):
    """Who is told when runs fail or a check does, and when it is over; each change once."""

    hooks: Sequence[Hook] = Field(default=(), description="Webhooks and e-mails; without one, nobody is told.")
    dagster_url: str | None = Field(
        default=None, pattern=r"^https?://", description="Address of Dagster's UI, for links in what is sent."
    )

    @model_validator(mode="after")
    def _names_differ(self) -> "AlertSettings":
        names = [hook.name for hook in self.hooks]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two hooks are called '{name}'. Give each a name of its own.")
        return self


Owner = Annotated[str, StringConstraints(pattern=r"^(team:[A-Za-z0-9_-]+|[^@\s]+@[^@\s]+\.[^@\s]+)$")]


class WebhookReceiverSettings(Section):
    """Where Dataverse's webhook posts are taken (`d365-campaign webhook`), and the key by which they are known."""

    key: EnvironmentReference = Field(
        description="Environment variable with the shared key, which is registered with the webhook in Dynamics."
    )
    sent_in: Literal["header", "query"] = Field(
        default="header",
        description="Where posts carry it: header is HttpHeader in Dynamics; query is WebhookKey (with name: code) or "
        "HttpQueryString, and such a key may stand in a proxy's log.",
    )
    name: str = Field(
        default="x-webhook-key",
        pattern=r"^[A-Za-z0-9_-]+$",
        description="Name of the header, or of the parameter of the address.",
    )
    max_kilobytes: int = Field(
        default=256, ge=1, le=4096, description="Longest post that is read; Dataverse sends 256 KB at most."
    )
    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=8446, ge=1, le=65535, description="Port to listen on.")


class Settings(Section):
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
    owners: Sequence[Owner] = Field(
        default=("team:crm",), description="Who answers for it, as Dagster shows it: team:NAME, or an e-mail address."
    )
    dynamics: DynamicsSettings
    campaign: CampaignSettings
    staging: StagingSettings
    run: RunSettings = RunSettings()
    engine_calls: EngineCallSettings = EngineCallSettings()
    guardrails: GuardrailSettings = GuardrailSettings()
    checks: CheckSettings = CheckSettings()
    privacy: PrivacySettings = PrivacySettings()
    opt_outs: OptOutSettings = OptOutSettings()
    sftp: SftpSettings | None = Field(
        default=None, description="SFTP area of the Campaign instance, for daily opt-out files and output logs."
    )
    webhook: WebhookReceiverSettings | None = Field(
        default=None, description="The receiver of Dataverse's webhook posts, which make changes seen sooner."
    )
    alerts: AlertSettings = AlertSettings()
