"""
Root's rights over one's own files, without being root: a user namespace

An image has files of several owners. Who is not root becomes root of a namespace in
which the 65536 users of a machine are the own one and subordinate ids. The process
enters it itself, so this holds under any command, and costs no second start.

https://man7.org/linux/man-pages/man7/user_namespaces.7.html
https://man7.org/linux/man-pages/man5/subuid.5.html
"""

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

from ..errors import DecentrAliceError, MissingTool, UserError

CLONE_NEWUSER = 0x10000000  # linux/sched.h
NEEDED = 65535  # subordinate ids: with the own one, ids 0 to 65535, as nobody is 65534
SYSCTLS = (
    ("kernel.unprivileged_userns_clone", "0", "1"),  # Debian's and Arch's kernels
    ("user.max_user_namespaces", "0", "65536"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),  # Ubuntu's
)


class Range(NamedTuple):
    """Subordinate ids"""

    first: int
    size: int


def become_root() -> None:
    """
    Enter a user namespace as its root, unless this is root already. `UserError` or
    `MissingTool` if that cannot be, with what to do.
    """
    if os.geteuid() == 0:
        return
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        raise UserError(
            f"a process of {threads} threads cannot enter a user namespace",
            remedy="start it by: unshare --user --map-root-user --map-auto -- …",
        )
    commands = mappings(os.getpid())
    with _mapped_by_child(commands):
        _unshare()
    _try_owner()


def mappings(pid: int) -> List[List[str]]:
    """The commands which map this user and its subordinate ids into a namespace"""
    found = []
    for kind, own in (("uid", os.geteuid()), ("gid", os.getegid())):
        program = shutil.which(f"new{kind}map")
        if program is None:
            raise MissingTool(
                f"new{kind}map is not on this machine, and this user is not root",
                remedy="install uidmap (Fedora: shadow-utils)",
            )
        given = subordinate(kind)
        first = [str(pid), "0", str(own), "1"]
        found.append([program, *first, "1", str(given.first), str(given.size)])
    return found


def subordinate(kind: str, folder: Path = Path("/etc")) -> Range:
    """The ids (``uid``, ``gid``) that /etc/subuid and subgid give to this user"""
    user = pwd.getpwuid(os.getuid()).pw_name
    names = (user, str(os.getuid()))
    ranges = []
    with contextlib.suppress(OSError):
        for line in (folder / f"sub{kind}").read_text().splitlines():
            name, _, numbers = line.partition(":")
            first, _, count = numbers.partition(":")
            if name in names and first.isdigit() and count.isdigit():
                ranges.append(Range(int(first), int(count)))
    best = max(ranges, key=lambda one: one.size, default=Range(0, 0))
    if best.size < NEEDED:
        least = f"{best.size} of {NEEDED}" if best.size else "no"
        raise UserError(
            f"{user} has {least} subordinate {kind}s, and is not root",
            remedy=f"as root: usermod --add-sub{kind}s 100000-165535 {user} (numbers "
            f"that /etc/sub{kind} gives to nobody else)",
        )
    return best._replace(size=NEEDED)


@contextlib.contextmanager
def _mapped_by_child(commands: List[List[str]]):
    """Have a child, which stays outside, map the ids at the end of the block"""
    (go, tell), (told, say) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(tell)
        said = _run_all(commands) if os.read(go, 1) else ""
        os.write(say, said.encode()[:4096])
        os._exit(0)
    os.close(go)
    os.close(say)
    try:
        yield
        os.write(tell, b"x")
    finally:
        os.close(tell)
        with os.fdopen(told) as file:
            said = file.read()
        os.waitpid(child, 0)
    if said:
        raise UserError(
            f"the kernel refuses subordinate ids: {said}",
            remedy="newuidmap and newgidmap must be setuid root, or have the "
            "capability to set ids: install uidmap anew",
        )


def _run_all(commands: List[List[str]]) -> str:
    """What the first command that fails says"""
    for argv in commands:
        done = subprocess.run(argv, stdout=-3, stderr=-1, text=True, errors="replace")
        if done.returncode:
            return done.stderr.strip() or f"{argv[0]} exited with {done.returncode}"
    return ""


def _unshare() -> None:
    try:
        if sys.version_info >= (3, 12):
            os.unshare(CLONE_NEWUSER)
        else:
            import ctypes

            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(CLONE_NEWUSER):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
    except OSError as error:
        raise refused(f"no user namespace for this user: {error.strerror}") from error


def _try_owner() -> None:
    """Some kernels give a namespace without rights in it"""
    with tempfile.TemporaryFile() as file:
        try:
            os.setgid(0)
            os.fchown(file.fileno(), 1, 1)
        except OSError as error:
            cause = f"no rights in this user's namespace: {error.strerror}"
            raise refused(cause) from error


def refused(cause: str) -> UserError:
    """What to do when the kernel does not allow it"""
    for name, bad, good in SYSCTLS:
        if sysctl(name) == bad:
            return UserError(
                f"{cause} ({name} is {bad})",
                remedy=f"as root: sysctl -w {name}={good}; or build as root",
            )
    return UserError(
        cause,
        remedy="build as root; in a container allow user namespaces (docker: "
        "--security-opt seccomp=unconfined --security-opt apparmor=unconfined)",
    )


def sysctl(name: str, folder: Path = Path("/proc/sys")) -> Optional[str]:
    """A setting of the kernel, None if it has no such"""
    try:
        return (folder / name.replace(".", "/")).read_text().strip()
    except OSError:
        return None


def attempt() -> Optional[DecentrAliceError]:
    """What `become_root` and a command in its sandbox raise, tried in a child"""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        with os.fdopen(sink, "w") as file:
            file.write("\n".join(_attempt()))
            file.flush()
            os._exit(0)
    os.close(sink)
    with os.fdopen(source) as file:
        cause, _, remedy = file.read().partition("\n")
    os.waitpid(child, 0)
    return UserError(cause, remedy=remedy) if cause else None


def _attempt() -> Tuple[str, ...]:
    try:
        become_root()
        try_sandbox()
    except DecentrAliceError as error:
        return error.cause, error.remedy
    except Exception as error:
        return repr(error), "build as root"
    return ()


def try_sandbox() -> None:
    """Run nothing as every command is run; raises as `become_root`"""
    from . import sandbox
    from .commands import environment, find_tool

    argv = sandbox.host_argv(find_tool("bwrap"), [find_tool("true")], Path("/"))
    env = environment(Path("/"))
    done = subprocess.run(argv, env=env, stdout=-3, stderr=-1, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise refused(f"no sandbox for commands: {lines[-1]}")
