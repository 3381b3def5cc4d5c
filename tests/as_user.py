"""
Run a command as another user: ``python as_user.py USER PATH... -- COMMAND...``

By root, in a mount namespace of its own, in which each PATH can be reached by that user
although a directory above it, as /root, is closed to others.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List


def main(user: str, *words: str) -> None:
    """Mount, and become the user"""
    separator = words.index("--")
    closed: Dict[Path, List[Path]] = {}
    for path in map(Path, dict.fromkeys(words[:separator])):
        for above in reversed(path.parents):
            if not above.stat().st_mode & 0o001:
                closed.setdefault(above, []).append(path)
                break
    for above, paths in closed.items():
        open_up(above, paths)
    argv = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"]
    os.execvp(argv[0], [*argv, "--", *words[separator + 1 :]])


def open_up(above: Path, paths: List[Path]) -> None:
    """Hide a directory behind an open one that has these paths only"""
    places = {path: tempfile.mkdtemp() for path in paths}
    for path, place in places.items():
        mount("--bind", path, place)
    mount("-t", "tmpfs", "-o", "mode=755", "none", above)
    for path, place in places.items():
        path.mkdir(parents=True, exist_ok=True)
        mount("--move", place, path)
        os.rmdir(place)


def mount(*argv) -> None:
    subprocess.run(["mount", *map(str, argv)], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
