"""The commands that show overlays, and a package that brings one"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import commands_in

EXAMPLE = Path(__file__).parents[1] / "example_overlay"


@pytest.fixture
def run(tmp_path, store):
    return commands_in(tmp_path)


def test_list(run):
    done = run("overlay", "list")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["mirror"].endswith("mirror.yaml")


def test_diff(run):
    argv = ("overlay", "diff", "-overlays", "mirror", "-set", "partition.swap=0")
    done = run(*argv)
    assert done.returncode == 0, done.stderr
    assert "setting partition.swap: 10230 -> 0  (given)\n" in done.stdout
    found = json.loads(run(*argv, "-json").stdout)
    assert {"operation", "setting", "input"} == {one["what"] for one in found}
    [swap] = [one for one in found if one["name"] == "partition.swap"]
    assert (swap["before"], swap["after"], swap["by"]) == (10230, 0, "given")
    assert run("overlay", "diff").stdout == "nothing\n"


def test_diff_of_what_is_refused(run):
    done = run("overlay", "diff", "-set", "partition.swap=none")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: given: partition: setting 'swap' must be a")


def test_diagram(run, tmp_path):
    done = run("diagram", "-overlays", "mirror")
    assert done.returncode == 0 and done.stdout.startswith("flowchart TD\n")
    written = run("diagram", "-overlays", "mirror", "-output", "flow.mmd")
    assert written.returncode == 0 and written.stdout == ""
    assert (tmp_path / "flow.mmd").read_text() == done.stdout


@pytest.mark.parametrize(
    "argv, status, said",
    [
        (["-format", "gif"], 2, "-format cannot be 'gif'"),
        (["-output", "none/flow.mmd"], 2, "none/flow.mmd cannot be written"),
    ],
)
def test_diagram_refused(run, tmp_path, argv, status, said):
    done = run("diagram", *argv)
    assert done.returncode == status and said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_settings(run):
    done = run("settings")
    assert done.returncode == 0 and "## compose_root\n" in done.stdout
    schema = json.loads(run("settings", "-schema").stdout)
    # As the flow has it, and as overlays have it that replace it
    known = schema["properties"]["configs"]["properties"]["compose_root"]["anyOf"]
    assert all("hostname" in one["properties"] for one in known)


@pytest.fixture
def installed(tmp_path):
    """A folder with the example package, as pip installs it"""
    source = tmp_path / "source"
    shutil.copytree(EXAMPLE, source)
    argv = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet"]
    argv += ["--disable-pip-version-check", "--target", str(tmp_path / "site")]
    subprocess.run([*argv, str(source)], check=True)
    return tmp_path / "site"


def test_a_package_that_brings_an_overlay(image, installed, tmp_path):
    """It is found by its name, wired by types, and built: the README's tutorial"""
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    env = {
        "PYTHONPATH": path.rstrip(os.pathsep),
        "DECENTRALICE_STORE": str(image.store),
    }
    run = commands_in(tmp_path)
    assert "inventory" in json.loads(run("overlay", "list", **env).stdout)
    overlays = ("-overlays", "inventory", "mirror")
    changed = run("overlay", "diff", *overlays, **env).stdout
    name = "decentralice_inventory:Inventory.list_programs"
    assert f"operation list_programs: + {name}  (inventory)\n" in changed
    assert "setting publish_result.link: result -> inventoried  (inventory)" in changed
    done = run("build", *overlays, **env)
    assert done.returncode == 0, done.stderr
    programs = Path(json.loads(done.stdout)["results"]["ProgramList"]).read_text()
    assert {"bash", "ssi-service"} <= {*programs.splitlines()}
    assert (tmp_path / "inventoried/disk.qcow2").resolve() == image.disk
    without = run("overlay", "diff", *overlays, DECENTRALICE_STORE=str(image.store))
    assert without.returncode == 2 and "no overlay 'inventory'" in without.stderr
