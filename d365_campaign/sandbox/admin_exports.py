"""The part of the admin address that concerns the daily export and the SFTP storage."""

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from .web import Rule, json_response, json_values

if TYPE_CHECKING:
    from .server import Sandbox


class ExportAdmin:
    def __init__(self, sandbox: "Sandbox") -> None:
        self._sandbox = sandbox

    def rules(self) -> list[Rule]:
        return [
            Rule("GET", "/exports", self.exports),
            Rule("POST", "/exports", self.export),
            Rule("GET", "/export-faults", self.export_faults),
            Rule("POST", "/export-faults", self.add_export_fault),
            Rule("DELETE", "/export-faults", self.clear_export_faults),
            Rule("GET", "/sftp", self.sftp),
            Rule("GET", "/sftp-faults", self.sftp_faults),
            Rule("POST", "/sftp-faults", self.add_sftp_fault),
            Rule("DELETE", "/sftp-faults", self.clear_sftp_faults),
        ]

    def exports(self, request: Request, body: bytes) -> Response:
        """Files that the workflow made, wherever they are now."""
        self._sandbox.campaign.run_due()
        return json_response([export.as_dict() for export in self._sandbox.campaign.opt_out_export.made])

    def export(self, request: Request, body: bytes) -> Response:
        return json_response({"name": self._sandbox.export_opt_outs()})

    def export_faults(self, request: Request, body: bytes) -> Response:
        return json_response(self._sandbox.campaign.opt_out_export.faults.as_dicts())

    def add_export_fault(self, request: Request, body: bytes) -> Response:
        self._sandbox.add_export_fault(**json_values(body))
        return self.export_faults(request, body)

    def clear_export_faults(self, request: Request, body: bytes) -> Response:
        self._sandbox.campaign.opt_out_export.faults.clear()
        return json_response([])

    def sftp(self, request: Request, body: bytes) -> Response:
        """Connections now, connections since the last reset, and every operation in order."""
        server = self._sandbox.sftp
        operations = [operation.as_dict() for operation in server.operations]
        return json_response({"connections": server.connections, "sessions": server.sessions, "operations": operations})

    def sftp_faults(self, request: Request, body: bytes) -> Response:
        return json_response(self._sandbox.sftp.faults.as_dicts())

    def add_sftp_fault(self, request: Request, body: bytes) -> Response:
        self._sandbox.add_sftp_fault(**json_values(body))
        return self.sftp_faults(request, body)

    def clear_sftp_faults(self, request: Request, body: bytes) -> Response:
        self._sandbox.sftp.faults.clear()
        return json_response([])
