"""What QEMU says of forwarded ports"""

import pytest

from dffml_operations_decentralice.errors import VmError
from dffml_operations_decentralice.vm.guest import forwarded

# QEMU 7.2
SAID = """\
Hub -1 (net0):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[ESTABLISHED]   25       127.0.0.1 41234       10.0.2.15  3001     0     0
  TCP[HOST_FORWARD]  13       127.0.0.1 35441       10.0.2.15  3001     0     0
  TCP[HOST_FORWARD]  12       127.0.0.1 45093       10.0.2.15  3000     0     0
  UDP[236 sec]       26       10.0.2.15 68          10.0.2.2   67       0     0
"""


@pytest.mark.parametrize("port, expected", [(3001, 35441), (3000, 45093)])
def test_forwarded(port, expected):
    assert forwarded(SAID.replace("\n", "\r\n"), port) == expected


@pytest.mark.parametrize("said", ["", "  TCP[HOST_FORWARD]", SAID])
def test_not_forwarded(said):
    with pytest.raises(VmError):
        forwarded(said, 80)
