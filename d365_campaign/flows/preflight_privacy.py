"""Whether Campaign's deletion of a profile reaches the personal data of every table, by the links of all of them."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor

from d365_campaign import checks
from d365_campaign.config import Configuration
from d365_campaign.errors import SyncError
from d365_campaign.flows.findings import Finding, Judgement, in_two, warning
from d365_campaign.flows.preflight_table import CampaignResources, TableLook
from d365_campaign.mapping import PROFILE, TableMapping
from d365_campaign.schemas import TargetResource

SUBJECT = "personal data"


def personal_data(
    looks: Sequence[TableLook], configuration: Configuration, campaign: CampaignResources | None, pool: Executor
) -> Mapping[str, Sequence[Finding]]:
    """Findings by table; of tables that were not looked at, the resources are read in the *pool*."""
    concerned = [look for look in looks if look.target is not None and _is_concerned(look.mapping)]
    if campaign is None or not concerned:
        return {}
    seen = {look.mapping.name: look.target for look in looks}
    others = [mapping for mapping in configuration.tables if mapping.name not in seen]
    read = pool.map(lambda mapping: _resource(mapping, campaign), others)
    seen |= {mapping.name: resource for mapping, resource in zip(others, read, strict=True)}
    resources = [(mapping, seen[mapping.name]) for mapping in configuration.tables]
    return {look.mapping.name: list(_judged(look.mapping, resources)) for look in concerned}


def _is_concerned(mapping: TableMapping) -> bool:
    return mapping.personal and mapping.target != PROFILE


def _resource(mapping: TableMapping, campaign: CampaignResources) -> TargetResource | None:
    """None where it can't be had; a look at that table says why."""
    try:
        return campaign.describe(mapping.target)
    except SyncError:
        return None


def _judged(
    mapping: TableMapping, resources: Sequence[tuple[TableMapping, TargetResource | None]]
) -> Iterator[Finding]:
    known = [(other, resource) for other, resource in resources if resource is not None]
    missing = [other.target for other, resource in resources if resource is None]
    if missing:
        yield warning(
            mapping.name,
            SUBJECT,
            f"whether the deletion of a profile reaches it can't be told without {', '.join(missing)}.",
            "Publish what is missing in Campaign, and check again.",
        )
        return
    for verdict in checks.privacy_warnings(mapping, known):
        judged: Judgement = "fine" if verdict.passed else "warning" if verdict.warn else "wrong"
        yield Finding(mapping.name, SUBJECT, judged, *in_two(verdict.description, ""))
