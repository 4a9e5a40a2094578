"""Webhooks and e-mails against real local servers: what arrives, what is verified, and what a fault tells."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from d365_campaign.alerts import Alert, Level, Message, Subject
from d365_campaign.clients.alerts import notifier
from d365_campaign.errors import ConfigurationError, RetriableError
from d365_campaign.settings import AlertSettings
from tests.alert_servers import PASSWORD, USER, Authority, Hook, MailServer, free_port, mail_server, webhook

TOKEN = "Bearer s3cret-token"
MESSAGE = Message(
    Alert(
        subject=Subject(kind="run", name="sync"),
        level=Level.ERROR,
        before=Level.FINE,
        since=0.0,
        at=60.0,
        words="campaign__profile: Campaign answered 403.",
        run_id="r1",
    ),
    "stage",
)


@pytest.fixture
def hook(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    with webhook(authority) as served:
        monkeypatch.setenv("HOOK_URL", served.url)
        monkeypatch.setenv("HOOK_TOKEN", TOKEN)
        yield served


def tell(**settings: Any) -> None:
    """Send the message to a hook with these settings."""
    [chosen] = AlertSettings.model_validate({"hooks": [{"name": "team", **settings}]}).hooks
    notifier(chosen).send(MESSAGE)


def to_webhook(authority: Authority, **settings: Any) -> None:
    header = {"name": "Authorization", "value": {"env": "HOOK_TOKEN"}}
    given = {"url": {"env": "HOOK_URL"}, "header": header, "ca_bundle": str(authority.bundle), **settings}
    tell(kind="webhook", **given)


def to_mail(authority: Authority, port: object, **settings: Any) -> None:
    given: dict[str, Any] = {
        "host": "localhost",
        "port": port,
        "user": USER,
        "password": {"env": "MAIL_PASSWORD"},
        "sender": "alerts@example.com",
        "recipients": ["one@example.com", "two@example.com"],
        "ca_bundle": str(authority.bundle),
    }
    tell(kind="email", **(given | settings))


# --- webhook ----------------------------------------------------------------------------------------------------------


def test_webhook_gets_the_payload_and_the_header(authority: Authority, hook: Hook) -> None:
    to_webhook(authority)
    assert hook.got == [MESSAGE.payload()]
    assert hook.headers[0]["Authorization"] == TOKEN
    assert hook.headers[0]["Content-Type"] == "application/json"


def test_a_redirect_is_not_followed_so_the_secret_goes_nowhere_else(authority: Authority, hook: Hook) -> None:
    with webhook(authority) as other:
        hook.status, hook.location = 307, other.url
        with pytest.raises(ConfigurationError, match="localhost answered 307"):
            to_webhook(authority)
        assert (other.got, other.headers) == ([], [])


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, ConfigurationError),
        (403, ConfigurationError),
        (404, ConfigurationError),
        (408, RetriableError),
        (429, RetriableError),
        (500, RetriableError),
        (503, RetriableError),
    ],
)
def test_an_answer_that_takes_nothing_is_told_without_address_or_secret(
    authority: Authority, hook: Hook, status: int, error: type[Exception]
) -> None:
    hook.status = status
    with pytest.raises(error, match=f"alert hook 'team': localhost answered {status}") as raised:
        to_webhook(authority)
    assert "secret" not in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_a_webhook_whose_certificate_nobody_vouches_for_is_sent_nothing(authority: Authority, hook: Hook) -> None:
    with pytest.raises(ConfigurationError, match="certificate of localhost can't be verified"):
        to_webhook(authority, ca_bundle=None)
    assert hook.headers == []


def test_a_webhook_that_is_not_there_may_be_there_later(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_TOKEN", TOKEN)
    with pytest.raises(RetriableError, match=r"localhost can't be reached \(connection refused\)"):
        to_webhook(authority, url=f"https://localhost:{free_port()}/secret-path")


@pytest.mark.parametrize("url", ["http://hooks.example.com/secret", "hooks.example.com", "https://", "https://[::1"])
def test_an_address_that_is_not_https_is_refused(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", TOKEN)
    with pytest.raises(ConfigurationError, match="url must be an address that starts with https://") as raised:
        to_webhook(authority, url=url)
    assert "secret" not in str(raised.value)


def test_a_header_that_can_not_be_sent_is_told_without_its_value(
    authority: Authority, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", "s3cret\nX-Other: injected")
    with pytest.raises(ConfigurationError, match="its url or header can't be sent") as raised:
        to_webhook(authority)
    assert "s3cret" not in str(raised.value)
    assert hook.headers == []


def test_a_variable_that_is_not_set_is_named(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK_TOKEN", raising=False)
    with pytest.raises(ConfigurationError, match="HOOK_TOKEN is not set"):
        to_webhook(authority, url="https://localhost:1")


# --- e-mail -----------------------------------------------------------------------------------------------------------


def test_mail_goes_to_every_recipient_over_starttls_with_the_login(authority: Authority, mail: MailServer) -> None:
    to_mail(authority, mail.port)
    [got] = mail.mails
    assert mail.recipients == [["one@example.com", "two@example.com"]]
    assert (got["Subject"], got["From"]) == ("stage, error: runs of sync fail", "alerts@example.com")
    assert got["Message-ID"] == f"<{MESSAGE.alert.id}@example.com>"
    assert "Campaign answered 403." in str(got.get_payload())


def test_mail_goes_over_tls_from_the_first_byte(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", PASSWORD)
    with mail_server(authority, tls=True) as served:
        to_mail(authority, served.port, security="tls")
        assert len(served.mails) == 1


def test_port_may_stand_in_the_environment(
    authority: Authority, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_PORT", str(mail.port))
    to_mail(authority, {"env": "MAIL_PORT"})
    assert len(mail.mails) == 1
    monkeypatch.setenv("MAIL_PORT", "submission")
    with pytest.raises(ConfigurationError, match="port is no port number"):
        to_mail(authority, {"env": "MAIL_PORT"})


def test_a_mail_server_whose_certificate_nobody_vouches_for_learns_no_password(
    authority: Authority, mail: MailServer
) -> None:
    with pytest.raises(ConfigurationError, match="certificate of localhost can't be verified"):
        to_mail(authority, mail.port, ca_bundle=None)
    assert mail.mails == []


def test_a_server_without_starttls_is_told_nothing(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", PASSWORD)
    with mail_server(authority, starttls=False) as served:
        with pytest.raises(ConfigurationError, match="offers no STARTTLS"):
            to_mail(authority, served.port)
        assert served.mails == []


def test_a_wrong_password_is_told_without_it(
    authority: Authority, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", "s3cret-but-wrong")
    with pytest.raises(ConfigurationError, match="Check user and password") as raised:
        to_mail(authority, mail.port)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (["two@example.com"], "refused 1 of 2 recipients"),
        (["one@example.com", "two@example.com"], "refused every recipient"),
    ],
)
def test_refused_recipients_are_counted_and_not_named(
    authority: Authority, mail: MailServer, refused: list[str], told: str
) -> None:
    mail.refused = frozenset(refused)
    with pytest.raises(ConfigurationError, match=told) as raised:
        to_mail(authority, mail.port)
    assert "example.com" not in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "error"), [("451 try later", RetriableError), ("554 spam from ada@example.com", ConfigurationError)]
)
def test_a_mail_that_is_turned_down_is_told_by_its_code(
    authority: Authority, mail: MailServer, answer: str, error: type[Exception]
) -> None:
    mail.answer = answer
    with pytest.raises(error, match=f"localhost answered {answer[:3]}") as raised:
        to_mail(authority, mail.port)
    assert "example.com" not in str(raised.value)


def test_a_mail_server_that_is_not_there_may_be_there_later(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", PASSWORD)
    with pytest.raises(RetriableError, match="can't be reached"):
        to_mail(authority, free_port())


def test_a_missing_ca_bundle_is_named(authority: Authority, mail: MailServer, hook: Hook, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere.pem")
    with pytest.raises(ConfigurationError, match="there is no file"):
        to_mail(authority, mail.port, ca_bundle=nowhere)
    with pytest.raises(ConfigurationError, match="there is no file"):
        to_webhook(authority, ca_bundle=nowhere)
