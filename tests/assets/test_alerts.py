"""The sensor over alerts, through Dagster: real runs and checks, a real webhook and a real mail server."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from assets.alerts import Cursor
from assets.flow_states import CHECK, flow_key
from assets.flows import INGRESS, switch_on
from d365_campaign.sandbox import Sandbox
from tests.alert_servers import USER, Authority, Hook, MailServer
from tests.integration import Integration
from tests.mappings import contact_mapping, purchase_mapping

ERROR, RECOVERED, WARNING = ("failing", "error"), ("recovered", "error"), ("failing", "warning")


class Watching:
    """An integration whose daemon looks when a test says so; the cursor is all that is kept between two looks."""

    def __init__(self, integration: Integration, instance: dg.DagsterInstance) -> None:
        integration.instance = instance
        self.integration, self.cursor = integration, None
        self.cursor: str | None

    def look(self) -> str:
        """One look; its reason."""
        definitions = self.integration.definitions
        resources = {"alert_hooks": (definitions.resources or {})["alert_hooks"]}
        with dg.build_sensor_context(
            instance=self.integration.instance, cursor=self.cursor, definitions=definitions, resources=resources
        ) as context:
            done: SensorExecutionData = definitions.resolve_sensor_def("alerts").evaluate_tick(context)
        assert not done.run_requests
        self.cursor = done.cursor
        return done.skip_message or ""

    def fail(self, sandbox: Sandbox, status: int = 403) -> None:
        sandbox.add_fault(system="dataverse", method="GET", path=".", times=100, status=status, body="ada@example.com")
        assert not self.integration.run("sync").success
        sandbox.clear_faults()

    def succeed(self) -> None:
        self.integration.sync()


@pytest.fixture
def watching(integration: Integration, authority: Authority, hook: Hook, tmp_path: Path) -> Iterator[Watching]:
    integration.set("alerts", hooks=[to(hook, authority)], dagster_url="https://dagster.example.com")
    integration.set("dynamics", attempts=1)
    integration.set("run", retries=0)
    (home := tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(home), overrides={"telemetry": {"enabled": False}}) as instance:
        yield Watching(integration, instance)


def to(hook: Hook, authority: Authority, name: str = "team", **settings: object) -> dict[str, object]:
    return {"kind": "webhook", "name": name, "url": hook.url, "ca_bundle": str(authority.bundle), **settings}


def by_mail(mail: MailServer, authority: Authority) -> dict[str, object]:
    return {
        "kind": "email",
        "name": "mail",
        "host": "localhost",
        "port": mail.port,
        "user": USER,
        "password": {"env": "MAIL_PASSWORD"},
        "sender": "alerts@example.com",
        "recipients": ["team@example.com"],
        "ca_bundle": str(authority.bundle),
    }


def of(hook: Hook, name: str) -> list[tuple[str, str]]:
    """State and severity of the alerts about one subject."""
    return [(state, severity) for subject, state, severity in hook.told if subject == name]


def test_there_is_no_sensor_without_a_hook(integration: Integration) -> None:
    assert "alerts" not in [sensor.name for sensor in integration.definitions.sensors or []]


def test_sensor_is_on_from_the_beginning(watching: Watching) -> None:
    sensor = watching.integration.definitions.resolve_sensor_def("alerts")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING


def test_a_failing_run_is_told_once_and_its_recovery_once(sandbox: Sandbox, watching: Watching, hook: Hook) -> None:
    sandbox.seed(contacts=1)
    watching.succeed()
    assert watching.look() == "nothing changed its state"
    watching.fail(sandbox)
    assert watching.look() == "team was told of 1 changes of state."
    assert hook.told == [("sync", *ERROR)]
    watching.look()
    watching.fail(sandbox)
    watching.look()
    assert len(hook.got) == 1, "still failing is no change"
    watching.succeed()
    watching.look()
    watching.look()
    assert hook.told == [("sync", *ERROR), ("sync", *RECOVERED)]


def test_what_is_told_of_a_run_leads_to_it_and_quotes_no_answer(
    sandbox: Sandbox, watching: Watching, hook: Hook
) -> None:
    watching.fail(sandbox)
    watching.look()
    [got] = hook.got
    [run] = watching.integration.instance.get_runs(limit=1)
    assert (got["run_id"], got["link"]) == (run.run_id, f"https://dagster.example.com/runs/{run.run_id}")
    assert got["words"].startswith("dynamics__contact: ")
    assert "403" in got["words"]
    assert "example.com\n" not in got["text"].replace("dagster.example.com", "")
    assert "ada@" not in got["text"]


def test_failures_and_recoveries_between_two_looks_are_all_told(
    sandbox: Sandbox, watching: Watching, hook: Hook
) -> None:
    """A daemon that was down tells what it missed, in order."""
    sandbox.seed(contacts=1)
    watching.succeed()
    watching.look()
    watching.fail(sandbox)
    watching.succeed()
    watching.fail(sandbox)
    watching.look()
    assert of(hook, "sync") == [ERROR, RECOVERED, ERROR]


def test_the_first_look_tells_only_how_it_stands(sandbox: Sandbox, watching: Watching, hook: Hook) -> None:
    watching.fail(sandbox)
    watching.succeed()
    watching.look()
    assert hook.got == []


def test_an_outage_is_a_warning_until_it_has_lasted(
    sandbox: Sandbox, watching: Watching, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching.fail(sandbox, status=503)
    watching.look()
    assert of(hook, "sync") == [WARNING]
    with monkeypatch.context() as later:
        later.setattr("d365_campaign.alerts.PASSING_SECONDS", 0)
        watching.fail(sandbox, status=503)
        watching.look()
    watching.fail(sandbox, status=503)
    watching.look()
    assert of(hook, "sync") == [WARNING, ERROR], "it gets no better while it lasts"


def test_another_tables_success_is_no_recovery(sandbox: Sandbox, watching: Watching, hook: Hook) -> None:
    """Runs are of the tables that changed; one that fails over and over must not be told of again and again."""
    integration = watching.integration
    integration.tables = [contact_mapping(), purchase_mapping(links=[])]
    sandbox.add_fault(system="dataverse", method="GET", path="contacts", times=100, status=403, body="")
    for only in (["contact"], ["new_purchase"], ["contact"], ["new_purchase"]):
        assert integration.run("sync", only).success is (only == ["new_purchase"])
        watching.look()
    assert of(hook, "sync") == [ERROR]
    sandbox.clear_faults()
    assert integration.run("sync", ["contact"]).success
    watching.look()
    assert of(hook, "sync") == [ERROR, RECOVERED]


def test_a_step_that_failed_and_is_no_longer_configured_can_not_fail_for_ever(
    sandbox: Sandbox, watching: Watching, hook: Hook
) -> None:
    integration = watching.integration
    integration.tables = [contact_mapping(), purchase_mapping(links=[])]
    sandbox.add_fault(system="dataverse", method="GET", path="new_purchases", times=100, status=403, body="")
    assert not integration.run("sync").success
    watching.look()
    integration.tables = [contact_mapping()]
    watching.succeed()
    watching.look()
    assert of(hook, "sync") == [ERROR, RECOVERED]


def test_a_run_whose_process_was_lost_is_told(watching: Watching, hook: Hook) -> None:
    instance = watching.integration.instance
    job = watching.integration.definitions.resolve_job_def("sync")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    instance.report_run_failed(run, "the machine is gone")
    watching.look()
    assert of(hook, "sync") == [ERROR]
    watching.succeed()
    watching.look()
    assert of(hook, "sync") == [ERROR, RECOVERED]


# --- checks -----------------------------------------------------------------------------------------------------------

REFUSED = "none_refused of campaign/profile"
GUARD = "initial_load of change_set/contact"


def test_a_check_is_told_when_it_begins_to_fail_and_when_it_passes_again(
    sandbox: Sandbox, watching: Watching, hook: Hook
) -> None:
    [key] = sandbox.seed(contacts=1)
    watching.succeed()
    watching.look()
    sandbox.dataverse.update("contact", key, {"firstname": "x" * 40})
    watching.succeed()
    watching.look()
    watching.succeed()
    watching.look()
    assert of(hook, REFUSED) == [WARNING]
    got = hook.got[-1]
    assert got["asset"] == "campaign/profile"
    assert got["link"] == "https://dagster.example.com/assets/campaign/profile?view=checks"
    assert "xxx" not in got["text"]
    sandbox.dataverse.update("contact", key, {"firstname": "Ada"})
    watching.succeed()
    watching.look()
    watching.look()
    assert of(hook, REFUSED) == [WARNING, ("recovered", "warning")]


def test_a_blocked_step_is_told_by_its_check_alone(sandbox: Sandbox, watching: Watching, hook: Hook) -> None:
    sandbox.seed(contacts=3)
    watching.integration.set("guardrails", max_initial_records=1)
    watching.integration.fail()
    watching.look()
    assert (of(hook, GUARD), of(hook, "sync")) == ([ERROR], [])
    watching.integration.set("guardrails", max_initial_records=10)
    watching.succeed()
    watching.look()
    assert (of(hook, GUARD), of(hook, "sync")) == ([ERROR, RECOVERED], [])


def test_several_checks_and_a_run_at_once_are_told_each(sandbox: Sandbox, watching: Watching, hook: Hook) -> None:
    [key] = sandbox.seed(contacts=1)
    sandbox.dataverse.update("contact", key, {"firstname": "x" * 40})
    watching.integration.set("engine_calls", daily_budget=4, warn_at=0.1)
    watching.succeed()
    watching.fail(sandbox)
    watching.look()
    told = [name for name, _, _ in hook.told]
    assert len(told) == len(set(told))
    assert {"sync", REFUSED, "daily_budget of campaign/profile"} <= set(told)


# --- other sensors ----------------------------------------------------------------------------------------------------


def looks(instance: dg.DagsterInstance, error: Exception | None = None) -> None:
    """The daemon keeps a look of the sensor over Dynamics."""
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._core.scheduler.instigation import TickData, TickStatus
    from dagster_shared.error import SerializableErrorInfo

    from assets.flows import _origin

    origin = _origin(INGRESS)
    instance.create_tick(
        TickData(
            instigator_origin_id=origin.get_id(),
            instigator_name=INGRESS.sensor,
            instigator_type=InstigatorType.SENSOR,
            status=TickStatus.FAILURE if error else TickStatus.SKIPPED,
            timestamp=time.time(),
            selector_id=origin.get_selector().get_id(),
            error=SerializableErrorInfo(repr(error), [], type(error).__name__) if error else None,
        )
    )


def test_a_sensor_that_can_not_look_is_told_once(watching: Watching, hook: Hook) -> None:
    instance = watching.integration.instance
    looks(instance, KeyError("ada@example.com"))
    watching.look()
    assert hook.got == [], "it is off"
    switch_on(instance, INGRESS)
    for _ in range(3):
        looks(instance, KeyError("ada@example.com"))
        watching.look()
    assert hook.told == [("dynamics_changes", *ERROR)]
    assert hook.got[0]["words"] == "the sensor: KeyError, which the log of the run tells in full."
    looks(instance)
    watching.look()
    assert hook.told == [("dynamics_changes", *ERROR), ("dynamics_changes", *RECOVERED)]


def test_a_flow_that_failed_is_not_told_a_second_time_by_its_own_check(watching: Watching, hook: Hook) -> None:
    found = dg.AssetCheckEvaluation(
        asset_key=flow_key(INGRESS.name), check_name=CHECK, passed=False, severity=dg.AssetCheckSeverity.ERROR
    )
    watching.integration.instance.report_runless_asset_event(found)
    watching.look()
    assert hook.got == []


# --- hooks that fail --------------------------------------------------------------------------------------------------


def test_a_dead_mail_server_makes_nobody_hear_twice_and_gets_its_mail_when_it_is_back(
    sandbox: Sandbox,
    watching: Watching,
    authority: Authority,
    hook: Hook,
    mail: MailServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watching.integration.set("alerts", hooks=[to(hook, authority), by_mail(mail, authority)])
    mail.answer = "451 not now"
    watching.fail(sandbox)
    assert "alert hook 'mail': localhost answered 451. 1 alerts wait for it" in watching.look()
    watching.look()
    assert (len(hook.got), len(mail.mails)) == (1, 0)
    watching.succeed()
    mail.answer = "250 OK"
    later = time.time() + 31
    monkeypatch.setattr("assets.alerts.time.time", lambda: later)
    watching.look()
    subjects = [got["Subject"] for got in mail.mails]
    assert subjects == ["sandbox, error: runs of sync fail", "sandbox, recovered: runs of sync succeed again"]
    assert of(hook, "sync") == [ERROR, RECOVERED]


def test_a_hook_without_its_secret_leaves_the_others_alone(
    sandbox: Sandbox, watching: Watching, authority: Authority, hook: Hook
) -> None:
    lost = to(hook, authority, "lost", header={"name": "Authorization", "value": {"env": "NOT_SET_ANYWHERE"}})
    watching.integration.set("alerts", hooks=[lost, to(hook, authority)])
    watching.fail(sandbox)
    reason = watching.look()
    assert "environment variable NOT_SET_ANYWHERE is not set" in reason
    assert of(hook, "sync") == [ERROR]


def test_a_hook_hears_of_what_is_as_bad_as_it_wants(
    sandbox: Sandbox, watching: Watching, authority: Authority, hook: Hook
) -> None:
    watching.integration.set("alerts", hooks=[to(hook, authority, minimum="error")])
    watching.fail(sandbox, status=503)
    watching.look()
    assert hook.got == []
    watching.fail(sandbox)
    watching.look()
    watching.succeed()
    watching.look()
    assert of(hook, "sync") == [ERROR, RECOVERED]


def test_cursor_holds_no_address_and_no_secret(
    sandbox: Sandbox, watching: Watching, authority: Authority, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", "s3cret-token")
    header = {"name": "Authorization", "value": {"env": "HOOK_TOKEN"}}
    hook.status = 500
    watching.integration.set("alerts", hooks=[to(hook, authority, header=header)])
    watching.fail(sandbox)
    reason = watching.look()
    assert watching.cursor is not None
    assert [len(each.waiting) for each in Cursor.model_validate_json(watching.cursor).memory.hooks.values()] == [1]
    for told in (reason, watching.cursor):
        assert os.environ["HOOK_TOKEN"] not in told
        assert hook.url not in told
