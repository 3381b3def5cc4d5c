"""What tools say of the code"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "argv",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy", "--ignore-missing-imports", "dffml_operations_decentralice"],
    ],
    ids=lambda argv: " ".join(argv[:2]),
)
def test_nothing_is_found(argv):
    done = subprocess.run(
        [sys.executable, "-m", *argv],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
