"""Column schema and column lineage of a table mapping's assets, for Dagster's catalogue."""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from d365_campaign.binding import BoundMapping, duckdb_type

Metadata = dict[str, Any]


def of_snapshot(table: BoundMapping) -> Metadata:
    """The Dynamics columns the snapshot holds."""
    key = table.mapping.key.source
    return {"dagster/column_schema": _schema(((c.name, duckdb_type(c), None) for c in table.columns), key)}


def of_change_set(table: BoundMapping, snapshot: dg.AssetKey) -> Metadata:
    """The Campaign fields, each from the Dynamics column it is mapped from."""
    return _campaign_schema(table) | {"dagster/column_lineage": _lineage(_sources(table).items(), snapshot)}


def of_target(table: BoundMapping, change_set: dg.AssetKey) -> Metadata:
    """The Campaign fields, as the change set brings them."""
    return _campaign_schema(table) | {"dagster/column_lineage": _lineage(((n, n) for n in _sources(table)), change_set)}


def _sources(table: BoundMapping) -> dict[str, str]:
    """Campaign field to the Dynamics column it is mapped from, the key first."""
    return {table.mapping.key.target: table.mapping.key.source} | {f.target.name: f.source.name for f in table.fields}


def _campaign_schema(table: BoundMapping) -> Metadata:
    columns = (
        (name, table.target.fields[name].type, f"Dynamics {table.mapping.source}.{source}")
        for name, source in _sources(table).items()
    )
    return {"dagster/column_schema": _schema(columns, table.mapping.key.target)}


def _schema(columns: Iterable[tuple[str, str, str | None]], key: str) -> dg.TableSchema:
    """The origin stands as description too: Dagster's open-source UI shows it, and draws no graph of columns."""
    identity = dg.TableColumnConstraints(nullable=False, unique=True)
    return dg.TableSchema(
        [
            dg.TableColumn(name, kind, description=origin, constraints=identity if name == key else None)
            for name, kind, origin in columns
        ]
    )


def _lineage(pairs: Iterable[tuple[str, str]], upstream: dg.AssetKey) -> dg.TableColumnLineage:
    return dg.TableColumnLineage({name: [dg.TableColumnDep(upstream, source)] for name, source in pairs})
