"""What overlays change about the flow: operations, settings, inputs, results"""

import dataclasses
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, get_type_hints

from ..engine.settings import entry_class, is_settings, plain
from . import Composition, Part, settings_of

OPERATION, SETTING, INPUT, RESULT = "operation", "setting", "input", "result"
SECRET = "(secret)"


class Change(NamedTuple):
    """One of them; ``before`` is None of what was not there"""

    what: str
    name: str
    before: Any
    after: Any
    by: str  # the overlay, with the line

    def line(self) -> str:
        """For people"""
        before, after = self.before, self.after
        if before is None:
            said = f"+ {shown(after)}"
        elif isinstance(before, list) and after[len(after) - len(before) :] == before:
            # Lists append: what the flow has is not said again
            said = f"+ {shown(after[: len(after) - len(before)])}"
        else:
            said = f"{shown(before)} -> {shown(after)}"
        return f"{self.what} {self.name}: {said}  ({self.by})"


def shown(value: Any) -> str:
    """A value in a line"""
    return value if isinstance(value, str) and value else repr(value)


def changes(composition: Composition) -> List[Change]:
    """All that the overlays change, in the order of the flow"""
    found = [*_operations(composition), *_settings(composition)]
    return [*found, *_inputs(composition), *_results(composition)]


def _operations(composition: Composition) -> Iterator[Change]:
    base = composition.base.content["operations"]
    for name, operation in composition.operations.items():
        before = base.get(name, {}).get("name")
        if before != operation["name"]:
            by = _by(composition, "operations", name, "name")
            yield Change(OPERATION, name, before, operation["name"], by)


def _settings(composition: Composition) -> Iterator[Change]:
    base = composition.base.content
    for name, operation in composition.operations.items():
        settings = settings_of(name, operation)
        if settings is None:
            continue
        old = base["operations"].get(name, {})
        known = old.get("name") == operation["name"]
        values = base.get("configs", {}).get(name) or {}
        before = effective(settings, values) if known else {}
        after = effective(settings, composition.settings(name))
        given, types = composition.settings(name), get_type_hints(settings)
        for field in dataclasses.fields(settings):
            one = field.name
            if one not in given or before.get(one) == after[one]:
                continue
            yield Change(
                SETTING,
                f"{name}.{one}",
                hidden(field, types[one], before.get(one)),
                hidden(field, types[one], after[one]),
                _by(composition, "configs", name, one),
            )


def effective(settings: Any, values: Dict[str, Any]) -> Dict[str, Any]:
    """The values of all settings, with the defaults of those that are not given"""
    found = {}
    for field in dataclasses.fields(settings):
        if field.name in values:
            found[field.name] = values[field.name]
        elif field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
        else:
            found[field.name] = None
    return found


def hidden(field: Any, expected: Any, value: Any) -> Any:
    """The value of a setting without the secrets that are in it, as those of users"""
    if field.metadata["secret"]:
        return SECRET if value else value
    inside = entry_class(expected)
    if inside and isinstance(value, list):
        return [_hidden_in(inside, one) for one in value]
    if inside and isinstance(value, dict):
        if is_settings(plain(expected)):
            return _hidden_in(inside, value)
        return {key: _hidden_in(inside, one) for key, one in value.items()}
    return value


def _hidden_in(settings: Any, values: Dict[str, Any]) -> Dict[str, Any]:
    types = get_type_hints(settings)
    fields = {one.name: one for one in dataclasses.fields(settings)}
    return {
        name: hidden(fields[name], types[name], value) for name, value in values.items()
    }


def _inputs(composition: Composition) -> Iterator[Change]:
    base = composition.base.content["flow"]
    for part in composition.overlays:
        for name, flow in part.content.get("flow", {}).items():
            for one, origins in (flow.get("inputs") or {}).items():
                if name in base and origins:
                    by = part.at("flow", name, "inputs", one)
                    yield Change(INPUT, f"{name}.{one}", None, origin(origins), by)


def origin(origins: List[Any]) -> str:
    """``{"fetch_kernel_rpms": "result"}`` in words"""
    return ", ".join(
        ".".join(next(iter(one.items()))) if isinstance(one, dict) else str(one)
        for one in origins
    )


def _results(composition: Composition) -> Iterator[Change]:
    for part in composition.overlays:
        for number, seed in enumerate(part.content.get("seed", [])):
            by = part.at("seed", number)
            yield Change(RESULT, str(seed.get("definition")), None, seed["value"], by)


def _by(composition: Composition, *keys: Any) -> str:
    """The overlay that says so"""

    def says(part: Part) -> bool:
        node: Optional[Any] = part.content
        for key in keys:
            node = node.get(key) if isinstance(node, dict) else None
        return node is not None

    return next((one.at(*keys) for one in composition.overlays if says(one)), "")
