import pytest

from dffml_operations_decentralice.errors import UserError
from dffml_operations_decentralice.overlays.mirror import kernel
from dffml_operations_decentralice.overlays.mirror.rpm import Staged


@pytest.mark.parametrize(
    "package, release",
    [
        ("linux-image-6.1.0-50-cloud-amd64", "6.1.0-50-cloud-amd64"),
        ("linux-image-6.12.94+deb13-amd64", "6.12.94+deb13-amd64"),
        ("linux-image-6.1.0-50-amd64-dbg", ""),
        ("linux-image-amd64", ""),
        ("linux-headers-6.1.0-50", ""),
    ],
)
def test_release_of(package, release):
    assert kernel.release_of(package) == release


@pytest.mark.parametrize(
    "data, expected",
    [
        (b"\0license=GPL\0depends=a,b-c\0name=x\0", ["a", "b_c"]),
        (b"\0depends=\0", []),
        (b"\0softdepends=a\0", []),
        (b"", []),
    ],
)
def test_module_needs(data, expected):
    assert kernel.module_needs(data) == expected


def test_closure():
    needs = {"a": ["b"], "b": ["c", "builtin"], "c": ["a"], "d": []}
    assert kernel.closure(["a"], needs) == {"a", "b", "c"}


@pytest.mark.parametrize(
    "flavour, version, expected",
    [
        ("cloud", "", "linux-image-cloud-amd64"),
        ("generic", "6.1.147-1", "linux-image-amd64=6.1.147-1"),
    ],
)
def test_meta_package(flavour, version, expected):
    assert kernel.meta_package(flavour, version) == expected


@pytest.mark.parametrize(
    "flavour, version", [("rt", ""), ("cloud", "latest"), ("cloud", "1 -o x")]
)
def test_meta_package_refused(flavour, version):
    with pytest.raises(UserError):
        kernel.meta_package(flavour, version)


def test_image_of():
    records = [
        {"package": "linux-image-cloud-amd64", "version": "6.1.147-1"},
        {"package": "linux-image-6.1.0-38-cloud-amd64", "version": "6.1.147-1"},
    ]
    assert kernel.image_of(records)["release"] == "6.1.0-38-cloud-amd64"
    with pytest.raises(UserError):
        kernel.image_of(records[:1])


def test_assign():
    def staged(path, kind="file"):
        return Staged(path, kind, "source", 0o600, "root", "root", 0)

    modules = "usr/lib/modules/6.1/kernel"
    entries = [
        staged("boot/vmlinuz-6.1"),
        staged(f"{modules}/fs/ext4/ext4.ko"),
        staged(f"{modules}/other/needed-by-it.ko"),
        staged(f"{modules}/sound/snd.ko"),
        staged("usr/lib/modules/6.1/modules.builtin"),
        staged("usr/share/bug/script"),
        staged("usr/lib/modules", "dir"),
    ]
    moved = [kernel.moved(one, "6.1") for one in entries]
    found = kernel.assign(moved, "6.1", {"ext4": ["needed_by_it"], "needed_by_it": []})
    listed = {
        name: [one["dst"].rpartition("/")[2] for one in contents]
        for name, contents in found.items()
    }
    assert listed == {
        "kernel-core": ["vmlinuz", "modules.builtin"],
        "kernel-modules-core": ["ext4.ko", "needed-by-it.ko"],
        "kernel-modules": ["snd.ko"],
    }
    assert found["kernel-core"][0]["dst"] == "/lib/modules/6.1/vmlinuz"
    assert found["kernel-core"][0]["file_info"]["mode"] == 0o755
