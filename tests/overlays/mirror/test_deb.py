import tarfile

import pytest

from dffml_operations_decentralice.errors import UserError
from dffml_operations_decentralice.overlays.mirror import deb

from .conftest import ar, control, entry


@pytest.mark.parametrize(
    "text, expected",
    [
        ("libc6 (>= 2.38)", [("libc6", ">=", "2.38")]),
        ("python3:any", [("python3", "", "")]),
        ("a | b (<< 1:2~3)", [("a", "", ""), ("b", "<<", "1:2~3")]),
        ("foo [amd64 arm64]", [("foo", "", "")]),
        ("libstdc++6 (= 12.2.0-14)", [("libstdc++6", "=", "12.2.0-14")]),
        ("", []),
    ],
)
def test_relations(text, expected):
    assert deb.relations(text, "|") == expected


@pytest.mark.parametrize("text", ["libc6 (>> )", "Foo", "a b", "a (~ 1)"])
def test_relations_refused(text):
    with pytest.raises(UserError, match="cannot be read"):
        deb.relations(text, "|")


def test_control_fields():
    text = "Package: foo\nDescription: one\n two\n .\nDepends: a,\n b\n"
    assert deb.control_fields(text) == {
        "Package": "foo",
        "Description": "one\ntwo\n.",
        "Depends": "a,\nb",
    }


def test_read(make_deb):
    text = control(**{"Pre-Depends": "a", "Depends": "b | c, d", "Provides": "e (= 1)"})
    conffiles = "/etc/foo\nremove-on-upgrade /etc/bar\n"
    found = make_deb(text, conffiles=conffiles)
    assert (found.name, found.version, found.architecture) == ("foo", "1.0-1", "amd64")
    names = [[relation.name for relation in one] for one in found.depends()]
    assert names == [["a"], ["b", "c"], ["d"]]
    assert found.provides() == [("e", "=", "1")]
    assert found.configuration == {"/etc/foo", "/etc/bar"}


def test_members(make_deb):
    found = make_deb(
        control(),
        [
            entry("./", type=tarfile.DIRTYPE),
            entry("./usr/bin/", type=tarfile.DIRTYPE),
            entry("./usr/bin/a", b"content", mode=0o755),
            entry("./usr/bin/b", type=tarfile.LNKTYPE, linkname="./usr/bin/a"),
            entry("./usr/bin/c", type=tarfile.SYMTYPE, linkname="a"),
        ],
    )
    listed = [
        (info.name, info.linkname, content and content.read())
        for info, content in deb.members(found)
    ]
    assert listed == [
        ("usr/bin", "", None),
        ("usr/bin/a", "", b"content"),
        ("usr/bin/b", "usr/bin/a", None),
        ("usr/bin/c", "a", None),
    ]


@pytest.mark.parametrize(
    "bad",
    [
        entry("../etc/passwd"),
        entry("./usr/../../etc/passwd"),
        entry("./dev/sda", type=tarfile.BLKTYPE),
        entry("./fifo", type=tarfile.FIFOTYPE),
        entry("./a", type=tarfile.LNKTYPE, linkname="../../etc/shadow"),
    ],
)
def test_members_refused(make_deb, bad):
    with pytest.raises(UserError, match="foo cannot be converted"):
        list(deb.members(make_deb(control(), [bad])))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        ar([("debian-binary", b"2.0\n")]),
        ar([("control.tar.zst", b"\x28\xb5\x2f\xfd....")]),
        ar([("control.tar.xz", b"x")])[:-30],
    ],
)
def test_read_refused(tmp_path, content):
    path = tmp_path / "foo.deb"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be converted"):
        deb.read(path)


def test_chosen(make_deb):
    foo = make_deb(control("foo", Depends="gone | mta, perl, bar"))
    exim = make_deb(control("exim", Provides="mta"))
    bar = make_deb(control("bar"))
    provider = deb.provider_of([foo, bar, exim])
    assert provider["mta"] == "exim"
    found = deb.chosen(foo, provider, lambda name: name != "perl")
    assert [relation.name for relation in found] == ["mta", "perl", "bar"]
    with pytest.raises(UserError, match="nothing provides perl"):
        list(deb.chosen(foo, provider, lambda name: True))
