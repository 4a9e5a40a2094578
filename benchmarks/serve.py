"""The sandbox as a process: `python -m d365_campaign.sandbox`, with room to keep every page it has composed.

A benchmark wants it to send only. With its usual room, reading 200,000 contacts again would compose each page anew, and
Campaign's pages are composed anew at any size.
"""

import sys
from hashlib import md5
from pathlib import Path
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from d365_campaign.sandbox.campaign_api import CampaignApi
from d365_campaign.sandbox.dataverse_read import PageCache
from d365_campaign.sandbox.server import Sandbox

ROOM_BYTES = 1 << 31


def main(directory: str, contacts: str, profiles: str = "0") -> None:
    # The room is no setting of the sandbox, only the default of this parameter.
    PageCache.__init__.__defaults__ = (ROOM_BYTES,)
    sandbox = Sandbox()
    sandbox.seed(int(contacts))
    for number in range(int(profiles)):
        sandbox.campaign.create("profile", profile(number))
    if int(profiles):
        keep_lists()
    sandbox.serve_forever(Path(directory), {})


def profile(number: int) -> dict[str, Any]:
    """A profile with a Dynamics key and fifteen values; some are empty."""
    return {
        "externalId": str(UUID(md5(str(number).encode(), usedforsecurity=False).hexdigest())),
        "firstName": f"First {number % 500}",
        "middleName": "" if number % 3 else f"M{number % 26}",
        "lastName": f"Last {number * 7919 % 20011}",
        "email": f"profile.{number}@example.com",
        "mobilePhone": f"+1 555 {number * 104729 % 10_000_000:07}",
        "phone": "" if number % 2 else f"+1 555 {number * 15485863 % 10_000_000:07}",
        "fax": "",
        "birthDate": f"{1950 + number % 50}-{1 + number % 12:02}-{1 + number % 28:02}",
        "location": {
            "address1": f"{number % 200} Station Road",
            "zipCode": str(10_000 + number * 31 % 90_000),
            "city": f"City {number % 997}",
        },
        "cusJobTitle": f"Job {number % 60}",
        "cusDepartment": f"Department {number % 40}",
        "cusCreditLimit": number % 100_000 / 4,
        "cusNumberOfChildren": number % 5,
    }


def keep_lists() -> None:
    """Keep every page of a list of Campaign once it is composed: good as long as nothing is written."""
    compose = CampaignApi._answer
    kept: dict[str, tuple[Response, Any]] = {}

    def answer(api: CampaignApi, request: Request, body: bytes) -> Response:
        if "_lineCount" not in request.query_params:
            return compose(api, request, body)
        url = str(request.url)
        if url not in kept:
            kept[url] = compose(api, request, body), request.scope.get("sandbox")
        response, request.scope["sandbox"] = kept[url]
        return Response(response.body, response.status_code, media_type=response.media_type)

    CampaignApi._answer = answer  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    main(*sys.argv[1:])
