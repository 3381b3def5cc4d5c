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
    Awaitable,
    Callable,
    Dict,
    List,
    Optional,
    get_args,
    get_type_hints,
)

from dffml import Definition, op

from ..errors import CommandFailed, DecentrAliceError
from . import signals
from .code import OURS, code_digest
from .commands import find_tool
from .digest import digest_of, size_of
from .progress import emit
from .settings import validated
from .step import FILES, Step
from .store import Store, default_root, key_of, no_space, says_no_space

FORMAT = 1  # of keys: to be raised when the engine changes what results are made of
UMASK = 0o022  # of all that is made, whoever makes it
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
            "code": code_digest(self.function.__module__),
        }
        for tool in self.tools:
            parts[f"tool {tool}"] = identity(tool, store)
        for name in self.files:
            parts[f"files {name}"] = digest_of((FILES / name).resolve())
        if self.settings:
            for field in dataclasses.fields(self.settings):
                value = getattr(settings, field.name)
                parts[f"setting {field.name}"] = _setting_part(field, value)
        for name, value in artefacts.items():
            parts[f"input {name}"] = _input_part(value, store)
        return parts

    async def execute(self, config: Any, artefacts: Dict[str, str], store: Store):
        """The path of the result, made if need be"""
        signals.watch()
        signals.check()
        settings = self.configured(config)
        parts = self.parts(settings, artefacts, store)
        key = key_of(parts)
        found = self._find(store, key)
        if found is None:
            async with store.locked(key):
                found = self._find(store, key)
                if found is None:
                    return await self._make(key, parts, settings, artefacts, store)
        emit("unchanged", operation=self.name, object=found["object"])
        return found["path"]

    def _find(self, store: Store, key: str) -> Optional[Dict[str, Any]]:
        if not self.cached:
            return None
        found = store.find(key)
        asked_anew = self.volatile and os.environ.get(UPDATE)
        if found and asked_anew and found["made"] < float(asked_anew):
            return None
        return found

    async def _make(self, key, parts, settings, artefacts, store: Store) -> str:
        emit("start", operation=self.name, reason=self._why(parts, store))
        started = time.monotonic()
        os.umask(UMASK)
        with store.scratch(self.name) as scratch:
            step = Step(self.name, settings, store, scratch, self.result)
            try:
                await self.function(step, **artefacts)
            except CommandFailed as error:
                if store.is_full() or says_no_space(step.log):
                    raise no_space(store.root) from error
                raise
            size = await step.thread(size_of, step.out)
            found = await step.thread(store.add, step.out, self.result)
        seconds = round(time.monotonic() - started, 3)
        action = {"object": found, "parts": parts, "seconds": seconds, "bytes": size}
        if step.pinned and self.cached:
            store.record(key, self.name, {**action, "made": time.time()})
        emit("end", operation=self.name, object=found, seconds=seconds, bytes=size)
        return str(store.root / "objects" / found)

    def _why(self, parts: Dict[str, Any], store: Store) -> str:
        if not self.cached:
            return "always"
        return reason(store.last(self.name), parts, self.settings)


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
):
    """
    Make an operation of ``async (step, artefact: Type, ...) -> Type``

    result: name of the artefact, by default that of its type
    tools: programs or files of the host whose identity decides about the result; of a
        wrapper script the command that prints its version
    files: entries of the package's ``files`` folder that it uses
    volatile: depends on the outside world; `build -update` asks anew
    cached: False runs it always
    """
    if function is None:
        return lambda function: operation(
            function,
            result=result,
            tools=tools,
            files=files,
            volatile=volatile,
            cached=cached,
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
    )

    async def run(self, **artefacts):
        try:
            store = Store(default_root())
            config = self.parent.config
            return {"result": await action.execute(config, artefacts, store)}
        except DecentrAliceError as error:
            emit("failed", operation=action.name, kind=error.kind, lines=error.lines())
            error.told = True
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
    made.action = action
    return made


def registered_name(function: Callable) -> str:
    """Entry point name of ours, else what dffml can load without one"""
    if function.__module__.partition(".")[0] == OURS:
        return f"decentralice_{function.__name__}"
    return f"{function.__module__}:{function.__name__}"


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
    if field.metadata.get("file") and value:
        path = Path(value)
        return digest_of(path) if path.exists() else None
    if field.metadata.get("secret") and value:
        return hashlib.sha256(repr(value).encode()).hexdigest()
    return value


def _input_part(value: str, store: Store) -> str:
    """Of an artefact its digest, of a path from elsewhere that of what is there"""
    known = store.object_digest(value)
    if known is not None:
        return known
    if os.path.isabs(value) and os.path.exists(value):
        return digest_of(Path(value))
    return value
