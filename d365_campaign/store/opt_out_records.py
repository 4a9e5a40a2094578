"""What is kept of opt-outs for good, read from its relations: decisions, and what became of daily files."""

from collections.abc import Sequence
from datetime import UTC, datetime

from d365_campaign.opt_out import Decision, Standing
from d365_campaign.opt_out_changes import Export, LedgerEntry, Side
from d365_campaign.store.part import utc
from d365_campaign.store.sql_opt_outs import relation

# Decisions about the person with the key $1, oldest first.
DECISIONS_OF = f"select * from {relation('decision')} where key = $1 order by decided_at, attribute"
EXPORTS = f"""select name, rows, unreadable, without_key, missing, refused, cut, exported_at, taken_at
from {relation("export")}"""


def decision_of(
    key: str, attribute: str, source: str, direction: str,
    campaign: bool, campaign_at: datetime | None, dynamics: bool, dynamics_at: datetime | None,
    campaign_gets: bool, dynamics_gets: bool, rule: str, written_to: Side, decided_at: datetime,
) -> LedgerEntry:  # fmt: skip
    """A row of `DECISIONS_OF`."""
    return LedgerEntry(
        key,
        attribute,
        source,
        direction,
        Standing(campaign, utc(campaign_at), dynamics, utc(dynamics_at)),
        Decision(campaign_gets, dynamics_gets, rule),
        written_to,
        decided_at.replace(tzinfo=UTC),
    )


def export_of(
    name: str, rows: int, unreadable: int, without_key: int, missing: Sequence[str], refused: str | None, cut: bool,
    exported_at: datetime | None, taken_at: datetime,
) -> Export:  # fmt: skip
    """A row of `EXPORTS`."""
    return Export(name, rows, unreadable, without_key, tuple(missing), refused, cut, utc(exported_at), utc(taken_at))
