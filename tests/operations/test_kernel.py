"""Fedora's side: pure functions, and RPMs that are refused"""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine.digest import sha256
from dffml_operations_decentralice.engine.operation import UPDATE
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import (
    CommandFailed,
    NetworkError,
    SignatureError,
    UserError,
)
from dffml_operations_decentralice.operations import kernel

from ..rpms import index

PACKAGE = {
    "name": "bash",
    "nevra": "bash-1-1.noarch",
    "sha256": "a" * 64,
    "size": 1,
    "location": "Packages/bash-1-1.noarch.rpm",
    "repository": "test",
}
REQUEST = {
    "packages": ["bash"],
    "repositories": [{"id": "test", "baseurl": "/r"}],
}


def lock(*packages, **request):
    return {"request": {**REQUEST, **request}, "packages": list(packages)}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"nevra": "bash-0:5.2.15-2+b13~1^2.x86_64"},
        {"location": "Packages/b/..bash.rpm"},
    ],
)
def test_check_lock(change):
    kernel.check_lock(lock({**PACKAGE, **change}))


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "a" * 63},
        {"sha256": "A" * 64},
        {"sha256": None},
        {"sha256": "a" * 64 + "\n"},
        {"nevra": "../bash"},
        {"nevra": "a/b"},
        {"nevra": ""},
        {"nevra": "a b"},
        {"location": "../bash.rpm"},
        {"location": "Packages/../../bash.rpm"},
        {"location": "/etc/passwd"},
        {"location": None},
        {"size": "1"},
        {"name": None},
        {"repository": "another"},
    ],
)
def test_check_lock_refuses(change):
    with pytest.raises(UserError) as caught:
        kernel.check_lock(lock({**PACKAGE, **change}))
    assert "-update" in caught.value.remedy


@pytest.mark.parametrize("missing", PACKAGE)
def test_check_lock_refuses_what_is_incomplete(missing):
    package = {name: value for name, value in PACKAGE.items() if name != missing}
    with pytest.raises(UserError):
        kernel.check_lock(lock(package))


@pytest.mark.parametrize("packages", [None, "x", [None], ["bash"], [[]]])
def test_check_lock_refuses_what_is_no_list_of_packages(packages):
    with pytest.raises(UserError):
        kernel.check_lock({"request": REQUEST, "packages": packages})


def test_check_lock_is_complete():
    with pytest.raises(UserError, match="the lock lacks dracut, kernel-core"):
        kernel.check_lock(lock(PACKAGE, packages=["bash", "dracut", "kernel-core"]))


@pytest.mark.parametrize(
    "name, into_image",
    [
        ("kernel", True),
        ("kernel-core", True),
        ("kernel-modules-extra", True),
        ("linux-firmware", True),
        ("linux-firmware-whence", True),
        ("iwlwifi-mvm-firmware", True),
        ("kernelshark", False),
        ("dracut", False),
        ("fwupd", False),
        ("systemd", False),
        ("libkernel-core", False),
    ],
)
def test_what_goes_into_the_image(name, into_image):
    assert bool(kernel.INTO_IMAGE.match(name)) == into_image


@pytest.mark.parametrize(
    "kind, text, expected, named",
    [
        ("MarkingErrors", "Unable to find a match: nosuch", UserError, "nosuch"),
        ("PackageNotFoundError", "no package matched: x", UserError, "x"),
        ("DepsolveError", "\nProblem: nothing provides y", UserError, "Problem"),
        ("RepoError", "All mirrors were tried", NetworkError, "mirrors"),
        (
            "RepoError",
            "Cannot download repomd.xml: Downloading successful, but checksum doesn't "
            "match. Calculated: x",
            SignatureError,
            "checksum",
        ),
        (
            "RepoError",
            "repomd.xml GPG signature verification error",
            SignatureError,
            "",
        ),
        ("Error", "anything", CommandFailed, "anything"),
        ("Error", "", CommandFailed, "Error"),
    ],
)
def test_solver_error(kind, text, expected, named):
    error = kernel.solver_error(kind, text)
    assert type(error) is expected
    assert named in error.cause and error.remedy


def test_description_of_fedora():
    found = kernel.fedora("44", "KEY")
    assert found["keys"] == ["KEY"] and found["releasever"] == "44"
    assert [one["id"] for one in found["repositories"]] == ["fedora", "updates"]


def test_dracut_argv():
    want = kernel.InitrdSettings(omit=["crypt", "resume"], add=["resume"])
    argv = kernel.dracut_argv("6.1", ["ext4", "vfat"], want)
    assert argv[0] == "dracut" and argv[-1] == "/run/out/initrd.img"
    assert "--reproducible" in argv and "--no-hostonly" in argv
    assert "--hostonly" not in argv
    for option, value in {
        "--kver": "6.1",
        "--omit": "crypt",
        "--add": "resume",
        "--add-drivers": "ext4 vfat",
        "--compress": "zstd -3 -T1 -q",
    }.items():
        assert argv[argv.index(option) + 1] == value
    assert "--add" not in kernel.dracut_argv("6.1", [], kernel.InitrdSettings())


def modules(folder, dep=("a.ko",), builtin=(), files=None):
    folder.mkdir(parents=True)
    (folder / "vmlinuz").touch()
    (folder / "modules.dep").write_text("".join(f"kernel/{one}:\n" for one in dep))
    text = "".join(f"kernel/{one}\n" for one in builtin)
    (folder / "modules.builtin").write_text(text)
    for name in dep if files is None else files:
        (folder / name).touch()
    return folder


def test_available(tmp_path):
    found = modules(
        tmp_path / "6.1",
        dep=["virtio-pci.ko.xz", "fs/ext4.ko", "nvme.ko.zst"],
        builtin=["qemu_fw_cfg.ko"],
        files=[],
    )
    names = {"virtio_pci", "ext4", "nvme", "qemu_fw_cfg"}
    assert kernel.available(found) == names


def test_check_modules(tmp_path):
    log = tmp_path / "log"
    kernel.check_modules(modules(tmp_path / "good", dep=["a.ko", "b.ko.xz"]), log)
    with pytest.raises(CommandFailed, match="depmod lists 1 of 2 modules"):
        bad = modules(tmp_path / "bad", dep=["a.ko"], files=["a.ko", "b.ko.gz"])
        kernel.check_modules(bad, log)


@pytest.mark.parametrize("name", ["vmlinuz", "modules.dep", "modules.builtin"])
def test_check_modules_misses(tmp_path, name):
    made = modules(tmp_path / "6.1")
    (made / name).unlink()
    with pytest.raises(CommandFailed, match=f"no {name} in 6.1"):
        kernel.check_modules(made, tmp_path / "log")


@pytest.mark.parametrize("top", ["lib", "usr/lib"])
def test_gather_kernel(tmp_path, top):
    root, out = tmp_path / "root", tmp_path / "out"
    (root / top / "modules/6.1").mkdir(parents=True)
    (root / top / "modules/6.1/vmlinuz").touch()
    (root / top / "firmware/amd").mkdir(parents=True)
    out.mkdir()
    assert kernel.gather_kernel(root, out) == "6.1"
    assert (out / "modules/6.1/vmlinuz").exists()
    assert (out / "firmware/amd").is_dir()
    assert kernel.kernel_release(str(out)) == "6.1"


@pytest.mark.parametrize(
    "releases, said", [([], "0 kernels"), (["1", "2"], "2 kernels")]
)
def test_gather_kernel_refuses(tmp_path, releases, said):
    for one in releases:
        (tmp_path / "root/usr/lib/modules" / one).mkdir(parents=True)
    with pytest.raises(UserError, match=said):
        kernel.gather_kernel(tmp_path / "root", tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "dracut: FAILED: poweroff reboot halt",
        "dracut-install: ERROR: installing 'x'",
        "dracut: Failed to find module 'nosuch'",
    ],
)
def test_check_dracut_refuses(tmp_path, line):
    log = tmp_path / "log"
    log.write_text(f"$ dracut --x ERROR\ndracut: fine\n{line}\nmore\n")
    with pytest.raises(CommandFailed) as caught:
        kernel.check_dracut(log)
    assert line in caught.value.cause and caught.value.log == log


@pytest.mark.parametrize(
    "text",
    ["", "$ dracut --add-drivers FAILED\n", "# ERROR\n", "dracut: *** Done ***\n"],
)
def test_check_dracut(tmp_path, text):
    log = tmp_path / "log"
    log.write_text(text)
    kernel.check_dracut(log)


@pytest.mark.parametrize(
    "said",
    [
        "warning: %post(x-1-1.noarch) scriptlet failed, exit status 3",
        "Error in POSTIN scriptlet in rpm package x",
    ],
)
def test_scriptlets(said):
    assert kernel.SCRIPTLET_FAILED.search(said)
    assert not kernel.SCRIPTLET_FAILED.search("warning: x created as x.rpmnew")


def test_tidy_fedora(tmp_path):
    for name in ("dev/null", "usr/lib/sysimage/rpm/db", "etc/passwd-", "etc/passwd"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    kernel.tidy_fedora(tmp_path)
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"etc/passwd"}
    assert (tmp_path / "usr/lib/modules").is_dir() and (tmp_path / "proc").is_dir()


# Real RPMs, solved by the host's dnf


WANTED = {"kernel": ["kernel-core"], "initrd": ["dracut", "systemd"], "lock": ""}


def run(operation, store, settings=None, **artefacts):
    running = run_operation(operation, store=store, settings=settings, **artefacts)
    return asyncio.run(running)


def locked(store, repository, settings=WANTED):
    made = run(kernel.lock_kernel_rpms, store, settings, repository=repository)
    return made, json.loads(Path(made).read_text())


def test_lock(rpms, store, tmp_path):
    repository = rpms.described(tmp_path / "described")
    content = locked(store, repository)[1]
    names = [one["name"] for one in content["packages"]]
    assert names == ["bash", "dracut", "kernel-core", "kernel-modules-core", "systemd"]
    bash = content["packages"][0]
    file = rpms.root / "Packages/bash-1-1.noarch.rpm"
    assert bash == {
        "name": "bash",
        "nevra": "bash-1-1.noarch",
        "sha256": sha256(file),
        "size": file.stat().st_size,
        "location": "Packages/bash-1-1.noarch.rpm",
        "repository": "test",
    }
    assert content["repositories"] == [
        {
            "id": "test",
            "repomd_sha256": sha256(rpms.root / "repodata/repomd.xml"),
            "revision": "1767225600",
        }
    ]
    request = content["request"]
    assert request["packages"] == ["dracut", "kernel-core", "systemd"]
    assert request["keys"] == {rpms.key.name: sha256(rpms.key)}


@pytest.mark.parametrize(
    "change, kind, named",
    [
        ({"kernel": ["no-such-kernel"]}, UserError, "no-such-kernel"),
        ({"lock": "{damaged}"}, UserError, "damaged"),
    ],
)
def test_lock_refuses(rpms, store, tmp_path, change, kind, named):
    damaged = tmp_path / "damaged"
    damaged.write_text("{")
    repository = rpms.described(tmp_path / "described")
    settings = {**WANTED, **change}
    settings["lock"] = settings["lock"].format(damaged=damaged)
    with pytest.raises(kind) as caught:
        locked(store, repository, settings)
    assert named in caught.value.cause


@pytest.mark.parametrize("where", ["/nowhere", "http://127.0.0.1:9/fedora"])
def test_lock_without_repository(rpms, store, tmp_path, where):
    given = [{"id": "test", "baseurl": where}]
    with pytest.raises(NetworkError) as caught:
        locked(store, rpms.described(tmp_path / "described", given))
    assert "kernel_repository" in caught.value.remedy


def test_changed_index_is_refused(rpms, store, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(rpms.root, copy)
    [primary] = copy.glob("repodata/*primary.xml*")
    content = bytearray(primary.read_bytes())
    content[-1] ^= 1
    primary.write_bytes(content)
    given = [{"id": "test", "baseurl": str(copy)}]
    with pytest.raises(SignatureError):
        locked(store, rpms.described(tmp_path / "described", given))


def test_lock_file_is_used_and_updated(rpms, store, tmp_path, monkeypatch):
    """What is offered later does not count, until an update is asked for"""
    copy = tmp_path / "copy"
    shutil.copytree(rpms.root, copy)
    given = [{"id": "test", "baseurl": str(copy)}]
    repository = rpms.described(tmp_path / "described", given)
    file = tmp_path / "os.lock.json"
    settings = {**WANTED, "lock": str(file)}
    first = locked(store, repository, settings)[1]
    old_text = json.dumps({"version": 2, "kernel": first})
    file.write_text(old_text)
    [systemd] = copy.glob("Packages/systemd-*.rpm")
    systemd.write_bytes(rpms.unsigned.read_bytes())  # bash, in fact: systemd is gone
    index(copy, tmp_path / "rpm")
    assert locked(store, repository, settings)[1] == first
    monkeypatch.setenv(UPDATE, "99999999999")
    with pytest.raises(UserError, match="systemd"):
        locked(store, repository, settings)
    shutil.copyfile(rpms.root / "Packages" / systemd.name, systemd)
    (copy / "Packages/bash-1-1.noarch.rpm").unlink()
    shutil.copyfile(rpms.unsigned, copy / "Packages/bash-other.rpm")
    index(copy, tmp_path / "rpm")
    second = locked(store, repository, settings)[1]
    assert second != first
    # Who puts the old lock back gets what is in it
    monkeypatch.delenv(UPDATE)
    assert locked(store, repository, settings)[1] == first


def test_fetch(rpms, store, tmp_path):
    repository = rpms.described(tmp_path / "described")
    lock = locked(store, repository)[0]
    given = {"repository": repository, "lock": lock}
    image = Path(run(kernel.fetch_kernel_rpms, store, **given))
    initrd = Path(run(kernel.fetch_initrd_rpms, store, **given))
    assert sorted(path.name for path in image.iterdir()) == [
        "kernel-core-1-1.noarch.rpm",
        "kernel-modules-core-1-1.noarch.rpm",
    ]
    assert sorted(path.name for path in initrd.iterdir()) == [
        "bash-1-1.noarch.rpm",
        "dracut-1-1.noarch.rpm",
        "systemd-1-1.noarch.rpm",
    ]


def replaced(rpms, tmp_path, file, in_lock):
    """A repository whose bash is another file; the lock knows, or not"""
    copy = tmp_path / "copy"
    shutil.copytree(rpms.root, copy)
    bash = copy / "Packages/bash-1-1.noarch.rpm"
    content = bytearray(bash.read_bytes() if file is None else file.read_bytes())
    if file is None:
        content[-1] ^= 1
    bash.write_bytes(content)
    given = [{"id": "test", "baseurl": str(copy)}]
    return rpms.described(tmp_path / "changed", given), in_lock and bash


@pytest.mark.parametrize("what", ["unsigned", "of_other_key", "changed"])
@pytest.mark.parametrize("in_lock", [True, False])
def test_fetch_refuses(rpms, store, tmp_path, what, in_lock):
    """
    Bytes that are not the lock's; and such as are, when the lock itself was made of
    them: then the key decides
    """
    good = rpms.described(tmp_path / "good")
    content = locked(store, good)[1]
    file = None if what == "changed" else getattr(rpms, what)
    repository, bash = replaced(rpms, tmp_path, file, in_lock)
    content["request"]["repositories"] = [
        {"id": "test", "baseurl": str(tmp_path / "copy")}
    ]
    if bash:
        content["packages"][0].update(sha256=sha256(bash), size=bash.stat().st_size)
    lock = tmp_path / "lock"
    lock.write_text(json.dumps(content))
    with pytest.raises(SignatureError) as caught:
        run(kernel.fetch_initrd_rpms, store, repository=repository, lock=str(lock))
    if in_lock:
        assert rpms.key.name in caught.value.cause
        assert caught.value.log and caught.value.log.exists()
    else:
        assert "the lock says" in caught.value.cause
    names = [path.name for path in (store / "objects").iterdir()]
    assert not [name for name in names if name.endswith("-initrd-rpms")]
    assert list((store / "tmp").iterdir()) == []


def test_fetch_of_what_is_gone(rpms, store, tmp_path):
    good = rpms.described(tmp_path / "good")
    content = locked(store, good)[1]
    content["packages"][0]["location"] = "Packages/gone.rpm"
    lock = tmp_path / "lock"
    lock.write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        run(kernel.fetch_initrd_rpms, store, repository=good, lock=str(lock))
    assert "gone.rpm" in caught.value.cause and "-update" in caught.value.remedy
