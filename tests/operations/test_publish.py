import asyncio
import json
import os
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import DoesNotBoot, UserError, VmError
from dffml_operations_decentralice.operations import publish
from dffml_operations_decentralice.operations.publish import (
    judge,
    replace_link,
    verdict,
    write_lock,
)


def run(operation, store, settings=None, **artefacts):
    artefacts = {name: str(path) for name, path in artefacts.items()}
    running = run_operation(operation, store=store, settings=settings, **artefacts)
    return Path(asyncio.run(running))


def result(folder, said="boots", **more):
    """A result as `collect_result` makes it, but for links"""
    folder.mkdir(parents=True)
    report = {"verdict": said, **more}
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "disk.qcow2").write_text("disk")
    return folder


def test_collect(store, tmp_path):
    objects = store / "objects"
    report = result(objects / "aaa-boot-report")
    (report / "console.log").write_text("login:")
    ssi = result(objects / "ccc-ssi-report", "works")
    (ssi / "console.log").write_text("twice")
    disk = objects / "bbb-disk.qcow2"
    disk.write_text("disk")
    given = {"disk": disk, "report": report, "ssi_report": ssi}
    out = run(publish.collect_result, store, **given)
    assert (out / "ssi-console.log").read_text() == "twice"
    assert json.loads((out / "report.json").read_text()) == {
        "verdict": "boots",
        "ssi_verification": {"verdict": "works"},
    }
    assert (out / "disk.qcow2").read_text() == "disk"
    assert (out / "console.log").read_text() == "login:"
    assert not (out / "console.cast").is_symlink()
    store.rename(tmp_path / "moved")  # links are relative
    assert (tmp_path / "moved/objects" / out.name / "disk.qcow2").read_text() == "disk"


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '"x"', '{"verdict": "boots"}'])
def test_verdict(tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    assert verdict(tmp_path) == ("boots" if "boots" in text else "")
    assert verdict(tmp_path / "missing") == ""


def test_replace_link(tmp_path):
    link = tmp_path / "result"
    one, two = (result(tmp_path / "objects" / name) for name in ("one", "two"))
    for target in (one, two, two):
        replace_link(link, str(target))
        assert os.readlink(link) == str(target)
    assert sorted(os.listdir(tmp_path)) == ["objects", "result"]


def test_the_last_good_one_is_kept(tmp_path):
    link, kept = tmp_path / "result", tmp_path / "result.last-good"
    good, bad, worse, better = (
        result(tmp_path / "objects" / name, said)
        for name, said in {
            "good": "boots",
            "bad": "does-not-boot",
            "worse": "vm-failed",
            "better": "boots",
        }.items()
    )
    replace_link(link, str(good))
    replace_link(link, str(bad))
    assert os.readlink(link) == str(bad) and os.readlink(kept) == str(good)
    replace_link(link, str(worse))
    assert os.readlink(link) == str(worse) and os.readlink(kept) == str(good)
    replace_link(link, str(better))
    assert os.readlink(link) == str(better)


def test_a_link_to_nowhere_is_replaced(tmp_path):
    (tmp_path / "result").symlink_to("/no/such/result")
    target = result(tmp_path / "objects/one")
    replace_link(tmp_path / "result", str(target))
    assert os.readlink(tmp_path / "result") == str(target)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_is_not_ours_is_kept(tmp_path, kind):
    link = tmp_path / "result"
    link.mkdir() if kind == "directory" else link.write_text("precious")
    with pytest.raises(UserError, match="no result of ours"):
        replace_link(link, str(result(tmp_path / "objects/one")))
    assert not link.is_symlink()


def locks(tmp_path, **content):
    found = {}
    for name in ("userspace", "kernel"):
        found[name] = tmp_path / f"{name}.lock"
        found[name].write_text(json.dumps(content.get(name, {"request": {}})))
    return found


def test_write_lock(tmp_path):
    path = tmp_path / "os.lock.json"
    given = locks(tmp_path)
    write_lock(path, str(given["userspace"]), str(given["kernel"]))
    assert json.loads(path.read_text()) == {
        "version": 2,
        "kernel": {"request": {}},
        "userspace": {"request": {}},
    }
    before = path.stat()
    write_lock(path, str(given["userspace"]), str(given["kernel"]))
    assert path.stat().st_ino == before.st_ino  # the same is not written again
    given["kernel"].write_text('{"request": {"x": 1}}')
    write_lock(path, str(given["userspace"]), str(given["kernel"]))
    assert json.loads(path.read_text())["kernel"]["request"] == {"x": 1}
    assert not path.with_name("os.lock.json.new").exists()


@pytest.mark.parametrize(
    "report, kind, said",
    [
        (
            {"verdict": "does-not-boot", "reason": "Kernel panic", "remedy": "try"},
            DoesNotBoot,
            "the image does not boot: Kernel panic",
        ),
        ({"verdict": "does-not-boot", "state": "degraded"}, DoesNotBoot, "degraded"),
        ({"verdict": "does-not-boot"}, DoesNotBoot, "no reason given"),
        (
            {"verdict": "vm-failed", "reason": "no QEMU"},
            VmError,
            "could not run: no QEMU",
        ),
    ],
)
def test_judge(report, kind, said):
    with pytest.raises(kind) as caught:
        judge(report, Path("result"))
    assert said in caught.value.cause and caught.value.remedy
    assert caught.value.log == Path("result/console.log")


SSI = {"step": "sign-again", "reason": "sign-again: no key", "remedy": "look"}


@pytest.mark.parametrize(
    "boot, ssi, expected, kind",
    [
        ("boots", "works", "boots", None),
        ("boots", "left-out", "boots", None),
        ("boots", "failed", "does-not-boot", DoesNotBoot),
        ("boots", "vm-failed", "vm-failed", VmError),
        ("does-not-boot", "left-out", "does-not-boot", DoesNotBoot),
        ("vm-failed", "left-out", "vm-failed", VmError),
    ],
)
def test_judge_of_both(boot, ssi, expected, kind):
    """An image whose service does not work fails, by the name of the step"""
    reason = "" if boot == "boots" else "panic"
    given = {"verdict": boot, "reason": reason, "remedy": ""}
    report = publish.merged(given, {"verdict": ssi, **SSI})
    assert report["verdict"] == expected
    if kind is None:
        judge(report, Path("result"))
        return
    with pytest.raises(kind) as raised:
        judge(report, Path("result"))
    log = "console.log" if reason else "ssi-console.log"
    assert raised.value.log == Path("result") / log
    assert (reason or "sign-again: no key") in raised.value.cause
    assert raised.value.remedy


def test_judge_is_silent():
    judge({"verdict": "boots"}, Path("result"))


@pytest.mark.parametrize(
    "said, kind", [("boots", None), ("does-not-boot", DoesNotBoot)]
)
def test_publish(store, tmp_path, monkeypatch, said, kind):
    """The link and the lock are there before a bad verdict is raised"""
    monkeypatch.chdir(tmp_path)
    made = result(store / "objects/aaa-result", said)
    found = locks(tmp_path)
    given = {
        "result": made,
        "userspace_lock": found["userspace"],
        "kernel_lock": found["kernel"],
    }
    if kind:
        with pytest.raises(kind):
            run(publish.publish_result, store, **given)
    else:
        out = run(publish.publish_result, store, **given)
        paths = {"result": "result", "lock": "os.lock.json"}
        answer = {name: str(tmp_path / path) for name, path in paths.items()}
        answer["verdict"] = said
        assert json.loads(out.read_text()) == answer
    assert os.readlink("result") == str(made)
    assert json.loads(Path("os.lock.json").read_text())["version"] == 2
    [kept] = (store / "roots").iterdir()
    assert json.loads(kept.read_text())["link"] == str(tmp_path / "result")


def test_publish_elsewhere(store, tmp_path):
    """Directories that the settings name are made"""
    made = result(store / "objects/aaa-result")
    found = locks(tmp_path)
    settings = {
        "link": str(tmp_path / "a/b/mine"),
        "lock": str(tmp_path / "c/mine.json"),
    }
    given = {
        "result": made,
        "userspace_lock": found["userspace"],
        "kernel_lock": found["kernel"],
    }
    run(publish.publish_result, store, settings, **given)
    assert os.readlink(tmp_path / "a/b/mine") == str(made)
    assert (tmp_path / "c/mine.json").is_file()


def test_publish_touches_nothing_if_it_must_not(store, tmp_path, monkeypatch):
    """Neither the lock: both or none"""
    monkeypatch.chdir(tmp_path)
    Path("result").mkdir()
    found = locks(tmp_path)
    given = {
        "result": result(store / "objects/aaa-result"),
        "userspace_lock": found["userspace"],
        "kernel_lock": found["kernel"],
    }
    with pytest.raises(UserError, match="no result of ours"):
        run(publish.publish_result, store, **given)
    assert not Path("os.lock.json").exists()
