"""What both systems are known to say of a person: read live, found by a scan, or told by a file."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from d365_campaign.opt_out import CampaignWord, Decision, Standing
from d365_campaign.opt_out_changes import Decided, Written
from d365_campaign.store.opt_outs import MOST_CALLS, OptOutStore
from d365_campaign.store.staging import Staging
from d365_campaign.store.table_store import TableStore
from tests.opt_out_exports import EXPORTS, content, in_doubt, lines, news, people, person, read_in, row, told

TEN, ELEVEN = "10:00:00.000", "11:00:00.000"


@pytest.fixture
def store(staging: Staging) -> TableStore:
    return read_in(staging.table(people()), person("ada"), person("bob"))


@pytest.fixture
def opt_outs(store: TableStore) -> OptOutStore:
    assert store.opt_outs is not None
    return store.opt_outs


def at(time: str) -> datetime:
    return datetime.fromisoformat(f"2026-05-01T{time}").replace(tzinfo=UTC)


def read_live(store: TableStore, key: str, *, email: bool, email_at: str | None = None) -> None:
    assert store.opt_outs is not None
    stamps = {"blackListEmail": at(email_at) if email_at else None, "blackListPhone": None}
    word = CampaignWord({"blackListEmail": email, "blackListPhone": False}, stamps, at(email_at) if email_at else None)
    with store._transaction():
        store.opt_outs.note_seen({key: word})


def take(store: TableStore, folder: Path, *rows: str) -> None:
    store.exports(EXPORTS).take(content(folder, lines(*rows)))


def test_what_was_read_live_holds_as_it_stands(store: TableStore, tmp_path: Path) -> None:
    take(store, tmp_path, row("ada", ELEVEN, email="1", email_at=ELEVEN))

    read_live(store, "ada", email=False, email_at=TEN)

    assert told(store, "ada") is False


def test_file_that_is_older_than_what_was_read_live_changes_nothing(store: TableStore, tmp_path: Path) -> None:
    read_live(store, "ada", email=True, email_at=ELEVEN)

    take(store, tmp_path, row("ada", TEN, email="0", email_at=TEN))

    assert told(store, "ada") is True
    assert not in_doubt(store, "ada")


def test_live_word_ends_a_doubt(store: TableStore, tmp_path: Path) -> None:
    take(store, tmp_path, row("ada", "10:00:00", "1", "10:00:00"), row("ada", "10:00:00", "0", "10:00:00"))
    assert in_doubt(store, "ada")

    read_live(store, "ada", email=True, email_at="10:00:00.400")

    assert told(store, "ada") is True
    assert not in_doubt(store, "ada")


def test_doubt_stays_through_further_files(store: TableStore, tmp_path: Path) -> None:
    take(store, tmp_path, row("ada", "10:00:00", "1", "10:00:00"), row("ada", "10:00:00", "0", "10:00:00"))

    take(store, tmp_path, row("ada", ELEVEN, email="1", email_at=ELEVEN))

    assert in_doubt(store, "ada")


def test_fraction_that_a_live_read_adds_to_a_time_is_no_news(staging: Staging, tmp_path: Path) -> None:
    store = read_in(staging.table(people("campaign_to_dynamics")), person("ada"))
    take(store, tmp_path, row("ada", "10:00:00", "0", "10:00:00"))
    store._connection.execute('update "opt-outs"."campaign" set "blackListEmail_news" = false')

    read_live(store, "ada", email=False, email_at="10:00:00.400")
    assert not news(store, "ada")

    read_live(store, "ada", email=False, email_at=ELEVEN)
    assert news(store, "ada")


def test_person_about_whom_both_systems_agree_is_not_open(
    store: TableStore, opt_outs: OptOutStore, tmp_path: Path
) -> None:
    take(store, tmp_path, row("ada", TEN), row("bob", TEN, email="1", email_at=TEN))

    summary = opt_outs.compare()
    opt_outs.begin()

    assert (summary.profiles, summary.open, summary.to_dynamics) == (2, 1, 1)
    assert [taken.key for taken in opt_outs.take("dynamics", 10)] == ["bob"]


def test_person_is_taken_once_in_a_run_and_again_in_the_next(
    store: TableStore, opt_outs: OptOutStore, tmp_path: Path
) -> None:
    take(store, tmp_path, row("ada", TEN, email="1", email_at=TEN))
    opt_outs.compare()
    for _ in range(2):
        opt_outs.begin()
        assert [taken.key for taken in opt_outs.take("dynamics", 10)] == ["ada"]
        assert opt_outs.take("dynamics", 10) == []


def test_calls_of_a_run_that_never_told_what_it_spent_are_counted(
    store: TableStore, staging: Staging, opt_outs: OptOutStore, tmp_path: Path
) -> None:
    take(store, tmp_path, row("ada", TEN, email="1", email_at=TEN))
    opt_outs.compare()
    before = staging.ledger.spent().today
    opt_outs.begin()
    opt_outs.take("dynamics", 10)

    opt_outs.begin()

    assert staging.ledger.spent().today == before + MOST_CALLS


def test_whoever_is_on_privacy_hold_is_open_and_not_taken(
    store: TableStore, staging: Staging, opt_outs: OptOutStore, tmp_path: Path
) -> None:
    staging.privacy.hold("ada", by="Jane Doe")
    take(store, tmp_path, row("ada", TEN, email="1", email_at=TEN))

    summary = opt_outs.compare()
    opt_outs.begin()

    assert (summary.open, summary.held) == (0, 1)
    assert opt_outs.take("dynamics", 10) == []


def test_what_was_written_is_settled_and_its_decision_kept(
    store: TableStore, opt_outs: OptOutStore, tmp_path: Path
) -> None:
    take(store, tmp_path, row("ada", TEN, email="1", email_at=TEN))
    opt_outs.compare()
    opt_outs.begin()
    [taken] = opt_outs.take("dynamics", 10)
    standing = Standing(True, at(TEN), False, None)
    decided = Decided("blackListEmail", standing, Decision(True, True, "campaign_is_newer"), "dynamics")

    now = {"donotemail": True, "donotphone": False, "versionnumber": 2, "modifiedon": "2026-05-01T12:00:00Z"}
    opt_outs.settle([Written(taken.key, row=now, decided=[decided])])

    assert opt_outs.summary().open == 0
    [entry] = opt_outs.decisions("ada")
    assert (entry.source, entry.decision.rule, entry.written_to) == ("donotemail", "campaign_is_newer", "dynamics")
    known = opt_outs.of("ada")
    assert known is not None
    assert (known.version, known.dynamics.values["blackListEmail"]) == (2, True)


def test_profile_that_is_gone_is_known_no_more(store: TableStore, opt_outs: OptOutStore, tmp_path: Path) -> None:
    take(store, tmp_path, row("ada", TEN, email="1", email_at=TEN))
    opt_outs.compare()
    opt_outs.begin()
    opt_outs.take("dynamics", 10)

    opt_outs.settle([Written("ada", engine_calls=1, gone=True)])

    assert told(store, "ada") is None
    assert opt_outs.summary().open == 0
