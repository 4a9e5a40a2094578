"""What a test or a demo may switch in the sandbox, most often where vendors' documentation is silent."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints


@dataclass
class Settings:
    """One flat list; the defaults are the likeliest behaviour of the real systems."""

    # Entra ID and Adobe IMS
    entra_token_seconds: int = 3599
    ims_token_seconds: int = 86399

    # Dataverse
    max_page_size: int = 5000
    delta_token_time: Literal["load_start", "load_end"] = "load_end"
    """Which moment the delta token of an initial load stands for. `load_end` loses rows that change on pages
    already read, as users report (powerapps-docs #3862)."""
    delta_token_days: int = 7
    metadata_change_expires_tokens: bool = True
    dop_hint: int = 4
    service_protection: bool = False
    service_protection_requests: int = 6000
    service_protection_concurrency: int = 52
    service_protection_execution_seconds: float = 1200.0
    service_protection_window_seconds: int = 300
    dataverse_latency_seconds: float = 0.0

    # Campaign Standard
    external_id_unique: bool = True
    custom_key_verbs: tuple[str, ...] = ("GET", "PATCH", "DELETE")
    smart_case: bool = False
    email_lower_case: bool = True
    email_check: bool = False
    overlong_text: Literal["error", "truncate"] = "error"
    stamp_false_on_create: bool = False
    """Whether writing FALSE to an opt-out while creating a profile stamps it as changed."""
    big_table_threshold: int = 100_000
    default_line_count: int = 25
    href_in_single_reads: bool = True
    random_hrefs: bool = False
    error_format: Literal["text", "json_string"] = "text"
    unknown_tenant: Literal["403023", "500"] = "403023"
    custom_resource_delete_status: Literal[200, 204] = 200
    campaign_requests_per_second: int = 0
    """0 means unlimited; above the rate the gateway answers 429050."""
    campaign_retry_after_seconds: int = 1
    campaign_latency_seconds: float = 0.0

    def update(self, changes: Mapping[str, Any]) -> None:
        """Take over *changes*; refuse all of them when a name or a value does not fit."""
        hints = get_type_hints(Settings)
        for name, value in changes.items():
            if name not in hints:
                raise ValueError(f"unknown setting {name!r}")
            if not _fits(hints[name], value):
                raise ValueError(f"setting {name!r} can't be {value!r}")
        for name, value in changes.items():
            setattr(self, name, tuple(value) if isinstance(value, list) else value)

    def assign(self, other: "Settings") -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(other, field.name))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _fits(hint: Any, value: object) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is hint
