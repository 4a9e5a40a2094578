"""The server around the systems: stopping, and the time it tells."""

import threading
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
import requests

from d365_campaign.sandbox import Sandbox

from .conftest import Caller


def test_stopping_waits_for_no_slow_answer(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Sandbox.start(tmp_path) as sandbox:
        sandbox.add_fault(system="entra", slow_drip=60.0)
        sandbox.add_fault(system="entra", delay_seconds=60.0)
        caller = Caller("", sandbox.endpoints["ca_bundle"])
        clients = [threading.Thread(target=_ask, args=(caller, sandbox)) for _ in range(2)]
        for client in clients:
            client.start()
        while len(sandbox.faults.as_dicts()) > 0:
            time.sleep(0.01)
        time.sleep(0.1)
        started = time.monotonic()
    assert time.monotonic() - started < 3
    for client in clients:
        client.join(5)
    caller.session.close()
    assert capfd.readouterr().err == ""


def _ask(caller: Caller, sandbox: Sandbox) -> None:
    with suppress(requests.RequestException):
        caller("POST", sandbox.endpoints["dataverse_token_url"], data={})


@pytest.mark.parametrize("ahead", [0.0, 86_400.0], ids=["now", "a day ahead"])
def test_the_date_header_tells_the_sandboxs_time(
    sandbox: Sandbox, dataverse: Caller, campaign: Caller, ahead: float
) -> None:
    sandbox.settings.update({"entra_token_seconds": 10**6})
    sandbox.advance_clock(ahead)
    for answer in (dataverse.get("WhoAmI"), campaign.get("/nothing")):
        assert abs(parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time() - ahead) < 5
