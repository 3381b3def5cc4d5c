"""The build as a part of other programs, and of other flows"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from dffml import (
    DataFlow,
    Definition,
    GetSingle,
    Input,
    MemoryOrchestrator,
    op,
    run_dataflow,
)
from dffml.operation.dataflow import RunDataFlowConfig

import dffml_operations_decentralice as package
from dffml_operations_decentralice import build, flows, load, noasync
from dffml_operations_decentralice.errors import UserError
from dffml_operations_decentralice.operations.images import folder_name

from .conftest import DFFML

MIRROR = ["mirror"]


@pytest.fixture
def here(image, tmp_path, monkeypatch):
    """An empty directory; the store knows the session's image"""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DECENTRALICE_STORE", str(image.store))
    return tmp_path


def test_build(image, here):
    events = []
    built = asyncio.run(build(MIRROR, progress=events.append))
    assert built.verdict == "boots" and built.results == {}
    assert built.folder == here / "result"
    assert built.disk.resolve() == image.disk
    assert built.report == image.report
    assert json.loads(built.lock.read_text())["version"]
    assert events[0]["event"] == "plan" and "build_uki" in events[0]["operations"]
    ran = [one["operation"] for one in events if one["event"] == "start"]
    assert ran[-1] == "publish_result" and "boot_verify" not in ran


def test_without_await(image, here):
    built = noasync.build(MIRROR, {"publish_result": {"link": "mine"}})
    assert built.folder == here / "mine" and built.disk.resolve() == image.disk


def test_what_is_raised(here):
    with pytest.raises(UserError, match="given: partition: setting 'swap' must be"):
        noasync.build(MIRROR, {"partition": {"swap": "1G"}})
    with pytest.raises(UserError, match="given: .*configs must be a mapping"):
        noasync.build(MIRROR, ["partition"])
    assert list(here.iterdir()) == []


def test_names():
    assert {"build", "boot_verify", "load", "reproduce"} <= {*package.__all__}
    assert all(callable(getattr(package, name)) for name in package.CALLS)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_import_imports_nothing():
    """As every interpreter start does"""
    script = "import sys, dffml_operations_decentralice; print('dffml' in sys.modules)"
    argv = [sys.executable, "-c", script]
    assert subprocess.run(argv, stdout=subprocess.PIPE).stdout == b"False\n"


Wanted = Definition(name="WantedImage", primitive="str")
Found = Definition(name="FoundImage", primitive="str")


@op(inputs={"name": Wanted}, outputs={"path": Found})
async def image_of(self, name):
    """An operation of somebody's who needs an image"""
    spec = Input(value=["DiskImage"], definition=GetSingle.op.inputs["spec"])
    async with self.subflow(load([name])) as octx:
        async for _ctx, results in octx.run({"image": [spec]}):
            return {"path": results["DiskImage"]}


def results_of(flow, *inputs):
    async def run():
        return [found async for _, found in MemoryOrchestrator.run(flow, [*inputs])]

    [found] = asyncio.run(run())
    return found


def test_as_a_subflow(image, here):
    flow = DataFlow(
        operations={"image_of": image_of, "get_single": GetSingle},
        seed=[Input(value=[Found.name], definition=GetSingle.op.inputs["spec"])],
        implementations={image_of.op.name: image_of.imp},
    )
    found = results_of(flow, Input(value="mirror", definition=Wanted))
    assert Path(found[Found.name]) == image.disk


def test_by_the_operation_of_dffml(image, here):
    results = run_dataflow.op.outputs["results"]
    flow = DataFlow(
        operations={"run_dataflow": run_dataflow, "get_single": GetSingle},
        configs={"run_dataflow": RunDataFlowConfig(dataflow=load(MIRROR))},
        seed=[Input(value=[results.name], definition=GetSingle.op.inputs["spec"])],
    )
    given = Input(value={"image": []}, definition=run_dataflow.op.inputs["inputs"])
    found = results_of(flow, given)[results.name]
    assert Path(found["image"]["PublishedResult"]).name.endswith("published.json")
    assert (here / "result/disk.qcow2").resolve() == image.disk


def test_records(image, here):
    """Several images in one go; the verdicts are written to the source"""
    (here / "quiet.yaml").write_text("configs:\n  partition: {swap: none}\n")
    (here / "images.json").write_text("{}")
    source = ["-sources", "images=json", "-source-images-filename", "images.json"]
    argv = [*DFFML, "dataflow", "run", "records", "set", *source]
    argv += ["-source-images-allowempty", "-source-images-readwrite", "-no-echo"]
    argv += ["-dataflow", str(flows.path("images.yaml")), "-record-def", "Overlays"]
    done = subprocess.run(
        [*argv, "-update", "-keys", "mirror", "quiet.yaml,mirror"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    text = (here / "images.json").read_text()
    records = json.loads(text)["untagged"]
    found = {key: one["features"]["ImageVerdict"] for key, one in records.items()}
    assert found["mirror"] == {
        "verdict": "boots",
        "reason": "",
        "disk": str(here / "images/mirror/result/disk.qcow2"),
    }
    assert Path(found["mirror"]["disk"]).resolve() == image.disk
    assert found["quiet.yaml,mirror"]["verdict"] == "user"
    assert "quiet.yaml:2: partition: setting" in found["quiet.yaml,mirror"]["reason"]


@pytest.mark.parametrize(
    "overlays, name",
    [
        ("mirror", "mirror"),
        ("./a/b.yaml, mirror", "a-b.yaml,mirror"),
        ("", "base"),
        ("../../etc", "etc"),
        ("..", "base"),
        ("/x y", "x-y"),
    ],
)
def test_folder_name(overlays, name):
    assert folder_name(overlays) == name
