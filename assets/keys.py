"""Keys of what lies outside: tables, resources and folders of both systems, which no step of ours makes."""

from pathlib import PurePosixPath

import dagster as dg


def dynamics_table(source: str) -> dg.AssetKey:
    """A table in Dynamics, by its logical name."""
    return dg.AssetKey(["dataverse", source])


def campaign_resource(target: str) -> dg.AssetKey:
    """A resource in Campaign."""
    return dg.AssetKey(["adobe_campaign", target])


def sftp_folder(folder: str) -> dg.AssetKey:
    """A folder of Campaign's SFTP storage."""
    return dg.AssetKey(["sftp_folder", *(part for part in PurePosixPath(folder).parts if part not in ("/", "."))])
