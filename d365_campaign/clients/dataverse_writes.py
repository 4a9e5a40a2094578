"""Values written back to Dynamics: in batches side by side, and one by one where a batch can't be told apart.

a batch's answer                 what follows
200, 204 · 412 · 404 · 4xx       of a part: done · stale · gone · refused
429                              no effect: all wait for as long as Dynamics asks, then it is sent again
5xx, a passing fault             of a part or of all: read back, and sent alone if it wasn't written
no answer, an unreadable one     the same
4xx                              of all: each is sent alone
"""

from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from d365_campaign.changes import RowOutcome, RowResult, RowUpdate
from d365_campaign.clients.dataverse_faults import judge
from d365_campaign.clients.dataverse_rows import RowRequests, is_guid
from d365_campaign.clients.http import Answer, ApiSession, Verdict
from d365_campaign.clients.throttle import RetryPolicy, retry_after_seconds
from d365_campaign.errors import RetriableError, SyncError, UnknownOutcome
from d365_campaign.schemas import SourceColumn, SourceTable

# The service takes 1,000; Microsoft advises small batches that travel in parallel ("Send parallel requests").
BATCH_SIZE = 100
PARALLEL_AT_FIRST = 2
MAX_PARALLEL = 8
PARALLEL_HINT = "x-ms-dop-hint"
TRIES_ALONE = 3


class DataverseRows:
    """Records of one table, read and written one version at a time; fits `flows.ports.RowTarget`.

    *columns* are what a read brings and what a write returns; only those of them that are booleans can be written.
    """

    def __init__(
        self,
        session: ApiSession,
        table: SourceTable,
        columns: Sequence[SourceColumn],
        *,
        retry: RetryPolicy,
        max_parallel: int = MAX_PARALLEL,
    ) -> None:
        self._session, self._table, self._columns = session, table, columns
        self._retry, self._max_parallel = retry, max_parallel
        self._parallel = PARALLEL_AT_FIRST
        self._requests = RowRequests(session, table, columns)

    def read(self, key: str) -> Mapping[str, object] | None:
        """The record by column name, values as JSON has them; None when there is none."""
        found = self._requests.find(key) if is_guid(key) else None
        return None if found is None else found.row

    def update(self, updates: Sequence[RowUpdate]) -> Iterator[RowOutcome]:
        """Write, and tell one outcome for every update, in any order, as they become known.

        Once Dynamics can't be reached, or throttles for too long, the rest is told as unsent. Raises
        ConfigurationError when a person must act, after all outcomes that are known; an update without one was not
        written then. Whoever stops listening waits for the requests under way; no further one is sent, and what became
        of these is not told.
        """
        self._check(updates)
        course = _Course(self._session, self._retry, self._max_parallel, self._parallel)
        return self._outcomes(updates, course)

    def _check(self, updates: Sequence[RowUpdate]) -> None:
        """What only a fault in the calling code can bring about."""
        writable = {column.name for column in self._columns if column.type == "boolean"}
        for update in updates:
            if not update.values or not writable.issuperset(update.values):
                raise ValueError(f"{self._table.name} {update.key}: only {', '.join(sorted(writable))} can be written")
            if not all(isinstance(value, bool) for value in update.values.values()):
                raise ValueError(f"{self._table.name} {update.key}: a value that is no boolean")
        repeated = [key for key, times in Counter(update.key.lower() for update in updates).items() if times > 1]
        if repeated:
            raise ValueError(f"{self._table.name} {repeated[0]}: updated twice at once")

    def _outcomes(self, updates: Sequence[RowUpdate], course: "_Course") -> Iterator[RowOutcome]:
        fit = [update for update in updates if is_guid(update.key)]
        for update in updates:
            if not is_guid(update.key):
                yield RowOutcome(update.key, RowResult.REFUSED, reason=f"The key is no id of a {self._table.name}.")
        batches = deque(
            _Batch(self._requests, fit[start : start + BATCH_SIZE], course) for start in range(0, len(fit), BATCH_SIZE)
        )
        yield from _side_by_side(batches, course)
        self._parallel = course.parallel


def _side_by_side(batches: "deque[_Batch]", course: "_Course") -> Iterator[RowOutcome]:
    """Outcomes batch by batch as they come back; the first failure is raised once those under way are back, too."""
    under_way: set[Future[_Batch]] = set()
    failure: SyncError | None = None
    with ThreadPoolExecutor(course.max_parallel, thread_name_prefix="dataverse-writes") as pool:
        try:
            while under_way or (batches and failure is None):
                while batches and failure is None and len(under_way) < course.parallel:
                    under_way.add(pool.submit(batches.popleft().write))
                back, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for future in back:
                    batch = future.result()
                    failure = failure or batch.failure
                    yield from batch.outcomes
        finally:
            course.ended = True
    if failure is not None:
        raise failure


class _Course:
    """What all batches of one `update` share: how many travel at once, and whether there is any use in going on."""

    def __init__(self, session: ApiSession, retry: RetryPolicy, max_parallel: int, parallel: int) -> None:
        self._session, self._retry, self.max_parallel = session, retry, max_parallel
        self.parallel = min(parallel, max_parallel)
        self.ended = False
        self._trouble: str | None = None

    @property
    def most_tries(self) -> int:
        return self._retry.attempts

    def heed(self, answer: Answer) -> None:
        """Take over how many requests Dynamics wants to have at once."""
        hint = answer.headers.get(PARALLEL_HINT, "")
        if hint.isdecimal() and int(hint) > 0:
            self.parallel = min(int(hint), self.max_parallel)

    def ease_off(self, turn: int, asked: float | None = None) -> None:
        """Let all workers wait: as long as was *asked*, else the longer the more turns were in vain."""
        own = min(self._retry.first_wait_seconds * 2**turn, self._retry.longest_wait_seconds)
        self._session.hold(own if asked is None else asked)

    def give_up(self, error: RetriableError) -> None:
        self._trouble = str(error)

    def go_on(self) -> None:
        """Raises RetriableError when another batch gave up: each would wait as long, and in vain."""
        if self._trouble is not None:
            raise RetriableError(self._trouble)


class _Batch:
    """Some updates on their way. Those *open* have no outcome yet, those *doubted* may have been written."""

    def __init__(self, requests: RowRequests, updates: Sequence[RowUpdate], course: _Course) -> None:
        self._requests, self._course = requests, course
        self._open = {update.key: update for update in updates}
        self._doubted: set[str] = set()
        self.outcomes: list[RowOutcome] = []
        self.failure: SyncError | None = None

    def write(self) -> "_Batch":
        try:
            self._course.go_on()
            self._write_together()
            self._write_alone()
        except RetriableError as error:
            self._course.give_up(error)
            self._leave(str(error), told=self._open)
        except SyncError as error:
            self.failure = error
            self._leave(str(error), told=self._doubted)
        return self

    def _write_together(self) -> None:
        """As one request, and again what was throttled. What is open afterwards can only be sent alone."""
        waiting, in_vain = list(self._open.values()), 0
        while waiting and not self._course.ended:
            throttled, asked = self._exchange(waiting)
            in_vain = in_vain + 1 if len(throttled) == len(waiting) else 0
            if in_vain == self._course.most_tries:
                raise RetriableError("Dynamics answered 429 to every part of a batch, again and again.")
            if throttled:
                self._course.ease_off(in_vain, asked)
            waiting = throttled

    def _exchange(self, waiting: Sequence[RowUpdate]) -> tuple[list[RowUpdate], float | None]:
        """Settle what the answer settles; what was throttled, and for how many seconds."""
        try:
            answer = self._requests.send_together(waiting)
        except UnknownOutcome:
            self._doubt(waiting)
            return [], None
        self._course.heed(answer)
        parts = self._requests.answers_to(waiting, answer)
        if parts or answer.status < 400:
            self._doubt(waiting[len(parts) :])
        return self._settle_parts(list(zip(waiting, parts, strict=False)))

    def _settle_parts(self, answered: Sequence[tuple[RowUpdate, Answer]]) -> tuple[list[RowUpdate], float | None]:
        throttled: list[RowUpdate] = []
        pauses: list[float] = []
        failures: list[SyncError] = []
        for update, part in answered:
            verdict = judge(part)
            if verdict is Verdict.AGAIN:
                throttled.append(update)
                pauses.append(retry_after_seconds(part.headers) or 0.0)
            elif verdict is Verdict.UNSURE:
                self._doubt([update])
            elif part.status != 401:  # sent alone, it gets a new token
                try:
                    self._tell(self._requests.outcome(update, part))
                except SyncError as error:
                    failures.append(error)
        if failures:
            raise failures[0]
        return throttled, max(pauses, default=0.0) or None

    def _write_alone(self) -> None:
        for update in list(self._open.values()):
            if self._course.ended:
                return
            self._course.go_on()
            self._tell(self._alone(update))

    def _alone(self, update: RowUpdate) -> RowOutcome:
        settled = self._requests.read_back(update) if update.key in self._doubted else None
        for turn in range(TRIES_ALONE):
            if settled is not None:
                return settled
            try:
                answer = self._requests.send_alone(update)
            except UnknownOutcome:
                self._doubt([update])
                self._course.ease_off(turn)
            else:
                # Another version after a doubt may be the one that we wrote.
                if answer.status != 412 or update.key not in self._doubted:
                    return self._requests.outcome(update, answer)
            settled = self._requests.read_back(update)
        reason = f"Dynamics gave no clear answer to {TRIES_ALONE} writes."
        return settled or RowOutcome(update.key, RowResult.UNKNOWN, reason=reason)

    def _doubt(self, updates: Sequence[RowUpdate]) -> None:
        self._doubted.update(update.key for update in updates)

    def _tell(self, outcome: RowOutcome) -> None:
        del self._open[outcome.key]
        self.outcomes.append(outcome)

    def _leave(self, reason: str, told: Collection[str]) -> None:
        """End those open updates whose keys are in *told*: nothing more is known of them."""
        for key in [key for key in self._open if key in told]:
            result = RowResult.UNKNOWN if key in self._doubted else RowResult.UNSENT
            self._tell(RowOutcome(key, result, reason=reason))
