"""What a person types and sees while a privacy request is under way. Nothing of it reaches either system."""

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import dagster as dg
import pytest
from click.testing import CliRunner, Result
from dagster._core.test_utils import create_run_for_test

from d365_campaign.cli import main
from d365_campaign.commands import privacy
from d365_campaign.rehearsal import CONFIG_VARIABLE
from d365_campaign.sandbox import Sandbox
from d365_campaign.store.staging import open_staging
from tests.checking import write_files
from tests.integration import Integration
from tests.mappings import contact_mapping, purchase_mapping

NOBODY = "5c1b2f0e-8d0a-4b7e-9a55-0c7d3f1f2a11"
Say = Callable[..., Result]


@pytest.fixture
def say(integration: Integration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Say]:
    """The command line with the integration's own files; its Dagster instance keeps runs in a folder."""
    integration.tables = [contact_mapping(), purchase_mapping()]
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv(CONFIG_VARIABLE, str(write_files(integration)))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        integration.instance = instance

        def run(*arguments: str, answer: str | None = None) -> Result:
            ended = CliRunner().invoke(main, arguments, input=answer)
            assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
            return ended

        yield run


def bought(sandbox: Sandbox, buyer: str) -> str:
    return str(sandbox.dataverse.create("new_purchase", {"new_contactid": buyer, "new_name": "Lamp"}))


def people(sandbox: Sandbox) -> Sequence[str]:
    """Two contacts; the first has two purchases and a name that Campaign refuses, so runs tell of it."""
    ada = sandbox.dataverse.create("contact", {"firstname": "Ada"})
    grace = sandbox.dataverse.create("contact", {"firstname": "Grace"})
    for buyer in (ada, ada, grace):
        bought(sandbox, buyer)
    return ada, grace


def runs_that_tell_of(integration: Integration, key: str) -> int:
    runs = [record.dagster_run.run_id for record in integration.instance.get_run_records()]
    return len([run for run in runs if key in repr(integration.instance.all_logs(run))])


def test_hold_says_since_when_and_by_whom_however_the_key_was_copied(sandbox: Sandbox, say: Say) -> None:
    placed = say("hold", f"{{{NOBODY.upper()}}}", "--by", "Grace Hopper")

    assert placed.exit_code == 0
    assert placed.stdout.startswith(f"{NOBODY} is on hold since ")
    assert placed.stdout.endswith(" UTC, by Grace Hopper.\n")
    assert "check that it is the contactid" in placed.stderr
    assert "by Grace Hopper" in say("hold", NOBODY, "--by", "Somebody else").stdout


def test_hold_of_a_known_record_has_nothing_to_warn_of(sandbox: Sandbox, integration: Integration, say: Say) -> None:
    ada, _ = people(sandbox)
    integration.sync()

    assert say("hold", ada, "--by", "Grace").stderr == ""


def test_holds_are_listed_for_people_and_for_machines(say: Say) -> None:
    assert say("holds").stdout == "Nothing is on hold.\n"
    assert json.loads(say("holds", "--json").stdout) == []
    others = str(uuid.uuid4())
    for key, by in ((NOBODY, "Grace"), (others, "Edith")):
        say("hold", key, "--by", by)

    assert [line.split()[0] for line in say("holds").stdout.splitlines()] == [NOBODY, others]
    listed = json.loads(say("holds", "--json").stdout)
    assert [(each["key"], each["by"]) for each in listed] == [(NOBODY, "Grace"), (others, "Edith")]
    assert listed[0]["since"].endswith("+00:00")


def test_release_ends_a_hold_and_says_how_to_go_on(sandbox: Sandbox, integration: Integration, say: Say) -> None:
    ada, _ = people(sandbox)
    integration.sync()
    say("hold", ada, "--by", "Grace")

    ended = say("release", ada.upper())

    assert (ended.exit_code, ended.stdout) == (
        0,
        f"{ada} is released. The next run writes what waits; to start one now:\n  d365-campaign sync contact\n",
    )
    assert say("holds").stdout == "Nothing is on hold.\n"


def test_release_of_what_is_not_on_hold_ends_with_1_and_names_the_list(say: Say) -> None:
    ended = say("release", NOBODY)

    assert (ended.exit_code, ended.stderr) == (
        1,
        f"Error: {NOBODY} is not on hold. What is, tells: d365-campaign holds\n",
    )


@pytest.mark.parametrize("command", [("hold", "--by", "x"), ("release",), ("forget", "--yes")], ids=lambda c: c[0])
def test_what_is_no_key_is_wrong_use_and_is_not_repeated(say: Say, command: Sequence[str]) -> None:
    """Whoever types an address finds it in no log."""
    ended = say(*command, "marker@example.com")

    assert ended.exit_code == 2
    assert "that is no Dynamics id" in ended.stderr
    assert "marker" not in ended.output


def test_forget_shows_what_it_would_remove_and_does_nothing_before_a_yes(
    sandbox: Sandbox, integration: Integration, say: Say
) -> None:
    ada, _ = people(sandbox)
    integration.sync()

    ended = say("forget", ada, answer="n\n")

    assert ended.exit_code == 1
    assert "The staging file holds of it: contact 1, new_purchase 2." in ended.output
    assert "Dynamics still had it when it was last read." in ended.output
    with open_staging(integration.staging) as file:
        assert file.privacy.tables_of(ada) == ["contact"]


def test_forget_takes_the_person_out_of_the_file_its_bytes_and_the_runs(
    sandbox: Sandbox, integration: Integration, say: Say
) -> None:
    ada, grace = people(sandbox)
    sandbox.dataverse.update("contact", ada, {"firstname": "A" * 40})  # Campaign has no room for it: the run says whose
    integration.run("sync")
    for buyer in (ada, grace):
        sandbox.dataverse.update("contact", buyer, {"emailaddress1": f"{buyer}@example.com"})
    assert runs_that_tell_of(integration, ada) == 1
    sandbox.clear_calls()
    say("hold", ada, "--by", "Grace")

    ended = say("forget", ada, answer="y\n")

    assert ended.exit_code == 0, ended.output
    assert ended.output.endswith(
        "Removed from the staging file: contact 1, new_purchase 2. Deleted from Dagster: runs 1.\n"
    )
    assert runs_that_tell_of(integration, ada) == 0
    content = integration.staging.read_bytes()
    assert ada.encode() not in content
    assert grace.encode() in content
    assert not integration.staging.with_name(f"{integration.staging.name}.wal").exists()
    assert say("holds").stdout == "Nothing is on hold.\n"
    assert sandbox.calls() == []


def test_forget_twice_is_forget_once(sandbox: Sandbox, integration: Integration, say: Say) -> None:
    ada, _ = people(sandbox)
    integration.sync()
    say("forget", ada, "--yes")

    ended = say("forget", ada, "--yes")

    assert (ended.exit_code, ended.stdout) == (
        0,
        "Removed from the staging file: nothing. Deleted from Dagster: runs 0.\n",
    )


def test_forget_says_that_a_run_which_tells_of_it_is_going_on(
    sandbox: Sandbox, integration: Integration, say: Say
) -> None:
    ada, _ = people(sandbox)
    integration.sync()
    run = create_run_for_test(integration.instance, status=dg.DagsterRunStatus.STARTED)
    integration.instance.report_engine_event(f"profile {ada}", run)

    ended = say("forget", ada, "--yes")

    assert ended.exit_code == 1
    assert "1 runs that tell of it are going on. Forget it again after them." in ended.stderr
    assert ada.encode() not in integration.staging.read_bytes()


def test_forget_outside_of_a_checkout_removes_nothing(
    sandbox: Sandbox, integration: Integration, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, _ = people(sandbox)
    integration.sync()
    monkeypatch.delenv("DAGSTER_HOME")
    monkeypatch.chdir(tmp_path)

    ended = say("forget", ada, "--yes")

    assert ended.exit_code == 2
    assert "Run this in the checkout, or set DAGSTER_HOME" in ended.stderr
    with open_staging(integration.staging) as file:
        assert file.privacy.tables_of(ada) == ["contact"]


def test_a_file_in_use_is_waited_for_and_then_named(
    integration: Integration, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import time; from pathlib import Path; from d365_campaign.store.staging import open_staging\n"
        f"with open_staging(Path({str(integration.staging)!r})): print('open', flush=True); time.sleep(60)"
    )
    monkeypatch.setattr("d365_campaign.commands.common.PATIENCE_SECONDS", 0.5)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        run.stdout.readline()
        ended = say("hold", NOBODY, "--by", "Grace")
        run.kill()

    assert ended.exit_code == 1
    assert "is in use by another process" in ended.stderr


@pytest.mark.parametrize(
    "command", [privacy.hold, privacy.release, privacy.holds, privacy.forget], ids=lambda c: c.name
)
def test_help_says_the_purpose_and_shows_an_example(say: Say, command: click.Command) -> None:
    shown = say(str(command.name), "--help").stdout

    assert f"Example:  d365-campaign {command.name}" in shown
