"""Once for each change of state, and once for a recovery: whatever is observed, how often, and wherever it stops."""

import json
import re
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from d365_campaign.alerts import (
    GIVE_UP_SECONDS,
    LONGEST_WAIT_SECONDS,
    MOST_WAITING,
    MOST_WORDS,
    PASSING_SECONDS,
    Alert,
    HookMemory,
    Level,
    Memory,
    Message,
    Observation,
    Subject,
    Waiting,
    deliver,
    level_of_trouble,
    only,
    taken_in,
    trial,
)
from d365_campaign.config import load, read_yaml
from d365_campaign.errors import ConfigurationError, RetriableError
from d365_campaign.settings import AlertSettings

ROOT = Path(__file__).parents[1]
FINE, WARNING, ERROR = Level
SYNC, CHECK = Subject(kind="run", name="sync"), Subject(kind="check", name="delete_share of change_set/contact")
ALL = {"team": WARNING}


def found(level: Level, at: float = 1.0, subject: Subject = SYNC, words: str = "why") -> Observation:
    return Observation(subject=subject, level=level, at=at, words=words)


def heard(memory: Memory, hook: str = "team") -> list[Level]:
    """What the hook is to be told, in order."""
    return [each.alert.level for each in memory.hooks[hook].waiting]


@pytest.mark.parametrize(
    ("minimum", "levels", "told"),
    [
        (WARNING, [FINE], []),
        (WARNING, [ERROR], [ERROR]),
        (WARNING, [ERROR, ERROR, ERROR], [ERROR]),
        (WARNING, [ERROR, FINE, FINE], [ERROR, FINE]),
        (WARNING, [ERROR, FINE, ERROR], [ERROR, FINE, ERROR]),
        (WARNING, [WARNING, ERROR, WARNING, FINE], [WARNING, ERROR, WARNING, FINE]),
        (ERROR, [WARNING], []),
        (ERROR, [WARNING, ERROR, WARNING, FINE], [ERROR, FINE]),
        (ERROR, [ERROR, WARNING, ERROR], [ERROR, FINE, ERROR]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else str(value),
)
def test_a_hook_is_told_of_each_change_of_what_it_sees(minimum: Level, levels: list[Level], told: list[Level]) -> None:
    observations = [found(level, at) for at, level in enumerate(levels)]
    assert heard(taken_in(Memory(), observations, {"team": minimum})) == told


def test_a_recovery_tells_since_when_it_failed_and_how_badly() -> None:
    memory = taken_in(Memory(), [found(ERROR, 5.0), found(ERROR, 6.0), found(FINE, 9.0)], ALL)
    recovery = memory.hooks["team"].waiting[-1].alert
    assert (recovery.recovered, recovery.before, recovery.since, recovery.at) == (True, ERROR, 5.0, 9.0)
    assert memory.standing == {}


def test_subjects_are_told_apart() -> None:
    memory = taken_in(Memory(), [found(ERROR), found(WARNING, subject=CHECK), found(FINE, 2.0)], ALL)
    assert [(each.alert.subject, each.alert.level) for each in memory.hooks["team"].waiting] == [
        (SYNC, ERROR),
        (CHECK, WARNING),
        (SYNC, FINE),
    ]


def test_a_new_hook_is_told_of_what_fails_already_and_one_that_is_gone_is_forgotten() -> None:
    before = taken_in(Memory(), [found(ERROR, words="the first time")], ALL)
    memory = taken_in(before, [], {"other": WARNING})
    assert set(memory.hooks) == {"other"}
    [waiting] = memory.hooks["other"].waiting
    assert waiting.alert.words == "the first time"
    assert heard(taken_in(memory, [], {"other": WARNING}), "other") == [ERROR], "and only once"


def test_what_is_no_longer_watched_is_forgotten_without_a_word() -> None:
    memory = only(taken_in(Memory(), [found(ERROR), found(ERROR, subject=CHECK)], ALL), [SYNC])
    assert set(memory.standing) == set(memory.hooks["team"].told) == {SYNC.key}
    assert len(memory.hooks["team"].waiting) == 2, "what was to be told still is"


@pytest.mark.parametrize(
    ("passing", "seconds", "level"),
    [(False, 0, ERROR), (True, 0, WARNING), (True, PASSING_SECONDS - 1, WARNING), (True, PASSING_SECONDS, ERROR)],
)
def test_what_may_pass_is_a_warning_until_it_has_lasted(passing: bool, seconds: float, level: Level) -> None:
    assert level_of_trouble(passing=passing, since=100.0, at=100.0 + seconds) is level


# What is looked at in turn: some subjects, in any state, again and again; a stop is a restart between two looks.
LOOKS = st.lists(
    st.lists(st.tuples(st.sampled_from([SYNC, CHECK]), st.sampled_from(list(Level))), max_size=4), max_size=12
)


@given(LOOKS, st.sampled_from([WARNING, ERROR]))
def test_any_sequence_of_states_is_told_without_a_repetition_or_a_gap(
    looks: Sequence[Sequence[tuple[Subject, Level]]], minimum: Level
) -> None:
    memory, latest, at = Memory(hooks={"team": HookMemory()}), dict[Subject, Level](), 0.0
    for look in looks:
        observations = []
        for subject, level in look:
            at += 1
            observations.append(found(level, at, subject))
            latest[subject] = level
        memory = taken_in(memory, observations, {"team": minimum})
        memory = Memory.model_validate_json(memory.model_dump_json())  # the daemon is restarted here
        memory = taken_in(memory, [], {"team": minimum})
    alerts = [each.alert for each in memory.hooks["team"].waiting]
    for subject in (SYNC, CHECK):
        told = [alert.level for alert in alerts if alert.subject == subject]
        assert all(one is not next_one for one, next_one in zip([FINE, *told], told, strict=False))
        assert (told[-1] if told else FINE) is latest.get(subject, FINE).seen_from(minimum)
        if minimum is ERROR:
            assert told == [ERROR if number % 2 == 0 else FINE for number in range(len(told))]
    assert len({alert.id for alert in alerts}) == len(alerts)


@given(LOOKS, st.lists(st.booleans(), max_size=60))
def test_a_hook_that_fails_now_and_then_gets_each_alert_once_and_in_order(
    looks: Sequence[Sequence[tuple[Subject, Level]]], answers: list[bool]
) -> None:
    works, got, memory, now = iter(answers), list[Alert](), Memory(), 0.0

    def send(alert: Alert) -> None:
        if not next(works, True):
            raise RetriableError("busy")
        got.append(alert)

    wanted: list[Alert] = []
    for look in [*looks, *[[]] * 80]:
        now += LONGEST_WAIT_SECONDS
        observations = [found(level, now, subject) for subject, level in look]
        before = len(memory.hooks["team"].waiting) if memory.hooks else 0
        memory = taken_in(memory, observations, ALL)
        wanted += [each.alert for each in memory.hooks["team"].waiting[before:]]
        memory = Memory(standing=memory.standing, hooks={"team": turn(memory.hooks["team"], send, now)})
    assert got == wanted


def turn(hook: HookMemory, send: object, now: float) -> HookMemory:
    done = deliver(hook, send, now, lambda: True)  # type: ignore[arg-type]
    assert not done.given_up
    return done.hook


def waiting(*ats: float) -> HookMemory:
    """A hook that is to be told of something at these moments."""
    alerts = [Alert(subject=SYNC, level=ERROR, before=FINE, since=at, at=at, words="") for at in ats]
    return HookMemory(waiting=[Waiting(alert=alert) for alert in alerts])


def refuse(_: Alert) -> None:
    raise ConfigurationError("the mail server answered 535")


def test_a_failed_alert_holds_back_what_comes_after_it_and_is_tried_after_growing_waits() -> None:
    hook, tried, now = waiting(0.0, 1.0), list[float](), 0.0

    def send(alert: Alert) -> None:
        tried.append(now)
        refuse(alert)

    while now < 3600:
        hook = deliver(hook, send, now, lambda: True).hook
        now += 30
    assert tried == [0, 30, 90, 210, 450, 930, 1830, 2730]
    assert [each.alert.at for each in hook.waiting] == [0.0, 1.0]


def test_an_alert_is_given_up_after_a_day_and_those_beyond_a_hundred_are() -> None:
    hook = deliver(waiting(0.0), refuse, 1.0, lambda: True).hook
    done = deliver(hook, refuse, GIVE_UP_SECONDS + 1.0, lambda: True)
    assert ([alert.at for alert in done.given_up], done.hook.waiting, done.fault) == ([0.0], (), None)
    done = deliver(waiting(*map(float, range(MOST_WAITING + 2))), refuse, 200.0, lambda: True)
    assert [alert.at for alert in done.given_up] == [0.0, 1.0]
    assert len(done.hook.waiting) == MOST_WAITING


def test_an_alert_that_waited_only_because_nobody_looked_is_still_sent() -> None:
    sent: list[Alert] = []
    assert deliver(waiting(0.0), sent.append, 2.0 * GIVE_UP_SECONDS, lambda: True).sent == len(sent) == 1


def test_no_more_is_begun_when_the_time_is_up() -> None:
    done = deliver(waiting(0.0), refuse, 1.0, lambda: False)
    assert (done.fault, len(done.hook.waiting)) == (None, 1)


def test_of_an_error_that_is_not_ours_only_the_kind_is_told() -> None:
    def send(_: Alert) -> None:
        raise KeyError("https://hooks.example.com/secret")

    assert deliver(waiting(0.0), send, 1.0, lambda: True).fault == "KeyError"


def test_words_hold_no_key_of_a_record_and_end_somewhere() -> None:
    """Neither the cursor nor a hook keeps what `forget` could not reach."""
    key = "4CD86FA5-145f-454b-badf-5f219a91f1ec"
    memory = taken_in(Memory(), [found(ERROR, words=f"profile {key}: Campaign answered 403." + "x" * 5000)], ALL)
    assert key not in memory.model_dump_json()
    words = memory.hooks["team"].waiting[0].alert.words
    assert words.startswith("profile (key): Campaign answered 403.")
    assert len(words) == MOST_WORDS


# --- what is told -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alert", "text", "link"),
    [
        (
            Alert(subject=SYNC, level=ERROR, before=FINE, since=0.0, at=9.0, words="It failed.", run_id="r1"),
            "production, error: runs of sync fail.\nIt failed.\nSince 1970-01-01 00:00 UTC.\nhttps://d.example/runs/r1",
            "https://d.example/runs/r1",
        ),
        (
            Alert(subject=CHECK, level=FINE, before=WARNING, since=0.0, at=9.0, words="", asset="change_set/contact"),
            "production, recovered: check delete_share of change_set/contact passes again.\n"
            "It was not fine from 1970-01-01 00:00 UTC on.\nhttps://d.example/assets/change_set/contact?view=checks",
            "https://d.example/assets/change_set/contact?view=checks",
        ),
        (
            Alert(
                subject=Subject(kind="sensor", name="dynamics_changes"),
                level=WARNING,
                before=FINE,
                since=0.0,
                at=9.0,
                words="No answer.",
            ),
            "production, warning: sensor dynamics_changes can't look.\nNo answer.\nSince 1970-01-01 00:00 UTC.\n"
            "https://d.example/automation",
            "https://d.example/automation",
        ),
    ],
    ids=["run", "check", "sensor"],
)
def test_message_says_what_where_and_since_when(alert: Alert, text: str, link: str) -> None:
    payload = Message(alert, "production", "https://d.example/").payload()
    assert (payload["text"], payload["link"]) == (text, link)
    assert Message(alert, "production").payload()["link"] is None


def test_payload_has_the_members_that_are_documented() -> None:
    """A receiver relies on them."""
    alert = Alert(subject=SYNC, level=FINE, before=ERROR, since=60.0, at=120.0, words="", run_id="r1")
    sent = json.loads(Message(alert, "stage").body())
    assert {name: sent[name] for name in sent if name != "text"} == {
        "id": alert.id,
        "environment": "stage",
        "state": "recovered",
        "severity": "error",
        "kind": "run",
        "name": "sync",
        "since": "1970-01-01T00:01:00+00:00",
        "at": "1970-01-01T00:02:00+00:00",
        "words": "",
        "run_id": "r1",
        "asset": None,
        "link": None,
    }


def test_a_trial_says_that_nothing_is_wrong() -> None:
    assert "nothing is wrong" in trial("stage", "team", None, datetime(2026, 1, 1, tzinfo=UTC)).payload()["text"]


# --- settings ---------------------------------------------------------------------------------------------------------

WEBHOOK = {"kind": "webhook", "name": "team", "url": {"env": "HOOK"}}
EMAIL = {"kind": "email", "name": "mail", "host": "mail", "sender": "a@example.com", "recipients": ["b@example.com"]}


def test_nobody_is_told_unless_a_hook_is_configured() -> None:
    assert AlertSettings().hooks == ()


@pytest.mark.parametrize(
    ("hooks", "fault"),
    [
        ([WEBHOOK, WEBHOOK], "two hooks are called 'team'"),
        ([WEBHOOK | {"header": {"name": "Authorization", "value": "s3cret"}}], "header.value"),
        ([WEBHOOK | {"minimum": "fine"}], "minimum"),
        ([EMAIL | {"user": "me"}], "user and password go together"),
        ([EMAIL | {"password": "s3cret"}], "password"),
        ([EMAIL | {"security": "none"}], "security"),
        ([EMAIL | {"recipients": []}], "recipients"),
        ([EMAIL | {"sender": "nobody"}], "sender"),
        ([{"kind": "pager", "name": "x"}], "webhook"),
    ],
)
def test_hooks_that_could_not_work_or_hold_a_secret_are_refused(hooks: list[object], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        AlertSettings.model_validate({"hooks": hooks})


def test_hooks_outlive_the_active_configuration() -> None:
    chosen = AlertSettings.model_validate({"hooks": [WEBHOOK, EMAIL | {"minimum": "error"}]})
    assert AlertSettings.model_validate(chosen.model_dump(mode="json")) == chosen


def test_example_of_production_has_hooks_that_fit() -> None:
    """Commented out, so that nobody is told by accident; what is said of it has to hold all the same."""
    example = (ROOT / "config" / "production.example.yaml").read_text(encoding="utf-8")
    section = example[example.index("# alerts:\n") :].split("\n\n")[0]
    settings = read_yaml(re.sub(r"^# ", "", section, flags=re.MULTILINE))
    assert [hook.kind for hook in AlertSettings.model_validate(settings["alerts"]).hooks] == ["webhook", "email"]


def test_paths_of_hooks_are_relative_to_the_settings_file(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    file = tmp_path / "config" / "sandbox.yaml"
    hook = json.dumps({"hooks": [WEBHOOK | {"ca_bundle": "hooks.pem"}, EMAIL]})
    file.write_text(file.read_text(encoding="utf-8") + f"\nalerts: {hook}\n", encoding="utf-8")
    webhook, email = load(file).settings.alerts.hooks
    assert (webhook.ca_bundle, email.ca_bundle) == (tmp_path / "config" / "hooks.pem", None)
