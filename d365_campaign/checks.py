"""Data-quality and guardrail rules over summaries: plain verdicts, which Dagster shows and the writer obeys."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from d365_campaign.changes import ChangeSummary, KeyFaults
from d365_campaign.mapping import PROFILE, LinkMapping, TableMapping
from d365_campaign.schemas import ResourceLink, TargetResource

# What stops the writes of its table, and of no other: the writer looks at all of these itself, and `not_blocked` tells
# what came of it. By these names a run, the command line and the state of a flow know that a table is blocked.
KEY_CHECKS = ("keys_unique", "keys_present")
GUARDS = ("delete_share", "large_load", "initial_load")
NOT_BLOCKED = "not_blocked"
BLOCKING = frozenset({*KEY_CHECKS, *GUARDS, NOT_BLOCKED})
# Keys that a verdict names, at most.
SAMPLE = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a rule holds, in a sentence that says what to do where it doesn't. *warn*: it doesn't stop anything.

    *keys* are a few of the records it is about.
    """

    name: str
    passed: bool
    description: str
    warn: bool = False
    metadata: Mapping[str, int | float] = field(default_factory=dict)
    keys: Sequence[str] = ()


def keys_unique(faults: KeyFaults, table: str) -> Verdict:
    """No record stands in the snapshot twice; nothing but this check would tell."""
    return Verdict(
        "keys_unique",
        faults.repeated == 0,
        "Every Dynamics key stands in the snapshot once."
        if faults.repeated == 0
        else f"{faults.repeated} rows repeat the key of another, so it can't be told which of them is right. Nothing "
        f"is written. Read the table anew: d365-campaign replay {table}, then sync.",
        metadata={"repeated": faults.repeated},
        keys=faults.keys[:SAMPLE],
    )


def keys_present(faults: KeyFaults, table: str) -> Verdict:
    """Every row of the snapshot has a key; one without could be paired with no record in Campaign."""
    return Verdict(
        "keys_present",
        faults.missing == 0,
        "Every row of the snapshot has a key."
        if faults.missing == 0
        else f"{faults.missing} rows have no key, so they can't be paired. Nothing is written. Read the table anew: "
        f"d365-campaign replay {table}, then sync.",
        metadata={"missing": faults.missing},
    )


def not_blocked(failed: Sequence[Verdict]) -> Verdict:
    """What the writer found when it looked for itself; *failed* is what stopped it."""
    told = " ".join(verdict.description for verdict in failed)
    return Verdict(
        NOT_BLOCKED,
        not failed,
        "Nothing blocks the writes of this table." if not failed else f"Nothing of this table was written. {told}",
        metadata={"blocking": len(failed)},
        keys=next((verdict.keys for verdict in failed if verdict.keys), ()),
    )


def delete_share(
    summary: ChangeSummary, mirrored: int, max_share: float, min_deletes: int, keys: Sequence[str] = ()
) -> Verdict:
    """A plan deletes no larger part of Campaign than a person allowed; an unreadable table must not empty it."""
    share = summary.delete / mirrored if mirrored else 0.0
    passed = summary.delete <= min_deletes or share <= max_share
    return Verdict(
        "delete_share",
        passed,
        f"The plan deletes {summary.delete} of {mirrored} known records ({share:.1%}); allowed are {max_share:.1%}."
        + ("" if passed else " Nothing is written. If it is meant, raise guardrails.max_delete_share for this run."),
        metadata={"deletes": summary.delete, "share": share},
        keys=() if passed else keys[:SAMPLE],
    )


def large_load(summary: ChangeSummary, limit: int, acknowledged_by: str | None, table: str) -> Verdict:
    """A large load can harm a Campaign instance that is at work; someone who knows says when ("Guardrails")."""
    passed = summary.open <= limit or acknowledged_by is not None
    return Verdict(
        "large_load",
        passed,
        f"The plan writes {summary.open:,} records; from {limit:,} on a large load is to be acknowledged."
        + (f" {acknowledged_by} did." if acknowledged_by and summary.open > limit else "")
        + (
            ""
            if passed
            else " Nothing is written. Stop other processes in Campaign until it is done, then: "
            f"d365-campaign acknowledge {table} --by NAME"
        ),
        metadata={"records": summary.open},
    )


def initial_load(records: int, limit: int) -> Verdict:
    """Campaign takes so many records in the initial load of all tables together ("Integration Guardrails")."""
    passed = records <= limit
    return Verdict(
        "initial_load",
        passed,
        f"The first load holds {records:,} records of all tables; allowed are {limit:,}."
        + ("" if passed else " Nothing is written. Filter records out, or raise guardrails.max_initial_records."),
        metadata={"records": records},
    )


def none_refused(refused: int, keys: Sequence[str] = ()) -> Verdict:
    """Refused records rest until they or their mapping change; someone should look at them."""
    return Verdict(
        "none_refused",
        refused == 0,
        "No record is refused."
        if refused == 0
        else f"Refused records: {refused}. `d365-campaign rejects` lists their reasons; correct them in Dynamics.",
        warn=True,
        metadata={"refused": refused},
        keys=keys[:SAMPLE],
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


# Resources that Campaign knows no way from to the profile are there ("Interacting with custom resources").
UNLINKED = "customResources"
CASCADE = "deleting the target record implies deleting records referenced by the link"


class _Way(NamedTuple):
    """A link from one Campaign resource to another; *told*: what it cascades is told by Campaign, not by a mapping."""

    resource: str
    link: str
    leads_to: str
    cascades: bool
    told: bool


def privacy_warnings(mapping: TableMapping, tables: Sequence[tuple[TableMapping, TargetResource]]) -> Sequence[Verdict]:
    """Whether a profile's deletion reaches the personal data of *mapping* ("Managing Privacy requests").

    *tables* are all mappings with their resources. Of the profile itself, and of a table that is not said to hold
    personal data, there is nothing to say.
    """
    if mapping.target == PROFILE or not mapping.personal:
        return []
    ways = [way for table, resource in tables for way in _ways(table, resource, tables)]
    cascading = _path_to_profile(mapping.target, [way for way in ways if way.cascades])
    path = cascading if cascading is not None else _path_to_profile(mapping.target, ways)
    if path is None:
        return [_unlinked(mapping)]
    endpoint = next((resource.endpoint for table, resource in tables if table.name == mapping.name), "")
    return [_cascade(mapping, path), _covered(mapping, endpoint)]


def _unlinked(mapping: TableMapping) -> Verdict:
    accepted, fields = mapping.accept_unlinked_personal_data, [f.target for f in mapping.fields if f.personal]
    named = f" ({', '.join(fields)})" if fields else ""
    return Verdict(
        "linked_to_profile",
        False,
        f"'{mapping.target}' holds personal data{named} and no link leads from it to the profile: a privacy request in "
        "Campaign doesn't reach it. "
        + (
            "Delete what it holds of a person there yourself; that was accepted by accept_unlinked_personal_data."
            if accepted
            else "Link it to the profile, directly or through another resource, take its personal data out, or set "
            "accept_unlinked_personal_data: true."
        ),
        warn=accepted,
    )


def _cascade(mapping: TableMapping, path: Sequence[_Way]) -> Verdict:
    name, stops = "deleted_with_profile", next((way for way in path if not way.cascades), None)
    if stops is None:
        return Verdict(name, True, f"Deleting a profile deletes what '{mapping.target}' holds of it.")
    stated = "" if stops.told else "; where that is so already, set deletes_cascade: true for this link"
    return Verdict(
        name,
        False,
        f"'{mapping.target}' holds personal data that outlives its profile: link '{stops.link}' of '{stops.resource}' "
        f"is not told to cascade. Set its delete option in Campaign to '{CASCADE}'{stated}.",
    )


def _covered(mapping: TableMapping, endpoint: str) -> Verdict:
    name, accepted = "covered_by_privacy_tool", mapping.accept_unlinked_personal_data
    if endpoint != UNLINKED:
        return Verdict(name, True, f"Campaign's privacy tool covers '{mapping.target}'.")
    return Verdict(
        name,
        False,
        f"Campaign serves '{mapping.target}' under {UNLINKED}, for it knows of no link to the profile: its privacy "
        "tool leaves out what this resource holds. Publish the link in Campaign, then the API.",
        warn=accepted,
    )


def _ways(
    table: TableMapping, resource: TargetResource, tables: Sequence[tuple[TableMapping, TargetResource]]
) -> Iterator[_Way]:
    """The links of a resource to one record of another: as Campaign tells them, and those only a mapping tells of."""
    targets = {other.name: other.target for other, _ in tables}
    stated = {link.source: link for link in table.links if link.parent in targets}
    for told in resource.links:
        if told.resource and told.cardinality != "N":
            link = _stated_as(told, table, stated, targets)
            cascades = told.cascades if told.cascades is not None else link is not None and link.deletes_cascade
            if link is not None:
                del stated[link.source]
            yield _Way(resource.name, told.name, told.resource, cascades, told.cascades is not None)
    for link in stated.values():
        yield _Way(resource.name, link.source, targets[link.parent], link.deletes_cascade, False)


def _stated_as(
    told: ResourceLink, table: TableMapping, stated: Mapping[str, LinkMapping], targets: Mapping[str, str]
) -> LinkMapping | None:
    """The mapping's own word on a link that Campaign tells of."""
    for link in stated.values():
        if targets[link.parent] == told.resource and told.column in ("", table.foreign_key(link)):
            return link
    return None


def _path_to_profile(resource: str, ways: Sequence[_Way], seen: frozenset[str] = frozenset()) -> Sequence[_Way] | None:
    """One way after the other; None where no way leads there."""
    if resource == PROFILE:
        return []
    for way in ways:
        if way.resource == resource and way.leads_to not in seen:
            rest = _path_to_profile(way.leads_to, ways, seen | {resource})
            if rest is not None:
                return [way, *rest]
    return None
