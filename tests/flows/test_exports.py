"""Taking in daily opt-out files: which are taken, which are left, and what becomes of each."""

import gzip
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from d365_campaign.errors import RetriableError
from d365_campaign.flows.exports import LONGEST_ROW, Taken, take_exports
from d365_campaign.opt_out_checks import exports_readable
from d365_campaign.opt_out_files import ExportSettings
from d365_campaign.store.staging import Staging
from d365_campaign.store.table_store import TableStore
from tests.opt_out_exports import (
    FOLDER,
    HEADER,
    FolderArea,
    files_booked,
    in_doubt,
    lines,
    people,
    person,
    read_in,
    row,
    told,
)

PROCESSED = f"{FOLDER}/processed"
AT = "10:00:00.000"
ADA, BOB = (row(key, AT, email="1", email_at=AT) for key in ("ada", "bob"))
NOTHING = Taken([], [], [])
LONG_AGO = datetime.now(UTC) - timedelta(days=10)

Take = Callable[..., Taken]


@pytest.fixture
def store(staging: Staging) -> TableStore:
    return read_in(staging.table(people()), person("ada"), person("bob"))


@pytest.fixture
def area(tmp_path: Path) -> FolderArea:
    return FolderArea(tmp_path / "sftp")


@pytest.fixture
def take(area: FolderArea, store: TableStore, file: Path) -> Take:
    """Take in what is there; *settings* differ from the usual ones."""

    def taken(sleep: Callable[[float], None] = lambda _: None, **settings: Any) -> Taken:
        chosen = ExportSettings(**settings)
        return take_exports(area, store.exports(chosen), chosen, file, sleep)

    return taken


def message(taken: Taken) -> str:
    """What a person is told of the files."""
    return exports_readable(taken.exports, taken.hostile).description


# --- from the folder and out of it ------------------------------------------------------------------------------------


def test_a_file_is_taken_in_once_and_moved_to_processed(area: FolderArea, store: TableStore, take: Take) -> None:
    area.put("monday.csv", lines(ADA))

    assert [export.rows for export in take().exports] == [1]
    assert told(store, "ada") is True
    assert (area.names(), area.names(PROCESSED)) == ([], ["monday.csv"])
    assert take() == NOTHING


def test_a_file_may_be_deleted_instead(area: FolderArea, take: Take) -> None:
    area.put("monday.csv", lines(ADA))

    take(after_reading="delete")

    assert (area.names(), area.names(PROCESSED)) == ([], [])


def test_files_are_taken_in_by_name_so_the_oldest_first(area: FolderArea, take: Take) -> None:
    for name in ("optout_20260503.csv", "optout_20260501.csv", "optout_20260502.csv"):
        area.put(name, lines(row(name)))

    assert [export.name[13:16] for export in take().exports] == ["01.", "02.", "03."]


def test_names_that_are_no_exports_are_left_alone(area: FolderArea, take: Take) -> None:
    others = [".hidden.csv", "monday.csv.part", "monday.csv.tmp", "notes.docx", "~monday.csv"]
    for name in others:
        area.put(name, lines(ADA))
    (area.root / FOLDER / "folder.csv").mkdir()

    assert take() == NOTHING
    assert area.names() == others
    assert not [call for call in area.calls if "download" in call]


def test_names_that_no_harmless_file_has_are_told_and_never_touched(area: FolderArea, take: Take) -> None:
    area.put("..\\..\\monday.csv", lines(ADA))
    (area.root / PROCESSED).mkdir()

    taken = take()

    assert taken.hostile == ["..\\..\\monday.csv"]
    assert "names that no file should have, for instance '..\\\\..\\\\monday.csv'; they were not touched" in message(
        taken
    )
    assert not [call for call in area.calls if "monday" in call]


def test_an_empty_folder_costs_one_look_and_no_wait(area: FolderArea, take: Take) -> None:
    def sleep(seconds: float) -> None:
        raise AssertionError("waited for nothing")

    take(sleep)

    assert area.calls == [f"files {FOLDER}"]


def test_what_is_older_than_its_days_in_processed_is_deleted(area: FolderArea, take: Take) -> None:
    area.put("monday.csv", lines(ADA), modified_at=LONG_AGO)
    area.put("tuesday.csv", lines(BOB))
    take()
    assert area.names(PROCESSED) == ["monday.csv", "tuesday.csv"], "15 days at most"

    take(keep_days=9)

    assert area.names(PROCESSED) == ["tuesday.csv"]


# --- uploads ----------------------------------------------------------------------------------------------------------


def test_a_file_that_grows_is_left_for_the_next_look(area: FolderArea, store: TableStore, take: Take) -> None:
    file = area.put("monday.csv", lines(ADA))
    area.put("sunday.csv", lines(BOB))
    waits: list[float] = []

    def upload(seconds: float) -> None:
        waits.append(seconds)
        file.write_text(lines(ADA, BOB), encoding="utf-8")

    taken = take(upload, stable_seconds=3)

    assert (waits, taken.uploading, [export.name for export in taken.exports]) == ([3], ["monday.csv"], ["sunday.csv"])
    assert area.names() == ["monday.csv"]
    assert [export.rows for export in take().exports] == [2]


def test_a_file_that_goes_away_meanwhile_is_nothing(area: FolderArea, take: Take) -> None:
    file = area.put("monday.csv", lines(ADA))

    assert take(lambda _: file.unlink()) == NOTHING


def test_a_file_that_is_cut_stays_so_that_its_rest_can_come(area: FolderArea, store: TableStore, take: Take) -> None:
    """Its upload may only have paused."""
    whole = lines(ADA, BOB)
    area.put("monday.csv", whole[:-30])
    first = take()
    assert "monday.csv: it ends in the middle of a row, so rows after it are missing" in message(first)
    assert (told(store, "ada"), in_doubt(store, "bob"), area.names()) == (True, True, ["monday.csv"])
    assert take() == first, "it is told again and not taken in again"
    assert area.calls.count("download monday.csv") == 1

    area.put("monday.csv", whole)

    assert message(take()) == "Every daily file could be read."
    assert told(store, "bob") is True
    assert area.names(PROCESSED) == ["monday.csv"]


def test_a_file_that_is_cut_goes_once_no_rest_is_to_be_expected(area: FolderArea, take: Take) -> None:
    area.put("monday.csv", lines(ADA, BOB)[:-30], modified_at=LONG_AGO)

    assert [export.cut for export in take().exports] == [True]
    assert area.names() == []


# --- files that say nothing, or nothing that can be read --------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty, without even a header"),
        (b"\n\n", "it is empty, without even a header"),
        (b"\0" * 100, "it holds zero bytes, so it is no utf-8 text"),
        (lines(ADA).encode("utf-16"), "it is UTF-16, not utf-8. Set opt_outs.exports.encoding"),
        (lines(ADA, header=f"{HEADER};größe").encode("latin-1"), "it is no utf-8. Set opt_outs.exports.encoding"),
        (lines(ADA, header=HEADER.lower()).encode(), "it has no column 'externalId', 'blackListEmail', 'blackListP"),
        (lines(ADA).replace(";", ",").encode(), "Were they renamed? Correct opt_outs.exports.columns or delimiter"),
        (lines(ADA, header=f"{HEADER};externalId").encode(), "two of its columns have the same name"),
        (gzip.compress(lines(ADA).encode())[:20], "it is cut off before its first row"),
        (gzip.compress(lines(ADA).encode())[:-8] + b"\0" * 8, "it is a damaged gzip file"),
        (lines(ADA).replace("\n", "\r").encode() * 1000, "its lines don't end"),
        (lines(*[row("ada", "never")] * 3).encode(), "3 of 3 rows can't be read, most often because: lastModified is"),
    ],
    ids=[
        "empty", "blank", "zero bytes", "UTF-16", "latin-1", "renamed columns", "another delimiter", "a column twice",
        "gzip cut before its first row", "gzip damaged", "no line feeds", "unreadable times",
    ],
)  # fmt: skip
def test_a_file_of_which_nothing_can_be_read_is_refused_with_a_reason_and_left_there(
    area: FolderArea, store: TableStore, take: Take, content: bytes, words: str
) -> None:
    area.put("monday.csv", content)
    area.put("tuesday.csv", lines(BOB))

    taken = take()

    assert words in message(taken)
    assert not exports_readable(taken.exports, taken.hostile).warn
    assert (told(store, "ada"), told(store, "bob")) == (None, True), "the next file is taken all the same"
    assert (area.names(), area.names(PROCESSED)) == (["monday.csv"], ["tuesday.csv"])


def test_a_refused_file_is_not_looked_into_again_before_it_or_the_settings_change(
    area: FolderArea, store: TableStore, take: Take
) -> None:
    area.put("monday.csv", lines(ADA).replace(";", ","))
    first = take()
    assert take(sleep=lambda _: pytest.fail("waited for what is known")) == first
    assert area.calls.count("download monday.csv") == 1

    assert message(take(delimiter=",")) == "Every daily file could be read."
    assert told(store, "ada") is True
    assert area.names() == []


def test_a_refused_file_that_is_corrected_is_taken_in(area: FolderArea, store: TableStore, take: Take) -> None:
    area.put("monday.csv", "")
    take()

    area.put("monday.csv", lines(ADA))

    assert [export.refused for export in take().exports] == [None]
    assert told(store, "ada") is True


@pytest.mark.parametrize("content", [f"{HEADER}\n", f"{HEADER}\r\n"], ids=["line feed", "CR LF"])
def test_a_header_alone_tells_that_nothing_changed(area: FolderArea, take: Take, content: str) -> None:
    area.put("monday.csv", content)

    taken = take()

    assert [(export.rows, export.refused, export.cut) for export in taken.exports] == [(0, None, False)]
    assert area.names() == []


def test_a_header_that_does_not_end_stays_so_that_its_rest_can_come(
    area: FolderArea, store: TableStore, take: Take
) -> None:
    area.put("monday.csv", HEADER)
    assert [(export.refused, export.cut) for export in take().exports] == [(None, True)]

    area.put("monday.csv", lines(ADA))
    take()

    assert told(store, "ada") is True
    assert area.names() == []


# --- forms of files ---------------------------------------------------------------------------------------------------

TEXT = lines(ADA, BOB)


@pytest.mark.parametrize(
    ("name", "content", "settings"),
    [
        ("a.csv", TEXT.encode("utf-8-sig"), {}),
        ("a.csv", TEXT.replace("\n", "\r\n").encode(), {}),
        ("a.csv", TEXT.replace("\n", "\r\n").encode("utf-16"), {"encoding": "utf-16"}),
        ("a.txt", lines(ADA + ";Zoë", BOB + ";", header=f"{HEADER};név").encode("latin2"), {"encoding": "latin2"}),
        ("a.txt", TEXT.replace(";", "\t").encode(), {"delimiter": "\t"}),
        ("a.csv", ('"' + TEXT.replace(";", '";"').replace("\n", '"\n"')).removesuffix('"').encode(), {"quote": '"'}),
        ("a.csv.gz", gzip.compress(TEXT.encode()), {}),
        ("a.csv", gzip.compress(TEXT.encode()), {}),
        ("a.csv.gz", TEXT.encode(), {}),
        ("A.CSV", TEXT.encode(), {"names": ["*.CSV"]}),
        ("a.csv", TEXT.replace(";1;", ";Oui;").encode(), {"opted_out": ["oui"]}),
        (
            "a.csv",
            TEXT.replace("2026-05-01 10:00:00.000Z", "01/05/2026 10.00").encode(),
            {"time_formats": ["%d/%m/%Y %H.%M"]},
        ),
    ],
    ids=[
        "BOM", "CR LF", "UTF-16", "latin2", "tabs", "quoted", "gzip", "gzip by content", "no gzip but by name",
        "names", "words", "times",
    ],
)  # fmt: skip
def test_a_file_is_read_by_the_settings(
    area: FolderArea, store: TableStore, take: Take, name: str, content: bytes, settings: dict[str, Any]
) -> None:
    area.put(name, content)

    taken = take(**settings)

    assert message(taken) == "Every daily file could be read."
    assert [export.rows for export in taken.exports] == [2]
    assert (told(store, "ada"), told(store, "bob")) == (True, True)


def test_a_file_that_ought_to_be_utf_16_and_is_not_is_refused(area: FolderArea, take: Take) -> None:
    area.put("monday.csv", TEXT)

    assert "it is no utf-16" in message(take(encoding="utf-16"))


def test_of_a_gzip_file_that_is_cut_everything_before_the_cut_is_read(
    area: FolderArea, store: TableStore, take: Take
) -> None:
    text = lines(ADA, *(row(f"{n * 7919 % 100_003:x}", AT, phone_at=f"10:{n % 60:02}:00.000") for n in range(5_000)))
    zipped = gzip.compress(text.encode())
    area.put("monday.csv.gz", zipped[: len(zipped) // 2])

    [export] = take().exports

    assert export.cut
    assert 2_000 < export.rows < 4_000
    assert export.unreadable == 1
    assert told(store, "ada") is True


def test_a_gzip_file_that_is_cut_where_a_row_ends_counts_as_cut_too(area: FolderArea, take: Take) -> None:
    area.put("monday.csv.gz", gzip.compress(lines(ADA).encode())[:-8])

    assert [(export.cut, export.unreadable) for export in take().exports] == [(True, 1)]


def test_a_file_that_is_cut_inside_a_character_is_cut_and_not_of_another_encoding(
    area: FolderArea, store: TableStore, take: Take
) -> None:
    area.put("monday.csv", lines(ADA + ";x", BOB + ";é", header=f"{HEADER};note").encode()[:-2])

    assert [export.cut for export in take().exports] == [True]
    assert told(store, "ada") is True


def test_rows_that_lie_across_pieces_of_a_file_stay_whole(
    area: FolderArea, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d365_campaign.flows.exports.PIECE", 7)
    area.put("monday.csv", lines(ADA + ";né", BOB + ";\u20ac", header=f"{HEADER};note").replace("\n", "\r\n"))

    assert [(export.rows, export.unreadable, export.cut) for export in take().exports] == [(2, 0, False)]


def test_no_row_however_long_is_held_in_memory_for_good(area: FolderArea, take: Take) -> None:
    area.put("monday.csv", f"{HEADER}\n" + "x" * (LONGEST_ROW + 1))

    assert "its lines don't end" in message(take())


# --- what fails -------------------------------------------------------------------------------------------------------


def test_a_file_that_was_taken_in_but_not_moved_is_not_applied_twice(
    area: FolderArea, store: TableStore, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run was killed between the two."""
    area.put("monday.csv", lines(ADA))
    with monkeypatch.context() as killed:
        killed.setattr(area, "move", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            take()
    store._connection.execute("""update "opt-outs"."campaign" set "blackListEmail" = false""")

    [export] = take().exports

    assert (export.name, export.rows) == ("monday.csv", 1)
    assert told(store, "ada") is False, "what was learned since holds"
    assert area.names(PROCESSED) == ["monday.csv"]


def test_the_same_file_under_another_name_changes_nothing_and_goes_too(
    area: FolderArea, store: TableStore, take: Take
) -> None:
    area.put("monday.csv", lines(ADA))
    area.put("monday_copy.csv", lines(ADA))

    assert [export.name for export in take().exports] == ["monday.csv", "monday.csv"]
    assert area.names(PROCESSED) == ["monday.csv", "monday_copy.csv"]
    assert files_booked(store) == ["monday.csv"]


def test_a_file_that_may_not_be_read_does_not_keep_the_next_ones_waiting(
    area: FolderArea, store: TableStore, take: Take
) -> None:
    area.denied.add("download monday.csv")
    area.put("monday.csv", lines(ADA))
    area.put("tuesday.csv", lines(BOB))

    assert "monday.csv: download monday.csv: permission denied" in message(take())
    assert told(store, "bob") is True

    area.denied.clear()
    take()
    assert told(store, "ada") is True


@pytest.mark.parametrize("after_reading", ["archive", "delete"])
def test_a_file_that_may_not_be_put_away_does_not_keep_the_next_ones_waiting(
    area: FolderArea, store: TableStore, take: Take, after_reading: str
) -> None:
    area.denied |= {"move monday.csv", "delete monday.csv"}
    area.put("monday.csv", lines(ADA))
    area.put("tuesday.csv", lines(BOB))

    assert "monday.csv: it was taken in and stays there: " in message(take(after_reading=after_reading))
    assert (told(store, "ada"), told(store, "bob")) == (True, True)
    assert area.names() == ["monday.csv"]


def test_old_files_that_may_not_be_deleted_are_no_reason_to_stop(area: FolderArea, take: Take) -> None:
    area.put("monday.csv", lines(ADA), modified_at=LONG_AGO)
    area.denied.add("delete monday.csv")

    assert [export.rows for export in take(keep_days=1).exports] == [1]


def test_a_connection_that_breaks_leaves_the_file_for_the_next_run(
    area: FolderArea, store: TableStore, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(folder: str, name: str, into: Any) -> None:
        into.write(b"externalId;")
        raise RetriableError("connection lost")

    area.put("monday.csv", lines(ADA))
    with monkeypatch.context() as context:
        context.setattr(area, "download", broken)
        with pytest.raises(RetriableError):
            take()

    assert [export.rows for export in take().exports] == [1]
    assert told(store, "ada") is True


def test_a_full_disk_is_told_in_words(area: FolderArea, take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    area.put("monday.csv", lines(ADA))
    monkeypatch.setattr(area, "download", full)

    with pytest.raises(RetriableError, match=r"monday.csv can't be kept .* \(No space left on device\): check free"):
        take()


# --- what stands beside the staging file meanwhile --------------------------------------------------------------------


def test_a_file_stands_beside_the_staging_file_for_this_user_only_and_not_for_long(
    area: FolderArea, take: Take, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []
    area.put("monday.csv", lines(ADA))
    download = area.download

    def watched(folder: str, name: str, into: Any) -> None:
        download(folder, name, into)
        path = Path(into.name)
        seen.extend((str(p.relative_to(file.parent))[:22], p.stat().st_mode & 0o777) for p in (path.parent, path))

    monkeypatch.setattr(area, "download", watched)
    take()

    assert seen == [("staging.duckdb.export-", 0o700), ("staging.duckdb.export-", 0o600)]
    assert not list(file.parent.glob("*export-*"))


def test_what_a_killed_run_left_there_is_removed_and_nothing_of_another_integration(
    area: FolderArea, take: Take, file: Path
) -> None:
    own, other = file.parent / "staging.duckdb.export-abc", file.parent / "stage.duckdb.export-abc"
    for folder in (own, other):
        folder.mkdir()
        (folder / "lines").write_text(lines(ADA), encoding="utf-8")

    take()

    assert (own.exists(), other.exists()) == (False, True)
