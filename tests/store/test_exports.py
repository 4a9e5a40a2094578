"""Daily opt-out files on their way into the staging file: what of them holds, and what is set aside."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from d365_campaign.opt_out_changes import Export
from d365_campaign.opt_out_files import ExportSettings, RemoteFile
from d365_campaign.store.exports import ExportStore
from d365_campaign.store.staging import Staging
from d365_campaign.store.table_store import TableStore
from tests.opt_out_exports import (
    EXPORTS,
    HEADER,
    content,
    in_doubt,
    lines,
    news,
    people,
    person,
    read_in,
    row,
    set_aside,
    told,
)

Take = Callable[..., Export]


@pytest.fixture
def store(staging: Staging) -> TableStore:
    """Ada, Bob and Cy, of whom Campaign knows nothing yet."""
    return read_in(staging.table(people()), person("ada"), person("bob"), person("cy"))


@pytest.fixture
def exports(store: TableStore) -> ExportStore:
    return store.exports(EXPORTS)


@pytest.fixture
def take(exports: ExportStore, tmp_path: Path) -> Take:
    """Take in a file of these rows, by the usual settings if not by others."""

    def taken(*rows: str, by: ExportStore = exports, **file: Any) -> Export:
        return by.take(content(tmp_path, lines(*rows), **file))

    return taken


# --- what a file says -------------------------------------------------------------------------------------------------


def test_a_file_tells_what_campaign_says_of_each_profile(store: TableStore, take: Take) -> None:
    export = take(
        row("ada", "10:00:00.500", email="1", email_at="10:00:00.500"),
        row("bob", "10:00:01.000"),
        name="monday.csv",
    )

    assert (told(store, "ada"), told(store, "bob"), told(store, "cy")) == (True, False, None)
    assert (export.name, export.rows, export.unreadable, export.without_key) == ("monday.csv", 2, 0, 0)
    assert export.exported_at == datetime(2026, 5, 1, 10, 0, 1, tzinfo=UTC)
    assert store.opt_outs is not None
    assert store.opt_outs.compare().to_dynamics == 1


@pytest.mark.parametrize(
    "spelling", ["1", "true", "TRUE", "Yes", " 1 "], ids=["digit", "word", "capitals", "mixed", "spaces"]
)
def test_an_opt_out_is_read_however_it_is_spelled(store: TableStore, take: Take, spelling: str) -> None:
    take(row("ada", "10:00:00.000", email=spelling, email_at="10:00:00.000"))

    assert told(store, "ada") is True


def test_columns_may_have_other_names_an_order_of_their_own_and_company(store: TableStore, tmp_path: Path) -> None:
    columns = {"externalId": "Key", "blackListEmail": "No mail", "blackListEmailLastModified": "No mail since"}
    named = store.exports(ExportSettings(columns=columns))
    text = lines(
        "x;1;2026-05-01 10:00:00Z;0;ada;2026-05-01 10:00:00Z",
        header="cusNote;No mail;No mail since;blackListPhone;Key;lastModified",
    )

    export = named.take(content(tmp_path, text))

    assert told(store, "ada") is True
    assert export.missing == ("blackListPhoneLastModified",)


def test_rows_without_a_key_belong_to_nobody_and_are_counted(store: TableStore, take: Take) -> None:
    export = take(row(""), row(" "), row("ada"))

    assert (export.rows, export.without_key, export.unreadable) == (3, 2, 0)


def test_a_file_in_a_folder_whose_name_is_a_pattern_is_read(store: TableStore, tmp_path: Path) -> None:
    folder = tmp_path / "stage [1]*?"
    folder.mkdir()
    text = lines(row("ada", "10:00:00.000", email="1", email_at="10:00:00.000"))

    assert store.exports(EXPORTS).take(content(folder, text)).rows == 1


def test_quoted_texts_may_hold_the_delimiter_and_ends_of_lines(store: TableStore, tmp_path: Path) -> None:
    quoting = store.exports(ExportSettings(quote='"'))
    text = lines(
        '"ada";"2026-05-01 10:00:00Z";"1";"2026-05-01 10:00:00Z";"0";"";"a;b\nc ""d"""', header=f"{HEADER};cusNote"
    )

    assert quoting.take(content(tmp_path, text)).rows == 1
    assert told(store, "ada") is True


# --- words of several files -------------------------------------------------------------------------------------------

EARLY, LATE = "09:00:00.000", "10:00:00.000"


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0), (1, 0, 1, 0)], ids=str)
@pytest.mark.parametrize(("early", "late"), [("0", "1"), ("1", "0")], ids=["opts out", "opts in"])
def test_the_later_word_holds_in_whatever_order_files_come(
    store: TableStore, take: Take, order: tuple[int, ...], early: str, late: str
) -> None:
    files = [row("ada", EARLY, early, EARLY), row("ada", LATE, late, LATE)]
    for number in order:
        take(files[number], name=f"{number}.csv")

    assert told(store, "ada") is (late == "1")
    assert not in_doubt(store, "ada")


def test_an_opt_out_is_never_lost_to_a_file_that_is_older(store: TableStore, take: Take) -> None:
    take(row("ada", LATE, email="1", email_at=LATE, phone="0", phone_at=EARLY))
    take(row("ada", EARLY, email="0", email_at=EARLY, phone="1", phone_at="08:00:00.000"))

    assert told(store, "ada") is True
    assert told(store, "ada", "blackListPhone") is False


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["as made", "out of order"])
@pytest.mark.parametrize(("early", "late"), [("0", "1"), ("1", "0")], ids=["opts out", "opts in"])
def test_two_words_of_one_second_without_fractions_are_in_doubt(
    store: TableStore, take: Take, order: tuple[int, ...], early: str, late: str
) -> None:
    files = [row("ada", "10:00:00", early, "10:00:00"), row("ada", "10:00:00", late, "10:00:00")]
    for number in order:
        take(files[number])

    assert in_doubt(store, "ada")
    assert store.opt_outs is not None
    assert store.opt_outs.compare().in_doubt == 1


def test_a_stamp_that_lost_its_fraction_contradicts_within_its_second_alone(store: TableStore, take: Take) -> None:
    take(row("ada", "10:00:00.500", "1", "10:00:00.500"), row("bob", "10:00:00.500", "1", "10:00:00.500"))
    take(row("ada", "10:00:00", "0", "10:00:00"), row("bob", "09:59:59", "0", "09:59:59"))

    assert in_doubt(store, "ada")
    assert told(store, "bob") is True
    assert not in_doubt(store, "bob")


def test_the_same_change_told_with_and_without_a_fraction_is_no_news(staging: Staging, tmp_path: Path) -> None:
    """Or an old word of Campaign's would be acted on again, over what somebody changed in Dynamics since."""
    store = read_in(staging.table(people("campaign_to_dynamics")), person("ada"))
    exports = store.exports(EXPORTS)
    exports.take(content(tmp_path, lines(row("ada", "10:00:00.500", "0", "10:00:00.500"))))
    store._connection.execute('update "opt-outs"."campaign" set "blackListEmail_news" = false')

    exports.take(content(tmp_path, lines(row("ada", "11:00:00", "0", "10:00:00"))))

    assert not news(store, "ada")
    assert not in_doubt(store, "ada")


@pytest.fixture
def unstamped(staging: Staging) -> TableStore:
    return read_in(staging.table(people(stamped=False)), person("ada"))


@pytest.mark.parametrize(
    ("first", "second", "holds", "doubted"),
    [
        ((EARLY, "0"), (LATE, "1"), True, False),
        ((LATE, "1"), (EARLY, "0"), True, False),
        ((EARLY, "1"), (LATE, "0"), False, False),
        ((LATE, "0"), (EARLY, "1"), False, False),
        (("10:00:00.800", "1"), ("10:00:00.200", "0"), False, True),
        (("10:00:00.200", "0"), ("10:00:00.800", "1"), True, True),
        ((LATE, "1"), ("", "0"), False, True),
        (("", "1"), (LATE, "0"), False, True),
        (("", "1"), ("", "0"), False, True),
    ],
    ids=[
        "later opt-out", "older opt-in", "later opt-in", "older opt-out", "within a second, older opt-in",
        "within a second, later opt-out", "opt-in without a time", "opt-out had no time", "no time at all",
    ],
)  # fmt: skip
def test_without_stamps_of_opt_outs_the_profiles_own_time_counts(
    unstamped: TableStore, tmp_path: Path, first: tuple[str, str], second: tuple[str, str], holds: bool, doubted: bool
) -> None:
    """What is in doubt is read live before anything is done about it, whatever is held meanwhile."""
    exports = unstamped.exports(EXPORTS)
    for changed, email in (first, second):
        exports.take(content(tmp_path, lines(row("ada", changed, email))))

    assert in_doubt(unstamped, "ada") is doubted
    assert told(unstamped, "ada") is holds


def test_an_opt_out_whose_stamp_was_not_told_is_not_simply_lost_to_an_older_opt_in(
    store: TableStore, take: Take
) -> None:
    take(row("ada", LATE, email="1", email_at=""))
    take(row("ada", EARLY, email="0", email_at=EARLY))

    assert in_doubt(store, "ada")


def test_an_opt_out_without_a_stamp_is_verified_where_an_opt_in_has_one(store: TableStore, take: Take) -> None:
    take(row("ada", LATE, email="0", email_at=LATE))
    take(row("ada", "11:00:00.000", email="1", email_at=""))

    assert told(store, "ada") is True
    assert in_doubt(store, "ada")


def test_an_opt_in_without_a_stamp_never_wins_over_an_opt_out_that_has_one(store: TableStore, take: Take) -> None:
    take(row("ada", EARLY, email="1", email_at=EARLY))
    take(row("ada", LATE, email="0", email_at=""))

    assert told(store, "ada") is True


# --- repeated rows ----------------------------------------------------------------------------------------------------


def test_of_several_rows_of_one_key_the_latest_holds(store: TableStore, take: Take) -> None:
    export = take(
        row("ada", LATE, email="1", email_at=LATE), row("ada", EARLY, email="0", email_at=EARLY), row("bob", LATE)
    )

    assert told(store, "ada") is True
    assert not in_doubt(store, "ada")
    assert export.rows == 3


@pytest.mark.parametrize("changed", [LATE, ""], ids=["of one moment", "without a time"])
def test_rows_of_one_key_that_nothing_puts_in_order_are_in_doubt(store: TableStore, take: Take, changed: str) -> None:
    take(row("ada", changed, email="1"), row("ada", changed, email="0"))

    assert in_doubt(store, "ada")


def test_a_row_that_stands_twice_is_the_same_as_one(store: TableStore, take: Take) -> None:
    """An incremental query repeats rows at its boundary."""
    twice = row("ada", LATE, email="1", email_at=LATE)
    take(twice, twice)

    assert told(store, "ada") is True
    assert not in_doubt(store, "ada")


# --- what can't be read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row("ada", email="perhaps"), "blackListEmail says neither yes nor no"),
        (row("ada", email=""), "blackListEmail says neither yes nor no"),
        (row("ada", changed="yesterday"), "lastModified is no moment"),
        (row("ada", email_at="31/02/2026"), "blackListEmailLastModified is no moment"),
        ("ada;2026-05-01 10:00:00Z;1", "missing columns"),
        (row("ada") + ";1", "too many columns"),
    ],
    ids=["neither yes nor no", "empty opt-out", "no moment", "another date format", "too short", "too long"],
)
def test_a_row_that_cannot_be_read_is_set_aside_and_its_contact_read_live(
    store: TableStore, take: Take, bad: str, reason: str
) -> None:
    good = [row("bob", LATE, email="1", email_at=LATE), *(row(f"other{n}") for n in range(30))]

    export = take(*good, bad, name="monday.csv")

    assert (export.refused, export.rows, export.unreadable) == (None, 32, 1)
    assert set_aside(store) == [("monday.csv", "ada", reason)]
    assert in_doubt(store, "ada")
    assert told(store, "bob") is True
    assert store.opt_outs is not None
    assert (store.opt_outs.compare().in_doubt, store.opt_outs.compare().to_dynamics) == (1, 1)


def test_what_a_bad_row_says_of_others_than_contacts_is_not_kept(store: TableStore, take: Take) -> None:
    """Anything might stand in the key's place; and a doubt that concerns no contact costs no call."""
    take(*(row(f"other{n}") for n in range(50)), row("ada@example.com", email="?"), "0;ada@example.com")

    assert {key for _, key, _ in set_aside(store)} == {None}
    assert store.opt_outs is not None
    assert store.opt_outs.compare().in_doubt == 0


def test_a_doubt_about_profiles_that_are_no_contacts_costs_nothing(store: TableStore, take: Take) -> None:
    take(row("stranger", "10:00:00", "1", "10:00:00"), row("stranger", "10:00:00", "0", "10:00:00"))

    assert in_doubt(store, "stranger")
    assert store.opt_outs is not None
    assert store.opt_outs.compare().open == 0


def test_the_row_in_whose_middle_a_file_ends_is_set_aside(
    exports: ExportStore, store: TableStore, tmp_path: Path
) -> None:
    export = exports.take(content(tmp_path, lines(row("bob")), cut_row="ada;2026-05-0"))

    assert export.cut
    assert (export.rows, export.unreadable) == (2, 1)
    assert in_doubt(store, "ada")


def test_the_key_itself_may_be_cut_so_it_is_not_taken_for_one(
    exports: ExportStore, store: TableStore, tmp_path: Path
) -> None:
    """`ada` may be the beginning of another key."""
    exports.take(content(tmp_path, lines(row("bob")), cut_row="ada"))

    assert told(store, "ada") is None


def test_a_file_with_too_many_unreadable_rows_is_refused_as_a_whole(store: TableStore, take: Take) -> None:
    good = [row(f"other{n}") for n in range(18)]

    export = take(row("bob", LATE, email="1", email_at=LATE), *good, row("ada", email="?"), row("cy", email="!"))

    assert export.refused is not None
    assert export.refused.startswith("2 of 21 rows can't be read, most often because: blackListEmail says neither")
    assert told(store, "bob") is None
    assert told(store, "ada") is None
    assert set_aside(store) == []


def test_how_many_unreadable_rows_are_too_many_is_a_setting(store: TableStore, take: Take) -> None:
    rows = [row("bob"), row("ada", email="?"), row("cy", email="?")]

    strict, tolerant = (store.exports(ExportSettings(max_bad_share=share)) for share in (0, 1))
    assert take(*rows, by=strict).refused is not None
    assert take(*rows, by=tolerant).refused is None


def test_an_open_quote_swallows_the_rest_of_the_file_and_nothing_of_it_is_taken(
    store: TableStore, tmp_path: Path
) -> None:
    quoting = store.exports(ExportSettings(quote='"'))
    text = lines(row("bob", LATE, "1", LATE), row('"ada'), *(row(f"other{n}") for n in range(30_000)))

    export = quoting.take(content(tmp_path, text))

    assert export.refused is not None
    assert told(store, "bob") is None


def test_times_that_a_file_lacks_are_named(store: TableStore, tmp_path: Path) -> None:
    text = lines("ada;1;0", header="externalId;blackListEmail;blackListPhone")

    export = store.exports(EXPORTS).take(content(tmp_path, text))

    assert export.missing == ("blackListEmailLastModified", "blackListPhoneLastModified", "lastModified")
    assert told(store, "ada") is True


# --- what is remembered -----------------------------------------------------------------------------------------------


def test_a_file_is_known_by_its_content_under_whatever_name(exports: ExportStore, tmp_path: Path) -> None:
    file = content(tmp_path, lines(row("ada")), name="monday.csv")
    assert exports.known("monday.csv", file.digest) is None
    taken = exports.take(file)

    assert exports.known("copy.csv", file.digest) == taken
    assert exports.known("monday.csv", "another digest") is None


def test_a_refused_file_is_known_until_its_name_or_the_settings_change(store: TableStore, staging: Staging) -> None:
    file = RemoteFile("monday.csv", 12, datetime(2026, 5, 1, 10, tzinfo=UTC))
    refused = store.exports(EXPORTS).refuse(file, "digest", "it has no column 'externalId'.")

    assert store.exports(EXPORTS).known("monday.csv", "digest") == refused
    assert store.exports(EXPORTS).met(file) == refused
    assert store.exports(EXPORTS).known("tuesday.csv", "digest") is None
    assert store.exports(ExportSettings(delimiter=",")).known("monday.csv", "digest") is None
    fewer = staging.table(people(pairs={"donotemail": "blackListEmail"}))
    assert fewer.exports(EXPORTS).met(file) is None


def test_a_refused_file_does_not_count_as_the_days_file(exports: ExportStore, take: Take) -> None:
    since = exports.latest_at()
    exports.refuse(RemoteFile("monday.csv", 0, since), "digest", "it is empty.")
    assert exports.latest_at() == since

    take(row("ada"))

    assert exports.latest_at() > since


def test_nothing_of_a_file_stays_when_it_cannot_be_booked(
    exports: ExportStore, store: TableStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Export:
        raise RuntimeError

    monkeypatch.setattr(exports, "_booked", fail)
    file = content(tmp_path, lines(row("ada", LATE, "1", LATE)))
    with pytest.raises(RuntimeError):
        exports.take(file)
    monkeypatch.undo()

    assert told(store, "ada") is None
    assert exports.known(file.name, file.digest) is None
    assert exports.take(file).rows == 1


def test_people_who_were_forgotten_stay_so(store: TableStore, staging: Staging, take: Take) -> None:
    staging.privacy.forget("ada")

    take(row("ada", LATE, "1", LATE), row("ada", email="?"), *(row(f"other{n}") for n in range(30)))

    assert told(store, "ada") is None
    assert {key for _, key, _ in set_aside(store)} == {None}


def test_forgetting_a_person_removes_what_files_told_of_them(store: TableStore, staging: Staging, take: Take) -> None:
    take(row("ada", LATE, "1", LATE), row("bob", email="?"))

    for key in ("ada", "bob"):
        staging.privacy.forget(key)

    assert told(store, "ada") is None
    assert set_aside(store) == []
