"""What the checks of a table say, step by step: asked of the staging file while the step has it, judged by the core."""

from collections.abc import Sequence

from d365_campaign import checks, quality
from d365_campaign.changes import ApplySummary, Cause, PullSummary
from d365_campaign.checks import Verdict
from d365_campaign.flows.guards import Guards
from d365_campaign.quality import CheckSettings
from d365_campaign.store.table_store import TableStore

# What `written_verdicts` tells besides whether the table is blocked.
WRITTEN = ("none_refused", "no_orphans", "none_waits_long", "calls_as_predicted")


def pulled_verdicts(store: TableStore, pulled: PullSummary, settings: CheckSettings) -> Sequence[Verdict]:
    """After a pull: its keys, and whether the table holds about as much as it used to."""
    name, faults = store.table.name, pulled.key_faults
    return [checks.keys_unique(faults, name), checks.keys_present(faults, name), _volume(store, pulled, settings)]


def _volume(store: TableStore, pulled: PullSummary, settings: CheckSettings) -> Verdict:
    """Judged and kept once all changes were read; before, a first read would look like a jump."""
    usual = store.quality.usual_records(settings.volume_days)
    if not pulled.caught_up:
        return quality.volume(pulled.records, None, settings)
    store.quality.note_caught_up(pulled.records)
    verdict = quality.volume(pulled.records, usual, settings)
    if verdict.passed or usual is None:
        return verdict
    return quality.volume(pulled.records, usual, settings, store.quality.came_or_went(more=pulled.records > usual))


def planned_verdicts(store: TableStore, guards: Guards) -> Sequence[Verdict]:
    """After a plan: whether a person must give their word, and which values can't be sent."""
    unfit = store.quality.unfit()
    return [*guards.verdicts(store), quality.values_convert(unfit), quality.texts_fit(unfit)]


def written_verdicts(
    store: TableStore, applied: ApplySummary, guards: Guards, settings: CheckSettings
) -> Sequence[Verdict]:
    """After a table was written: what stopped it, what was refused, what waits, and whether it cost what was said."""
    blocked = guards.failing(store) if applied.stopped_by in checks.BLOCKING else ()
    waiting = store.quality.note_waiting()
    refused = [each.key for each in applied.rejects if each.resting and each.cause is not Cause.HIDDEN]
    return [
        checks.not_blocked(blocked),
        checks.none_refused(applied.refused, refused),
        quality.no_orphans(waiting),
        quality.none_waits_long(waiting, settings),
        quality.calls_as_predicted(*store.quality.calls_of_today(), settings),
    ]
