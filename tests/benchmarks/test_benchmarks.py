"""The benchmarks still run, at a size that says nothing about speed."""

import json
import re
from importlib import metadata
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import flat, full_size, opt_outs, pull, scan, tables
from benchmarks.against_dlt import LOCK, Unavailable, environment, version
from benchmarks.report import Figure, Target, footer, forget_peak, peak_mb, show


def figure(ours: float, target: Target, **facts: float) -> Figure:
    return Figure("plan", "10 rows", "s", ours, yardstick=2.0, target=target, peak_mb=100.0, **facts)


@pytest.mark.parametrize(
    ("ours", "target", "met"),
    [
        (3.0, Target("at most", 1.5), True),
        (3.1, Target("at most", 1.5), False),
        (0.6, Target("at least", 0.3), True),
        (0.5, Target("at least", 0.3), False),
    ],
    ids=["as slow as allowed", "too slow", "just fast enough", "not fast enough"],
)
def test_target_bounds_the_ratio(ours: float, target: Target, met: bool) -> None:
    assert figure(ours, target).met is met


def test_too_much_memory_misses_the_target() -> None:
    assert not figure(1.0, Target("at most", 1.5), peak_limit_mb=50.0).met


def test_plan_runs_in_a_process_of_its_own_and_writes_its_figures(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"

    benchmarks.main(["--only", "plan", "--scale", "0.001", "--json", str(file)])

    everything, touched = json.loads(file.read_text(encoding="utf-8"))
    assert everything["size"] == "5,000 rows x 15 columns"
    assert touched["yardstick"] == everything["ours"] > 0


def test_incremental_runs_write_what_changed_on_the_sandbox(tmp_path: Path) -> None:
    figures = flat.run(tmp_path, scale=0.001)

    assert [figure.what for figure in figures] == [
        "flat, time per run",
        "flat, CPU per run",
        "flat, staging file",
        "flat, memory",
    ]
    assert min(figure.ours for figure in figures) > 0


def test_opt_outs_are_decided_taken_from_a_file_and_written_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opt_outs, "REPEATS", 1)
    monkeypatch.setattr(opt_outs, "BATCH_SECONDS", 0.01)

    figures = opt_outs.run(tmp_path, scale=0.0001, full=True)

    assert [figure.what for figure in figures] == [
        "opt-outs, decide",
        "opt-outs, file",
        "opt-outs, write back",
        "opt-outs, large file",
    ]
    assert min(figure.ours for figure in figures) > 0


def test_many_linked_tables_are_planned_and_their_changes_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "ENTITIES", 9)
    monkeypatch.setattr(tables, "REPEATS", 1)

    figures = tables.run(tmp_path, scale=0.001)

    assert [figure.size for figure in figures] == [
        "10 tables x 200 rows x 50 columns",
        "100 of each of 10 tables x 200 rows x 50 columns",
    ]
    assert min(figure.ours for figure in figures) > 0


def test_links_of_many_tables_go_two_deep() -> None:
    parents = {bound.name: [parent.table for parent in bound.parents] for bound in tables.mappings()}

    assert len(parents) == 21
    assert parents["new_entity8"] == ["new_entity0"]
    assert parents["new_entity0"] == ["contact"]
    assert parents["contact"] == []


def test_scan_takes_in_every_profile_of_the_sandbox(tmp_path: Path) -> None:
    (figure,) = scan.run(tmp_path, scale=0.03)

    assert figure.size == "1,500 profiles x 15 fields"
    assert figure.ratio is not None


def test_full_size_goes_through_all_its_phases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert full_size.main(["--rows", "6000", "--write-seconds", "1", "--directory", str(tmp_path)]) == 0

    told = capsys.readouterr().out
    assert "6,000 rows x 15 columns" in told
    assert all(phase.__name__.replace("_", " ") in told for phase in full_size.PHASES)
    assert re.search(r"write inserts: \d+ x settle, .* median \d+ ms", told)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets a peak")
def test_forgotten_peak_is_counted_anew() -> None:
    large = bytearray(b"x") * 200_000_000
    highest = peak_mb()
    del large

    forget_peak()

    assert peak_mb() < highest - 150


def test_pull_without_dlt_says_why_and_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> Path:
        raise Unavailable("no registry")

    monkeypatch.setattr("benchmarks.against_dlt.environment", refuse)

    _, against = pull.run(tmp_path, scale=0.0005)
    show([against])

    assert against.yardstick is None
    assert against.met
    assert "pull, against dlt: no yardstick, dlt can't be installed here: no registry" in capsys.readouterr().out


def test_environment_that_cannot_be_installed_is_unavailable_and_tried_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"no-such-package-here==1 --hash=sha256:{'0' * 64}\n", encoding="utf-8")

    for _ in range(2):
        with pytest.raises(Unavailable, match="no-such-package-here"):
            environment(tmp_path / "environment", lock)


def test_lock_of_dlt_names_versions_and_hashes_but_no_addresses() -> None:
    lines = LOCK.read_text(encoding="utf-8").splitlines()

    assert not [line for line in lines if "://" in line or "--index" in line or "--find-links" in line]
    assert all("==" in line for line in lines if line and line[0] not in " #")
    assert re.fullmatch(r"\d+(\.\d+)+", version())


def test_footer_names_day_machine_and_versions() -> None:
    text = footer()

    assert re.search(r"\d\d \w+ \d{4}", text)
    assert re.search(r"\d+ cores .* \d+ GB of memory", text)
    assert f"duckdb {metadata.version('duckdb')}" in text
