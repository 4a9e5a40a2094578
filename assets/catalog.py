"""What every asset has in Dagster's catalogue besides what its step says: owners, columns, and where its code is."""

import warnings
from collections.abc import Mapping, Sequence
from typing import cast

import dagster as dg

from assets.columns import Metadata, Shape, without_words
from assets.ingress import TableKeys
from assets.keys import dynamics_table, sftp_folder
from assets.opt_outs import EXPORTS, STATE, TO_CAMPAIGN, TO_DYNAMICS, opt_out_keys
from d365_campaign.config import Configuration, Place
from d365_campaign.mapping import CONTACT

Asset = dg.AssetsDefinition | dg.AssetSpec
CODE = "dagster/code_references"


def catalogued(assets: Sequence[Asset], integration: Configuration, places: Mapping[str, Place]) -> list[Asset]:
    """The same assets with their entries; *places* says where each table mapping stands, by its name."""
    columns = _columns(integration)

    def entered(spec: dg.AssetSpec) -> dg.AssetSpec:
        files = _mapping_files(spec, integration, places)
        metadata = {**columns.get(spec.key, {}), **spec.metadata, **_with_files(spec, files)}
        return spec.replace_attributes(owners=list(integration.settings.owners), metadata=metadata)

    with warnings.catch_warnings():  # Dagster calls code references a beta; they are metadata, nothing depends on them
        warnings.simplefilter("ignore", dg.BetaWarning)
        coded = cast("Sequence[Asset]", dg.with_source_code_references(assets))
        return list(dg.map_asset_specs(entered, coded))


def _columns(integration: Configuration) -> Mapping[dg.AssetKey, Metadata]:
    """Columns and lineage as far as the mapping alone tells; what a run makes says more, and stands before it."""
    told: dict[dg.AssetKey, Metadata] = {}
    for mapping in integration.tables:
        keys, shape = TableKeys.of(mapping), Shape.of(mapping, integration.opt_outs)
        told[keys.snapshot] = shape.snapshot(dynamics_table(mapping.source))
        told[keys.change_set] = without_words(shape.change_set(keys.snapshot))
        told[keys.target] = without_words(shape.target(keys.change_set))
        if mapping.name == CONTACT and opt_out_keys(integration):
            exports = EXPORTS if integration.opt_outs.direction.reads_exports else None
            told[EXPORTS] = shape.exports(sftp_folder(integration.settings.opt_outs.exports.folder))
            told[STATE] = shape.state(keys.snapshot, exports)
            told[TO_CAMPAIGN] = shape.to_campaign(STATE)
            told[TO_DYNAMICS] = shape.to_dynamics(STATE)
    return told


def _mapping_files(spec: dg.AssetSpec, integration: Configuration, places: Mapping[str, Place]) -> Sequence[Place]:
    """Where the table mapping that an asset is about stands; opt-outs are about contacts."""
    name = CONTACT if spec.key in opt_out_keys(integration) else spec.tags.get("table", "")
    return [places[name]] if name in places else []


def _with_files(spec: dg.AssetSpec, files: Sequence[Place]) -> Metadata:
    coded = spec.metadata.get(CODE)
    references = [*(coded.code_references if isinstance(coded, dg.CodeReferencesMetadataValue) else [])]
    references += [
        dg.LocalFileCodeReference(file_path=str(place.file), line_number=place.line, label="table mapping")
        for place in files
    ]
    return {CODE: dg.CodeReferencesMetadataValue(code_references=references)} if references else {}
