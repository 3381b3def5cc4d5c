"""
The decorator which makes a cached dffml operation of an async function

::

    @operation(result="uki.efi")
    async def build_uki(step: Step[UkiSettings], kernel: Kernel) -> UnifiedKernelImage:
        '''One EFI program of kernel, initrd and command line'''

Artefacts come in as arguments, settings as ``step.settings``, and what the function
writes to ``step.out`` is the result. It does not run if the store has the result of
the same code, settings, inputs and tools; when it runs, it says why.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import inspect
import os
import re
import subprocess
import time
from pathlib import Path
from typing import (
    Any,
    AsyncIterator,
    Awaitable,
    Callable,
    Dict,
    Iterator,
    List,
    Optional,
    get_args,
    get_type_hints,
)

from dffml import DataFlow, Definition, op

from ..errors import (
    CommandFailed,
    DecentrAliceError,
    NetworkError,
    SignatureError,
    VmError,
)
from . import check, namespace, plan, progress, signals
from .code import OURS, code_digest, files_digest
from .commands import find_tool
from .digest import digest_of, size_of
from .progress import emit
from .settings import is_settings, validated
from .step import FILES, Step
from .store import Store, default_root, key_of, no_space, says_no_space, told_if_full

FORMAT = 2  # of keys: to be raised when the engine changes what results are made of
UMASK = 0o022  # of all that is made, whoever makes it
LOOK = 5.0  # seconds between looks at what is free
LOOKS = 3  # that find nothing, one after another
# What a full file system is taken for by those who meet it
MISLED = (CommandFailed, NetworkError, SignatureError, VmError)
UPDATE = "DECENTRALICE_UPDATE"  # set: operations that ask the outside world ask anew

try:  # the definitions of dffml's main branch have fields that a plain one lacks
    from dffml import new_type_to_defininition as definition
except ImportError:

    def definition(new_type) -> Definition:
        """The definition of a NewType"""
        return Definition(
            name=new_type.__name__, primitive=new_type.__supertype__.__name__
        )


@dataclasses.dataclass(frozen=True)
class Action:
    """What is fixed about an operation when it is declared"""

    function: Callable[..., Awaitable[str]]
    name: str
    settings: Optional[type]
    result: str
    tools: tuple
    files: tuple
    volatile: bool
    cached: bool
    space: int
    repeatable: bool

    def configured(self, config: Any) -> Any:
        """The validated settings of what dffml has for the operation's config"""
        if self.settings is None or isinstance(config, self.settings):
            return config
        values = config if isinstance(config, dict) else {}
        return validated(self.settings, values, self.name)

    def parts(self, settings: Any, artefacts: Dict[str, str], store: Store):
        """All that makes the result what it is"""
        parts: Dict[str, Any] = {
            "operation": self.name,
            "format": FORMAT,
            "code": code_digest(self.function.__module__, store.remembered),
        }
        for tool in self.tools:
            parts[f"tool {tool}"] = identity(tool, store)
        for name in self.files:
            parts[f"files {name}"] = files_digest(FILES / name, store.remembered)
        if self.settings:
            for field in dataclasses.fields(self.settings):
                value = getattr(settings, field.name)
                parts[f"setting {field.name}"] = _setting_part(field, value)
        for name, value in artefacts.items():
            parts[f"input {name}"] = _input_part(value, store)
        return parts

    async def execute(
        self,
        config: Any,
        artefacts: Dict[str, str],
        store: Store,
        flow: Optional[DataFlow] = None,
    ) -> str:
        """The path of the result, made if need be, and if the flow's steps have room"""
        signals.watch()
        signals.check()
        settings = self.configured(config)
        parts = self.parts(settings, artefacts, store)
        key = key_of(parts)
        checking = check.current()
        found = self.known(store, parts, None if checking else store.find)
        if checking:
            return await checking.step(self, settings, artefacts, store, found)
        if found is None:
            if self.cached:
                plan.check_space(flow, store)
            async with store.locked(key):
                found = self.known(store, parts, store.find)
                if found is None:
                    return await self._make(key, parts, settings, artefacts, store)
        emit("unchanged", operation=self.name, object=found["object"])
        return found["path"]

    def known(
        self, store: Store, parts: Dict[str, Any], look: Optional[Callable] = None
    ) -> Optional[Dict[str, Any]]:
        """The action that has the result, None if it has to run"""
        if not self.cached:
            return None
        found = (look or store.peek)(key_of(parts))
        asked_anew = self.volatile and os.environ.get(UPDATE)
        if found and asked_anew and found["made"] < float(asked_anew):
            return None
        return found

    async def _make(self, key, parts, settings, artefacts, store: Store) -> str:
        log, why = store.log(self.name, key), self.why(parts, store)
        with progress.running(self.name, why, log):
            return await self._run(key, parts, settings, artefacts, store, log, why)

    async def _run(
        self, key, parts, settings, artefacts, store: Store, log: Path, why: str
    ) -> str:
        started = time.monotonic()
        async with self.made(settings, artefacts, store, log) as step:
            size = await step.thread(size_of, step.out)
            length = step.out.lstat().st_size
            whole = {} if step.out.is_dir() else {"size": length}
            found = await step.thread(store.add, step.out, self.result)
        seconds = round(time.monotonic() - started, 3)
        action = {"object": found, "parts": parts, "seconds": seconds, "bytes": size}
        action.update(whole, reason=why, made=time.time(), log=log.name)
        if self.cached:
            store.record(key, self.name, action, answer=step.pinned)
        emit("end", operation=self.name, object=found, seconds=seconds, bytes=size)
        return str(store.root / "objects" / found)

    @contextlib.asynccontextmanager
    async def made(
        self, settings: Any, artefacts: Dict[str, str], store: Store, log: Path
    ) -> AsyncIterator[Step]:
        """Run the function; its result is in ``step.out`` as long as the block"""
        os.umask(UMASK)
        with store.scratch(self.name) as scratch:
            step: Step = Step(self.name, settings, store, scratch, self.result, log)
            try:
                with ending_if_full(store):
                    await self.function(step, **artefacts)
            except MISLED as error:
                if store.is_full() or says_no_space(step.log):
                    raise no_space(store.root) from error
                raise
            yield step

    def why(self, parts: Dict[str, Any], store: Store) -> str:
        """Why it would run, or runs"""
        if not self.cached:
            return "always"
        return reason(store.last(self.name), parts, self.settings)

    def estimate(self, store: Store) -> int:
        """Bytes of its result: those of the last one, else what is declared"""
        known = (store.last_action(self.name) or {}).get("bytes")
        return known if isinstance(known, int) else self.space << 20


@contextlib.contextmanager
def ending_if_full(store: Store) -> Iterator[None]:
    """
    End the commands if there is no room for what they write, and none comes: apt waits
    for ever for a helper of its own that found none
    """
    watching = asyncio.ensure_future(_end_if_full(store))
    try:
        yield
    finally:
        watching.cancel()


async def _end_if_full(store: Store) -> None:
    looks = 0
    while looks < LOOKS:
        await asyncio.sleep(LOOK)
        looks = looks + 1 if store.is_full() else 0
    signals.end_commands()


def reason(last: Optional[Dict], parts: Dict, settings: Optional[type] = None) -> str:
    """Why an action is run, in words, from what its last run was made of"""
    if last is None:
        return "first time"
    secret = {
        f"setting {field.name}"
        for field in (dataclasses.fields(settings) if settings else ())
        if field.metadata.get("secret") or field.metadata.get("file")
    }
    changed = []
    for name in sorted({*parts, *last}):
        old, new = last.get(name), parts.get(name)
        if old != new:
            shown = name.startswith("setting ") and name not in secret
            changed.append(f"{name} changed" + (f": {old!r} -> {new!r}" * shown))
    return ", ".join(changed) or "its result is asked anew, or was removed"


def operation(
    function: Optional[Callable] = None,
    *,
    result: str = "",
    tools: tuple = (),
    files: tuple = (),
    volatile: bool = False,
    cached: bool = True,
    space: int = 16,
    repeatable: bool = True,
):
    """
    Make an operation of ``async (step, artefact: Type, ...) -> Type``

    result: name of the artefact, by default that of its type
    tools: programs or files of the host whose identity decides about the result; of a
        wrapper script the command that prints its version
    files: entries of the package's ``files`` folder that it uses
    volatile: depends on the outside world; `build -update` asks anew
    cached: False runs it always
    space: MB that it is expected to make, as long as it never did
    repeatable: False says that it measures; `build -check` leaves it out
    """
    if function is None:
        return lambda function: operation(
            function,
            result=result,
            tools=tools,
            files=files,
            volatile=volatile,
            cached=cached,
            space=space,
            repeatable=repeatable,
        )
    hints = get_type_hints(function)
    returns = hints.pop("return")
    first, *rest = inspect.signature(function).parameters
    config_cls = next(iter(get_args(hints.pop(first))), None)
    action = Action(
        function=function,
        name=function.__name__,
        settings=config_cls if hasattr(config_cls, "validated") else None,
        result=result or kebab(returns.__name__),
        tools=tuple(tools),
        files=tuple(files),
        volatile=volatile,
        cached=cached,
        space=space,
        repeatable=repeatable,
    )

    async def run(self, **artefacts):
        try:
            namespace.become_root()
            store = Store(default_root())
            config = self.parent.config
            flow = self.octx.config.dataflow if self.octx else None
            with told_if_full(store.root):
                found = await action.execute(config, artefacts, store, flow)
            return {"result": found}
        except DecentrAliceError as error:
            progress.tell(error, operation=action.name)
            raise

    run.__name__, run.__module__ = function.__name__, function.__module__
    run.__doc__, run.__qualname__ = function.__doc__, function.__qualname__
    run.__signature__ = inspect.signature(lambda self: None)  # type: ignore
    made = op(
        name=registered_name(function),
        inputs={name: definition(hints[name]) for name in rest},
        outputs={"result": definition(returns)},
        config_cls=action.settings,
    )(run)
    made.action = made.imp.action = action
    return made


def registered_name(function: Callable) -> str:
    """Entry point name of ours, else what dffml can load without one"""
    if function.__module__.partition(".")[0] == OURS:
        return f"decentralice_{function.__name__}"
    return f"{function.__module__}:{function.__qualname__}"


def kebab(name: str) -> str:
    """UnifiedKernelImage -> unified-kernel-image"""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


def identity(tool: str, store: Store) -> str:
    """
    What tells a tool from another one: its content, or, of ``program argument ...``,
    what this prints. The latter is for wrappers, whose text names their place.
    """
    name, *arguments = tool.split()
    path = Path(find_tool(name))
    if not arguments:
        return store.file_digest(path)
    return store.remembered(path, tool, lambda: _printed([str(path), *arguments]))


def _printed(argv: List[str]) -> str:
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout.decode("utf-8", "replace").strip()


def _setting_part(field: dataclasses.Field, value: Any) -> Any:
    if isinstance(value, list) and not field.metadata.get("secret"):
        return [_setting_part(field, one) for one in value]
    if isinstance(value, dict) and not field.metadata.get("secret"):
        return {key: _setting_part(field, one) for key, one in value.items()}
    if is_settings(type(value)):
        inside = dataclasses.fields(value)
        return {
            one.name: _setting_part(one, getattr(value, one.name)) for one in inside
        }
    if field.metadata.get("file") and value:
        path = Path(value)
        return files_digest(path) if path.exists() else None
    if field.metadata.get("secret") and value:
        return hashlib.sha256(repr(value).encode()).hexdigest()
    return value


def _input_part(value: str, store: Store) -> str:
    """
    Of an artefact its name, which the result may hold and which has its digest, of a
    path from elsewhere the digest of what is there
    """
    known = store.object_name(value)
    if known is not None:
        return known
    if os.path.isabs(value) and os.path.exists(value):
        return digest_of(Path(value))
    return value
