"""What an operation has in hand while it runs"""

import asyncio
import contextlib
import errno
from pathlib import Path
from typing import (
    Any,
    AsyncIterator,
    Callable,
    Collection,
    Dict,
    Generic,
    Mapping,
    Optional,
    TypeVar,
)

from . import commands, sandbox, signals
from .commands import find_tool
from .progress import emit
from .store import Store, no_space

S = TypeVar("S")
T = TypeVar("T")
FILES = Path(__file__).parent.parent / "files"


class Step(Generic[S]):
    """One run of an operation"""

    epoch = commands.EPOCH
    files = FILES

    def __init__(
        self,
        name: str,
        settings: S,
        store: Store,
        scratch: Path,
        out: str,
        log: Optional[Path] = None,
    ):
        self.name = name
        self.settings = settings
        self.store = store
        self.work = scratch / "work"
        self.work.mkdir()
        self.out = scratch / out
        self.log = log or store.log(name)
        self.pinned = True

    async def run(
        self,
        *argv: Any,
        cwd: Optional[Path] = None,
        env: Optional[Mapping[str, str]] = None,
        **options: Any,
    ) -> str:
        """
        Run a command of the host to its end and return its standard output.
        Options: ``input`` (bytes), ``ok`` (exit statuses), ``timeout`` (seconds).
        """
        words = self._host(argv, cwd)
        surroundings = commands.environment(self.work, env)
        return await self._run(words, str(argv[0]), surroundings, options)

    async def run_in(
        self,
        root: str,
        *argv: Any,
        env: Optional[Mapping[str, str]] = None,
        bind: Optional[Mapping[Any, str]] = None,
        ro_bind: Optional[Mapping[Any, str]] = None,
        writable: bool = False,
        network: bool = False,
        cwd: str = "/",
        **options: Any,
    ) -> str:
        """Run a command of a tree, the tree being its root; options as of `run`"""
        surroundings = commands.environment(Path("/tmp"), env)
        words = sandbox.tree_argv(
            find_tool("bwrap"),
            str(root),
            [str(word) for word in argv],
            env=surroundings,
            bind={str(k): v for k, v in (bind or {}).items()},
            ro_bind={str(k): v for k, v in (ro_bind or {}).items()},
            writable=writable,
            network=network,
            cwd=cwd,
        )
        return await self._run(words, str(argv[0]), surroundings, options)

    @contextlib.asynccontextmanager
    async def start(
        self,
        *argv: Any,
        cwd: Optional[Path] = None,
        env: Optional[Mapping[str, str]] = None,
        **options: Any,
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """A command of the host that runs as long as the block"""
        words = self._host(argv, cwd)
        surroundings = commands.environment(self.work, env)
        self._note(words)
        started = commands.start(words, env=surroundings, log=self.log, **options)
        async with started as process:
            yield process

    async def thread(self, function: Callable[..., T], *args: Any) -> T:
        """Blocking work, off the event loop"""
        signals.check()
        try:
            working = asyncio.ensure_future(asyncio.to_thread(function, *args))
            try:
                return await asyncio.shield(working)
            except asyncio.CancelledError:
                # A thread cannot be ended, and writes where is about to be removed
                await commands.in_any_case(asyncio.wait({working}))
                raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise no_space(self.store.root) from error
            raise

    def say(self, text: str) -> None:
        """One line of progress"""
        emit("say", operation=self.name, text=text)
        with open(self.log, "a") as log:
            log.write(f"# {text}\n")

    def cache(self, name: str) -> Path:
        """A directory that a tool keeps for itself: may vanish, is no result"""
        path = self.store.root / "cache" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def unpinned(self) -> None:
        """What comes out is kept, but is not the answer when asked again"""
        self.pinned = False

    def _host(self, argv: Collection[Any], cwd: Optional[Path]):
        program, *rest = map(str, argv)
        words = [find_tool(program), *rest]
        return sandbox.host_argv(find_tool("bwrap"), words, cwd or self.work)

    async def _run(self, words, name: str, env: Mapping[str, str], options: Dict):
        self._note(words)
        return await commands.run(words, name=name, env=env, log=self.log, **options)

    def _note(self, words) -> None:
        separator = words.index("--")
        with open(self.log, "a") as log:
            log.write(f"$ {' '.join(words[separator + 1 :])}\n")
