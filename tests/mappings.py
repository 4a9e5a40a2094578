"""The mappings that the project ships, for tests to vary."""

from pathlib import Path
from typing import Any

import yaml

from d365_campaign.mapping import TableMapping

CONTACT = Path(__file__).parents[1] / "config" / "tables" / "contact.yaml"


def contact_mapping(**changes: Any) -> TableMapping:
    """Contacts to profiles, with *changes*."""
    return TableMapping.model_validate(yaml.safe_load(CONTACT.read_text(encoding="utf-8")) | changes)
