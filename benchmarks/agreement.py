"""Whether both sides of the sandbox hold the same, worked out from its admin pages and none of our own code."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Row = Mapping[str, Any]
# Asks the sandbox's admin address: method and path.
Ask = Callable[[str, str], Any]
EVERYTHING = 1_000_000
LABELS = {
    "gendercode": {1: "male", 2: "female", None: "unknown"},
    "preferredcontactmethodcode": {1: "Any", 2: "Email", 3: "Phone", 4: "Fax", 5: "Mail", None: ""},
    "new_channel": {100000000: "Web", 100000001: "Store", None: ""},
}


def text(value: Any) -> str:
    return "" if value is None else str(value)


def number(value: Any) -> float:
    return float(value or 0)


def key(value: Any) -> str:
    return text(value).lower()


def moment(value: Any) -> str:
    """To the second, which is what Dynamics has."""
    return text(value).replace("T", " ").replace(".000Z", "Z")


def flag(value: Any) -> bool:
    return bool(value)


class Pair(NamedTuple):
    """A Dynamics property, the Campaign field that has to say the same, and how to read both."""

    source: str
    target: str
    read: Callable[[Any], Any] = text


class Side(NamedTuple):
    """One mapping of the sandbox's configuration. *takes_part* tells whether a row does."""

    rows: str
    source_key: str
    records: str
    target_key: str
    pairs: Sequence[Pair]
    takes_part: Callable[[Row], bool] = lambda row: True


# As config/sandbox_tables has them, without a contact's job title, whose later changes aren't sent.
SIDES = (
    Side(
        "accounts",
        "accountid",
        "cusAccount",
        "cusD365id",
        [
            Pair("name", "cusName"),
            Pair("accountnumber", "cusNumber"),
            Pair("websiteurl", "cusWebsite"),
            Pair("address1_city", "cusCity"),
            Pair("numberofemployees", "cusEmployees", number),
            Pair("revenue", "cusRevenue", number),
        ],
    ),
    Side(
        "contacts",
        "contactid",
        "profile",
        "externalId",
        [
            Pair("firstname", "firstName"),
            Pair("middlename", "middleName"),
            Pair("lastname", "lastName"),
            Pair("salutation", "salutation"),
            Pair("emailaddress1", "email", key),
            Pair("mobilephone", "mobilePhone"),
            Pair("telephone1", "phone"),
            Pair("fax", "fax"),
            Pair("birthdate", "birthDate"),
            Pair("gendercode", "gender"),
            Pair("creditlimit", "cusCreditLimit", number),
            Pair("preferredcontactmethodcode", "cusPreferredContactMethod"),
            Pair("address1_line1", "location.address1"),
            Pair("address1_postalcode", "location.zipCode"),
            Pair("address1_city", "location.city"),
            Pair("_parentcustomerid_value", "cusAccountId", key),
            Pair("donotemail", "blackListEmail", flag),
            Pair("donotfax", "blackListFax", flag),
            Pair("donotphone", "blackListPhone", flag),
            Pair("donotpostalmail", "blackListPostalMail", flag),
        ],
        lambda row: bool(row["statecode"] == 0),
    ),
    Side(
        "new_purchases",
        "new_purchaseid",
        "cusPurchase",
        "cusD365id",
        [
            Pair("_new_contactid_value", "cusContactId", key),
            Pair("new_name", "cusName"),
            Pair("new_ordernumber", "cusOrderNumber"),
            Pair("new_amount", "cusAmount", number),
            Pair("new_quantity", "cusQuantity", number),
            Pair("new_purchasedon", "cusPurchasedOn"),
            Pair("new_shippedat", "cusShippedAt", moment),
            Pair("new_gift", "cusGift", flag),
            Pair("new_channel", "cusChannel"),
            Pair("new_note", "cusNote"),
        ],
        lambda row: row["_new_contactid_value"] is not None,
    ),
)


def differences(ask: Ask) -> list[str]:
    """What one side holds and the other doesn't: keys and names of fields, one line each."""
    return [line for side in SIDES for line in _of(ask, side)]


def _of(ask: Ask, side: Side) -> Iterator[str]:
    rows = ask("GET", f"dataverse/{side.rows}?top={EVERYTHING}")["value"]
    records = ask("GET", f"campaign/{side.records}?top={EVERYTHING}")["content"]
    expected = {key(row[side.source_key]): row for row in rows if side.takes_part(row)}
    held = {key(record[side.target_key]): record for record in records if record[side.target_key]}
    if len(held) != len([record for record in records if record[side.target_key]]):
        yield f"{side.records}: a key stands there twice"
    yield from (f"{side.records} {missing} is missing" for missing in sorted(expected.keys() - held.keys()))
    yield from (f"{side.records} {gone} is still there" for gone in sorted(held.keys() - expected.keys()))
    for one in sorted(expected.keys() & held.keys()):
        unlike = [p for p in side.pairs if _said(expected[one], p) != p.read(_member(held[one], p.target))]
        if unlike:
            yield f"{side.records} {one} differs in {', '.join(pair.target for pair in unlike)}"


def _said(row: Row, pair: Pair) -> Any:
    value = row.get(pair.source)
    return LABELS[pair.source][value] if pair.source in LABELS else pair.read(value)


def _member(record: Row, path: str) -> Any:
    """A field, or a member of a sub-object by a dot."""
    value: Any = record
    for name in path.split("."):
        value = value[name]
    return value
