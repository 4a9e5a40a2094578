"""What commands print to a pipe, to a terminal, and to a reader that leaves: real pipes and a real pseudo-terminal."""

import logging
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner

from d365_campaign.cli import main
from d365_campaign.commands.output import READER_LEFT
from d365_campaign.commands.progress import FLOWS, TableProgress
from d365_campaign.progress import Doing, Progress
from d365_campaign.rehearsal import CONFIG_VARIABLE
from d365_campaign.sandbox import Sandbox
from tests.checking import write_files
from tests.integration import Integration
from tests.opting_out import EMAIL_AND_PHONE

ROOT = Path(__file__).parents[2]
COMMAND = str(Path(sys.executable).with_name("d365-campaign"))
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]m")
WIDE = """
from rich.table import Table
from d365_campaign.commands.output import console
table = Table("key", *(f"column {number}" for number in range(30)))
table.add_row("5c1b2f0e-8d0a-4b7e-9a55-0c7d3f1f2a11", *("a value that is not short" for _ in range(30)))
console().print(table)
console().print("red", style="red")
"""
WORK = """
import logging, time
from d365_campaign.commands.progress import shown_progress
from d365_campaign.progress import Progress
log = logging.getLogger("d365_campaign.flows.apply")
with shown_progress(quiet={quiet}):
    log.info(Progress("contact", "read", 1200))
    log.info(Progress("contact", "planned", 1000))
    for _ in range(10):
        time.sleep({wait})
        log.info(Progress("contact", "written", 100))
print("the result")
"""


def environment(**more: str) -> dict[str, str]:
    """This one, without what says how to print."""
    ours = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "FORCE_COLOR")}
    return {**ours, "TERM": "xterm-256color", **more}


def piped(*command: str, **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=ROOT, env=environment(**more), capture_output=True, text=True, check=False)


def on_a_terminal(*command: str, **more: str) -> str:
    """Everything that comes out where both standard output and standard error are a terminal."""
    parent, child = pty.openpty()
    process = subprocess.Popen(command, cwd=ROOT, env=environment(**more), stdout=child, stderr=child, stdin=child)
    os.close(child)
    shown = b""
    with suppress(OSError):  # how the end of a terminal shows
        while piece := os.read(parent, 65536):
            shown += piece
    process.wait(30)
    os.close(parent)
    return shown.decode()


def python(code: str) -> tuple[str, str, str]:
    return sys.executable, "-c", code


def test_a_table_in_a_pipe_is_neither_cut_nor_wrapped_nor_coloured() -> None:
    shown = piped(*python(WIDE)).stdout
    assert shown.count("a value that is not short") == 30
    assert "…" not in shown
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 6


def test_columns_bound_a_table_in_a_pipe_where_they_are_set() -> None:
    shown = piped(*python(WIDE), COLUMNS="100").stdout
    assert max(map(len, shown.splitlines())) <= 100


def test_a_terminal_has_colours_and_no_color_takes_them_away() -> None:
    assert COLOUR.search(on_a_terminal(*python(WIDE)))
    assert not COLOUR.search(on_a_terminal(*python(WIDE), NO_COLOR="1"))


@pytest.fixture
def refused(tmp_path: Path) -> Path:
    file = tmp_path / "settings.yaml"
    file.write_text("environment: [", encoding="utf-8")
    return file


def test_a_command_prints_plain_lines_into_a_pipe_and_colours_on_a_terminal(refused: Path) -> None:
    command = (COMMAND, "--config", str(refused), "check")
    plain = piped(*command)
    assert (plain.returncode, "\x1b" in plain.stdout) == (2, False)
    assert COLOUR.search(on_a_terminal(*command))
    assert not COLOUR.search(on_a_terminal(*command, NO_COLOR="1"))


@pytest.mark.parametrize("arguments", [("schema", "--json"), ("check",), ("check", "--json"), ("plan", "--help")])
def test_a_reader_that_has_left_gets_no_complaint(arguments: tuple[str, ...], refused: Path) -> None:
    """As `head` leaves; the pipe's end is closed before anything is written."""
    end, into = os.pipe()
    os.close(end)
    command = (COMMAND, "--config", str(refused), *arguments)
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=into, stderr=subprocess.PIPE, text=True)
    os.close(into)
    _, complaint = process.communicate(timeout=60)
    assert (complaint, process.returncode) == ("", READER_LEFT)


# --- progress ---------------------------------------------------------------------------------------------------------


def test_progress_is_a_bar_on_a_terminal_and_gone_in_the_end() -> None:
    shown = on_a_terminal(*python(WORK.format(quiet=False, wait=0.15)))
    assert "of 1,000 written" in shown
    assert "━" in shown
    assert shown.rstrip().endswith("the result")


def test_progress_in_a_pipe_is_a_line_now_and_then_on_stderr() -> None:
    code = WORK.format(quiet=False, wait=0.1).replace("import logging", f"{SOON}; import logging", 1)
    ended = piped(*python(code))
    assert ended.stdout == "the result\n"
    lines = ended.stderr.splitlines()
    assert 1 <= len(lines) <= 4
    assert re.fullmatch(r"contact: 1,200 read, [\d,]+ of 1,000 written", lines[-1])


SOON = "import d365_campaign.commands.progress as shown; shown.LINE_SECONDS = 0.3"


def test_short_work_and_json_say_nothing_of_progress() -> None:
    assert piped(*python(WORK.format(quiet=False, wait=0))).stderr == ""
    assert piped(*python(WORK.format(quiet=True, wait=0))).stderr == ""
    assert "written" not in on_a_terminal(*python(WORK.format(quiet=True, wait=0)))


def test_progress_of_several_runs_adds_up() -> None:
    """The second run plans what the first one left; what was written stays written."""
    table = TableProgress("contact")
    told = []
    for doing, records in (("read", 10), ("planned", 8), ("written", 5), ("planned", 3), ("written", 3)):
        table.heard(Progress("contact", doing, records))  # type: ignore[arg-type]
        told.append(str(table))
    assert told == [
        "contact: 10 read",
        "contact: 10 read, 8 to write",
        "contact: 10 read, 5 of 8 written",
        "contact: 10 read, 5 of 8 written",
        "contact: 10 read, 8 of 8 written",
    ]


def test_a_sync_an_audit_and_a_verify_tell_how_far_they_are(
    sandbox: Sandbox, integration: Integration, caplog: pytest.LogCaptureFixture
) -> None:
    """What the bars are drawn from: each record that is read, planned, written or looked at."""
    caplog.set_level(logging.INFO, FLOWS)
    integration.keep_opt_outs("bidirectional", EMAIL_AND_PHONE)
    sandbox.seed(contacts=3)
    integration.sync()
    environment = {CONFIG_VARIABLE: str(write_files(integration))}
    for command in (["opt-out", "audit"], ["verify"]):
        CliRunner().invoke(main, command, env=environment, catch_exceptions=False)
    told = [record.msg for record in caplog.records if isinstance(record.msg, Progress)]
    counted = {doing: sum(each.records for each in told if each.doing == doing) for doing in get_args(Doing)}
    assert counted == {"read": counted["read"], "planned": 3, "written": 3, "looked at": 6}
    assert counted["read"] >= 3, "a full read is followed by a sweep"


def test_a_progress_reads_well_in_a_log() -> None:
    assert str(Progress("contact", "written", 1200)) == "contact: 1,200 records written"
