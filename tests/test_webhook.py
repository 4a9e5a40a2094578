"""The webhook receiver: what it lets in, what it refuses and counts, and that it keeps nothing of what it was told."""

import json
import logging
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import pytest
import requests
import trustme

from assets.wakeups import last_wakeup, waker
from d365_campaign.errors import ConfigurationError
from d365_campaign.sandbox import Sandbox
from d365_campaign.webhook import Door
from tests.receiving import HEADER, KEY, receiving

SECRET_NAME = "Lovelace-Personal-Value"


class Heard:
    """What was woken, in order."""

    def __init__(self) -> None:
        self.wakeups: list[tuple[str, int]] = []

    def __call__(self, table: str, posts: int) -> None:
        self.wakeups.append((table, posts))


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def address(heard: Heard) -> Iterator[str]:
    with receiving(heard) as address:
        yield address


def context(table: object = "contact", **more: object) -> dict[str, object]:
    """A small execution context."""
    target = {"Attributes": [{"key": "lastname", "value": SECRET_NAME}]}
    return {
        "MessageName": "Update",
        "PrimaryEntityName": table,
        "InputParameters": [{"key": "Target", "value": target}],
    } | more


def post(address: str, body: object = None, table: str | None = "contact", **request: Any) -> requests.Response:
    """A good post, unless the test says otherwise."""
    headers = {HEADER: KEY} | ({"x-ms-dynamics-entity-name": table} if table else {}) | request.pop("headers", {})
    content = body if isinstance(body, bytes) else json.dumps(context() if body is None else body).encode()
    path = request.pop("path", "/dataverse")
    return requests.request(request.pop("method", "POST"), address + path, data=content, headers=headers, timeout=10)


def counts(address: str) -> dict[str, dict[str, int]]:
    return dict(requests.get(f"{address}/health", timeout=10).json())


def wait_for(heard: Heard, wakeups: list[tuple[str, int]]) -> None:
    end = time.monotonic() + 5
    while heard.wakeups != wakeups and time.monotonic() < end:
        time.sleep(0.01)
    assert heard.wakeups == wakeups


def test_good_post_wakes_its_table(address: str, heard: Heard) -> None:
    assert post(address).status_code == 202
    wait_for(heard, [("contact", 1)])
    assert counts(address) == {"accepted": {"woke": 1, "wakeups": 1}, "refused": {}}


@pytest.mark.parametrize(
    ("header", "body"), [("contact", {}), (None, context()), ("contact", context())], ids=["header", "body", "both"]
)
def test_table_is_named_by_header_or_body(
    address: str, heard: Heard, header: str | None, body: dict[str, object]
) -> None:
    assert post(address, body, header).status_code == 202
    wait_for(heard, [("contact", 1)])


REFUSED: dict[str, tuple[int, str, dict[str, Any]]] = {
    "no key": (401, "wrong_key", {"headers": {HEADER: None}}),
    "wrong key": (401, "wrong_key", {"headers": {HEADER: KEY[:-1] + "X"}}),
    "beginning of the key": (401, "wrong_key", {"headers": {HEADER: KEY[:-1]}}),
    "key beyond ASCII": (401, "wrong_key", {"headers": {HEADER: "schl\u00fcssel".encode("latin-1")}}),
    "key at the wrong place": (401, "wrong_key", {"headers": {HEADER: None}, "path": f"/dataverse?code={KEY}"}),
    "too large": (413, "too_large", {"body": b"x" * 4097}),
    "not JSON": (400, "wrong_content", {"body": b"{"}),
    "no object": (400, "wrong_content", {"body": b"[]"}),
    "deeply nested": (400, "wrong_content", {"body": b"[" * 4000}),
    "empty": (400, "wrong_content", {"body": b""}),
    "no table": (400, "wrong_content", {"body": b"{}", "table": None}),
    "table is no text": (400, "wrong_content", {"body": context(7), "table": None}),
    "table is no name": (400, "wrong_content", {"body": context("../contact"), "table": None}),
    "two tables": (400, "wrong_content", {"table": "account"}),
    "other method": (405, "wrong_method", {"method": "PUT"}),
    "unheard-of method": (405, "wrong_method", {"method": "TRACE"}),
    "other page": (404, "wrong_path", {"path": "/"}),
}


@pytest.mark.parametrize(("status", "reason", "request_"), REFUSED.values(), ids=REFUSED)
def test_bad_post_is_refused_and_counted(
    address: str, heard: Heard, status: int, reason: str, request_: dict[str, Any]
) -> None:
    answer = post(address, **request_)
    assert (answer.status_code, answer.content) == (status, b"")
    assert counts(address) == {"accepted": {}, "refused": {reason: 1}}
    assert heard.wakeups == []


def test_post_about_a_table_that_is_not_mapped_is_taken_and_wakes_nothing(address: str, heard: Heard) -> None:
    """Refused, it would be a failed system job in Dynamics for each change of that table."""
    assert post(address, context("task"), "task").status_code == 202
    assert counts(address)["accepted"] == {"not_mapped": 1}
    assert heard.wakeups == []


def raw(address: str, request: bytes) -> bytes:
    """What is answered to these bytes."""
    parts = urlsplit(address)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=10) as connection:
        connection.sendall(request)
        return connection.recv(200)


def head(key: str, *more: str) -> bytes:
    lines = ["POST /dataverse HTTP/1.1", "host: x", f"{HEADER}: {key}", "x-ms-dynamics-entity-name: contact", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def test_size_that_is_announced_is_refused_without_reading(address: str) -> None:
    assert b" 413 " in raw(address, head(KEY, "content-length: 999999999"))


def test_body_that_announces_no_size_is_read_up_to_the_limit(address: str) -> None:
    pieces = b"".join(b"400\r\n" + b"x" * 1024 + b"\r\n" for _ in range(5))
    assert b" 413 " in raw(address, head(KEY, "transfer-encoding: chunked") + pieces)


def test_wrong_key_is_refused_before_the_body_comes(address: str) -> None:
    assert b" 401 " in raw(address, head("wrong", "content-length: 100"))


def test_body_that_does_not_come_is_not_waited_for(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d365_campaign.webhook.BODY_SECONDS", 0.2)
    assert b" 408 " in raw(address, head(KEY, "content-length: 100") + b"{")
    assert counts(address)["refused"] == {"too_slow": 1}


def test_client_that_leaves_in_the_middle_disturbs_nobody(address: str, heard: Heard) -> None:
    parts = urlsplit(address)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=10) as connection:
        connection.sendall(head(KEY, "content-length: 100") + b"{")
    assert post(address).status_code == 202
    wait_for(heard, [("contact", 1)])


def test_key_may_stand_in_the_address(heard: Heard) -> None:
    """What Dynamics calls WebhookKey."""
    with receiving(heard, sent_in="query", name="code") as address:
        assert post(address, path=f"/dataverse?code={KEY}", headers={HEADER: None}).status_code == 202
        assert post(address).status_code == 401
    assert heard.wakeups == [("contact", 1)]


def test_posts_within_a_second_are_one_wakeup_more_and_none_is_forgotten(heard: Heard) -> None:
    with receiving(heard, coalesce_seconds=30) as address:
        for _ in range(20):
            post(address)
        post(address, context("account"), "account")
        wait_for(heard, [("contact", 1), ("account", 1)])
    assert heard.wakeups == [("contact", 1), ("account", 1), ("contact", 19)]


def test_wakeup_that_could_not_be_kept_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    kept: list[int] = []

    def wake(table: str, posts: int) -> None:
        kept.append(posts)
        if len(kept) == 1:
            raise OSError(SECRET_NAME)

    with receiving(wake, coalesce_seconds=0.01) as address:
        assert post(address).status_code == 202
        end = time.monotonic() + 5
        while len(kept) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        assert counts(address)["refused"] == {"not_kept": 1}
    assert kept == [1, 1]
    assert "OSError" in caplog.text
    assert SECRET_NAME not in caplog.text


def test_nothing_of_a_post_is_kept_or_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        with receiving(waker(instance), sent_in="query", name="code") as address:
            assert post(address, path=f"/dataverse?code={KEY}").status_code == 202
            assert post(address, context("task"), "task", path=f"/dataverse?code={KEY}").status_code == 202
            assert post(address, b"{", path=f"/dataverse?code={KEY}").status_code == 400
            assert post(address, path="/dataverse?code=a-wrong-key-for-once").status_code == 401
        assert last_wakeup(instance, "contact") > 0
    written = "".join(file.read_bytes().decode("latin-1") for file in tmp_path.rglob("*") if file.is_file())
    told = caplog.text + "".join(capfd.readouterr())
    for secret in (SECRET_NAME, KEY, "a-wrong-key-for-once"):
        assert secret not in written
        assert secret not in told.replace("http://127.0.0.1", "").replace(f"POST /dataverse?code={secret}", "")


def test_key_is_shown_nowhere() -> None:
    assert KEY not in repr(Door(KEY, "header", HEADER, 100, {"contact"}))


@pytest.mark.parametrize("key", ["", "short", "schl\u00fcssel-der-lang-genug-ist"], ids=["none", "short", "not ASCII"])
def test_weak_key_is_refused_at_the_start(key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"webhook\.key: .* Take a long random one") as refused:
        Door(key, "header", HEADER, 100, {"contact"})
    assert not key or key not in str(refused.value)


def test_posts_are_taken_over_tls(tmp_path: Path, heard: Heard) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    for piece in issued.cert_chain_pems:
        piece.write_to_path(str(tmp_path / "chain.pem"), append=True)
    with receiving(heard, certificate=tmp_path / "chain.pem", private_key=tmp_path / "key.pem") as address:
        headers = {HEADER: KEY, "x-ms-dynamics-entity-name": "contact"}
        answer = requests.post(
            f"{address}/dataverse", b"{}", headers=headers, verify=str(tmp_path / "ca.pem"), timeout=10
        )
        assert answer.status_code == 202
        with socket.create_connection(("localhost", int(urlsplit(address).port or 0)), timeout=10) as plain:
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
            with old.wrap_socket(plain) as encrypted:
                assert encrypted.version() in ("TLSv1.2", "TLSv1.3")
    assert heard.wakeups == [("contact", 1)]


def test_change_in_the_sandbox_reaches_the_receiver(sandbox: Sandbox, heard: Heard) -> None:
    with receiving(heard) as address:
        hook = {"url": f"{address}/dataverse", "table": "contact", "header": HEADER, "key": KEY}
        requests.post(
            f"{sandbox.endpoints['admin']}/webhooks", json=hook, verify=sandbox.endpoints["ca_bundle"], timeout=10
        )
        sandbox.dataverse.create("contact", {"lastname": SECRET_NAME})
        sandbox.dataverse.webhooks.wait()
        assert sandbox.dataverse.webhooks.statuses == [202]
    assert heard.wakeups == [("contact", 1)]
