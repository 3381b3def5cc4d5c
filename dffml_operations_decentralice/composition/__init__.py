"""
A flow with its overlays: found, read, merged, and checked before any work

An overlay is a part of a flow, as YAML or as a Python class that is registered under
`GROUP`. They are merged as ``dffml dataflow merge`` does: given first, so that what
they say wins; lists append. What that would make of parts which contradict each other,
dffml finds out late or never: here it is an error that names who says what, and where.
"""

from pathlib import Path
from typing import (
    Any,
    ContextManager,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import yaml
from dffml import DataFlow
from dffml.df.base import OperationImplementation
from dffml.util.data import merge

from .. import flows
from ..engine.settings import check, located, validated
from ..errors import UserError
from . import python

GROUP = "dffml.overlays.decentralice.build"
BASE = "os_decentralice.yaml"
GIVEN = "given"  # the name of the part that a caller gives, above all overlays
SHAPES: Dict[str, Any] = {
    **{name: dict for name in ("definitions", "operations", "flow", "configs")},
    **{"seed": list, "linked": bool, "forward": dict},
}
NAMES = {dict: "mapping", list: "list", bool: "`true` or `false`"}
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 0.1 s less
Keys = Tuple[Any, ...]
Settings = Mapping[str, Mapping[str, Any]]  # by operation, by name


class Part(NamedTuple):
    """An overlay, or the flow itself"""

    name: str
    content: Dict[str, Any]
    path: Optional[Path] = None

    def at(self, *keys: Any) -> str:
        """Where something is said, for people: file and line"""
        line = line_of(self.path, keys) if self.path else 0
        return f"{self.name}:{line}" if line else self.name


class Composition:
    """Overlays and the flow that they are laid over, the first one first"""

    def __init__(self, parts: Sequence[Part]):
        *self.overlays, self.base = self.parts = list(parts)
        self.operations = merged_operations(self.parts)
        self.content: Dict[str, Any] = {}
        for part in self.parts:
            self._check_settings(part)
        check_conflicts(self)
        for part in self.parts:
            merge(self.content, copied(part.content), list_append=True)

    def _check_settings(self, part: Part) -> None:
        for name, values in part.content.get("configs", {}).items():
            if name not in self.operations:
                raise UserError(
                    f"{part.at('configs', name)}: settings of {name!r}, which is no "
                    "operation of the flow",
                    remedy=f"operations are {', '.join(sorted(self.operations))}",
                )
            settings = settings_of(name, self.operations[name])
            if settings:
                with located(lambda of, path: part.at("configs", of, *path)):
                    check(settings, values, name)

    def validate(self) -> None:
        """`UserError` if settings are missing, or contradict each other"""
        for name, operation in self.operations.items():
            settings = settings_of(name, operation)
            if settings:
                with self.locating():
                    validated(settings, self.settings(name), name)

    def settings(self, operation: str) -> Dict[str, Any]:
        """The settings of an operation, as far as they are said"""
        return self.content.get("configs", {}).get(operation) or {}

    def locating(self) -> ContextManager[None]:
        """Have errors of settings say the file and line of who sets them"""

        def where(of: str, path: Keys) -> str:
            found = self.origin("configs", of, *path)
            return found[0].at(*found[1]) if found else ""

        return located(where)

    def origin(self, *keys: Any) -> Optional[Tuple[Part, Keys]]:
        """The part that a value of the merged flow comes from, and its keys there"""
        found: List[Tuple[Part, Any, Keys]]
        found = [(part, part.content, ()) for part in self.parts]
        for key in keys:
            inside = list(_inside(found, key))
            if not inside:
                break
            found = inside
        part, _, own = found[0]
        return (part, own) if len(own) > 2 else None

    def dataflow(self) -> DataFlow:
        """The dataflow, its settings checked"""
        self.validate()
        try:
            return DataFlow._fromdict(**copied(self.content))
        except Exception as error:  # whatever dffml stumbles over
            raise UserError(
                f"dffml cannot read the flow with its overlays: {error!r}",
                remedy="compare the overlay's operations, definitions and flow with "
                f"{BASE}",
            ) from error


def _inside(found: List[Tuple[Part, Any, Keys]], key: Any) -> Iterator:
    """One step further into each part that goes on: lists are one behind the other"""
    if not isinstance(key, int):
        for part, node, own in found:
            if isinstance(node, dict) and key in node:
                yield part, node[key], (*own, key)
        return
    for part, node, own in found:
        if isinstance(node, list) and key < len(node):
            yield part, node[key], (*own, key)
            return
        key -= len(node) if isinstance(node, list) else 0


def compose(
    overlays: Sequence[str] = (), settings: Optional[Settings] = None
) -> Composition:
    """
    The flow under overlays: names, or YAML files; above them single settings, by
    operation. `UserError` if one has no place to go.
    """
    given = Part(GIVEN, {"configs": settings or {}})
    check_shape(given)
    parts = [given] if settings else []
    parts += [find(name) for name in overlays]
    base = read(flows.path(BASE))
    return Composition([*wired(parts, base), base])


def find(name: str) -> Part:
    """An overlay, by its file, or by the name of one that is installed"""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = Path(name)
        if not path.is_file():
            raise UserError(f"no overlay {name}", remedy="give the path of a YAML file")
        return read(path)
    own = flows.overlays()
    if name in own:
        return read(own[name])
    installed = python.installed(GROUP)
    if name in installed:
        part = Part(name, python.content(name, installed[name]))
        check_shape(part)
        return part
    names = ", ".join(sorted({*own, *installed}))
    raise UserError(
        f"no overlay {name!r} (known: {names})", remedy="a name or a file *.yaml"
    )


def known() -> Dict[str, str]:
    """Where the overlays come from that are installed, by name"""
    classes = python.installed(GROUP)
    return {
        **{name: one.value for name, one in sorted(classes.items())},
        **{name: str(path) for name, path in sorted(flows.overlays().items())},
    }


def read(path: Path) -> Part:
    """A flow or overlay as data"""
    try:
        content = yaml.load(path.read_text(), Loader=LOADER)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}", remedy="give a YAML file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(
            f"{where}: {getattr(error, 'problem', error)}", remedy="mend the YAML"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: no mapping", remedy="an overlay is a dffml flow")
    content = {name: part for name, part in content.items() if part is not None}
    part = Part(str(path), content, path)
    check_shape(part)
    return part


def assigned(values: Sequence[str]) -> Settings:
    """Settings by operation, of such as ``OPERATION.SETTING=VALUE``, a value of YAML"""
    found: Dict[str, Dict[str, Any]] = {}
    for one in values:
        place, equals, text = one.partition("=")
        operation, dot, name = place.partition(".")
        if not (equals and dot and operation and name):
            raise UserError(
                f"{one!r} sets nothing",
                remedy="OPERATION.SETTING=VALUE, as compose_root.hostname=wonderland",
            )
        try:
            value = yaml.load(text, Loader=LOADER)
        except yaml.YAMLError as error:
            raise UserError(
                f"{place}: the value is no YAML: {error}", remedy="quote it"
            ) from error
        found.setdefault(operation, {})[name] = value
    return found


def check_shape(part: Part) -> None:
    """dffml would merge what is of another shape into nonsense, or raise anything"""
    for name, value in part.content.items():
        if name not in SHAPES:
            raise UserError(
                f"{part.at(name)}: unknown part {name!r}",
                remedy=f"the parts of a flow are {', '.join(SHAPES)}",
            )
        wanted = SHAPES[name]
        if not isinstance(value, wanted):
            raise UserError(
                f"{part.at(name)}: {name} must be a {NAMES[wanted]}",
                remedy=f"write it as it is in {BASE}",
            )
        named: Dict[str, Any] = value if wanted is dict else {}
        if name == "configs":
            named.update({one: {} for one, values in named.items() if values is None})
        for one, values in named.items():
            if not isinstance(values, dict):
                raise UserError(
                    f"{part.at(name, one)}: {one!r} in {name} must be a mapping",
                    remedy=f"write it as it is in {BASE}",
                )


def wired(overlays: Sequence[Part], base: Part) -> List[Part]:
    """
    The overlays; those in Python do not say what their operations' inputs are made by:
    by the operations which have an output of that definition
    """
    operations = merged_operations([*overlays, base])
    makers: Dict[str, List[Dict[str, str]]] = {}
    for name, operation in operations.items():
        for output, definition in (operation.get("outputs") or {}).items():
            makers.setdefault(definition, []).append({name: output})
    return [_wired(part, base, makers) if not part.path else part for part in overlays]


def _wired(part: Part, base: Part, makers: Dict[str, List]) -> Part:
    flow: Dict[str, Any] = {}
    for name, operation in part.content.get("operations", {}).items():
        known = base.content["flow"].get(name, {}).get("inputs", {})
        inputs = operation.get("inputs", {})
        for lacking in {*inputs.values()} - {*makers}:
            raise UserError(
                f"{part.name}: {name} needs {lacking}, which nothing makes",
                remedy="an operation of the flow or of another overlay has to give it",
            )
        for given in operation.get("outputs", {}).values():
            others = [next(iter(one)) for one in makers[given]]
            if others != [name]:
                others.remove(name)
                raise UserError(
                    f"{part.name}: {name} gives {given}, as {others[0]} does",
                    remedy=f"to replace that, call it {others[0]}, too",
                )
        wanted = {one: makers[of] for one, of in inputs.items() if one not in known}
        flow[name] = {"inputs": wanted}
    return part._replace(content={**part.content, "flow": flow}) if flow else part


def merged_operations(parts: Sequence[Part]) -> Dict[str, Any]:
    """The operations of a merged flow, by their names in it"""
    found: Dict[str, Any] = {}
    for part in parts:
        for name, operation in part.content.get("operations", {}).items():
            found[name] = {**operation, **found.get(name, {})}
    return found


def check_conflicts(composition: Composition) -> None:
    """`UserError` that names both sides of what cannot be merged"""
    _check_implementations(composition)
    _check_replacements(composition)
    _check_origins(composition)


def _check_implementations(composition: Composition) -> None:
    said: Dict[str, Part] = {}
    for part in composition.overlays:
        for name in part.content.get("operations", {}):
            before = said.setdefault(name, part)
            if before is not part:
                keys = ("operations", name, "name")
                raise UserError(
                    f"{before.at(*keys)} and {part.at(*keys)} both say what "
                    f"operations.{name} is",
                    remedy="leave one of the two overlays out",
                )


def _check_replacements(composition: Composition) -> None:
    """What replaces an operation takes what that takes, and gives what that gives"""
    base = composition.base.content["operations"]
    for part in composition.overlays:
        for name in {*part.content.get("operations", {})} & {*base}:
            new = implementation_of(name, composition.operations[name]).op
            gives = {one: output.name for one, output in new.outputs.items()}
            if {*base[name]["inputs"]} - {*new.inputs}:
                takes = ", ".join(sorted(base[name]["inputs"]))
                wrong = f"does not take all of {takes}"
            elif gives != base[name]["outputs"]:
                wrong = f"does not give {', '.join(base[name]['outputs'].values())}"
            else:
                continue
            raise UserError(
                f"{part.at('operations', name)}: {new.name} cannot replace {name}: "
                f"it {wrong}",
                remedy="it may take more than that; what it has no use for, too",
            )


def _check_origins(composition: Composition) -> None:
    """A second origin is a second value, for which dffml runs the operation again"""
    said: Dict[Tuple[str, str], Part] = {}
    for part in reversed(composition.parts):
        for name, flow in part.content.get("flow", {}).items():
            for one, origins in (flow.get("inputs") or {}).items():
                before = said.setdefault((name, one), part)
                if before is not part and origins:
                    keys = ("flow", name, "inputs", one)
                    raise UserError(
                        f"{part.at(*keys)} and {before.at(*keys)} both say where "
                        f"flow.{name}.inputs.{one} comes from",
                        remedy="replace the operation that makes it: "
                        "operations.NAME.name",
                    )
                if len(origins or ()) > 1:
                    raise UserError(
                        f"{part.at('flow', name, 'inputs', one)}: flow.{name}.inputs."
                        f"{one} comes from {len(origins)} operations",
                        remedy="an input has one origin: one of them has to go",
                    )


def settings_of(name: str, operation: Dict[str, Any]) -> Optional[type]:
    """The class of an operation's settings, None if it has none of ours"""
    settings = getattr(implementation_of(name, operation), "CONFIG", None)
    return settings if getattr(settings, "validated", False) else None


def implementation_of(name: str, operation: Dict[str, Any]) -> Any:
    """What dffml runs for an operation of a flow"""
    registered = operation.get("name")
    try:
        if not isinstance(registered, str):
            raise TypeError("no name")
        return OperationImplementation.load(registered)
    except Exception as error:  # of an import, too
        raise UserError(
            f"operation {name!r}: {registered!r} cannot be loaded: {error!r}"[:300],
            remedy="`name` is a registered operation, or module:function",
        ) from error


def line_of(path: Path, keys: Keys) -> int:
    """The line of a value in a YAML file, or of what it is in; 0 if it is not there"""
    node = yaml.compose(path.read_text(), Loader=LOADER)
    line = 0
    for key in keys:
        inside = None
        if isinstance(node, yaml.MappingNode):
            for name, value in node.value:
                if name.value == str(key):
                    line, inside = name.start_mark.line + 1, value
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
            if key < len(node.value):
                inside = node.value[key]
                line = inside.start_mark.line + 1
        if inside is None:
            break
        node = inside
    return line


def copied(value: Any) -> Any:
    """Data that may be merged into, and leaves what it was read from alone"""
    if isinstance(value, dict):
        return {key: copied(one) for key, one in value.items()}
    return [copied(one) for one in value] if isinstance(value, list) else value
