"""Errors of the Dataverse Web API by their hexadecimal code ("Web service error codes")."""

OBJECT_DOES_NOT_EXIST = "0x80040217"
NO_ROW_FOR_KEY = "0x80060891"
DUPLICATE_KEY = "0x80060892"
DUPLICATE_RECORD = "0x80040237"
VERSION_MISMATCH = "0x80060882"
TOKEN_EXPIRED = "0x80044352"
TRACKING_OFF = "0x80072491"
BAD_REQUEST = "0x80060888"
UNKNOWN_SEGMENT = "0x8006088a"
PARSE = "0x0"
PAYLOAD = "0x80048d19"

HTTP_STATUS = {
    OBJECT_DOES_NOT_EXIST: 404,
    NO_ROW_FOR_KEY: 404,
    UNKNOWN_SEGMENT: 404,
    DUPLICATE_KEY: 412,
    DUPLICATE_RECORD: 412,
    VERSION_MISMATCH: 412,
    "0x80040220": 403,
    "0x80060884": 405,
    "0x80072322": 429,
    "0x80072321": 429,
    "0x80072326": 429,
}
"""Codes not named here are answered with 400."""


class DataverseError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def status(self) -> int:
        return HTTP_STATUS.get(self.code, 400)


def does_not_exist(table: str, row_id: str) -> DataverseError:
    return DataverseError(OBJECT_DOES_NOT_EXIST, f"{table} With Id = {row_id} Does Not Exist")


def unknown_property(name: str, table: str) -> DataverseError:
    return DataverseError(PARSE, f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{table}'.")


def unknown_segment(name: str) -> DataverseError:
    return DataverseError(UNKNOWN_SEGMENT, f"Resource not found for the segment '{name}'.")
