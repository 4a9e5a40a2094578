"""Campaign resources as data: attributes, keys, links, and the set the sandbox starts with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Cardinality = Literal["1", "0..1", "N"]
BIG_STRING = 255
"""Length of a custom string when none is given ("Configuring the resource's data structure")."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute; `location.city` is the member `city` of the sub-object `location`."""

    name: str
    type: Literal["string", "number", "boolean", "date", "datetime", "enumeration"] = "string"
    length: int = 0
    values: tuple[str, ...] = ()
    default: Any = None
    read_only: bool = False
    whole: bool = False
    """For numbers: integers only."""
    policy: Literal["", "smartCase", "email"] = ""
    label: str = ""

    @staticmethod
    def of(values: Mapping[str, Any]) -> "Attribute":
        return Attribute(**dict(values) | {"values": tuple(values.get("values", ()))})


@dataclass(frozen=True, slots=True)
class LinkDefinition:
    """A link joined on columns: *source_column* here equals *target_key* there."""

    name: str
    source_column: str
    target_resource: str
    target_key: str
    cardinality: Cardinality = "0..1"
    cascade_delete: bool = False
    reverse: str = ""
    """Name of the collection on the target, e.g. `cusPurchasesLink`; none when empty."""


@dataclass(frozen=True, slots=True)
class ResourceDefinition:
    """A resource; which endpoint serves it follows from its links."""

    name: str
    attributes: tuple[Attribute, ...]
    key: str | None = None
    links: tuple[LinkDefinition, ...] = ()
    collections: tuple[str, ...] = ()
    """Sub-collections that hold no records here, shown as hrefs only."""
    label: str = ""
    schema: str = ""
    built_in: bool = False
    published: bool = True

    @property
    def custom(self) -> bool:
        return not self.built_in

    @property
    def schema_name(self) -> str:
        return self.schema or f"cus:{self.name[3:4].lower()}{self.name[4:]}"

    @staticmethod
    def of(values: Mapping[str, Any]) -> "ResourceDefinition":
        facts = dict(values)
        facts["attributes"] = tuple(Attribute.of(item) for item in facts["attributes"])
        facts["links"] = tuple(LinkDefinition(**link) for link in facts.get("links", ()))
        facts["collections"] = tuple(facts.get("collections", ()))
        return ResourceDefinition(**facts)


OPT_OUT_STAMPS: dict[str, tuple[str, ...]] = {
    "blackList": ("blackListLastModified", "blackListAllLastModified"),
    "blackListEmail": ("blackListEmailLastModified",),
    "blackListFax": ("blackListFaxLastModified",),
    "blackListMobile": ("blackListMobileLastModified",),
    "blackListPhone": ("blackListPhoneLastModified",),
    "blackListPostalMail": ("blackListPostalMailLastModified",),
    "blackListPushnotification": ("blackListPushnotificationLastModified",),
    "ccpaOptOut": ("ccpaOptOutLastModified",),
}
"""Opt-out attributes of a profile and the stamps that follow them ("DataModel Profile", "Managing CCPA opt-out")."""

SYSTEM_ATTRIBUTES = (
    Attribute("created", "datetime", read_only=True),
    Attribute("lastModified", "datetime", read_only=True),
)


def _members(item: str, names: str, length: int, read_only: bool = False) -> tuple[Attribute, ...]:
    return tuple(Attribute(f"{item}.{name}", length=length, read_only=read_only) for name in names.split())


PROFILE = ResourceDefinition(
    name="profile",
    label="Profiles",
    schema="nms:recipient",
    built_in=True,
    key="externalId",
    collections=("subscriptions", "subHisto", "logs", "excludeLogs", "tracking", "appSubscription", "places"),
    links=(LinkDefinition("cusAccountLink", "cusAccountId", "cusAccount", "cusD365id", reverse="cusProfilesLink"),),
    attributes=(
        Attribute("acsId", length=36, read_only=True),
        Attribute("age", "number", whole=True, read_only=True),
        Attribute("birthDate", "date"),
        *(Attribute(name, "boolean") for name in OPT_OUT_STAMPS),
        *(Attribute(name, "datetime", read_only=True) for stamps in OPT_OUT_STAMPS.values() for name in stamps),
        Attribute("cryptedId", length=255, read_only=True),
        Attribute("domain", length=255, read_only=True),
        Attribute("email", length=128, policy="email"),
        Attribute("emailFormat", "enumeration", values=("unknown", "text", "html"), default="unknown"),
        Attribute("externalId", length=100),
        Attribute("fax", length=32),
        Attribute("firstName", length=30, policy="smartCase"),
        Attribute("gender", "enumeration", values=("unknown", "male", "female"), default="unknown"),
        Attribute("isExternal", "boolean"),
        Attribute("lastName", length=50, policy="smartCase"),
        Attribute("middleName", length=30),
        Attribute("mobilePhone", length=32),
        Attribute("phone", length=32),
        Attribute("preferredLanguage", length=64, default="none"),
        Attribute("salutation", length=20),
        Attribute("thumbnail", length=255, default="/nl/img/thumbnails/defaultProfil.png"),
        Attribute("timeZone", length=64, default="none"),
        Attribute("title", length=255, read_only=True),
        *_members("location", "address1 address2 address3 address4 city", 80),
        *_members("location", "countryCode stateCode zipCode", 10),
        Attribute("postalAddress.addrDefined", "boolean", read_only=True),
        Attribute("postalAddress.addrErrorCount", "number", whole=True, read_only=True),
        Attribute("postalAddress.addrLastCheck", "datetime", read_only=True),
        Attribute("postalAddress.addrQuality", default="0", read_only=True),
        *_members("postalAddress", "line1 line2 line3 line4 line5 line6 serialized", 255, read_only=True),
        Attribute("cusJobTitle", length=100),
        Attribute("cusDepartment", length=100),
        Attribute("cusCreditLimit", "number"),
        Attribute("cusNumberOfChildren", "number", whole=True),
        Attribute("cusPreferredContactMethod", length=50),
        Attribute("cusCountry", length=80),
        Attribute("cusVip", "boolean"),
        Attribute("cusModifiedInD365", "datetime"),
        Attribute("cusAccountId", length=36),
    ),
)

SERVICE = ResourceDefinition(
    name="service",
    label="Services",
    schema="nms:service",
    built_in=True,
    key="name",
    collections=("subscriptions",),
    attributes=(
        Attribute("name", length=64),
        Attribute("label", length=128),
        Attribute("messageType", "enumeration", values=("email", "sms"), default="email"),
        Attribute("mode", "enumeration", values=("newsletter", "viral"), default="newsletter"),
        Attribute("start", "datetime"),
        Attribute("end", "datetime"),
    ),
)


def _units(name: str, label: str, schema: str) -> ResourceDefinition:
    attributes = (Attribute("name", length=64), Attribute("label", length=128))
    return ResourceDefinition(name, label=label, schema=schema, built_in=True, key="name", attributes=attributes)


ORG_UNIT = _units("orgUnitBase", "Organizational units", "nms:orgUnit")
GEO_UNIT = _units("geoUnitBase", "Geographical units", "nms:geoUnit")

ACCOUNT = ResourceDefinition(
    name="cusAccount",
    label="Account",
    key="cusD365id",
    attributes=(
        Attribute("cusD365id", length=36),
        Attribute("cusName", length=160),
        Attribute("cusNumber", length=20),
        Attribute("cusWebsite", length=200),
        Attribute("cusCity", length=80),
        Attribute("cusEmployees", "number", whole=True),
        Attribute("cusRevenue", "number"),
    ),
)

PURCHASE = ResourceDefinition(
    name="cusPurchase",
    label="Purchase",
    key="cusD365id",
    links=(
        # Purchases are personal data, so they go with their profile ("Managing Privacy requests").
        LinkDefinition(
            "cusProfileLink",
            "cusContactId",
            "profile",
            "externalId",
            cardinality="0..1",
            cascade_delete=True,
            reverse="cusPurchasesLink",
        ),
    ),
    attributes=(
        Attribute("cusD365id", length=36),
        Attribute("cusContactId", length=36),
        Attribute("cusName", length=100),
        Attribute("cusOrderNumber", length=40),
        Attribute("cusAmount", "number"),
        Attribute("cusQuantity", "number", whole=True),
        Attribute("cusPurchasedOn", "date"),
        Attribute("cusShippedAt", "datetime"),
        Attribute("cusGift", "boolean"),
        Attribute("cusChannel", length=30),
        Attribute("cusTags", length=100),
        Attribute("cusNote", length=2000),
    ),
)

STORE = ResourceDefinition(
    name="cusStore",
    label="Store",
    key="cusD365id",
    attributes=(
        Attribute("cusD365id", length=36),
        Attribute("cusName", length=100),
        Attribute("cusCode", length=20),
        Attribute("cusCity", length=80),
        Attribute("cusOpenedOn", "date"),
        Attribute("cusArea", "number"),
    ),
)

DEFAULT_RESOURCES = (PROFILE, SERVICE, ORG_UNIT, GEO_UNIT, ACCOUNT, PURCHASE, STORE)
OPT_OUT_EXPORT = "d365OptOutExport"
DEFAULT_WORKFLOWS = (OPT_OUT_EXPORT,)
SIGNALS: dict[str, dict[str, dict[str, str]]] = {OPT_OUT_EXPORT: {"signal": {"day": "string", "limit": "number"}}}
"""Signal activities of each workflow and the parameters each declares, by type."""
