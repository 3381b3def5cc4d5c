"""The flow as a page, as a file, and as dffml reads it"""

import configparser
import importlib
import subprocess
from pathlib import Path

import pytest
import yaml

from dffml_operations_decentralice import api, flow, flows
from dffml_operations_decentralice.composition import compose
from dffml_operations_decentralice.engine.operation import registered_name
from dffml_operations_decentralice.operations import images, ssi_client

from .conftest import DFFML

ROOT = Path(__file__).parent.parent
NAME = "dffml_operations_decentralice"
MODULES = [
    f"{NAME}.{folder}.{path.stem}"
    for folder in ("operations", "overlays.init_routes")
    for path in sorted((ROOT / NAME / folder.replace(".", "/")).glob("*.py"))
    if path.stem != "__init__"
] + [f"{NAME}.overlays.mirror.operations"]


def dffml(*argv):
    done = subprocess.run([*DFFML, *argv], stdout=subprocess.PIPE, check=True, cwd=ROOT)
    return done.stdout


def declared():
    """Every operation of ours, by the name that it is registered under"""
    found = {}
    for name in MODULES:
        for value in vars(importlib.import_module(name)).values():
            action = getattr(value, "action", None)
            if action and action.function.__module__ == name:
                found[registered_name(action.function)] = value
    return found


def entry_points():
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.optionxform = str
    parser.read(ROOT / "entry_points.txt")
    return dict(parser["dffml.operation"])


@pytest.mark.parametrize(
    "page, file", [("FLOW", "os_decentralice.yaml"), ("IMAGES", "images.yaml")]
)
def test_the_file_is_the_page(page, file):
    """`make flow` writes it"""
    argv = ["service", "dev", "export", "-configloader", "yaml", f"{NAME}.flow:{page}"]
    assert flows.path(file).read_bytes() == dffml(*argv)


def plain():
    """Operations which make no artefact, and so are dffml's own"""
    return {
        one.op.name: f"{module.__name__}:{one.__name__}"
        for module in (ssi_client, images)
        for one in vars(module).values()
        if hasattr(one, "op")
    }


def test_each_operation_is_registered():
    expected = plain()
    assert len(expected) == 4
    expected |= {
        name: f"{made.action.function.__module__}:{made.action.name}"
        for name, made in declared().items()
    }
    assert entry_points() == expected


@pytest.mark.parametrize("name, made", declared().items(), ids=list(declared()))
def test_each_operation_is_documented(name, made):
    assert made.__doc__ and made.__doc__.strip()
    assert made.op.name == name == f"decentralice_{made.action.name}"
    for tool in made.action.tools:
        assert isinstance(tool, str)
    for file in made.action.files:
        assert (ROOT / NAME / "files" / file).exists(), file


@pytest.mark.parametrize("name, made", declared().items(), ids=list(declared()))
def test_each_setting_is_documented(name, made):
    settings = made.action.settings
    if settings is not None:
        assert settings.validated
        for field in settings.__dataclass_fields__.values():
            assert field.metadata["description"], field.name


@pytest.mark.parametrize("overlays", [[], ["mirror"], ["oci"], ["oci", "mirror"]])
def test_configs(overlays):
    """
    Each operation with settings has them in the flow (dffml has no defaults without),
    and nothing else has
    """
    content = compose(overlays).content
    mine = declared()
    with_settings = {
        instance
        for instance, operation in content["operations"].items()
        if operation["name"] in mine and mine[operation["name"]].action.settings
    }
    assert with_settings <= set(content["configs"])
    assert set(content["configs"]) <= set(content["operations"])
    compose(overlays).validate()


@pytest.mark.parametrize("name", sorted(flows.overlays()))
def test_overlays_that_come_along(name):
    """Each says what it is for, and has a place in the flow"""
    assert flows.path(name).read_text().startswith("# ")
    compose([name]).dataflow()


WAYS = sorted(name for name in flows.overlays() if name.startswith("init-"))


@pytest.mark.parametrize("way", WAYS)
def test_all_overlays_at_once(way):
    """But of the ways to PID 1, of which an image has one"""
    names = sorted({*flows.overlays()} - {"mirror", *WAYS})
    compose([way, *names, "mirror"]).dataflow()


@pytest.mark.parametrize("overlays", [[], ["mirror"], ["oci"], ["oci", "mirror"]])
def test_every_input_has_one_origin(overlays):
    """Two would have the consumer run twice"""
    content = compose(overlays).content
    for instance, wiring in content["flow"].items():
        for name, origins in wiring["inputs"].items():
            assert len(origins) == 1, (instance, name, origins)
    for instance, operation in content["operations"].items():
        wired = content["flow"][instance]["inputs"]
        assert set(wired) == set(operation["inputs"]), instance


def test_each_type_is_made_once():
    made = [one.op.outputs["result"].name for one in flow.OPERATIONS]
    assert len(set(made)) == len(made)


def test_the_order_is_that_of_the_work():
    """A reader meets nothing that was not made above"""
    seen = set()
    for one in flow.OPERATIONS:
        assert {given.name for given in one.op.inputs.values()} <= seen, one.action.name
        seen.add(one.op.outputs["result"].name)


def test_merge_is_that_of_dffml():
    paths = [flows.path("mirror"), flows.path("os_decentralice.yaml")]
    argv = ["dataflow", "merge", "-configloader", "yaml", *map(str, paths)]
    theirs = yaml.safe_load(dffml(*argv))
    ours = api.load(["mirror"]).export(linked=True)
    assert theirs == ours
    assert set(compose(["mirror"]).content["operations"]) == set(theirs["operations"])


def test_diagram():
    path = flows.path("os_decentralice.yaml")
    argv = ["dataflow", "diagram", str(path), "-simple", "-stages", "processing"]
    said = dffml(*argv).decode()
    for one in flow.OPERATIONS:
        assert f"decentralice_{one.action.name}" in said or one.action.name in said


@pytest.mark.parametrize("name", ["os_decentralice.yaml", "mirror", "oci"])
def test_files_of_flows(name):
    assert flows.path(name).is_file()


def test_no_such_flow():
    with pytest.raises(KeyError, match="mirror"):
        flows.path("mirrors")
