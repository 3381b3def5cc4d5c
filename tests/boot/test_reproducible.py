"""The same lock gives the same bits, elsewhere, at another time, with other habits"""

import asyncio
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jsonschema
import pytest

from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.operations import ssi
from dffml_operations_decentralice.overlays.mirror import operations as mirror
from dffml_operations_decentralice.schemas import schema

from ..benchmarks.__main__ import MADE_OUTSIDE, OVERLAYS

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent.parent
RUN = """
import pathlib, sys
from tests.benchmarks.runner import run
run(pathlib.Path(sys.argv[1]), sys.argv[2:])
"""
DFFML = [sys.executable, "-m", "dffml", "service", "decentralice"]
NAMES = "initrd.img decentralice.efi esp.img root-tree root.img disk.qcow2".split()
# What a user may have set, and a build must not see
HABITS = {
    "TZ": "Asia/Kathmandu",
    "LC_ALL": "tr_TR.UTF-8",
    "LANG": "tr_TR.UTF-8",
    "USER": "somebody",
    "LOGNAME": "somebody",
    "CFLAGS": "-O0",
    "GOFLAGS": "-tags=other",
    "PYTHONHASHSEED": "7",
    "SOURCE_DATE_EPOCH": "1",
    "TAR_OPTIONS": "--mtime=@5",
    "GZIP": "-9",
    "ZSTD_CLEVEL": "19",
}
TMPFS = 'mount -t tmpfs none "$1"; TMPDIR=$1; export TMPDIR; shift; exec "$@"'


def results(store):
    """Names of objects by those of artefacts, of a store with one build in it"""
    actions = [json.loads(one.read_text()) for one in store.glob("actions/*")]
    return {one["object"].partition("-")[2]: one["object"] for one in actions}


def bring(source, store, operations, how="-al"):
    """
    A new store with what some operations made in another one, and the keys of packages

    how: cp's option: hard links, or copies
    """

    def copy(path, folder):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", how, path, folder], check=True)

    for file in (source / "actions").iterdir():
        action = json.loads(file.read_text())
        if action["parts"]["operation"] in operations:
            copy(file, store / "actions")
            if not (store / "objects" / action["object"]).exists():
                copy(source / "objects" / action["object"], store / "objects")
    for name in ("mirror-keys", "factory-keys"):
        copy(source / "cache" / name, store / "cache")
    return store


def build(store, folder, overlays=OVERLAYS, **env):
    """
    All up to the disk, under another umask, and as root with TMPDIR on a tmpfs which
    nobody else sees
    """
    words = [sys.executable, "-c", RUN, str(store), *overlays]
    if os.geteuid() == 0 and shutil.which("unshare"):
        (folder / "tmpfs").mkdir()
        private = ["unshare", "--mount", "--propagation", "private", "--"]
        words = [*private, "sh", "-ec", TMPFS, "sh", str(folder / "tmpfs"), *words]
    home = {"HOME": str(folder), "TMPDIR": str(folder)}
    every = {**os.environ, "PYTHONPATH": str(ROOT), **HABITS, **home, **env}
    subprocess.run(words, cwd=folder, env=every, umask=0o077, check=True)
    return results(store)


def test_all_made_again_is_the_same(image, tmp_path):
    """But for the mirror; later, as the image was there before"""
    with tempfile.TemporaryDirectory(dir=image.store.parent, prefix="a b") as folder:
        other = bring(image.store, Path(folder, "store"), MADE_OUTSIDE)
        made = build(other, tmp_path)
    assert {name: made[name] for name in NAMES} == {
        name: image.artefact(name).name for name in NAMES
    }


@pytest.fixture
def keys(tmp_path):
    """Settings of keys, which each store else makes for itself"""
    rsa, secret = tmp_path / "key.pem", tmp_path / "key.asc"
    argv = ["openssl", "genpkey", "-algorithm", "RSA", "-quiet", "-out", rsa]
    subprocess.run(argv, check=True)
    with tempfile.TemporaryDirectory(dir="/tmp") as home:  # a socket's path is short
        env = {**os.environ, "GNUPGHOME": home}
        gpg = ["gpg", "--batch", "--quiet", "--faked-system-time", "20260101T000000!"]
        made = ["--passphrase", "", "--quick-generate-key", "Somebody <a@b.c>"]
        subprocess.run([*gpg, *made, "rsa2048", "sign", "never"], env=env, check=True)
        exported = subprocess.check_output([*gpg, "--export-secret-keys"], env=env)
        subprocess.run(["gpgconf", "--kill", "all"], env=env, check=True)
    secret.write_bytes(exported)
    return {
        mirror.mirror_userspace_repository: {"key": str(rsa)},
        mirror.mirror_kernel_repository: {"key": str(secret)},
        ssi.package_ssi_service: {"key": str(rsa)},
    }


def test_two_empty_stores(image, tmp_path, keys):
    """
    What is signed is the same, too, with given keys: all that another store adds to
    what the test before makes again
    """
    inputs = {
        mirror.mirror_userspace_repository: {"debs": "debian-userspace"},
        mirror.mirror_kernel_repository: {"debs": "debian-kernel"},
        ssi.package_ssi_service: {"program": "ssi-service-program"},
    }
    for made, settings in keys.items():
        given = {
            name: str(image.artefact(artefact))
            for name, artefact in inputs[made].items()
        }
        found = [
            asyncio.run(
                run_operation(made, store=tmp_path / name, settings=settings, **given)
            )
            for name in ("one", "two")
        ]
        assert Path(found[0]).name == Path(found[1]).name
    assert not list(tmp_path.glob("*/cache/*/*"))


def test_check(image):
    """`build -check` finds nothing, in the store in which the image was made"""
    objects = sorted(os.listdir(image.store / "objects"))
    env = {**os.environ, "DECENTRALICE_STORE": str(image.store)}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*DFFML, "build", "-check", "-overlays", *OVERLAYS],
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert os.listdir(folder) == []
    report = json.loads(done.stdout)
    jsonschema.validate(report, schema("check-report"))
    assert report["verdict"] == "same" and done.returncode == 0, report
    verdicts = {one["operation"]: one["verdict"] for one in report["steps"]}
    left_out = {name for name, verdict in verdicts.items() if verdict == "left-out"}
    assert left_out == {
        *("fetch_debian_userspace", "fetch_debian_kernel"),
        *("lock_userspace", "lock_kernel_rpms", "boot_verify", "publish_result"),
        "verify_ssi",
    }
    assert len(verdicts) - len(left_out) >= 20
    assert sorted(os.listdir(image.store / "objects")) == objects


def test_no_trace_of_the_day(image):
    """
    Builds at different seconds say nothing of a clock that gives the day only: no file
    has that on which it was made, nor the days since 1970 that shadow(5) counts
    """
    root = image.artefact("root-tree")
    files = image.store.glob("actions/*.json")
    actions = [json.loads(file.read_text()) for file in files]
    days = {int(one["made"]) // 86400 for one in actions if one["object"] == root.name}
    shadow = (root / "etc/shadow").read_text().splitlines()
    assert not {line.split(":")[2] for line in shadow} & set(map(str, days))
    forms = ("%Y-%m-%d", "%Y/%m/%d", "%d %b %Y", "%a %b %d", "%a %b %e")
    made = [datetime.date(1970, 1, 1) + datetime.timedelta(day) for day in days]
    words = "|".join(day.strftime(form) for day in made for form in forms)
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert not re.search(words.encode(), path.read_bytes()), path
