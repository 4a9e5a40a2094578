"""Output logs on the SFTP server, end to end (R28, R30, R31, R108, R117)."""

import csv
import os
import time
from pathlib import Path

import pytest

from assets.jobs import SYNC
from assets.runs import RunReport
from d365_campaign.sandbox import Sandbox
from tests.integration import Integration
from tests.opting_out import EMAIL, in_dynamics

MARKER = "zebra4711"
DAY = 86_400


@pytest.fixture
def logged(integration: Integration) -> Integration:
    """Log files are switched on, opt-outs are not kept in step."""
    integration.keep_opt_outs("disabled")
    integration.set("sftp", output_logs=True)
    return integration


def folder(sandbox: Sandbox) -> Path:
    return sandbox.sftp.root / "d365_loads" / "logs"


def files(sandbox: Sandbox) -> list[Path]:
    return sorted(folder(sandbox).glob("*")) if folder(sandbox).is_dir() else []


def rows(file: Path) -> list[list[str]]:
    """What the file says, but for the times."""
    return [row[1:] for row in csv.reader(file.read_text(encoding="utf-8").splitlines(), delimiter=";")]


def run(integration: Integration) -> RunReport:
    report = integration.run(SYNC)
    assert report.success, report.errors
    return report


def test_no_log_is_written_and_the_storage_never_touched_unless_it_is_switched_on(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R108: No is the default."""
    integration.keep_opt_outs("disabled")
    sandbox.dataverse.create("contact", {"firstname": "Ada"})

    report = run(integration)

    assert "sftp/output_log" not in report.materialized
    assert sandbox.sftp.sessions == 0
    with pytest.raises(Exception, match="output_log"):
        integration.change_staging("select * from main.output_log")


def test_each_run_has_one_file_that_says_what_became_of_each_record(sandbox: Sandbox, logged: Integration) -> None:
    """R30; A5: of all flows."""
    logged.keep_opt_outs("bidirectional", EMAIL)
    logged.set("sftp", output_logs=True)
    ada = sandbox.dataverse.create("contact", {"firstname": "Ada", "lastname": "Byron"})
    sandbox.settings.update({"email_check": True})
    bad = sandbox.dataverse.create("contact", {"firstname": "Bob", "emailaddress1": "no address"})
    report = run(logged)
    [file] = files(sandbox)

    header, *told = rows(file)
    assert header == ["flow", "table", "key", "action", "fields", "result"]
    assert {row[2]: (row[0], row[1], row[3], row[5].split(":")[0]) for row in told} == {
        ada: ("ingress", "contact", "insert", "done"),
        bad: ("ingress", "contact", "insert", "refused"),
    }
    assert report.materialized["sftp/output_log"]["rows"] == 2

    in_dynamics(sandbox, ada, lastname="Lovelace")
    run(logged)
    in_dynamics(sandbox, ada, donotemail=True)
    run(logged)

    _, second, third = sorted(files(sandbox), key=lambda file: file.stat().st_mtime)
    assert rows(second)[1:] == [["ingress", "contact", ada, "update", "lastName", "done"]]
    assert rows(third)[1:] == [["opt_outs", "contact", ada, "opt_out to campaign", "blackListEmail", "done"]]


def test_run_that_did_nothing_writes_no_file(sandbox: Sandbox, logged: Integration) -> None:
    run(logged)

    assert files(sandbox) == []


def test_no_value_of_a_record_is_in_any_log(sandbox: Sandbox, logged: Integration) -> None:
    """R31."""
    sandbox.settings.update({"email_check": True})
    key = sandbox.dataverse.create("contact", {"firstname": MARKER, "emailaddress1": f"{MARKER} no address"})
    fine = sandbox.dataverse.create("contact", {"firstname": MARKER})
    run(logged)
    in_dynamics(sandbox, fine, firstname=f"{MARKER}2")
    run(logged)

    contents = [file.read_text(encoding="utf-8") for file in files(sandbox)]
    assert len(contents) == 2
    assert key in "".join(contents)
    assert MARKER not in "".join(contents)


@pytest.mark.parametrize("used_bytes", [850_000, 899_990, 950_000], ids=["85 %", "would reach 90 %", "95 %"])
def test_no_log_is_written_where_it_would_fill_the_storage(
    sandbox: Sandbox, logged: Integration, used_bytes: int
) -> None:
    """R28: it stops before the licensed amount is reached, and goes on once there is room."""
    (sandbox.sftp.root / "large.bin").write_bytes(b"x" * used_bytes)
    logged.set("sftp", quota_gigabytes=0.001)
    sandbox.dataverse.create("contact", {"firstname": "Ada"})

    report = run(logged)

    stops = used_bytes > 890_000
    assert len(files(sandbox)) == (0 if stops else 1)
    assert any("sftp/output_log sftp_capacity: " in failed for failed in report.failed_checks)
    assert any("1 runs no log file is written yet" in failed for failed in report.failed_checks) is stops

    (sandbox.sftp.root / "large.bin").unlink()
    assert run(logged).failed_checks == []
    assert len(files(sandbox)) == 1


def test_rows_wait_while_the_storage_cannot_be_reached(sandbox: Sandbox, logged: Integration) -> None:
    """Each run's log comes later under its own run's name."""
    sandbox.add_sftp_fault(kind="refuse", times=99)
    keys = []
    for name in ("Ada", "Bob"):
        keys.append(sandbox.dataverse.create("contact", {"firstname": name}))
        report = run(logged)
        assert report.materialized["campaign/profile"]["inserted"] == 1
    [failed] = [failed for failed in report.failed_checks if "output_log_written" in failed]
    assert "Of 2 runs no log file is written yet" in failed

    sandbox.sftp.faults.clear()
    assert run(logged).failed_checks == []

    assert sorted(rows(file)[1][2] for file in files(sandbox)) == sorted(keys)


def test_rows_of_a_run_that_failed_go_with_the_next_one(sandbox: Sandbox, logged: Integration) -> None:
    sandbox.dataverse.create("contact", {"firstname": "Ada"})
    sandbox.dataverse.create("contact", {"firstname": "Bob"})
    sandbox.add_fault(system="campaign", method="POST", status=401, times=99, skip=1)
    assert not logged.run(SYNC).success

    sandbox.clear_faults()
    run(logged)

    assert sorted(len(rows(file)) - 1 for file in files(sandbox)) == [1, 1]


def test_old_logs_are_deleted_and_nothing_else(sandbox: Sandbox, logged: Integration) -> None:
    """R117."""
    folder(sandbox).mkdir()
    for name, days in (("d365_campaign_a_b.csv", 16), ("d365_campaign_c_d.csv", 14), ("notes.csv", 99)):
        (folder(sandbox) / name).touch()
        old = time.time() - days * DAY
        os.utime(folder(sandbox) / name, (old, old))

    run(logged)

    assert [file.name for file in files(sandbox)] == ["d365_campaign_c_d.csv", "notes.csv"]
