"""What apt's messages mean, by who has to act"""

from __future__ import annotations

import re
from pathlib import Path
from typing import List, Tuple, Type

from ...errors import (
    CommandFailed,
    DecentrAliceError,
    NetworkError,
    SignatureError,
    SpaceError,
    UserError,
)

# The first that is found in the messages counts: a server that is out of reach has no
# Release file either
MEANINGS: Tuple[Tuple[Type[DecentrAliceError], "re.Pattern[str]", str], ...] = (
    (
        SpaceError,
        re.compile("No space left on device|don't have enough free space"),
        "make room on the store's file system, or set DECENTRALICE_STORE",
    ),
    (
        SignatureError,
        re.compile(
            r"NO_PUBKEY|BADSIG|EXPKEYSIG|REVKEYSIG|GPG error|is not signed"
            r"|invalid signature|signatures (couldn't be verified|were invalid)"
            r"|Hash Sum mismatch|File has unexpected size|unauthenticated"
            r"|Clearsigned file|is expired|not valid yet"
        ),
        "nothing of it was used; try another `archive`, and check the host's clock",
    ),
    (
        UserError,
        re.compile(
            r"does not have a Release file|no longer has a Release file"
            r"|Unable to locate package|Version '.*' for '.*' was not found"
            r"|has no installation candidate|Couldn't find any package"
            r"|unmet dependencies|Depends: .* but it|Malformed entry"
        ),
        "correct the settings `suite`, `packages` or `archive`",
    ),
    (
        NetworkError,
        re.compile(
            r"Could not (resolve|connect|handshake)|Cannot initiate|Connection failed"
            r"|Connection timed out|Connection refused|Unable to connect"
            r"|Temporary failure|Network is unreachable|Failed to fetch"
            r"|Some index files failed"
        ),
        "check the network, or set `archive` to a Debian archive that answers",
    ),
)
MESSAGE = re.compile(r"^(?:[EW]:|Err:\d+| {2,}) *(\S.*)$", re.MULTILINE)
LENGTH = 300  # of a cause


def failure(said: str, log: Path) -> DecentrAliceError:
    """The error for what apt wrote before it gave up"""
    texts: List[str] = MESSAGE.findall(said) or [said.strip() or "no message"]
    for kind, pattern, remedy in MEANINGS:
        for text in texts:
            if pattern.search(text):
                return kind(f"apt: {text[:LENGTH]}", remedy=remedy, log=log)
    cause = f"apt-get failed: {texts[-1][:LENGTH]}"
    return CommandFailed(cause, remedy="see the log", log=log)
