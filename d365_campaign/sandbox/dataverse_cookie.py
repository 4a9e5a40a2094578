"""Where the next page of a list starts ("Page results using OData")."""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote
from xml.sax.saxutils import quoteattr

from .dataverse_errors import DataverseError


@dataclass(frozen=True, slots=True)
class Cookie:
    """Where the next page starts; travels as `$skiptoken` in the documented paging-cookie form."""

    page: int = 1
    last: str = ""
    """Primary key of the last row served."""
    position: int = 0
    """Rows served so far (with `$orderby`), or the last version served (delta)."""
    tracking: bool = False
    since: int | None = None
    """The version a delta call started from; None outside delta calls."""
    in_deletions: bool = False
    as_of: int = 0
    """The latest row version when the load began."""

    def encode(self, primary_id: str) -> str:
        inner = (
            f'<cookie page="{self.page}" position="{self.position}" since="{"" if self.since is None else self.since}" '
            f'deletions="{int(self.in_deletions)}" asof="{self.as_of}">'
            f'<{primary_id} last="{{{self.last.upper()}}}" first="" /></cookie>'
        )
        twice = quote(quote(inner, safe=""), safe="")
        outer = f'<cookie pagenumber="{self.page}" pagingcookie={quoteattr(twice)} istracking="{self.tracking}" />'
        return quote(outer, safe="")

    @staticmethod
    def decode(text: str) -> "Cookie":
        outer = re.fullmatch(
            r'<cookie pagenumber="(\d+)" pagingcookie="([^"]*)" istracking="(True|False)" />', text.strip()
        )
        inner = outer and re.fullmatch(
            r'<cookie page="(\d+)" position="(\d+)" since="(\d*)" deletions="([01])" asof="(\d+)">'
            r'<\w+ last="\{([^}]*)\}" first="" /></cookie>',
            unquote(unquote(outer[2])),
        )
        if outer is None or inner is None:
            raise DataverseError("0x80040203", "Malformed XML in the Paging Cookie")
        return Cookie(
            page=int(inner[1]),
            last=inner[6].lower(),
            position=int(inner[2]),
            tracking=outer[3] == "True",
            since=int(inner[3]) if inner[3] else None,
            in_deletions=inner[4] == "1",
            as_of=int(inner[5]),
        )
