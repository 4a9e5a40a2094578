"""What holds for every command there is: a purpose that is shown whole, an example, JSON, and how it ends."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from d365_campaign.cli import main
from d365_campaign.rehearsal import CONFIG_VARIABLE

COMMAND = str(Path(sys.executable).with_name("d365-campaign"))
# They go on until they are interrupted, and show nothing that a machine would read.
SERVERS = {"dev", "sandbox", "webhook"}


def tree(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in sorted(group.commands.items()):
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from tree(command, (*path, name))


ALL = dict(tree(main))
GROUPS = {path for path, command in ALL.items() if isinstance(command, click.Group)}
every_command = pytest.mark.parametrize("path", ALL, ids=" ".join)


def helped(*path: str) -> str:
    ended = CliRunner().invoke(main, [*path, "--help"], terminal_width=80)
    assert ended.exit_code == 0
    return ended.stdout


@pytest.mark.parametrize("path", [(), *sorted(GROUPS)], ids=lambda path: " ".join(path) or "the top")
def test_list_of_commands_shows_each_purpose_whole(path: tuple[str, ...]) -> None:
    listed = helped(*path).partition("Commands:")[2].splitlines()[1:]
    assert len(listed) == len([each for each in ALL if each[:-1] == path]), "a purpose takes more than one line"
    assert not [line for line in listed if line.endswith("...")], "a purpose is cut"


@every_command
def test_help_begins_with_one_sentence_of_purpose(path: tuple[str, ...]) -> None:
    purpose = (ALL[path].help or "").splitlines()[0]
    assert purpose.endswith("."), purpose
    assert ". " not in purpose, "more than one sentence"
    assert 10 < len(purpose) <= 62, purpose


@every_command
def test_help_shows_an_example_that_is_understood(path: tuple[str, ...]) -> None:
    [line] = [line for line in helped(*path).splitlines() if line.strip().startswith("Example:")]
    words = line.split("Example:")[1].split()
    assert words[0] == "d365-campaign"
    assert tuple(words[1 : 1 + len(path)]) == path
    told = {option for parameter in ALL[path].params for option in parameter.opts}
    if path not in GROUPS:
        assert {word for word in words if word.startswith("--")} <= told | {"--json"}


@pytest.mark.parametrize("path", [path for path in ALL if path not in GROUPS and path[-1] not in SERVERS], ids=" ".join)
def test_every_command_that_shows_something_has_json_and_tells_its_shape(path: tuple[str, ...]) -> None:
    [option] = [parameter for parameter in ALL[path].params if "--json" in parameter.opts]
    assert isinstance(option, click.Option)
    assert (option.help or "").startswith("Print JSON: ")
    assert len(option.help or "") > len("Print JSON: {}")


@every_command
def test_wrong_use_of_any_command_ends_with_2(path: tuple[str, ...]) -> None:
    ended = CliRunner().invoke(main, [*path, "--nonsense"])
    assert (ended.exit_code, ended.stdout) == (2, "")


READS_CONFIGURATION: list[tuple[str, ...]] = [
    ("plan",),
    ("sync",),
    ("status",),
    ("start",),
    ("holds",),
    ("engine-calls",),
    ("rejects", "contact"),
    ("replay", "contact"),
    ("acknowledge", "contact", "--by", "Ada"),
    ("accept-schema", "contact"),
    ("alerts", "test"),
    ("opt-out", "exports"),
    ("opt-out", "audit"),
    ("check",),
]


@pytest.mark.parametrize("arguments", READS_CONFIGURATION, ids=" ".join)
def test_a_refused_configuration_ends_with_2(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    file = tmp_path / "settings.yaml"
    file.write_text("environment: [", encoding="utf-8")
    ended = CliRunner().invoke(main, arguments, env={CONFIG_VARIABLE: str(file)})
    assert ended.exit_code == 2, ended.output
    assert "this is not YAML" in ended.output
    assert ended.exception is None or isinstance(ended.exception, SystemExit)


def test_schema_as_json_is_printed_and_not_written() -> None:
    ended = CliRunner().invoke(main, ["schema", "--json"])
    assert json.loads(ended.stdout)["title"] == "d365_campaign configuration"


def test_help_loads_no_configuration_and_no_dagster(tmp_path: Path) -> None:
    environment = {**os.environ, CONFIG_VARIABLE: str(tmp_path / "nowhere.yaml")}
    ended = subprocess.run([COMMAND, "plan", "--help"], env=environment, capture_output=True, text=True, check=True)
    assert "Example:" in ended.stdout
