"""
The whole build, in order

What flows is wired by type: an operation gets what another one makes. What is said here
are the settings in which this operating system differs from the operations' defaults;
an overlay adds to the lists, and sets what is not set.

``dataflows/os_decentralice.yaml`` is this page as data: `make flow` writes it, and
``images.yaml``, which builds several images.
"""

from dffml import DataFlow, GetSingle, Input

from .operations.boot import boot_verify
from .operations.disk import format_root, install_bootloader, partition, write_disk
from .operations.expectations import expect_settings
from .operations.images import build_image
from .operations.kernel import (
    depmod,
    dracut_initrd,
    fetch_initrd_rpms,
    fetch_kernel_rpms,
    install_fedora,
    kernel_repository,
    lock_kernel_rpms,
)
from .operations.loader import check_loader
from .operations.publish import collect_result, publish_result
from .operations.root import compose_root, os_release
from .operations.splash import draw_splash
from .operations.ssi import build_ssi_service, install_ssi_service, package_ssi_service
from .operations.ssi_verify import verify_ssi
from .operations.uki import build_uki
from .operations.userspace import (
    fetch_userspace,
    install_tools,
    install_userspace,
    lock_userspace,
    userspace_repository,
)

OPERATIONS = [
    # Userspace and build tools from Wolfi
    userspace_repository,
    lock_userspace,
    fetch_userspace,
    install_userspace,
    install_tools,
    # The Self-Sovereign Identity service, from source to a signed package
    build_ssi_service,
    package_ssi_service,
    install_ssi_service,
    # Kernel, modules, firmware and initrd from Fedora
    kernel_repository,
    lock_kernel_rpms,
    fetch_kernel_rpms,
    fetch_initrd_rpms,
    install_fedora,
    depmod,
    dracut_initrd,
    # The image
    os_release,
    draw_splash,
    partition,
    build_uki,
    compose_root,
    check_loader,
    format_root,
    install_bootloader,
    write_disk,
    # The proof
    expect_settings,
    boot_verify,
    verify_ssi,
    collect_result,
    publish_result,
]

SETTINGS = {
    "lock_userspace": {
        "packages": [
            *("wolfi-base", "systemd", "systemd-init", "udev", "dbus", "kmod"),
            *("systemd-default-network", "systemd-logind-service"),
            *("bash", "coreutils", "util-linux", "shadow", "iproute2", "e2fsprogs"),
            *("ca-certificates-bundle", "curl"),
        ],
        "tools": [
            *("wolfi-base", "bash", "coreutils", "systemd-ukify", "systemd-boot"),
            *("e2fsprogs", "dosfstools", "mtools", "sfdisk", "util-linux"),
        ],
    },
    "lock_kernel_rpms": {
        "kernel": ["kernel-core", "kernel-modules-core"],
        "initrd": [
            *("dracut", "systemd", "systemd-udev", "kmod", "util-linux", "e2fsprogs"),
            *("dosfstools", "tpm2-tss", "zstd", "cpio", "bash", "coreutils"),
        ],
    },
    "dracut_initrd": {
        "drivers": [
            *("virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "ahci", "ata_piix"),
            *("nvme", "ext4", "vfat", "nls_ascii", "nls_cp437", "overlay", "erofs"),
            *("loop", "tpm_crb", "tpm_tis", "virtio_rng", "qemu_fw_cfg", "dmi_sysfs"),
        ],
    },
    "build_uki": {
        "cmdline": [
            *("console=tty0", "console=ttyS0"),
            # Found by its type on the disk that was booted from, whatever its bus
            *("root=gpt-auto", "rw"),
            # No policy of SELinux or AppArmor is in the image, and no unit uses BPF's,
            # which costs PID 1 seconds on a slow machine
            "lsm=lockdown,yama,landlock",
        ],
    },
}


def instance_name(operation) -> str:
    """The bare name of the function"""
    return operation.action.name


FLOW = DataFlow(
    operations={
        **{instance_name(operation): operation for operation in OPERATIONS},
        "get_single": GetSingle,
    },
    configs={
        instance_name(operation): SETTINGS.get(instance_name(operation), {})
        for operation in OPERATIONS
        if operation.action.settings
    },
    seed=[
        Input(
            value=["PublishedResult"],
            definition=GetSingle.op.inputs["spec"],
        )
    ],
)

# What comes in are the overlays of an image, what goes out is its verdict
IMAGES = DataFlow(
    operations={"build_image": build_image, "get_single": GetSingle},
    configs={"build_image": {}},
    seed=[
        Input(
            value=["ImageVerdict"],
            definition=GetSingle.op.inputs["spec"],
        )
    ],
)
