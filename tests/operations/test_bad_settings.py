"""Settings that cannot be: refused before any work, by file, line and key"""

import re

import pytest

from dffml_operations_decentralice.composition import compose
from dffml_operations_decentralice.errors import UserError

# The line that is meant is marked
REFUSED = {
    "duplicate uid": """
      compose_root:
        users:
        - name: alice
          uid: 1001
        - name: bob
          uid: 1001 # <-
    """,
    "duplicate name": """
      compose_root:
        users:
        - name: alice
        - uid: 1001
          name: alice # <-
    """,
    "no shell": """
      compose_root:
        users:
        - name: alice
          shell: bash # <-
    """,
    "malformed key": """
      compose_root:
        users:
        - name: alice
          ssh_keys:
          - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me # <-
    """,
    "key of another type": """
      compose_root:
        root_ssh_keys:
        - ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAA2tleQ== # <-
    """,
    "bad hash": """
      compose_root:
        users:
        - name: alice
          password_hash: hunter2 # <-
    """,
    "sudo without a password": """
      compose_root:
        users:
        - name: alice
          sudo: true # <-
    """,
    "no locale": """
      compose_root:
        locale: german # <-
    """,
    "no time zone": """
      compose_root:
        timezone: Europe/Wonderland # <-
    """,
    "no parameter": """
      compose_root:
        sysctl:
          vm.swappiness: "10"
          swappiness: "10" # <-
    """,
    "file outside": """
      compose_root:
        write_files:
          /etc/../../x: # <-
            content: x
    """,
    "relative file": """
      compose_root:
        write_files:
          etc/x: # <-
            content: x
    """,
    "link that leads out": """
      compose_root:
        hostname: alice
        files: {links} # <-
    """,
    "no unit's name": """
      compose_root:
        enable:
        - a.service
        - ../b.service # <-
    """,
    "no address": """
      compose_root:
        network:
        - name: en*
          address:
          - 192.0.2.7 # <-
    """,
    "no room": """
      partition:
        swap: 20
        size: 300 # <-
    """,
    "too much swap": """
      partition:
        swap: 30000 # <-
    """,
    "ESP too small": """
      partition:
        esp: 20 # <-
    """,
    "command line": """
      build_uki:
        cmdline:
        - quiet
        - "a\\nb" # <-
    """,
    "no firmware": """
      lock_kernel_rpms:
        firmware:
        - bash # <-
    """,
    "name of the UKI": """
      install_bootloader:
        entry: ../x.efi # <-
    """,
    "no memory": """
      boot_verify:
        memory: 1 # <-
    """,
    "no such accelerator": """
      verify_ssi:
        accelerator: hvf # <-
    """,
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=list(REFUSED))
def test_refused_by_file_line_and_key(tmp_path, text):
    (tmp_path / "links/etc").mkdir(parents=True)
    (tmp_path / "links/etc/shadow").symlink_to("/etc/shadow")
    lines = text.replace("{links}", str(tmp_path / "links")).splitlines()
    path = tmp_path / "mine.yaml"
    path.write_text("\n".join(["configs:", *lines[1:]]))
    [line] = [number for number, one in enumerate(lines, 1) if "# <-" in one]
    key = re.sub(r"[-:\s].*", "", lines[line - 1].strip(" -")) or "setting"
    with pytest.raises(UserError) as caught:
        compose([str(path)]).dataflow()
    assert caught.value.cause.startswith(f"{path}:{line}: "), caught.value.cause
    operation = lines[1].strip(" :")
    assert f"{operation}: setting '" in caught.value.cause
    assert key in caught.value.cause or "-" in lines[line - 1]
    assert caught.value.remedy
    assert "hunter2" not in "\n".join(caught.value.lines())
