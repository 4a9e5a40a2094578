"""What every part of the Dataverse Web API shares on the wire: addresses, preferences, links, JSON answers."""

import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from .dataverse_read import encode
from .web import origin

ROOT = "/api/data/v9.2"
JSON = "application/json; odata.metadata=minimal"
_PREFERENCE = re.compile(r'([\w.-]+)(?:\s*=\s*("[^"]*"|[^,;\s]*))?')


def ok(value: Mapping[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(encode(value), status, headers, media_type=JSON)


def context(request: Request, segment: str) -> str:
    return f"{origin(request)}{ROOT}/$metadata" + (f"#{segment}" if segment else "")


def following_link(request: Request, token: str) -> str:
    """The request's own options, as it wrote them, and the token that leads on."""
    kept = [
        part
        for part in request.url.query.replace("%24", "$").split("&")
        if part and not part.startswith(("$skiptoken=", "$deltatoken=", "$count="))
    ]
    return f"{origin(request)}{request.url.path}?" + "&".join([*kept, token])


def preferences(request: Request) -> dict[str, str]:
    """`Prefer` may hold several preferences, or come several times."""
    text = ",".join(request.headers.getlist("prefer"))
    return {match[1].lower(): (match[2] or "").strip('"') for match in _PREFERENCE.finditer(text)}


def applied(wanted: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """The `Preference-Applied` header for those of *names* that were asked for."""
    honoured = [f"{name}={wanted[name]}" if wanted[name] else name for name in names if name in wanted]
    return {"Preference-Applied": ",".join(honoured)} if honoured else {}
