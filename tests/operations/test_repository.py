import hashlib
import json

import pytest

from dffml_operations_decentralice.operations import repository


@pytest.fixture
def described(tmp_path):
    out = tmp_path / "repository"
    repository.write(out, {"keys": ["k.pub"], "repositories": ["."]})
    (out / "k.pub").write_text("key")
    return str(out)


def test_write_and_read(described):
    assert repository.read(described) == {"keys": ["k.pub"], "repositories": ["."]}


def test_the_same_text_each_time(tmp_path):
    repository.write(tmp_path / "a", {"x": 1, "keys": []})
    repository.write(tmp_path / "b", {"keys": [], "x": 1})
    texts = {(tmp_path / name / repository.FILE).read_text() for name in "ab"}
    assert len(texts) == 1 and json.loads(texts.pop())


def test_keys(described):
    assert [str(key) for key in repository.keys(described)] == [f"{described}/k.pub"]
    digest = hashlib.sha256(b"key").hexdigest()
    assert repository.key_digests(described) == {"k.pub": digest}


@pytest.mark.parametrize(
    "address, expected",
    [
        ("https://packages.wolfi.dev/os", "https://packages.wolfi.dev/os"),
        ("file:///srv", "file:///srv"),
        (".", "{repository}"),
        ("x86_64", "{repository}/x86_64"),
        ("/srv/os", "/srv/os"),
    ],
)
def test_resolve(described, address, expected):
    found = repository.resolve(described, address)
    assert found == expected.format(repository=described)


@pytest.mark.parametrize(
    "address,found",
    [
        ("https://example.org/os", "https://example.org/os"),
        (".", "file:///a%20b"),
        ("x/y", "file:///a%20b/x/y"),
    ],
)
def test_url(address, found):
    assert repository.url("/a b", address) == found
