"""
A recording of a terminal in asciinema's format, version 2

https://docs.asciinema.org/manual/asciicast/v2/
"""

from __future__ import annotations

import codecs
import json
from typing import IO, Any, Dict, Union


class Cast:
    """Written as it goes: each line is whole, so a recording that stops is valid"""

    def __init__(
        self,
        file: IO[str],
        *,
        title: str,
        timestamp: int,
        width: int = 80,
        height: int = 25,
    ):
        header: Dict[str, Union[int, str, Dict[str, str]]] = {
            "version": 2,
            "width": width,
            "height": height,
            "timestamp": timestamp,
            "title": title,
            "env": {"TERM": "vt220"},
        }
        self._file = file
        # Characters may be cut between two reads
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._write(header)

    def feed(self, data: bytes, seconds: float) -> None:
        """Output that came ``seconds`` after the start"""
        text = self._decoder.decode(data)
        if text:
            self._write([round(seconds, 6), "o", text])

    def _write(self, item: Any) -> None:
        self._file.write(json.dumps(item) + "\n")
