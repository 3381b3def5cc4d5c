"""Small operations, for tests of the engine; other processes run them too"""

import os
from pathlib import Path
from typing import List, NewType

from dffml import DataFlow, GetSingle, Input

from dffml_operations_decentralice.engine import Step, operation, setting, settings
from dffml_operations_decentralice.errors import UserError

Text = NewType("Text", str)
Counted = NewType("Counted", str)
Folder = NewType("Folder", str)
Moment = NewType("Moment", str)
Upper = NewType("Upper", str)


@settings
class TextSettings:
    words: List[str] = setting("Words", default_factory=lambda: ["a", "b"])
    password: str = setting("A secret", default="", secret=True)
    file: str = setting("A file", default="", file=True)
    number: int = setting("A number", default=1)


@operation
async def write_text(step: Step[TextSettings]) -> Text:
    """Words in a line; one line is said"""
    step.say(f"{len(step.settings.words)} words")
    text = " ".join(step.settings.words)
    if step.settings.file:
        text += Path(step.settings.file).read_text()
    step.out.write_text(text + "\n")
    return Text(str(step.out))


@operation(result="counted.txt", tools=("wc",))
async def count(step: Step, text: Text) -> Counted:
    """Whether there are words at all"""
    said = await step.run("wc", "-w", text)
    step.out.write_text("some\n" if int(said.split()[0]) else "none\n")
    return Counted(str(step.out))


@operation
async def upper(step: Step, counted: Counted) -> Upper:
    """In capitals"""
    step.out.write_text(Path(counted).read_text().upper())
    return Upper(str(step.out))


@operation
async def make_folder(step: Step, text: Text) -> Folder:
    """A tree with a read-only directory"""
    (step.out / "deep").mkdir(parents=True)
    (step.out / "deep/text").write_text(Path(text).read_text())
    (step.out / "deep").chmod(0o555)
    return Folder(str(step.out))


@operation(volatile=True)
async def ask_outside(step: Step[TextSettings]) -> Moment:
    """What the world says now"""
    answer = Path(step.settings.words[0]).read_text()
    step.out.write_text(answer)
    return Moment(str(step.out))


@operation(cached=False)
async def always(step: Step) -> Moment:
    """Never remembered"""
    step.out.write_text("x")
    return Moment(str(step.out))


@operation
async def fail(step: Step[TextSettings]) -> Text:
    """Half-written, then something is wrong"""
    step.out.mkdir()
    (step.out / "half").write_text("half")
    (step.out / "half").parent.chmod(0o500)
    (step.work / "scratch").write_text("x")
    raise UserError("no such thing", remedy="give one", log=step.log)


@operation
async def refuse(step: Step[TextSettings]) -> Text:
    """An error that names no log"""
    for word in step.settings.words:
        step.say(word)
    raise UserError("not this", remedy="try another one")


@operation
async def verdict(step: Step) -> Text:
    """Kept, but not the answer when asked again"""
    step.out.write_text("perhaps\n")
    step.unpinned()
    return Text(str(step.out))


@operation
async def hang(step: Step[TextSettings]) -> Text:
    """
    Tells by a FIFO that it runs, and holds it open in a grandchild which ignores all
    signals, and has left its process group
    """
    step.out.mkdir()
    (step.out / "half").write_text("half")
    script = (
        "trap '' TERM INT HUP; setsid sh -c 'trap \"\" TERM INT HUP; echo up >&9;"
        " while :; do sleep 1000; done' & wait; while :; do sleep 1000; done"
    )
    await step.run("sh", "-c", f"exec 9> $0; {script}", *step.settings.words)
    return Text(str(step.out))


@operation
async def wait_for(step: Step[TextSettings]) -> Text:
    """Tells by one FIFO that it runs, and waits for another"""
    up, go = step.settings.words
    await step.run("sh", "-c", 'echo up > "$0"; read line < "$1"; echo ran', up, go)
    step.out.write_text(f"{os.getpid()}\n")
    return Text(str(step.out))


@operation
async def fill(step: Step[TextSettings]) -> Text:
    """More than a small file system takes, by what ``words`` names"""
    size = 64 << 20
    step.out.touch()
    if step.settings.words[0] == "command":
        await step.run("dd", "if=/dev/zero", f"of={step.out}", "bs=1M", "count=64")
    elif step.settings.words[0] == "thread":
        await step.thread(step.out.write_bytes, b"x" * size)
    else:
        step.out.write_bytes(b"x" * size)
    return Text(str(step.out))


Collected = NewType("Collected", str)
Published = NewType("Published", str)


@operation
async def pack(step: Step, text: Text, upper: Upper) -> Folder:
    """A tree of both"""
    (step.out / "deep").mkdir(parents=True)
    (step.out / "deep/text").write_text(Path(text).read_text())
    (step.out / "upper").write_text(Path(upper).read_text())
    return Folder(str(step.out))


@operation
async def collect(step: Step, upper: Upper, folder: Folder) -> Collected:
    """Links to what belongs to a result"""
    step.out.mkdir()
    (step.out / "upper").symlink_to(f"../{Path(upper).name}")
    (step.out / "text").symlink_to(f"../{Path(folder).name}/deep/text")
    return Collected(str(step.out))


@settings
class PublishSettings:
    link: str = setting("Where to link the result", default="result")


@operation(cached=False)
async def publish(step: Step[PublishSettings], collected: Collected) -> Published:
    """Link a result, which is kept"""
    link = Path(step.settings.link)
    link.unlink(missing_ok=True)
    link.symlink_to(collected)
    step.store.keep(link.absolute())
    step.out.write_text("published\n")
    return Published(str(step.out))


OPERATIONS = [write_text, count, upper, pack, collect, publish]


def flow(link: Path, **configs) -> DataFlow:
    """Text -> counted -> capitals, and a folder; both are linked"""
    given = {"write_text": {}, "publish": {"link": str(link)}}
    return DataFlow(
        operations={
            **{one.action.name: one for one in OPERATIONS},
            "get_single": GetSingle,
        },
        configs={**given, **configs},
        seed=[Input(value=["Published"], definition=GetSingle.op.inputs["spec"])],
    )
