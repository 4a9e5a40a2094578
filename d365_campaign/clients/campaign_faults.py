"""What Campaign's refusals mean: tables of codes and texts, and the one place that reads them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from d365_campaign.clients.http import Answer, Verdict, by_status
from d365_campaign.errors import ConfigurationError, RecordRejected, SyncError, UnknownOutcome
from d365_campaign.schemas import TargetResource


class Meaning(Enum):
    """What a refusal asks for."""

    REJECTED = "the record's data is at fault"
    DUPLICATE = "a record with this key exists"
    MISSING = "there is no such record"
    PASSING = "it had no effect and passes"
    CONFIGURATION = "a person must change something"


@dataclass(frozen=True, slots=True)
class CampaignFault:
    """One kind of refusal: what it asks for, and how to say so without quoting Campaign's text, which holds values."""

    meaning: Meaning
    words: str


# By the gateway's own code ("API troubleshooting" and Adobe's open-sourced API gateway).
GATEWAY_FAULTS: Mapping[str, CampaignFault] = {
    "503010": CampaignFault(Meaning.PASSING, "the gateway could not check the token."),
    "403000": CampaignFault(Meaning.CONFIGURATION, "the API key is missing. Check campaign.client_id."),
    "403003": CampaignFault(Meaning.CONFIGURATION, "the API key is not accepted. Check campaign.client_id."),
    "403010": CampaignFault(Meaning.CONFIGURATION, "a proxy drops the Authorization header. Let it through."),
    "403023": CampaignFault(
        Meaning.CONFIGURATION,
        "the token isn't for this instance. Check the instance in campaign.url, and that the credential has the "
        "instance's Administrators product profile.",
    ),
    "500": CampaignFault(Meaning.CONFIGURATION, "the gateway knows no such instance. Check campaign.url."),
}

# By an instance's text ("API troubleshooting", "Triggering a signal activity", the SDK's own tests): it answers most
# faults of the data with status 500. A `field` group is the field's name. The first that matches counts.
INSTANCE_FAULTS: Sequence[tuple[re.Pattern[str], CampaignFault]] = tuple(
    (re.compile(pattern, re.DOTALL), CampaignFault(meaning, words))
    for pattern, meaning, words in (
        (
            r"with the same key .* already exists|duplicate key value violates unique constraint",
            Meaning.DUPLICATE,
            "a record with this key exists already",
        ),
        (
            r"is not valid for the '[^']*' enumeration of the '@(?P<field>[\w.]+)' field",
            Meaning.REJECTED,
            "a value is not in the enumeration",
        ),
        (
            r"Cannot update the '(?P<field>[\w.]+)' property that is read-only",
            Meaning.REJECTED,
            "a field is read-only",
        ),
        (r"Inconsistent operation on resource|Cannot update key", Meaning.REJECTED, "the key can't be changed"),
        (r"attribute unknown \(see definition of", Meaning.REJECTED, "Campaign takes its key for a malformed PKey"),
        (r"value too long for type", Meaning.REJECTED, "a value is longer than its field"),
        (r"is not a valid constant", Meaning.REJECTED, "Campaign could not read what was sent"),
        (
            r"'@(?P<field>[\w.]+)' field does not match its '[^']*' data policy",
            Meaning.REJECTED,
            "a data policy refuses a value",
        ),
        (r"'(?P<field>[\w.]+)' property is not valid for", Meaning.REJECTED, "a field is unknown"),
        (r"Unable to find document with path", Meaning.MISSING, "there is no such record"),
        (r"Error rc=-2003", Meaning.CONFIGURATION, "the resource is not on this endpoint. Publish its API."),
    )
)
# Message codes of an instance, as RST-360011; the gateway has none.
INSTANCE_CODE = re.compile(r"\b[A-Z]{3}-\d{6}\b")


def judge(answer: Answer) -> Verdict:
    """What Campaign's answer means for sending again: status 500 with an instance's text is about the data."""
    fault, _ = fault_of(answer)
    if fault and fault.meaning is Meaning.PASSING:
        return Verdict.AGAIN
    if answer.status == 500 and (fault or from_instance(answer)):
        return Verdict.FINAL
    if answer.status == 503 and _gateway_code(answer):
        return Verdict.AGAIN
    return by_status(answer)


def refusal(answer: Answer, resource: TargetResource, key: str, fields: Sequence[str] = ()) -> SyncError:
    """The error that a refused call for one record stands for; *fields* names what was sent.

    Campaign's text quotes values, so only its codes and the names of known fields are passed on.
    """
    fault, field = fault_of(answer)
    record = f"Campaign refused {resource.name} {key} ({_seen(answer)})"
    if fault is None and not from_instance(answer) and answer.status in (403, 404, 405):
        return unreadable(answer, f"{resource.name} {key}")
    if fault is None:
        return RecordRejected(f"{record}; fields sent: {_listed(fields)}.")
    if fault.meaning is Meaning.CONFIGURATION:
        return ConfigurationError(f"{record}: {fault.words}")
    if fault.meaning is Meaning.MISSING:
        return UnknownOutcome(f"{record}: it went away after it was read.")
    about = (field,) if field and field in resource.fields else ()
    named = f" (field '{field}')" if about else ""
    return RecordRejected(
        f"{record}: {fault.words}{named}; fields sent: {_listed(fields)}.",
        duplicate_key=fault.meaning is Meaning.DUPLICATE,
        fields=about,
    )


def is_missing(answer: Answer) -> bool:
    """Whether there is no such record; a 404 of another kind (a proxy's, a wrong path) is not that."""
    fault, _ = fault_of(answer)
    return answer.status == 404 and fault is not None and fault.meaning is Meaning.MISSING


def error_text(answer: Answer) -> str:
    """An error's text, whether it came plain, as a JSON string or as a JSON object."""
    text = answer.body.decode("utf-8", "replace")
    try:
        parsed = json.loads(text)
    except ValueError:
        return text
    return parsed if isinstance(parsed, str) else text


def fault_of(answer: Answer) -> tuple[CampaignFault | None, str | None]:
    """What kind of refusal it is, and the field it names."""
    if answer.status < 400:
        return None, None
    if gateway_fault := GATEWAY_FAULTS.get(_gateway_code(answer) or ""):
        return gateway_fault, None
    text = error_text(answer)
    for pattern, fault in INSTANCE_FAULTS:
        if match := pattern.search(text):
            return fault, match.groupdict().get("field")
    return None, None


def from_instance(answer: Answer) -> bool:
    """Whether the instance itself answered, not the gateway or a proxy before it."""
    return INSTANCE_CODE.search(error_text(answer)) is not None


def _gateway_code(answer: Answer) -> str | None:
    """The gateway's code: it answers in JSON objects, the instance in texts."""
    try:
        body = json.loads(answer.body)
    except ValueError:
        return None
    return str(body.get("error_code") or body.get("code") or "") or None if isinstance(body, dict) else None


def _seen(answer: Answer) -> str:
    """Status and Campaign's own codes: all of an error answer that may be shown."""
    return ", ".join(dict.fromkeys([str(answer.status), *INSTANCE_CODE.findall(error_text(answer))]))


def _listed(fields: Sequence[str]) -> str:
    return ", ".join(fields) or "none"


def unreadable(answer: Answer, subject: str) -> ConfigurationError:
    """The error for an answer that is about the connection's set-up and not about one record."""
    fault, _ = fault_of(answer)
    advice = "Check campaign.url and the credential's product profile."
    if fault and fault.meaning is Meaning.CONFIGURATION:
        advice = fault.words
    return ConfigurationError(f"{subject}: Campaign answered {_seen(answer)}. {advice}")
