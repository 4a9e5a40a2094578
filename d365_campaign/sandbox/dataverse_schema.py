"""Dataverse tables as data: columns, alternate keys and the default set the sandbox starts with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

NONE, REQUIRED, SYSTEM_REQUIRED = "None", "ApplicationRequired", "SystemRequired"
LOOKUP_TYPES = frozenset({"Lookup", "Customer", "Owner"})


@dataclass(frozen=True, slots=True)
class Option:
    value: int
    label: str


YES_NO = (Option(1, "Yes"), Option(0, "No"))
DO_NOT_ALLOW = (Option(1, "Do Not Allow"), Option(0, "Allow"))


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `type` is the AttributeType of the metadata."""

    name: str
    type: str = "String"
    max_length: int | None = None
    options: tuple[Option, ...] = ()
    targets: tuple[str, ...] = ()
    required: str = NONE
    date_only: bool = False
    precision: int | None = None
    creatable: bool = True
    updatable: bool = True
    default: Any = None
    label: str = ""
    attribute_of: str = ""
    """For Virtual columns: the column each accompanies, as `gendercodename` does `gendercode`."""

    def __post_init__(self) -> None:
        if self.type == "Virtual" and self.options:
            # Metadata calls a choice of several values Virtual as well; only that kind has options and values.
            object.__setattr__(self, "type", "MultiSelectPicklist")

    @property
    def stored(self) -> bool:
        """Virtual columns are no properties of rows ("Query table definitions using the Web API")."""
        return self.type != "Virtual"

    @property
    def is_lookup(self) -> bool:
        return self.type in LOOKUP_TYPES

    @property
    def property_name(self) -> str:
        """The name in rows and `$select`; a lookup's value is `_name_value` ("Web API Properties")."""
        return f"_{self.name}_value" if self.is_lookup else self.name

    @property
    def navigation_properties(self) -> dict[str, str]:
        """Names for `@odata.bind` and the table each leads to; customer lookups have one per target."""
        if len(self.targets) == 1:
            return {self.name: self.targets[0]}
        return {f"{self.name}_{target}": target for target in self.targets}

    @staticmethod
    def of(values: Mapping[str, Any]) -> "Column":
        """A column from JSON; options are `{"value": 1, "label": "One"}` or a mapping of value to label."""
        facts = dict(values)
        options = facts.pop("options", ())
        pairs = options.items() if isinstance(options, Mapping) else ((o["value"], o["label"]) for o in options)
        facts["targets"] = tuple(facts.get("targets", ()))
        return Column(**facts, options=tuple(Option(int(value), label) for value, label in pairs))


@dataclass(frozen=True, slots=True)
class AlternateKey:
    name: str
    columns: tuple[str, ...]
    status: Literal["Active", "Pending", "Failed"] = "Active"

    @property
    def active(self) -> bool:
        """Only active keys address rows and are unique ("Work with alternate keys")."""
        return self.status == "Active"


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """A table as a maker would describe it; system columns are added on registration."""

    name: str
    entity_set: str
    columns: tuple[Column, ...]
    primary_name: str
    label: str = ""
    change_tracking: bool = True
    keys: tuple[AlternateKey, ...] = ()
    object_type_code: int = 10_000
    joined: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Read-only columns that join others with a space, e.g. `fullname`."""

    @property
    def primary_id(self) -> str:
        return f"{self.name}id"

    @property
    def all_columns(self) -> tuple[Column, ...]:
        identifier = Column(self.primary_id, "Uniqueidentifier", required=SYSTEM_REQUIRED, updatable=False)
        own = {column.name for column in self.columns}
        return (identifier, *self.columns, *(column for column in SYSTEM_COLUMNS if column.name not in own))

    @staticmethod
    def of(values: Mapping[str, Any]) -> "TableDefinition":
        facts = dict(values)
        facts["columns"] = tuple(Column.of(column) for column in facts["columns"])
        facts["keys"] = tuple(AlternateKey(key["name"], tuple(key["columns"])) for key in facts.get("keys", ()))
        facts["joined"] = tuple((name, tuple(parts)) for name, parts in facts.get("joined", ()))
        return TableDefinition(**facts)


SYSTEM_COLUMNS = (
    Column("createdon", "DateTime", creatable=False, updatable=False),
    Column("modifiedon", "DateTime", creatable=False, updatable=False),
    Column("overriddencreatedon", "DateTime", updatable=False),
    Column("ownerid", "Owner", targets=("systemuser", "team"), required=SYSTEM_REQUIRED),
    Column("statecode", "State", options=(Option(0, "Active"), Option(1, "Inactive")), default=0),
    Column("statuscode", "Status", options=(Option(1, "Active"), Option(2, "Inactive")), default=1),
    Column("versionnumber", "BigInt", creatable=False, updatable=False),
)

_ADDRESS = (
    Column("address1_line1", max_length=250),
    Column("address1_line2", max_length=250),
    Column("address1_line3", max_length=250),
    Column("address1_city", max_length=80),
    Column("address1_postalcode", max_length=20),
    Column("address1_stateorprovince", max_length=50),
    Column("address1_country", max_length=80),
)


def _opt_outs(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, "Boolean", options=DO_NOT_ALLOW, default=False) for name in names)


_MONEY_COLUMNS = (
    Column("creditlimit", "Money", precision=2),
    Column("transactioncurrencyid", "Lookup", targets=("transactioncurrency",)),
)

CONTACT = TableDefinition(
    name="contact",
    entity_set="contacts",
    label="Contact",
    primary_name="fullname",
    object_type_code=2,
    joined=(("fullname", ("firstname", "lastname")),),
    columns=(
        Column("firstname", max_length=50),
        Column("middlename", max_length=50),
        Column("lastname", max_length=50, required=REQUIRED),
        Column("fullname", max_length=160, creatable=False, updatable=False),
        Column("nickname", max_length=100),
        Column("salutation", max_length=100),
        Column("suffix", max_length=10),
        Column("emailaddress1", max_length=100),
        Column("emailaddress2", max_length=100),
        Column("emailaddress3", max_length=100),
        Column("telephone1", max_length=50),
        Column("telephone2", max_length=50),
        Column("mobilephone", max_length=50),
        Column("fax", max_length=50),
        Column("birthdate", "DateTime", date_only=True),
        Column("anniversary", "DateTime", date_only=True),
        Column("gendercode", "Picklist", options=(Option(1, "Male"), Option(2, "Female"))),
        Column(
            "preferredcontactmethodcode",
            "Picklist",
            default=1,
            options=(Option(1, "Any"), Option(2, "Email"), Option(3, "Phone"), Option(4, "Fax"), Option(5, "Mail")),
        ),
        Column("jobtitle", max_length=100),
        Column("department", max_length=100),
        *_ADDRESS,
        *_MONEY_COLUMNS,
        Column("numberofchildren", "Integer"),
        Column("description", "Memo", max_length=2000),
        Column("externaluseridentifier", max_length=50),
        *_opt_outs("donotemail", "donotbulkemail", "donotphone", "donotfax", "donotpostalmail", "donotbulkpostalmail"),
        Column("donotsendmm", "Boolean", options=(Option(1, "Do Not Send"), Option(0, "Send")), default=False),
        Column("new_ccpaoptout", "Boolean", options=YES_NO, default=False, label="CCPA Opt-Out"),
        Column("parentcustomerid", "Customer", targets=("account", "contact")),
    ),
)

ACCOUNT = TableDefinition(
    name="account",
    entity_set="accounts",
    label="Account",
    primary_name="name",
    object_type_code=1,
    columns=(
        Column("name", max_length=160, required=REQUIRED),
        Column("accountnumber", max_length=20),
        Column("emailaddress1", max_length=100),
        Column("telephone1", max_length=50),
        Column("websiteurl", max_length=200),
        Column("numberofemployees", "Integer"),
        Column("revenue", "Money", precision=2),
        Column("transactioncurrencyid", "Lookup", targets=("transactioncurrency",)),
        *_ADDRESS[:1],
        *_ADDRESS[3:],
        *_opt_outs("donotemail", "donotphone"),
        Column("primarycontactid", "Lookup", targets=("contact",)),
    ),
)

PURCHASE = TableDefinition(
    name="new_purchase",
    entity_set="new_purchases",
    label="Purchase",
    primary_name="new_name",
    object_type_code=10_101,
    keys=(AlternateKey("new_ordernumber_key", ("new_ordernumber",)),),
    columns=(
        Column("new_name", max_length=100, required=REQUIRED),
        Column("new_ordernumber", max_length=40),
        Column("new_contactid", "Lookup", targets=("contact",)),
        Column("new_amount", "Decimal", precision=2),
        Column("new_quantity", "Integer"),
        Column("new_weight", "Double", precision=5),
        Column("new_purchasedon", "DateTime", date_only=True),
        Column("new_shippedat", "DateTime"),
        Column("new_gift", "Boolean", options=YES_NO, default=False),
        Column("new_channel", "Picklist", options=(Option(100000000, "Web"), Option(100000001, "Store"))),
        Column(
            "new_tags",
            "MultiSelectPicklist",
            options=(Option(1, "Sale"), Option(2, "Returned"), Option(3, "Subscription")),
        ),
        Column("new_note", "Memo", max_length=2000),
    ),
)

STORE = TableDefinition(
    name="new_store",
    entity_set="new_stores",
    label="Store",
    primary_name="new_name",
    object_type_code=10_102,
    keys=(AlternateKey("new_code_key", ("new_code",)),),
    columns=(
        Column("new_name", max_length=100, required=REQUIRED),
        Column("new_code", max_length=20),
        Column("new_city", max_length=80),
        Column("new_openedon", "DateTime", date_only=True),
        Column("new_area", "Decimal", precision=2),
    ),
)

UNTRACKED = TableDefinition(
    name="new_untracked",
    entity_set="new_untrackeds",
    label="Untracked",
    primary_name="new_name",
    object_type_code=10_103,
    change_tracking=False,
    columns=(Column("new_name", max_length=100),),
)

DEFAULT_TABLES = (CONTACT, ACCOUNT, PURCHASE, STORE, UNTRACKED)
