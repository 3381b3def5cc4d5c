"""An operation whose result has what only root can make, for tests without root"""

import os
from typing import NewType

from dffml_operations_decentralice.engine import Step, operation

Owners = NewType("Owners", str)
# cap_net_raw=ep, as https://man7.org/linux/man-pages/man7/capabilities.7.html has it
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


@operation
async def make_owners(step: Step) -> Owners:
    """Owners up to nobody, setuid, a capability; and the copy that cp makes"""
    tree = step.out / "tree"
    tree.mkdir(parents=True)
    for name, uid, gid, mode in (
        *(("root", 0, 0, 0o644), ("shadow", 0, 42, 0o640), ("su", 0, 0, 0o4755)),
        *(("service", 999, 999, 0o2750), ("nobody", 65534, 65534, 0o600)),
    ):
        path = tree / name
        path.write_text(name)
        os.chown(path, uid, gid)
        path.chmod(mode)
    (tree / "ping").write_text("ping")
    os.setxattr(tree / "ping", "security.capability", CAPABILITY)
    (tree / "link").symlink_to("su")
    os.chown(tree / "link", 7, 7, follow_symlinks=False)
    await step.run("cp", "-a", tree, step.out / "copy")
    return Owners(str(step.out))
