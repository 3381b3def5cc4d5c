"""What a result was made from, and what changed"""

import json
import os
import time
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine import history, listing
from dffml_operations_decentralice.engine.store import Store
from dffml_operations_decentralice.errors import UserError

from . import sample
from .conftest import Sample
from .test_operation import run

OTHER = {"write_text": {"words": ["c"]}}


def test_explain(built):
    found = history.explain(built.link)
    objects = found["objects"]
    by_operation = {one["operation"]: one for one in objects.values()}
    assert list(by_operation) == ["collect", "pack", "write_text", "upper", "count"]
    assert found["result"] == built.object("collected").name == next(iter(objects))
    assert by_operation["collect"]["inputs"] == {
        "upper": built.object("upper").name,
        "folder": built.object("folder").name,
    }
    for one in by_operation.values():
        assert one["reason"] == "first time" and one["bytes"] > 0
        assert one["seconds"] >= 0 and abs(one["made"] - time.time()) < 600
    json.dumps(found)


def test_tree(built):
    lines = listing.tree(history.explain(built.link))
    shown = [line.partition("  2")[0].rpartition(" ")[0] for line in lines]
    assert shown == [
        "collect",
        "├─ folder: pack",
        "│  ├─ text: write_text",
        "│  └─ upper: upper",
        "│     └─ counted: count",
        f"│        └─ text: write_text {built.object('text').name[:8]}-text",
        f"└─ upper: upper {built.object('upper').name[:8]}-upper",
    ]
    assert lines[5].endswith(" (above)") and lines[6].endswith(" (above)")
    assert " s  " in lines[0] and lines[0].endswith("B")


@pytest.mark.parametrize("inside", ["", "/", "/upper", "/text"])
def test_what_leads_to_an_object(built, inside):
    path = Path(f"{built.link}{inside}")
    names = {"/upper": "upper", "/text": "folder"}
    expected = built.object(names.get(inside, "collected")).name
    assert history.explain(path)["result"] == expected


def test_the_store_is_that_of_the_result(built, tmp_path, monkeypatch):
    monkeypatch.setenv("DECENTRALICE_STORE", str(tmp_path / "none"))
    assert len(history.explain(built.link)["objects"]) == 5
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("path", ["/etc/passwd", "/nowhere/result", "."])
def test_no_result(path):
    with pytest.raises(UserError) as caught:
        history.explain(Path(path))
    assert path in caught.value.cause


def test_result_that_is_gone(built):
    built.object("collected").rename(built.root / "away")
    with pytest.raises(UserError, match="no longer in the store"):
        history.explain(built.link)


def test_what_is_not_known(built):
    [action] = built.actions("count")
    action.unlink()
    lines = listing.tree(history.explain(built.link))
    assert lines[4].endswith("-counted.txt (given, or no longer known)")


def test_input_from_outside(store, tmp_path):
    given = tmp_path / "given"
    given.write_text("x")
    path, _ = run(sample.count, store, text=str(given))
    lines = listing.tree(history.explain(path))
    assert len(lines) == 2 and "given" in lines[1]


def test_result_that_is_not_remembered(store):
    """It is explained, too, and never used again"""
    path, _ = run(sample.verdict, store)
    [line] = listing.tree(history.explain(path))
    assert line.startswith("verdict ")
    assert not (store / "latest/verdict.json").exists()


def test_why_of_the_first_run(built):
    found = history.why(built.link)
    assert found["since"] is None and found["operations"] == {}
    [line] = listing.changes(found)
    assert line.endswith("no run before it is known")


def test_why(built):
    before = time.time()
    built.build(**OTHER)
    found = history.why(built.link)
    assert abs(found["since"] - before) < 600
    states = {name: one["state"] for name, one in found["operations"].items()}
    assert states == {
        "write_text": "changed",
        "count": "changed",
        "upper": "unchanged",
        "pack": "changed",
        "collect": "changed",
    }
    words = {"part": "setting words", "old": ["a", "b"], "new": ["c"]}
    assert found["operations"]["write_text"]["changes"] == [words]
    assert found["operations"]["count"]["same"]  # the same bytes stop it there
    [change] = found["operations"]["count"]["changes"]
    assert change["part"] == "input text" and change["new"].endswith("-text")
    lines = listing.changes(found)
    assert "write_text: another result" in lines and "count: the same result" in lines
    assert "  setting words: ['a', 'b'] -> ['c']" in lines
    assert not any(line.startswith("upper") for line in lines)
    json.dumps(found)


def test_why_without_a_change(built):
    """A run that had nothing to do is no run to compare with"""
    built.build(**OTHER)
    expected = history.why(built.link)
    built.build(**OTHER)
    assert history.why(built.link) == expected


def test_why_of_going_back(built):
    """Nothing is run, and yet it is another result"""
    built.build(**OTHER)
    assert built.build().keys() == {"publish"}
    [change] = history.why(built.link)["operations"]["write_text"]["changes"]
    assert (change["old"], change["new"]) == (["c"], ["a", "b"])


def test_each_link_has_its_own(built, tmp_path):
    second = tmp_path / "second"
    built.build(second, **OTHER)
    assert history.why(second)["since"] is None
    built.build(second)
    assert history.why(second)["since"] is not None
    assert history.why(built.link)["since"] is None


def test_history_is_bounded(store, tmp_path):
    made = Sample(store, tmp_path / "result")
    for number in range(13):
        made.build(write_text={"number": number})
    [root] = (store / "roots").iterdir()
    assert len(json.loads(root.read_text())["results"]) == 10
    assert history.why(made.link)["operations"]["write_text"]["same"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"results": 5}', "{}"])
def test_damaged_root(built, content):
    [root] = (built.root / "roots").iterdir()
    root.write_text(content)
    assert history.why(built.link)["since"] is None
    assert built.build().keys() == {"publish"}
    assert json.loads(root.read_text())["link"] == str(built.link)


@pytest.mark.parametrize(
    "old, new, state, same",
    [
        (None, {"a": 1}, "new", False),
        ({"a": 1}, None, "gone", False),
        ({"a": 1}, {"a": 1}, "unchanged", True),
        ({"a": 1}, {"a": 2}, "changed", True),
    ],
)
def test_compared(old, new, state, same):
    actions = [
        parts and {"parts": parts, "object": "x", "made": 1.0} for parts in (old, new)
    ]
    found = history.compared(*actions)
    assert found["state"] == state and found["same"] == same


@pytest.mark.parametrize(
    "count, expected",
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (2.5e6, "2.5 MB"),
        (20e9, "20.0 GB"),
        (None, "?"),
    ],
)
def test_size(count, expected):
    assert listing.size(count) == expected


@pytest.mark.parametrize(
    "value, expected",
    [
        ("a" * 32 + "-name", "aaaaaaaa-name"),
        ("b" * 64, "bbbbbbbb"),
        ("text", "text"),
        (["x"], "['x']"),
        (None, "None"),
        ("long " * 20, ("long " * 20)[:59] + "…"),
    ],
)
def test_short(value, expected):
    assert listing.short(value) == expected


def test_nothing_is_written(built):
    """Explaining needs no right to write"""
    before = snapshot(built.root)
    history.explain(built.link)
    history.why(built.link)
    Store(built.root, read_only=True).peek("x")
    assert snapshot(built.root) == before


def snapshot(root):
    return {
        os.path.join(folder, name): os.lstat(os.path.join(folder, name)).st_mtime_ns
        for folder, folders, files in os.walk(root)
        for name in [*folders, *files]
    }
