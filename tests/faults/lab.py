"""
Builds that something is done to

A `Lab` has a store of its own with all that the session's image was made of, and a
working directory whose ``result`` is that image. A `Build` is the real command; what it
does is known by its events, and by a bubblewrap that tells of each command.
"""

import contextlib
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Set

from dffml_operations_decentralice.composition import compose
from dffml_operations_decentralice.engine.commands import find_tool
from dffml_operations_decentralice.engine.digest import DIGEST_LENGTH, digest_of
from dffml_operations_decentralice.engine.store import key_of

from ..benchmarks.runner import action_of
from . import host, private

BUILD = [sys.executable, "-m", "dffml", "service", "decentralice", "build"]
OVERLAYS = ("mirror",)
MACHINES = {"boot_verify", "verify_ssi"}
ALWAYS = {"publish_result"}
# What takes minutes (the machines) or brings other packages another day (the archive)
# is ended as all others, and not run to its end afterwards
ENDLESS = {*MACHINES, "fetch_debian_userspace", "fetch_debian_kernel"}
LIMIT = 900.0  # seconds: no step takes as long; a build that hangs is a failure
# Tells of each command; if it is to be held, the command waits for a word
TELLING = """#!/bin/sh
if [ -e {hold} ]; then
    exec {bwrap} --json-status-fd 9 --block-fd 8 "$@" 9> {fifo} 8<> {gate}
fi
exec {bwrap} --json-status-fd 9 "$@" 9> {fifo}
"""


def operations() -> List[str]:
    """Every operation of the flow, by the names that events have"""
    content = compose(list(OVERLAYS)).content["operations"]
    registered = [one["name"] for one in content.values()]
    ours = [name for name in registered if name.startswith("decentralice_")]
    return [action_of(name).name for name in ours]


def copy_store(image, store: Path) -> None:
    """
    All that an image was made of, by hard links. Go's cache is looked into by nobody
    else, and is Go's to keep whole.
    """
    (store / "objects").mkdir(parents=True)
    names = {os.path.basename(image.directory), *image.made_of.values()}
    objects = [str(image.store / "objects" / name) for name in names]
    argv = ["cp", "-al", *objects, str(store / "objects")]
    subprocess.run(argv, check=True)
    (store / "actions").mkdir()
    for action in (image.store / "actions").iterdir():
        if json.loads(action.read_text())["object"] in names:
            shutil.copy2(action, store / "actions")
    for name in ("latest", "logs", "memo.json"):
        subprocess.run(["cp", "-a", str(image.store / name), str(store)], check=True)
    (store / "cache").mkdir()
    for cache in (image.store / "cache").iterdir():
        if cache.name == "go":
            (store / "cache/go").symlink_to(cache)
        else:
            subprocess.run(["cp", "-a", str(cache), str(store / "cache")], check=True)


class Lab:
    """A store to be damaged, a working directory, and builds in them"""

    def __init__(self, image, folder: Path):
        self.image = image
        self.store = folder / "store"
        self.cwd = folder / "work"
        self.temporary = folder / "tmp"
        self.cwd.mkdir()
        self.temporary.mkdir()
        copy_store(image, self.store)
        self.fifo = folder / "commands"
        self.gate, self.hold = folder / "gate", folder / "hold"
        os.mkfifo(self.fifo)
        os.mkfifo(self.gate)
        self.bin = folder / "bin"
        self.bin.mkdir()
        telling = self.bin / "bwrap"
        places = {"fifo": self.fifo, "gate": self.gate, "hold": self.hold}
        telling.write_text(TELLING.format(bwrap=find_tool("bwrap"), **places))
        telling.chmod(0o755)
        self.commands = {name: self._commands(name) for name in operations()}
        self.builds: List[Build] = []
        self.env = {
            **os.environ,
            "DECENTRALICE_STORE": str(self.store),
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "TMPDIR": str(self.temporary),
        }
        self.seen, self.small = folder / "seen", folder / "small"
        self.namespace = private.apart(self.seen, folder, image.store)
        self.known = host.children(os.getpid())
        for _ in range(2):  # the first finds no lock in this directory, and writes it
            done = self.build().end()
            assert done.status == 0, done.said
        self.result = os.readlink(self.cwd / "result")

    def build(self, *overlays, **options) -> "Build":
        """`build -progress json`, or another command, running"""
        return Build(self, options.pop("argv", self.argv(*overlays)), **options)

    def argv(self, *overlays: str) -> List[str]:
        """The command that builds the image"""
        return [*BUILD, "-progress", "json", "-overlays", *overlays, *OVERLAYS]

    def sweep(self) -> List[str]:
        """A command that does no more than to open the store"""
        modules = "from dffml_operations_decentralice import compat; compat.install()"
        script = (
            f"{modules}; import sys, pathlib;"
            "from dffml_operations_decentralice.engine.store import Store;"
            "Store(pathlib.Path(sys.argv[1]))"
        )
        return [sys.executable, "-c", script, str(self.store)]

    def _commands(self, operation: str) -> int:
        """How many commands an operation runs, by the log of its last run"""
        if operation in ALWAYS:
            return 0
        log = json.loads(self.action(operation).read_text())["log"]
        lines = (self.store / "logs" / log).read_bytes().splitlines()
        # That of QEMU is the console's
        return sum(line.startswith(b"$ ") for line in lines) + (operation in MACHINES)

    def tidy(self) -> None:
        """End what a test that failed left running"""
        for build in list(self.builds):
            build.process.kill()
            build.process.communicate()
        for pid in host.children(os.getpid()) - self.known:
            os.kill(pid, signal.SIGKILL)
        host.left_over(self.known)
        self.builds.clear()
        self.hold.unlink(missing_ok=True)
        shutil.rmtree(self.store / "tmp", ignore_errors=True)
        (self.store / "tmp").mkdir()
        for path in self.written():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def written(self) -> List[Path]:
        """What is new in directories for temporary files"""
        found = list(self.temporary.iterdir())
        for folder in ("/tmp", "/var/tmp"):
            upper = self.namespace.path(self.seen) / folder[1:]
            found += [
                one for one in upper.iterdir() if not Path(folder, one.name).exists()
            ]
        return found

    def close(self) -> None:
        """The end of it"""
        self.namespace.close()

    @contextlib.contextmanager
    def forgetting(self, operation: str, for_good: bool = False) -> Iterator[None]:
        """Have an operation's results be unknown: in the block, or for good"""
        found = {}
        for path in self._actions():
            content = path.read_bytes()
            if json.loads(content)["parts"]["operation"] == operation:
                found[path] = content
                path.unlink()
        kept = True
        try:
            yield
            kept = not for_good
        finally:
            if kept:
                for path, content in found.items():
                    path.write_bytes(content)

    def action(self, operation: str) -> Path:
        """The record of the newest of an operation's results"""
        found = {one: json.loads(one.read_text()) for one in self._actions()}
        mine = [one for one in found if found[one]["parts"]["operation"] == operation]
        return max(mine, key=lambda one: found[one]["made"])

    def size(self, operation: str) -> int:
        """Bytes of the newest of an operation's results, 0 if none is remembered"""
        if operation in ALWAYS:
            return 0
        return json.loads(self.action(operation).read_text())["bytes"]

    def _actions(self) -> List[Path]:
        return list(self.store.glob("actions/*.json"))

    def state(self) -> "State":
        """What is now, to be compared"""
        return State(self)


class State:
    """Host and store at one time"""

    def __init__(self, lab: Lab):
        self.lab = lab
        self.store = lab.namespace.path(lab.store)
        self.host = self._surroundings()
        self.children = host.children(os.getpid())
        self.names = {kind: self._names(kind) for kind in ("objects", "actions")}
        self.work = set(os.listdir(lab.cwd))

    def _names(self, kind: str) -> Set[str]:
        return set(os.listdir(self.store / kind))

    def _surroundings(self) -> Dict[str, Set[str]]:
        inside = host.surroundings(str(self.lab.namespace.holder.pid))
        outside = host.surroundings()
        return {**inside, "mounts of all": outside["mounts"]}

    def damage(self, swept: bool = True) -> List[str]:
        """
        What is not as it was and as it should be: nothing, after whatever happened.
        ``swept``: whether the store's scratch directories must be gone.
        """
        lab = self.lab
        found = [f"process: {one}" for one in host.left_over(self.children)]
        found += host.changes(self.host, self._surroundings())
        found += [f"temporary: {one}" for one in lab.written()]
        found += [f"directory: {one}" for one in set(os.listdir(lab.cwd)) - self.work]
        if swept:
            found += [f"scratch: {one}" for one in os.listdir(self.store / "tmp")]
        if os.readlink(lab.cwd / "result") != lab.result:
            found.append("result: is another")
        if not (lab.cwd / "result/disk.qcow2").exists():
            found.append("result: leads nowhere")
        return found + self._bad_objects() + self._bad_actions()

    def _bad_objects(self) -> List[str]:
        folder = self.store / "objects"
        fresh = self._names("objects") - self.names["objects"]
        return [
            f"object: {name} is damaged"
            for name in fresh
            if digest_of(folder / name) != name[:DIGEST_LENGTH]
        ]

    def _bad_actions(self) -> List[str]:
        found = []
        for name in self._names("actions") - self.names["actions"]:
            action = json.loads((self.store / "actions" / name).read_text())
            if f"{key_of(action['parts'])}.json" != name:
                found.append(f"action: {name} has the parts of another")
            if not (self.store / "objects" / action["object"]).exists():
                found.append(f"action: {name} without its object")
        return found


class Build:
    """A build that runs; what it says is read as it comes"""

    def __init__(self, lab: Lab, argv: List[str], **options: Any):
        self.lab = lab
        self.events: List[Dict[str, Any]] = []
        self.said = ""
        self.commands: List[int] = []  # bubblewrap's children
        self.status: Optional[int] = None
        self._told = os.open(lab.fifo, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""
        lab.builds.append(self)
        self.process = subprocess.Popen(
            lab.namespace.argv(argv, lab.cwd),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **{"env": lab.env, **options},
        )

    def until(self, event: str, operation: str) -> "Build":
        """Read on until something is said"""
        self._read(lambda: self.told(event, operation))
        assert self.told(event, operation), self.said
        return self

    def until_within(self, operation: str, part: float) -> "Build":
        """
        Read on until an operation has begun the first (0), the middle (0.5), … the
        last (1) of its commands; or itself, if it runs none
        """
        self.until("start", operation)
        count = self.lab.commands[operation]
        wanted = round(part * (count - 1))
        return self.until_command(wanted, operation) if count else self

    def until_held(self, operation: str) -> "Build":
        """
        Read on until an operation is about to run its first command, which waits; or
        until it begins, if it runs none
        """
        self.lab.hold.touch()
        self.until("start", operation)
        if self.lab.commands[operation]:
            self._read(lambda: self.commands)
        self.lab.hold.unlink()
        return self

    def release(self) -> "Build":
        """Have the command go on which is held"""
        if self.commands:
            self.lab.gate.write_bytes(b"x")
        return self

    def until_command(self, number: int, operation: str = "") -> "Build":
        """Read on until a command runs, or the operation has ended without it"""
        self._read(lambda: len(self.commands) > number or self.told("end", operation))
        if len(self.commands) > number:
            self._wait_for_exec(self.commands[number])
        return self

    def told(self, event: str, operation: str) -> List[Dict[str, Any]]:
        """The events of a kind that an operation had so far"""
        return [
            one
            for one in self.events
            if (one["event"], one.get("operation")) == (event, operation)
        ]

    def started(self) -> Set[str]:
        """The operations that were run"""
        return {one["operation"] for one in self.events if one["event"] == "start"}

    def signal(self, number: int) -> "Build":
        """Send one, and go on"""
        self.process.send_signal(number)
        return self

    def end(self, number: Optional[int] = None) -> "Build":
        """Send a signal, if one is given, and wait for the end"""
        if number is not None:
            self.process.send_signal(number)
        self._read(lambda: False)
        self.status = self.process.wait(LIMIT)
        self.process.stdout.close()
        self.process.stderr.close()
        os.close(self._told)
        self.lab.builds.remove(self)
        return self

    def _wait_for_exec(self, pid: int) -> None:
        """Until bubblewrap has made way for the command itself"""
        while host.program(pid):
            running = {host.program(one) for one in {pid} | host.descendants(pid)}
            if running - {"bwrap", ""}:
                return
            os.sched_yield()

    def _read(self, enough) -> None:
        with selectors.DefaultSelector() as sources:
            sources.register(self.process.stderr.fileno(), selectors.EVENT_READ, "said")
            sources.register(self._told, selectors.EVENT_READ, "told")
            while not enough():
                ready = sources.select(LIMIT)
                assert ready, f"nothing happens: {self.said}"
                for source, _ in ready:
                    data = os.read(source.fd, 1 << 16)
                    if not data:
                        return
                    self._take(source.data, data)

    def _take(self, kind: str, data: bytes) -> None:
        if kind == "told":  # in pieces, those of several commands mixed
            self.commands += map(int, re.findall(rb'"child-pid": (\d+)', data))
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            self.said += text + "\n"
            if text.startswith("{"):
                self.events.append(json.loads(text))


STATUS = {
    signal.SIGINT: 128 + signal.SIGINT,
    signal.SIGTERM: 128 + signal.SIGTERM,
    signal.SIGHUP: 128 + signal.SIGHUP,
    signal.SIGKILL: -signal.SIGKILL,
}
