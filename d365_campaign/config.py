"""Configuration: YAML files into frozen models. Every error names the file, the place in it and the remedy."""

import json
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from d365_campaign import guardrails
from d365_campaign.errors import ConfigurationError
from d365_campaign.mapping import CONTACT, PROFILE, FieldMapping, TableMapping
from d365_campaign.opt_out import ATTRIBUTES, GLOBAL, OptOutDirection, OptOutPair, OptOuts
from d365_campaign.settings import PRIVACY_TEXT, Hook, OptOutSettings, Section, Settings, StagingSettings


class Configuration(Section):
    """Settings with their table mappings, parents before children.

    Relative paths in *settings* are resolved against the settings file.
    """

    settings: Settings
    tables: Sequence[TableMapping]

    @property
    def opt_outs(self) -> OptOuts:
        """The pairs that are kept in step, wherever they are configured."""
        chosen = self.settings.opt_outs
        mapped = [f for table in self.tables if table.source == CONTACT for f in table.opt_outs]
        pairs: Mapping[OptOutDirection, Sequence[OptOutPair]] = {
            OptOutDirection.DISABLED: (),
            OptOutDirection.DYNAMICS_TO_CAMPAIGN: [OptOutPair(source=f.source, target=f.target) for f in mapped],
        }
        return OptOuts(chosen.direction, pairs.get(chosen.direction, chosen.pairs), chosen.global_stamps)

    def table(self, name: str) -> TableMapping:
        """The mapping of Dynamics table *name*. Raises ConfigurationError with the names there are."""
        for table in self.tables:
            if table.name == name:
                return table
        raise ConfigurationError(
            f"there is no table mapping '{name}'; there are: {', '.join(t.name for t in self.tables)}"
        )


def load(path: Path) -> Configuration:
    """Read a settings file and the table mappings it names.

    Raises ConfigurationError that lists every fault of every file.
    """
    faults: list[str] = []
    content = _content(path, faults)
    settings = _validated(path, content, Settings, faults)
    folder = path.parent / (settings.tables if settings else _tables_named(content))
    files = _table_files(folder, faults) if content is not None else []
    read = [_validated(file, _content(file, faults), TableMapping, faults) for file in files]
    tables = [table for table in read if table]
    faults += _mapped_more_than_once(tables)
    if settings:
        faults += guardrails.faults(tables, settings.guardrails, complete=len(tables) == len(files))
        faults += _unaccepted(path, settings)
        faults += [f"{path}, opt_outs: {fault}" for fault in opt_out_faults(settings, tables)]
    if faults or settings is None:
        raise _refusal(faults)
    return Configuration(settings=_resolved(settings, path.parent), tables=guardrails.parents_first(tables))


class Place(NamedTuple):
    """Where something stands in a configuration file; lines count from 1."""

    file: Path
    line: int


def places(folder: Path) -> Mapping[str, Place]:
    """Where each table mapping of *folder* names its table, by that name; a file that is at fault is left out."""
    found: dict[str, Place] = {}
    for file in _table_files(folder, []):
        try:
            node = yaml.compose(file.read_text(encoding="utf-8"), _Loader)
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.value == "source":
                found[str(value.value)] = Place(file.resolve(), key.start_mark.line + 1)
    return found


def json_schema() -> dict[str, Any]:
    """JSON Schema of both kinds of file, for editors; `$defs` has `Settings` and `TableMapping`."""
    settings = Settings.model_json_schema(ref_template="#/$defs/{model}")
    table = TableMapping.model_json_schema(ref_template="#/$defs/{model}")
    shared = settings.pop("$defs", {}) | table.pop("$defs", {})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "d365_campaign configuration",
        "anyOf": [{"$ref": "#/$defs/Settings"}, {"$ref": "#/$defs/TableMapping"}],
        "$defs": shared | {"Settings": settings, "TableMapping": table},
    }


def render_json_schema() -> str:
    """The schema file's text, as it is committed."""
    return json.dumps(json_schema(), indent=2) + "\n"


# What a bare word is besides text: its tag, what it looks like, and with what it begins.
_WORDS = [
    ("null", r"^(~|null|)$", ["~", "n", ""]),
    ("bool", r"^(true|false)$", ["t", "f"]),
    ("number", r"^-?[0-9]{1,18}(\.[0-9]{1,18})?$", [*"-0123456789"]),
]
_TAG = "tag:yaml.org,2002:{0}"


class _Loader(yaml.SafeLoader):
    """YAML that reads text as it is written, and takes no key twice.

    Of its own accord it would read `No` as false, `on` as true, `22:00` as 1320, `1.10` as 1.1 and a day as something
    else than text, and of a key that stands twice it would take the last value in silence.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        content = super().construct_mapping(node, deep=deep)
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' stands twice", key_node.start_mark)
            seen.add(key)
        return content

    def construct_number(self, node: yaml.ScalarNode) -> int | float | str:
        """The number, where it would be written just like this."""
        number = float(node.value) if "." in node.value else int(node.value)
        return number if str(number) == node.value else str(node.value)


_Loader.yaml_implicit_resolvers = {
    first: [(_TAG.format(tag), re.compile(pattern))] for tag, pattern, begins in _WORDS for first in begins
}
_Loader.add_constructor(_TAG.format("number"), _Loader.construct_number)


def read_yaml(text: str) -> Any:
    """The content of a configuration file. Raises yaml.YAMLError."""
    return yaml.load(text, _Loader)


Model = TypeVar("Model", bound=BaseModel)


def _content(path: Path, faults: list[str]) -> Any:
    """What stands in the file; None where it can't be read."""
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
        return {} if content is None else content
    except FileNotFoundError:
        faults.append(f"{path}: there is no such file. Create it, or name another with --config.")
    except OSError as error:
        faults.append(f"{path}: can't be read ({type(error).__name__}). Name a file that this user may read.")
    except UnicodeDecodeError:
        faults.append(f"{path}: this is not a text file in UTF-8. Save it as one.")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark else ""
        faults.append(f"{path}{at}: this is not YAML ({getattr(error, 'problem', None) or 'unreadable'}).")
    return None


def _validated(path: Path, content: Any, model: type[Model], faults: list[str]) -> Model | None:
    if content is None:
        return None
    try:
        return model.model_validate(content)
    except ValidationError as error:
        faults.extend(_described(path, fault) for fault in error.errors(include_url=False, include_input=False))
    return None


# What a person does about a fault that pydantic finds; anything else has its remedy in the message itself.
_REMEDIES = {
    "extra_forbidden": "unknown key. Remove it, or correct its spelling.",
    "missing": "is missing. Add it.",
    "too_short": "is empty. Add one at least.",
    "string_too_short": "is empty. Fill it in.",
    "model_type": "must be a group of keys.",
    "model_attributes_type": "must be a group of keys.",
    "dict_type": "must be a group of keys.",
    "mapping_type": "must be a group of keys.",
    "sequence_str": "must be a list.",
    "is_instance_of": "must be a list.",
    "string_type": "must be text. Put it in quotes.",
    "bool_type": "must be true or false.",
    "bool_parsing": "must be true or false.",
    "int_type": "must be a whole number.",
    "int_parsing": "must be a whole number.",
    "int_from_float": "must be a whole number.",
    "float_type": "must be a number.",
    "float_parsing": "must be a number.",
    "path_type": "must be a path, as text.",
    "string_pattern_mismatch": "is not a name that either system could have. Correct it.",
}


def _described(path: Path, fault: Mapping[str, Any]) -> str:
    kind, place = fault["type"], [part for part in fault["loc"] if part != "[key]"]
    at = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    if at.endswith("client_secret") or at == "webhook.key":
        return f"{path}, {at}: a secret is given by environment variable only: {{env: NAME}}."
    message = str(fault["msg"]).removeprefix("Value error, ").replace("Input should", "must", 1).removesuffix(".")
    remedy = "must be a day, as YYYY-MM-DD." if kind.startswith("date_") else _REMEDIES.get(kind, f"{message}.")
    return f"{path}, {at}: {remedy}" if at else f"{path}: {remedy}"


def _tables_named(content: Any) -> Path:
    """The folder of table mappings in settings that are at fault elsewhere."""
    named = content.get("tables", "") if isinstance(content, dict) else ""
    return Path(named if isinstance(named, str) and named else "tables")


def _table_files(folder: Path, faults: list[str]) -> list[Path]:
    files = sorted(file for file in folder.glob("*") if file.suffix in (".yaml", ".yml"))
    if not files:
        faults.append(f"{folder}: there is no table mapping. Add one, for instance contact.yaml.")
    return files


def _mapped_more_than_once(tables: Sequence[TableMapping]) -> list[str]:
    return [
        f"{side} '{name}' is mapped {count} times. A table can be mapped once on each side; keep one of these mappings."
        for side, names in (
            ("Dynamics table", [t.source for t in tables]),
            ("Campaign resource", [t.target for t in tables]),
        )
        for name, count in Counter(names).items()
        if count > 1
    ]


def _unaccepted(path: Path, settings: Settings) -> list[str]:
    accepted = settings.privacy.acknowledged
    if accepted is not None and accepted.text == PRIVACY_TEXT:
        return []
    return [
        f"{path}, privacy.acknowledged: nothing runs before someone accepted text {PRIVACY_TEXT}: privacy requests are "
        "made by you, in both systems, by the procedure of docs/privacy.md; this project makes none, and a delete by "
        f"it is none. Add: privacy: {{acknowledged: {{by: NAME, on: YYYY-MM-DD, text: {PRIVACY_TEXT}}}}}"
    ]


def opt_out_faults(settings: Settings, tables: Sequence[TableMapping]) -> Iterator[str]:
    """What doesn't fit together in the opt-outs of an integration, each fault with its remedy."""
    chosen, direction = settings.opt_outs, settings.opt_outs.direction
    contact = next((table for table in tables if table.source == CONTACT and table.target == PROFILE), None)
    mapped = contact.opt_outs if contact else []
    if direction is not OptOutDirection.DISABLED and contact is None:
        yield "contacts are not mapped to profiles, so there is nobody to opt out. Add contact.yaml, or disable them."
    if direction is OptOutDirection.DYNAMICS_TO_CAMPAIGN:
        yield from _dynamics_to_campaign_faults(chosen, contact, mapped)
    if direction.reads_exports:
        yield from _export_faults(settings, contact)
    for name, pairs in (("column", [p.source for p in chosen.pairs]), ("opt-out", [p.target for p in chosen.pairs])):
        for twice in [value for value, count in Counter(pairs).items() if count > 1]:
            yield f"{name} '{twice}' stands in several pairs. Each attribute has one writer; keep one of them."
    used = {*(p.target for p in chosen.pairs), *(f.target for f in mapped)}
    if GLOBAL in used and not chosen.global_opt_out_accepted:
        yield (
            f"'{GLOBAL}' stops every message to a person, order confirmations included. Review the typology rules in "
            "Campaign first, and say who did: global_opt_out_accepted: {by: NAME, on: YYYY-MM-DD}. Or map channels."
        )


def _dynamics_to_campaign_faults(
    chosen: OptOutSettings, contact: TableMapping | None, mapped: Sequence[FieldMapping]
) -> Iterator[str]:
    if chosen.pairs:
        yield "in dynamics_to_campaign, opt-outs are mapped in the fields of contact. Move the pairs there."
    if contact is not None and not mapped:
        yield "dynamics_to_campaign has nothing to do: map an opt-out such as blackListEmail in the fields of contact."
    if contact is not None and len(mapped) == len(contact.fields):
        yield "contact maps opt-outs only. Map at least one other field, so that there are profiles to write them to."
    for field in mapped:
        if field.replacements or not field.apply_updates:
            yield f"'{field.target}' is an opt-out: it can have neither replacements nor apply_updates: false."


def _export_faults(settings: Settings, contact: TableMapping | None) -> Iterator[str]:
    chosen = settings.opt_outs
    if not chosen.pairs:
        yield f"{chosen.direction} has no pairs, and there are none by default. Add which column says what: pairs."
    mapped = [(field.target, "is mapped in the fields") for field in contact.opt_outs] if contact else []
    constant = [(name, "stands in on_create") for name in contact.on_create if name in ATTRIBUTES] if contact else []
    for name, place in [*mapped, *constant]:
        yield (
            f"'{name}' {place} of contact. In {chosen.direction} each opt-out has one writer: pair it in "
            "opt_outs.pairs, and remove it there."
        )
    if settings.sftp is None:
        yield f"{chosen.direction} reads Campaign's daily files from SFTP. Add the section sftp."
    if chosen.workflow is None:
        yield (
            f"{chosen.direction} needs the Campaign workflow that exports opt-outs: ask your Adobe contact to set it "
            "up, and give its id as workflow."
        )


def _resolved(settings: Settings, folder: Path) -> Settings:
    sftp, hooks = settings.sftp, settings.alerts.hooks
    known_hosts = sftp and sftp.known_hosts and (folder / sftp.known_hosts)
    environment_file = settings.environment_file and folder / settings.environment_file
    return settings.model_copy(
        update={
            "environment_file": environment_file,
            "tables": folder / settings.tables,
            "staging": StagingSettings(path=(folder / settings.staging.path).resolve()),
            "sftp": sftp and sftp.model_copy(update={"known_hosts": known_hosts}),
            "alerts": settings.alerts.model_copy(update={"hooks": [_with_trust(h, folder) for h in hooks]}),
        }
    )


def _with_trust(hook: Hook, folder: Path) -> Hook:
    return hook.model_copy(update={"ca_bundle": hook.ca_bundle and folder / hook.ca_bundle})


def _refusal(faults: Sequence[str]) -> ConfigurationError:
    return ConfigurationError("the configuration is refused:\n" + "\n".join(f"  - {fault}" for fault in faults))
