"""The sandbox as a process: `python -m d365_campaign.sandbox`, with room to keep every page it has composed.

A benchmark wants it to send only. With its usual room, reading 200,000 contacts again would compose each page anew.
"""

import sys
from pathlib import Path

from d365_campaign.sandbox.dataverse_read import PageCache
from d365_campaign.sandbox.server import serve

ROOM_BYTES = 1 << 31


def main(directory: str, contacts: str) -> None:
    # The room is no setting of the sandbox, only the default of this parameter.
    PageCache.__init__.__defaults__ = (ROOM_BYTES,)
    serve(Path(directory), {}, int(contacts))


if __name__ == "__main__":
    main(*sys.argv[1:])
