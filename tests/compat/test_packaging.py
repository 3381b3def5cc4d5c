"""The installed package, on each Python from 3.9 to 3.13 that the machine has"""

import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile
from typing import Dict, Iterator, List, NamedTuple, Tuple

import pytest

from dffml_operations_decentralice import flows
from dffml_operations_decentralice.version import VERSION

PACKAGE = "dffml_operations_decentralice"
PTH = PACKAGE + ".pth"
REPOSITORY = pathlib.Path(__file__).parents[2]
SOURCES = (
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "dataflows",
    PACKAGE,
    PTH,
    "entry_points.txt",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
    "tests",
)
MINORS = (9, 10, 11, 12, 13)
SECONDS = 300

# Its minor version, and whether its pip installs into other environments
PROBE = """
import sys, venv
try:
    import pip
    able = tuple(map(int, pip.__version__.split(".")[:2])) >= (22, 3)
except ImportError:
    import ensurepip
    able = False
print(sys.version_info[1], able)
"""

OPERATION = """
from typing import Dict, NamedTuple

from dffml import Definition, config, field, op


@config
class GreetConfig:
    words: dict = field("Greetings by name", default={"Alice": "Hello"})
    unused: list = []


@op(
    inputs={"name": Definition(name="name", primitive="string")},
    outputs={"greeting": Definition(name="greeting", primitive="string")},
    config_cls=GreetConfig,
)
async def greet(self, name):
    return {"greeting": self.parent.config.words[name] + " " + name}


class Point(NamedTuple):
    x: int
    y: int = 2


POINT = Definition(name="point", primitive="map", spec=Point)
assert Definition._fromdict(**POINT.export()).spec(1) == (1, 2)
"""


class Python(NamedTuple):
    path: str
    has_pip: bool


class Environment(NamedTuple):
    """A virtual environment."""

    folder: pathlib.Path
    pip: Tuple[str, ...]
    variables: Dict[str, str]

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def site_packages(self) -> pathlib.Path:
        (found,) = self.folder.glob("lib/python*/site-packages")
        return found

    def run(self, *argv: str, cwd: pathlib.Path):
        """Run a program of the environment's."""
        argv = (str(self.folder / "bin" / argv[0]), *argv[1:])
        return execute(argv, cwd=cwd, env=self.variables)

    def run_pip(self, *arguments: str) -> str:
        # Not the cache folder of the tests: pip's own saves downloads
        env = {**clean_environment(), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        argv = (*self.pip, *arguments)
        return execute(argv, cwd=self.folder, env=env).stdout


def execute(argv, *, cwd, env) -> subprocess.CompletedProcess:
    done = subprocess.run(
        argv,
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"{argv} gave {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def clean_environment() -> Dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name != "VIRTUAL_ENV" and not name.startswith("PYTHON")
    }


def find_pythons() -> Dict[int, Python]:
    """A working interpreter of each minor version, by minor version."""
    found: Dict[int, Python] = {}
    for candidate in _candidates():
        probe = subprocess.run(
            [candidate, "-I", "-c", PROBE],
            stdout=subprocess.PIPE,
            text=True,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if probe.returncode == 0:
            minor, able = probe.stdout.split()
            found.setdefault(int(minor), Python(candidate, able == "True"))
    return found


def _candidates() -> Iterator[str]:
    yield str(getattr(sys, "_base_executable", sys.executable))
    for minor in MINORS:
        in_path = shutil.which(f"python3.{minor}")
        if in_path is not None:
            yield in_path
    for root in (os.environ.get("PYENV_ROOT"), os.path.expanduser("~/.pyenv")):
        if root:
            yield from map(str, pathlib.Path(root).glob("versions/3.*/bin/python3"))


def make_environment(python: Python, folder: pathlib.Path) -> Environment:
    argv = [python.path, "-I", "-m", "venv", str(folder)]
    pip = (str(folder / "bin" / "python"), "-m", "pip")
    if python.has_pip:
        argv.append("--without-pip")
        pip = (python.path, "-m", "pip", "--python", str(folder / "bin" / "python"))
    execute(argv, cwd=folder.parent, env=clean_environment())
    cache = {"XDG_CACHE_HOME": str(folder / "cache")}
    return Environment(folder, pip, {**clean_environment(), **cache})


@pytest.fixture(scope="session")
def pythons() -> Dict[int, Python]:
    return find_pythons()


@pytest.fixture(scope="session")
def any_python(pythons) -> Python:
    return pythons[sys.version_info[1]]


@pytest.fixture(scope="session")
def source_tree(tmp_path_factory) -> pathlib.Path:
    """A copy: building leaves things behind."""
    folder = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        path = REPOSITORY / name
        if path.is_dir():
            shutil.copytree(path, folder / name, symlinks=True, ignore=ignore)
        elif path.exists():
            shutil.copy2(path, folder)
    stale = folder / "build" / "lib" / PACKAGE / "dataflows" / "stale.yaml"
    stale.parent.mkdir(parents=True)
    stale.touch()
    return folder


@pytest.fixture(scope="session")
def wheel(source_tree, any_python, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("wheel")
    builder = make_environment(any_python, folder / "builder")
    builder.run_pip("wheel", "--no-deps", "-w", str(folder), str(source_tree))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def environments(pythons, wheel, tmp_path_factory, request):
    """Environments with the wheel, made at the same time, by minor version."""
    wanted = {
        item.callspec.params["minor"]
        for item in request.session.items
        if "minor" in getattr(getattr(item, "callspec", None), "params", {})
    }

    def make(python: Python, folder: pathlib.Path) -> Environment:
        made = make_environment(python, folder)
        made.run_pip("install", "--no-compile", str(wheel))
        return made

    root = tmp_path_factory.mktemp("environments")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as executor:
        yield {
            minor: executor.submit(make, python, root / f"3.{minor}")
            for minor, python in sorted(pythons.items())
            if minor in wanted
        }


@pytest.fixture(scope="module", params=MINORS, ids=lambda minor: f"3.{minor}")
def minor(request, pythons) -> int:
    if request.param not in pythons:
        pytest.skip(
            f"no Python 3.{request.param} with venv and pip in PATH,"
            " $PYENV_ROOT/versions or ~/.pyenv/versions"
        )
    return request.param


@pytest.fixture(scope="module")
def environment(minor, environments) -> Environment:
    return environments[minor].result(timeout=2 * SECONDS)


# The wheel


def relative_files(root: pathlib.Path, folder: str, pattern: str = "*") -> List[str]:
    return [
        str(file.relative_to(root))
        for file in (root / folder).rglob(pattern)
        if file.is_file() and "__pycache__" not in file.parts
    ]


@pytest.fixture(scope="module")
def packed(wheel) -> List[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_wheel_is_for_any_platform(wheel):
    assert wheel.name == f"{PACKAGE}-{VERSION}-py3-none-any.whl"


def test_wheel_has_all_of_the_package(packed, source_tree):
    assert set(relative_files(source_tree, PACKAGE)) <= set(packed)


def test_wheel_has_the_flows(packed, source_tree):
    files = relative_files(source_tree, "dataflows", "*.yaml")
    found = {name for name in packed if name.startswith(f"{PACKAGE}/dataflows/")}
    assert found == {f"{PACKAGE}/{file}" for file in files}


def test_wheel_has_the_pth_and_nothing_else_outside_of_the_package(packed):
    outside = {name for name in packed if not name.startswith(f"{PACKAGE}/")}
    info = f"{PACKAGE}-{VERSION}.dist-info/"
    assert {name for name in outside if not name.startswith(info)} == {PTH}


def test_wheel_keeps_executable_files_executable(wheel, source_tree):
    with zipfile.ZipFile(wheel) as archive:
        for name in relative_files(source_tree, PACKAGE):
            mode = archive.getinfo(name).external_attr >> 16
            wanted = (source_tree / name).stat().st_mode
            assert bool(mode & 0o111) == bool(wanted & 0o111), name


def test_package_has_only_files_which_wheels_can_hold():
    strange = [
        path
        for path in (REPOSITORY / PACKAGE).rglob("*")
        if path.is_symlink() or not (path.is_file() or path.is_dir())
    ]
    assert not strange, "wheels hold neither symbolic links nor devices"


def test_wheel_has_nothing_of_an_earlier_build(packed):
    assert not [name for name in packed if "stale" in name]


# On each Python


def test_requirements_are_met(environment):
    assert "No broken requirements" in environment.run_pip("check")


@pytest.mark.parametrize(
    "argv, expected",
    [
        (["dffml", "version", "-no-errors"], "dffml 0.4.0"),
        (["python", "-m", "dffml", "version", "-no-errors"], "dffml 0.4.0"),
        (["dffml", "list", "services"], "DecentrAlice"),
        (["dffml", "service", "decentralice", "-h"], "usage"),
        (["python", "-W", "error", "-c", "import dffml; print(dffml.op)"], "function"),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, list) else "",
)
def test_commands_of_dffml(environment, tmp_path, argv, expected):
    done = environment.run(*argv, cwd=tmp_path)
    assert expected in done.stdout
    assert "Error" not in done.stderr and "Warning" not in done.stderr


def test_entry_points_are_those_of_the_file(environment, tmp_path):
    command = "dffml service dev entrypoints list dffml.service.cli"
    done = environment.run(*command.split(), cwd=tmp_path)
    assert f"decentralice = {PACKAGE}.cli:DecentrAlice -> {PACKAGE}" in (
        done.stdout.replace("dffml-operations-decentralice", PACKAGE)
    )


def test_dataflow_create_merge_diagram_run(environment, tmp_path):
    def dataflow(command: str, *argv: str) -> str:
        argv = ("dffml", "dataflow", *command.split(), *argv)
        return environment.run(*argv, cwd=tmp_path).stdout

    (tmp_path / "greeting.py").write_text(OPERATION)
    flow = tmp_path / "flow.yaml"
    create = "create -configloader yaml greet=greeting:greet get_single -inputs"
    flow.write_text(dataflow(create, '["greeting"]=get_single_spec'))
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("configs:\n  greet:\n    words:\n      Bob: Good morning\n")
    merged = tmp_path / "merged.yaml"
    merged.write_text(dataflow("merge overlay.yaml flow.yaml -configloader yaml"))
    assert "greet" in dataflow("diagram merged.yaml -simple")
    done = dataflow("run single -dataflow merged.yaml -inputs Bob=name")
    assert json.loads(done) == [{"greeting": "Good morning Bob"}]


def test_second_start_compiles_nothing(environment, tmp_path):
    code = f"import sys, dffml; print('{PACKAGE}.compat.rewrite' in sys.modules)"
    env = {**environment.variables, "XDG_CACHE_HOME": str(tmp_path)}
    argv = [environment.python, "-c", code]
    runs = [execute(argv, cwd=tmp_path, env=env).stdout.strip() for _ in range(2)]
    assert runs == ["True", "False"]


def test_flows_are_found_in_the_installed_package(environment, source_tree, tmp_path):
    installed = environment.site_packages / PACKAGE
    assert set(locate_flows(environment, tmp_path).values()) == {
        str(installed / file)
        for file in relative_files(source_tree, "dataflows", "*.yaml")
    }


def locate_flows(environment: Environment, cwd: pathlib.Path) -> Dict[str, str]:
    code = (
        f"import json; from {PACKAGE} import flows;"
        " print(json.dumps({name: str(flows.path(name)) for name in flows.paths()}))"
    )
    return json.loads(environment.run("python", "-c", code, cwd=cwd).stdout)


# Once


def listing(environment: Environment) -> set:
    """All files of an environment but bytecode."""
    return {
        str(file.relative_to(environment.folder))
        for file in environment.folder.rglob("*")
        if "__pycache__" not in file.parts and not file.is_dir()
    }


def test_uninstall_leaves_nothing(any_python, wheel, tmp_path):
    environment = make_environment(any_python, tmp_path / "environment")
    before = listing(environment)
    environment.run_pip("install", "--no-deps", str(wheel))
    assert (environment.site_packages / PTH).is_file()
    # dffml is not there: the .pth must be silent about it
    assert environment.run("python", "-c", "pass", cwd=tmp_path).stderr == ""
    environment.run_pip("uninstall", "-y", PACKAGE)
    assert listing(environment) == before
    assert environment.run("python", "-c", "pass", cwd=tmp_path).stderr == ""


@pytest.mark.parametrize("mode", ["lenient", "strict"])
def test_editable(any_python, source_tree, tmp_path, mode):
    tree = tmp_path / "tree"
    shutil.copytree(source_tree, tree)
    (tree / "dataflows" / "overlays" / "extra.yaml").write_text("seed: []\n")
    environment = make_environment(any_python, tmp_path / "environment")
    before = listing(environment)
    options = ["--config-settings", f"editable_mode={mode}", "-e", str(tree)]
    environment.run_pip("install", "--no-deps", *options)
    assert (environment.site_packages / PTH).is_file()
    located = locate_flows(environment, tmp_path)
    assert pathlib.Path(located["extra"]).read_text() == "seed: []\n"
    code = f"from {PACKAGE} import flows as f; print(f.PACKAGE)"
    package = environment.run("python", "-c", code, cwd=tmp_path).stdout.strip()
    assert relative_files(pathlib.Path(package), "go", "go.mod")
    if mode == "lenient":
        environment.run_pip("install", "--no-deps", "dffml")
        environment.run("dffml", "list", "sources", cwd=tmp_path)
    environment.run_pip("uninstall", "-y", PACKAGE, "dffml")
    kept = {name for name in listing(environment) if not name.startswith("cache/")}
    assert kept == before


# Finding flows


def test_unknown_flow_names_the_known_ones():
    with pytest.raises(KeyError, match="no flow or overlay 'nothing'.*known: "):
        flows.path("nothing")


@pytest.mark.parametrize("name", ["", ".", "../setup.py", "overlays/mirror.yaml"])
def test_paths_are_not_names(name):
    with pytest.raises(KeyError):
        flows.path(name)


def test_each_flow_of_the_source_tree_is_found():
    found = {str(path) for path in flows.paths().values()}
    assert found == {
        str(REPOSITORY / name)
        for name in relative_files(REPOSITORY, "dataflows", "*.yaml")
    }
