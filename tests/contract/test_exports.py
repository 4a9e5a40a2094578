"""Campaign's daily opt-out files, end to end: over the sandbox's SFTP, with whatever can go wrong with such a file.

Each test names the rules it shows. Everything runs through Dagster, on the sandbox, over real sockets.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from assets.jobs import SYNC
from assets.runs import RunReport
from d365_campaign.sandbox import Sandbox
from tests.integration import Integration
from tests.opting_out import EMAIL_AND_PHONE, in_campaign

HOUR, DAY = 3_600, 86_400
CHECK = "sftp/opt_out_exports"


@pytest.fixture
def kept(integration: Integration) -> Integration:
    """Opt-outs of e-mail and phone are kept in step, both ways."""
    integration.keep_opt_outs("bidirectional", EMAIL_AND_PHONE)
    return integration


@pytest.fixture
def ada(sandbox: Sandbox, kept: Integration) -> str:
    """A person both systems have, who opts out of nothing."""
    key = sandbox.dataverse.create("contact", {"firstname": "Ada"})
    kept.sync()
    sandbox.export_opt_outs()
    kept.sync()
    return key


def opts_out(sandbox: Sandbox, key: str, name: str = "blackListEmail", *, of: bool = True) -> None:
    """In Campaign; the daily file tells of it."""
    in_campaign(sandbox, key, **{name: of})
    sandbox.advance_clock(1)
    sandbox.export_opt_outs()


def run(integration: Integration) -> RunReport:
    report = integration.run(SYNC)
    assert report.success, report.errors
    return report


def taken(report: RunReport) -> Mapping[str, Any]:
    return report.materialized[CHECK]


def told(report: RunReport, check: str) -> str:
    """What the check says that failed; nothing where it passed."""
    name = f"{CHECK} {check}: "
    return "".join(failed.removeprefix(name) for failed in report.failed_checks if failed.startswith(name))


def in_folder(sandbox: Sandbox, folder: str = "") -> list[str]:
    path = sandbox.sftp.root / "d365_loads" / "exports" / folder
    return sorted(file.name for file in path.iterdir() if file.is_file()) if path.is_dir() else []


def dynamics(sandbox: Sandbox, key: str, column: str = "donotemail") -> bool:
    return bool(sandbox.dataverse.get("contact", key)[column])


# --- the way of a file ------------------------------------------------------------------------------------------------


def test_opt_out_made_in_campaign_reaches_dynamics_by_the_daily_file(
    sandbox: Sandbox, kept: Integration, ada: str
) -> None:
    """R25, R29, R71; R117: the file is moved out of the way."""
    opts_out(sandbox, ada)
    [name] = in_folder(sandbox)

    report = run(kept)

    assert (taken(report)["files"], taken(report)["rows"]) == (1, 1)
    assert dynamics(sandbox, ada)
    assert in_folder(sandbox) == []
    assert name in in_folder(sandbox, "processed")
    assert taken(run(kept))["files"] == 0


def test_what_was_read_since_a_backup_of_the_staging_file_is_read_again_once_it_is_put_back(
    sandbox: Sandbox, kept: Integration, ada: str, tmp_path: Path
) -> None:
    """It was read and not written yet when the disk was lost, and no later file tells of it again."""
    backup = shutil.copy(kept.staging, tmp_path / "backup.duckdb")
    opts_out(sandbox, ada)
    [name] = in_folder(sandbox)
    sandbox.add_fault(system="dataverse", in_batch=True, path="contacts", times=9, status=400, body={"error": {}})
    kept.run(SYNC)
    assert not dynamics(sandbox, ada)
    sandbox.clear_faults()
    shutil.copy(backup, kept.staging)
    run(kept)
    assert not dynamics(sandbox, ada)

    exports = sandbox.sftp.root / "d365_loads" / "exports"
    (exports / "processed" / name).rename(exports / name)
    run(kept)

    assert dynamics(sandbox, ada)


@pytest.mark.parametrize(
    ("settings", "exports"),
    [
        ({"export_gzip": True}, {}),
        ({"export_bom": True}, {}),
        ({"export_encoding": "utf-16"}, {"encoding": "utf-16"}),
        ({"export_delimiter": "\t"}, {"delimiter": "\t"}),
        ({"export_seconds_only": True}, {}),
    ],
    ids=["gzip", "BOM", "UTF-16", "tabs", "whole seconds"],
)
def test_file_is_read_in_the_form_that_the_workflow_writes(
    sandbox: Sandbox, kept: Integration, ada: str, settings: dict[str, Any], exports: dict[str, Any]
) -> None:
    sandbox.settings.update(settings)
    kept.set("opt_outs", exports={"stable_seconds": 0, **exports})
    opts_out(sandbox, ada)

    report = run(kept)

    assert told(report, "exports_readable") == ""
    assert dynamics(sandbox, ada)


def test_one_run_opens_one_connection_and_closes_it(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    sandbox.clear_calls()

    run(kept)

    assert sandbox.sftp.sessions == 1
    assert sandbox.sftp.wait_until_closed()


def test_storage_is_never_looked_at_where_campaign_is_not_asked(sandbox: Sandbox, integration: Integration) -> None:
    """R21, R106."""
    sandbox.dataverse.create("contact", {"firstname": "Ada"})
    for direction in ("disabled", "dynamics_to_campaign"):
        integration.keep_opt_outs(direction, EMAIL_AND_PHONE if direction != "disabled" else None)
        integration.sync()

    assert sandbox.sftp.sessions == 0
    assert sandbox.sftp.operations == []


def test_what_lies_in_processed_for_too_long_is_deleted(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    """R117."""
    [name] = in_folder(sandbox, "processed")
    kept.set("opt_outs", exports={"stable_seconds": 0, "keep_days": 0})
    sandbox.clear_calls()

    run(kept)

    assert in_folder(sandbox, "processed") == []
    assert [call.path for call in sandbox.sftp.operations if call.operation == "remove"] == [
        f"/d365_loads/exports/processed/{name}"
    ]


def test_file_may_be_deleted_at_once(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    kept.set("opt_outs", exports={"stable_seconds": 0, "after_reading": "delete"})
    opts_out(sandbox, ada)
    before = in_folder(sandbox, "processed")

    run(kept)

    assert (in_folder(sandbox), in_folder(sandbox, "processed")) == ([], before)


# --- what can go wrong with one ---------------------------------------------------------------------------------------


def test_late_file_is_taken_in_when_it_comes(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    sandbox.add_export_fault(kind="late", seconds=HOUR)
    opts_out(sandbox, ada)
    assert taken(run(kept))["files"] == 0

    sandbox.advance_clock(HOUR + 1)

    assert taken(run(kept))["files"] == 1
    assert dynamics(sandbox, ada)


def test_file_that_was_lost_is_missed_and_said(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    """R26: what it told is lost until the profile changes again, or the contact is written."""
    sandbox.add_export_fault(kind="lost")
    opts_out(sandbox, ada)
    kept.change_staging("""update "opt-outs"."export" set taken_at = taken_at - interval 28 hours""")

    report = run(kept)

    assert "The last daily opt-out file came 28.0 hours ago" in told(report, "exports_fresh")
    assert not dynamics(sandbox, ada)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("empty", "it is empty, without even a header"),
        ("renamed_columns", "it has no column 'externalId'"),
        ("wrong_encoding", "it is UTF-16, not utf-8"),
    ],
)
def test_file_that_cannot_be_read_is_refused_and_told_until_someone_looks(
    sandbox: Sandbox, kept: Integration, ada: str, fault: str, words: str
) -> None:
    sandbox.add_export_fault(kind=fault)
    opts_out(sandbox, ada)
    [name] = in_folder(sandbox)

    first = run(kept)
    sandbox.clear_calls()
    again = run(kept)

    assert f"{name}: {words}" in told(first, "exports_readable")
    assert told(again, "exports_readable") == told(first, "exports_readable")
    assert "open" not in {call.operation for call in sandbox.sftp.operations}, "it is not downloaded again"
    assert in_folder(sandbox) == [name]
    assert not dynamics(sandbox, ada)

    opts_out(sandbox, ada)
    run(kept)
    assert dynamics(sandbox, ada), "the next day's file is taken all the same"


def test_header_alone_says_that_nothing_changed(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    sandbox.add_export_fault(kind="header_only")
    opts_out(sandbox, ada)

    report = run(kept)

    assert (taken(report)["files"], taken(report)["rows"]) == (1, 0)
    assert told(report, "exports_readable") == ""


def test_row_in_whose_middle_a_file_ends_is_read_live(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    """Its key is whole, so Campaign itself is asked."""
    sandbox.add_export_fault(kind="cut")
    opts_out(sandbox, ada)

    report = run(kept)

    assert "it ends in the middle of a row" in told(report, "exports_readable")
    assert taken(report)["unreadable"] == 1
    assert dynamics(sandbox, ada)


def test_upload_that_pauses_is_taken_in_whole_once_it_is_through(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    bob = sandbox.dataverse.create("contact", {"firstname": "Bob"})
    kept.sync()
    sandbox.add_export_fault(kind="uploading", seconds=HOUR)
    in_campaign(sandbox, bob, blackListEmail=True)
    opts_out(sandbox, ada)
    run(kept)
    assert len(in_folder(sandbox)) == 1, "it stays, so that the rest can come"

    sandbox.advance_clock(HOUR + 1)
    report = run(kept)

    assert told(report, "exports_readable") == ""
    assert (dynamics(sandbox, ada), dynamics(sandbox, bob)) == (True, True)
    assert in_folder(sandbox) == []


def test_file_that_comes_twice_is_applied_once(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    sandbox.add_export_fault(kind="duplicate")
    opts_out(sandbox, ada)
    assert len(in_folder(sandbox)) == 2

    report = run(kept)

    assert taken(report)["files"] == 2
    assert dynamics(sandbox, ada)
    assert in_folder(sandbox) == []


@pytest.mark.parametrize("opted_out_at_last", [True, False])
def test_file_that_comes_after_the_next_one_changes_nothing(
    sandbox: Sandbox, kept: Integration, ada: str, opted_out_at_last: bool
) -> None:
    """The older word never wins, whichever it is."""
    sandbox.add_export_fault(kind="out_of_order")
    opts_out(sandbox, ada, of=not opted_out_at_last)
    opts_out(sandbox, ada, of=opted_out_at_last)

    run(kept)
    run(kept)

    assert in_folder(sandbox) == []
    assert dynamics(sandbox, ada) is opted_out_at_last


def test_times_that_cannot_be_read_make_campaign_be_asked(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    sandbox.add_export_fault(kind="bad_times")
    opts_out(sandbox, ada)

    report = run(kept)

    assert "1 rows can't be read; what Campaign says of their contacts is read live" in told(report, "exports_readable")
    assert dynamics(sandbox, ada)


def test_names_that_could_lead_elsewhere_are_told_and_not_touched(
    sandbox: Sandbox, kept: Integration, ada: str
) -> None:
    opts_out(sandbox, ada)
    [name] = in_folder(sandbox)
    folder: Path = sandbox.sftp.root / "d365_loads" / "exports"
    (folder / "..\\..\\evil.csv").write_bytes((folder / name).read_bytes())
    sandbox.clear_calls()

    report = run(kept)

    assert "1 names that no file should have" in told(report, "exports_readable")
    assert not [call for call in sandbox.sftp.operations if "evil" in call.path]
    assert dynamics(sandbox, ada)


def test_missing_folder_is_told_with_what_to_do(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    """R109."""
    folder = sandbox.sftp.root / "d365_loads" / "exports"
    folder.rename(folder.with_name("elsewhere"))

    assert "Create the folder there, or correct it in the settings" in told(run(kept), "sftp_reachable")


# --- what can go wrong with the server --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [{"kind": "refuse", "times": 99}, {"kind": "drop", "operation": "read", "times": 99}],
    ids=["unreachable", "drops the download"],
)
def test_opt_outs_made_in_dynamics_reach_campaign_while_the_storage_cannot_be_reached(
    sandbox: Sandbox, kept: Integration, ada: str, fault: dict[str, Any]
) -> None:
    """And the file is taken up by a later run."""
    opts_out(sandbox, ada)
    sandbox.add_sftp_fault(**fault)
    sandbox.dataverse.update("contact", ada, {"donotphone": True})

    report = run(kept)

    assert "No opt-out made in Campaign arrives until it is" in told(report, "sftp_reachable")
    assert sandbox.campaign.get("profile", ada)["blackListPhone"] is True

    sandbox.sftp.faults.clear()
    report = run(kept)
    assert told(report, "sftp_reachable") == ""
    assert taken(report)["files"] == 1
    assert in_folder(sandbox) == []


def test_file_that_was_taken_in_but_cannot_be_moved_is_not_applied_twice(
    sandbox: Sandbox, kept: Integration, ada: str
) -> None:
    sandbox.add_sftp_fault(kind="deny", operation="posix_rename", times=1)
    opts_out(sandbox, ada)

    report = run(kept)
    assert "it was taken in and stays there" in told(report, "exports_readable")
    assert dynamics(sandbox, ada)

    report = run(kept)

    assert taken(report)["files"] == 1
    assert in_folder(sandbox) == []
    assert report.materialized["opt_outs/to_dynamics"]["people"] == 0


def test_storage_that_fills_up_is_told_at_80_and_at_90_percent(sandbox: Sandbox, kept: Integration, ada: str) -> None:
    """R28."""
    (sandbox.sftp.root / "d365_loads" / "large.bin").write_bytes(b"x" * 850_000)
    kept.set("sftp", quota_gigabytes=0.001)
    assert "85%" in told(run(kept), "sftp_capacity")

    (sandbox.sftp.root / "d365_loads" / "large.bin").write_bytes(b"x" * 500_000)
    assert told(run(kept), "sftp_capacity") == ""
