"""Records of one Campaign resource and the indexes that keys and links need."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import date
from typing import Any

from .campaign_schema import SYSTEM_ATTRIBUTES, ResourceDefinition
from .campaign_values import empty


class Record:
    """One stored record. Attributes at their empty value are left out of `values`."""

    __slots__ = ("number", "pkey", "values")

    def __init__(self, number: int, pkey: str) -> None:
        self.number = number
        self.pkey = pkey
        self.values: dict[str, Any] = {}


class Index:
    """Records by the value of one attribute; most values have one record."""

    def __init__(self) -> None:
        self._records: dict[Any, list[Record]] = {}

    def find(self, value: Any) -> list[Record]:
        return self._records.get(value, [])

    def add(self, value: Any, record: Record) -> None:
        self._records.setdefault(value, []).append(record)

    def remove(self, value: Any, record: Record) -> None:
        self._records[value].remove(record)
        if not self._records[value]:
            del self._records[value]


class Resource:
    """Records of one resource, in the order they were made."""

    def __init__(self, definition: ResourceDefinition) -> None:
        self.definition = definition
        own = {attribute.name for attribute in definition.attributes}
        system = (attribute for attribute in SYSTEM_ATTRIBUTES if attribute.name not in own)
        self.attributes = {attribute.name: attribute for attribute in (*definition.attributes, *system)}
        self.items = {name.split(".")[0] for name in self.attributes if "." in name}
        self.order: list[Record] = []
        self.by_pkey: dict[str, Record] = {}
        self.indexes: dict[str, Index] = {definition.key: Index()} if definition.key else {}
        for link in definition.links:
            self.indexes.setdefault(link.source_column, Index())

    def add(self, record: Record) -> None:
        self.order.append(record)
        self.by_pkey[record.pkey] = record
        self._index(record)

    def remove(self, record: Record) -> None:
        del self.order[bisect_left(self.order, record.number, key=lambda other: other.number)]
        del self.by_pkey[record.pkey]
        self._unindex(record)

    def replace(self, record: Record, values: dict[str, Any]) -> None:
        self._unindex(record)
        record.values = values
        self._index(record)

    def value(self, record: Record, name: str) -> Any:
        attribute = self.attributes[name]
        if name == "age":
            return _age(record.values.get("birthDate", ""))
        return record.values.get(name, empty(attribute))

    def records_after(self, number: int) -> Iterator[Record]:
        start = bisect_right(self.order, number, key=lambda other: other.number)
        return (self.order[index] for index in range(start, len(self.order)))

    def index_on(self, name: str) -> Index:
        """The index on an attribute, made on first use."""
        if name not in self.indexes:
            index = self.indexes[name] = Index()
            for record in self.order:
                if record.values.get(name):
                    index.add(record.values[name], record)
        return self.indexes[name]

    def _index(self, record: Record) -> None:
        for name, index in self.indexes.items():
            if record.values.get(name):
                index.add(record.values[name], record)

    def _unindex(self, record: Record) -> None:
        for name, index in self.indexes.items():
            if record.values.get(name):
                index.remove(record.values[name], record)


def _age(birth_date: str) -> int:
    if not birth_date:
        return 0
    born, today = date.fromisoformat(birth_date), date.today()
    return max(0, today.year - born.year - ((today.month, today.day) < (born.month, born.day)))
