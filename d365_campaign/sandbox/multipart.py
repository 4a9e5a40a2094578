"""Reading and writing `multipart/mixed` as `$batch` uses it: CRLF throughout, HTTP requests and answers as parts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import pairwise

CRLF = b"\r\n"
_BOUNDARY = re.compile(r'boundary="?([^";,\s]+)"?', re.IGNORECASE)


class MalformedBatch(Exception):
    """The text is not what its content type promises."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its own headers by lower-case name, and what follows them."""

    headers: dict[str, str]
    content: bytes

    @property
    def boundary(self) -> str | None:
        """Set when the part is itself a multipart, as change sets are."""
        kind = self.headers.get("content-type", "")
        return boundary_of(kind) if kind.lower().startswith("multipart/mixed") else None


@dataclass(frozen=True, slots=True)
class InnerRequest:
    method: str
    url: str
    headers: dict[str, str]
    body: bytes


def boundary_of(content_type: str) -> str | None:
    match = _BOUNDARY.search(content_type)
    return match[1] if match else None


def split_parts(content: bytes, boundary: str) -> list[Part]:
    """The parts between the boundary's lines; every line, the last one too, must end in CRLF."""
    opening, closing = f"--{boundary}".encode(), f"--{boundary}--".encode()
    if not content.endswith(CRLF):
        raise MalformedBatch("the last line has no CRLF")
    lines = content.split(CRLF)
    marks = [number for number, line in enumerate(lines) if line.rstrip(b" \t") in (opening, closing)]
    if not marks or lines[marks[-1]].rstrip(b" \t") != closing:
        raise MalformedBatch("the closing boundary is missing")
    return [_part(lines[start + 1 : end]) for start, end in pairwise(marks)]


def _part(lines: Sequence[bytes]) -> Part:
    headers, rest = _headers(lines)
    return Part(headers, CRLF.join(rest) + CRLF)


def _headers(lines: Sequence[bytes]) -> tuple[dict[str, str], Sequence[bytes]]:
    headers: dict[str, str] = {}
    for number, line in enumerate(lines):
        if not line:
            return headers, lines[number + 1 :]
        name, colon, value = line.decode("utf-8", "replace").partition(":")
        if not colon or "\n" in value:
            raise MalformedBatch("a header line is not readable")
        headers[name.strip().lower()] = value.strip()
    return headers, ()


def inner_request(part: Part) -> InnerRequest:
    """The request an `application/http` part holds."""
    lines = part.content.split(CRLF)
    while lines and not lines[0]:
        lines = lines[1:]
    pieces = lines[0].decode("utf-8", "replace").split(" ") if lines else []
    if len(pieces) < 3 or not pieces[-1].startswith("HTTP/"):
        raise MalformedBatch("a part holds no HTTP request")
    headers, rest = _headers(lines[1:])
    return InnerRequest(pieces[0].upper(), " ".join(pieces[1:-1]), headers, CRLF.join(rest).strip(b"\r\n"))


def answer_part(status: int, headers: Sequence[tuple[str, str]], body: bytes, content_id: str | None) -> bytes:
    """One answer as a part, without its boundary."""
    outer = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if content_id is not None:
        outer.append(f"Content-ID: {content_id}")
    inner = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers)]
    head = "\r\n".join([*outer, "", *inner, "", ""])
    return head.encode() + body


def joined_parts(parts: Sequence[bytes], boundary: str) -> bytes:
    mark = f"--{boundary}".encode()
    return b"".join(mark + CRLF + part + CRLF for part in parts) + mark + b"--" + CRLF
