"""The flow of a test's integration, switched and looked at by the commands, on a DAGSTER_HOME of its own."""

import json
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from assets.flows import INGRESS, _origin
from assets.runs import RunReport
from d365_campaign import definitions
from d365_campaign.cli import main
from d365_campaign.rehearsal import CONFIG_VARIABLE
from tests.checking import write_files
from tests.integration import Integration

DAGSTER = "telemetry: {enabled: false}\nrun_queue: {dequeue_interval_seconds: 1}\n"
SECRET = "D365_CLIENT_SECRET"


class Flowing:
    """Commands in this process, and what the daemon would do; files are as the integration says when it is written."""

    def __init__(self, integration: Integration, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.integration, self.home = integration, home
        home.mkdir(exist_ok=True)
        (home / "dagster.yaml").write_text(DAGSTER, encoding="utf-8")
        monkeypatch.chdir(home)
        monkeypatch.setenv("DAGSTER_HOME", str(home))
        monkeypatch.setenv(definitions.FROM_FILE_VARIABLE, "{}")
        self.settings_file = self.write()
        monkeypatch.setenv(CONFIG_VARIABLE, str(self.settings_file))

    def write(self) -> Path:
        return write_files(self.integration)

    def say(self, *arguments: str) -> Result:
        ended = CliRunner().invoke(main, arguments)
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
        return ended

    def status(self) -> dict[str, Any]:
        [flow] = json.loads(self.say("status", "--json").stdout)["flows"]
        return dict(flow)

    @property
    def state(self) -> str:
        return str(self.status()["state"])

    def run(self, job: str = "sync") -> RunReport:
        """A run by whatever configuration holds now, as the daemon launches it."""
        return definitions.run(job)

    def unfinished_run(self, status: dg.DagsterRunStatus) -> str:
        """A run that the sensor asked for and that goes on; its id."""
        job = definitions.build(definitions.configuration()).resolve_job_def("sync")
        with dg.DagsterInstance.get() as instance:
            run = instance.create_run_for_job(job, status=status, tags={"dagster/sensor_name": INGRESS.sensor})
        return run.run_id

    def end(self, run_id: str) -> None:
        with dg.DagsterInstance.get() as instance:
            run = instance.get_run_by_id(run_id)
            assert run
            instance.report_run_canceled(run)

    def sensor_looks(self, status: str) -> None:
        """The daemon keeps a look of the sensor that ended with *status*."""
        from dagster._core.definitions.run_request import InstigatorType
        from dagster._core.scheduler.instigation import TickData, TickStatus

        origin = _origin(INGRESS)
        with dg.DagsterInstance.get() as instance:
            instance.create_tick(
                TickData(
                    instigator_origin_id=origin.get_id(),
                    instigator_name=INGRESS.sensor,
                    instigator_type=InstigatorType.SENSOR,
                    status=TickStatus(status),
                    timestamp=time.time(),
                    selector_id=origin.get_selector().get_id(),
                )
            )
