"""What a flow would do, and whether there is room for it"""

import asyncio
import sys

from dffml import DataFlow, op

from dffml_operations_decentralice.engine import listing, plan
from dffml_operations_decentralice.engine.store import Store

from ..mounts import apart
from . import sample
from .test_history import snapshot
from .test_operation import FULL

OTHER = {"write_text": {"words": ["c"]}}


def planned(root, link, **configs):
    store = Store(root, read_only=True)
    found = plan.plan(sample.flow(link, **configs), store)
    assert [one.operation for one in found] == [
        one.action.name for one in sample.OPERATIONS
    ]
    return {one.operation: one for one in found}


def states(found):
    return [one.state for one in found.values()]


def test_no_store(store, tmp_path):
    found = planned(store, tmp_path / "result")
    assert states(found) == ["runs", *["depends"] * 4, "always"]
    assert found["write_text"].reason == "first time"
    assert found["collect"].reason == "behind upper, pack"
    assert found["pack"].bytes == 16 << 20  # what is declared for what never ran
    assert not store.exists()


def test_nothing_to_do(built):
    found = planned(built.root, built.link)
    assert states(found) == ["unchanged"] * 5 + ["always"]
    assert found["collect"].path == str(built.object("collected"))
    assert all(one.bytes == 0 for one in list(found.values())[:5])


def test_changed(built):
    found = planned(built.root, built.link, **OTHER)
    assert states(found) == ["runs", *["depends"] * 4, "always"]
    assert found["write_text"].reason == ("setting words changed: ['a', 'b'] -> ['c']")
    assert found["pack"].bytes == 16384  # as the last one
    ran = built.build(**OTHER)
    assert ran["write_text"] == found["write_text"].reason
    assert states(planned(built.root, built.link, **OTHER))[0] == "unchanged"


def test_removed(built):
    built.object("counted.txt").unlink()
    found = planned(built.root, built.link)
    assert found["count"].state == "runs" and "removed" in found["count"].reason
    assert (
        found["upper"].state == "depends" and found["write_text"].state == "unchanged"
    )


def test_nothing_is_written(built):
    before = snapshot(built.root)
    planned(built.root, built.link, **OTHER)
    assert snapshot(built.root) == before


def test_would_fail(built, monkeypatch):
    from dffml_operations_decentralice.engine import commands

    monkeypatch.setattr(commands, "search_path", lambda: "/nowhere")
    found = planned(built.root, built.link)
    assert found["count"].state == "fails" and "wc" in found["count"].reason


def test_lines(built):
    found = list(planned(built.root, built.link, **OTHER).values())
    lines = listing.steps(found)
    assert lines[0].startswith("write_text: would run: setting words changed")
    assert lines[4:] == ["collect: behind upper, pack", "publish: always"]
    assert plan.summary(found) == (
        "1 would run, 4 depend on what runs before, 1 always run"
    )
    assert plan.summary([]) == "nothing to do"


def test_operations_of_others(store):
    """They are none of ours; what depends on them is not known"""

    @op(inputs={}, outputs={"result": sample.count.op.inputs["text"]})
    def foreign():
        return {"result": "/x"}

    flow = DataFlow(operations={"foreign": foreign, "count": sample.count})
    [found] = plan.plan(flow, Store(store, read_only=True))
    assert (found.operation, found.state) == ("count", "depends")
    assert found.reason == "behind foreign"


ROOM = """
import asyncio, sys
from pathlib import Path
from dffml import MemoryOrchestrator
from dffml_operations_decentralice.errors import cause
from tests.engine import sample

async def main():
    flow = sample.flow(Path(sys.argv[1]).parent / "result")
    return [one async for one in MemoryOrchestrator.run(flow, [])]

root = Path(sys.argv[1])
try:
    asyncio.run(main())
except Exception as error:
    print(type(cause(error)).__name__, cause(error).cause, cause(error).remedy)
print([path.name for path in (root / "objects").iterdir()])
print([path.name for path in (root / "logs").iterdir()])
"""


def test_no_room(tmp_path):
    """16 MB for each of five steps, and 8 MB are there: said before the first runs"""
    full = tmp_path / "full"
    full.mkdir()
    inside = [
        *("env", f"DECENTRALICE_STORE={full}/store"),
        *(sys.executable, "-c", ROOM, f"{full}/store"),
    ]
    done = apart(FULL, str(full), *inside)
    assert done.returncode == 0, done.stderr
    said, objects, logs = done.stdout.splitlines()
    assert said.startswith(f"SpaceError {full}/store has ")
    assert "about 80 MB are needed for the results of 5 steps" in said
    assert "MB free" in said and "store prune" in said
    assert objects == logs == "[]"


def test_room_is_asked_for_once(store, tmp_path):
    """And not at all if nothing has to run"""
    flow = sample.flow(tmp_path / "result")
    opened = Store(store)
    plan.check_space(flow, opened)
    assert flow in plan._checked
    plan.check_space(flow, opened)
    plan.check_space(None, opened)


def test_no_operation_runs_without_a_flow(store):
    """As dffml's ``operation.test()`` has it"""
    found = asyncio.run(sample.always.test())
    assert found["result"].startswith(f"{store}/objects/")
