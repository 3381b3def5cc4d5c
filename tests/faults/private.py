"""Mount namespaces in which builds run, so that nothing is mounted on the host"""

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Any, Iterator, List, Optional, Sequence

import pytest

from ..mounts import skip_if_refused

# What is written to the temporary directories is seen apart: others write there too
APART = """
set -e
mount -t tmpfs tmpfs "$1"
exec 3< "$2" 4< "$3"
for folder in /tmp /var/tmp; do
    mkdir -p "$1$folder" "$1$folder.work"
done
exec 5< "$1"
for folder in /tmp /var/tmp; do
    upper=/proc/self/fd/5$folder
    options="lowerdir=$folder,upperdir=$upper,workdir=$upper.work"
    mount -t overlay -o "$options" overlay $folder
done
mount --no-canonicalize --rbind /proc/self/fd/3 "$2"
mount --no-canonicalize --rbind /proc/self/fd/4 "$3"
exec 3<&- 4<&- 5<&-
"""
# Of the store only what is written is on the small file system, which is full for it
SMALL = """
set -e
mount -t tmpfs -o "size=$3" tmpfs "$1"
mkdir "$1/upper" "$1/work"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$2"
"""
HOLD = "\necho up; exec cat"


class Namespace:
    """One that is made by a script, and lives as long as it is not closed"""

    def __init__(
        self, script: str, *arguments: Any, within: Optional["Namespace"] = None
    ):
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
        words += [script + HOLD, "sh", *map(str, arguments)]
        words = within.argv(words, Path("/")) if within else words
        pipe = subprocess.PIPE
        self.holder = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe)
        if self.holder.stdout.readline() != b"up\n":
            said = self.holder.communicate()[1].decode()
            skip_if_refused(said)
            pytest.fail(said)

    def argv(self, words: Sequence[Any], cwd: Path) -> List[str]:
        """A command in the namespace"""
        enter = ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "--"]
        change = ["sh", "-c", 'cd "$0" && exec "$@"', str(cwd)]
        return [*enter, *change, *map(str, words)]

    def run(self, *words: Any) -> str:
        """Run one to its end; what it prints"""
        argv = self.argv(words, Path("/"))
        return subprocess.run(
            argv, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def path(self, path: Path) -> Path:
        """Where a path of the namespace is for us"""
        return Path(f"/proc/{self.holder.pid}/root{path}")

    def close(self) -> None:
        """All that is mounted in it goes with its last process"""
        self.holder.communicate()


def apart(seen: Path, folder: Path, store: Path) -> Namespace:
    """
    The host as it is, but that what is written below /tmp and /var/tmp is in ``seen``,
    unless it is in one of the other two
    """
    os.makedirs(seen, exist_ok=True)
    return Namespace(APART, seen, folder, store)


@contextlib.contextmanager
def entered(lab, script: str, *arguments: Any) -> Iterator[None]:
    """The laboratory, but with more mounts"""
    outer = lab.namespace
    lab.namespace = Namespace(script, *arguments, within=outer)
    try:
        yield
    finally:
        lab.namespace.close()
        lab.namespace = outer


def small(lab, size: str):
    """The laboratory, but that its store has no more room than a tmpfs of ``size``"""
    lab.small.mkdir(exist_ok=True)
    return entered(lab, SMALL, lab.small, lab.store, size)


def resize(lab, size: str) -> None:
    """Give the small file system another size"""
    lab.namespace.run("mount", "-o", f"remount,size={size}", lab.small)


def used(lab) -> int:
    """Bytes that are taken of the small file system"""
    said = lab.namespace.run("df", "--output=used", "-B1", lab.small)
    return int(said.split()[-1])
