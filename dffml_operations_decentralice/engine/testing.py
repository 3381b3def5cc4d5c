"""Run one operation without a flow, for tests and for a look at it"""

from pathlib import Path
from typing import Any, Dict, Optional

from .store import Store


async def run_operation(
    made: Any, *, store: Path, settings: Optional[Dict[str, Any]] = None, **artefacts
) -> str:
    """The path of the operation's result; raises what it raises"""
    action = made.action
    config = action.configured(settings or {}) if action.settings else None
    return await action.execute(config, artefacts, Store(store))
