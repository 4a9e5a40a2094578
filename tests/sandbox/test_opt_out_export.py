"""The daily opt-out export: "Best practices and limitations", "Incremental query", "Extract file", "Transfer file".

No page describes the file itself; its form is ours, and what could well be otherwise is a setting.
"""

import csv
import gzip
import re
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from d365_campaign.sandbox import Sandbox

from .conftest import Caller
from .test_sftp import opened

DAY = 86_400
WORKFLOW = "/workflow/execution/d365OptOutExport"
HEADER = (
    "externalId;lastModified;blackList;blackListLastModified;blackListEmail;blackListEmailLastModified;"
    "blackListFax;blackListFaxLastModified;blackListMobile;blackListMobileLastModified;"
    "blackListPhone;blackListPhoneLastModified;blackListPostalMail;blackListPostalMailLastModified;"
    "blackListPushnotification;blackListPushnotificationLastModified;ccpaOptOut;ccpaOptOutLastModified\n"
)


def folder(sandbox: Sandbox) -> Path:
    return sandbox.sftp.root / "d365_loads" / "exports"


def files(sandbox: Sandbox) -> list[str]:
    return sorted(path.name for path in folder(sandbox).iterdir())


def text(sandbox: Sandbox, name: str) -> str:
    return (folder(sandbox) / name).read_bytes().decode()


def rows(sandbox: Sandbox, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text(sandbox, name).splitlines(), delimiter=";"))


def keys(sandbox: Sandbox, name: str) -> list[str]:
    return [row["externalId"] for row in rows(sandbox, name)]


def exported(sandbox: Sandbox) -> str:
    """The name of a file made now, a second after whatever happened before."""
    sandbox.advance_clock(1)
    name = sandbox.export_opt_outs()
    assert name is not None
    return name


def add(sandbox: Sandbox, key: str, **values: Any) -> None:
    sandbox.campaign.create("profile", {"externalId": key, **values})


# --- when it runs


def test_it_runs_once_per_day_and_each_file_bears_its_days_stamp(sandbox: Sandbox) -> None:
    add(sandbox, "c1")
    sandbox.advance_clock(DAY - 60)
    assert files(sandbox) == []
    sandbox.advance_clock(2 * DAY + 120)
    names = files(sandbox)
    assert [keys(sandbox, name) for name in names] == [["c1"], [], []]
    stamps = [datetime.strptime(name, "optout_%Y%m%d_%H%M%S.csv") for name in names]
    assert [(later - earlier).total_seconds() for earlier, later in pairwise(stamps)] == [DAY, DAY]


def test_its_period_is_a_setting(sandbox: Sandbox) -> None:
    sandbox.settings.update({"export_seconds": 3600})
    sandbox.advance_clock(3 * 3600 + 1)
    assert len(files(sandbox)) == 3
    sandbox.settings.update({"export_seconds": 0})
    sandbox.advance_clock(DAY)
    assert len(files(sandbox)) == 3


def test_a_file_that_fell_due_is_there_for_whoever_looks(sandbox: Sandbox) -> None:
    """Whether the look comes over SFTP or as a call to Campaign."""
    sandbox.clock.advance(DAY + 1)
    with opened(sandbox) as client:
        assert len(client.listdir("d365_loads/exports")) == 1


def test_a_call_to_campaign_tells_when_it_last_ran(sandbox: Sandbox, campaign: Caller) -> None:
    """ "Controlling a workflow" documents neither state nor times; both fields are ours."""
    sandbox.settings.update({"export_seconds": 3600})
    sandbox.clock.advance(3540)
    assert campaign.json(WORKFLOW)["lastStart"] == ""
    sandbox.clock.advance(120)
    shown = campaign.json(WORKFLOW)
    [name] = files(sandbox)
    assert re.sub(r"[-: ]", "", shown["lastStart"])[:14] == name[7:22].replace("_", "")
    assert shown["state"] == "started"


# --- what it takes


def test_it_takes_what_changed_since_its_last_run(sandbox: Sandbox) -> None:
    """ "Incremental query": by date field, so any change counts and not only that of an opt-out."""
    for key in ("c1", "c2", "c3"):
        add(sandbox, key)
    assert keys(sandbox, exported(sandbox)) == ["c1", "c2", "c3"]
    sandbox.campaign.update("profile", "c2", {"lastName": "New"})
    sandbox.campaign.delete("profile", "c3")
    assert keys(sandbox, exported(sandbox)) == ["c2"]


def test_a_change_in_the_moment_of_a_run_is_exported_twice_rather_than_never(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = sandbox.clock.now()
    monkeypatch.setattr(sandbox.clock, "now", lambda: moment)
    add(sandbox, "c1")
    assert [keys(sandbox, exported(sandbox)) for _ in range(2)] == [["c1"], ["c1"]]


def test_a_change_after_a_run_fell_due_is_left_to_the_next(sandbox: Sandbox) -> None:
    sandbox.clock.advance(DAY + 1)
    add(sandbox, "c1")
    sandbox.advance_clock(DAY)
    assert [keys(sandbox, name) for name in files(sandbox)] == [[], ["c1"]]


def test_a_profile_that_is_not_ours_has_no_key(sandbox: Sandbox) -> None:
    sandbox.campaign.create("profile", {"lastName": "Walk-in", "blackListEmail": True})
    [row] = rows(sandbox, exported(sandbox))
    assert (row["externalId"], row["blackListEmail"]) == ("", "1")


# --- the file


def test_a_row_has_each_opt_out_and_the_time_of_its_last_change(sandbox: Sandbox) -> None:
    add(sandbox, "c1", blackListEmail=True, ccpaOptOut=True)
    sandbox.advance_clock(5)
    sandbox.campaign.update("profile", "c1", {"blackListEmail": False})
    name = exported(sandbox)
    profile, [row] = sandbox.campaign.get("profile", "c1"), rows(sandbox, name)
    assert ";".join(row) + "\n" == HEADER
    assert (row["blackList"], row["blackListEmail"], row["ccpaOptOut"]) == ("0", "0", "1")
    assert (row["blackListLastModified"], row["blackListEmailLastModified"]) == ("", profile["lastModified"])
    assert row["ccpaOptOutLastModified"] == profile["ccpaOptOutLastModified"] < row["lastModified"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z", row["lastModified"])
    assert text(sandbox, name).count("\n") == 2
    assert "\r" not in text(sandbox, name)


def test_files_bear_the_sandboxs_time_and_names_of_their_own(sandbox: Sandbox) -> None:
    sandbox.advance_clock(3 * DAY)
    names = {sandbox.export_opt_outs() or "" for _ in range(3)}
    assert len(names) == 3
    for name in names:
        assert abs((folder(sandbox) / name).stat().st_mtime - sandbox.clock.seconds()) < 10


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"export_delimiter": "\t"}, b"externalId\tlastModified\t"),
        ({"export_bom": True}, b"\xef\xbb\xbfexternalId;"),
        ({"export_encoding": "utf-16-le"}, "externalId;".encode("utf-16-le")),
        ({"export_push_stamp": False}, b"blackListPushnotification;ccpaOptOut;"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_its_form_is_a_setting(sandbox: Sandbox, settings: dict[str, Any], expected: bytes) -> None:
    sandbox.settings.update(settings)
    assert expected in (folder(sandbox) / exported(sandbox)).read_bytes()


def test_it_may_be_compressed(sandbox: Sandbox) -> None:
    sandbox.settings.update({"export_gzip": True})
    name = exported(sandbox)
    assert name.endswith(".csv.gz")
    assert gzip.decompress((folder(sandbox) / name).read_bytes()).startswith(b"externalId;")


def test_stamps_may_be_in_whole_seconds(sandbox: Sandbox) -> None:
    sandbox.settings.update({"export_seconds_only": True})
    add(sandbox, "c1")
    [row] = rows(sandbox, exported(sandbox))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", row["lastModified"])


@pytest.mark.parametrize("skips", [True, False])
def test_without_changes_there_is_a_header_alone_or_no_file(sandbox: Sandbox, skips: bool) -> None:
    """ "Extract file": "do not generate a file if the inbound transition is empty"."""
    sandbox.settings.update({"export_skips_empty": skips})
    name = sandbox.export_opt_outs()
    assert (name is None) is skips
    assert files(sandbox) == ([] if name is None else [name])
    assert name is None or text(sandbox, name) == HEADER


# --- start and stop


@pytest.mark.parametrize(("halt", "go_on"), [("stop", "start"), ("pause", "resume")])
def test_nothing_is_exported_while_it_stands_still_and_nothing_is_missed_later(
    sandbox: Sandbox, campaign: Caller, halt: str, go_on: str
) -> None:
    """ "Controlling a workflow"."""
    campaign("POST", f"{WORKFLOW}/commands", json={"method": halt})
    add(sandbox, "c1")
    sandbox.advance_clock(2 * DAY + 1)
    assert (sandbox.export_opt_outs(), files(sandbox)) == (None, [])
    _command(sandbox, go_on)
    sandbox.advance_clock(DAY)
    assert [keys(sandbox, name) for name in files(sandbox)] == [["c1"]]


@pytest.mark.parametrize(("halt", "go_on", "found"), [("stop", "start", ["c2"]), ("pause", "resume", ["c1", "c2"])])
def test_a_workflow_that_is_made_anew_misses_what_changed_while_it_was_stopped(
    sandbox: Sandbox, halt: str, go_on: str, found: list[str]
) -> None:
    sandbox.settings.update({"export_loses_stopped_time": True})
    sandbox.campaign.workflow_runs.command("d365OptOutExport", halt)
    add(sandbox, "c1")
    sandbox.advance_clock(10)
    _command(sandbox, go_on)
    add(sandbox, "c2")
    assert keys(sandbox, exported(sandbox)) == found


def _command(sandbox: Sandbox, method: str) -> None:
    sandbox.campaign.workflow_runs.command("d365OptOutExport", method)


def test_without_its_folder_it_pauses_and_loses_nothing(sandbox: Sandbox) -> None:
    """ "Monitoring workflow execution": an error pauses a workflow. The customer makes the folder."""
    add(sandbox, "c1")
    folder(sandbox).rmdir()
    sandbox.advance_clock(DAY)
    assert sandbox.campaign.workflows["d365OptOutExport"] == "paused"
    folder(sandbox).mkdir()
    sandbox.campaign.workflow_runs.command("d365OptOutExport", "resume")
    assert keys(sandbox, exported(sandbox)) == ["c1"]


def test_a_reset_forgets_exports_and_what_was_on_its_way(sandbox: Sandbox) -> None:
    sandbox.add_export_fault(kind="late")
    sandbox.export_opt_outs()
    sandbox.add_export_fault(kind="cut")
    sandbox.reset()
    sandbox.advance_clock(4000)
    assert (files(sandbox), sandbox.campaign.opt_out_export.made) == ([], [])
    exported(sandbox)
    assert text(sandbox, files(sandbox)[0]).endswith("\n")


# --- faults: how a file arrives


def test_a_late_file_appears_when_its_time_has_come(sandbox: Sandbox) -> None:
    sandbox.add_export_fault(kind="late", seconds=600)
    name = exported(sandbox)
    assert files(sandbox) == []
    sandbox.advance_clock(601)
    assert files(sandbox) == [name]


def test_a_growing_file_has_its_final_name_before_all_of_its_bytes(sandbox: Sandbox) -> None:
    for number in range(20):
        add(sandbox, f"c{number}")
    sandbox.add_export_fault(kind="uploading", seconds=600)
    name = exported(sandbox)
    half = text(sandbox, name)
    sandbox.advance_clock(601)
    whole = text(sandbox, name)
    assert whole.startswith(half)
    assert len(half) == len(whole) // 2
    assert len(keys(sandbox, name)) == 20


def test_a_growing_file_that_is_taken_away_stays_half(sandbox: Sandbox) -> None:
    sandbox.add_export_fault(kind="uploading", seconds=600)
    (folder(sandbox) / exported(sandbox)).unlink()
    sandbox.advance_clock(601)
    assert files(sandbox) == []


def test_a_duplicate_has_the_same_bytes_and_another_name(sandbox: Sandbox) -> None:
    add(sandbox, "c1")
    sandbox.add_export_fault(kind="duplicate")
    exported(sandbox)
    first, second = files(sandbox)
    assert text(sandbox, first) == text(sandbox, second)


def test_an_older_file_may_come_after_a_newer_one(sandbox: Sandbox) -> None:
    add(sandbox, "c1")
    sandbox.add_export_fault(kind="out_of_order")
    older = exported(sandbox)
    assert files(sandbox) == []
    sandbox.advance_clock(60)
    newer = exported(sandbox)
    assert files(sandbox) == [older, newer]
    assert (folder(sandbox) / older).stat().st_mtime > (folder(sandbox) / newer).stat().st_mtime
    assert (keys(sandbox, older), keys(sandbox, newer)) == (["c1"], [])


def test_a_lost_file_never_comes_and_its_rows_are_not_repeated(sandbox: Sandbox) -> None:
    add(sandbox, "c1")
    sandbox.advance_clock(1)
    sandbox.add_export_fault(kind="lost")
    assert sandbox.export_opt_outs() is None
    sandbox.advance_clock(60)
    assert keys(sandbox, exported(sandbox)) == []


# --- faults: what is in it


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("empty", rb""),
        ("header_only", rb"externalId;[^\n]*\n"),
        ("cut", rb"externalId;[^\n]*\nc1;[^\n]*\nc2;[^\n]*"),
        ("renamed_columns", rb"external_id;last_modified;black_list;[^\n]*\nc1;[^\n]*\nc2;[^\n]*\n"),
        ("bad_times", rb"externalId;[^\n]*\nc1;not a time;0;;1;not a time;[^\n]*\nc2;not a time;[^\n]*\n"),
        ("wrong_encoding", rb"\xff\xfee\x00x\x00t\x00.*"),
    ],
)
def test_what_can_be_wrong_inside(sandbox: Sandbox, kind: str, expected: bytes) -> None:
    for key in ("c1", "c2"):
        add(sandbox, key, blackListEmail=True)
    sandbox.add_export_fault(kind=kind)
    faulty = exported(sandbox)
    assert re.fullmatch(expected, (folder(sandbox) / faulty).read_bytes(), re.DOTALL)
    assert text(sandbox, exported(sandbox)) == HEADER


def test_a_fault_meets_as_many_exports_as_it_says_after_those_that_it_lets_pass(sandbox: Sandbox) -> None:
    sandbox.add_export_fault(kind="empty", times=2, skip=1)
    sizes = [len(text(sandbox, exported(sandbox))) for _ in range(4)]
    assert sizes == [len(HEADER), 0, 0, len(HEADER)]


# --- the admin address


def test_exports_are_made_and_listed_over_the_admin_address(sandbox: Sandbox, admin: Caller) -> None:
    admin("POST", "/campaign/profile", json={"externalId": "c1"})
    assert admin("POST", "/export-faults", json={"kind": "cut"}).json() == [
        {"kind": "cut", "times": 1, "skip": 0, "seconds": 3600}
    ]
    name = admin("POST", "/exports").json()["name"]
    assert files(sandbox) == [name]
    [shown] = admin.json("/exports")
    assert (shown["name"], shown["profiles"], shown["fault"]) == (name, 1, "cut")
    assert admin.json("/export-faults") == []


def test_export_faults_are_checked_and_cleared_over_the_admin_address(admin: Caller) -> None:
    assert admin("POST", "/export-faults", json={"kind": "late", "times": 2}).status_code == 200
    assert admin("POST", "/export-faults", json={"kind": "early"}).status_code == 400
    assert admin("POST", "/export-faults", json={"kind": "late", "minutes": 2}).status_code == 400
    assert admin("DELETE", "/export-faults").json() == []
    assert admin.json("/export-faults") == []


def test_a_workflow_set_over_the_admin_address_stands_still_too(sandbox: Sandbox, admin: Caller) -> None:
    admin("POST", "/workflows", json={"d365OptOutExport": "paused"})
    assert admin("POST", "/exports").json() == {"name": None}
    admin("POST", "/clock", json={"advance_seconds": DAY})
    assert files(sandbox) == []
