import dataclasses
from typing import Any, Dict, List, Optional

import pytest

from dffml_operations_decentralice.engine import setting, settings
from dffml_operations_decentralice.engine.settings import (
    Problem,
    SettingError,
    check,
    describe,
    fits,
    validated,
)
from dffml_operations_decentralice.errors import UserError


@settings
class Sample:
    cmdline: List[str] = setting("Command line", default_factory=lambda: ["rw"])
    size: int = setting("Size in MiB", default=64)
    ratio: float = setting("A ratio", default=0.5)
    loud: bool = setting("Whether it is loud", default=False)
    key: str = setting("A key", default="", file=True)
    password: str = setting("A password", default="", secret=True)
    users: Dict[str, int] = setting("Users", default_factory=dict)
    note: Optional[str] = setting("A note", default=None)


@settings
class Needy:
    url: str = setting("An address")


@pytest.mark.parametrize(
    "value, expected",
    [
        ("x", str),
        (1, int),
        (1, float),
        (1.5, float),
        (True, bool),
        ([], List[str]),
        (["a", "b"], List[str]),
        ({}, Dict[str, int]),
        ({"a": 1}, Dict[str, int]),
        ({"a": ["b"]}, Dict[str, List[str]]),
        (None, Optional[str]),
        ("x", Optional[str]),
        (object(), Any),
    ],
)
def test_fits(value, expected):
    assert fits(value, expected)


@pytest.mark.parametrize(
    "value, expected",
    [
        (1, str),
        (None, str),
        (["x"], str),
        ("1", int),
        (1.0, int),
        (True, int),  # YAML's yes is no number
        (False, float),
        ("1.5", float),
        (0, bool),
        ("true", bool),
        ("rw quiet", List[str]),
        (["a", 1], List[str]),
        (("a",), List[str]),
        ([None], List[str]),
        (["a"], Dict[str, int]),
        ({1: 1}, Dict[str, int]),
        ({"a": "1"}, Dict[str, int]),
        (1, Optional[str]),
    ],
)
def test_fits_not(value, expected):
    assert not fits(value, expected)


@pytest.mark.parametrize(
    "expected, words",
    [
        (str, "text"),
        (int, "a whole number"),
        (float, "a number"),
        (bool, "true or false"),
        (List[str], "a list of text"),
        (Dict[str, int], "a mapping of text to a whole number"),
        (Optional[str], "text"),
        (bytes, "bytes"),
    ],
)
def test_describe(expected, words):
    assert describe(expected) == words


def test_defaults():
    assert dataclasses.asdict(validated(Sample, None)) == {
        "cmdline": ["rw"],
        "size": 64,
        "ratio": 0.5,
        "loud": False,
        "key": "",
        "password": "",
        "users": {},
        "note": None,
    }


def test_defaults_are_not_shared():
    first, second = validated(Sample, {}), validated(Sample, {})
    first.cmdline.append("quiet")
    assert second.cmdline == ["rw"]


def test_values():
    made = validated(Sample, {"cmdline": ["a=b"], "ratio": 1, "users": {"me": 1000}})
    assert (made.cmdline, made.ratio, made.users) == (["a=b"], 1, {"me": 1000})


def test_as_dffml_makes_it():
    assert Sample._fromdict(size=3).size == 3
    with pytest.raises(UserError, match="unknown setting 'sise'"):
        Sample._fromdict(sise=3)


@pytest.mark.parametrize(
    "values, cause, remedy",
    [
        ({"cmdlin": []}, "of: unknown setting 'cmdlin'", "did you mean 'cmdline'?"),
        ({"zzz": 1}, "of: unknown setting 'zzz'", "'size'"),
        ({1: 1}, "of: unknown setting '1'", "'size'"),
        (
            {"cmdline": "rw quiet"},
            "of: setting 'cmdline' must be a list of text, not 'rw quiet'",
            "cmdline: Command line",
        ),
        (
            {"size": "64"},
            "of: setting 'size' must be a whole number, not '64'",
            "size: Size in MiB",
        ),
        (
            {"loud": "yes"},
            "of: setting 'loud' must be true or false, not 'yes'",
            "loud: Whether it is loud",
        ),
        ({"size": None}, "of: setting 'size' must be a whole number", "Size in MiB"),
        (["size"], "of: settings must be a mapping, not ['size']", "configs:"),
        ("size", "of: settings must be a mapping, not 'size'", "configs:"),
    ],
)
def test_refused(values, cause, remedy):
    with pytest.raises(UserError) as caught:
        validated(Sample, values, "of")
    assert cause in caught.value.cause and remedy in caught.value.remedy


def test_a_secret_is_not_told():
    with pytest.raises(UserError) as caught:
        validated(Sample, {"password": ["hunter2"]}, "of")
    assert "hunter2" not in "\n".join(caught.value.lines())
    assert "'password' must be text" in caught.value.cause


def test_missing():
    assert validated(Needy, {"url": "x"}).url == "x"
    with pytest.raises(UserError) as caught:
        validated(Needy, {})
    assert caught.value.cause == "Needy: setting 'url' is missing"
    assert caught.value.remedy == "url: An address"


def no_x(value):
    return "it has an x" if "x" in value else ""


@settings
class User:
    name: str = setting("Name", pattern="[a-z]+")
    uid: int = setting("Number", default=1000, minimum=1, maximum=65533)
    shell: str = setting("Shell", default="sh", choices=("sh", "bash"))
    groups: List[str] = setting("Groups", default_factory=list, pattern="[a-z]+")
    password: str = setting("Password", default="", secret=True, check=no_x)


@settings
class Machine:
    users: List[User] = setting("Users", default_factory=list)
    owner: Optional[User] = setting("Owner", default=None)
    sysctl: Dict[str, str] = setting("Values", default_factory=dict, pattern="[0-9]+")

    def problems(self):
        uids = [one.uid for one in self.users]
        for number, uid in enumerate(uids):
            if uid in uids[:number]:
                yield Problem(("users", number, "uid"), f"is {uid} again", "change it")


def test_settings_in_settings():
    made = validated(Machine, {"users": [{"name": "a"}], "owner": {"name": "b"}}, "of")
    assert made.users == [User(name="a")]
    assert made.owner == User(name="b")
    assert validated(Machine, {"owner": None}).owner is None
    assert validated(Machine, {"sysctl": {"a.b": "1"}}).sysctl == {"a.b": "1"}


@pytest.mark.parametrize(
    "values, path, cause",
    [
        ({"users": ["a"]}, ("users",), "must be a list of a mapping"),
        ({"users": [{}]}, ("users", 0), "'users[0].name' is missing"),
        ({"users": [{"name": 1}]}, ("users", 0, "name"), "must be text, not 1"),
        (
            {"users": [{"name": "A"}]},
            ("users", 0, "name"),
            "cannot be 'A': it must match",
        ),
        ({"users": [{"nam": "a"}]}, ("users", 0), "unknown setting 'users[0].nam'"),
        ({"owner": {"name": "a", "uid": 0}}, ("owner", "uid"), "it must be 1 or more"),
        ({"owner": {"name": "a", "uid": 1 << 16}}, ("owner", "uid"), "65533 or less"),
        ({"owner": {"name": "a", "shell": "zsh"}}, ("owner", "shell"), "'sh', 'bash'"),
        ({"owner": {"name": "a", "groups": ["b", "C"]}}, ("owner", "groups", 1), "'C'"),
        ({"owner": {"name": "a", "password": "x1"}}, ("owner", "password"), "has an x"),
        ({"sysctl": {"a": "x"}}, ("sysctl", "a"), "'sysctl.a' cannot be 'x'"),
        ({"sysctl": {"a": 1}}, ("sysctl",), "a mapping of text to text"),
        (
            {"users": [{"name": "a"}, {"name": "b"}]},
            ("users", 1, "uid"),
            "of: setting 'users[1].uid' is 1000 again",
        ),
    ],
)
def test_refused_within(values, path, cause):
    with pytest.raises(SettingError) as caught:
        validated(Machine, values, "of")
    assert (caught.value.of, caught.value.path) == ("of", path)
    assert cause in caught.value.cause
    assert "x1" not in caught.value.cause


def test_of_a_part_nothing_is_missing():
    check(Machine, {"users": [{}]}, "of")
    check(Machine, {"users": [{"name": "a"}, {"name": "b"}]}, "of")
