"""Opt-outs on their way to profiles: what is known of them when a run didn't come to its end."""

from collections.abc import Sequence

import pytest

from d365_campaign.errors import ConfigurationError, RetriableError, UnknownOutcome
from d365_campaign.flows.deadline import Deadline
from d365_campaign.flows.opt_outs import write_to_campaign
from d365_campaign.opt_out import CampaignWord
from d365_campaign.opt_out_changes import WriteBacks
from d365_campaign.store.opt_outs import OptOutStore
from d365_campaign.store.staging import Staging
from d365_campaign.store.table_store import TableStore
from tests.builders import CHANGES, page
from tests.opt_out_exports import in_doubt, people, person, read_in
from tests.stand_ins import Campaign, Fault

NOT_OPTED_OUT = {"blackListEmail": False, "blackListPhone": False}
LOST = Fault(UnknownOutcome("no answer"))
ARRIVED = Fault(UnknownOutcome("no answer"), lands=True)
KILLED = Fault(KeyboardInterrupt(), lands=True)
BUSY = Fault(RetriableError("Campaign is busy"))
FORBIDDEN = Fault(ConfigurationError("the credential may not write"))


@pytest.fixture
def store(staging: Staging) -> TableStore:
    """Dynamics decides alone. Of Ada and Bob, both systems say that they opt out of nothing."""
    store = read_in(staging.table(people("dynamics_to_campaign")), person("ada"), person("bob"))
    with store._transaction():
        opt_outs(store).note_seen({key: CampaignWord(NOT_OPTED_OUT) for key in ("ada", "bob")})
    return store


def opt_outs(store: TableStore) -> OptOutStore:
    assert store.opt_outs is not None
    return store.opt_outs


def campaign(update: Sequence[Fault] = (), read: Sequence[Fault | None] = ()) -> Campaign:
    """It holds both, and Ada's profile meets these faults."""
    held = {key: dict[str, object](NOT_OPTED_OUT) for key in ("ada", "bob")}
    return Campaign(held, {("update", "ada"): update, ("read", "ada"): read})


def says(store: TableStore, key: str, *, email: bool) -> None:
    """Dynamics tells of an edit."""
    store.absorb(page(store.table, {"versionnumber": 2, **person(key, donotemail=email)}), CHANGES)


def write(store: TableStore, target: Campaign) -> WriteBacks:
    """What a run does about opt-outs."""
    opt_outs(store).compare()
    return write_to_campaign(opt_outs(store), target, workers=1, deadline=Deadline(None))


@pytest.mark.parametrize(
    ("update", "read", "ends_with"),
    [
        pytest.param([KILLED], [], KeyboardInterrupt, id="the run was killed after the profile was written"),
        pytest.param([ARRIVED], [None, BUSY], RetriableError, id="no answer came, and the profile can't be read back"),
    ],
)
def test_opt_out_that_may_have_been_written_is_taken_back_when_dynamics_says_so(
    store: TableStore, update: Sequence[Fault], read: Sequence[Fault | None], ends_with: type[BaseException]
) -> None:
    """Of an opt-out that nobody knows to be there, nobody would know that it is to go."""
    target = campaign(update, read)
    says(store, "ada", email=True)
    with pytest.raises(ends_with):
        write(store, target)
    assert target.held["ada"]["blackListEmail"] is True
    says(store, "ada", email=False)

    assert write(store, target).people == 1

    assert target.held["ada"] == NOT_OPTED_OUT
    assert not in_doubt(store, "ada")


def test_opt_out_that_did_not_arrive_with_a_killed_run_is_written_by_the_next(store: TableStore) -> None:
    target = campaign([Fault(KeyboardInterrupt())])
    says(store, "ada", email=True)
    with pytest.raises(KeyboardInterrupt):
        write(store, target)

    assert write(store, target).people == 1

    assert target.held["ada"]["blackListEmail"] is True
    assert opt_outs(store).summary().open == 0


@pytest.mark.parametrize(
    ("update", "read"), [([FORBIDDEN], []), ([], [BUSY])], ids=["a write that is refused", "a read without an answer"]
)
def test_an_error_that_ends_a_run_puts_nobody_in_doubt(
    store: TableStore, update: Sequence[Fault], read: Sequence[Fault]
) -> None:
    """Each of them would cost an engine call, again and again while Campaign is down."""
    for key in ("ada", "bob"):
        says(store, key, email=True)
    with pytest.raises((ConfigurationError, RetriableError)):
        write(store, campaign(update, read))

    opt_outs(store).begin()

    assert not in_doubt(store, "ada")
    assert not in_doubt(store, "bob")
    assert opt_outs(store).summary().to_campaign == 2
