import inspect
from pathlib import Path

import pytest

from dffml_operations_decentralice import errors
from dffml_operations_decentralice.errors import DecentrAliceError

CLASSES = [
    one
    for _, one in inspect.getmembers(errors, inspect.isclass)
    if issubclass(one, DecentrAliceError) and one is not DecentrAliceError
]
CODES = {
    "UserError": 2,
    "MissingTool": 3,
    "NetworkError": 4,
    "SignatureError": 5,
    "SpaceError": 6,
    "CommandFailed": 7,
    "VmError": 8,
    "DoesNotBoot": 9,
}


def test_exit_codes():
    """Part of the interface: the README has them"""
    assert {one.__name__: one.exit_code for one in CLASSES} == CODES


def test_kinds_differ():
    assert len({one.kind for one in CLASSES}) == len(CLASSES) == 8


@pytest.mark.parametrize("made", CLASSES)
def test_each_has_a_sentence(made):
    assert made.__doc__ and made.__doc__ != DecentrAliceError.__doc__


@pytest.mark.parametrize("made", CLASSES)
def test_lines(made):
    error = made("no\n  such   thing\n", remedy="give\none")
    assert error.lines() == ["error: no such thing", "remedy: give one"]
    logged = made("a", remedy="b", log=Path("/x.log"))
    assert logged.lines() == ["error: a", "remedy: b", "log: /x.log"]
    assert "no" in str(error)


def test_no_remedy_is_a_mistake():
    with pytest.raises(TypeError):
        errors.UserError("x")
