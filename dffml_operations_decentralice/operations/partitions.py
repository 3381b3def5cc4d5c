"""What a `PartitionTable` says of the disk's partitions"""

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple


class Partition(NamedTuple):
    """One partition; MiB from the start of the disk"""

    name: str
    start: int
    size: int
    uuid: str
    file_system: str  # UUID of the file system in it


def partitions_of(table: str) -> Dict[str, Partition]:
    """The partitions of a `PartitionTable`, by name"""
    lines: List[Dict[str, Any]] = json.loads(Path(table, "layout.json").read_text())
    return {one["name"]: Partition(**one) for one in lines}
