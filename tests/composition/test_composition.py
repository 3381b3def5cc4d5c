"""Overlays that are merged, and those which are refused"""

from typing import NewType

import pytest

from dffml_operations_decentralice import composition, flows
from dffml_operations_decentralice.api import load
from dffml_operations_decentralice.composition import BASE, assigned, compose
from dffml_operations_decentralice.engine import Step, operation
from dffml_operations_decentralice.engine.settings import SettingError
from dffml_operations_decentralice.errors import UserError
from dffml_operations_decentralice.types import (
    KernelRepository,
    OsRelease,
    RootTree,
    ToolsTree,
    UnifiedKernelImage,
    UserspaceRepository,
)


def test_find_overlay(overlay, tmp_path, monkeypatch):
    path = overlay("{}")
    monkeypatch.chdir(tmp_path)
    assert composition.find(path).path == tmp_path / "mine.yaml"
    assert composition.find("mine.yaml").name == "mine.yaml"
    assert composition.find("./mine.yaml").path.samefile(path)
    assert composition.find("mirror").path.name == "mirror.yaml"


@pytest.mark.parametrize(
    "name", ["mirrors", "none.yaml", "/no/such", "", "..", "a/b.yml"]
)
def test_no_such_overlay(name):
    with pytest.raises(UserError) as caught:
        composition.find(name)
    assert name in caught.value.cause


def test_no_overlay():
    assert compose().content == composition.read(flows.path(BASE)).content


def test_lists_append_and_the_first_value_wins(overlay):
    first = overlay(
        {
            "configs": {
                "build_uki": {"cmdline": ["quiet"]},
                "compose_root": {"hostname": "first"},
            }
        }
    )
    second = overlay(
        {
            "configs": {
                "build_uki": {"cmdline": ["debug"]},
                "compose_root": {"hostname": "second", "locale": "C"},
            }
        },
        "second.yaml",
    )
    found = compose([first, second, "mirror"]).content["configs"]
    base = compose().content["configs"]
    assert found["build_uki"]["cmdline"] == [
        *("quiet", "debug"),
        *base["build_uki"]["cmdline"],
    ]
    assert found["compose_root"] == {"hostname": "first", "locale": "C"}


def test_overlays_leave_the_flow_alone(overlay):
    """Nothing that is read is changed by what is merged"""
    before = compose(["mirror"]).content
    compose([overlay({"configs": {"build_uki": {"cmdline": ["x"]}}}), "mirror"])
    assert compose(["mirror"]).content == before


def test_mirror_replaces(overlay):
    content = compose(["mirror"]).content
    operations = content["operations"]
    name = operations["kernel_repository"]["name"]
    assert name == "decentralice_mirror_kernel_repository"
    assert load(["mirror"]).operations.keys() == operations.keys()


def test_settings_of_an_operation_that_an_overlay_brings(overlay):
    brings = overlay("{}", "b.yaml")
    settings = overlay({"configs": {"fetch_debian_kernel": {"flavour": "generic"}}})
    found = compose([settings, "mirror", brings]).content["configs"]
    assert found["fetch_debian_kernel"] == {"flavour": "generic"}
    with pytest.raises(UserError, match="no operation of the flow"):
        compose([settings])


@pytest.mark.parametrize(
    "content", ["linked: true", "configs:\n", "operations:\n", "{}"]
)
def test_next_to_nothing(overlay, content):
    assert load([overlay(content)])


@pytest.mark.parametrize(
    "content, said",
    [
        ("", "no mapping"),
        ("- a\n", "no mapping"),
        ("text", "no mapping"),
        ("a: [\nb: c\n", "mine.yaml:"),
        ("a: b: c\n", "mine.yaml:1"),
        ("a: &x\nb: *y\n", "mine.yaml:2"),
        ("a: !!python/object/apply:os.system [true]\n", "mine.yaml:1"),
        ("\tx: y\n", "mine.yaml:1"),
        ("config: {build_uki: {}}", "'config'"),
        ({"configs": 3}, "configs"),
        ({"configs": ["build_uki"]}, "configs"),
        ({"configs": {"build_ukis": {}}}, "'build_ukis', which is no operation"),
        ({"configs": {"build_uki": {"cmdlines": []}}}, "unknown setting 'cmdlines'"),
        ({"configs": {"build_uki": {"cmdline": "rw"}}}, "must be a list of text"),
        ({"configs": {"build_uki": {"cmdline": None}}}, "must be a list of text"),
        ({"configs": {"build_uki": {"cmdline": {"a": 1}}}}, "cmdline"),
        ({"configs": {"build_uki": ["rw"]}}, "build_uki"),
        ({"configs": {"build_uki": "rw"}}, "build_uki"),
        ({"configs": {"partition": {"size": "20G"}}}, "must be a whole number"),
        ({"configs": {"publish_result": {"link": 3}}}, "must be text"),
        ({"operations": 3}, "operations"),
        ({"operations": ["build_uki"]}, "operations"),
        ({"operations": {"build_uki": "x"}}, "build_uki"),
        ({"operations": {"build_uki": None}}, "build_uki"),
        ({"operations": {"build_uki": {"name": "nosuch"}}}, "nosuch"),
        ({"operations": {"build_uki": {"name": "no.such:thing"}}}, "no.such"),
        ({"operations": {"build_uki": {"name": "json:nosuch"}}}, "nosuch"),
        ({"operations": {"mine": {"inputs": {}}}}, "mine"),
        ({"operations": {"mine": {"name": "get_single", "x": 1}}}, "Operation"),
        (
            {"operations": {"build_uki": {"outputs": {"result": "Nowhere"}}}},
            None,  # the first value wins: theirs, which no definition is for
        ),
        ({"flow": 3}, "flow"),
        ({"seed": {"a": 1}}, "seed"),
        ({"seed": ["a"]}, ""),
        ({"definitions": []}, "definitions"),
    ],
)
def test_refused(overlay, content, said):
    with pytest.raises(UserError) as caught:
        compose([overlay(content)]).dataflow()
    assert (said or "") in "\n".join(caught.value.lines()), caught.value.lines()
    assert caught.value.remedy


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError):
        load([str(tmp_path / "x.yaml")])


def test_secrets_are_not_told(overlay):
    path = overlay({"configs": {"compose_root": {"root_password_hash": ["hunter2"]}}})
    with pytest.raises(UserError) as caught:
        load([path])
    assert "hunter2" not in "\n".join(caught.value.lines())


LINES = """\
configs:
  lock_userspace:
    packages:
    - sudo
    - nftables
  partition:
    swap: 0
    siez: 1
"""


@pytest.mark.parametrize(
    "keys, line",
    [
        ((), 0),
        (("configs",), 1),
        (("configs", "lock_userspace", "packages"), 3),
        (("configs", "lock_userspace", "packages", 1), 5),
        (("configs", "lock_userspace", "packages", 9), 3),
        (("configs", "partition", "siez"), 8),
        (("configs", "partition", "nothing"), 6),
        (("seed", 0), 0),
    ],
)
def test_line_of(tmp_path, keys, line):
    (tmp_path / "x.yaml").write_text(LINES)
    assert composition.line_of(tmp_path / "x.yaml", keys) == line


def test_a_wrong_setting_is_told_with_its_line(overlay):
    path = overlay(LINES)
    with pytest.raises(
        UserError, match=f"^{path}:6: partition: unknown setting 'siez'"
    ):
        compose(["mirror", path])


def test_what_is_wrong_together_is_told_with_the_line_of_who_says_it(overlay):
    """Lists append: the entry is another one in the file than in the merged flow"""
    first = overlay({"configs": {"build_uki": {"cmdline": ["a", "b"]}}})
    second = overlay({"configs": {"build_uki": {"cmdline": ["c", "d"]}}}, "second.yaml")
    made = compose([first, second])
    part, keys = made.origin("configs", "build_uki", "cmdline", 3)
    assert part.path.name == "second.yaml"
    assert keys == ("configs", "build_uki", "cmdline", 1)
    assert made.origin("configs", "build_uki", "cmdline", 4)[0] is made.base
    with pytest.raises(UserError, match=r"second\.yaml:5: it cannot be"):
        with made.locating():
            path = ("cmdline", 3)
            raise SettingError("build_uki", path, "it cannot be", "mend it")
    with pytest.raises(SettingError, match="^no one says"):
        with made.locating():
            raise SettingError("partition", ("esp",), "no one says", "mend it")


def test_assigned(overlay):
    path = overlay({"configs": {"compose_root": {"hostname": "file"}}})
    values = [
        "compose_root.hostname=line",
        "partition.swap=0",
        "build_uki.cmdline=[a=b]",
    ]
    made = compose([path], assigned(values))
    assert made.settings("compose_root") == {"hostname": "line"}
    assert made.settings("partition") == {"swap": 0}
    assert made.settings("build_uki")["cmdline"][0] == "a=b"


@pytest.mark.parametrize(
    "value, said",
    [
        ("hostname=x", "sets nothing"),
        ("compose_root.hostname", "sets nothing"),
        (".=x", "sets nothing"),
        ("", "sets nothing"),
        ("compose_root.hostname=[", "no YAML"),
        (
            "compose_root.hostname=1",
            "given: compose_root: setting 'hostname' must be text",
        ),
        ("compose_root.host=x", "unknown setting 'host'"),
        ("nothing.at=all", "'nothing', which is no operation"),
    ],
)
def test_assigned_refused(value, said):
    with pytest.raises(UserError) as caught:
        compose([], assigned([value]))
    assert said in caught.value.cause


@pytest.mark.parametrize(
    "content, said",
    [
        (
            {
                "operations": {
                    "kernel_repository": {
                        "name": "decentralice_mirror_kernel_repository"
                    }
                }
            },
            [
                "mine.yaml:3 and ",
                "overlays/mirror.yaml:",
                " both say what operations.kernel_repository is",
            ],
        ),
        (
            {"flow": {"format_root": {"inputs": {"root": [{"x": "result"}]}}}},
            [
                "mine.yaml:4 and ",
                f"{BASE}:",
                " both say where flow.format_root.inputs.root comes from",
            ],
        ),
        (
            {
                "flow": {
                    "format_root": {
                        "inputs": {"new": [{"x": "result"}, {"y": "result"}]}
                    }
                }
            },
            ["mine.yaml:4: flow.format_root.inputs.new comes from 2 operations"],
        ),
        (
            {"operations": {"depmod": {"name": "decentralice_kernel_repository"}}},
            [
                "mine.yaml:2: decentralice_kernel_repository cannot replace depmod",
                "take",
            ],
        ),
        (
            {"operations": {"partition": {"name": "decentralice_build_uki"}}},
            ["cannot replace partition: it does not give PartitionTable"],
        ),
    ],
)
def test_conflicts(overlay, content, said):
    with pytest.raises(UserError) as caught:
        compose([overlay(content), "mirror"])
    for text in said:
        assert text in caught.value.cause, caught.value.cause


def test_two_overlays_may_set_the_same(overlay):
    """The first one wins, as with dffml's merge"""
    first = overlay({"configs": {"partition": {"swap": 1}}})
    second = overlay({"configs": {"partition": {"swap": 2}}}, "second.yaml")
    assert compose([first, second]).settings("partition") == {"swap": 1}


class Entry:
    """An entry point"""

    value = "somewhere:Class"

    def __init__(self, loaded):
        self.load = lambda: loaded


Length = NewType("Length", str)
Unmade = NewType("Unmade", str)


class Example:
    results = [Length]
    configs = {"build_uki": {"cmdline": ["quiet"]}}

    @operation
    async def measure(step: Step, root: RootTree, uki: UnifiedKernelImage) -> Length:
        """How long it is"""


class Homeless:
    @operation
    async def measure(step: Step, root: Unmade) -> Length:
        """What nobody makes"""


class Second:
    @operation
    async def second_uki(step: Step, tools: ToolsTree) -> UnifiedKernelImage:
        """Another origin of what is made already"""


class Replacing:
    @operation
    async def os_release(
        step: Step,
        repository: UserspaceRepository,
        kernel: KernelRepository,
        tools: ToolsTree,
    ) -> OsRelease:
        """In place of the flow's"""


@pytest.fixture
def classes(monkeypatch):
    """Install classes as overlays"""

    def install(**loaded):
        found = {name: Entry(one) for name, one in loaded.items()}
        monkeypatch.setattr(composition.python, "installed", lambda group: found)

    return install


def test_a_class(classes):
    classes(example=Example)
    made = compose(["example", "mirror"])
    wired = {"root": [{"compose_root": "result"}], "uki": [{"build_uki": "result"}]}
    assert made.content["flow"]["measure"] == {"inputs": wired}
    assert made.settings("build_uki")["cmdline"][0] == "quiet"
    flow = made.dataflow()
    assert flow.operations["measure"].name.endswith("test_composition:Example.measure")
    assert [one.value for one in flow.seed] == [["Length"], ["PublishedResult"]]


def test_a_class_that_replaces(classes):
    classes(mine=Replacing)
    made = compose(["mine"])
    flow = made.dataflow()
    assert flow.operations["os_release"].name.endswith(":Replacing.os_release")
    inputs = made.content["flow"]["os_release"]["inputs"]
    assert inputs == {
        "kernel": [{"kernel_repository": "result"}],
        "repository": [{"userspace_repository": "result"}],
        "tools": [{"install_tools": "result"}],
    }


@pytest.mark.parametrize(
    "overlay_class, said",
    [
        (Homeless, "mine: measure needs Unmade, which nothing makes"),
        (Second, "mine: second_uki gives UnifiedKernelImage, as build_uki does"),
        (type("Nothing", (), {}), "neither operations nor configs"),
        (
            type("Wrong", (), {"configs": {"partition": {"x": 1}}}),
            "unknown setting 'x'",
        ),
        (type("Wrong", (), {"configs": 1}), "configs must be a mapping"),
    ],
)
def test_a_class_that_is_refused(classes, overlay_class, said):
    classes(mine=overlay_class)
    with pytest.raises(UserError) as caught:
        compose(["mine"])
    assert said in caught.value.cause
    assert caught.value.cause.startswith(("mine", "overlay 'mine'", "os_dec", "/"))


def test_a_class_that_cannot_be_loaded(monkeypatch):
    entry = Entry(None)
    entry.load = lambda: 1 / 0
    monkeypatch.setattr(composition.python, "installed", lambda group: {"mine": entry})
    with pytest.raises(UserError, match="overlay 'mine': somewhere:Class cannot be"):
        compose(["mine"])
