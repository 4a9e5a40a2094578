"""What `status`, `start` and `stop` say, and how they end."""

import json
import os
from pathlib import Path

import pytest

from assets import active
from d365_campaign import definitions
from d365_campaign.config import Configuration, load
from d365_campaign.rehearsal import CONFIG_VARIABLE
from d365_campaign.sandbox import Sandbox
from tests.agreement import profiles
from tests.builders import mapping
from tests.flowing import SECRET, Flowing
from tests.integration import Integration
from tests.mappings import contact_mapping


@pytest.fixture
def flowing(integration: Integration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flowing:
    return Flowing(integration, tmp_path / "home", monkeypatch)


def test_page_has_a_row_for_the_flow_and_one_for_each_table(sandbox: Sandbox, flowing: Flowing) -> None:
    """R97."""
    before = flowing.say("status")
    assert before.exit_code == 0
    assert [line.split() for line in before.stdout.splitlines() if line.strip()] == [
        ["flow", "state", "backlog", "deferred", "refused", "since", "pending", "changes"],
        ["ingress", "STOPPED", "0", "0", "0", "no"],
        ["table", "last", "run", "caught", "up", "backlog"],
        ["contact", "none", "yet", "no", "0"],
    ]
    sandbox.seed(contacts=3)
    flowing.say("start")
    flowing.run()
    shown = flowing.say("status").stdout
    assert "RUNNING" in shown
    assert shown.splitlines()[-1].split()[-2:] == ["yes", "0"]


def test_backlog_is_what_the_last_runs_left(sandbox: Sandbox, flowing: Flowing) -> None:
    """R98: read and not yet written; the staging file isn't opened, for another process may have it."""
    sandbox.seed(contacts=5)
    flowing.integration.set("engine_calls", daily_budget=2)
    flowing.write()
    flowing.say("start")
    flowing.run()
    flowing.integration.staging.unlink()
    left = 5 - len(profiles(sandbox))
    assert left > 0
    told = flowing.status()
    assert (told["backlog"], told["tables"][0]["backlog"]) == (left, left)


def test_a_failed_flow_says_why_in_one_sentence_and_ends_with_1(sandbox: Sandbox, flowing: Flowing) -> None:
    flowing.integration.tables = [contact_mapping(target="cusMissing")]
    flowing.write()
    flowing.say("start")
    flowing.run()
    ended = flowing.say("status")
    assert ended.exit_code == 1
    [told] = [line for line in ended.stdout.splitlines() if line.startswith("ingress:")]
    assert "cusMissing" in told
    assert flowing.status()["last_error"].startswith(told.removeprefix("ingress: "))


def test_refused_files_start_nothing(flowing: Flowing) -> None:
    flowing.integration.settings["surprise"] = 1
    flowing.write()
    ended = flowing.say("start")
    assert (ended.exit_code, "surprise: unknown key" in ended.stderr) == (2, True)
    assert not active.place(flowing.settings_file).exists()


def test_a_flow_that_starts_by_itself_says_that_it_runs_by_configuration(flowing: Flowing) -> None:
    flowing.integration.set("run", start_automatically=True)
    flowing.write()
    assert "Runs by configuration" in flowing.say("status").stdout
    assert (flowing.state, flowing.status()["by_files"]) == ("STARTING", True)
    assert flowing.say("start").exit_code == 1
    assert flowing.say("stop").exit_code == 0
    assert flowing.state == "STOPPED"


def test_pending_changes_name_the_faults_of_files_that_are_broken_now(flowing: Flowing) -> None:
    flowing.say("start")
    assert flowing.status()["pending_changes"] is False
    flowing.settings_file.write_text("environment: [", encoding="utf-8")
    told = json.loads(flowing.say("status", "--json").stdout)
    assert told["flows"][0]["pending_changes"] is True
    assert "this is not YAML" in told["faults"]
    assert "this is not YAML" in flowing.say("status").stdout


def test_active_configuration_is_private_and_holds_no_secret(flowing: Flowing, sandbox: Sandbox) -> None:
    flowing.say("start")
    file = active.place(flowing.settings_file)
    assert file.stat().st_mode & 0o777 == 0o600
    text = file.read_text(encoding="utf-8")
    assert SECRET in text
    assert sandbox.endpoints["credentials"]["dataverse"]["client_secret"] not in text


def test_every_kind_of_setting_comes_back_as_it_was(flowing: Flowing) -> None:
    """Days, times and numbers as text, among others, which another reading could take for something else."""
    flowing.integration.tables = [
        mapping(
            ("firstname", "firstName"),
            ("birthdate", "birthDate"),
            filter={
                "conditions": [
                    {"source": "birthdate", "comparison": "greater_than", "value": "2001-01-01"},
                    {"source": "firstname", "comparison": "in", "values": ["1", "22:00", "2001-01-01"]},
                    {"source": "creditlimit", "comparison": "less_than", "value": 1.0},
                ]
            },
            on_create={"cusOrigin": "2001-01-01"},
        )
    ]
    flowing.integration.set(
        "run", blackout_windows=[{"starts": "2026-12-01T20:00:00Z", "ends": "2026-12-02T06:00:00Z"}]
    )
    file = flowing.write()
    written = load(file)
    active.write(file, written)
    read = active.read(file)
    assert read is not None
    assert active.same(read, written)
    assert operands(read) == operands(written)


def operands(configured: Configuration) -> list[tuple[object, list[object]]]:
    """What the filter compares with: a day in quotes is text, and 1 is no 1.0, which JSON could hide."""
    asked = configured.tables[0].filter
    assert asked is not None
    return [(repr(condition.value), list(condition.values)) for condition in asked.conditions]


def test_a_settings_file_never_meets_the_active_configuration_of_another(
    flowing: Flowing, monkeypatch: pytest.MonkeyPatch
) -> None:
    flowing.say("start")
    other = flowing.settings_file.with_name("other.yaml")
    settings = json.loads(flowing.settings_file.read_text(encoding="utf-8"))
    other.write_text(json.dumps(settings | {"environment": "stage"}), encoding="utf-8")
    monkeypatch.setenv(CONFIG_VARIABLE, str(other))
    assert definitions.configuration().settings.environment == "stage"


def test_a_damaged_active_configuration_names_the_way_out(flowing: Flowing) -> None:
    flowing.say("start")
    active.place(flowing.settings_file).write_text("{}", encoding="utf-8")
    told = flowing.say("status")
    assert (told.exit_code, "d365-campaign stop" in told.stderr) == (2, True)
    assert flowing.say("stop").exit_code == 0
    assert flowing.state == "STOPPED"


def test_environment_wins_over_the_environment_file_and_what_came_from_the_file_follows_it(
    flowing: Flowing, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = flowing.settings_file.with_name("secrets.env")
    monkeypatch.delenv(SECRET)
    flowing.integration.settings["environment_file"] = "secrets.env"
    flowing.write()
    for said in ("first", "second"):
        file.write_text(f"{SECRET}={said}\nCAMPAIGN_CLIENT_SECRET=other\n", encoding="utf-8")
        definitions.configuration()
        assert os.environ[SECRET] == said
        assert os.environ["CAMPAIGN_CLIENT_SECRET"] != "other"
    monkeypatch.setenv(SECRET, "by hand")
    definitions.configuration()
    assert os.environ[SECRET] == "by hand"
