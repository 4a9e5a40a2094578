"""What must hold of opt-outs, in plain Python, by what the stand-ins of both systems hold. Nothing of ours is used.

The journal hears of every write to a contact or a profile, with the record as it was just before, and knows by whom it
was: requests are served by the sandbox's own thread, people edit from any other. Each write of ours is judged at once.

TRUE and FALSE below are opt-outs; where a pair is inverted, the column says the opposite.
"""

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from d365_campaign.sandbox import Sandbox

SERVER = "sandbox"
ARRIVALS = ("late", "out_of_order", "duplicate")  # a file that is sound, though it comes at another time
TICK = 0.001  # seconds that a write takes: no two changes of a profile bear the same time
PUSH = "blackListPushnotification"
Pair = tuple[str, str, bool]
Record = Mapping[str, Any]


def opted_out(pair: Pair, contact: Record) -> bool:
    """Whether a contact opts out; an empty column is no opt-out."""
    return bool(contact[pair[0]] is (not pair[2]))


def seconds(stamp: Any) -> datetime | None:
    """A stamp of either system in whole seconds (UTC); None for none."""
    if not stamp:
        return None
    moment = stamp if isinstance(stamp, datetime) else datetime.fromisoformat(str(stamp))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).replace(microsecond=0)


def campaign_is_newer(pair: Pair, profile: Record, modified: Any) -> bool:
    """By the truth table: the opt-out's own time against the whole contact's; an unknown one is never newer."""
    changed, contact_changed = seconds(profile.get(f"{pair[1]}LastModified")), seconds(modified)
    return changed is not None and contact_changed is not None and changed > contact_changed


@dataclass
class Person:
    """What is known of one key beyond what both systems hold now."""

    told: list[Record] = field(default_factory=list)
    """What Dynamics told us, last one last; earlier ones count while we may have been killed before they were kept."""
    read: Record | None = None
    """The profile when we read it last in this step."""
    profiles: list[Record | None] = field(default_factory=lambda: [None])
    """Every state of the profile."""
    seen: int = 0
    """The latest of them that we read live, and kept."""
    heard: int = 0
    """The latest of them that we read live or in a file, and kept."""
    seen_now: int = 0
    heard_now: int = 0
    """The same in this step, which may not come to its end."""


class Journal:
    """Watches one sandbox, sequence after sequence."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._watch()
        self.begin("bidirectional", [])

    def begin(self, direction: str, pairs: Sequence[Pair]) -> None:
        self._direction, self.pairs = direction, pairs
        self.people: dict[str, Person] = defaultdict(Person)
        self.violations: list[str] = []
        self.last_word: dict[tuple[str, str], str] = {}
        """By key and Campaign's name of the opt-out: who changed it last, `campaign`, `dynamics` or `us`; `before` is
        what was so when Campaign's word was taken as it is."""
        self.renamed: dict[str, bool] = {}
        """Keys of contacts whose name changed after any opt-out in Campaign did."""
        self.news: set[tuple[str, str]] = set()
        """Opt-outs that people may have changed in Campaign since we last acted on them."""
        self.acted: set[tuple[str, str]] = set()
        self.changed: set[tuple[str, str]] = set()
        """Opt-outs that we acted on, and those that people changed in Campaign, in this step."""
        self._exported: dict[str, dict[str, int]] = {}
        """By file that is sound: the state of each profile in it."""
        self.begun = False
        """Whether a run has met what Campaign said at first, of which FALSE is no news."""

    # --- steps of the integration

    def begin_step(self) -> None:
        self.acted.clear()
        self.changed.clear()
        for person in self.people.values():
            person.read, person.seen_now, person.heard_now = None, 0, 0

    def end_step(self) -> None:
        """It came to its end: what it was told it keeps."""
        for person in self.people.values():
            del person.told[:-1]
            person.seen = max(person.seen, person.seen_now)
            person.heard = max(person.seen, person.heard, person.heard_now)
        self.news -= {about for about in self.acted - self.changed if not self._changed_since_heard(*about)}

    def _changed_since_heard(self, key: str, attribute: str) -> bool:
        """Whether somebody decided otherwise after what we acted on was read: of that we are yet to hear."""
        person = self.people[key]
        return len({bool((profile or {}).get(attribute)) for profile in person.profiles[person.heard :]}) > 1

    def told_by_dynamics(self, key: str, row: Record) -> None:
        self.people[key].told.append(dict(row))

    def read_in_campaign(self, key: str) -> None:
        person, profile = self.people[key], self.profile(key)
        person.read, person.seen_now = profile, len(person.profiles) - 1

    def took_file(self, name: str) -> None:
        for key, number in self._exported.get(name, {}).items():
            self.people[key].heard_now = max(self.people[key].heard_now, number)

    # --- what both hold

    def profile(self, key: str) -> Record | None:
        return self._sandbox.campaign.find("profile", "externalId", key)

    def contact(self, key: str) -> Record | None:
        row = self._sandbox.dataverse.table("contact").rows.get(key)
        return None if row is None else self._sandbox.dataverse.table("contact").as_dict(row)

    def wrong(self, what: str) -> None:
        self.violations.append(what)

    # --- what is written

    def _watch(self) -> None:
        campaign, dataverse = self._sandbox.campaign, self._sandbox.dataverse
        insert, change, drop, store, delete = (
            campaign.insert, campaign.change, campaign.drop, dataverse._store, dataverse.delete,
        )  # fmt: skip

        def inserted(resource: Any, values: Record) -> Any:
            record = insert(resource, values)
            self._sandbox.clock.advance(TICK)
            if resource.definition.name == "profile":
                self._profile_written(str(record.values.get("externalId", "")), None, dict(record.values), values)
            return record

        def changed(resource: Any, record: Any, values: Record, address: str) -> None:
            before = dict(record.values)
            change(resource, record, values, address)
            self._sandbox.clock.advance(TICK)
            if resource.definition.name == "profile":
                self._profile_written(str(before.get("externalId", "")), before, dict(record.values), values)

        def dropped(resource: Any, record: Any) -> None:
            drop(resource, record)
            if resource.definition.name == "profile":
                self._profile_gone(str(record.values.get("externalId", "")))

        def stored(table: Any, row_id: str, values: Any, old: Any = None, written: Any = None) -> None:
            before = None if old is None else table.as_dict(old)
            store(table, row_id, values, old, written)
            self._sandbox.clock.advance(TICK)
            if table.definition.name == "contact":
                named = [table.columns[index].name for index in written or ()]
                self._contact_written(row_id, before, table.as_dict(table.rows[row_id]), named)

        def deleted(table: str, row_id: str) -> None:
            if self._ours:
                self.wrong(f"we deleted {row_id} in Dynamics")
            delete(table, row_id)

        export = campaign.opt_out_export._export

        def exported(profiles: Any, moment: Any, fault: Any) -> Any:
            name = export(profiles, moment, fault)
            if name is not None and (fault is None or fault.kind in ARRIVALS):
                keys = [profile["externalId"] for profile in profiles if "externalId" in profile]
                self._exported[name] = {key: len(self.people[key].profiles) - 1 for key in keys}
            return name

        campaign.opt_out_export._export = exported  # type: ignore[method-assign]
        campaign.insert, campaign.change, campaign.drop = inserted, changed, dropped  # type: ignore[method-assign]
        dataverse._store, dataverse.delete = stored, deleted  # type: ignore[method-assign]

    @property
    def _ours(self) -> bool:
        return threading.current_thread().name == SERVER

    def _profile_gone(self, key: str) -> None:
        if self._direction == "dynamics_to_campaign":  # nobody tells us, nor of one that a person makes in its place
            self.news |= {(key, pair[1]) for pair in self.pairs if (self.people[key].profiles[-1] or {}).get(pair[1])}
            self.renamed[key] = False
        self.people[key].profiles.append(None)
        self.last_word.update({(key, pair[1]): "before" for pair in self.pairs})

    def _profile_written(self, key: str, before: Record | None, after: Record, written: Record) -> None:
        self.people[key].profiles.append(after)
        for pair in self.pairs:
            was, now = bool((before or {}).get(pair[1])), bool(after.get(pair[1]))
            if self._ours:
                if pair[1] in written:
                    self._judge_to_campaign(key, pair, before, was, now)
                    self.last_word[key, pair[1]] = "us"
                    self.news.discard((key, pair[1]))
            elif was is not now:
                self.last_word[key, pair[1]] = "campaign" if now or self.begun else "before"
                self.renamed[key] = False
                self.news.add((key, pair[1]))
                self.changed.add((key, pair[1]))

    def _contact_written(self, key: str, before: Record | None, after: Record, named: Sequence[str]) -> None:
        if self._ours:
            self._judge_columns(key, before, named)
        elif before is None or before["firstname"] != after["firstname"]:
            self.renamed[key] = True
        for pair in self.pairs:
            was, now = before is not None and opted_out(pair, before), opted_out(pair, after)
            if self._ours and before is not None and pair[0] in named:
                self._judge_to_dynamics(key, pair, before, was, now)
            if before is None or was is not now:
                self.last_word[key, pair[1]] = "us" if self._ours else "dynamics"

    def _judge_columns(self, key: str, before: Record | None, named: Sequence[str]) -> None:
        others = set(named) - {pair[0] for pair in self.pairs}
        if before is None or others or self._direction == "dynamics_to_campaign":
            self.wrong(f"we wrote {', '.join(named) or 'a new row'} of {key} to Dynamics")

    def _judge_to_campaign(self, key: str, pair: Pair, before: Record | None, was: bool, now: bool) -> None:
        person = self.people[key]
        if self._direction == "campaign_to_dynamics":
            self.wrong(f"we wrote {pair[1]} of {key}, of which Campaign is the source of truth")
        elif self._direction == "dynamics_to_campaign":
            if not any(opted_out(pair, row) is now for row in person.told):
                self.wrong(f"we wrote {pair[1]} {now} to {key}, which is not what Dynamics says")
            if before is None and not now:
                self.wrong(f"we created {key} with {pair[1]} FALSE, which could stamp it")
        elif not now:
            self.wrong(f"we wrote {pair[1]} FALSE to {key}")
        elif not was:
            said = person.read or {}
            known = [row for row in person.told if opted_out(pair, row)]
            if not any(not campaign_is_newer(pair, said, row["modifiedon"]) for row in known):
                self.wrong(f"we wrote {pair[1]} TRUE to {key}, which Dynamics didn't say, or before Campaign did FALSE")

    def _judge_to_dynamics(self, key: str, pair: Pair, before: Record, was: bool, now: bool) -> None:
        person, about = self.people[key], (key, pair[1])
        if was is now:
            return
        known = person.profiles[person.heard if self._times_are_told(pair) else person.seen :]
        if now and not any(bool((profile or {}).get(pair[1])) for profile in known):
            self.wrong(f"we wrote {pair[0]} TRUE to {key}, and Campaign said FALSE ever since we learned of it")
        if not now:
            self._judge_opt_in(key, pair, before)
        if self._direction == "campaign_to_dynamics":
            if about not in self.news:
                self.wrong(f"we wrote {pair[0]} {now} to {key}, and nothing changed in Campaign")
            self.acted.add(about)

    def _judge_opt_in(self, key: str, pair: Pair, before: Record) -> None:
        """FALSE over an opt-out in Dynamics: only by Campaign's live word, and where that allows it."""
        read = self.people[key].read
        if read is None:
            self.wrong(f"we wrote {pair[0]} FALSE to {key} without reading Campaign first")
        elif read.get(pair[1]):
            self.wrong(f"we wrote {pair[0]} FALSE to {key}, and Campaign said TRUE")
        elif seconds(read.get(f"{pair[1]}LastModified")) is None:
            self.wrong(f"we wrote {pair[0]} FALSE to {key}, and Campaign doesn't tell since when it says so")
        elif self._direction == "bidirectional" and not campaign_is_newer(pair, read, before["modifiedon"]):
            self.wrong(f"we wrote {pair[0]} FALSE to {key}, and the contact changed no earlier than Campaign")

    # --- at rest

    def standing(self, keys: Sequence[str]) -> Mapping[tuple[str, str], bool | None]:
        """What is to come of each opt-out of the contacts when nobody does anything more; None where both may be."""
        return {
            (key, pair[1]): self._to_come(key, pair, contact)
            for key in keys
            if (contact := self.contact(key)) is not None
            for pair in self.pairs
        }

    def _to_come(self, key: str, pair: Pair, contact: Record) -> bool | None:
        profile, about = self.profile(key) or {}, (key, pair[1])
        campaign, dynamics = bool(profile.get(pair[1])), opted_out(pair, contact)
        if not profile and not dynamics and self._opted_out_before_it_went(key, pair[1]):
            return None
        if campaign is dynamics:
            return dynamics
        if self._direction == "bidirectional":
            return campaign if campaign_is_newer(pair, profile, contact["modifiedon"]) else True
        if self._direction == "dynamics_to_campaign":
            return dynamics if self.renamed.get(key) or about not in self.news else None
        return campaign if self._times_are_told(pair) and self.last_word.get(about) == "campaign" else None

    def _opted_out_before_it_went(self, key: str, attribute: str) -> bool:
        """Whether a profile that is gone said TRUE since we heard of it last: a file that tells so may come yet."""
        person = self.people[key]
        return any((profile or {}).get(attribute) for profile in person.profiles[person.heard :])

    def _times_are_told(self, pair: Pair) -> bool:
        """Whether files tell when this opt-out changed."""
        return pair[1] != PUSH or bool(self._sandbox.settings.export_push_stamp)

    def rested(self) -> None:
        """All that happened was acted on, where it is heard of: only what people do from now on is news.

        An opt-out of a profile whose contact isn't there yet waits for it.
        """
        if self._direction != "dynamics_to_campaign":
            self.news = {
                (key, attribute)
                for key, attribute in self.news
                if self.contact(key) is None and (self.profile(key) or {}).get(attribute)
            }
