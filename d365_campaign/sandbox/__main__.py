"""`python -m d365_campaign.sandbox --directory X --contacts N --accounts N --purchases N --story`"""

import argparse
from pathlib import Path

from .server import PORTS, serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="d365_campaign.sandbox", description="Serve the sandbox until interrupted.")
    parser.add_argument("--directory", type=Path, required=True, help="where endpoints.json and ca.pem are written")
    parser.add_argument("--contacts", type=int, default=0, help="contacts to seed before serving")
    parser.add_argument("--accounts", type=int, default=0, help="accounts that six in ten of the contacts work for")
    parser.add_argument("--purchases", type=int, default=0, help="purchases of the contacts")
    parser.add_argument("--story", action="store_true", help="a purchase that has to wait, a contact that is refused")
    for system in PORTS:
        parser.add_argument(f"--{system}-port", type=int, default=0, help="0 picks a free one")
    arguments = parser.parse_args()
    ports = {system: getattr(arguments, f"{system}_port") for system in PORTS}
    serve(arguments.directory, ports, arguments.contacts, arguments.accounts, arguments.purchases, arguments.story)


if __name__ == "__main__":
    main()
