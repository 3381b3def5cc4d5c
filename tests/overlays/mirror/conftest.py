"""Debian packages made on the spot"""

import io
import tarfile

import pytest

from dffml_operations_decentralice.overlays.mirror import deb


def tar_xz(entries):
    """A packed archive of (TarInfo, bytes)"""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as tar:
        for info, data in entries:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def entry(name, data=b"", **more):
    """An entry of an archive, by default a file"""
    info = tarfile.TarInfo(name)
    info.mtime, info.uname, info.gname = 1700000000, "root", "root"
    for field, value in more.items():
        setattr(info, field, value)
    return info, data


def ar(members):
    """An ar archive of (name, bytes)"""
    found = b"!<arch>\n"
    for name, data in members:
        found += b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (
            *(name.encode(), 0, 0, 0, b"100644", len(data)),
        )
        found += data + b"\n" * (len(data) % 2)
    return found


@pytest.fixture
def make_deb(tmp_path):
    """Make a package: ``make_deb(control text, [entry...], conffiles text)``"""

    def make(control, entries=(), conffiles=""):
        package = deb.control_fields(control)
        name = "{Package}_{Version}_{Architecture}.deb".format(**package)
        controls = [entry("./control", control.encode())]
        if conffiles:
            controls.append(entry("./conffiles", conffiles.encode()))
        path = tmp_path / name.replace(":", "%3a")
        members = [
            ("debian-binary", b"2.0\n"),
            ("control.tar.xz", tar_xz(controls)),
            ("data.tar.xz", tar_xz(entries)),
        ]
        path.write_bytes(ar(members))
        return deb.read(path)

    return make


def control(name="foo", version="1.0-1", **more):
    """The text of a control file"""
    fields = {"Package": name, "Version": version, "Architecture": "amd64", **more}
    return "".join(f"{field}: {value}\n" for field, value in fields.items())
