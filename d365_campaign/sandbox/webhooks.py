"""Dataverse's webhooks: what changed is posted to whoever registered, as an asynchronous step does it.

By "Use WebHooks to create external handlers for server events" and "Register a WebHook": a POST with the execution
context as JSON, Dataverse's headers, and the registered key. After a timeout or any status but 2xx the step has failed;
502, 503 and 504 are tried once more. A receiver that is gone disturbs nobody.
"""

import logging
import queue
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, urlsplit
from uuid import uuid4

import orjson

from .clock import Clock
from .dataverse_values import Reference

log = logging.getLogger(__name__)

ORGANIZATION = "sandbox.crm4.dynamics.com"
CONTRACTS = "http://schemas.microsoft.com/xrm/2011/Contracts"
MOST_BYTES = 256 * 1024
# What goes when the context is larger.
DISPENSABLE = ("ParentContext", "InputParameters", "PreEntityImages", "PostEntityImages")
TRIED_AGAIN = (502, 503, 504)
MOST_WAITING = 10_000


class Change(NamedTuple):
    """What happened to one row, in the words of the API's messages, and the columns written."""

    message: Literal["Create", "Update", "Delete"]
    table: str
    row_id: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Webhook:
    """One registration. The *key* goes into *header*, or as *code* into the address where there is none."""

    url: str
    key: str = field(repr=False)
    table: str | None = None
    header: str | None = None
    ca_bundle: str | None = None
    timeout_seconds: float = 60.0

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise ValueError("a webhook needs an address that begins with http:// or https://")

    def as_dict(self) -> dict[str, Any]:
        """As anyone may see it: the key can be written only."""
        return {"url": self.url, "table": self.table, "header": self.header}


class Webhooks:
    """The registrations, and the posts that are under way in the background."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._registered: list[Webhook] = []
        self._waiting: queue.Queue[tuple[Webhook, Change]] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self.statuses: list[int] = []
        """What each post was answered, 0 where there was no answer."""

    def register(self, webhook: Webhook) -> None:
        self._registered = [*self._registered, webhook]
        if self._thread is None:
            self._thread = threading.Thread(target=self._post_all, name="webhooks", daemon=True)
            self._thread.start()

    def clear(self) -> None:
        self._registered = []
        self.statuses = []

    def as_dict(self) -> dict[str, Any]:
        return {"registered": [hook.as_dict() for hook in self._registered], "statuses": self.statuses}

    def tell(self, change: Change) -> None:
        """Have it posted to every registration that it concerns; what finds no room is left out."""
        for webhook in self._registered:
            if webhook.table in (None, change.table):
                try:
                    self._waiting.put_nowait((webhook, change))
                except queue.Full:
                    log.warning("a webhook post was left out: %d are waiting", MOST_WAITING)

    def wait(self) -> None:
        """Until all that was told is posted."""
        self._waiting.join()

    def _post_all(self) -> None:
        while True:
            webhook, change = self._waiting.get()
            try:
                status = _post(webhook, self._request(webhook, change))
                if status in TRIED_AGAIN:
                    status = _post(webhook, self._request(webhook, change))
                if webhook in self._registered:
                    self.statuses.append(status)
            finally:
                self._waiting.task_done()

    def _request(self, webhook: Webhook, change: Change) -> urllib.request.Request:
        correlation = str(uuid4())
        context = _context(change, correlation, self._clock)
        body, size_exceeded = orjson.dumps(context), False
        if len(body) > MOST_BYTES:
            size_exceeded = True
            body = orjson.dumps({name: value for name, value in context.items() if name not in DISPENSABLE})
        headers = {
            "Content-Type": "application/json",
            "x-ms-dynamics-organization": ORGANIZATION,
            "x-ms-dynamics-entity-name": change.table,
            "x-ms-dynamics-request-name": change.message,
            "x-ms-correlation-request-id": correlation,
        }
        if size_exceeded:
            headers["x-ms-dynamics-msg-size-exceeded"] = "true"
        url = webhook.url
        if webhook.header:
            headers[webhook.header] = webhook.key
        else:
            url += f"{'&' if urlsplit(url).query else '?'}code={quote(webhook.key, safe='')}"
        return urllib.request.Request(url, body, headers, method="POST")


def _post(webhook: Webhook, request: urllib.request.Request) -> int:
    trust = ssl.create_default_context(cafile=webhook.ca_bundle) if webhook.url.startswith("https:") else None
    try:
        with urllib.request.urlopen(request, timeout=webhook.timeout_seconds, context=trust) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except (OSError, ValueError):
        return 0


def _context(change: Change, correlation: str, clock: Clock) -> dict[str, Any]:
    """A RemoteExecutionContext as the documented sample has it, as far as receivers make use of it."""
    now = f"/Date({round(clock.seconds() * 1000)})/"
    reference = {"LogicalName": change.table, "Id": change.row_id}
    target: dict[str, Any] = {"__type": f"EntityReference:{CONTRACTS}", **reference}
    if change.message != "Delete":
        attributes = [{"key": name, "value": _value(value)} for name, value in change.values.items()]
        target = {"__type": f"Entity:{CONTRACTS}", **reference, "Attributes": attributes, "FormattedValues": []}
    return {
        "MessageName": change.message,
        "PrimaryEntityName": change.table,
        "PrimaryEntityId": change.row_id,
        "SecondaryEntityName": "none",
        "Stage": 40,
        "Mode": 1,
        "Depth": 1,
        "IsInTransaction": False,
        "InputParameters": [{"key": "Target", "value": target}],
        "OutputParameters": [],
        "PreEntityImages": [],
        "PostEntityImages": [],
        "SharedVariables": [],
        "ParentContext": None,
        "OrganizationName": ORGANIZATION.partition(".")[0],
        "CorrelationId": correlation,
        "OperationId": str(uuid4()),
        "OperationCreatedOn": now,
    }


def _value(value: Any) -> Any:
    if isinstance(value, Reference):
        return {"__type": f"EntityReference:{CONTRACTS}", "Id": value.id, "LogicalName": value.table}
    return value
