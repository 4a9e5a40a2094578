"""A daemon that is killed in the middle of a look: the next one loses no change and asks for no run twice."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import InProcessTestWorkspaceLoadTarget
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.sensor import execute_sensor_iteration

from assets.sensors_state import INTERVAL_SECONDS
from d365_campaign import definitions, rehearsal
from d365_campaign.sandbox import Sandbox
from tests.integration import Integration

# Where the daemon can be killed, in the order in which a look gets there.
POINTS = ("TICK_CREATED", "TICK_HELD", "RUN_IDS_RESERVED", "RUN_CREATED", "RUN_LAUNCHED")


def look(killed_at: str | None = None) -> None:
    """What Dagster's daemon does at one look of all sensors that are on; it may be *killed_at* a point of it."""
    module = LoadableTargetOrigin(
        executable_path=sys.executable, module_name="d365_campaign.definitions", working_directory=str(Path.cwd())
    )
    origin = InProcessCodeLocationOrigin(module, location_name="d365_campaign")
    flags = {"dynamics_changes": {killed_at: signal.SIGKILL}} if killed_at else None
    with (
        dg.DagsterInstance.get() as instance,
        WorkspaceProcessContext(instance, InProcessTestWorkspaceLoadTarget(origin)) as workspace,
    ):
        for error in execute_sensor_iteration(workspace, logging.getLogger(), None, None, debug_crash_flags=flags):
            assert error is None, error


@pytest.fixture
def home(sandbox: Sandbox, integration: Integration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A DAGSTER_HOME with a queue that nobody empties, and the integration as files that its runs read."""
    home = tmp_path / "home"
    (home / "tables").mkdir(parents=True)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    settings = integration.settings | {
        "run": {"start_automatically": True},
        "privacy": {"acknowledged": {"by": "test", "on": "2026-01-01", "text": 1}},
    }
    (home / "settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    for table in integration.tables:
        content = json.loads(table.model_dump_json(exclude_defaults=True))
        (home / "tables" / f"{table.name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv(rehearsal.CONFIG_VARIABLE, str(home / "settings.yaml"))
    with dg.DagsterInstance.get() as instance:
        integration.instance = instance
        yield home


# Dagster's own, when it describes a code location and when it takes a look up again.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("point", POINTS)
def test_daemon_killed_at_any_point_of_a_look_neither_loses_nor_doubles_a_change(
    sandbox: Sandbox, integration: Integration, home: Path, point: str
) -> None:
    sandbox.seed(contacts=2)
    assert definitions.run("sync").success
    before = integration.instance.get_runs_count()
    key = sandbox.dataverse.create("contact", {"lastname": "Lovelace"})

    code = f"from tests.assets.test_sensor_restarts import look; look({point!r})"
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": "."}, check=False)
    assert killed.returncode == -signal.SIGKILL

    for _ in range(2):
        time.sleep(INTERVAL_SECONDS)
        look()
    runs = integration.instance.get_runs()[: integration.instance.get_runs_count() - before]
    assert [run.status for run in runs] == [dg.DagsterRunStatus.QUEUED], "one run is asked for"
    integration.instance.report_run_canceled(runs[0])
    assert definitions.run("sync").success
    assert sandbox.campaign.get("profile", key)["lastName"] == "Lovelace"
    assert sandbox.engine_calls()["insert"] == 3, "each contact was inserted once"
