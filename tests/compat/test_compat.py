"""The import layer, in this process; test_packaging.py tries it on each Python"""

import ast
import asyncio
import importlib.metadata
import importlib.util
import os
import pathlib
import subprocess
import sys
import typing
import warnings

import pytest

from dffml_operations_decentralice import compat
from dffml_operations_decentralice.compat import entry_points, loader, rewrite, shims

SHIM = f"__import__('{rewrite.SHIMS}', fromlist=['_'])."


# What is found


@pytest.mark.skipif(
    importlib.metadata.version("dffml") != "0.4.0.post2",
    reason="the list is that of dffml 0.4.0.post2",
)
@pytest.mark.parametrize("name", sorted(compat.MODULES))
def test_every_module_listed_changes(name):
    source = importlib.util.find_spec(name).loader.get_source(name)
    assert ast.dump(rewrite.rewrite(source)) != ast.dump(ast.parse(source))


@pytest.mark.parametrize(
    "name", ["json", "typing", "dffml", "dffml.record", "dffml_config_yaml", "tests"]
)
def test_finder_answers_for_no_other_module(name):
    assert compat.Finder.find_spec(name) is None


def test_finder_finds_nothing_where_there_is_nothing(tmp_path):
    assert compat.Finder.find_spec("dffml.df.base", [str(tmp_path)]) is None


def test_install_twice_is_install_once():
    compat.install()
    compat.install()
    assert sys.meta_path.count(compat.Finder) == 1


def test_start_of_the_interpreter_loads_nothing_else():
    code = """
import sys
before = set(sys.modules)
import dffml_operations_decentralice.compat as layer
layer.install()
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=pathlib.Path(compat.__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    package = compat.__name__.partition(".")[0]
    allowed = {package, f"{package}.version", compat.__name__}
    # What is of the interpreter itself is there anyway, or was, before -S
    heavy = {"ast", "typing", "importlib.metadata", "asyncio", "dataclasses", "dffml"}
    loaded = set(done.stdout.split())
    assert {one for one in loaded if one.startswith(package)} == allowed
    assert not loaded & heavy


# What is rewritten


@pytest.mark.parametrize(
    "before, after",
    [
        ("class A(NamedTuple, B): x: int", "class A(NamedTuple):\n    x: int"),
        ("class A(B, NamedTuple): pass", "class A(NamedTuple):\n    pass"),
        ("import pkg_resources", f"from {rewrite.SHIMS} import pkg_resources"),
        ("import distutils.dir_util", f"from {rewrite.SHIMS} import distutils"),
        ("a.spec._field_types", "a.spec.__annotations__"),
        ("dataclasses.dataclass(eq=True)(c)", f"{SHIM}dataclass(eq=True)(c)"),
        ("asyncio.get_event_loop()", f"{SHIM}get_event_loop()"),
        (
            "type(a['n'], (NamedTuple,), d)",
            f"{SHIM}new_class(a['n'], (NamedTuple,), d)",
        ),
    ],
)
def test_rewritten(before, after):
    assert ast.unparse(rewrite.rewrite(before.encode())) == after


@pytest.mark.parametrize(
    "source",
    [
        "class A(B, C):\n    pass",
        "class A(NamedTuple):\n    x: int = 1",
        "import os.path",
        "from pkg_resources import iter_entry_points",
        "type(a)",
        "type(name, (Base,), NamedTuple)",
        "type(a, b, NamedTuple)",
        "asyncio.get_running_loop()",
        "self.dataclasses.dataclass(c)",
        "dataclasses.make_dataclass(n, f)",
        "f()()[0]._fields",
    ],
)
def test_left_alone(source):
    assert ast.unparse(rewrite.rewrite(source.encode())) == source


def test_line_numbers_stay():
    for statement in ("import pkg_resources", "x = (\n  asyncio.get_event_loop())"):
        before = ast.parse("\n\n" + statement)
        after = rewrite.rewrite(b"\n\n" + statement.encode())
        assert _lines(after) == _lines(before)


def _lines(tree: ast.AST) -> set:
    return {node.lineno for node in ast.walk(tree) if hasattr(node, "lineno")}


# What it is replaced by


class Unhashable(dict):
    pass


@pytest.mark.parametrize("default", [{}, [], set(), Unhashable(a=1)])
def test_dataclass_takes_unhashable_defaults(default):
    @shims.dataclass(eq=True)
    class Config:
        plain: object = default
        field: object = shims.dataclasses.field(default=default, metadata={"a": 1})

    assert Config().plain is Config().field is default
    assert Config(plain=1).plain == 1
    assert shims.dataclasses.fields(Config)[1].metadata == {"a": 1}


def test_dataclass_leaves_the_rest_alone():
    @shims.dataclass
    class Base:
        needed: int
        shared: typing.ClassVar[dict] = {}

    @shims.dataclass
    class Config(Base):
        text: str = "a"

    assert Config(1) == Config(needed=1, text="a")
    assert Config.text == "a" and Config.shared is Base.shared
    with pytest.raises(TypeError):
        Config()


def test_get_event_loop_makes_one_without_a_warning():
    asyncio.set_event_loop(None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop = shims.get_event_loop()
    try:
        assert loop.run_until_complete(asyncio.sleep(0, "ran")) == "ran"
        assert shims.get_event_loop() is loop
    finally:
        loop.close()
        asyncio.set_event_loop(None)


def test_get_event_loop_gives_the_running_one():
    async def both():
        return shims.get_event_loop(), asyncio.get_running_loop()

    one, other = asyncio.run(both())
    assert one is other


def test_new_class_makes_named_tuples():
    namespace = {"__annotations__": {"a": int, "b": str}, "b": "x"}
    made = shims.new_class("Made", (typing.NamedTuple,), namespace)
    assert made(1) == (1, "x") and made.__module__ == "dffml.df.types"


def test_resource_filename():
    assert os.path.isdir(shims.pkg_resources.resource_filename("dffml", "skel"))
    for missing in ("no_such_package", "json.decoder"):
        with pytest.raises(ModuleNotFoundError):
            shims.pkg_resources.resource_filename(missing, "skel")


def test_copy_tree_into_what_is_there(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    for folder, name in ((source, "a"), (target, "b")):
        folder.mkdir()
        (folder / name).touch()
    shims.distutils.dir_util.copy_tree(str(source), str(target))
    assert sorted(file.name for file in target.iterdir()) == ["a", "b"]


# Entry points


def distribution(folder: pathlib.Path, name: str, version: str, text: str) -> str:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(text)
    return str(folder)


def found(group: str) -> dict:
    return {entry.name: entry for entry in entry_points.iter_entry_points(group)}


def test_entry_points_are_as_those_of_pkg_resources(tmp_path, monkeypatch):
    text = "[dffml.x]\none = json.decoder:JSONDecoder.decode [extra]\n"
    folder = distribution(tmp_path, "plugin", "1.2", text)
    monkeypatch.setattr(sys, "path", [folder, *sys.path])
    entry = found("dffml.x")["one"]
    assert (entry.module_name, entry.attrs) == (
        "json.decoder",
        ("JSONDecoder", "decode"),
    )
    assert entry.load() is __import__("json").JSONDecoder.decode
    assert str(entry) == "one = json.decoder:JSONDecoder.decode [extra]"
    assert repr(entry.dist).startswith("plugin 1.2 (")
    assert found("dffml.y") == {}


def test_entry_points_of_the_first_distribution_on_the_path(tmp_path, monkeypatch):
    first = distribution(tmp_path / "1", "plugin", "2", "[dffml.x]\nnew = json\n")
    second = distribution(tmp_path / "2", "plugin", "1", "[dffml.x]\nold = json\n")
    monkeypatch.setattr(sys, "path", [first, second])
    assert list(found("dffml.x")) == ["new"]


def test_entry_points_follow_the_path(tmp_path, monkeypatch):
    folder = distribution(tmp_path, "plugin", "1", "[dffml.x]\none = json\n")
    assert found("dffml.x") == {}
    monkeypatch.setattr(sys, "path", [*sys.path, folder])
    assert list(found("dffml.x")) == ["one"]


# Bytecode


@pytest.fixture
def cache(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    return tmp_path / "cache"


@pytest.fixture
def module(tmp_path) -> pathlib.Path:
    path = tmp_path / "source" / "module.py"
    path.parent.mkdir()
    path.write_text("import pkg_resources\nvalue = 1\n")
    return path


def run(module: pathlib.Path) -> dict:
    namespace = {}
    exec(loader.Loader("module", str(module)).get_code("module"), namespace)
    return namespace


def bytecode(folder: pathlib.Path) -> list:
    return [file for file in folder.rglob("*") if file.is_file()]


def test_bytecode_is_kept_apart_from_the_sources(cache, module):
    assert run(module)["pkg_resources"] is shims.pkg_resources
    assert [file.suffix for file in bytecode(cache)] == [".pyc"]
    assert list(module.parent.iterdir()) == [module]


def test_bytecode_is_used(cache, module, monkeypatch):
    run(module)

    def fail(self, *args, **options):
        raise AssertionError("compiled again")

    monkeypatch.setattr(loader.Loader, "source_to_code", fail)
    assert run(module)["value"] == 1


def test_bytecode_of_an_older_source_is_not_used(cache, module):
    run(module)
    module.write_text("value = 22\n")
    assert run(module)["value"] == 22
    assert run(module)["value"] == 22


def test_bytecode_of_another_rewriter_is_not_used(cache, module, monkeypatch):
    run(module)
    monkeypatch.setattr(loader, "_rewriter", lambda: "other")
    monkeypatch.setattr(rewrite, "rewrite", lambda source: ast.parse("value = 3"))
    assert run(module)["value"] == 3
    assert len(bytecode(cache)) == 2


def test_damaged_bytecode_is_replaced(cache, module):
    run(module)
    (file,) = bytecode(cache)
    whole = file.read_bytes()
    file.write_bytes(b"")
    assert run(module)["value"] == 1
    assert file.read_bytes() == whole


def test_bytecode_goes_below_the_prefix(cache, module, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "prefix"))
    run(module)
    assert bytecode(tmp_path / "prefix") and not cache.exists()


def test_no_bytecode_where_python_is_told_so(cache, module, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert run(module)["value"] == 1
    assert not cache.exists()


@pytest.mark.parametrize("home", ["/dev/null", "/dev/null/a", "/proc/no/such/folder"])
def test_modules_load_where_nothing_can_be_kept(cache, module, monkeypatch, home):
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    assert run(module)["value"] == 1


def test_a_relative_cache_folder_is_ignored(cache, module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    run(module)
    assert not (tmp_path / "relative").exists()
    assert bytecode(tmp_path / ".cache")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")
@pytest.mark.parametrize("inner", ["", "cache", f"cache/{loader.FOLDER}"])
def test_another_users_bytecode_is_not_used(cache, module, tmp_path, inner):
    (cache / loader.FOLDER).mkdir(parents=True)
    foreign = tmp_path / inner
    os.chown(foreign, 12345, 12345)
    if not inner:
        (cache / loader.FOLDER).rmdir()
        cache.rmdir()
    assert run(module)["value"] == 1
    assert bytecode(tmp_path) == [module]


def test_tracebacks_show_the_source(cache, module):
    module.write_text("import pkg_resources\n\nraise ValueError('here')\n")
    for _ in range(2):
        with pytest.raises(ValueError) as raised:
            run(module)
        entry = raised.traceback[-1]
        assert (str(entry.path), entry.lineno + 1) == (str(module), 3)


# What is lost


def test_a_flow_does_not_end_before_its_results_are_looked_at():
    """
    Whenever, in turns of the event loop, the last running operation ends: in one of
    these flows it is while the seed is being looked at
    """
    from dffml import DataFlow, GetSingle, Input, MemoryOrchestrator, op

    ended = []
    for turns in range(40):

        @op(name=f"slow{turns}", inputs={}, outputs={"result": definition("Slow")})
        async def slow(turns=turns):
            for _ in range(turns):
                await asyncio.sleep(0)
            return {"result": "slow"}

        @op(
            name=f"behind{turns}",
            inputs={"slow": definition("Slow")},
            outputs={"result": definition("Behind")},
        )
        async def behind(slow):
            return {"result": f"behind {slow}"}

        seed = Input(value=["Behind"], definition=GetSingle.op.inputs["spec"])
        flow = DataFlow(slow, behind, GetSingle, seed=[seed])

        async def run(flow=flow):
            return [found async for _, found in MemoryOrchestrator.run(flow, [])]

        ended += asyncio.run(run())
    assert ended == [{"Behind": "behind slow"}] * 40


def definition(name):
    from dffml import Definition

    return Definition(name=name, primitive="str")
