"""What counts as an operation's code, on packages made for it"""

import importlib
import sys

import pytest

from dffml_operations_decentralice.engine import code

FILES = {
    "__init__.py": "",
    "leaf.py": "VALUE = 1\n",
    "constants.py": "from .leaf import VALUE\n",
    "relative.py": "from . import constants\n",
    "absolute.py": "import {package}.constants\n",
    "by_name.py": "from {package}.constants import VALUE\n",
    "inside.py": "def f():\n    from .constants import VALUE\n    return VALUE\n",
    "typing_only.py": "import os, json, yaml, os.path\n",
    "circle_a.py": "from . import circle_b\n",
    "circle_b.py": "from . import circle_a\nfrom .leaf import VALUE\n",
    "deep/__init__.py": "from ..leaf import VALUE\n",
    "deep/er.py": "from .. import constants\n",
    "gone.py": "from .not_there import x\n",
    "apart.py": "X = 1\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of files; ``package.digest(module)`` as a new process has it"""
    name = "code_of_" + "".join(c if c.isalnum() else "_" for c in tmp_path.name)
    root = tmp_path / name
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text.format(package=name))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()

    class Package:
        folder = root

        @staticmethod
        def digest(module):
            code.forget()
            return code.code_digest(f"{name}.{module}" if module else name)

        @staticmethod
        def change(path, text="# changed\n"):
            with open(root / path, "a") as file:
                file.write(text)

    yield Package
    code.forget()
    forget(name)


def forget(package):
    """As if it had never been imported"""
    for loaded in [one for one in sys.modules if one.partition(".")[0] == package]:
        del sys.modules[loaded]
    importlib.invalidate_caches()


@pytest.mark.parametrize(
    "module",
    [
        "leaf",
        "constants",
        "relative",
        "absolute",
        "by_name",
        "inside",
        "circle_a",
        "circle_b",
        "deep",
        "deep.er",
    ],
)
def test_what_it_imports_counts(package, module):
    before = package.digest(module)
    assert package.digest(module) == before
    package.change("apart.py")
    package.change("typing_only.py")
    assert package.digest(module) == before
    package.change("leaf.py")
    assert package.digest(module) != before


def test_own_text_counts(package):
    before = package.digest("apart")
    package.change("apart.py")
    assert package.digest("apart") != before


@pytest.mark.parametrize("module", ["typing_only", "gone"])
def test_others_do_not(package, module):
    assert package.digest(module)


def test_place_does_not_count(package, tmp_path):
    """The same package elsewhere has the same digest"""
    before = package.digest("relative")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    package.folder.rename(moved / package.folder.name)
    sys.path[0] = str(moved)
    forget(package.folder.name)
    assert package.digest("relative") == before


def closure(module):
    """Modules of ours whose text is in a digest"""
    seen = code.closure(module) - code.WITHOUT_EFFECT
    return {one.partition(".")[2] for one in seen}


def test_our_operations():
    uki = closure(f"{code.OURS}.operations.uki")
    assert {"operations.uki", "operations.kernel", "engine.commands"} <= uki
    assert {"engine.step", "engine.sandbox", "engine.download"} <= uki
    assert not uki & {"operations.disk", "operations.boot", "cli", "build", "flow"}


@pytest.mark.parametrize("name", sorted(code.WITHOUT_EFFECT))
def test_what_has_no_effect_exists(name):
    assert importlib.import_module(name)
