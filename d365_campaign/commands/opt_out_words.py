"""What the commands about opt-outs share: where they look, and how an opt-out is put into words."""

from collections.abc import Callable
from datetime import datetime

from rich.console import Console

from d365_campaign.config import Configuration
from d365_campaign.mapping import CONTACT, TableMapping
from d365_campaign.opt_out import ATTRIBUTES, OptOutPair
from d365_campaign.store.opt_out_desk import OptOutDesk
from d365_campaign.store.opt_out_person import moment_words, value_words
from d365_campaign.store.staging import Staging


def opt_out_desk(file: Staging, configured: Configuration) -> OptOutDesk:
    """The desk of an open staging file, by the settings."""
    limit = configured.settings.guardrails.max_opt_ins
    return file.opt_out_desk(contact_of(configured), configured.opt_outs, limit)


def contact_of(configured: Configuration) -> TableMapping:
    return configured.table(CONTACT)


def sayer(console: Console) -> Callable[[str], None]:
    def say(sentence: str) -> None:
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    return say


def named(pair: OptOutPair) -> dict[str, str]:
    return {"column": pair.source, "attribute": pair.target, "label": ATTRIBUTES[pair.target].label}


def column_words(pair: OptOutPair) -> str:
    return f"{pair.source} (yes means no opt-out)" if pair.invert else pair.source


def dynamics_words(value: bool, at: datetime | None) -> str:
    return f"{value_words(value)}, when the contact had changed last {on_words(at)}"


def campaign_words(value: bool, at: datetime | None) -> str:
    return f"{value_words(value)}, changed {on_words(at)}" if at else f"{value_words(value)}, and no time"


def on_words(at: datetime | None) -> str:
    return f"on {moment_words(at)}" if at else moment_words(at)
