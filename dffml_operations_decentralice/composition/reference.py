"""
The settings of all operations: as a JSON schema of overlays, and as a page for people

Both are made of the settings classes, as is what checks the values.
"""

import dataclasses
import textwrap
from typing import (
    Any,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Sequence,
    get_args,
    get_origin,
    get_type_hints,
)

from ..engine.settings import describe, entry_class, is_settings, plain
from . import SHAPES, compose, settings_of

TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}
WORDS = {dict: "object", list: "array", bool: "boolean"}


class Table(NamedTuple):
    """The settings of an operation"""

    name: str
    settings: Any
    overlay: str  # which brings them; empty of the flow's own
    given: Dict[str, Any]  # what the flow says of them


def tables(overlays: Sequence[str] = ()) -> List[Table]:
    """Those of the flow, then those that each of the overlays brings"""
    base = compose()
    own = {name: settings_of(name, one) for name, one in base.operations.items()}
    found = [
        Table(name, one, "", base.settings(name))
        for name, one in sorted(own.items())
        if one
    ]
    for overlay in overlays:
        composition = compose([overlay])
        for name, operation in sorted(composition.operations.items()):
            settings = settings_of(name, operation)
            if settings and settings is not own.get(name):
                found.append(Table(name, settings, overlay, {}))
    return found


def schema(known: List[Table]) -> Dict[str, Any]:
    """Of overlays. https://json-schema.org/draft/2020-12"""
    parts = {name: {"type": WORDS[shape]} for name, shape in SHAPES.items()}
    found: Dict[str, List] = {}
    for table in known:
        found.setdefault(table.name, []).append(of_class(table.settings))
    configs = {
        name: one[0] if len(one) == 1 else {"anyOf": one} for name, one in found.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An overlay of OS DecentrAlice",
        "type": "object",
        "additionalProperties": False,
        "properties": {**parts, "configs": {"type": "object", "properties": configs}},
    }


def of_class(settings: Any) -> Dict[str, Any]:
    """The schema of a mapping of settings"""
    types = get_type_hints(settings)
    fields = dataclasses.fields(settings)
    needed = [one.name for one in fields if is_needed(one)]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {one.name: of_field(one, types[one.name]) for one in fields},
        **({"required": needed} if needed else {}),
    }


def is_needed(field: Any) -> bool:
    """Whether it has no default"""
    return field.default is field.default_factory is dataclasses.MISSING


def default_of(field: Any) -> Any:
    """Its default as data"""
    if field.default is not dataclasses.MISSING:
        return field.default
    made = field.default_factory()
    return dataclasses.asdict(made) if is_settings(type(made)) else made


def of_field(field: Any, expected: Any) -> Dict[str, Any]:
    """The schema of one setting"""
    found = of_type(expected, rules(field.metadata))
    found["description"] = field.metadata["description"]
    if not is_needed(field):
        found["default"] = default_of(field)
    return found


def rules(metadata: Any) -> Dict[str, Any]:
    """What may be in a setting, in JSON schema's words"""
    names = {"minimum": "minimum", "maximum": "maximum"}
    found = {
        to: metadata[one] for one, to in names.items() if metadata[one] is not None
    }
    if metadata["choices"]:
        found["enum"] = list(metadata["choices"])
    if metadata["pattern"]:
        found["pattern"] = f"^(?:{metadata['pattern']})$"
    return found


def of_type(expected: Any, entry: Dict[str, Any]) -> Dict[str, Any]:
    """The schema of a type whose entries are bound by rules"""
    kind, args = get_origin(plain(expected)), get_args(plain(expected))
    if kind is list:
        found = {"type": "array", "items": of_type(args[0], entry)}
    elif kind is dict:
        found = {"type": "object", "additionalProperties": of_type(args[1], entry)}
    elif is_settings(plain(expected)):
        found = of_class(plain(expected))
    else:
        found = {"type": TYPES[plain(expected)], **entry}
    if plain(expected) is not expected:
        return {"anyOf": [{"type": "null"}, found]}
    return found


def page(known: List[Table]) -> str:
    """The reference in Markdown"""
    lines = [
        *("# Settings", ""),
        "What an overlay may say below `configs:`, and `-set OPERATION.SETTING=VALUE`",
        "on the command line. Lists append to those of the flow. `make docs` writes",
        "this page from the settings classes of the operations.",
    ]
    for table in known:
        of = f" (overlay {table.overlay})" if table.overlay else ""
        lines += ["", f"## {table.name}{of}", ""]
        lines += rows(table.settings, table.given, 0)
    return "\n".join(lines) + "\n"


def rows(settings: Any, given: Dict[str, Any], depth: int) -> Iterator[str]:
    """A list entry for each setting, and below it for those in it"""
    types = get_type_hints(settings)
    for field in dataclasses.fields(settings):
        expected = types[field.name]
        words = [f"`{field.name}`: {field.metadata['description']}."]
        words.append(f"{sentence(describe(expected))}.")
        words += bounds(field.metadata)
        words += [] if is_needed(field) else [default_words(field, given)]
        start = "  " * depth + "* "
        text = " ".join(" ".join(words).split())
        yield from textwrap.wrap(
            *(text, 100),
            initial_indent=start,
            subsequent_indent=" " * len(start),
            break_long_words=False,
            break_on_hyphens=False,
        )
        inside = entry_class(expected)
        if inside:
            yield from rows(inside, {}, depth + 1)


def sentence(text: str) -> str:
    """With a capital"""
    return text[:1].upper() + text[1:]


def bounds(metadata: Any) -> List[str]:
    """What may be in it, in words"""
    found = []
    if metadata["choices"]:
        found.append(f"One of {', '.join(f'`{one}`' for one in metadata['choices'])}.")
    if metadata["pattern"]:
        found.append(f"Matches `{metadata['pattern']}`.")
    if metadata["minimum"] is not None:
        found.append(f"At least {metadata['minimum']}.")
    if metadata["maximum"] is not None:
        found.append(f"At most {metadata['maximum']}.")
    return found


def default_words(field: Any, given: Dict[str, Any]) -> str:
    """What it is if no overlay says anything"""
    if field.name in given:
        return f"The flow has `{given[field.name]!r}`."
    default = default_of(field)
    return f"Default: `{default!r}`." if default not in ("", [], {}, None) else ""
