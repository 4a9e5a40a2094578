"""`alerts test`: every hook is tried, and what became of it is told."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from d365_campaign.cli import main
from d365_campaign.rehearsal import CONFIG_VARIABLE
from tests.alert_servers import USER, Authority, Hook, MailServer
from tests.checking import write_files
from tests.integration import Integration


@pytest.fixture
def hooks(authority: Authority, hook: Hook, mail: MailServer, tmp_path: Path) -> list[dict[str, Any]]:
    """One of each kind; the bundle stands beside the settings file, and its path is relative to it."""
    (tmp_path / "config").mkdir(exist_ok=True)
    (tmp_path / "config" / "hooks.pem").write_bytes(authority.bundle.read_bytes())
    login = {"user": USER, "password": {"env": "MAIL_PASSWORD"}}
    addresses = {"sender": "alerts@example.com", "recipients": ["team@example.com"]}
    return [
        {"kind": "webhook", "name": "team", "url": hook.url, "ca_bundle": "hooks.pem"},
        {
            "kind": "email",
            "name": "on call",
            "host": "localhost",
            "port": mail.port,
            **login,
            **addresses,
            "ca_bundle": "hooks.pem",
        },
    ]


def run(integration: Integration, *arguments: str) -> Result:
    file = write_files(integration)
    ended = CliRunner().invoke(main, ["alerts", "test", *arguments], env={CONFIG_VARIABLE: str(file)})
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return ended


def test_every_hook_gets_a_test_that_says_so(
    integration: Integration, hooks: list[dict[str, Any]], hook: Hook, mail: MailServer
) -> None:
    integration.set("alerts", hooks=hooks)
    ended = run(integration)
    assert (ended.exit_code, ended.stdout) == (0, "webhook 'team': took it\nemail 'on call': took it\n")
    assert "nothing is wrong" in hook.got[0]["text"]
    assert mail.mails[0]["Subject"] == "sandbox, warning: a test of hook on call"


def test_a_hook_that_fails_is_told_the_others_are_tried_and_it_ends_with_1(
    integration: Integration, hooks: list[dict[str, Any]], hook: Hook, mail: MailServer
) -> None:
    hook.status = 404
    integration.set("alerts", hooks=hooks)
    ended = run(integration, "--json")
    team, on_call = json.loads(ended.stdout)["hooks"]
    assert ended.exit_code == 1
    assert team["fault"] == "alert hook 'team': localhost answered 404. Check its url and header."
    assert on_call == {"name": "on call", "kind": "email", "delivered": True, "fault": None}
    assert len(mail.mails) == 1


def test_one_hook_can_be_tried_alone(
    integration: Integration, hooks: list[dict[str, Any]], hook: Hook, mail: MailServer
) -> None:
    integration.set("alerts", hooks=hooks)
    assert run(integration, "--hook", "on call").exit_code == 0
    assert (len(hook.got), len(mail.mails)) == (0, 1)
    wrong = run(integration, "--hook", "nobody")
    assert (wrong.exit_code, "there are: team, on call" in wrong.stderr) == (2, True)


def test_without_a_hook_it_says_where_to_add_one(integration: Integration) -> None:
    ended = run(integration)
    assert (ended.exit_code, "alerts.hooks" in ended.stderr) == (2, True)
