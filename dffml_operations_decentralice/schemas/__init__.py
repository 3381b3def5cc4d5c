"""JSON Schemas of the documents that this package writes, draft 2020-12"""

import json
from pathlib import Path
from typing import Any, Dict


def schema(name: str) -> Dict[str, Any]:
    """The schema of a document, by name: ``boot-report``, ``check-report``"""
    path = Path(__file__).parent / f"{name}.schema.json"
    found: Dict[str, Any] = json.loads(path.read_text())
    return found
