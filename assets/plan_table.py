"""A plan as people read it in a run: a Markdown table of what would happen to how many records, and what it costs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from d365_campaign.changes import ENGINE_CALLS, ChangeSummary, Kind, Plan

BUSIEST = 10
LEFT, RIGHT = "---", "---:"
KINDS: Mapping[Kind, str] = {
    Kind.INSERT: "insert",
    Kind.UPDATE: "update",
    Kind.ADOPT: "adopt (it was there before)",
    Kind.DELETE: "delete",
}
# What is not sent, by the summary's own names, and what that means.
RESTING = {
    "unchanged": "unchanged",
    "refused": "refused, until it or the mapping changes",
    "deferred": "deferred, until the record it waits for is written or gone",
    "held": "held for privacy",
    "filtered_out": "not taken in by the filter",
}


def plan_table(planned: Plan, source: str, target: str) -> str:
    """Dynamics *source* to Campaign *target*, as it stands before anything is written; keys and field names alone."""
    summary = planned.summary
    return "\n".join(
        [
            f"**Dynamics {source} → Campaign {target}**: {_sum(summary)}",
            "",
            *_rows({"what": LEFT, "records": RIGHT, "engine calls": RIGHT, "for instance": LEFT}, _kinds(planned)),
            "",
            f"Adobe's own integration would spend {planned.engine_calls_adobe:,} engine calls on what Dynamics reported"
            f" since the last sync.{_scanned(planned)}",
            *_busiest(planned.busiest_fields),
        ]
    )


def _sum(summary: ChangeSummary) -> str:
    if not summary.open:
        return "nothing is to be written."
    return f"{summary.open:,} to be written, at {summary.engine_calls:,} engine calls at most."


def _scanned(planned: Plan) -> str:
    if not planned.scan_calls:
        return ""
    return f" Campaign's {planned.scanned:,} records were listed first, with {planned.scan_calls:,} engine calls."


def _kinds(planned: Plan) -> Iterator[Sequence[str]]:
    for kind, words in KINDS.items():
        number = getattr(planned.summary, kind)
        keys = ", ".join(f"`{key}`" for key in planned.sample_keys.get(kind, ())) if number else ""
        yield words, f"{number:,}", f"{number * ENGINE_CALLS[kind]:,}", keys
    for name, words in RESTING.items():
        yield words, f"{getattr(planned.summary, name):,}", "0", ""


def _busiest(fields: Mapping[str, int]) -> list[str]:
    rows = [(f"`{name}`", f"{number:,}") for name, number in list(fields.items())[:BUSIEST]]
    return ["", *_rows({"field": LEFT, "updates that it is part of": RIGHT}, rows)] if rows else []


def _rows(headings: Mapping[str, str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a Markdown table, from its headings with how each column stands."""
    yield _row(list(headings))
    yield _row(list(headings.values()))
    yield from map(_row, rows)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
