"""One laboratory for all that is done to builds"""

import os
import tempfile
from pathlib import Path

import pytest

from . import host
from .lab import Lab


@pytest.fixture(scope="session")
def shared_lab(image):
    """Beside the store, as its objects are hard links; these only root may give away"""
    if os.geteuid():
        pytest.skip("mount namespaces of the host need its root")
    with tempfile.TemporaryDirectory(dir=image.store.parent) as folder:
        made = Lab(image, Path(folder))
        yield made
        made.close()


@pytest.fixture
def lab(shared_lab):
    """The laboratory"""
    with host.adopting():
        yield shared_lab
        shared_lab.tidy()
