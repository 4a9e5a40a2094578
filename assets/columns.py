"""Column schemas and column lineage of every asset, from the mapping alone or with what both systems tell of types."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import dagster as dg

from assets.ways import way_of, way_of_opt_out
from d365_campaign.binding import MODIFIED_ON, VERSION, BoundField, BoundMapping, duckdb_type
from d365_campaign.mapping import CONTACT, PROFILE, FieldMapping, TableMapping
from d365_campaign.opt_out import OptOutPair, OptOuts

Metadata = dict[str, Any]
# The type of a column of which nobody was asked yet; a run asks, and tells it with what it made.
NOT_ASKED = "not known yet"


class Column(NamedTuple):
    """A column of an asset. *origins* are the columns its values come from."""

    name: str
    type: str = NOT_ASKED
    words: str = ""
    origins: Sequence[tuple[dg.AssetKey, str]] = ()


def metadata_of(columns: Iterable[Column], key: str | None = None) -> Metadata:
    """What Dagster's catalogue takes: schema, and lineage where there is one. *key* is the column that identifies rows.

    Where a value comes from stands in the description, too: Dagster's open-source UI draws no graph of columns.
    """
    told = list(columns)
    identity = dg.TableColumnConstraints(nullable=False, unique=True)
    schema = dg.TableSchema(
        [dg.TableColumn(c.name, c.type, c.words or None, constraints=identity if c.name == key else None) for c in told]
    )
    lineage = {c.name: [dg.TableColumnDep(asset, name) for asset, name in c.origins] for c in told if c.origins}
    return {"dagster/column_schema": schema} | (
        {"dagster/column_lineage": dg.TableColumnLineage(lineage)} if lineage else {}
    )


def without_words(metadata: Metadata) -> Metadata:
    """The same, with columns that say nothing of themselves.

    In Dagster's UI what a definition says of a column hides what a run says of it, which knows more.
    """
    schema: dg.TableSchema = metadata["dagster/column_schema"]
    silent = [dg.TableColumn(c.name, c.type, constraints=c.constraints) for c in schema.columns]
    return metadata | {"dagster/column_schema": dg.TableSchema(silent)}


@dataclass(frozen=True)
class Shape:
    """A table mapping's columns on both sides. *pairs* are the opt-outs kept in step, which are no fields of it.

    The types are those that both systems told, as far as they were asked.
    """

    mapping: TableMapping
    pairs: Sequence[OptOutPair] = ()
    snapshot_types: Mapping[str, str] = field(default_factory=dict)
    field_types: Mapping[str, str] = field(default_factory=dict)
    bound: Mapping[str, BoundField] = field(default_factory=dict)

    @classmethod
    def of(cls, mapping: TableMapping, opt_outs: OptOuts) -> "Shape":
        """What the mapping alone tells."""
        return cls(mapping, opt_outs.pairs if (mapping.source, mapping.target) == (CONTACT, PROFILE) else ())

    @classmethod
    def asked(cls, table: BoundMapping) -> "Shape":
        """The same with types."""
        return cls(
            table.mapping,
            table.opt_outs.pairs if table.opt_outs else (),
            {column.name: duckdb_type(column) for column in table.columns},
            {name: attribute.type for name, attribute in table.target.fields.items()},
            {f.target.name: f for f in table.fields},
        )

    @property
    def fields(self) -> Sequence[FieldMapping]:
        """The field mappings, without opt-outs that are kept in step."""
        paired = {pair.target for pair in self.pairs}
        return [f for f in self.mapping.fields if f.target not in paired]

    def table(self) -> Metadata:
        """The columns of the Dynamics table that are read, and what becomes of each."""
        key, links = self.mapping.key.source, {link.source for link in self.mapping.links}
        types = dict.fromkeys(links, "lookup") | {pair.source: "boolean" for pair in self.pairs}
        types |= {key: "uniqueidentifier", MODIFIED_ON: "datetime"}
        return metadata_of((Column(n, types.get(n, NOT_ASKED), self._becomes(n)) for n in self._read()), key)

    def snapshot(self, table: dg.AssetKey) -> Metadata:
        """The same columns as the staging file holds them."""
        names = self.snapshot_types or self._read()
        held = (Column(n, self.snapshot_types.get(n, NOT_ASKED), self._becomes(n), [(table, n)]) for n in names)
        return metadata_of(held, self.mapping.key.source)

    def change_set(self, snapshot: dg.AssetKey) -> Metadata:
        """The Campaign fields, each from the column that it is mapped from."""
        key = self.mapping.key
        columns = [self._field(key.target, key.source, snapshot, "")]
        for each in self.fields:
            parent = next((link.parent for link in self.mapping.links if link.source == each.source), None)
            way = way_of(each, self.bound.get(each.target), parent)
            columns.append(self._field(each.target, each.source, snapshot, way))
        return metadata_of(columns, key.target)

    def target(self, change_set: dg.AssetKey, opt_outs: dg.AssetKey | None = None) -> Metadata:
        """The same fields, as the change set brings them, and *opt_outs* where they are written, too."""
        made: dg.TableSchema = self.change_set(change_set)["dagster/column_schema"]
        columns = [Column(c.name, c.type, c.description or "", [(change_set, c.name)]) for c in made.columns]
        written = self.pairs if opt_outs else ()
        columns += [Column(p.target, "boolean", "opt-out", [(opt_outs, p.target)]) for p in written if opt_outs]
        return metadata_of(columns, self.mapping.key.target)

    def state(self, snapshot: dg.AssetKey, exports: dg.AssetKey | None) -> Metadata:
        """Each opt-out, as both systems' words have it."""
        columns = [
            Column(
                pair.target,
                "boolean",
                f"Dynamics {self.mapping.source}.{pair.source}: {way_of_opt_out(pair)}",
                [(snapshot, pair.source), *([(exports, pair.target)] if exports else [])],
            )
            for pair in self.pairs
        ]
        key = self.mapping.key
        return metadata_of([Column(key.target, "string", "", [(snapshot, key.source)]), *columns], key.target)

    def exports(self, folder: dg.AssetKey | None = None) -> Metadata:
        """The columns of a daily file that are made use of; the folder's own where none is given."""
        key, changed = self.mapping.key.target, "LastModified"
        names = [key, *(name for pair in self.pairs for name in (pair.target, f"{pair.target}{changed}"))]
        types = {key: "string"} | {pair.target: "boolean" for pair in self.pairs}
        return metadata_of(
            (Column(n, types.get(n, "datetime"), "", [(folder, n)] if folder else ()) for n in names), key
        )

    def to_campaign(self, state: dg.AssetKey) -> Metadata:
        """The opt-outs of a profile."""
        key = self.mapping.key.target
        return metadata_of((Column(n, t, "", [(state, n)]) for n, t in self._opt_outs(key).items()), key)

    def to_dynamics(self, state: dg.AssetKey) -> Metadata:
        """The paired columns of a contact."""
        key = self.mapping.key
        columns = [Column(key.source, "uniqueidentifier", "", [(state, key.target)])]
        for pair in self.pairs:
            way = f"Campaign {self.mapping.target}.{pair.target}: {way_of_opt_out(pair)}"
            columns.append(Column(pair.source, "boolean", way, [(state, pair.target)]))
        return metadata_of(columns, key.source)

    def _opt_outs(self, key: str) -> Mapping[str, str]:
        return {key: "string"} | {pair.target: "boolean" for pair in self.pairs}

    def _field(self, name: str, source: str, snapshot: dg.AssetKey, way: str) -> Column:
        words = f"Dynamics {self.mapping.source}.{source}" + (f": {way}" if way else "")
        return Column(name, self.field_types.get(name, NOT_ASKED), words, [(snapshot, source)])

    def _read(self) -> Sequence[str]:
        """What is read of a record, each column once."""
        names = [self.mapping.key.source, *(f.source for f in self.fields)]
        names += [c.source for c in self.mapping.filter.conditions] if self.mapping.filter else []
        names += [pair.source for pair in self.pairs]
        return list(dict.fromkeys([*names, MODIFIED_ON]))

    def _becomes(self, column: str) -> str:
        target = self.mapping.target
        made = [self.mapping.key.target] if column == self.mapping.key.source else []
        made += [f.target for f in self.fields if f.source == column]
        made += [pair.target for pair in self.pairs if pair.source == column]
        uses = [f"becomes {', '.join(f'{target}.{name}' for name in made)}"] if made else []
        if self.mapping.filter and column in {c.source for c in self.mapping.filter.conditions}:
            uses.append("filtered on")
        if column == MODIFIED_ON:
            uses.append("when it changed last")
        if column == VERSION:
            uses.append("row version")
        return "; ".join(uses)
