import gzip
import io
import tarfile
import zlib

from dffml_operations_decentralice.overlays.mirror import apk, own

PURL = "pkg:deb/debian/foo"
META = apk.Meta("foo", "1.0-r1", "Foo", "foo-source", ["bar"], purl=PURL)


def split(data):
    """The gzip members of a package"""
    found = []
    while data:
        unpacker = zlib.decompressobj(31)
        found.append(unpacker.decompress(data))
        data = unpacker.unused_data
    return found


def test_write(tmp_path):
    link = own.link("usr/bin/b", "a")
    owned = apk.write(tmp_path, META, [own.file("usr/bin/a", b"data", 0o2755), link])
    sbom = "var/lib/db/sbom/foo-1.0-r1.spdx.json"
    assert owned == {"usr/bin/a", "usr/bin/b", sbom}
    packed = (tmp_path / "foo-1.0-r1.apk").read_bytes()
    control, data = split(packed)
    assert b"origin = foo-source\n" in control and b"depend = bar\n" in control
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {info.name: info for info in tar}
    # Parents before what is in them
    names = list(found)
    for name in names:
        parent = name.rpartition("/")[0]
        assert not parent or names.index(parent) < names.index(name)
    assert found["usr/bin/a"].mode == 0o2755
    checksum = "APK-TOOLS.checksum.SHA1"
    # sha1sum of "data", and of "a"
    assert found["usr/bin/a"].pax_headers[checksum].startswith("a17c9aaa61e80a1b")
    assert found["usr/bin/b"].pax_headers[checksum].startswith("86f7e437faa5a7fc")


def test_write_is_reproducible(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        apk.write(tmp_path / folder, META, [own.file("usr/bin/a", b"data" * 99)])
    one, two = (path.read_bytes() for path in sorted(tmp_path.rglob("*.apk")))
    assert one == two


def test_control_member_has_no_end():
    """The archive goes on in the next member: no zeros at its end"""
    text = gzip.decompress(apk._segment(".PKGINFO", b"pkgname = foo\n"))
    assert len(text) == 1024


def test_spdx():
    document = apk.spdx(META)
    package = document["packages"][0]
    assert document["documentDescribes"] == [package["SPDXID"]]
    assert package["externalRefs"][0]["referenceLocator"] == META.purl
