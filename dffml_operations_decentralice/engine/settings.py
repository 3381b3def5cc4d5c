"""
Settings of an operation: a dffml config class that accepts nothing but what it names

One table, the class, is what dffml gets its config from, what values are checked by,
and what the schema and the reference are made of. dffml itself swallows unknown keys
and converts values silently; a typing mistake in an overlay must not give another
image.
"""

import contextlib
import dataclasses
import difflib
import re
from contextvars import ContextVar
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    NamedTuple,
    Optional,
    Tuple,
    Type,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from dffml import config, field

from ..errors import UserError

S = TypeVar("S")
Path = Tuple[Union[str, int], ...]  # names of settings, and indexes in lists
NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


# Tells of an operation's setting the file and line of who gave it; of who composed the
# flow, for all that runs in it
Where = Callable[[str, Path], str]
_where: ContextVar[Where] = ContextVar("where", default=lambda of, path: "")


class SettingError(UserError):
    """
    A value that cannot be used; ``path`` says which one, within its operation. Where it
    was given stands before the cause from the start: steps tell of their errors.
    """

    def __init__(self, of: str, path: Path, cause: str, remedy: str):
        where = _where.get()(of, path)
        super().__init__(f"{where}: {cause}" if where else cause, remedy=remedy)
        self.of, self.path = of, path


@contextlib.contextmanager
def located(where: Where) -> Iterator[None]:
    """Have errors of settings say where they were given"""
    token = _where.set(where)
    try:
        yield
    finally:
        _where.reset(token)


def refused(of: str, path: Path, cause: str, remedy: str) -> SettingError:
    """The error of a value, in whose cause its name stands before the rest"""
    return SettingError(of, path, f"{of}: setting {shown(path)} {cause}", remedy)


class Problem(NamedTuple):
    """What values that are each fine may be together"""

    path: Path
    cause: str
    remedy: str


def setting(
    description: str,
    *,
    file: bool = False,
    secret: bool = False,
    pattern: str = "",
    choices: Iterable[str] = (),
    minimum: Optional[float] = None,
    maximum: Optional[float] = None,
    check: Optional[Callable[[Any], str]] = None,
    **kwargs,
) -> Any:
    """
    One setting. What may be in it is told of each entry, if it is a list or a mapping.

    file: its value is a path, what counts is the file's content
    secret: its value appears in no message
    pattern: of all of the text
    check: says in words why a value cannot be used; an empty text of one that can
    """
    metadata = {
        "file": file,
        "secret": secret,
        "pattern": pattern,
        "choices": tuple(choices),
        "minimum": minimum,
        "maximum": maximum,
        "check": check,
    }
    return field(description, metadata=metadata, **kwargs)


def settings(cls: Type[S]) -> Type[S]:
    """
    Class decorator: the settings class of an operation, or of a mapping within one. Its
    method ``problems``, if it has one, yields each `Problem` of the values together.
    """
    made = config(cls)
    made._fromdict = classmethod(lambda cls, **values: validated(cls, values))
    made.validated = True
    return made


def is_settings(cls: Any) -> bool:
    """Whether it is a class of settings"""
    return isinstance(cls, type) and getattr(cls, "validated", False)


def validated(cls: Type[S], values: Optional[Dict[str, Any]], of: str = "") -> S:
    """The settings object of ``values``; `SettingError` names what cannot be used"""
    of = of or cls.__name__
    values = {} if values is None else values
    check(cls, values, of)
    return _made(cls, values, of, ())


def check(cls: type, values: Any, of: str) -> None:
    """`SettingError` if one of the values cannot be used; others may be missing"""
    _check(cls, values, of, ())


def _made(cls: Any, values: Dict[str, Any], of: str, path: Path) -> Any:
    types, found = get_type_hints(cls), {}
    for one in dataclasses.fields(cls):
        if one.name in values:
            inside = (*path, one.name)
            found[one.name] = _value(types[one.name], values[one.name], of, inside)
        elif one.default is one.default_factory is dataclasses.MISSING:
            raise SettingError(
                *(of, path, f"{of}: setting {shown((*path, one.name))} is missing"),
                remedy=f"{one.name}: {one.metadata['description']}",
            )
    made = cls(**found)
    for problem in made.problems() if hasattr(made, "problems") else ():
        whole = (*path, *problem.path)
        raise refused(of, whole, problem.cause, problem.remedy)
    return made


def _value(expected: Any, value: Any, of: str, path: Path) -> Any:
    """A value with the settings objects that are in it"""
    expected, args = plain(expected), get_args(plain(expected))
    if is_settings(expected) and isinstance(value, dict):
        return _made(expected, value, of, path)
    if isinstance(value, list) and args:
        each = enumerate(value)
        return [_value(args[0], one, of, (*path, number)) for number, one in each]
    if isinstance(value, dict) and args:
        pairs = value.items()
        return {key: _value(args[1], one, of, (*path, key)) for key, one in pairs}
    return value


def plain(expected: Any) -> Any:
    """The type in an Optional"""
    if get_origin(expected) is not Union:
        return expected
    return next(one for one in get_args(expected) if one is not type(None))


def _check(cls: Any, values: Any, of: str, path: Path) -> None:
    types = get_type_hints(cls)
    fields = {one.name: one for one in dataclasses.fields(cls)}
    if not isinstance(values, dict):
        where = f"setting {shown(path)}" if path else "settings"
        raise SettingError(
            *(of, path, f"{of}: {where} must be a mapping, not {values!r}"),
            remedy=f"write `{of}: {{setting: value}}` below `configs:`"
            if not path
            else f"its settings are {', '.join(fields)}",
        )
    for name, value in values.items():
        if name not in fields:
            close = difflib.get_close_matches(str(name), fields, 1) or sorted(fields)
            raise SettingError(
                *(of, path, f"{of}: unknown setting {shown((*path, str(name)))}"),
                remedy=f"did you mean {', '.join(map(repr, close)) or 'nothing'}?",
            )
        _check_value(fields[name], types[name], value, of, (*path, name))


def _check_value(one: Any, expected: Any, value: Any, of: str, path: Path) -> None:
    secret = one.metadata["secret"]
    remedy = f"{one.name}: {one.metadata['description']}"
    if not fits(value, expected):
        said = "a secret value" if secret else repr(value)
        cause = f"{of}: setting {shown(path)} must be {describe(expected)}, not {said}"
        raise SettingError(of, path, cause, remedy)
    for inside, entry in _entries(value, expected, path):
        cls = entry_class(expected)
        if cls and isinstance(entry, dict):
            _check(cls, entry, of, inside)
            continue
        wrong = refusal(one.metadata, entry)
        if wrong:
            said = f"{wrong}" if secret else f"cannot be {entry!r}: {wrong}"
            cause = f"{of}: setting {shown(inside)} {said}"
            raise SettingError(of, inside, cause, remedy)


def _entries(value: Any, expected: Any, path: Path) -> Iterable[Tuple[Path, Any]]:
    """The value, or those that are in it"""
    if isinstance(value, list):
        return [((*path, number), one) for number, one in enumerate(value)]
    if isinstance(value, dict) and not is_settings(plain(expected)):
        return [((*path, key), one) for key, one in value.items()]
    return [(path, value)]


def entry_class(expected: Any) -> Any:
    """The class of the settings that a setting is, or has as entries; None of others"""
    args = get_args(plain(expected))
    inside = plain(args[-1]) if args else plain(expected)
    return inside if is_settings(inside) else None


def refusal(rules: Any, value: Any) -> str:
    """Why a value, or an entry of one, is not what a setting takes; empty if it is"""
    if isinstance(value, str):
        if rules["pattern"] and not re.fullmatch(rules["pattern"], value):
            return f"it must match {rules['pattern']}"
        if rules["choices"] and value not in rules["choices"]:
            return f"it must be one of {', '.join(map(repr, rules['choices']))}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if rules["minimum"] is not None and value < rules["minimum"]:
            return f"it must be {rules['minimum']} or more"
        if rules["maximum"] is not None and value > rules["maximum"]:
            return f"it must be {rules['maximum']} or less"
    return rules["check"](value) if rules["check"] else ""


def shown(path: Path) -> str:
    """A path as people write it: ``'users[0].shell'``"""
    text = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in path)
    return repr(text.lstrip("."))


def fits(value: Any, expected: Any) -> bool:
    """Whether a value read from YAML is of an annotated type"""
    origin, args = get_origin(expected), get_args(expected)
    if expected is Any:
        return True
    if is_settings(expected):
        return isinstance(value, dict)  # what is in it is checked one by one
    if origin is Union:
        return any(fits(value, one) for one in args)
    if origin is list:
        return isinstance(value, list) and all(fits(one, args[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            fits(key, args[0]) and fits(one, args[1]) for key, one in value.items()
        )
    if expected in (int, float) and isinstance(value, bool):
        return False
    if expected is float:
        return isinstance(value, (int, float))
    return isinstance(value, expected)


def describe(expected: Any) -> str:
    """An annotated type in words"""
    origin, args = get_origin(expected), get_args(expected)
    if is_settings(expected):
        return "a mapping"
    if origin is Union:
        return " or ".join(describe(one) for one in args if one is not type(None))
    if origin is list:
        return f"a list of {describe(args[0])}"
    if origin is dict:
        return f"a mapping of {describe(args[0])} to {describe(args[1])}"
    return NAMES.get(expected, getattr(expected, "__name__", str(expected)))
