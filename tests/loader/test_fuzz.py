"""The fuzzer's minutes, from files that are right"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import real
from .test_dynamic import VERSIONED, library, program
from .test_hostile import FULL
from .test_starts import RULES

ROOT = Path(__file__).parent.parent.parent
SECONDS = 60  # of each target
MEMORY = 400  # MB, of which the fuzzer itself takes most
TEXTS = [
    b"[Unit]\nWants=a.service\n[Service]\nExecStart=-/bin/%p 'a b'\nRootDirectory=/\n",
    b"include /etc/*.conf\n/opt\n",
    b"auth [success=1 default=ignore] pam_unix.so nullok\n",
    b"root:x:0:0::/root:/bin/sh\npasswd: files [SUCCESS=merge] systemd\n",
    b"#!/usr/bin/env -S python3 -u\n",
    RULES,
]
FILES = [
    FULL,
    program("liba.so", rpath="$ORIGIN/x"),
    program(imports=[("f", "")]),
    library("liba.so", **VERSIONED),
]


def seeds(target):
    """What the fuzzer begins with"""
    if target in ("elf", "tree"):
        loader = Path(real.host_loader())
        return [*FILES, loader.read_bytes(), b"#!/bin/sh -e\n"]
    cache = Path("/etc/ld.so.cache")
    return [*TEXTS, cache.read_bytes()[:2000] if cache.exists() else b""]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["elf", "tree", "text", "units"])
def test_nothing_crashes(target, tmp_path):
    pytest.importorskip("atheris")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, raw in enumerate(seeds(target)):
        (corpus / str(number)).write_bytes(raw)
    argv = [sys.executable, "-m", "tests.loader.fuzz", target, str(corpus)]
    argv += [f"-max_total_time={SECONDS}", f"-rss_limit_mb={MEMORY}", "-timeout=10"]
    argv += ["-max_len=4096", f"-artifact_prefix={tmp_path}/", "-print_final_stats=1"]
    done = subprocess.run(
        argv,
        cwd=ROOT,
        env={
            **os.environ,
            "TMPDIR": str(tmp_path),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stdout[-3000:]
    (runs,) = [
        int(line.split()[-1])
        for line in done.stdout.splitlines()
        if line.startswith("stat::number_of_executed_units")
    ]
    assert runs > 1000
