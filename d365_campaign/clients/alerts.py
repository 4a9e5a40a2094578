"""The hooks that alerts go to: a webhook, and an e-mail by SMTP.

What goes wrong is an error of ours that names the host and what to do; addresses, which may be secrets themselves, and
what a server says are kept out of it.
"""

import os
import smtplib
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import requests

from d365_campaign.alerts import Message
from d365_campaign.clients.wire import WIRE_ERRORS, WireSettings, prepare_session, wire_fault
from d365_campaign.errors import ConfigurationError, RetriableError, SyncError
from d365_campaign.settings import EmailSettings, EnvironmentReference, Hook, Value, WebhookSettings

CONNECT_SECONDS, READ_SECONDS, TOTAL_SECONDS = 5.0, 10.0, 15.0
# What a server that refuses this request refuses tomorrow, too.
LASTING = range(300, 500)
TRY_AGAIN = frozenset({408, 425, 429})


class Notifier(Protocol):
    """A hook that can be told."""

    def send(self, message: Message) -> None:
        """Return once it was taken. Raises ConfigurationError, or RetriableError when it may be taken later."""


def notifier(hook: Hook, proxy: str | None = None) -> Notifier:
    """The hook of these settings, with what the environment says by now. Raises ConfigurationError."""
    return _webhook(hook, proxy) if isinstance(hook, WebhookSettings) else _email(hook)


def _webhook(hook: WebhookSettings, proxy: str | None) -> "Webhook":
    header = {hook.header.name: _held(hook, hook.header.value)} if hook.header else {}
    return Webhook(hook.name, _held(hook, hook.url), header, hook.ca_bundle, proxy)


def _email(hook: EmailSettings) -> "Email":
    port = str(hook.port) if isinstance(hook.port, int) else _held(hook, hook.port)
    if not port.isdigit():
        raise ConfigurationError(f"alert hook '{hook.name}': port is no port number. Correct it, or its variable.")
    login = (_held(hook, hook.user), _held(hook, hook.password)) if hook.user and hook.password else None
    return Email(hook, _held(hook, hook.host), int(port), login)


def _held(hook: Hook, value: Value | EnvironmentReference) -> str:
    if isinstance(value, str):
        return value
    if not (held := os.environ.get(value.env)):
        raise ConfigurationError(
            f"alert hook '{hook.name}': environment variable {value.env} is not set. Set it, or remove the hook."
        )
    return held


class Webhook:
    """Sends the message as JSON. No redirect is followed: nothing goes to another address than the one given."""

    def __init__(
        self, name: str, url: str, header: Mapping[str, str], ca_bundle: Path | None = None, proxy: str | None = None
    ) -> None:
        self._doing, self._url, self._header = f"alert hook '{name}'", url.strip(), header
        try:
            parts = urlsplit(self._url)
            self._host = parts.hostname or ""
        except ValueError:
            parts, self._host = None, ""
        if parts is None or parts.scheme != "https" or not self._host:
            raise ConfigurationError(f"{self._doing}: url must be an address that starts with https://.")
        self._wire = WireSettings(
            connect_timeout_seconds=CONNECT_SECONDS,
            read_timeout_seconds=READ_SECONDS,
            total_timeout_seconds=TOTAL_SECONDS,
            ca_bundle=ca_bundle,
            proxy=proxy,
            workers=1,
        )

    def send(self, message: Message) -> None:
        """POST it; only an answer of 200 to 299 means that it was taken."""
        headers = {"Content-Type": "application/json", "User-Agent": "d365-campaign", **self._header}
        with requests.Session() as session:
            prepare_session(session, self._wire)
            try:
                answer = session.post(
                    self._url,
                    data=message.body(),
                    headers=headers,
                    timeout=self._wire.timeouts,
                    allow_redirects=False,
                )
            except ValueError:
                # Of `requests`, for a header or an address that can't be sent; its text holds the value.
                raise ConfigurationError(f"{self._doing}: its url or header can't be sent. Correct it.") from None
            except WIRE_ERRORS as error:
                raise wire_fault(error, self._host, self._doing, repeatable=True) from None
        if not 200 <= answer.status_code < 300:
            raise self._refused(answer.status_code)

    def _refused(self, status: int) -> SyncError:
        told = f"{self._doing}: {self._host} answered {status}"
        if status in LASTING and status not in TRY_AGAIN:
            return ConfigurationError(f"{told}. Check its url and header.")
        return RetriableError(f"{told}.")


class Email:
    """Sends the message as plain text to all recipients, once the server's certificate is verified."""

    def __init__(self, settings: EmailSettings, host: str, port: int, login: tuple[str, str] | None) -> None:
        self._settings, self._host, self._port, self._login = settings, host.strip(), port, login
        self._doing = f"alert hook '{settings.name}'"

    def send(self, message: Message) -> None:
        """Hand it over; a server that refuses one recipient of several is told of as well."""
        mail = self._mail(message)
        with self._faults(), self._connected() as server:
            self._log_in(server)
            refused = server.send_message(mail)
        if refused:
            raise ConfigurationError(
                f"{self._doing}: {self._host} refused {len(refused)} of {len(self._settings.recipients)} recipients. "
                "Correct their addresses."
            )

    def _log_in(self, server: smtplib.SMTP) -> None:
        if not self._login:
            return
        try:
            server.login(*self._login)
        except smtplib.SMTPServerDisconnected:
            # After a refusal smtplib tries the next way to log in, and some servers hang up on that.
            raise ConfigurationError(
                f"{self._doing}: {self._host} broke off at the login. Check user and password."
            ) from None

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        context = ssl.create_default_context(cafile=self._trusted())
        if self._settings.security == "tls":
            with smtplib.SMTP_SSL(self._host, self._port, timeout=CONNECT_SECONDS, context=context) as server:
                yield server
            return
        with smtplib.SMTP(self._host, self._port, timeout=CONNECT_SECONDS) as server:
            server.starttls(context=context)
            yield server

    def _trusted(self) -> str | None:
        file = self._settings.ca_bundle
        if file is not None and not file.exists():
            raise ConfigurationError(f"{self._doing}: there is no file {file}. Correct ca_bundle.")
        return str(file) if file else None

    def _mail(self, message: Message) -> EmailMessage:
        chosen, alert = self._settings, message.alert
        mail = EmailMessage()
        mail["Subject"] = message.headline
        mail["From"], mail["To"] = chosen.sender, ", ".join(chosen.recipients)
        mail["Date"] = format_datetime(datetime.fromtimestamp(alert.at, UTC))
        # The same however often it is sent, so that a mailbox can tell one that comes twice.
        mail["Message-ID"] = f"<{alert.id}@{chosen.sender.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content("\n\n".join(message.lines))
        return mail

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Errors of the mail server as ours; what it said stays out, for it may quote the login or an address."""
        try:
            yield
        except ssl.SSLCertVerificationError:
            raise ConfigurationError(
                f"{self._doing}: the certificate of {self._host} can't be verified. If it is signed by a certificate "
                "authority of your own, point the hook's ca_bundle to that authority's certificate."
            ) from None
        except smtplib.SMTPNotSupportedError:
            raise ConfigurationError(
                f"{self._doing}: {self._host} offers no STARTTLS, or no login. Check security, user and password."
            ) from None
        except smtplib.SMTPRecipientsRefused:
            raise ConfigurationError(
                f"{self._doing}: {self._host} refused every recipient. Correct their addresses."
            ) from None
        except smtplib.SMTPResponseException as error:
            raise self._answered(error.smtp_code) from None
        except (smtplib.SMTPException, OSError) as error:
            raise RetriableError(
                f"{self._doing}: {self._host}:{self._port} can't be reached, or broke off ({type(error).__name__})."
            ) from None

    def _answered(self, code: int) -> SyncError:
        """SMTP answers of 500 and more last; those of 400 to 499 may pass."""
        if code >= 500:
            return ConfigurationError(
                f"{self._doing}: {self._host} answered {code}. Check user and password, sender and recipients."
            )
        return RetriableError(f"{self._doing}: {self._host} answered {code}.")
