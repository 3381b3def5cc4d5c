"""
Every command runs under bubblewrap, in a process namespace which dies with this
process, grandchildren included; mounts are its own and never seen by the host

https://github.com/containers/bubblewrap
"""

from pathlib import Path
from typing import Dict, List, Mapping, Optional

# Not --unshare-user: its one-uid namespace cannot keep owners (sysusers, rpm)
ALWAYS = ["--die-with-parent", "--unshare-pid", "--cap-add", "ALL"]
GUEST_PATH = "/usr/bin:/usr/sbin:/bin:/sbin"


def host_argv(bwrap: str, argv: List[str], cwd: Path) -> List[str]:
    """A command of the host, as it is, but in a process namespace"""
    view = ["--dev-bind", "/", "/", "--proc", "/proc", "--chdir", str(cwd)]
    return [bwrap, *ALWAYS, *view, "--", *argv]


def tree_argv(
    bwrap: str,
    root: str,
    argv: List[str],
    *,
    env: Mapping[str, str],
    bind: Optional[Dict[str, str]] = None,
    ro_bind: Optional[Dict[str, str]] = None,
    writable: bool = False,
    network: bool = False,
    cwd: str = "/",
) -> List[str]:
    """A command of a tree, with the tree as its root directory"""
    words = [bwrap, *ALWAYS, "--unshare-ipc", "--unshare-uts", "--hostname", "build"]
    words += [] if network else ["--unshare-net"]
    words += ["--bind" if writable else "--ro-bind", root, "/"]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for scratch in ("/run", "/tmp", "/var/tmp"):
        words += ["--tmpfs", scratch]
    for option, pairs in (("--ro-bind", ro_bind), ("--bind", bind)):
        for host, guest in (pairs or {}).items():
            words += [option, str(host), str(guest)]
    words += ["--clearenv"]
    for name, value in {**env, "PATH": GUEST_PATH}.items():
        words += ["--setenv", name, value]
    return [*words, "--chdir", cwd, "--", *argv]
