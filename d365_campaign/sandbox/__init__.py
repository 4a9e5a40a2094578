"""Local stand-ins for Dataverse, Entra ID, Campaign Standard, its SFTP storage and Adobe IMS.

They are true enough for vendors' own clients.

with Sandbox.start(Path("/tmp/sandbox")) as sandbox:
    sandbox.seed(contacts=1000)
    ...  # point clients at sandbox.endpoints
"""

from .campaign_schema import Attribute, LinkDefinition, ResourceDefinition
from .dataverse_schema import AlternateKey, Column, Option, TableDefinition
from .server import Sandbox, serve
from .settings import Settings

__all__ = [
    "AlternateKey",
    "Attribute",
    "Column",
    "LinkDefinition",
    "Option",
    "ResourceDefinition",
    "Sandbox",
    "Settings",
    "TableDefinition",
    "serve",
]
