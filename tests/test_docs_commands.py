"""The commands that the pages show: each exists with its options, and those that end are run against the sandbox."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest

from d365_campaign import config_reference, rehearsal
from d365_campaign.cli import main

ROOT = Path(__file__).parents[1]
NAMES = ("first-tenant", "sandbox", "operations", "upgrading", "opt-outs", "privacy")
PAGES = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in NAMES)]
COMMAND = "d365-campaign"
Project = tuple[Path, Mapping[str, str], str]  # its folder, the environment, and the id of a contact in it
# What a reader puts in, and what the test does.
PUT_IN = {"TABLE": "contact", "KEY": "{key}", "CONTACTID": "{key}", "EXTERNALID": "{key}", "NAME": "Ada"}
# These go on until they are stopped.
NOT_RUN = ("dev", "sandbox", "webhook")
# What is right to end with something else than 0 here.
ENDS_WITH = {
    "alerts test": 2,  # there are no hooks
    "release 5c1b2f0e-8d0a-4b7e-9a55-0c7d3f1f2a11": 1,  # whom the page forgets before
}


def in_blocks(page: Path) -> Iterator[str]:
    """The command lines that a reader copies."""
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.splitlines():
            found = re.match(r"\s*(?:\.venv/bin/)?(d365-campaign [^#]*)", line)
            if found:
                yield found[1].strip()


def in_text(page: Path) -> Iterator[str]:
    """The commands that a sentence or a table names."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    yield from re.findall(r"`(d365-campaign [^`]+)`", text)


ALL = sorted({(page.name, line) for page in PAGES for line in (*in_blocks(page), *in_text(page))})
RUN = list(dict.fromkeys(line for page in PAGES for line in in_blocks(page)))


def resolved(line: str) -> tuple[click.Command, list[str]]:
    """The command that a line names, and what follows it."""
    words = shlex.split(line.replace("[", "").replace("]", ""))[1:]
    found: click.Command = main
    while isinstance(found, click.Group) and words and words[0] in found.commands:
        found = found.commands[words.pop(0)]
    return found, words


@pytest.mark.parametrize(("page", "line"), ALL, ids=lambda value: str(value))
def test_every_command_that_is_shown_exists_with_its_options(page: str, line: str) -> None:
    command, words = resolved(line)
    assert command is not main, f"{page} shows `{line}`, and there is no such command"
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert {word for word in words if word.startswith("--")} <= known, f"{page}: {line}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A checkout's configuration beside a sandbox of its own, after a first sync."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "config", folder / "config")
    settings = folder / "config" / "sandbox.yaml"
    settings.write_text(settings.read_text().replace("start_automatically: true", "start_automatically: false"))
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder)
    (folder / "docs").mkdir()
    for name in ("dagster", "sandbox"):
        (folder / ".local" / name).mkdir(parents=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SANDBOX_", "D365_"))} | {
        "D365_CAMPAIGN_CONFIG": str(settings),
        "DAGSTER_HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    seed = rehearsal.Seed(contacts=12, accounts=3, purchases=5)
    with rehearsal.running_sandbox(seed, directory=folder / ".local" / "sandbox") as sandbox:
        project = folder, environment, ""
        assert ended(project, f"{COMMAND} sync").returncode == 0
        key = str(rehearsal.ask(sandbox.endpoints, "GET", "campaign/profile?top=1")["content"][0]["externalId"])
        yield folder, environment, key


def ended(project: Project, line: str) -> "subprocess.CompletedProcess[str]":
    folder, environment, key = project
    words = [PUT_IN.get(word, word).format(key=key) for word in shlex.split(line)]
    return subprocess.run(
        words, cwd=folder, env=environment, check=False, capture_output=True, text=True, input="y\n", timeout=300
    )


def test_commands_run_as_they_are_shown(project: Project) -> None:
    assert len(RUN) > 15
    for line in RUN:
        command, words = resolved(line)
        if command.name in NOT_RUN and "--help" not in words:
            continue
        name = line.removeprefix(f"{COMMAND} ")
        done = ended(project, line)
        assert done.returncode == ENDS_WITH.get(name, 0), f"{line}\n{done.stdout}\n{done.stderr}"


def test_reference_of_the_configuration_is_what_the_models_say() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == config_reference.render()
