"""The staging file: private, for one process at a time, and named in every complaint."""

import subprocess
import sys
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import duckdb
import pytest

from d365_campaign.errors import ConfigurationError, RetriableError
from d365_campaign.store.staging import CONFIG, Staging, open_staging
from tests.builders import bound, contact, in_step
from tests.dying import Crash, DiesAfter


def test_file_and_what_lies_beside_it_are_readable_by_their_owner_only(file: Path) -> None:
    with open_staging(file) as staging:
        in_step(staging.table(bound()), contact("c1"))

        assert {beside.name: oct(beside.stat().st_mode & 0o777) for beside in file.parent.glob("staging*")} == {
            "staging.duckdb": "0o600",
            "staging.duckdb.wal": "0o600",
        }


def test_folder_of_the_file_is_made_when_it_is_not_there(tmp_path: Path) -> None:
    with open_staging(tmp_path / "a" / "b" / "staging.duckdb"):
        pass

    assert (tmp_path / "a" / "b" / "staging.duckdb").exists()


def test_second_process_is_told_to_wait_and_for_which_file(staging: Staging, file: Path) -> None:
    code = f"""
from pathlib import Path
from d365_campaign.errors import RetriableError
from d365_campaign.store.staging import open_staging
try:
    with open_staging(Path({str(file)!r})):
        print("opened")
except RetriableError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert said.startswith(f"staging file {file} is in use by another process. One run at a time works on it: wait ")


def test_file_whose_first_opening_ended_between_any_two_statements_is_opened_by_the_next_run(tmp_path: Path) -> None:
    for statements in count():
        path = tmp_path / f"{statements}.duckdb"
        with closing(duckdb.connect(str(path), config=CONFIG)) as connection, suppress(Crash):
            Staging(DiesAfter(connection, statements))  # type: ignore[arg-type]
            break
        with open_staging(path) as staging:
            in_step(staging.table(bound()), contact("c1"))
            assert staging.tables == ["contact"]
    assert statements > 10


def test_path_below_a_file_is_refused_with_the_setting_to_change(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")

    with (
        pytest.raises(ConfigurationError, match=r"can't be opened for writing\. Make its folder .* set staging\.path"),
        open_staging(tmp_path / "plain" / "staging.duckdb"),
    ):
        pass


def test_file_that_is_no_staging_file_is_refused(file: Path) -> None:
    file.write_text("not a database, and long enough to be looked at" * 100)

    with pytest.raises(ConfigurationError, match=str(file)), open_staging(file):
        pass


def test_disk_that_fails_is_worth_another_try(file: Path) -> None:
    with pytest.raises(RetriableError, match="check free space"), open_staging(file):
        raise duckdb.IOException("No space left on device")


def test_what_was_committed_is_there_when_the_file_is_opened_again(file: Path) -> None:
    with open_staging(file) as staging:
        in_step(staging.table(bound()), contact("c1"), contact("c2"))

    with open_staging(file) as staging:
        assert staging.table(bound()).mirrored() == 2
        assert staging.table(bound()).plan().open == 0


def test_moments_are_kept_in_utc_wherever_the_machine_stands(file: Path) -> None:
    code = f"""
from pathlib import Path
from tests.builders import SERVED_AT, bound, page
from d365_campaign.changes import Reading
from d365_campaign.store.staging import open_staging
with open_staging(Path({str(file)!r})) as staging:
    store = staging.table(bound())
    store.absorb(page(store.table), Reading(started_at=SERVED_AT))
    assert store.reading.started_at == SERVED_AT, store.reading.started_at
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env={"TZ": "Europe/Berlin"})
