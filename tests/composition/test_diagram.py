"""The flow as a picture"""

import re
import shutil
import struct
from xml.etree import ElementTree

import pytest

from dffml_operations_decentralice.composition import compose, diagram
from dffml_operations_decentralice.errors import MissingTool

SVG = "{http://www.w3.org/2000/svg}"


def test_mermaid():
    text = diagram.mermaid(compose(["mirror"]))
    assert text.startswith("flowchart TD\n")
    lines = [line.strip() for line in text.splitlines()]
    assert "build_uki -- UnifiedKernelImage --> install_bootloader" in lines
    assert "fetch_debian_kernel -- DebianKernel --> kernel_repository" in lines
    kinds = dict(re.findall(r"^(\w+):::(\w+)$", "\n".join(lines), re.M))
    assert kinds["fetch_debian_kernel"] == "added"
    assert kinds["kernel_repository"] == "replaced"
    assert kinds["build_uki"] == "flow"
    assert "get_single" not in kinds


def test_every_input_is_an_edge():
    composition = compose()
    inputs = sum(len(one["inputs"]) for one in composition.operations.values())
    seeds = 1  # get_single's spec
    assert len(diagram.edges(composition)) == inputs - seeds


@pytest.mark.skipif(not shutil.which("dot"), reason="Graphviz is not installed")
def test_picture():
    composition = compose(["mirror"])
    tree = ElementTree.fromstring(diagram.picture(composition, "svg"))
    texts = {one.text for one in tree.iter(f"{SVG}text")}
    assert {*diagram.kinds(composition)} <= texts
    png = diagram.picture(composition, "png")
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert min(struct.unpack(">II", png[16:24])) > 300


def test_without_graphviz(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingTool, match="dot is missing"):
        diagram.picture(compose(), "svg")
