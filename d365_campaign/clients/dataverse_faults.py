"""What Dataverse's refusals mean: one table of codes, and the one place that reads them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from d365_campaign.clients.dataverse_batch import is_batch_answer
from d365_campaign.clients.http import Answer, Verdict, by_status
from d365_campaign.errors import ConfigurationError, DeltaTokenExpired, RetriableError, SyncError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DataverseFault:
    """What some error codes mean. *remedy* may name the {table} and the {right} that was used on it, read or write;
    *cites* adds the server's own words, which hold names of columns and no values."""

    codes: frozenset[str]
    error: type[SyncError]
    remedy: str
    cites: bool = False


EXPIRED = DataverseFault(
    frozenset({"0x80044352"}), DeltaTokenExpired, "the delta token has expired; '{table}' is to be read anew"
)
NO_SUCH_TABLE = DataverseFault(
    frozenset({"0x80060888", "0x8006088a", "0x80040217", "0x80041102"}),
    ConfigurationError,
    "there is no '{table}' here. Check the table's logical name, and that dynamics.url is the right environment.",
)
# Codes: "Web service error codes".
FAULTS: tuple[DataverseFault, ...] = (
    EXPIRED,
    DataverseFault(
        frozenset({"0x80072491", "0x80072492"}),
        ConfigurationError,
        "change tracking is off for '{table}'. Switch on 'Track changes' in the table's properties and publish it.",
    ),
    DataverseFault(
        frozenset({"0x0"}),
        ConfigurationError,
        "a name is unknown to Dynamics. Check the mapping of '{table}'.",
        cites=True,
    ),
    DataverseFault(
        frozenset({"0x80040220", "0x80040231", "0x80040256", "0x80048306", "0x80048405"}),
        ConfigurationError,
        "the application user may not {right} '{table}'. Give it a security role with organization-level {right} on "
        "it.",
    ),
    DataverseFault(
        frozenset({"0x80072560"}),
        ConfigurationError,
        "the application has no user in this environment. Add an application user for dynamics.client_id there.",
    ),
    NO_SUCH_TABLE,
)
# Metadata locks and SQL time-outs: they pass, whatever status they come with.
PASSING = frozenset({"0x80040216", "0x80044151", "0x80044150"})


def judge(answer: Answer) -> Verdict:
    """Dataverse names passing faults by code as well, with any status. A batch's parts are judged one by one."""
    if is_batch_answer(answer):
        return Verdict.FINAL
    if answer.status < 400:  # a page is megabytes: it is not parsed just to see that it is no error
        return by_status(answer)
    if error_of(answer)[0] in PASSING:
        return Verdict.UNSURE
    fault = _fault(answer)
    return Verdict.FINAL if answer.status == 500 and fault and not fault.cites else by_status(answer)


def error_of(answer: Answer) -> tuple[str, str]:
    """Code (lower case) and message of an error answer; empty where it has none, as a bare 401 or a proxy's page."""
    try:
        error = answer.json()["error"]
        return str(error.get("code", "")).lower(), str(error.get("message", ""))
    except (RetriableError, KeyError, TypeError, AttributeError):
        return "", ""


def accepted(table: str, read: Callable[[Answer], T]) -> Callable[[Answer], T]:
    """*read* for answers under 2xx; the error an answer stands for otherwise."""

    def checked(answer: Answer) -> T:
        if not 200 <= answer.status < 300:
            raise refusal(answer, table)
        return read(answer)

    return checked


def refusal(answer: Answer, table: str, *, right: Literal["read", "write"] = "read") -> SyncError:
    """The error that a refused read or write of *table* stands for."""
    code, message = error_of(answer)
    seen = f"Dynamics answered {answer.status}" + (f" ({code})" if code else "")
    fault = _fault(answer)
    if fault is None and answer.status == 404:
        fault = NO_SUCH_TABLE
    if fault is None:
        return ConfigurationError(
            f"{seen} to a {right} of '{table}'. Check dynamics.url and the application user's rights."
        )
    cited = f" {message}" if fault.cites else ""
    return fault.error(f"{seen}: {fault.remedy.format(table=table, right=right)}{cited}")


def _fault(answer: Answer) -> DataverseFault | None:
    if answer.status == 410:  # OData's own status for a delta link that no longer works
        return EXPIRED
    code, _ = error_of(answer)
    return next((fault for fault in FAULTS if code in fault.codes), None)
