"""A receiver of webhook posts on a real socket, for as long as a test lasts."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from d365_campaign.webhook import COALESCE_SECONDS, Door, Receiver, Wake, server

KEY = "a-key-that-nobody-guesses"
HEADER = "x-webhook-key"


@contextmanager
def receiving(
    wake: Wake,
    coalesce_seconds: float = COALESCE_SECONDS,
    certificate: Path | None = None,
    private_key: Path | None = None,
    **door: object,
) -> Iterator[str]:
    """The receiver's address, until the block ends; by then every wake-up is kept."""
    facts = {"key": KEY, "sent_in": "header", "name": HEADER, "max_bytes": 4096, "tables": {"contact", "account"}}
    receiver = Receiver(Door(**facts | door), wake, coalesce_seconds)  # type: ignore[arg-type]
    serving = server(receiver, "127.0.0.1", 0, certificate, private_key)
    thread = threading.Thread(target=serving.run, name="receiver")
    thread.start()
    try:
        end = time.monotonic() + 10
        while not serving.started:
            assert thread.is_alive(), "the receiver did not start"
            assert time.monotonic() < end, "the receiver did not start"
            time.sleep(0.01)
        port = serving.servers[0].sockets[0].getsockname()[1]
        yield f"{'https://localhost' if certificate else 'http://127.0.0.1'}:{port}"
    finally:
        serving.should_exit = True
        thread.join(10)
