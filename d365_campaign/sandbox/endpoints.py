"""Where a running sandbox is found and with which demo credentials: what `endpoints.json` holds."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .serving import ADMIN_PATH
from .tokens import CAMPAIGN_APPLICATION, CAMPAIGN_SCOPE, DATAVERSE_APPLICATION


def endpoints(ports: Mapping[str, int], sftp: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """*ports* are those of the systems on HTTPS; *sftp* says how to log in there."""
    roots = {system: f"https://localhost:{port}" for system, port in ports.items()}
    dataverse, campaign = DATAVERSE_APPLICATION, CAMPAIGN_APPLICATION
    instance = f"{roots['campaign']}/{campaign.tenant}"
    return {
        "dataverse": roots["dataverse"],
        "entra": roots["entra"],
        "campaign": f"{instance}/campaign",
        "ims": roots["ims"],
        "sftp": dict(sftp),
        "admin": roots["dataverse"] + ADMIN_PATH,
        "ca_bundle": str((directory / "ca.pem").resolve()),
        "pid": os.getpid(),
        "dataverse_token_url": f"{roots['entra']}/{dataverse.tenant}/oauth2/v2.0/token",
        "ims_token_url": f"{roots['ims']}/ims/token/v3",
        "campaign_instance": instance,
        "credentials": {
            "dataverse": {
                "tenant_id": dataverse.tenant,
                "client_id": dataverse.client_id,
                "client_secret": dataverse.client_secret,
                "scope": f"{roots['dataverse']}/.default",
            },
            "campaign": {
                "tenant": campaign.tenant,
                "client_id": campaign.client_id,
                "client_secret": campaign.client_secret,
                "scope": CAMPAIGN_SCOPE,
            },
        },
    }


def write_endpoints(endpoints: Mapping[str, Any], directory: Path) -> None:
    """Readable by the owner alone, and never seen half-written."""
    target = directory / "endpoints.json"
    unfinished = directory / "endpoints.json.tmp"
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(endpoints, file, indent=2)
    unfinished.replace(target)
