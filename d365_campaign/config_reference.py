"""docs/configuration.md, made from the models: every key of both kinds of file, with its type, default and meaning."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from d365_campaign.config import json_schema

Schema = Mapping[str, Any]
# The two files, and how each is introduced.
FILES = {
    "Settings": (
        "Settings",
        "One file for an integration: one Dynamics environment, one Campaign instance, one staging file. "
        "`D365_CAMPAIGN_CONFIG` or `--config` names it.",
    ),
    "TableMapping": ("Table mapping", "One file for each table, in the folder that `tables` names."),
}
INTRODUCTION = """# Configuration reference

Made from the models by `d365-campaign schema`; edit the descriptions there. Editors complete and check both kinds of
file from [config/schema.json](../config/schema.json), when a file begins with
`# yaml-language-server: $schema=schema.json`.

A key in **bold** must be there; all others have the default that is shown. No other key is taken, none may stand twice,
and every mistake of all files is told at once, each with its file and key: `d365-campaign check`. What is meant as text
is read as it is written: `no`, `22:00` and `1.10` stay what they are.

Where `{env: NAME}` is a type, the value may stand in the environment variable of that name; a secret must.
"""
REFERENCE = "EnvironmentReference"
BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}


def render() -> str:
    """The page's text, as it is committed."""
    models = json_schema()["$defs"]
    pages = [INTRODUCTION]
    told: list[str] = []
    for name, (title, words) in FILES.items():
        pages.append(f"## {title}\n\n{words}\n\n{_table(models[name], models)}")
        for part in _parts(models[name], models, told):
            model = models[part]
            pages.append(f"### {part}\n\n{_one_line(model.get('description', ''))}\n\n{_table(model, models)}")
    return "\n".join(pages)


def _parts(model: Schema, models: Mapping[str, Schema], told: list[str]) -> Iterator[str]:
    """The groups of keys below *model*, in the order in which they are met, each once."""
    for field in model.get("properties", {}).values():
        for name in _named(field):
            if name not in (*told, REFERENCE) and "properties" in models[name]:
                told.append(name)
                yield name
                yield from _parts(models[name], models, told)


def _named(field: object) -> Iterator[str]:
    """The models that a field refers to."""
    if isinstance(field, Mapping):
        if "$ref" in field:
            yield str(field["$ref"]).rsplit("/", 1)[-1]
        for inner in field.values():
            yield from _named(inner)
    elif isinstance(field, Sequence) and not isinstance(field, str):
        for inner in field:
            yield from _named(inner)


def _table(model: Schema, models: Mapping[str, Schema]) -> str:
    required = model.get("required", ())
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model["properties"].items():
        key = f"**`{name}`**" if name in required else f"`{name}`"
        meaning = field.get("description") or _described(field, models)
        default = "" if name in required else _default(field)
        rows.append(f"| {key} | {_type(field, models)} | {default} | {_cell(meaning)} |")
    return "\n".join(rows) + "\n"


def _described(field: Schema, models: Mapping[str, Schema]) -> str:
    """What the model that stands there says of itself; its first sentence."""
    words = " ".join(str(models[name].get("description", "")) for name in _named(field))
    return _one_line(words.split("\n\n")[0])


def _type(field: Schema, models: Mapping[str, Schema]) -> str:
    if "$ref" in field:
        name = str(field["$ref"]).rsplit("/", 1)[-1]
        target = models[name]
        if name == REFERENCE:
            return "`{env: NAME}`"
        return f"[{name}](#{name.lower()})" if "properties" in target else _type(target, models)
    if "anyOf" in field:
        kinds = dict.fromkeys(_type(option, models) for option in field["anyOf"] if option.get("type") != "null")
        return " or ".join(kinds)
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    kind = str(field.get("type", "any"))
    if kind == "array":
        return f"list of {_type(field.get('items', {}), models)}"
    if kind == "object":
        return f"map to {_type(field['additionalProperties'], models)}" if "additionalProperties" in field else "map"
    words = {"string": "text", "boolean": "yes/no"}.get(kind, kind)
    if field.get("format") in ("path", "date", "time", "date-time"):
        words = str(field["format"]).replace("date-time", "moment")
    bounds = [form.format(f"{field[name]:,}") for name, form in BOUNDS.items() if name in field]
    return " ".join([words, ", ".join(bounds)]).strip()


def _default(field: Schema) -> str:
    """As it would stand in the file; a group's own defaults stand in its own table."""
    default = field.get("default")
    if default in (None, []) or isinstance(default, Mapping):
        return ""
    shown = default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)
    return f"`{shown.replace('|', chr(92) + '|')}`"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _one_line(text).replace("|", "\\|").replace("<", "\\<")
