"""Single Dataverse records: what is sent to read or write them, and what the answers mean.

A write names the row version it was decided on ("Perform conditional operations using the Web API"), so it never
creates a record and never takes effect twice.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from d365_campaign.changes import RowOutcome, RowResult, RowUpdate
from d365_campaign.clients.dataverse_batch import PartRequest, answers_in, batch_type, compose
from d365_campaign.clients.dataverse_faults import error_of, refusal
from d365_campaign.clients.http import Answer, ApiSession, Headers
from d365_campaign.errors import RetriableError
from d365_campaign.schemas import SourceColumn, SourceTable

GUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
ETAG = re.compile(r'(?:W/)?"(\d+)"')
NO_SUCH_ROW = "0x80040217"
# Older servers send no code with a mismatch.
VERSION_MISMATCH = frozenset({"0x80060882", ""})
WRITE_HEADERS = {"Content-Type": "application/json", "Prefer": "return=representation"}
# What all requests have to keep caches from answering reads; beside If-Match it would be a second condition.
NO_OTHER_CONDITION: Headers = {"If-None-Match": None}


def is_guid(key: str) -> bool:
    """Whether *key* can be a record's; only then may it stand in a URL."""
    return GUID.fullmatch(key) is not None


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A record as it was read, by column name, and its row version."""

    version: int
    row: Mapping[str, object] = field(repr=False)


class RowRequests:
    """Requests for records of one table. It keeps nothing between two of them, so workers share it."""

    def __init__(self, session: ApiSession, table: SourceTable, columns: Sequence[SourceColumn]) -> None:
        self._session, self._table, self._columns = session, table, columns
        self._select = ",".join(column.wire_name for column in columns)

    def find(self, key: str) -> FoundRow | None:
        """The record with this key, or None when there is none."""
        return self._session.get(self._address(key), self._subject(key), self._found)

    def send_alone(self, update: RowUpdate) -> Answer:
        """Raises UnknownOutcome when it may have been written, RetriableError when it certainly was not."""
        headers = {**NO_OTHER_CONDITION, **self._headers(update)}
        return self._session.send(
            "PATCH",
            self._address(update.key),
            self._subject(update.key),
            json_body=dict(update.values),
            headers=headers,
            repeatable=False,
        )

    def send_together(self, updates: Sequence[RowUpdate]) -> Answer:
        """One `$batch`, in which each update stands for itself. Raises as `send_alone` does."""
        boundary = f"batch_{uuid4()}"
        headers = {**NO_OTHER_CONDITION, "Content-Type": batch_type(boundary), "Prefer": "odata.continue-on-error"}
        body = compose([self._part(update) for update in updates], boundary)
        subject = f"$batch of {len(updates)} updates of {self._table.name}"
        return self._session.send("POST", "$batch", subject, body=body, headers=headers, repeatable=False)

    def answers_to(self, updates: Sequence[RowUpdate], answer: Answer) -> Sequence[Answer]:
        """A batch's answers in the order of *updates*, as many as came; none where they can't be told apart."""
        answers = answers_in(answer) or ()
        fitting = len(answers) <= len(updates)
        told_apart = all(self._is_about(update, part) for update, part in zip(updates, answers, strict=False))
        return answers if fitting and told_apart else ()

    def outcome(self, update: RowUpdate, answer: Answer) -> RowOutcome:
        """What a final answer to *update* means. Raises ConfigurationError for a refusal that isn't the record's."""
        code, _ = error_of(answer)
        if 200 <= answer.status < 300:
            body = _json_object(answer)
            return RowOutcome(update.key, RowResult.DONE, row=None if body is None else self._row(body))
        if answer.status == 412 and code in VERSION_MISMATCH:
            return RowOutcome(update.key, RowResult.STALE)
        if _is_gone(answer):
            return RowOutcome(update.key, RowResult.GONE)
        if answer.status in (403, 404):
            raise refusal(answer, self._table.name, right="write")
        seen = f"{answer.status}" + (f", {code}" if code else "")
        return RowOutcome(
            update.key, RowResult.REFUSED, reason=f"Dynamics refused {self._subject(update.key)} ({seen})."
        )

    def read_back(self, update: RowUpdate) -> RowOutcome | None:
        """What became of an update without an answer; None when the record still has the version it was decided on."""
        found = self.find(update.key)
        if found is None:
            return RowOutcome(update.key, RowResult.GONE)
        if found.version == update.version:
            return None
        if all(found.row.get(name) == value for name, value in update.values.items()):
            return RowOutcome(update.key, RowResult.DONE, row=found.row)
        return RowOutcome(update.key, RowResult.STALE)

    def _address(self, key: str) -> str:
        return f"{self._table.entity_set}({key})?$select={self._select}"

    def _subject(self, key: str) -> str:
        return f"{self._table.name} {key}"

    def _headers(self, update: RowUpdate) -> Mapping[str, str]:
        return {**WRITE_HEADERS, "If-Match": f'W/"{update.version}"'}

    def _part(self, update: RowUpdate) -> PartRequest:
        url = self._session.locate(self._address(update.key), self._subject(update.key))
        # A part inherits no header of the batch that says how it is to be answered.
        headers = {"Accept": "application/json", **self._headers(update)}
        return PartRequest("PATCH", url, headers, json.dumps(dict(update.values)).encode())

    def _is_about(self, update: RowUpdate, answer: Answer) -> bool:
        body = _json_object(answer) if answer.status < 300 else None
        key = (body or {}).get(self._table.primary_id)
        return key is None or str(key).lower() == update.key.lower()

    def _found(self, answer: Answer) -> FoundRow | None:
        if _is_gone(answer):
            return None
        if not 200 <= answer.status < 300:
            raise refusal(answer, self._table.name)
        body = _json_object(answer) or {}
        etag = ETAG.fullmatch(str(body.get("@odata.etag", "")))
        if etag is None:
            raise RetriableError(f"table {self._table.name}: Dynamics sent something else than a record.")
        return FoundRow(int(etag[1]), self._row(body))

    def _row(self, body: Mapping[str, Any]) -> Mapping[str, object]:
        return {column.name: body.get(column.wire_name) for column in self._columns}


def _is_gone(answer: Answer) -> bool:
    return answer.status == 404 and error_of(answer)[0] == NO_SUCH_ROW


def _json_object(answer: Answer) -> Mapping[str, Any] | None:
    """The body, or None where it is empty or something else: the write it answers was done all the same."""
    try:
        body = answer.json()
    except RetriableError:
        return None
    return body if isinstance(body, dict) else None
