"""Mappings for tests to vary: contacts as the project ships them, and two custom entities linked with them."""

from pathlib import Path
from typing import Any

import yaml

from d365_campaign.mapping import TableMapping

CONFIG = Path(__file__).parents[1] / "config"


def contact_mapping(**changes: Any) -> TableMapping:
    """Contacts to profiles as in a fresh configuration, with *changes*."""
    return _read("tables/contact.yaml", changes)


def account_mapping(**changes: Any) -> TableMapping:
    """Accounts to cusAccount, with *changes*."""
    return _read("sandbox_tables/account.yaml", changes)


def purchase_mapping(**changes: Any) -> TableMapping:
    """Purchases, linked to contacts, to cusPurchase, with *changes*."""
    return _read("sandbox_tables/new_purchase.yaml", changes)


def _read(file: str, changes: dict[str, Any]) -> TableMapping:
    return TableMapping.model_validate(yaml.safe_load((CONFIG / file).read_text(encoding="utf-8")) | changes)
