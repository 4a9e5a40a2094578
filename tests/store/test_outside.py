"""The staging file seen from outside: what earlier runs left is read, and the file stays as it is."""

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from d365_campaign.errors import ConfigurationError, RetriableError
from d365_campaign.store.outside import place_of, saved_tables
from d365_campaign.store.staging import open_staging
from tests.builders import bound, contact, filled, in_step


def in_a_process_of_its_own(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)


def contents(file: Path) -> dict[str, bytes]:
    return {beside.name: beside.read_bytes() for beside in file.parent.iterdir()}


def test_where_there_is_no_file_nothing_is_known_and_none_is_made(file: Path) -> None:
    assert saved_tables(file) == {}
    place = place_of(file)
    assert (place.is_there, place.writable, place.exposed) == (False, True, [])
    assert list(file.parent.iterdir()) == []


def test_a_folder_that_is_yet_to_be_made_counts_as_its_parent(tmp_path: Path) -> None:
    place = place_of(tmp_path / "a" / "b" / "staging.duckdb")
    assert place.writable
    assert place.free_bytes > 0
    assert list(tmp_path.iterdir()) == []


def test_what_runs_left_is_known_by_table(file: Path) -> None:
    with open_staging(file) as staging:
        filled(staging.table(bound()), contact("c1", firstname="Ada"))
    [(name, saved)] = saved_tables(file).items()
    assert name == "contact"
    assert saved.identity == bound().mapping.identity()
    assert saved.schema_facts == bound().schema_facts()
    assert not saved.loaded
    with open_staging(file) as staging:
        in_step(staging.table(bound()), contact("c1", firstname="Ada"))
    assert saved_tables(file)["contact"].loaded


def test_what_a_killed_run_left_in_the_log_is_read_and_stays_there(file: Path) -> None:
    ended = in_a_process_of_its_own(
        f"""
import os
from pathlib import Path
from d365_campaign.store.staging import open_staging
from tests.builders import bound, contact, in_step
with open_staging(Path({str(file)!r})) as staging:
    in_step(staging.table(bound()), contact("c1", firstname="Ada"))
    os._exit(9)
"""
    )
    assert ended.returncode == 9, ended.stderr
    before = contents(file)
    assert f"{file.name}.wal" in before
    assert saved_tables(file)["contact"].loaded
    assert contents(file) == before
    assert place_of(file).exposed == []


def test_a_file_in_use_is_told_at_once(file: Path) -> None:
    code = f"from d365_campaign.store.outside import *; saved_tables(Path({str(file)!r}))"
    with open_staging(file):
        ended = in_a_process_of_its_own(code)
    assert RetriableError.__name__ in ended.stderr
    assert "is in use by a run" in ended.stderr


def test_a_file_of_another_version_is_refused_as_by_a_run(file: Path) -> None:
    with open_staging(file):
        pass
    with duckdb.connect(str(file)) as connection:
        connection.execute("update main.staging_format set version = version + 1")
    with pytest.raises(ConfigurationError, match="another version"):
        saved_tables(file)


def test_files_that_others_may_reach_are_named(file: Path) -> None:
    with open_staging(file):
        assert place_of(file).exposed == []
    file.chmod(0o604)
    assert place_of(file).exposed == [file]
