"""
Who starts in a tree, and what the dynamic loader would say there: told without running
anything of it

tree.py    a directory as the root that its programs will see
layers.py  several directories, as overlayfs merges them
elf.py     what an ELF file says to kernel and loader
cache.py   /etc/ld.so.cache and /etc/ld.so.conf
dynamic.py the kernel's execve and glibc's loader
process.py a program while it is being loaded
fit.py     whether what was found fits: versions, symbols, builds
units.py   systemd's unit files
starts.py  who is started: PID 1, units, generators, udev's helpers, PAM, NSS
report.py  what is found, and the way out

Knows nothing of dffml, of the engine or of images.
"""

from .report import check, sentences
from .tree import Unresolved

__all__ = ["Unresolved", "check", "sentences"]
