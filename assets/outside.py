"""What lies outside: Dynamics tables, Campaign resources and SFTP folders, beside what is made of them.

Nothing of ours makes them, so no step stands behind them; what is checked of them once a day is in `assets/verify.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

import dagster as dg

from assets.columns import Metadata, Shape
from assets.ingress import TableKeys
from assets.keys import campaign_resource, dynamics_table, sftp_folder
from assets.opt_outs import EXPORTS, TO_CAMPAIGN, opt_out_keys
from assets.output_log import OUTPUT_LOG, output_log_keys
from d365_campaign.config import Configuration
from d365_campaign.mapping import CONTACT, TableMapping
from d365_campaign.settings import EnvironmentReference

DYNAMICS, CAMPAIGN, STORAGE = "dynamics_365", "adobe_campaign", "campaign_sftp"
DOCUMENTATION = {
    DYNAMICS: "https://learn.microsoft.com/power-apps/developer/data-platform/webapi/overview",
    CAMPAIGN: "https://experienceleague.adobe.com/en/docs/campaign-standard/using/home",
    STORAGE: "https://experienceleague.adobe.com/en/docs/control-panel/using/sftp-management/about-sftp-management",
}
# Dagster's UI has no icons for Dynamics and Campaign; Microsoft's and the one of a table come nearest.
KINDS = {DYNAMICS: {"microsoft", "dynamics365"}, CAMPAIGN: {"table", "adobecampaign"}, STORAGE: {"csv", "sftp"}}
GATEWAY = "mc.adobe.io"


def outside_assets(integration: Configuration) -> list[dg.AssetSpec]:
    """Every table that is read, resource that is written, and folder that is either."""
    return [
        *(_table(mapping, integration) for mapping in integration.tables),
        *(_resource(mapping, integration) for mapping in integration.tables),
        *_folders(integration),
    ]


def _table(mapping: TableMapping, integration: Configuration) -> dg.AssetSpec:
    home = _plain(integration.settings.dynamics.url)
    links = {"dagster/table_name": mapping.source}
    written = " Opt-outs that were made in Campaign are written to it." if _written_back(mapping, integration) else ""
    return _outside(
        dynamics_table(mapping.source),
        DYNAMICS,
        f"Table **{mapping.source}** in Dynamics 365, which is the source of truth: it is read by change tracking."
        f"{written}",
        Shape.of(mapping, integration.opt_outs).table()
        | links
        | _link("records", home and f"{_app(home)}/main.aspx?pagetype=entitylist&etn={mapping.source}"),
        tags={"table": mapping.name},
    )


def _resource(mapping: TableMapping, integration: Configuration) -> dg.AssetSpec:
    written = TableKeys.of(mapping).target
    opt_outs = TO_CAMPAIGN if mapping.source == CONTACT and TO_CAMPAIGN in opt_out_keys(integration) else None
    home = _plain(integration.settings.campaign.url)
    return _outside(
        campaign_resource(mapping.target),
        CAMPAIGN,
        f"Resource **{mapping.target}** in Adobe Campaign Standard, with every record that it holds: those that are "
        "kept in step, and those that others made, which are left alone.",
        Shape.of(mapping, integration.opt_outs).target(written, opt_outs)
        | {"dagster/table_name": mapping.target}
        | _link("instance", home and _instance(home)),
        deps=[written, *([opt_outs] if opt_outs else [])],
        tags={"table": mapping.name},
    )


def _folders(integration: Configuration) -> Iterator[dg.AssetSpec]:
    settings, sftp = integration.settings, integration.settings.sftp
    contact = next((table for table in integration.tables if table.name == CONTACT), None)
    if sftp is None:
        return
    host = _plain(sftp.host)
    if contact and EXPORTS in opt_out_keys(integration):
        folder = settings.opt_outs.exports.folder
        yield _outside(
            sftp_folder(folder),
            STORAGE,
            f"Folder `{folder}` of Campaign's SFTP storage, where its workflow **{settings.opt_outs.workflow}** puts "
            "a file of changed opt-outs once a day.",
            Shape.of(contact, integration.opt_outs).exports() | _link("folder", host and f"sftp://{host}/{folder}"),
        )
    if output_log_keys(integration):
        yield _outside(
            sftp_folder(sftp.logs_folder),
            STORAGE,
            f"Folder `{sftp.logs_folder}` of Campaign's SFTP storage, with a log file of each run.",
            _link("folder", host and f"sftp://{host}/{sftp.logs_folder}"),
            deps=[OUTPUT_LOG],
        )


def _outside(
    key: dg.AssetKey,
    system: str,
    description: str,
    metadata: Metadata,
    *,
    deps: Sequence[dg.AssetKey] = (),
    tags: Mapping[str, str] | None = None,
) -> dg.AssetSpec:
    return dg.AssetSpec(
        key,
        deps=deps,
        description=description,
        group_name=system,
        kinds=KINDS[system],
        tags={"system": system, **(tags or {})},
        metadata=metadata | _link("documentation", DOCUMENTATION[system]),
    )


def _written_back(mapping: TableMapping, integration: Configuration) -> bool:
    return mapping.source == CONTACT and integration.opt_outs.direction.reads_exports


def _link(name: str, address: str | None) -> Metadata:
    """A link to where a person looks; none where the address is not known."""
    return {name: dg.MetadataValue.url(address)} if address else {}


def _plain(value: str | EnvironmentReference) -> str | None:
    """An address that stands in the settings. One that the environment holds is not looked up: what is defined here is
    stored and shown."""
    return value.rstrip("/") if isinstance(value, str) else None


def _app(url: str) -> str:
    """Where people work, by the address of the Web API: `contoso.api.crm4` is `contoso.crm4` to them."""
    return url.replace(".api.crm", ".crm", 1)


def _instance(url: str) -> str | None:
    """Where people work, by the address of the API's gateway."""
    address = urlsplit(url)
    tenant = address.path.strip("/").split("/")[0]
    return f"https://{tenant}.campaign.adobe.com" if address.hostname == GATEWAY and tenant else None
