import json

import pytest

from dffml_operations_decentralice.engine.operation import UPDATE
from dffml_operations_decentralice.errors import UserError
from dffml_operations_decentralice.operations import lock

REQUEST = {"packages": ["a", "b"], "releasever": "44", "keys": {"k": "1"}}
PART = {"request": REQUEST, "packages": []}


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.delenv(UPDATE, raising=False)
    path = tmp_path / "os.lock.json"
    path.write_text(lock.dump({"version": 2, "kernel": PART}))
    return path


def test_locked(file):
    assert lock.locked(str(file), "kernel", REQUEST) == PART


def test_nothing_locked(file, tmp_path):
    assert lock.locked(str(file), "userspace", REQUEST) is None
    assert lock.locked(str(tmp_path / "none"), "kernel", REQUEST) is None
    assert lock.locked("", "kernel", REQUEST) is None


def test_update_looks_at_no_lock(file, monkeypatch):
    assert not lock.set_aside(str(file))
    monkeypatch.setenv(UPDATE, "1")
    assert lock.locked(str(file), "kernel", REQUEST) is None
    assert lock.locked(str(file), "kernel", {"other": 1}) is None
    assert lock.set_aside(str(file))
    assert not lock.set_aside("") and not lock.set_aside(f"{file}.none")


@pytest.mark.parametrize(
    "change, said",
    [
        ({"packages": ["a", "c"]}, "other packages: -['b'] +['c']"),
        ({"packages": ["a", "b", "c"]}, "other packages: -[] +['c']"),
        ({"releasever": "45"}, "another releasever: '44', not '45'"),
        ({"keys": {"k": "2"}}, "another keys: {'k': '1'}, not {'k': '2'}"),
        ({"more": 1}, "another more: None, not 1"),
    ],
)
def test_of_another_request(file, change, said):
    with pytest.raises(UserError) as caught:
        lock.locked(str(file), "kernel", {**REQUEST, **change})
    assert caught.value.cause == f"{file}: kernel is locked for {said}"
    assert "-update" in caught.value.remedy


@pytest.mark.parametrize(
    "content, said",
    [
        ("", "is no JSON"),
        ("{", "is no JSON"),
        ("[]", "is no lock of version 2"),
        ("null", "is no lock of version 2"),
        ("{}", "is no lock of version 2"),
        ('{"version": 1}', "is no lock of version 2"),
        ('{"version": 2, "kernel": []}', "'kernel' is damaged"),
        ('{"version": 2, "kernel": {}}', "'kernel' is damaged"),
        ('{"version": 2, "kernel": null}', "'kernel' is damaged"),
        ('{"version": 2, "kernel": {"request": 3}}', "'kernel' is damaged"),
        (b"\xff\xfe", "is no JSON"),
    ],
)
def test_damaged(file, content, said):
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        lock.locked(str(file), "kernel", REQUEST)
    assert said in caught.value.cause and str(file) in caught.value.cause


def test_directory(tmp_path):
    with pytest.raises(UserError, match="Is a directory"):
        lock.locked(str(tmp_path), "kernel", REQUEST)


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ({}, {}, ""),
        ({"a": 1, "b": [1]}, {"b": [1], "a": 1}, ""),
        ({"a": 1, "b": 1}, {"a": 2, "b": 2}, "another a: 1, not 2"),
        ({"a": ["x", "y"]}, {"a": ["y", "x"]}, "other a: -[] +[]"),
    ],
)
def test_changed(old, new, expected):
    assert lock.changed(old, new) == expected


def test_dump():
    assert lock.dump({"b": 1, "a": [2]}) == lock.dump({"a": [2], "b": 1})
    assert json.loads(lock.dump({"a": [2]})) == {"a": [2]}
    assert lock.dump({}).endswith("\n")
