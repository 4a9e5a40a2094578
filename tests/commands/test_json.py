"""`--json` prints what its help says it prints, and nothing beside it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from d365_campaign.cli import main
from d365_campaign.sandbox import Sandbox
from tests.flowing import Flowing
from tests.integration import Integration
from tests.opting_out import EMAIL_AND_PHONE

# An object by the names of its members, a list by what is in it, anything else by None.
Shape = Mapping[str, Any] | list[Any] | None
KEY, FORGOTTEN = "KEY", "FORGOTTEN"


def shape_of(words: list[str]) -> Shape:
    """What the words of a help, such as `{` `flows` `:` `[` ... `]` `}`, describe; they are used up."""
    first = words.pop(0)
    if first == "[":
        inner = shape_of(words)
        assert words.pop(0) == "]"
        return [inner]
    if first != "{":
        while words and words[0] not in (",", "}", "]"):
            words.pop(0)
        return None
    members: dict[str, Any] = {}
    while words[0] != "}":
        name = words.pop(0)
        has_shape = words[0] == ":" and words.pop(0)
        members[name] = shape_of(words) if has_shape else None
        if words[0] == ",":
            words.pop(0)
    words.pop(0)
    return members


def documented(*path: str) -> Shape:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    [option] = [each for each in command.params if isinstance(each, click.Option) and "--json" in each.opts]
    told = (option.help or "").removeprefix("Print JSON: ")
    if told.startswith("what status --json prints"):
        return documented("status")
    return shape_of(re.findall(r"\.\.\.|\w+|[\[\]{}:,]", told))


def assert_fits(printed: Any, shape: Shape) -> None:
    if isinstance(shape, list):
        assert isinstance(printed, list)
        for each in printed:
            assert_fits(each, None if shape == ["..."] else shape[0])
    elif shape is not None and printed is not None:
        assert isinstance(printed, dict)
        named = {name for name in shape if name not in ("TABLE", "...")}
        assert named <= set(printed)
        assert "TABLE" in shape or "..." in shape or set(printed) == named
        for name, value in printed.items():
            assert_fits(value, shape[name] if name in named else shape.get("TABLE"))


@pytest.fixture
def flowing(sandbox: Sandbox, integration: Integration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flowing:
    integration.keep_opt_outs("bidirectional", EMAIL_AND_PHONE)
    return Flowing(integration, tmp_path / "home", monkeypatch)


# In an order in which each of them finds something to tell.
COMMANDS: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (("check",), ()),
    (("plan",), ()),
    (("sync",), ()),
    (("rejects",), ("contact",)),
    (("rejects",), ("contact", "--retry")),
    (("trace",), (KEY,)),
    (("replay",), ("contact",)),
    (("replay",), ("contact", "--withdraw")),
    (("accept-schema",), ("contact",)),
    (("engine-calls",), ()),
    (("opt-out", "explain"), (KEY,)),
    (("opt-out", "audit"), ()),
    (("opt-out", "exports"), ()),
    (("hold",), (KEY, "--by", "Ada")),
    (("holds",), ()),
    (("release",), (KEY,)),
    (("forget",), (FORGOTTEN, "--yes")),
    (("start",), ()),
    (("status",), ()),
    (("stop",), ()),
]


def test_what_is_printed_is_what_the_help_tells(sandbox: Sandbox, flowing: Flowing) -> None:
    keys = {KEY: sandbox.seed(contacts=1)[0]}
    keys[FORGOTTEN] = sandbox.dataverse.create("contact", {"firstname": "x" * 40, "lastname": "Lovelace"})
    for path, arguments in COMMANDS:
        ended = flowing.say(*path, *(keys.get(word, word) for word in arguments), "--json")
        assert ended.exit_code in (0, 1), (path, ended.output)
        printed = json.loads(ended.stdout)
        shape = documented(*path)
        assert shape, path
        assert printed, path
        assert_fits(printed, shape)


def test_forget_asks_nothing_back_from_a_machine(flowing: Flowing) -> None:
    ended = flowing.say("forget", "5c1b2f0e-8d0a-4b7e-9a55-0c7d3f1f2a11", "--json")
    assert (ended.exit_code, ended.stdout, "Give --yes with it" in ended.stderr) == (2, "", True)


def test_an_undocumented_or_missing_member_would_be_seen() -> None:
    shape = shape_of(re.findall(r"\.\.\.|\w+|[\[\]{}:,]", "{flows: [{name, state, ...}], faults}"))
    assert shape == {"flows": [{"name": None, "state": None, "...": None}], "faults": None}
    assert_fits({"flows": [{"name": 1, "state": 2, "more": 3}], "faults": None}, shape)
    for wrong in ({"flows": []}, {"flows": [{"name": 1}], "faults": 0}, {"flows": [], "faults": 0, "more": 1}):
        with pytest.raises(AssertionError):
            assert_fits(wrong, shape)
