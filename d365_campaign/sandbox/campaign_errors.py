"""Errors a Campaign instance answers with: plain texts ("API troubleshooting", and section 9 of our wire notes)."""

CONTACT_ADMINISTRATOR = "RST-360011 An error has occurred - please contact your administrator."


class InstanceError(Exception):
    """An instance's refusal. Campaign uses 500 for most faults of the data."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def unknown_key(path: str, schema: str, key: str) -> InstanceError:
    return InstanceError(
        404,
        f"{CONTACT_ADMINISTRATOR} Unable to find document with path '{path}' from key '{key}' "
        f"(document with schema '{schema}' and name '{key}')",
    )


def wrong_path() -> InstanceError:
    return InstanceError(404, f"{CONTACT_ADMINISTRATOR} Error rc=-2003")


def malformed_pkey(pkey: str, label: str, schema: str) -> InstanceError:
    return InstanceError(
        500,
        f"'{pkey.lstrip('@')}' attribute unknown (see definition of '{label} ({schema})' schema). "
        f"XTK-170036 Unable to parse expression '@id = {pkey}'.",
    )


def duplicate_key(label: str, schema: str, column: str, value: object) -> InstanceError:
    table = schema.replace(":", "").capitalize()
    return InstanceError(
        500,
        f"A '{label}' with the same key '{value}' already exists. PGS-220000 PostgreSQL error: ERROR: duplicate key "
        f'value violates unique constraint "{table}_{column}" DETAIL: Key (s{column})=({value}) already exists.',
    )


def inconsistent_key(resource: str, old: str, new: object) -> InstanceError:
    return InstanceError(
        500,
        f"{CONTACT_ADMINISTRATOR} RST-360012 Inconsistent operation on resource '{resource}' - "
        f"Cannot update key '{old}' to '{new}'.",
    )


def not_in_enumeration(value: object, schema: str, name: str) -> InstanceError:
    return InstanceError(
        500,
        f"{CONTACT_ADMINISTRATOR} The value '{value}' is not valid for the '{schema}:{name}' enumeration "
        f"of the '@{name}' field",
    )


def read_only(name: str, resource: str) -> InstanceError:
    return InstanceError(
        500,
        f"Cannot update the '{name}' property that is read-only '{name}' property is not valid "
        f"for the '{resource}' resource.",
    )


def unknown_attribute(name: str, resource: str) -> InstanceError:
    return InstanceError(500, f"{CONTACT_ADMINISTRATOR} '{name}' property is not valid for the '{resource}' resource.")


def unknown_parameter(name: str) -> InstanceError:
    return InstanceError(
        500,
        f"{CONTACT_ADMINISTRATOR} '{name}' parameter isn't defined in signal activity. XTK-170006 RST-360000",
    )


def not_a_constant(text: str) -> InstanceError:
    return InstanceError(500, f"{CONTACT_ADMINISTRATOR} XTK-170036 '{text}' is not a valid constant.")


def too_long(length: int) -> InstanceError:
    return InstanceError(
        500, f"PGS-220000 PostgreSQL error: ERROR: value too long for type character varying({length})"
    )


def refused_by_policy(name: str, policy: str) -> InstanceError:
    return InstanceError(500, f"{CONTACT_ADMINISTRATOR} The '@{name}' field does not match its '{policy}' data policy.")
