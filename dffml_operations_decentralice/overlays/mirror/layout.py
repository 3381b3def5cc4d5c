"""
Where a distribution keeps its files: paths of Debian's packages, rewritten

Both have merged ``/usr``; Wolfi's is merged further (``sbin`` into ``bin``, ``lib64``
into ``lib``). Packages own no directory that the base layout's links replace.
https://systemd.io/THE_CASE_FOR_THE_USR_MERGE
"""

from __future__ import annotations

import posixpath
import re
from typing import Dict, Iterable, List, NamedTuple, Tuple

from ...errors import UserError


class Layout(NamedTuple):
    """Rules for paths, which have no leading slash"""

    moves: Tuple[Tuple["re.Pattern[str]", str], ...]
    links: Tuple[str, ...]  # of the base layout, where Debian may have a directory
    dropped: "re.Pattern[str]"

    def path(self, path: str) -> str:
        """Where a file of Debian's goes"""
        for pattern, to in self.moves:
            path = pattern.sub(to, path)
        return path

    def keeps(self, path: str) -> bool:
        """Whether a file or directory of Debian's is wanted"""
        return path not in self.links and not self.dropped.match(path)

    def target(self, path: str, link: str) -> str:
        """
        What the symbolic link at Debian's ``path`` has to say at its new place:
        relative ones may be at another depth there, or lead through another name.
        """
        if link.startswith("/"):
            return link
        old, new = posixpath.dirname(path), posixpath.dirname(self.path(path))
        meant = self.path(posixpath.normpath(posixpath.join(old, link)))
        if meant == posixpath.normpath(posixpath.join(new, link)):
            return link
        return posixpath.relpath("/" + meant, "/" + new)


WOLFI = Layout(
    moves=(
        (re.compile(r"^(s?bin|lib|lib64)(?=/|$)"), r"usr/\1"),
        (re.compile(r"^usr/sbin(?=/|$)"), "usr/bin"),
        (re.compile(r"^usr/lib64(?=/|$)"), "usr/lib"),
    ),
    links=(
        *("bin", "sbin", "lib", "lib64", "usr/sbin", "usr/lib64"),
        *("var/run", "var/lock"),
    ),
    # What has no reader in an image (its copyright notices stay), and what configures
    # programs that are left out: dpkg's, debconf's, cron's, init scripts
    dropped=re.compile(
        r"usr/share/(man|info|locale|lintian|bash-completion|zsh|fish|bug|doc-base|menu"
        r"|perl5|pixmaps|apport|debconf|gdb|polkit-1)(/|$)"
        r"|usr/share/doc/(?!.*/copyright$)|usr/lib/(tmpfiles\.d/debian|init)(/|$)"
        r"|etc/(cron\.|init\.d|init/|default/(dbus|nss)|rmt$)"
        r"|etc/modules-load\.d/modules\.conf$|.*\.pyc$"
    ),
)
FEDORA = Layout(
    moves=(
        (re.compile(r"^(s?bin|lib|lib64)(?=/|$)"), r"usr/\1"),
        (
            re.compile(r"^usr/share/doc/([^/]+)/copyright$"),
            r"usr/share/licenses/\1/copyright",
        ),
    ),
    links=("bin", "sbin", "lib", "lib64", "var/run", "var/lock"),
    dropped=re.compile(
        r"usr/share/(man|locale|lintian|bug|info|doc-base|bash-completion|zsh"
        r"|initramfs-tools|polkit-1)(/|$)|usr/share/doc/(?!.*/copyright$)"
        r"|etc/(init\.d|default|kernel|cron\.|apt)(/|$)"
    ),
)


class Claims:
    """
    Which package owns each path. Neither apko (for packages without an origin) nor a
    test of ours would notice that a file of two packages is one of them by chance.
    """

    def __init__(self) -> None:
        self.owner: Dict[str, str] = {}
        self.conflicts: List[str] = []

    def add(self, package: str, paths: Iterable[str]) -> None:
        """The package owns these files and links (directories may have many owners)"""
        for path in paths:
            owner = self.owner.setdefault(path, package)
            if owner != package:
                both = " and ".join(sorted((owner, package)))
                self.conflicts.append(f"/{path} ({both})")

    def check(self) -> None:
        """Raise if two packages own the same path"""
        if self.conflicts:
            shown = sorted(self.conflicts)
            more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
            raise UserError(
                f"two packages own the same file: {', '.join(shown[:5])}{more}",
                remedy="leave one of them out of the setting `packages`",
            )
