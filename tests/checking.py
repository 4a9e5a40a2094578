"""`d365-campaign check` over the integration of a test: its files written, the command run, its findings read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from d365_campaign.cli import main
from d365_campaign.flows.findings import Finding
from d365_campaign.rehearsal import CONFIG_VARIABLE
from tests.integration import Integration

ACCEPTED = {"acknowledged": {"by": "Jane Doe", "on": "2026-01-01", "text": 1}}


@dataclass(frozen=True)
class Checked:
    """How the command ended, and what it found."""

    exit_code: int
    findings: Sequence[Finding]

    def of(self, area: str) -> dict[str, Finding]:
        """The findings of a system or a table by subject; of one that has several, the last."""
        return {found.subject: found for found in self.findings if found.area == area}

    def faults(self) -> list[Finding]:
        """Everything that is not fine."""
        return [found for found in self.findings if found.verdict != "fine"]


def write_files(integration: Integration, **changes: Any) -> Path:
    """The integration as a user has it: a settings file, and a file for each table. JSON is YAML, too."""
    folder = integration.staging.parent / "config"
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    for mapping in integration.tables:
        written = mapping.model_dump_json(exclude_defaults=True)
        (folder / "tables" / f"{mapping.name}.yaml").write_text(written, encoding="utf-8")
    settings = {"privacy": ACCEPTED, **integration.settings, **changes}
    file = folder / "settings.yaml"
    file.write_text(json.dumps(settings), encoding="utf-8")
    return file


def page(file: Path, *arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code and output of the command with the settings in *file*."""
    ended = CliRunner().invoke(main, ["check", *arguments], env={CONFIG_VARIABLE: str(file), **(env or {})})
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return ended.exit_code, ended.output


def check(integration: Integration, *arguments: str, **changes: Any) -> Checked:
    """What it finds; *changes* are sections of the settings for this once."""
    exit_code, output = page(write_files(integration, **changes), "--json", *arguments)
    return Checked(exit_code, [Finding(**found) for found in json.loads(output)["findings"]])
