"""`init`: a folder of one's own to begin with, made from the same commented files that config/ shows."""

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from d365_campaign import config, rehearsal
from d365_campaign.commands.output import json_option, print_json, say
from d365_campaign.errors import ConfigurationError
from d365_campaign.settings import PRIVACY_TEXT

PROJECT = Path(__file__).parents[2]
PREFIX = "SANDBOX_"
PRIVACY = (
    "Privacy requests (access, deletion) are your own duty, in Dynamics and in Campaign separately; this project makes "
    "none, and a delete by it is none. Nothing runs before somebody accepted that."
)
IGNORED = "# Secrets, and what is made here: staging file, sandbox, Dagster's history.\n.env\n.local/\n"
README = """# {name}

Keeps Adobe Campaign Standard in step with Microsoft Dynamics 365, by d365_campaign.

| file | what it says |
|---|---|
| `config/settings.yaml` | both systems, budgets, guardrails, opt-outs, alerts |
| `config/tables/contact.yaml` | which Dynamics column becomes which Campaign field; one file for each table |
| `.env.template` | the variables that the settings name; copy it to `.env`, which stays out of version control |
| `dagster.yaml`, `workspace.yaml` | what Dagster keeps here, and what it loads |

## Next steps

```sh
{steps}
```

Then put your own systems into `.env`, remove `ca_bundle` from `config/settings.yaml`, and check again.
"""


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--by", help="Who accepts that privacy requests are your own duty; it stands in the settings.")
@click.option(
    "--sandbox",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of a sandbox that is running: also write .env, with its addresses and credentials.",
)
@click.option("--force", is_flag=True, help="Also in a folder that has files; those are left as they are.")
@json_option("{folder, written: [...], kept: [...], next: [...]}")
def init(folder: Path, by: str | None, sandbox: Path | None, force: bool, as_json: bool) -> None:
    """Begin a project of your own in a new folder.

    With commented settings, one mapping, a template of the environment, and what Dagster needs. As it is, it fits the
    sandbox: `d365-campaign check` finds nothing wrong there.

    \b
    Example:  d365-campaign init my-integration --by "Ada Lovelace"
    """
    if not force and folder.exists() and any(folder.iterdir()):
        raise click.UsageError(f"{folder} has files already. Name a new folder, or give --force: it overwrites none.")
    name = _accepted_by(by)
    files = _files(folder.resolve().name, name, sandbox)
    kept = [path for path in files if (folder / path).exists()]
    for path, content in files.items():
        if path not in kept:
            _write(folder / path, content)
    steps = _steps(folder, with_environment=sandbox is not None)
    if as_json:
        written = [path for path in files if path not in kept]
        print_json({"folder": str(folder), "written": written, "kept": kept, "next": steps})
        return
    say(f"{len(files) - len(kept)} files are written to {folder}.")
    if kept:
        say(f"Left as they were: {', '.join(kept)}.")
    say("Next:")
    for step in steps:
        say(f"  {step}")


def _accepted_by(by: str | None) -> str:
    if by is None and sys.stdin.isatty():
        click.echo(PRIVACY, err=True)
        by = click.prompt("Who accepts it? Your name", err=True)
    if not (by or "").strip():
        raise click.UsageError(f"--by NAME is missing. {PRIVACY}")
    return str(by).strip()


def _files(name: str, by: str, sandbox: Path | None) -> Mapping[str, str]:
    """Every file by its path below the folder."""
    readme = README.format(name=name, steps="\n".join(_steps(Path(), with_environment=sandbox is not None)[1:]))
    template = _of_project("config/example.env")
    return {
        "README.md": readme,
        ".gitignore": IGNORED,
        ".env.template": template,
        "config/settings.yaml": _settings(name, by),
        "config/tables/contact.yaml": _of_project("config/tables/contact.yaml"),
        "config/schema.json": config.render_json_schema(),
        "dagster.yaml": _of_project("dagster.yaml"),
        "workspace.yaml": _of_project("workspace.yaml"),
        **({".env": _environment(template, sandbox)} if sandbox else {}),
    }


def _of_project(path: str) -> str:
    file = PROJECT / path
    if not file.exists():
        raise ConfigurationError(f"there is no {file} to begin with. Run d365-campaign from its checkout.")
    return file.read_text(encoding="utf-8")


def _settings(name: str, by: str) -> str:
    """The commented example, with the few lines that differ in a project that is to run at once."""
    today = datetime.now(UTC).date()
    changes = {
        "# Copy to config/production.yaml, fill in, and set D365_CAMPAIGN_CONFIG=config/production.yaml.\n": "",
        "environment: production ": f"environment: {json.dumps(name)} ",
        "# environment_file: ": "environment_file: ",
        "# ca_bundle: ": "ca_bundle: ",
        "  path: /var/lib/d365_campaign/production.duckdb": "  path: ../.local/staging.duckdb",
        "# privacy:\n#   acknowledged: {by: Jane Doe, on: 2026-11-23, text: 1}": (
            f"privacy:\n  acknowledged: {{by: {json.dumps(by)}, on: {today}, text: {PRIVACY_TEXT}}}"
        ),
    }
    text = _of_project("config/production.example.yaml")
    for before, after in changes.items():
        assert text.count(before) == 1, f"config/production.example.yaml has not one line with {before}"
        text = text.replace(before, after)
    return text


def _environment(template: str, sandbox: Path) -> str:
    """The template with what a running sandbox says."""
    file = sandbox / rehearsal.ENVIRONMENT_FILE
    if not file.exists():
        raise ConfigurationError(f"no sandbox runs in {sandbox}: there is no {file.name}. Run: d365-campaign sandbox")
    found = (line.partition("=") for line in file.read_text(encoding="utf-8").splitlines())
    told = {name.removeprefix(PREFIX): value for name, _, value in found}
    lines = []
    for line in template.splitlines():
        name, equals, _ = line.partition("=")
        lines.append(f"{name}={told[name]}" if equals and name in told else line)
    return "\n".join(lines) + "\n"


def _write(file: Path, content: str) -> None:
    """A new file; .env is readable by this user alone."""
    file.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o600 if file.name == ".env" else 0o644
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as written:
        written.write(content)


def _steps(folder: Path, *, with_environment: bool) -> Sequence[str]:
    """What to type next, from this folder on."""
    sandbox = ["cp .env.template .env", "d365-campaign sandbox --contacts 100   # stays on: go on in another terminal"]
    return [
        f"cd {shlex.quote(str(folder))}",
        *([] if with_environment else sandbox),
        'export D365_CAMPAIGN_CONFIG="$PWD/config/settings.yaml" DAGSTER_HOME="$PWD"',
        "d365-campaign check",
        "d365-campaign plan",
        "dagster dev -w workspace.yaml",
    ]
