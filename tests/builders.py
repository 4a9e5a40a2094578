"""Small values for tests: each builder shows only what a case is about."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from d365_campaign.binding import BoundMapping, bind
from d365_campaign.changes import Change, ChangePage, Kind, Outcome, Reading, Result
from d365_campaign.field_types import HELD, CampaignType, SourceType
from d365_campaign.mapping import FieldMapping, KeyMapping, TableMapping
from d365_campaign.schemas import ResourceField, SourceColumn, SourceTable, TargetResource
from d365_campaign.store.table_store import TableStore

SERVED_AT = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)

CONTACT_COLUMNS: Mapping[str, SourceType] = {
    "contactid": "reference",
    "firstname": "text",
    "emailaddress1": "text",
    "birthdate": "date",
    "numberofchildren": "integer",
    "creditlimit": "decimal",
    "donotemail": "boolean",
    "modifiedon": "datetime",
}
PROFILE_FIELDS: Mapping[str, CampaignType] = {
    "externalId": "string",
    "firstName": "string",
    "email": "string",
    "birthDate": "date",
    "location.city": "string",
    "cusChildren": "integer",
    "cusCredit": "double",
    "cusFlag": "boolean",
    "lastContact": "datetime",
}


def source_table(**columns: SourceType) -> SourceTable:
    named = {name: SourceColumn(name, kind, name) for name, kind in (columns or CONTACT_COLUMNS).items()}
    return SourceTable("contact", "contacts", "contactid", change_tracking=True, columns=named)


def target_resource(data_policies: Mapping[str, str] | None = None, **fields: CampaignType) -> TargetResource:
    policies = data_policies or {}
    named = {
        name: ResourceField(name, kind, data_policy=policies.get(name, ""))
        for name, kind in (fields or PROFILE_FIELDS).items()
    }
    return TargetResource("profile", "profileAndServicesExt", named)


def mapping(
    *pairs: tuple[str, str],
    apply_deletes: bool = True,
    declared_unique: bool = True,
    source: str = "contact",
    first_load_only: Collection[str] = (),
    **rules: Any,
) -> TableMapping:
    """*first_load_only* names Campaign fields without apply_updates; *rules* are further settings of a mapping."""
    return TableMapping(
        source=source,
        target="profile",
        key=KeyMapping(source="contactid", target="externalId", declared_unique=declared_unique),
        fields=[
            FieldMapping(source=s, target=t, apply_updates=t not in first_load_only)
            for s, t in pairs or (("firstname", "firstName"), ("emailaddress1", "email"))
        ],
        apply_deletes=apply_deletes,
        **rules,
    )


def bound(
    *pairs: tuple[str, str],
    apply_deletes: bool = True,
    declared_unique: bool = True,
    data_policies: Mapping[str, str] | None = None,
    **rules: Any,
) -> BoundMapping:
    configured = mapping(*pairs, apply_deletes=apply_deletes, declared_unique=declared_unique, **rules)
    return bind(configured, source_table(), target_resource(data_policies))


def one_field(source: SourceType, target: CampaignType) -> BoundMapping:
    """A mapping of the one column `a` to the one field `b`."""
    columns = source_table(contactid="reference", a=source)
    return bind(mapping(("a", "b")), columns, target_resource(externalId="string", b=target))


def contact(key: str, **values: object) -> dict[str, object]:
    return {"contactid": key, "modifiedon": "2026-05-01T08:00:00Z", **values}


def page(
    table: BoundMapping,
    *contacts: Mapping[str, object],
    removed: Sequence[str] = (),
    next_link: str | None = None,
    delta_link: str | None = "https://d365.example/delta?$deltatoken=1",
) -> ChangePage:
    schema = {column.name: HELD[column.type].page for column in table.columns}
    rows = pl.DataFrame([dict(c) for c in contacts], schema=schema, orient="row")
    return ChangePage(rows, list(removed), next_link, None if next_link else delta_link, SERVED_AT)


def keys(contacts: Iterable[Mapping[str, object]]) -> list[object]:
    return [c["contactid"] for c in contacts]


FULL = Reading(started_at=SERVED_AT)
CHANGES = Reading(phase="changes", started_at=SERVED_AT, delta_link="https://d365.example/delta", caught_up=True)


def filled(store: TableStore, *contacts: Mapping[str, object]) -> TableStore:
    """The store after a full read that met *contacts*, and a plan over them."""
    store.absorb(page(store.table, *contacts), CHANGES)
    store.plan()
    return store


def answer(store: TableStore, result: Result = Result.DONE, *keys: str, reason: str | None = None) -> None:
    """Claim what is open (or *keys* of it) and settle all of it with *result*."""
    changes = [c for c in open_changes(store) if not keys or c.key in keys]
    store.claim(changes)
    calls = 0 if result is Result.UNSENT else None
    store.settle(
        [Outcome(c.key, c.kind, result, c.engine_calls if calls is None else calls, reason=reason) for c in changes]
    )


def in_step(store: TableStore, *contacts: Mapping[str, object]) -> TableStore:
    """The store after *contacts* were read and written."""
    answer(filled(store, *contacts))
    return store


def kinds(store: TableStore) -> dict[str, Kind]:
    """Kind of each open change by key."""
    return {change.key: change.kind for change in open_changes(store)}


def open_changes(store: TableStore) -> list[Change]:
    """What a run would send, in key order."""
    store.begin_writing()
    return store.take_window(1000)
