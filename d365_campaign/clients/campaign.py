"""Adobe Campaign Standard through its REST API: resources, and records read and written by our own key.

No PKey and no link that holds one leaves this module, except as the handle of a `FoundRecord` or of a unit ("Data model
best practices": a PKey must not be stored outside Campaign).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import quote

import polars as pl

from d365_campaign.changes import RECORD_KEY, FoundRecord
from d365_campaign.clients.campaign_faults import (
    Meaning,
    fault_of,
    from_instance,
    is_missing,
    judge,
    refusal,
    unreadable,
)
from d365_campaign.clients.campaign_resources import IDENTITY, PROFILE, resource_of
from d365_campaign.clients.http import Answer, ApiSession, Tokens
from d365_campaign.clients.json_columns import items, read_object
from d365_campaign.clients.throttle import RetryPolicy, ThrottleGate
from d365_campaign.clients.wire import WireSettings
from d365_campaign.errors import ConfigurationError, RecordRejected, RetriableError, SyncError
from d365_campaign.mapping import UNITS
from d365_campaign.schemas import TargetResource

EXTENDED, CUSTOM, BUILT_IN = "profileAndServicesExt", "customResources", "profileAndServices"
RECORDS_PER_PAGE = 1000
SHOWN_UNITS = 10
Page = TypeVar("Page")


class CampaignClient:
    """One Campaign instance. Thread-safe.

    *url* is `https://mc.adobe.io/<instance>`; *api_key* is the client id, which goes into a header of every call.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        tokens: Tokens,
        *,
        gate: ThrottleGate | None = None,
        retry: RetryPolicy | None = None,
        wire: WireSettings | None = None,
    ) -> None:
        headers = {"X-Api-Key": api_key, "Content-Type": "application/json", "Cache-Control": "no-cache"}
        base = url.rstrip("/").removesuffix("/campaign") + "/campaign"
        self._session = ApiSession(
            "Campaign", base, tokens, headers=headers, judge=judge, gate=gate, retry=retry, wire=wire
        )

    def close(self) -> None:
        """Close the kept connections."""
        self._session.close()

    def describe(self, resource: str) -> TargetResource:
        """The resource, from whichever endpoint it is on ("Metadata mechanism", "Custom resources").

        Raises ConfigurationError when no endpoint has it.
        """
        for endpoint in (EXTENDED, CUSTOM, *([BUILT_IN] if resource == PROFILE else [])):
            facts = self._session.get(_metadata(endpoint, resource), f"metadata of {resource}", _published)
            if facts is not None:
                return resource_of(resource, endpoint, facts)
        raise ConfigurationError(
            f"Campaign resource '{resource}' isn't published. Check its name, publish the resource, then the API "
            "(Profiles & Services Ext)."
        )

    def ping(self) -> None:
        """Read one resource's metadata: no record, no engine call.

        Raises ConfigurationError when Campaign doesn't accept the credential, the API key or the instance.
        """
        self._session.get(_metadata(BUILT_IN, PROFILE), f"metadata of {PROFILE}", _accepted)

    def clock_skew_seconds(self) -> float | None:
        """How far Campaign's clock is ahead of ours, to about a second; None when its answer bears no date."""
        return self._session.get(
            _metadata(BUILT_IN, PROFILE),
            f"metadata of {PROFILE}",
            lambda answer: _accepted(answer).clock_skew_seconds(),
        )

    def workflow_state(self, workflow: str) -> str | None:
        """What a workflow does, such as `started`, `stopped` or `paused`; None where Campaign doesn't tell.

        "Controlling a workflow" documents the address and no state. Raises ConfigurationError when there is no such
        workflow.
        """
        subject = f"workflow {workflow}"
        return self._session.get(_workflow(workflow), subject, lambda answer: _state(answer, workflow))

    def start_workflow(self, workflow: str) -> None:
        """Ask Campaign to start a workflow; it does so in its own time ("Controlling a workflow")."""
        answer = self._session.send(
            "POST",
            f"{_workflow(workflow)}/commands",
            f"workflow {workflow}",
            json_body={"method": "start"},
            repeatable=True,
        )
        if answer.status >= 300:
            raise _unknown_workflow(answer, workflow)

    def target(self, resource: TargetResource, key_field: str) -> "CampaignTarget":
        """The records of *resource*, known by the value of *key_field*."""
        return CampaignTarget(self._session, resource, key_field)


class CampaignTarget:
    """Records of one resource, one call each; fits `flows.ports.RecordTarget`.

    The key stands in the URL, which Campaign allows for single-field identification keys ("Must-read", KA-15086).
    """

    def __init__(self, session: ApiSession, resource: TargetResource, key_field: str) -> None:
        self._session, self._resource, self._key_field = session, resource, key_field
        self._collection = f"{resource.endpoint}/{resource.name}"

    def read(self, key: str) -> FoundRecord | None:
        """The record with this key, or None when there is none (or none that can be seen)."""
        found = self._session.get(self._address(key), self._subject(key), lambda answer: self._read(answer, key))
        if found is None:
            return None
        # A single read may come without a link of its own; the custom key works as the address then.
        handle = found.get("href") or self._address(key)
        return FoundRecord(values=flatten(found), handle=self._session.locate(str(handle), self._subject(key)))

    def create(self, key: str, values: Mapping[str, object]) -> Mapping[str, object] | None:
        """Insert; fields without a value are left out, so Campaign's defaults hold. The new record, as far as told.

        Raises RecordRejected, with `duplicate_key` when the key exists already, or UnknownOutcome.
        """
        given = {name: value for name, value in values.items() if value is not None}
        answer = self._write("POST", self._collection, key, {**given, self._key_field: key})
        with suppress(RetriableError):  # it is there, whatever became of the answer's text
            return flatten(_json_object(answer))
        return None

    def update(self, key: str, found: FoundRecord, values: Mapping[str, object]) -> None:
        """Write *values*, and nothing else, over the record that was read.

        The key is never sent: Campaign refuses any change of it. Raises RecordRejected, or UnknownOutcome, which also
        stands for a record that went away since it was read.
        """
        given = {name: value for name, value in values.items() if name != self._key_field}
        self._write("PATCH", found.handle, key, given)

    def delete(self, key: str) -> bool:
        """Delete. False when there was no such record: it is deleted already, or hidden. Raises UnknownOutcome."""
        answer = self._session.send("DELETE", self._address(key), self._subject(key), repeatable=False)
        if is_missing(answer):
            return False
        if answer.status >= 300:
            raise refusal(answer, self._resource, key)
        return True

    def records(self, fields: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Every record that has a key, page by page: the column `_key`, and one for each of the (dotted) *fields*.

        All are the text of a JSON value: `true`, `12.5`, `2026-05-01 08:00:00.000Z`; what is empty is null. Each page
        is one call, and without *fields* keys alone travel.
        """
        subject = f"records of {self._resource.name}"
        path = self._collection if fields else f"{self._collection}/{self._key_field}"
        yield from self._pages(path, subject, lambda answer: self._page(answer, fields))

    def unit(self, link: str, name: str) -> Mapping[str, str]:
        """The value of a link (`orgUnit`, `geoUnit`) that leads to the unit of this *name*, for `create`.

        Campaign takes such a link by PKey alone, and ignores one by name ("Updating a profile's Organizational unit").
        A call for each thousand units. Raises ConfigurationError when none has this name.
        """
        subject, names = f"{link} '{name}'", list[str]()
        for units in self._pages(f"{EXTENDED}/{UNITS[link]}", subject, lambda answer: _listed(answer, subject)):
            for unit in units:
                if unit.get("name") == name:
                    return {"PKey": str(unit["PKey"])}
                names.append(str(unit.get("name")))
        raise ConfigurationError(
            f"Campaign shows no {subject}; there are: {', '.join(sorted(names)[:SHOWN_UNITS])}. Correct on_create, or "
            "let the credential's product profile see that unit."
        )

    def _pages(self, path: str, subject: str, read: Callable[[Answer], tuple[Page, str]]) -> Iterator[Page]:
        """What *read* makes of each page of a list; it tells the link to the next one too, empty on the last.

        Paging is forced: above XtkBigTableThreshold Campaign would otherwise end after the first page ("Pagination").
        """
        where, seen = f"{path}?_lineCount={RECORDS_PER_PAGE}&_forcePagination=true", set[str]()
        while where:
            if where in seen:
                raise RetriableError(f"{subject}: Campaign sent a next link a second time; its pages don't end.")
            seen.add(where)
            page, where = self._session.get(where, subject, read)
            yield page

    def _subject(self, key: str) -> str:
        return f"{self._resource.name} {key}"

    def _address(self, key: str) -> str:
        # Without a key, or with a path's own dots for one, the address would be the whole collection's.
        if not key.strip(" ./"):
            raise RecordRejected(f"Campaign {self._resource.name}: a record without a usable key.")
        return f"{self._collection}/{quote(key, safe='')}"

    def _write(self, method: str, where: str, key: str, values: Mapping[str, object]) -> Answer:
        answer = self._session.send(method, where, self._subject(key), json_body=nested(values), repeatable=False)
        if answer.status >= 300:
            raise refusal(answer, self._resource, key, tuple(values))
        return answer

    def _read(self, answer: Answer, key: str) -> Mapping[str, Any] | None:
        if is_missing(answer):
            return None
        if answer.status >= 300:
            raise refusal(answer, self._resource, key)
        return _json_object(answer)

    def _page(self, answer: Answer, fields: Sequence[str]) -> tuple[pl.DataFrame, str]:
        """The records of a list, and the link to the next page; empty on the last one."""
        subject = f"records of {self._resource.name}"
        if answer.status >= 300:
            raise unreadable(answer, subject)
        # A list of one attribute holds bare values ("Retrieving profiles").
        item = as_text([self._key_field, *fields]) if fields else pl.String()
        page = read_object(answer.body, {"content": pl.List(item), "next": pl.Struct({"href": pl.String})}, subject)
        if page.item(0, "content") is None:
            raise RetriableError(f"{subject}: an answer without a list.")
        listed = items(page, "content")
        rows = listed.struct.unnest() if fields else listed.to_frame(self._key_field)
        found = rows.select(text_of(self._key_field).alias(RECORD_KEY), *(text_of(name).alias(name) for name in fields))
        return found.filter(pl.col(RECORD_KEY).is_not_null()), (page.item(0, "next") or {}).get("href") or ""


def _json_object(answer: Answer) -> Mapping[str, Any]:
    body = answer.json()
    if not isinstance(body, dict):
        raise RetriableError("Campaign sent something else than a record")
    return body


def _listed(answer: Answer, subject: str) -> tuple[Sequence[Mapping[str, Any]], str]:
    """The records of a list, and the link to the next page; empty on the last one."""
    if answer.status >= 300:
        raise unreadable(answer, subject)
    page = _json_object(answer)
    content = page.get("content")
    if not isinstance(content, list) or not all(isinstance(item, dict) and item.get("PKey") for item in content):
        raise RetriableError(f"{subject}: an answer without a list.")
    return content, (page.get("next") or {}).get("href") or ""


def _metadata(endpoint: str, resource: str) -> str:
    return f"{endpoint}/resourceType/{quote(resource, safe='')}"


def _workflow(workflow: str) -> str:
    return f"workflow/execution/{quote(workflow, safe='')}"


def _state(answer: Answer, workflow: str) -> str | None:
    if answer.status >= 300:
        raise _unknown_workflow(answer, workflow)
    state = _json_object(answer).get("state")
    return str(state).lower() if state else None


def _unknown_workflow(answer: Answer, workflow: str) -> SyncError:
    if answer.status == 404:
        return ConfigurationError(
            f"Campaign has no workflow '{workflow}'. Check opt_outs.workflow; your Adobe contact sets the workflow up."
        )
    return unreadable(answer, f"workflow {workflow}")


def _accepted(answer: Answer) -> Answer:
    if answer.status >= 300:
        raise unreadable(answer, f"metadata of {PROFILE}")
    return answer


def _published(answer: Answer) -> Mapping[str, Any] | None:
    """A resource's metadata; None where this endpoint hasn't got it."""
    if answer.status < 300:
        return _json_object(answer)
    fault, _ = fault_of(answer)
    elsewhere = answer.status == 404 or from_instance(answer)
    if elsewhere and not (fault and fault.meaning is Meaning.CONFIGURATION and answer.status != 404):
        return None
    raise unreadable(answer, "metadata")


def flatten(record: Mapping[str, Any]) -> dict[str, object]:
    """A record's values by dotted field name, without PKeys, links and collections."""
    return dict(_flat(record, ""))


def _flat(record: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in record.items():
        if name in IDENTITY:
            continue
        if not isinstance(value, dict | list):
            yield prefix + name, value
        elif isinstance(value, dict) and not IDENTITY & value.keys():
            yield from _flat(value, f"{prefix}{name}.")


def nested(values: Mapping[str, object]) -> dict[str, Any]:
    """What travels: `location.city` as `{"location": {"city": ...}}`."""
    body: dict[str, Any] = {}
    for name, value in values.items():
        *path, last = name.split(".")
        place = body
        for step in path:
            place = place.setdefault(step, {})
        place[last] = value
    return body


def as_text(names: Sequence[str]) -> pl.Struct:
    """The type of a JSON object that has these (dotted) members; Polars reads booleans and numbers as text, too."""
    members: dict[str, list[str]] = {}
    for name in names:
        head, _, rest = name.partition(".")
        members.setdefault(head, []).extend([rest] if rest else [])
    return pl.Struct({head: as_text(rests) if rests else pl.String for head, rests in members.items()})


def text_of(name: str) -> pl.Expr:
    """The value of a (dotted) member; null where it is empty."""
    head, *path = name.split(".")
    value = pl.col(head)
    for step in path:
        value = value.struct.field(step)
    return pl.when(value != "").then(value)
