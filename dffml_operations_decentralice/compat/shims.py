"""What rewritten modules of dffml use in place of what newer Pythons lack"""

import asyncio
import dataclasses
import functools
import importlib.util
import os
import shutil
import types
import warnings
from typing import Any, Optional

from .entry_points import iter_entry_points


def dataclass(cls: Optional[type] = None, **options: Any) -> Any:
    """
    ``dataclasses.dataclass``, which since 3.11 refuses unhashable defaults

    They become default factories that give the same object to every instance: as
    before.
    """
    if cls is None:
        return functools.partial(dataclass, **options)
    for name, annotation in getattr(cls, "__annotations__", {}).items():
        value: Any = cls.__dict__.get(name)
        if "ClassVar" in str(annotation):
            continue
        if not isinstance(value, dataclasses.Field):
            value = dataclasses.field(default=value)
        if type(value.default).__hash__ is None:
            value.default_factory = functools.partial(_same, value.default)
            value.default = dataclasses.MISSING
            setattr(cls, name, value)
    return dataclasses.dataclass(**options)(cls)


def _same(value: Any) -> Any:
    return value


def get_event_loop() -> asyncio.AbstractEventLoop:
    """``asyncio.get_event_loop``: 3.12 warns and 3.14 raises where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return asyncio.get_event_loop()
        except RuntimeError:
            asyncio.set_event_loop(asyncio.new_event_loop())
            return asyncio.get_event_loop()


def new_class(name: str, bases: tuple, namespace: dict) -> type:
    """``type(name, (NamedTuple,), namespace)``: refused since 3.9."""
    namespace = {"__module__": "dffml.df.types", **namespace}
    return types.new_class(name, bases, exec_body=lambda ns: ns.update(namespace))


def resource_filename(package: str, resource: str) -> str:
    """The path of a file of a package, as ``pkg_resources`` gives it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No package named {package!r}", name=package)
    return os.path.join(spec.submodule_search_locations[0], resource)


pkg_resources = types.SimpleNamespace(
    iter_entry_points=iter_entry_points, resource_filename=resource_filename
)
distutils = types.SimpleNamespace(
    dir_util=types.SimpleNamespace(
        copy_tree=functools.partial(shutil.copytree, dirs_exist_ok=True)
    )
)
