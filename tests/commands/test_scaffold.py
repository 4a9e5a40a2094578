"""`init`: what it makes runs against the sandbox as it is, and takes nobody's files or word."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from d365_campaign import rehearsal
from d365_campaign.cli import main
from d365_campaign.config import load, read_yaml
from d365_campaign.definitions import FROM_FILE_VARIABLE

COMMAND = str(Path(sys.executable).with_name("d365-campaign"))
NAMES = [
    "CA_BUNDLE",
    *(f"D365_{name}" for name in ("URL", "TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET")),
    *(f"CAMPAIGN_{name}" for name in ("URL", "TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET")),
]


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which nothing of ours is set, so that the folder's own files are what counts."""
    for name in (*NAMES, "DAGSTER_HOME", rehearsal.CONFIG_VARIABLE, FROM_FILE_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    """The folder of a sandbox that is running, with 5 contacts."""
    folder = tmp_path / "sandbox"
    with rehearsal.running_sandbox(rehearsal.Seed(contacts=5), directory=folder):
        yield folder


def init(folder: Path, *arguments: str) -> Result:
    ended = CliRunner().invoke(main, ["init", str(folder), *arguments])
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return ended


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [COMMAND, "--config", "config/settings.yaml", *arguments]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)


def test_new_project_passes_check_and_plans_against_the_sandbox_as_it_is(
    clean: None, served: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    assert init(folder, "--by", "Ada Lovelace", "--sandbox", str(served)).exit_code == 0
    checked = run(folder, "check", "--json")
    found = json.loads(checked.stdout)
    assert (checked.returncode, found["environment"]) == (0, "mine"), checked.stdout
    planned = run(folder, "plan", "--json")
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["contact"]["to_insert"] == 5
    assert (folder / ".local" / "staging.duckdb").exists()


def test_template_has_what_the_sandbox_serves_at_its_own_ports(clean: None, served: Path, tmp_path: Path) -> None:
    """So that `cp .env.template .env` is enough; the test's sandbox has other ports, and lies elsewhere."""
    init(tmp_path / "mine", "--by", "Ada", "--sandbox", str(served))
    endpoints = json.loads((served / rehearsal.ENDPOINTS).read_text(encoding="utf-8"))
    told = variables(tmp_path / "mine" / ".env")
    wanted = variables(tmp_path / "mine" / ".env.template")
    assert set(told) == set(wanted) == set(NAMES)
    ports = {system: str(port) for system, port in rehearsal.FIXED_PORTS.items()}
    served_at = {system: endpoints[system].split(":")[2].split("/")[0] for system in ports if system != "sftp"}
    for name in sorted(set(NAMES) - {"CA_BUNDLE"}):
        value = told[name]
        for system, port in served_at.items():
            value = value.replace(f":{port}", f":{ports[system]}")
        assert value == wanted[name], name
    assert wanted["CA_BUNDLE"] == str(rehearsal.SANDBOX / "ca.pem")


def variables(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_files_are_those_that_a_project_needs_and_fit_their_schema(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    told = json.loads(init(folder, "--by", "Ada", "--json").stdout)
    assert set(told["written"]) == {
        "README.md",
        ".gitignore",
        ".env.template",
        "config/settings.yaml",
        "config/tables/contact.yaml",
        "config/schema.json",
        "dagster.yaml",
        "workspace.yaml",
    }
    assert {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()} == set(told["written"])
    schema: dict[str, Any] = json.loads((folder / "config" / "schema.json").read_text(encoding="utf-8"))
    for file, kind in (("config/settings.yaml", "Settings"), ("config/tables/contact.yaml", "TableMapping")):
        text = (folder / file).read_text(encoding="utf-8")
        assert text.count("#") > 3, "it explains itself"
        jsonschema.validate(read_yaml(text), schema | {"anyOf": [{"$ref": f"#/$defs/{kind}"}]})
    assert load(folder / "config" / "settings.yaml").settings.privacy.acknowledged
    assert {".env", ".local/"} <= set((folder / ".gitignore").read_text(encoding="utf-8").splitlines())


def test_secrets_are_readable_by_their_owner_alone(served: Path, tmp_path: Path) -> None:
    init(tmp_path / "mine", "--by", "Ada", "--sandbox", str(served))
    assert (tmp_path / "mine" / ".env").stat().st_mode & 0o077 == 0


def test_a_folder_with_files_is_refused_and_with_force_none_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings.yaml").write_text("environment: mine\n", encoding="utf-8")
    refused = init(tmp_path, "--by", "Ada")
    assert (refused.exit_code, "has files already" in refused.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["config"]
    told = json.loads(init(tmp_path, "--by", "Ada", "--force", "--json").stdout)
    assert told["kept"] == ["config/settings.yaml"]
    assert (tmp_path / "config" / "settings.yaml").read_text(encoding="utf-8") == "environment: mine\n"
    assert "Left as they were: " in init(tmp_path, "--by", "Ada", "--force").stdout


def test_nobody_accepts_the_privacy_text_for_another(tmp_path: Path) -> None:
    for arguments in ([], ["--by", " "]):
        ended = init(tmp_path / "mine", *arguments)
        assert (ended.exit_code, "Privacy requests" in ended.stderr) == (2, True)
        assert not (tmp_path / "mine").exists()


def test_names_that_mean_something_in_yaml_stay_names(tmp_path: Path) -> None:
    folder = tmp_path / "on"
    init(folder, "--by", 'A "quoted": {name}, #1')
    settings = load(folder / "config" / "settings.yaml").settings
    assert settings.environment == "on"
    assert settings.privacy.acknowledged
    assert settings.privacy.acknowledged.by == 'A "quoted": {name}, #1'


def test_a_folder_without_a_running_sandbox_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ended = init(tmp_path / "mine", "--by", "Ada", "--sandbox", str(tmp_path / "empty"))
    assert (ended.exit_code, "no sandbox runs in" in ended.stderr) == (2, True)


def test_next_steps_are_printed_and_stand_in_the_readme(tmp_path: Path) -> None:
    folder = tmp_path / "my project"
    shown = init(folder, "--by", "Ada").stdout
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for step in ("cp .env.template .env", "d365-campaign check", "dagster dev -w workspace.yaml"):
        assert step in shown
        assert step in readme
    assert f"cd '{folder}'" in shown


def test_dagster_loads_the_new_project(clean: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine"
    init(folder, "--by", "Ada")
    monkeypatch.setenv(rehearsal.CONFIG_VARIABLE, str(folder / "config" / "settings.yaml"))
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    command = [str(Path(sys.executable).with_name("dagster")), "definitions", "validate", "-w", "workspace.yaml"]
    ended = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
