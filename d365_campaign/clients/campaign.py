"""Adobe Campaign Standard through its REST API: resources, and records read and written by our own key.

No PKey and no link that holds one leaves this module, except as the handle of a `FoundRecord` ("Data model best
practices": a PKey must not be stored outside Campaign).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from d365_campaign.changes import FoundRecord
from d365_campaign.clients.campaign_faults import (
    Meaning,
    fault_of,
    from_instance,
    is_missing,
    judge,
    refusal,
    unreadable,
)
from d365_campaign.clients.http import Answer, ApiSession, Tokens
from d365_campaign.clients.throttle import RetryPolicy, ThrottleGate
from d365_campaign.clients.wire import WireSettings
from d365_campaign.errors import ConfigurationError, RecordRejected, RetriableError
from d365_campaign.field_types import campaign_type
from d365_campaign.schemas import ResourceField, TargetResource

PROFILE = "profile"
EXTENDED, CUSTOM, BUILT_IN = "profileAndServicesExt", "customResources", "profileAndServices"
# The members of a profile's `location`; metadata names the sub-object but not always what is in it.
LOCATION = ("address1", "address2", "address3", "address4", "city", "countryCode", "stateCode", "zipCode")
IDENTITY = frozenset({"PKey", "href"})
KEYS_PER_PAGE = 1000


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
        """The resource and its attributes, from whichever endpoint it is on ("Metadata mechanism", "Custom resources").

        Raises ConfigurationError when no endpoint has it.
        """
        for endpoint in (EXTENDED, CUSTOM, *([BUILT_IN] if resource == PROFILE else [])):
            subject = f"metadata of {resource}"
            facts = self._session.get(f"{endpoint}/resourceType/{quote(resource, safe='')}", subject, _published)
            if facts is not None:
                return TargetResource(resource, endpoint, fields_of(resource, facts))
        raise ConfigurationError(
            f"Campaign resource '{resource}' isn't published. Check its name, publish the resource, then the API "
            "(Profiles & Services Ext)."
        )

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

    def create(self, key: str, values: Mapping[str, object]) -> None:
        """Insert; fields without a value are left out, so Campaign's defaults hold.

        Raises RecordRejected, with `duplicate_key` when the key exists already, or UnknownOutcome.
        """
        given = {name: value for name, value in values.items() if value is not None}
        self._write("POST", self._collection, key, {**given, self._key_field: key})

    def update(self, key: str, found: FoundRecord, values: Mapping[str, object]) -> None:
        """Write *values*, and nothing else, over the record that was read.

        The key is never sent: Campaign refuses any change of it. Raises RecordRejected, or UnknownOutcome, which also
        stands for a record that went away since it was read.
        """
        given = {name: value for name, value in values.items() if name != self._key_field}
        self._write("PATCH", found.handle, key, given)

    def delete(self, key: str) -> None:
        """Delete; a record that isn't there is deleted already. Raises UnknownOutcome."""
        answer = self._session.send("DELETE", self._address(key), self._subject(key), repeatable=False)
        if answer.status >= 300 and not is_missing(answer):
            raise refusal(answer, self._resource, key)

    def keys(self) -> Iterator[Sequence[str]]:
        """Every key in the resource, page by page; empty keys left out.

        Paging is forced: above XtkBigTableThreshold Campaign would otherwise end after the first page ("Pagination").
        """
        subject = f"keys of {self._resource.name}"
        where = f"{self._collection}/{self._key_field}?_lineCount={KEYS_PER_PAGE}&_forcePagination=true"
        seen: set[str] = set()
        while where:
            if where in seen:
                raise RetriableError(f"{subject}: Campaign sent a next link a second time; its pages don't end.")
            seen.add(where)
            keys, where = self._session.get(where, subject, self._keys)
            yield keys

    def _subject(self, key: str) -> str:
        return f"{self._resource.name} {key}"

    def _address(self, key: str) -> str:
        # Without a key, or with a path's own dots for one, the address would be the whole collection's.
        if not key.strip(" ./"):
            raise RecordRejected(f"Campaign {self._resource.name}: a record without a usable key.")
        return f"{self._collection}/{quote(key, safe='')}"

    def _write(self, method: str, where: str, key: str, values: Mapping[str, object]) -> None:
        answer = self._session.send(method, where, self._subject(key), json_body=nested(values), repeatable=False)
        if answer.status >= 300:
            raise refusal(answer, self._resource, key, tuple(values))

    def _read(self, answer: Answer, key: str) -> Mapping[str, Any] | None:
        if is_missing(answer):
            return None
        if answer.status >= 300:
            raise refusal(answer, self._resource, key)
        return _json_object(answer)

    def _keys(self, answer: Answer) -> tuple[Sequence[str], str]:
        if answer.status >= 300:
            raise unreadable(answer, f"keys of {self._resource.name}")
        page = _json_object(answer)
        if not isinstance(page.get("content"), list):
            raise RetriableError(f"keys of {self._resource.name}: an answer without a list")
        values = (item.get(self._key_field) if isinstance(item, dict) else item for item in page["content"])
        return [str(value) for value in values if value], str((page.get("next") or {}).get("href") or "")


def _json_object(answer: Answer) -> Mapping[str, Any]:
    body = answer.json()
    if not isinstance(body, dict):
        raise RetriableError("Campaign sent something else than a record")
    return body


def _published(answer: Answer) -> Mapping[str, Any] | None:
    """A resource's metadata; None where this endpoint hasn't got it."""
    if answer.status < 300:
        return _json_object(answer)
    fault, _ = fault_of(answer)
    elsewhere = answer.status == 404 or from_instance(answer)
    if elsewhere and not (fault and fault.meaning is Meaning.CONFIGURATION and answer.status != 404):
        return None
    raise unreadable(answer, "metadata")


def fields_of(resource: str, facts: Mapping[str, Any]) -> Mapping[str, ResourceField]:
    """The attributes that hold values, those of sub-objects under dotted names."""
    found = dict(_fields(facts.get("content") or {}, ""))
    if resource == PROFILE:
        standard = {f"location.{name}": ResourceField(f"location.{name}", "string") for name in LOCATION}
        return {**standard, **found}
    return found


def _fields(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, ResourceField]]:
    for short, facts in content.items():
        if short in IDENTITY or not isinstance(facts, dict):
            continue
        name, kind = prefix + short, str(facts.get("type", ""))
        if kind == "item":
            yield from _fields(facts.get("content") or {}, f"{name}.")
        held = None if kind in ("item", "link", "collection") else campaign_type(kind, str(facts.get("resType", "")))
        if held is not None:
            yield (
                name,
                ResourceField(
                    name=name,
                    type=held,
                    length=_length(facts.get("length")),
                    read_only=facts.get("readOnly") in (True, "true"),
                    data_policy=str(facts.get("dataPolicy") or ""),
                ),
            )


def _length(text: object) -> int | None:
    """Metadata tells lengths as text; empty or 0 where there is no limit."""
    return int(str(text)) or None if str(text).isdecimal() else None


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
