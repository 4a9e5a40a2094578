"""The sandbox posts webhooks as Dataverse does ("Use WebHooks to create external handlers for server events")."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest
import requests

from d365_campaign.sandbox import Sandbox


class Post(NamedTuple):
    path: str
    headers: dict[str, str]
    context: dict[str, Any]


class Listener:
    """A receiver that keeps every post and answers one status after the other, the last one for ever."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.statuses = [200]
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                listener.posts.append(Post(self.path, headers, json.loads(body)))
                status = listener.statuses.pop(0) if len(listener.statuses) > 1 else listener.statuses[0]
                self.send_response(status)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    thread = threading.Thread(target=listener.server.serve_forever)
    thread.start()
    yield listener
    listener.server.shutdown()
    thread.join()
    listener.server.server_close()


def admin(sandbox: Sandbox, method: str, path: str, **body: object) -> requests.Response:
    url = f"{sandbox.endpoints['admin']}/{path}"
    return requests.request(method, url, json=body or None, verify=sandbox.endpoints["ca_bundle"], timeout=10)


def register(sandbox: Sandbox, url: str, **more: object) -> None:
    answer = admin(sandbox, "POST", "webhooks", url=url, key="shared-secret", **more)
    assert answer.status_code == 201
    assert "shared-secret" not in answer.text, "authvalue can be written only"


def test_create_update_and_delete_are_posted_with_headers_and_context(sandbox: Sandbox, listener: Listener) -> None:
    register(sandbox, listener.url, table="contact", header="x-key")
    key = sandbox.dataverse.create("contact", {"lastname": "Lovelace"})
    sandbox.dataverse.update("contact", key, {"lastname": "Byron"})
    sandbox.dataverse.delete("contact", key)
    sandbox.dataverse.webhooks.wait()
    assert [post.headers["x-ms-dynamics-request-name"] for post in listener.posts] == ["Create", "Update", "Delete"]
    for post in listener.posts:
        assert post.headers["x-key"] == "shared-secret"
        assert post.headers["x-ms-dynamics-entity-name"] == post.context["PrimaryEntityName"] == "contact"
        assert post.headers["x-ms-correlation-request-id"] == post.context["CorrelationId"]
        assert post.headers["x-ms-dynamics-organization"]
        assert "x-ms-dynamics-msg-size-exceeded" not in post.headers
        assert post.context["PrimaryEntityId"] == key
    [parameter] = listener.posts[1].context["InputParameters"]
    assert {"key": "lastname", "value": "Byron"} in parameter["value"]["Attributes"]
    assert sandbox.dataverse.webhooks.statuses == [200, 200, 200]


def test_key_without_a_header_goes_into_the_address(sandbox: Sandbox, listener: Listener) -> None:
    register(sandbox, listener.url)
    sandbox.dataverse.create("account", {"name": "Harbour"})
    sandbox.dataverse.webhooks.wait()
    assert [post.path for post in listener.posts] == ["/hook?code=shared-secret"]


def test_only_the_registered_table_is_told_of(sandbox: Sandbox, listener: Listener) -> None:
    register(sandbox, listener.url, table="contact")
    sandbox.dataverse.create("account", {"name": "Harbour"})
    sandbox.dataverse.webhooks.wait()
    assert listener.posts == []


def test_large_context_loses_its_parameters_and_says_so(
    sandbox: Sandbox, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d365_campaign.sandbox.webhooks.MOST_BYTES", 1500)
    register(sandbox, listener.url)
    sandbox.dataverse.create("contact", {"description": "x" * 1500})
    sandbox.dataverse.webhooks.wait()
    [post] = listener.posts
    assert post.headers["x-ms-dynamics-msg-size-exceeded"] == "true"
    assert "InputParameters" not in post.context
    assert post.context["PrimaryEntityName"] == "contact"


def test_change_that_was_rolled_back_is_not_posted(sandbox: Sandbox, listener: Listener) -> None:
    register(sandbox, listener.url)

    def fail() -> None:
        with sandbox.dataverse.transaction():
            sandbox.dataverse.create("contact", {"lastname": "Lovelace"})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with sandbox.dataverse.transaction():
        sandbox.dataverse.create("contact", {"lastname": "Byron"})
        assert listener.posts == [], "nothing is told before it is certain"
    sandbox.dataverse.webhooks.wait()
    assert [post.context["MessageName"] for post in listener.posts] == ["Create"]


@pytest.mark.parametrize(("answers", "posts"), [([503, 200], 2), ([502, 502], 2), ([500, 200], 1), ([404, 200], 1)])
def test_only_some_failures_are_tried_once_more(
    sandbox: Sandbox, listener: Listener, answers: list[int], posts: int
) -> None:
    listener.statuses = list(answers)
    register(sandbox, listener.url)
    sandbox.dataverse.create("contact", {"lastname": "Lovelace"})
    sandbox.dataverse.webhooks.wait()
    assert len(listener.posts) == posts
    assert sandbox.dataverse.webhooks.statuses == [answers[posts - 1]]


def test_receiver_that_is_gone_disturbs_nobody(sandbox: Sandbox) -> None:
    register(sandbox, "http://127.0.0.1:9/hook")
    began = time.monotonic()
    keys = [sandbox.dataverse.create("contact", {"lastname": "Lovelace"}) for _ in range(20)]
    assert time.monotonic() - began < 2
    sandbox.dataverse.webhooks.wait()
    assert sandbox.dataverse.webhooks.statuses == [0] * 20
    assert len({row["contactid"] for row in sandbox.dataverse.rows("contact")}) == len(keys)


def test_registrations_can_be_seen_and_forgotten(sandbox: Sandbox, listener: Listener) -> None:
    register(sandbox, listener.url, table="contact", header="x-key")
    shown = admin(sandbox, "GET", "webhooks").json()
    assert shown == {"registered": [{"url": listener.url, "table": "contact", "header": "x-key"}], "statuses": []}
    admin(sandbox, "DELETE", "webhooks")
    sandbox.dataverse.create("contact", {"lastname": "Lovelace"})
    sandbox.dataverse.webhooks.wait()
    assert listener.posts == []


def test_address_that_is_none_is_refused(sandbox: Sandbox) -> None:
    assert admin(sandbox, "POST", "webhooks", url="file:///etc/passwd", key="k").status_code == 400
