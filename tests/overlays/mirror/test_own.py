import pytest

from dffml_operations_decentralice.overlays.mirror import own


def test_layout():
    text = """
    # a comment
    d /tmp 1777 root root
    L /bin - - - - usr/bin
    z /etc/shadow 0640 root shadow
    """
    found = own.layout(text, [own.file("etc/shadow", b"root:*::\n")])
    listed = {
        one.info.name: (oct(one.info.mode), one.info.gname, one.info.linkname)
        for one in found
    }
    assert listed == {
        "etc/shadow": ("0o640", "shadow", ""),
        "tmp": ("0o1777", "root", ""),
        "bin": ("0o777", "root", "usr/bin"),
    }


@pytest.mark.parametrize(
    "line, error",
    [
        ("f /etc/foo 0644 root root - text", ValueError),
        ("z /etc/foo 0644 root root", KeyError),
        ("d /etc/foo", ValueError),
        ("d /etc/foo rwx root root", ValueError),
    ],
)
def test_layout_refused(line, error):
    with pytest.raises(error):
        own.layout(line)


def test_usable():
    packages = [
        own.Own("a", "", ["b", "libc6"], []),
        own.Own("b", "", ["gone"], []),
        own.Own("c", "", ["libc6"], []),
        own.Own("d", "", ["c"], []),
    ]
    assert [one.name for one in own.usable(packages, ["libc6"])] == ["c", "d"]
