"""
Settings of an operation: a dffml config class that accepts nothing but what it names

dffml itself swallows unknown keys and converts values silently; a typing mistake in an
overlay must not give another image.
"""

import dataclasses
import difflib
from typing import (
    Any,
    Dict,
    Optional,
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
NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def setting(
    description: str, *, file: bool = False, secret: bool = False, **kwargs
) -> Any:
    """
    One setting. ``file``: its value is a path, what counts is the file's content.
    ``secret``: its value appears in no message.
    """
    metadata = {"file": file, "secret": secret}
    return field(description, metadata=metadata, **kwargs)


def settings(cls: Type[S]) -> Type[S]:
    """Class decorator: the settings class of an operation"""
    made = config(cls)
    made._fromdict = classmethod(lambda cls, **values: validated(cls, values))
    made.validated = True
    return made


def validated(cls: Type[S], values: Optional[Dict[str, Any]], of: str = "") -> S:
    """The settings object of ``values``; `UserError` names what cannot be used."""
    of = of or cls.__name__
    values = {} if values is None else values
    check(cls, values, of)
    for one in dataclasses.fields(cls):  # type: ignore[arg-type]
        needed = one.default is one.default_factory is dataclasses.MISSING
        if needed and one.name not in values:
            raise UserError(
                f"{of}: setting {one.name!r} is missing",
                remedy=f"{one.name}: {one.metadata['description']}",
            )
    return cls(**values)


def check(cls: type, values: Any, of: str) -> None:
    """`UserError` if one of the values cannot be used; others may be missing"""
    types = get_type_hints(cls)
    fields = {one.name: one for one in dataclasses.fields(cls)}
    if not isinstance(values, dict):
        raise UserError(
            f"{of}: settings must be a mapping, not {values!r}",
            remedy=f"write `{of}: {{setting: value}}` below `configs:`",
        )
    for name, value in values.items():
        if name not in fields:
            close = difflib.get_close_matches(str(name), fields, 1) or sorted(fields)
            raise UserError(
                f"{of}: unknown setting {name!r}",
                remedy=f"did you mean {', '.join(map(repr, close)) or 'nothing'}?",
            )
        expected = types[name]
        if not fits(value, expected):
            shown = "a secret value" if fields[name].metadata["secret"] else repr(value)
            raise UserError(
                f"{of}: setting {name!r} must be {describe(expected)}, not {shown}",
                remedy=f"{name}: {fields[name].metadata['description']}",
            )


def fits(value: Any, expected: Any) -> bool:
    """Whether a value read from YAML is of an annotated type"""
    origin, args = get_origin(expected), get_args(expected)
    if expected is Any:
        return True
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
    if origin is Union:
        return " or ".join(describe(one) for one in args if one is not type(None))
    if origin is list:
        return f"a list of {describe(args[0])}"
    if origin is dict:
        return f"a mapping of {describe(args[0])} to {describe(args[1])}"
    return NAMES.get(expected, getattr(expected, "__name__", str(expected)))
