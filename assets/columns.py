"""Column schema and column lineage of a table mapping's assets, for Dagster's catalogue."""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from d365_campaign.mapping import BoundMapping, duckdb_type

Metadata = dict[str, Any]


def of_snapshot(table: BoundMapping) -> Metadata:
    """The Dynamics columns the snapshot holds."""
    key = table.mapping.key.source
    return {"dagster/column_schema": _schema(((c.name, duckdb_type(c)) for c in table.columns), key)}


def of_change_set(table: BoundMapping, snapshot: dg.AssetKey) -> Metadata:
    """The Campaign fields, each from the Dynamics column it is mapped from."""
    sources = {table.mapping.key.target: table.mapping.key.source} | {
        f.target.name: f.source.name for f in table.fields
    }
    return _campaign_schema(table) | {"dagster/column_lineage": _lineage(sources.items(), snapshot)}


def of_target(table: BoundMapping, change_set: dg.AssetKey) -> Metadata:
    """The Campaign fields, as the change set brings them."""
    names = [table.mapping.key.target, *(f.target.name for f in table.fields)]
    return _campaign_schema(table) | {"dagster/column_lineage": _lineage(zip(names, names, strict=True), change_set)}


def _campaign_schema(table: BoundMapping) -> Metadata:
    key = table.mapping.key.target
    types = [(key, table.target.fields[key].type), *((f.target.name, f.target.type) for f in table.fields)]
    return {"dagster/column_schema": _schema(types, key)}


def _schema(columns: Iterable[tuple[str, str]], key: str) -> dg.TableSchema:
    identity = dg.TableColumnConstraints(nullable=False, unique=True)
    return dg.TableSchema(
        [dg.TableColumn(name, kind, constraints=identity if name == key else None) for name, kind in columns]
    )


def _lineage(pairs: Iterable[tuple[str, str]], upstream: dg.AssetKey) -> dg.TableColumnLineage:
    return dg.TableColumnLineage({name: [dg.TableColumnDep(upstream, source)] for name, source in pairs})
