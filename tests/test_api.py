"""What the commands do, as far as nothing is built"""

import asyncio

import pytest

from dffml_operations_decentralice import api
from dffml_operations_decentralice.errors import NetworkError, UserError, cause


def chained(*errors):
    """The last of exceptions raised from one another"""
    found = None
    for error in errors:
        error.__cause__, found = found, error
    return found


def test_cause():
    ours = UserError("x", remedy="y")
    assert cause(ours) is ours
    assert cause(chained(ours, ValueError(), KeyError())) is ours
    assert cause(chained(ValueError(), KeyError())) is None
    assert cause(None) is None
    loop = ValueError()
    loop.__context__ = loop
    assert cause(loop) is None


def test_existing(tmp_path):
    disk = tmp_path / "disk"
    disk.touch()
    (tmp_path / "link").symlink_to(disk)
    assert api.existing(tmp_path / "link") == disk
    for none in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match="no disk"):
            api.existing(none)


def test_upstreams_that_do_not_answer(monkeypatch):
    from dffml_operations_decentralice.operations import userspace

    monkeypatch.setattr(userspace, "WOLFI", "http://127.0.0.1:9/os")
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NetworkError) as caught:
        asyncio.run(api.upstreams())
    assert "127.0.0.1:9" in caught.value.cause and "mirror" in caught.value.remedy
