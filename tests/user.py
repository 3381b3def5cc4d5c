"""An ordinary user, made for tests and removed behind them"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, List

import pytest

ROOT = Path(__file__).parent.parent
NAME = "decentralice-test"
NEEDED = ("useradd", "userdel", "unshare", "setpriv", "mount", "newuidmap")


class User:
    """A user with subordinate ids, and a directory of theirs"""

    def __init__(self, folder: Path):
        self.folder = folder

    def argv(self, *command: Any, before: str = "") -> List[str]:
        """
        The words of root that run a command as the user; ``before`` is run by root's
        shell in the same mount namespace
        """
        own = ["unshare", "--mount", "--propagation", "private", "--"]
        if before:
            own += ["sh", "-ec", f'{before}\nexec "$@"', "sh"]
        python = [sys.executable, str(ROOT / "tests/as_user.py"), NAME]
        reached = [str(Path(one).resolve()) for one in (sys.base_prefix, sys.prefix)]
        reached += [str(ROOT), str(self.folder)]
        return [*own, *python, *reached, "--", *map(str, command)]

    def run(self, *command: Any, before: str = "", **options: Any):
        """Run a command as the user, with what it needs of the environment"""
        env = {
            "HOME": str(self.folder),
            "USER": NAME,
            "LOGNAME": NAME,
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "DECENTRALICE_STORE": str(self.folder / "store"),
            **options.pop("env", {}),
        }
        pipe = subprocess.PIPE
        both = {"stdout": pipe, "stderr": pipe, "text": True, **options}
        given = ["env", "-i", *(f"{name}={value}" for name, value in env.items())]
        words = self.argv(*given, *command, before=before)
        return subprocess.run(words, cwd=self.folder, **both)

    def take(self, path: Path) -> None:
        """Give a tree to the user"""
        subprocess.run(["chown", "-R", f"{NAME}:", path], check=True)


def make():
    """A fixture's body: make the user, yield, remove all"""
    if os.geteuid() != 0:
        pytest.skip("only root makes users")
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {missing[0]}")
    done = subprocess.run(["useradd", "--no-create-home", NAME])
    if done.returncode:
        pytest.skip("no user can be made here")
    try:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            os.chmod(folder, 0o755)
            user = User(Path(folder))
            user.take(user.folder)
            yield user
    finally:
        subprocess.run(["userdel", NAME], check=True)
