"""What travels between the two systems keeps personal data to itself, and knows what it costs."""

from d365_campaign.changes import Change, ChangeSummary, FoundRecord, Kind, Outcome, Result
from tests.builders import bound, contact, page

MARKER = "ada@lovelace.example"


def test_values_of_a_record_are_not_shown() -> None:
    shown = [
        repr(Change("c1", Kind.INSERT, {"email": MARKER})),
        repr(FoundRecord({"email": MARKER}, handle="@PKEY")),
        repr(page(bound(), contact("c1", emailaddress1=MARKER))),
        repr(Outcome("c1", Kind.INSERT, Result.DONE)),
    ]

    assert MARKER not in " ".join(shown)
    assert "@PKEY" not in " ".join(shown)


def test_summary_counts_its_backlog_and_its_engine_calls_by_the_formula() -> None:
    summary = ChangeSummary(insert=1, update=10, adopt=100, delete=1000, unchanged=5, refused=7)

    assert summary.open == 1111
    assert summary.engine_calls == 1 + 20 + 200 + 1000
