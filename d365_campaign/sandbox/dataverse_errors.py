"""Errors of the Dataverse Web API by their hexadecimal code ("Web service error codes")."""

from typing import Any
from urllib.parse import quote

from .settings import Settings

OBJECT_DOES_NOT_EXIST = "0x80040217"
NO_ROW_FOR_KEY = "0x80060891"
DUPLICATE_KEY = "0x80060892"
DUPLICATE_RECORD = "0x80040237"
VERSION_MISMATCH = "0x80060882"
TOKEN_EXPIRED = "0x80044352"
TRACKING_OFF = "0x80072491"
PRIVILEGE_DENIED = "0x80040220"
NOT_A_MEMBER = "0x80072560"
BAD_REQUEST = "0x80060888"
UNKNOWN_SEGMENT = "0x8006088a"
VERB_NOT_ALLOWED = "0x80060884"
PARSE = "0x0"
PAYLOAD = "0x80048d19"
UNEXPECTED = "0x80040216"
NOT_IMPLEMENTED = "0x80040203"

HTTP_STATUS = {
    OBJECT_DOES_NOT_EXIST: 404,
    UNKNOWN_SEGMENT: 404,
    DUPLICATE_RECORD: 412,
    VERSION_MISMATCH: 412,
    PRIVILEGE_DENIED: 403,
    NOT_A_MEMBER: 403,
    VERB_NOT_ALLOWED: 405,
    "0x80072322": 429,
    "0x80072321": 429,
    "0x80072326": 429,
}
"""Codes named neither here nor below are answered with 400."""

SWITCHED_STATUS = {
    NO_ROW_FOR_KEY: "missing_key_status",
    DUPLICATE_KEY: "duplicate_key_status",
    TOKEN_EXPIRED: "expired_token_status",
}
"""Codes whose status no page confirms, and the setting that says it."""

_HELP = "http://go.microsoft.com/fwlink/?LinkID=398563&error=Microsoft.Crm.CrmException%3a{code}&client=platform"


class DataverseError(Exception):
    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self._status = status

    @property
    def status(self) -> int:
        return self._status or HTTP_STATUS.get(self.code, 400)


def error_status(error: DataverseError, settings: Settings) -> int:
    name = SWITCHED_STATUS.get(error.code)
    return error.status if name is None else int(getattr(settings, name))


def error_body(error: DataverseError, detailed: bool) -> dict[str, Any]:
    """`odata.include-annotations="*"` adds members ("Compose HTTP requests and handle errors")."""
    members = {"code": error.code, "message": error.message}
    if detailed:
        prefix = "@Microsoft.PowerApps.CDS."
        members |= {
            f"{prefix}ErrorDetails.OperationStatus": "0",
            f"{prefix}ErrorDetails.SubErrorCode": "0",
            f"{prefix}HelpLink": _HELP.format(code=quote(error.code.removeprefix("0x"))),
            f"{prefix}TraceText": error.message,
            f"{prefix}InnerError.Message": error.message,
        }
    return {"error": members}


def does_not_exist(table: str, row_id: str) -> DataverseError:
    return DataverseError(OBJECT_DOES_NOT_EXIST, f"{table} With Id = {row_id} Does Not Exist")


def unknown_property(name: str, table: str) -> DataverseError:
    return DataverseError(PARSE, f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{table}'.")


def unknown_segment(name: str) -> DataverseError:
    return DataverseError(UNKNOWN_SEGMENT, f"Resource not found for the segment '{name}'.")


def unreadable(reason: str = "Stream was not readable.") -> DataverseError:
    return DataverseError(PAYLOAD, f"Error identified in Payload provided by the user: {reason}")


def not_here(what: str) -> DataverseError:
    """Real in Dataverse, missing in the sandbox: said aloud, never answered with something else."""
    return DataverseError(NOT_IMPLEMENTED, f"The sandbox does not implement {what}.", 501)
