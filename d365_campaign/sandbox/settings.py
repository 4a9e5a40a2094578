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

    entra_ext_expires_in: bool = True

    # Dataverse
    max_page_size: int = 5000
    oversized_page: Literal["cap", "refuse"] = "cap"
    """What happens to an `odata.maxpagesize` above the maximum."""
    count_segment_capped: bool = False
    """Whether `/$count` stops at 5,000 as `$count=true` does."""
    count_segment_bom: bool = False
    track_every_page: bool = False
    """Whether a load with change tracking ends without a delta link unless `Prefer` comes with each page."""
    delta_unselected_changes: bool = True
    """Whether a change of columns that were not selected makes a row appear in a delta."""
    empty_delta_link: bool = True
    """Whether a delta call that finds nothing answers with a new delta link."""
    unauthorized_body: Literal["empty", "json"] = "empty"
    expired_token_status: Literal[400, 410] = 400
    missing_key_status: Literal[404, 400] = 404
    duplicate_key_status: Literal[412, 400] = 412
    null_lookup_in_body: Literal["clear", "refuse"] = "clear"
    state_on_create: Literal["set", "ignore"] = "set"
    application_user: bool = True
    """False: the token is valid but its application has no user in the environment."""
    change_tracking_privilege: bool = True
    """False: the user may not read the whole table, so change tracking is refused."""
    affinity_cookie: bool = True
    time_remaining_format: Literal["seconds", "timespan"] = "seconds"
    batch_failure_status: Literal["of_the_part", "400"] = "of_the_part"
    """Status of a whole batch that stopped at a failure."""
    batch_counts: Literal["parts", "operations"] = "parts"
    """Whether a change set counts once towards the limit of 1,000, or each of its operations."""
    failed_change_set: Literal["single_part", "nested"] = "single_part"
    bulk_messages_missing: tuple[str, ...] = ()
    """Tables that know no CreateMultiple, UpdateMultiple and UpsertMultiple."""
    bulk_delete_seconds: float = 0.0
    """How long a BulkDelete job waits before it runs, on the sandbox's clock."""
    key_activation_seconds: float = 0.0
    """How long a new alternate key is Pending, on the sandbox's clock."""
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
    deleted_pkey_status: Literal[404, 500] = 404
    """Answer to a well-formed PKey whose record is gone."""
    count_inline: bool = False
    """Whether a list that fits on one page shows `count.value` beside `count.href`."""
    line_count_maximum: int = 0
    """Largest page `_lineCount` may ask for; 0 means any. Larger ones are capped."""
    href_pkeys_differ: bool = False
    """Whether hrefs name a record by a longer PKey than its `PKey` field shows."""
    raw_keys_in_links: bool = True
    """Whether `{"orgUnit": {"PKey": "name"}}` may hold a business key."""
    privacy_data_member: Literal["gdprRequestData", "privacyRequestData"] = "privacyRequestData"
    privacy_request_seconds: float = 0.0
    """How long a privacy request stays `new`, on the sandbox's clock."""
    signal_seconds: int = 600
    """How long a signal activity takes no second signal."""
    transactional_events: tuple[str, ...] = ("EVTcartAbandonment",)

    campaign_clock_skew_seconds: float = 0.0
    """How far Campaign's clock is ahead of Dataverse's; its stamps, `Date` headers and exports go by it."""

    # The daily opt-out export and the SFTP storage it goes to
    sftp_exports_folder: bool = True
    """Whether `d365_loads/exports` is there after a reset; on a real server the customer makes it."""
    export_seconds: int = 86_400
    """From one run of the workflow to the next, on the sandbox's clock; 0: it runs only when told to."""
    export_loses_stopped_time: bool = False
    """Whether a workflow that was stopped begins anew, so that what changed before its restart is never exported."""
    export_skips_empty: bool = False
    """Whether no file is made when nothing changed; otherwise it has a header alone."""
    export_gzip: bool = False
    export_delimiter: str = ";"
    export_encoding: str = "utf-8"
    export_bom: bool = False
    export_push_stamp: bool = True
    """Whether there is a column `blackListPushnotificationLastModified`; some captures of profiles lack it."""
    export_seconds_only: bool = False
    """Whether stamps have no milliseconds."""

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
