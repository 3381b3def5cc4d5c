"""What overlays are said to change"""

import dataclasses
from typing import get_type_hints

import pytest

from dffml_operations_decentralice.composition import compose
from dffml_operations_decentralice.composition.changes import Change, changes, hidden
from dffml_operations_decentralice.operations.configuration import RootSettings

HASH = "$6$salt$hash"


def told(overlays=(), settings=None):
    return [one.line() for one in changes(compose(overlays, settings))]


def test_nothing():
    assert told() == []
    assert told(settings={"compose_root": {"hostname": "alice"}}) == []  # as it is


def test_operations_and_inputs():
    lines = told(["mirror"])
    name = "decentralice_mirror_kernel_repository"
    replaced = f"operation kernel_repository: decentralice_kernel_repository -> {name}"
    assert any(one.startswith(replaced) and "mirror.yaml:" in one for one in lines)
    added = "operation fetch_debian_kernel: + decentralice_fetch_debian_kernel"
    assert any(one.startswith(added) for one in lines)
    wired = "input kernel_repository.debs: + fetch_debian_kernel.result"
    assert any(one.startswith(wired) for one in lines)


def test_settings(overlay):
    path = overlay(
        "configs:\n"
        "  build_uki:\n"
        "    cmdline: [quiet]\n"
        "  compose_root:\n"
        f"    root_password_hash: {HASH}\n"
        "    enable: [a.service]\n"
    )
    assert told([path], {"partition": {"swap": 0}}) == [
        f"setting build_uki.cmdline: + ['quiet']  ({path}:3)",
        f"setting compose_root.root_password_hash: '' -> (secret)  ({path}:5)",
        f"setting compose_root.enable: + ['a.service']  ({path}:6)",
        "setting partition.swap: 10230 -> 0  (given)",
    ]


def test_of_two_the_first_one_is_named(overlay):
    first = overlay({"configs": {"partition": {"swap": 1}}})
    second = overlay({"configs": {"partition": {"swap": 2}}}, "second.yaml")
    [line] = told([second, first])
    assert line == f"setting partition.swap: 10230 -> 2  ({second}:3)"


def test_results(overlay):
    seed = [{"definition": "get_single_spec", "origin": "seed", "value": ["RootTree"]}]
    path = overlay({"seed": seed})
    assert told([path]) == [f"result get_single_spec: + ['RootTree']  ({path}:2)"]


KEPT = {"name": "a", "password_hash": HASH}
TOLD = {"name": "a", "password_hash": "(secret)"}


@pytest.mark.parametrize(
    "name, value, shown",
    [
        ("hostname", "x", "x"),
        ("root_password_hash", HASH, "(secret)"),
        ("root_password_hash", "", ""),
        ("users", [KEPT, {"name": "b"}], [TOLD, {"name": "b"}]),
        (
            "users",
            [{"name": "a", "password_hash": ""}],
            [{"name": "a", "password_hash": ""}],
        ),
        ("users", None, None),
        ("ssh", {"port": 2222}, {"port": 2222}),
        # A file may be a key
        (
            "write_files",
            {"/etc/key": {"content": "hunter2", "mode": "0600"}},
            {"/etc/key": {"content": "(secret)", "mode": "0600"}},
        ),
    ],
)
def test_hidden(name, value, shown):
    [field] = [one for one in dataclasses.fields(RootSettings) if one.name == name]
    assert hidden(field, get_type_hints(RootSettings)[name], value) == shown


def test_no_secret_is_told(overlay):
    root = {"users": [KEPT], "write_files": {"/etc/key": {"content": "hunter2"}}}
    lines = "\n".join(told([overlay({"configs": {"compose_root": root}})]))
    assert "/etc/key" in lines and "'name': 'a'" in lines
    assert "hunter2" not in lines and HASH not in lines


@pytest.mark.parametrize(
    "before, after, said",
    [
        (None, "x", "setting a: + x  (f)"),
        (["b"], ["a", "b"], "setting a: + ['a']  (f)"),
        ([], ["a"], "setting a: + ['a']  (f)"),
        (["b"], ["a"], "setting a: ['b'] -> ['a']  (f)"),
        ("", "x", "setting a: '' -> x  (f)"),
        (1, 2, "setting a: 1 -> 2  (f)"),
    ],
)
def test_line(before, after, said):
    assert Change("setting", "a", before, after, "f").line() == said
