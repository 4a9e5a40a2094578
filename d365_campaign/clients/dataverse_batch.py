"""`multipart/mixed` as `$batch` uses it: requests out, answers in ("Execute batch operations using the Web API").

Written strictly, CRLF to the last line, and read leniently: servers differ in blank lines, line ends and quotes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from requests.structures import CaseInsensitiveDict

from d365_campaign.clients.http import Answer

CRLF = "\r\n"
PART_HEADERS = ("Content-Type: application/http", "Content-Transfer-Encoding: binary")
_BOUNDARY = re.compile(r'\bboundary=(?:"([^"]+)"|([^";,\s]+))', re.IGNORECASE)
_STATUS = re.compile(rb"^HTTP/[\d.]+ (\d{3})\b[^\r\n]*", re.MULTILINE)
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True, slots=True)
class PartRequest:
    """One operation of a batch, as it would be sent alone."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def batch_type(boundary: str) -> str:
    """The content type of a batch, which tells its *boundary*."""
    return f'multipart/mixed; boundary="{boundary}"'


def compose(parts: Sequence[PartRequest], boundary: str) -> bytes:
    """The body of a batch. *boundary* must not occur in any part."""
    mark = f"--{boundary}".encode()
    ending = CRLF.encode()
    return b"".join(mark + ending + _written(part) + ending for part in parts) + mark + b"--" + ending


def _written(part: PartRequest) -> bytes:
    request = f"{part.method} {part.url} HTTP/1.1"
    headers = (f"{name}: {value}" for name, value in part.headers.items())
    return CRLF.join([*PART_HEADERS, "", request, *headers, "", ""]).encode() + part.body


def answers_in(answer: Answer) -> Sequence[Answer] | None:
    """The answers of a batch's operations, in their order; None for a text that is no complete batch answer."""
    boundary = _boundary_of(answer)
    if boundary is None:
        return None
    line = re.compile(rb"(?:\A|\r?\n)--" + re.escape(boundary.encode()) + rb"(--)?[ \t]*(?=\r?\n|\Z)")
    marks = list(line.finditer(answer.body))
    if not marks or not marks[-1][1]:  # cut before the closing line
        return None
    parts = [_read(answer.body[mark.end() : following.start()]) for mark, following in pairwise(marks)]
    found = [part for part in parts if part is not None]
    return found if len(found) == len(parts) else None


def is_batch_answer(answer: Answer) -> bool:
    """Whether its parts are to be judged, and not its status: that may be the status of one part."""
    return _boundary_of(answer) is not None


def _boundary_of(answer: Answer) -> str | None:
    kind = answer.headers.get("Content-Type", "")
    found = _BOUNDARY.search(kind) if kind.lower().startswith("multipart/") else None
    return found and (found[1] or found[2])


def _read(part: bytes) -> Answer | None:
    status = _STATUS.search(part)
    if status is None:
        return None
    head, *rest = _BLANK_LINE.split(part[status.end() :], maxsplit=1)
    pairs = (line.partition(":") for line in head.decode("utf-8", "replace").splitlines() if ":" in line)
    headers = CaseInsensitiveDict({name.strip(): value.strip() for name, _, value in pairs})
    return Answer(int(status[1]), headers, b"".join(rest).strip(b"\r\n"))
