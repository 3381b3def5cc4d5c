import base64
import gzip
import hashlib
import io
import os
import tarfile
import tempfile
import tracemalloc
from pathlib import Path

import pytest

from dffml_operations_decentralice.errors import SignatureError, UserError
from dffml_operations_decentralice.operations import apk


def info(name, type=tarfile.REGTYPE, mode=0o644, size=0, **more):
    made = tarfile.TarInfo(name)
    made.type, made.mode, made.size = type, mode, size
    for field, value in more.items():
        setattr(made, field, value)
    return made


def tar(entries, end=True):
    """A tar of (TarInfo, bytes); without its end, as that of a control member"""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as made:
        for entry, content in entries:
            entry.size = len(content)
            made.addfile(entry, io.BytesIO(content))
        offset = made.offset
    return buffer.getvalue() if end else buffer.getvalue()[:offset]


def member(name, content):
    return gzip.compress(tar([(info(name), content)], end=False), mtime=0)


DATA = tar(
    [
        (info("usr", tarfile.DIRTYPE, 0o755, uname="root", gname="root"), b""),
        (info("usr/bin/", tarfile.DIRTYPE, 0o755), b""),
        (info("usr/bin/chage", mode=0o2755, gname="shadow", gid=42), b"program"),
        (info("./usr/bin/[", tarfile.SYMTYPE, 0o777, linkname="test"), b""),
        (info("usr/bin/twin", tarfile.LNKTYPE, linkname="usr/bin/chage"), b""),
        (info("dev/null", tarfile.CHRTYPE, 0o666), b""),
        (info("usr/" + "long/" * 40 + "path"), b"x"),
    ]
)


def package(
    path, data=DATA, signed=True, packed=None, datahash=None, more="", name="x"
):
    """An .apk with ``data``, or of ready bytes; returns its Q1 and its data's hash"""
    packed = gzip.compress(data, mtime=0) if packed is None else packed
    digest = datahash or hashlib.sha256(packed).hexdigest()
    text = f"# made for a test\npkgname = {name}\npkgver = 1-r0\n{more}"
    text += f"datahash = {digest}\n"
    control = member(".PKGINFO", text.encode())
    signature = member(".SIGN.RSA256.test.rsa.pub", b"s" * 512) if signed else b""
    path.write_bytes(signature + control + packed)
    return "Q1" + base64.b64encode(hashlib.sha1(control).digest()).decode(), digest


@pytest.mark.parametrize("signed", [True, False])
def test_members(tmp_path, signed):
    file = tmp_path / "x.apk"
    package(file, signed=signed)
    found = {one.path: one for one in apk.members(file)}
    assert [one.type for one in found.values()] == [
        *("dir", "dir", "file", "symlink", "hardlink", "char", "file")
    ]
    assert list(found)[:4] == ["usr", "usr/bin", "usr/bin/chage", "usr/bin/["]
    chage = found["usr/bin/chage"]
    assert (chage.mode, chage.gname, chage.gid) == (0o2755, "shadow", 42)
    assert found["usr/bin/["].linkname == "test"
    assert found["usr/bin/twin"].linkname == "usr/bin/chage"


def test_members_of_several_gzip_members(tmp_path):
    file = tmp_path / "x.apk"
    half = len(DATA) // 1024 * 512
    packed = gzip.compress(DATA[:half]) + gzip.compress(DATA[half:])
    q1, _ = package(file, packed=packed)
    assert len(list(apk.members(file))) == 7
    apk.verify(file, q1)


def test_root_entry_is_no_member(tmp_path):
    file = tmp_path / "x.apk"
    package(file, tar([(info("./", tarfile.DIRTYPE), b""), (info("a"), b"")]))
    assert [one.path for one in apk.members(file)] == ["a"]


def test_pkginfo(tmp_path):
    file = tmp_path / "x.apk"
    _, digest = package(file, more="depend = a\ndepend = so:b=1 c\nempty = \n")
    assert apk.pkginfo(file) == {
        "pkgname": ["x"],
        "pkgver": ["1-r0"],
        "depend": ["a", "so:b=1 c"],
        "empty": [""],
        "datahash": [digest],
    }


def test_verify_accepts(tmp_path):
    file = tmp_path / "x.apk"
    q1, digest = package(file)
    as_in_lock = "sha256-" + base64.b64encode(bytes.fromhex(digest)).decode()
    for checksum in (None, digest, digest.upper(), as_in_lock):
        apk.verify(file, q1, checksum)


def test_unpack(tmp_path):
    file, stem = tmp_path / "x.apk", tmp_path / "parts/x-1"
    stem.parent.mkdir()
    half = len(DATA) // 2
    for packed in (None, gzip.compress(DATA[:half]) + gzip.compress(DATA[half:])):
        q1, digest = package(file, packed=packed)
        apk.unpack(file, q1, digest, stem)
        control = Path(f"{stem}{apk.CONTROL}").read_bytes()
        assert q1 == "Q1" + base64.b64encode(hashlib.sha1(control).digest()).decode()
        assert Path(f"{stem}{apk.DATA}").read_bytes() == DATA


@pytest.mark.parametrize("spoil", ["q1", "digest", "cut", "tail"])
def test_unpack_leaves_nothing_of_another_package(tmp_path, spoil):
    file, folder = tmp_path / "x.apk", tmp_path / "parts"
    folder.mkdir()
    q1, digest = package(file)
    content = file.read_bytes()
    given = {"q1": q1, "digest": digest, spoil: "Q1" + "0" * 64}
    file.write_bytes({"cut": content[:-9], "tail": content + b"x"}.get(spoil, content))
    with pytest.raises(SignatureError, match="x.apk is not the package"):
        apk.unpack(file, given["q1"], given["digest"], folder / "x")
    assert not list(folder.iterdir())


def test_unpack_has_a_limit(tmp_path, monkeypatch):
    file = tmp_path / "x.apk"
    q1, digest = package(file, packed=gzip.compress(bytes(1 << 20)))
    monkeypatch.setattr(apk, "DATA_LIMIT", 1 << 19)
    with pytest.raises(SignatureError, match="larger than"):
        apk.unpack(file, q1, digest, tmp_path / "x")


@pytest.mark.parametrize("q1", ["", "Q1", "Q1AAAA", "Q2" + "A" * 27 + "=", "nonsense"])
def test_verify_rejects_checksums(tmp_path, q1):
    file = tmp_path / "x.apk"
    package(file)
    with pytest.raises(SignatureError, match="checksum"):
        apk.verify(file, q1)


@pytest.mark.parametrize("data", ["", "0" * 64, "sha256-AAAA", "sha256-*", "sha512-AA"])
def test_verify_rejects_data_checksums(tmp_path, data):
    file = tmp_path / "x.apk"
    q1, _ = package(file)
    with pytest.raises(SignatureError, match="SHA-256"):
        apk.verify(file, q1, data)


def test_verify_rejects_other_data(tmp_path):
    file = tmp_path / "x.apk"
    q1, digest = package(file)
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    for checksum in (None, digest):
        with pytest.raises(SignatureError, match="SHA-256"):
            apk.verify(file, q1, checksum)
    q1, _ = package(file, datahash="0" * 64)
    with pytest.raises(SignatureError, match="SHA-256"):
        apk.verify(file, q1, digest)


def test_verify_needs_a_data_hash(tmp_path):
    file = tmp_path / "x.apk"
    control = member(".PKGINFO", b"pkgname = x\n")
    file.write_bytes(control + gzip.compress(DATA))
    q1 = "Q1" + base64.b64encode(hashlib.sha1(control).digest()).decode()
    with pytest.raises(SignatureError):
        apk.verify(file, q1)


def read_all(file):
    apk.pkginfo(file)
    list(apk.members(file))


def content():
    """The bytes of a good package"""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "good.apk")
        package(file)
        return file.read_bytes()


PACKED = gzip.compress(DATA, mtime=0)


def control(packed_data=PACKED):
    digest = hashlib.sha256(packed_data).hexdigest()
    return member(".PKGINFO", f"datahash = {digest}\n".encode()) + packed_data


def data(tar_bytes):
    return control(gzip.compress(tar_bytes, 1))


def pax_header(size):
    header = info("x", tarfile.XHDTYPE)
    header.size = size
    return header.tobuf(tarfile.GNU_FORMAT)  # the one that can say 8 GB


LINK = info(".PKGINFO", tarfile.SYMTYPE, linkname="nowhere")
HOSTILE = {
    "empty": lambda: b"",
    "no gzip": lambda: b"PK\x03\x04" * 1000,
    "cut in signature": lambda: content()[:20],
    "cut in control": lambda: content()[: len(member(".SIGN.x", b"")) + 100],
    "cut in data": lambda: content()[:-100],
    "bomb": lambda: gzip.compress(b"\0" * MANY, 1) + content(),
    "large control": lambda: member(".PKGINFO", bytes(1 << 21)) + content(),
    "packed control": lambda: gzip.compress(os.urandom(1 << 21), 0) + content(),
    "garbage for control": lambda: gzip.compress(b"garbage" * 1000),
    "no .PKGINFO": lambda: member("other", b"x") + gzip.compress(DATA),
    ".PKGINFO is a link": lambda: gzip.compress(tar([(LINK, b"")])),
    "no tar in data": lambda: data(b"garbage" * 1000),
    "PAX header of 8 GB": lambda: data(pax_header(1 << 33) + b"\0" * MANY),
    "chain of headers": lambda: data(pax_header(0) * 20_000),
    "..": lambda: data(tar([(info("usr/../../etc/passwd"), b"")])),
    "absolute": lambda: data(tar([(info("/etc/passwd"), b"")])),
    "unknown type": lambda: data(tar([(info("x", b"Z"), b"")])),
    "cut tar": lambda: data(DATA[: len(DATA) // 2 // 512 * 512 + 100]),
}
MANY = 32 << 20


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(tmp_path, name):
    file = tmp_path / "x.apk"
    file.write_bytes(HOSTILE[name]())
    tracemalloc.start()
    try:
        with pytest.raises(SignatureError) as raised:
            read_all(file)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert "x.apk" in raised.value.cause and raised.value.remedy


def test_no_such_file(tmp_path):
    for function in (apk.pkginfo, lambda file: list(apk.members(file))):
        with pytest.raises(UserError, match="No such file"):
            function(tmp_path / "missing.apk")
    with pytest.raises(UserError):
        apk.pkginfo(tmp_path)
