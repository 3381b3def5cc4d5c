"""Whatever influences a result is in its key: settings, files, code"""

import dataclasses
import json
import modulefinder
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
import yaml

from dffml_operations_decentralice import api
from dffml_operations_decentralice.composition import compose
from dffml_operations_decentralice.engine import code
from dffml_operations_decentralice.engine.digest import (
    manifest,
    sparse_digest,
    tree_digest,
)
from dffml_operations_decentralice.engine.plan import action_of
from dffml_operations_decentralice.engine.store import Store, key_of

from ..operations.keys import KEY
from . import sample

PACKAGE = Path(api.__file__).parent
MIRROR = ["mirror"]


def actions_of(overlays):
    """By instance; without tools, which a machine may lack: they are tested below"""
    flow = api.load(overlays)
    found = {name: action_of(flow, name) for name in flow.operations}
    return {
        name: dataclasses.replace(action, tools=())
        for name, action in found.items()
        if action
    }


def parts_of(actions, overlays, store):
    configs = compose(overlays).content["configs"]
    return {
        name: action.parts(action.configured(configs.get(name, {})), {}, store)
        for name, action in actions.items()
    }


SETTINGS = [
    pytest.param(name, field, overlays, id=f"{name}-{field.name}")
    for overlays in ([], MIRROR)
    for name, action in actions_of(overlays).items()
    if action.settings and (overlays == [] or "debian" in name)
    for field in dataclasses.fields(action.settings)
]


# Of settings that do not take anything of their type
VALID = {
    ("boot_verify", "accelerator"): "tcg",
    ("boot_verify", "disk_bus"): "ahci",
    ("verify_ssi", "accelerator"): "tcg",
    ("compose_root", "timezone"): "Europe/Berlin",
    ("compose_root", "root_password_hash"): "$6$salt$hash",
    ("compose_root", "root_ssh_keys"): [KEY],
    ("compose_root", "users"): [{"name": "alice"}],
    ("compose_root", "groups"): [{"name": "tea"}],
    ("compose_root", "network"): [{"name": "en*"}],
    ("compose_root", "sysctl"): {"vm.swappiness": "10"},
    ("compose_root", "ssh"): {"port": 2222},
    ("compose_root", "containers"): "podman",
    ("compose_root", "enable"): ["x.service"],
    ("compose_root", "disable"): ["x.service"],
    ("compose_root", "mask"): ["x.service"],
    ("compose_root", "write_files"): {"/etc/x": {"content": "x"}},
    ("install_bootloader", "entry"): "other.efi",
    ("lock_kernel_rpms", "firmware"): ["linux-firmware"],
    ("fetch_debian_kernel", "flavour"): "generic",
}


def other(expected: Any, value: Any) -> Any:
    """Another value of a setting's type"""
    origin, arguments = get_origin(expected), get_args(expected)
    if origin is Union:
        return other(arguments[0], value)
    if origin is list:
        return [*(value or []), other(arguments[0], None)]
    if origin is dict:
        return {**(value or {}), "other": other(arguments[1], None)}
    if expected is bool:
        return not value
    return (value or 0) + 1 if expected in (int, float) else f"{value or ''}x"


@pytest.mark.parametrize("name, field, overlays", SETTINGS)
def test_each_setting_counts(store, tmp_path, name, field, overlays):
    """For its operation, and for no other one"""
    actions, opened = actions_of(overlays), Store(store)
    before = parts_of(actions, overlays, opened)
    settings = actions[name].settings
    given = compose(overlays).content["configs"].get(name, {})
    value = given.get(field.name, getattr(settings(**given), field.name))
    expected = get_type_hints(settings)[field.name]
    changed = VALID.get((name, field.name)) or other(expected, value)
    if field.metadata["pattern"].startswith("#"):
        changed = "#123456"
    if field.metadata["file"]:
        (tmp_path / "other").mkdir()
        (tmp_path / "other/file").write_text("other")
        changed = str(tmp_path / "other")
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(yaml.safe_dump({"configs": {name: {field.name: changed}}}))
    after = parts_of(actions, [str(overlay), *overlays], opened)
    moved = [one for one in before if key_of(before[one]) != key_of(after[one])]
    assert moved == [name]
    differing = [one for one in after[name] if before[name][one] != after[name][one]]
    assert differing == [f"setting {field.name}"]


def test_settings_are_all_there():
    assert len(SETTINGS) > 40


@pytest.mark.parametrize("overlays", [[], MIRROR])
def test_each_input_counts(store, overlays):
    """Of an artefact its whole name, as a result may hold it"""
    opened, flow = Store(store), api.load(overlays)
    for name, action in actions_of(overlays).items():
        action = dataclasses.replace(action, settings=None, files=())
        inputs = list(flow.operations[name].inputs)
        given = {
            one: f"{store}/objects/{index:032x}-x" for index, one in enumerate(inputs)
        }
        before = action.parts(None, given, opened)
        for one in inputs:
            for changed in ("f" * 32 + "-x", given[one].rpartition("/")[2] + "y"):
                path = f"{store}/objects/{changed}"
                after = action.parts(None, {**given, one: path}, opened)
                assert key_of(after) != key_of(before), (name, one)


def test_each_tool_counts(store, tmp_path, monkeypatch):
    """Another program of the same name; see also test_operation"""
    found = set()
    for overlays in ([], MIRROR):
        flow = api.load(overlays)
        for name in flow.operations:
            found |= set(getattr(action_of(flow, name), "tools", ()))
    programs = {one.split()[0] for one in found if not one.startswith("/")}
    for name in programs:
        (tmp_path / name).write_text("#!/bin/sh\necho 1\n")
        (tmp_path / name).chmod(0o755)
    from dffml_operations_decentralice.engine import commands, operation

    identity = sys.modules[operation.__module__].identity
    monkeypatch.setattr(commands, "search_path", lambda: str(tmp_path))
    tools = sorted(one for one in found if not one.startswith("/"))
    before = [identity(tool, Store(store)) for tool in tools]
    for name in programs:
        (tmp_path / name).write_text("#!/bin/sh\necho 2\n")
    after = [identity(tool, Store(store)) for tool in tools]
    assert all(old != new for old, new in zip(before, after))


# Files and modules, on a copy of the package, as another process sees it

TOUCH = """
import dataclasses, json, os, sys
from pathlib import Path
from dffml_operations_decentralice import compat
compat.install()
import dffml_operations_decentralice as package
root = Path(package.__file__).parent
assert str(root) == sys.argv[1], root
from dffml_operations_decentralice import api
from dffml_operations_decentralice.engine import code
from dffml_operations_decentralice.engine.plan import action_of
from dffml_operations_decentralice.engine.store import key_of

actions = {}
for overlays in ([], ["mirror"]):
    flow = api.load(overlays)
    for name in flow.operations:
        action = action_of(flow, name)
        if action:
            label = action.name
            actions[label] = dataclasses.replace(action, tools=(), settings=None)

class Memory:
    found = {}
    def remembered(self, path, what, find):
        info = os.stat(path)
        key = (str(path), what, info.st_size, info.st_mtime_ns)
        if key not in self.found:
            self.found[key] = find()
        return self.found[key]

def keys():
    code.forget()
    return {n: key_of(a.parts(None, {}, Memory())) for n, a in actions.items()}

before = keys()
moved = {}
for path in json.load(sys.stdin):
    file = root / path
    content = file.read_bytes()
    file.write_bytes(content + b"# touched\\n")
    after = keys()
    moved[path] = sorted(n for n in before if before[n] != after[n])
    file.write_bytes(content)
assert keys() == before
cache = root / "host/__pycache__"
cache.mkdir(exist_ok=True)
(cache / "x.pyc").touch()
assert keys() == before
print(json.dumps({
    "moved": moved,
    "files": {n: a.files for n, a in actions.items()},
    "modules": {n: a.function.__module__ for n, a in actions.items()},
}))
"""


@pytest.fixture(scope="module")
def touched(tmp_path_factory):
    """Each file of the package, with the operations whose keys move with it"""
    site = tmp_path_factory.mktemp("site")
    copy = site / PACKAGE.name
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, copy, ignore=ignored)
    dataflows = PACKAGE.parent / "dataflows"
    if dataflows.is_dir():
        shutil.copytree(dataflows, site / "dataflows")
    paths = [
        os.path.relpath(os.path.join(folder, name), copy)
        for folder, _, names in os.walk(copy)
        for name in names
    ]
    done = subprocess.run(
        [sys.executable, "-B", "-c", TOUCH, str(copy)],
        input=json.dumps(sorted(paths)),
        env={**os.environ, "PYTHONPATH": str(site)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=site,
    )
    assert done.returncode == 0, done.stderr
    return site, json.loads(done.stdout)


def module_name(path: str) -> str:
    name = path[: -len(".py")].replace("/", ".")
    return f"{PACKAGE.name}.{name}".replace(".__init__", "")


def reachable(site: Path, module: str):
    """What Python's own finder of modules says that a module imports, of ours"""
    # The package itself imports it when a program calls it
    on_demand = [f"{PACKAGE.name}.api"]
    finder = modulefinder.ModuleFinder(path=[str(site)], excludes=on_demand)
    finder.import_hook(module)
    return {one for one in finder.modules if one.partition(".")[0] == PACKAGE.name}


def test_files_and_modules(touched):
    """The right keys move, and only those"""
    site, found = touched
    closures = {
        name: reachable(site, module) | reachable(site, f"{PACKAGE.name}.engine.step")
        for name, module in found["modules"].items()
    }
    for path, moved in found["moved"].items():
        covering = {
            name
            for name, files in found["files"].items()
            for one in files
            if f"{os.path.normpath(f'files/{one}')}/" in f"{path}/"
        }
        importing = {
            name
            for name, modules in closures.items()
            if path.endswith(".py")
            and module_name(path) in modules - code.WITHOUT_EFFECT
        }
        assert set(moved) == covering | importing, path


@pytest.mark.parametrize(
    "path, expected",
    [
        ("operations/boot.py", {"boot_verify", "verify_ssi"}),
        ("vm/qemu.py", {"boot_verify", "verify_ssi"}),
        ("ssi/client.py", {"verify_ssi"}),
        ("guest/health.sh", {"boot_verify", "verify_ssi"}),
        ("host/solve_rpms.py", {"lock_kernel_rpms"}),
        ("cli/build.py", set()),
        ("errors.py", set()),
        ("engine/store.py", set()),
        ("engine/upkeep.py", set()),
        ("compat/loader.py", set()),
        ("operations/publish.py", {"collect_result", "publish_result"}),
    ],
)
def test_some_of_them(touched, path, expected):
    assert set(touched[1]["moved"][path]) == expected


@pytest.mark.parametrize("path", ["engine/commands.py", "engine/step.py"])
def test_what_runs_commands_counts_for_all(touched, path):
    moved = touched[1]["moved"][path]
    assert set(moved) == set(touched[1]["modules"])


def test_owner_and_umask_of_a_checkout_do_not_count(tmp_path):
    (tmp_path / "a/deep").mkdir(parents=True)
    (tmp_path / "a/deep/file").write_text("x")
    before = code.files_digest(tmp_path / "a")
    (tmp_path / "a/deep").chmod(0o700)
    (tmp_path / "a/deep/file").chmod(0o600)
    assert code.files_digest(tmp_path / "a") == before
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert code.files_digest(tmp_path / "b") == before
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert code.files_digest(tmp_path / "link") == before


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "file").write_text("y"),
        lambda root: (root / "file").chmod(0o755),
        lambda root: (root / "file").rename(root / "other"),
        lambda root: (root / "more").touch(),
        lambda root: (root / "more").symlink_to("file"),
        lambda root: (root / "more").symlink_to("/etc"),
        lambda root: (root / "file").unlink(),
    ],
)
def test_what_counts_of_files(tmp_path, change):
    (tmp_path / "file").write_text("x")
    before = code.files_digest(tmp_path)
    change(tmp_path)
    assert code.files_digest(tmp_path) != before


def test_format(tmp_path):
    """
    `digest` and `operation` count for no key: who changes what keys, names and modes
    are, so that this test fails, raises FORMAT
    """
    operation = sys.modules[sample.operation.__module__]
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("x")
    (tmp_path / "tree/file").chmod(0o644)
    [line] = manifest(tmp_path / "tree")
    owner = f"{os.getuid()}:{os.getgid()}"
    content = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert line == f"'file' 100644 {owner} 1 {content}"
    assert operation.FORMAT == 2 and operation.UMASK == 0o022
    assert tree_digest(["a\n"]) == "3f03c1a07149ac7db604aafb158f25a1"
    assert sparse_digest(tmp_path / "tree/file") == (
        "7c51256c903ddb14ebcf2facc3225d3f4496b15359d7d9f1a63ac8651294e56d"
    )
    assert key_of({"a": [1, "b"], "c": None}) == (
        "23973d1d6998215803cee676533c2ca5c5081d5c4bfd3c7ea40c9ec2bd0f3073"
    )
