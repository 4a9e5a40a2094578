"""The limits of Adobe's integration ("Integration Guardrails") as settings, and which of them mappings break."""

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from pydantic import BaseModel, ConfigDict, Field

from d365_campaign.mapping import CONTACT, TableMapping


class GuardrailSettings(BaseModel):
    """What a run does not do without a person's word, and what a configuration may ask for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_delete_share: float = Field(
        default=0.2, ge=0, le=1, description="Largest share of the known Campaign records that one plan may delete."
    )
    min_deletes: int = Field(default=100, ge=0, description="Up to this many deletes pass whatever their share.")
    large_load_records: int = Field(
        default=500_000, ge=0, description="A plan of more records waits for `d365-campaign acknowledge`."
    )
    max_initial_records: int = Field(
        default=15_000_000, ge=0, description="Records of all tables together in the initial load."
    )
    max_replay_records: int = Field(
        default=2_000_000, ge=0, description="From so many records, or so much backlog, on a replay is refused."
    )
    max_opt_ins: int = Field(
        default=1000, ge=0, description="People whose opt-outs one run may take back; of more, none is taken back."
    )
    max_custom_entities: int = Field(default=20, ge=0, description="Mapped tables besides contact.")
    max_columns: int = Field(default=50, ge=1, description="Mapped columns of a custom entity, its key among them.")
    max_links: int = Field(default=5, ge=0, description="Links of one table.")
    warn_links: int = Field(default=3, ge=0, description="Links of one table from which a warning is shown.")
    max_link_depth: int = Field(default=2, ge=0, description="Links in a row: 2 is table1 > table2 > table3.")


def faults(tables: Sequence[TableMapping], limits: GuardrailSettings, *, complete: bool = True) -> Iterator[str]:
    """What keeps these mappings from being run together, each with its remedy.

    *complete*: there are no others; if there may be, a table that a link leads to needn't be among them.
    """
    custom = [table for table in tables if table.source != CONTACT]
    if len(custom) > limits.max_custom_entities:
        yield (
            f"{len(custom)} custom entities are mapped; allowed are {limits.max_custom_entities} "
            "(guardrails.max_custom_entities). Remove some."
        )
    for table in custom:
        columns = len(table.fields) + 1
        if columns > limits.max_columns:
            yield (
                f"table '{table.name}' maps {columns} columns with its key; allowed are {limits.max_columns} "
                "(guardrails.max_columns). Remove some."
            )
    mapped = {table.name: table for table in tables}
    for table in tables:
        if len(table.links) > limits.max_links:
            yield (
                f"table '{table.name}' has {len(table.links)} links; allowed are {limits.max_links} "
                "(guardrails.max_links). Remove some."
            )
        for link in table.links:
            if complete and link.parent not in mapped:
                yield (
                    f"link '{link.source}' of table '{table.name}' leads to '{link.parent}', which is not mapped. Map "
                    "it too, or remove the link."
                )
    yield from _chain_faults(mapped, limits.max_link_depth)


def _chain_faults(mapped: Mapping[str, TableMapping], max_depth: int) -> Iterator[str]:
    parents = {name: sorted({link.parent for link in mapped[name].links} & mapped.keys()) for name in mapped}
    while circle := _circle(parents):
        yield f"links go round in a circle: {' > '.join(circle)}. Remove one of them."
        parents[circle[0]].remove(circle[1])
    chains: dict[str, Sequence[str]] = {}
    for name in TopologicalSorter(parents).static_order():
        chains[name] = (name, *max((chains[parent] for parent in parents[name]), key=len, default=()))
    for name in sorted(mapped.keys() - {parent for some in parents.values() for parent in some}):
        if (depth := len(chains[name]) - 1) > max_depth:
            yield (
                f"links go {depth} deep: {' > '.join(chains[name])}; allowed are {max_depth} in a row "
                "(guardrails.max_link_depth). Remove one of them."
            )


def _circle(parents: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """A way along links that ends where it began; empty where there is none."""
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        return [*reversed(error.args[1])]
    return ()


def warnings(tables: Sequence[TableMapping], limits: GuardrailSettings) -> Iterator[str]:
    """What works, and is known to hurt."""
    for table in tables:
        if len(table.links) >= limits.warn_links:
            yield f"table '{table.name}' has {len(table.links)} links: several links can make Campaign slow."
        for link in table.links:
            if link.cardinality == "1":
                yield (
                    f"link '{link.source}' of table '{table.name}' has cardinality 1: Campaign hides a record until "
                    "its parent is there. Prefer 0..1."
                )


def parents_first(tables: Sequence[TableMapping]) -> Sequence[TableMapping]:
    """The same tables, each after those that its links lead to."""
    mapped = {table.name: table for table in tables}
    ordered: dict[str, TableMapping] = {}

    def place(table: TableMapping) -> None:
        if table.name not in ordered:
            for link in table.links:
                if link.parent in mapped and link.parent != table.name:
                    place(mapped[link.parent])
            ordered[table.name] = table

    for table in tables:
        place(table)
    return list(ordered.values())
