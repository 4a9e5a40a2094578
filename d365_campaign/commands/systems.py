"""Both systems and the SFTP area, as commands reach them: with the settings of a run, and a person's patience."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from d365_campaign.clients.campaign import CampaignClient
from d365_campaign.clients.dataverse import DataverseClient
from d365_campaign.clients.sftp import SftpArea, SftpLogin
from d365_campaign.clients.throttle import RetryPolicy, ThrottleGate
from d365_campaign.clients.tokens import ClientCredentials, TokenSource
from d365_campaign.clients.wire import WireSettings
from d365_campaign.errors import ConfigurationError
from d365_campaign.settings import CampaignSettings, DynamicsSettings, EnvironmentReference, Settings, Value

# A person waits for an answer, so a system that doesn't give one is given up sooner than in a run.
PATIENCE = RetryPolicy(attempts=2, max_wait_seconds=5, longest_wait_seconds=2)
CONNECT_SECONDS, READ_SECONDS, TOTAL_SECONDS = 5.0, 20.0, 60.0
CONNECTIONS = 8


def dynamics(settings: Settings, patience: RetryPolicy | None = None) -> DataverseClient:
    """Dynamics, as patient as a run unless *patience* says otherwise; close it."""
    system = settings.dynamics
    url, credentials, wire = _connection(settings, system, scope=None)
    return DataverseClient(
        url, TokenSource("Dynamics", credentials, wire), retry=patience or _as_in_a_run(system), wire=wire
    )


def campaign(settings: Settings, patience: RetryPolicy | None = None) -> CampaignClient:
    """Campaign, likewise; close it."""
    system = settings.campaign
    url, credentials, wire = _connection(settings, system, scope=system.scope)
    tokens, gate = TokenSource("Campaign", credentials, wire), ThrottleGate(system.max_requests_per_second)
    retry = patience or _as_in_a_run(system)
    return CampaignClient(url, credentials.client_id, tokens, gate=gate, retry=retry, wire=wire)


@dataclass(frozen=True, slots=True)
class SftpStorage:
    """The SFTP area before it is connected to; fits `flows.preflight_opt_outs.Storage`."""

    login: SftpLogin

    @property
    def command(self) -> str:
        """What a person types to log in; the key stays out of it."""
        return f"sftp -P {self.login.port} -i PRIVATE_KEY_FILE {self.login.user}@{self.login.host}"

    def connect(self) -> SftpArea:
        return SftpArea(self.login)


def sftp(settings: Settings) -> SftpStorage:
    """The SFTP area. Raises ConfigurationError where it isn't configured, or a variable is missing."""
    chosen = settings.sftp
    if chosen is None:
        raise ConfigurationError("there is no SFTP area in the settings. Add the section sftp.")
    port = str(chosen.port) if isinstance(chosen.port, int) else chosen.port
    optional = [value for value in (chosen.passphrase, chosen.host_key) if value is not None]
    host, number, user, key, *rest = _from_environment(
        (chosen.host, port, chosen.user, chosen.private_key, *optional), settings.environment_file
    )
    if not number.isdigit():
        raise ConfigurationError("sftp.port is no port number. Correct it, or its environment variable.")
    return SftpStorage(
        SftpLogin(
            host,
            user,
            key,
            port=int(number),
            passphrase=rest.pop(0) if chosen.passphrase else None,
            host_key=rest.pop(0) if chosen.host_key else None,
            known_hosts=chosen.known_hosts,
            connect_timeout_seconds=min(CONNECT_SECONDS, chosen.connect_timeout_seconds),
            read_timeout_seconds=min(READ_SECONDS, chosen.read_timeout_seconds),
        )
    )


def _as_in_a_run(system: DynamicsSettings | CampaignSettings) -> RetryPolicy:
    return RetryPolicy(system.attempts, system.max_wait_seconds)


def _connection(
    settings: Settings, system: DynamicsSettings | CampaignSettings, *, scope: str | None
) -> tuple[str, ClientCredentials, WireSettings]:
    """Address, credentials and trust; without a *scope* it is the address's own, as Entra ID wants it."""
    values = (system.url, system.token_url, system.client_id, system.client_secret, settings.ca_bundle or "")
    url, token_url, client_id, client_secret, ca_bundle = _from_environment(values, settings.environment_file)
    wire = WireSettings(
        connect_timeout_seconds=CONNECT_SECONDS,
        read_timeout_seconds=min(READ_SECONDS, system.read_timeout_seconds),
        total_timeout_seconds=min(TOTAL_SECONDS, system.total_timeout_seconds),
        ca_bundle=Path(ca_bundle) if ca_bundle else None,
        proxy=settings.proxy,
        workers=CONNECTIONS,
    )
    scope = f"{url.rstrip('/')}/.default" if scope is None else scope
    return url, ClientCredentials(token_url, client_id, client_secret, scope), wire


def _from_environment(values: Sequence[Value], file: Path | None) -> Sequence[str]:
    """The values with those of environment variables. Raises ConfigurationError that names each one missing."""
    missing = [
        value.env for value in values if isinstance(value, EnvironmentReference) and not os.environ.get(value.env)
    ]
    if missing:
        variables, them = ("variables", "them") if len(missing) > 1 else ("variable", "it")
        are = "are" if len(missing) > 1 else "is"
        absent = "" if file is None or file.exists() else " (there is no such file)"
        into_file = f", or write {them} into {file.resolve()}{absent}" if file else ""
        raise ConfigurationError(f"environment {variables} {', '.join(missing)} {are} not set. Set {them}{into_file}.")
    return [value if isinstance(value, str) else os.environ[value.env] for value in values]
