"""Who may import whom. A module in a higher layer may import the lower ones named here, never the other way round."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

CORE = {
    "alerts",
    "progress",
    "mapping",
    "binding",
    "record_filter",
    "guardrails",
    "blackout",
    "schemas",
    "field_types",
    "changes",
    "engine_calls",
    "opt_out",
    "opt_out_files",
    "opt_out_changes",
    "opt_out_checks",
    "settings",
    "checks",
    "quality",
    "errors",
    "config",
    "config_reference",
}
OURS = {
    "core": {"core"},
    "clients": {"core", "clients"},
    "store": {"core", "store"},
    "flows": {"core", "store", "flows"},
    "sandbox": {"sandbox"},
    "resources": {"core", "clients", "store", "resources"},
    "assets": {"core", "flows", "resources", "assets"},
    "definitions": {"core", "assets", "resources"},
    "webhook": {"core"},
    "cli": {"core", "clients", "store", "flows", "definitions", "webhook", "cli"},
}
# Third parties that belong to one layer or a few. What is not named here may be used anywhere.
ONLY_IN = {
    "dagster": {"resources", "assets", "definitions"},
    "duckdb": {"store"},
    "requests": {"clients"},
    "urllib3": {"clients"},
    "oauthlib": {"clients"},
    "requests_oauthlib": {"clients"},
    "tenacity": {"clients"},
    "paramiko": {"clients", "sandbox"},
    "starlette": {"sandbox", "webhook"},
    "uvicorn": {"sandbox", "webhook"},
    "trustme": {"sandbox"},
    "orjson": {"sandbox"},
    "yaml": {"core"},
    "dotenv": {"definitions"},
    "click": {"cli"},
    "rich": {"cli"},
    "polars": {"core", "clients", "store", "flows"},
}
MODULES = sorted(
    file
    for top in ("d365_campaign", "assets", "resources")
    for file in (ROOT / top).rglob("*.py")
    if file != ROOT / "d365_campaign" / "__init__.py"
)


def layer(module: str) -> str:
    """The layer a dotted module of ours belongs to."""
    parts = module.split(".")
    if parts[0] in ("assets", "resources"):
        return parts[0]
    name = parts[1] if len(parts) > 1 else "core"
    if name in CORE:
        return "core"
    return "cli" if name in ("cli", "rehearsal", "commands") else name


def imported(file: Path) -> Iterator[str]:
    """Every module that *file* imports, absolute, wherever in the file the import stands."""
    package = ".".join(file.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1])
            yield f"{base}.{node.module}" if node.module else base
        elif isinstance(node, ast.ImportFrom) and node.module == "d365_campaign":
            yield from (f"d365_campaign.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_module_imports_only_what_its_layer_may(file: Path) -> None:
    own = layer(".".join(file.relative_to(ROOT).with_suffix("").parts))
    for name in imported(file):
        top = name.split(".")[0]
        if top in ("d365_campaign", "assets", "resources"):
            assert layer(name) in OURS[own], f"{own} may not import {name}"
        else:
            assert own in ONLY_IN.get(top, {own}), f"{own} may not import {name}"


def test_core_clients_store_and_flows_load_without_dagster() -> None:
    modules = "d365_campaign.config, d365_campaign.flows.apply, d365_campaign.clients.campaign"
    code = f"import sys, {modules}; sys.exit('dagster' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_command_line_helps_without_loading_dagster() -> None:
    code = "import sys, d365_campaign.cli; sys.exit('dagster' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
