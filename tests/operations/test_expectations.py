"""What a build expects to see, of the artefacts of the real image"""

import json

from dffml_operations_decentralice.operations.expectations import (
    asked_for,
    command_line,
)
from dffml_operations_decentralice.vm.expectations import read


def test_packages_by_what_they_are_called(tmp_path):
    lock = {
        "image": [{"name": "bash"}, {"name": "python-3.13"}],
        "request": {"image": ["bash", "python-3"]},
    }
    (tmp_path / "lock").write_text(json.dumps(lock))
    assert asked_for(str(tmp_path / "lock")) == ["bash"]


def test_image(image):
    found = {one.setting: one for one in read(str(image.artefact("expectations")))}
    uki = str(image.artefact("decentralice.efi"))
    assert found["build_uki.cmdline"].lines == command_line(uki).split()
    assert "root=gpt-auto" in found["build_uki.cmdline"].lines
    assert found["install_bootloader"].lines == ["timeout 0", "editor no"]
    assert "VARIANT_ID=mirror" in found["os_release"].lines
    assert found["partition"].lines == ["esp 260", "swap 10230", "root 9988"]
    assert "systemd" in found["lock_userspace.packages"].lines
    [release] = (image.artefact("kernel-modules") / "modules").iterdir()
    assert found["lock_kernel_rpms.kernel"].lines == [release.name]
    settings = image.artefact("root-tree") / "usr/lib/decentralice/settings.json"
    wanted = json.loads(settings.read_text())["compose_root"]
    assert found["compose_root.hostname"].lines == [wanted["hostname"]]
