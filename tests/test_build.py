"""Overlays that are merged, and those which are refused"""

import asyncio

import pytest
import yaml

from dffml_operations_decentralice import build
from dffml_operations_decentralice.errors import NetworkError, UserError


@pytest.fixture
def overlay(tmp_path):
    """Write an overlay: text, or what YAML makes of data"""

    def write(content, name="mine.yaml"):
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_find_overlay(overlay, tmp_path, monkeypatch):
    path = overlay("{}")
    monkeypatch.chdir(tmp_path)
    assert build.find_overlay(path) == tmp_path / "mine.yaml"
    assert build.find_overlay("mine.yaml").name == "mine.yaml"
    assert build.find_overlay("./mine.yaml").samefile(path)
    assert build.find_overlay("mirror").name == "mirror.yaml"


@pytest.mark.parametrize(
    "name", ["mirrors", "none.yaml", "/no/such", "", "..", "a/b.yml"]
)
def test_no_such_overlay(name):
    with pytest.raises(UserError) as caught:
        build.find_overlay(name)
    assert name in caught.value.cause


def test_no_overlay():
    assert build.merged() == build.read(build.flows.path(build.BASE))


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
    found = build.merged([first, second, "mirror"])["configs"]
    base = build.merged()["configs"]
    assert found["build_uki"]["cmdline"] == [
        *("quiet", "debug"),
        *base["build_uki"]["cmdline"],
    ]
    assert found["compose_root"] == {"hostname": "first", "locale": "C"}


def test_overlays_leave_the_flow_alone(overlay):
    """Nothing that is read is changed by what is merged"""
    before = build.merged(["mirror"])
    build.merged([overlay({"configs": {"build_uki": {"cmdline": ["x"]}}}), "mirror"])
    assert build.merged(["mirror"]) == before


def test_mirror_replaces(overlay):
    content = build.merged(["mirror"])
    operations = content["operations"]
    name = operations["kernel_repository"]["name"]
    assert name == "decentralice_mirror_kernel_repository"
    assert build.load(["mirror"]).operations.keys() == operations.keys()


def test_settings_of_an_operation_that_an_overlay_brings(overlay):
    brings = overlay("{}", "b.yaml")
    settings = overlay({"configs": {"fetch_debian_kernel": {"flavour": "generic"}}})
    found = build.merged([settings, "mirror", brings])["configs"]
    assert found["fetch_debian_kernel"] == {"flavour": "generic"}
    with pytest.raises(UserError, match="no operation of the flow"):
        build.merged([settings])


@pytest.mark.parametrize(
    "content", ["linked: true", "configs:\n", "operations:\n", "{}"]
)
def test_next_to_nothing(overlay, content):
    assert build.load([overlay(content)])


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
        build.load([overlay(content)])
    assert (said or "") in "\n".join(caught.value.lines()), caught.value.lines()
    assert caught.value.remedy


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError):
        build.load([str(tmp_path / "x.yaml")])


def test_secrets_are_not_told(overlay):
    path = overlay({"configs": {"compose_root": {"root_password_hash": ["hunter2"]}}})
    with pytest.raises(UserError) as caught:
        build.load([path])
    assert "hunter2" not in "\n".join(caught.value.lines())


def chained(*errors):
    """The last of exceptions raised from one another"""
    found = None
    for error in errors:
        error.__cause__, found = found, error
    return found


def test_cause():
    ours = UserError("x", remedy="y")
    assert build.cause(ours) is ours
    assert build.cause(chained(ours, ValueError(), KeyError())) is ours
    assert build.cause(chained(ValueError(), KeyError())) is None
    assert build.cause(None) is None
    loop = ValueError()
    loop.__context__ = loop
    assert build.cause(loop) is None


def test_existing(tmp_path):
    disk = tmp_path / "disk"
    disk.touch()
    (tmp_path / "link").symlink_to(disk)
    assert build.existing(tmp_path / "link") == disk
    for none in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match="no disk"):
            build.existing(none)


def test_upstreams_that_do_not_answer(monkeypatch):
    from dffml_operations_decentralice.operations import userspace

    monkeypatch.setattr(userspace, "WOLFI", "http://127.0.0.1:9/os")
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NetworkError) as caught:
        asyncio.run(build.upstreams())
    assert "127.0.0.1:9" in caught.value.cause and "mirror" in caught.value.remedy
