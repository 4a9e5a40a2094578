"""Data-quality and guardrail rules over summaries: plain verdicts, which Dagster shows and the writer obeys."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from d365_campaign.changes import ChangeSummary


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a rule holds, in a sentence that says what to do where it doesn't. *warn*: it doesn't stop anything."""

    name: str
    passed: bool
    description: str
    warn: bool = False
    metadata: Mapping[str, int | float] = field(default_factory=dict)


def keys_unique(repeated: int) -> Verdict:
    """No record stands in the snapshot twice; nothing but this check would tell."""
    return Verdict(
        "keys_unique",
        repeated == 0,
        "Every Dynamics key stands in the snapshot once."
        if repeated == 0
        else f"{repeated} rows repeat the key of another. Delete the staging file's table schema and read it anew.",
        metadata={"repeated": repeated},
    )


def delete_share(summary: ChangeSummary, mirrored: int, max_share: float, min_deletes: int) -> Verdict:
    """A plan deletes no larger part of Campaign than a person allowed; an unreadable table must not empty it."""
    share = summary.delete / mirrored if mirrored else 0.0
    passed = summary.delete <= min_deletes or share <= max_share
    return Verdict(
        "delete_share",
        passed,
        f"The plan deletes {summary.delete} of {mirrored} known records ({share:.1%}); allowed are {max_share:.1%}."
        + ("" if passed else " Nothing is written. If it is meant, raise guardrails.max_delete_share for this run."),
        metadata={"deletes": summary.delete, "share": share},
    )


def none_refused(refused: int) -> Verdict:
    """Refused records rest until they or their mapping change; someone should look at them."""
    return Verdict(
        "none_refused",
        refused == 0,
        "Campaign refused no record."
        if refused == 0
        else f"Campaign refused {refused} records. Their reasons stand in the run's log; correct them in Dynamics.",
        warn=True,
        metadata={"refused": refused},
    )


def engine_call_budget(spent: int, budget: int | None, warn_at: float, period: str) -> Verdict:
    """What was spent against a budget: a warning from *warn_at* on, a failure when nothing is left."""
    if budget is None:
        return Verdict(f"{period}_budget", True, f"No {period} engine-call budget is set.", metadata={"spent": spent})
    share = spent / budget if budget else 1.0
    return Verdict(
        f"{period}_budget",
        share < warn_at,
        f"{spent} of {budget} {period} engine calls are spent ({share:.0%})."
        + (" No new work is started until the next period, or until the budget is raised." if share >= 1 else ""),
        warn=share < 1,
        metadata={"spent": spent, "budget": budget},
    )
