"""
Operations of the overlay ``mirror``

Two fetch Debian packages, two make repositories of them which take the place of Wolfi's
and Fedora's in the flow.
"""

from pathlib import Path
from typing import List, NewType

from ...engine import Step, operation, setting, settings
from ...types import KernelRepository, UserspaceRepository
from . import apk_repository, archive, fedora, fetched, kernel, rpm_repository, wolfi

DebianUserspace = NewType("DebianUserspace", str)
DebianKernel = NewType("DebianKernel", str)

IMAGE = (
    "systemd systemd-sysv udev systemd-resolved systemd-timesyncd libnss-systemd"
    " libnss-myhostname libpam-systemd dbus kmod bash dash coreutils util-linux login"
    " passwd mount procps grep sed findutils gzip tar mawk less hostname iproute2"
    " e2fsprogs ca-certificates libc-bin ncurses-base debianutils"
)
EXTRAS = (
    "curl sudo openssh-server nftables tzdata kbd console-data"
    " podman crun netavark uidmap dbus-user-session"
)
TOOLS = (
    "systemd-ukify systemd-boot systemd-boot-efi dosfstools mtools fdisk python3"
    " erofs-utils"
)

DRACUT = (
    "bash coreutils sed grep findutils gawk tar gzip xz-utils zstd cpio util-linux"
    " util-linux-extra mount login passwd procps hostname libc-bin systemd"
    " systemd-sysv udev dbus kmod libkmod2 dracut-core e2fsprogs dosfstools kbd"
    " iproute2 less libtss2-esys-3.0.2-0 libtss2-rc0 libtss2-mu0 libtss2-tcti-device0"
    " libcryptsetup12"
    # For who has Fedora's systemd as PID 1
    " systemd-resolved libpam-systemd"
)


@settings
class DebianUserspaceSettings:
    """Settings of `fetch_debian_userspace`"""

    packages: List[str] = setting(
        "Debian packages; what they need comes with them",
        default_factory=lambda: f"{IMAGE} {EXTRAS} {TOOLS}".split(),
    )
    add: List[str] = setting(
        "Further ones, which packages of lock_userspace are to be made of",
        default_factory=list,
    )
    suite: str = setting("Debian's suite", default="trixie")
    archive: str = setting(
        "Address of a Debian archive; empty: the one that the host's apt uses",
        default="",
    )
    security: str = setting(
        "Address of its security updates; empty: with `archive` none, else as above",
        default="",
    )


@operation(
    result="debian-userspace",
    tools=("apt-get", "apt-config", archive.KEYRING),
    volatile=True,
)
async def fetch_debian_userspace(
    step: Step[DebianUserspaceSettings],
) -> DebianUserspace:
    """
    Debian packages for the userspace, verified by Debian's keys: ``*.deb`` and
    ``debs.json``. https://wiki.debian.org/SecureApt
    """
    wanted = step.settings
    names = [*wanted.packages, *wanted.add]
    for name in names:
        archive.checked("packages", name, archive.PACKAGE)
    apt = archive.Apt(step)
    given = archive.Addresses(wanted.archive, wanted.security)
    await apt.prepare(wanted.suite, given, wolfi.ASSUMED)
    packages = await apt.fetch(names, step.out)
    fetched.write_list(step.out, packages, suite=wanted.suite)
    return DebianUserspace(str(step.out))


@settings
class UserspaceMirrorSettings:
    """Settings of `mirror_userspace_repository`"""

    key: str = setting(
        "RSA private key that signs it, a PEM file; empty: one that the store makes. "
        "With the same key, two stores make the same repository",
        default="",
        file=True,
    )


@operation(
    result="userspace-repository",
    tools=("openssl", "melange"),
    files=("mirror/userspace",),
)
async def mirror_userspace_repository(
    step: Step[UserspaceMirrorSettings], debs: DebianUserspace
) -> UserspaceRepository:
    """
    A signed repository of Wolfi's format: ``repository.json``, the public key, and
    ``x86_64/`` with ``APKINDEX.tar.gz``. https://wiki.alpinelinux.org/wiki/Apk_spec
    """
    await apk_repository.build(step, Path(debs), step.out, step.settings.key)
    return UserspaceRepository(str(step.out))


@settings
class DebianKernelSettings:
    """Settings of `fetch_debian_kernel`"""

    flavour: str = setting(
        "`cloud` (virtual machines only: no AHCI, no USB) or `generic`",
        default="cloud",
        choices=kernel.FLAVOURS,
    )
    kernel_version: str = setting(
        "Debian's version of the kernel; empty: the newest", default=""
    )
    packages: List[str] = setting(
        "Debian packages for the initrd; what they need comes with them",
        default_factory=DRACUT.split,
    )
    suite: str = setting("Debian's suite", default="bookworm")
    archive: str = setting(
        "Address of a Debian archive; empty: the one that the host's apt uses",
        default="",
    )
    security: str = setting(
        "Address of its security updates; empty: with `archive` none, else as above",
        default="",
    )


@operation(
    result="debian-kernel",
    tools=("apt-get", "apt-config", archive.KEYRING),
    volatile=True,
)
async def fetch_debian_kernel(step: Step[DebianKernelSettings]) -> DebianKernel:
    """
    Debian packages of a kernel and of what makes its initrd, verified by Debian's keys:
    ``*.deb`` and ``debs.json``. https://wiki.debian.org/SecureApt
    """
    wanted = step.settings
    for name in wanted.packages:
        archive.checked("packages", name, archive.PACKAGE)
    image = kernel.meta_package(wanted.flavour, wanted.kernel_version)
    apt = archive.Apt(step)
    given = archive.Addresses(wanted.archive, wanted.security)
    await apt.prepare(wanted.suite, given, fedora.ASSUMED)
    packages = await apt.fetch([image, *wanted.packages], step.out)
    found = kernel.image_of(fetched.record(package) for package in packages)
    fetched.write_list(step.out, packages, suite=wanted.suite, kernel=found)
    return DebianKernel(str(step.out))


@settings
class KernelMirrorSettings:
    """Settings of `mirror_kernel_repository`"""

    key: str = setting(
        "OpenPGP secret key that signs its packages, a file without a passphrase, made "
        "before 2026; empty: one that the store makes",
        default="",
        file=True,
    )


@operation(
    result="kernel-repository",
    tools=("gpg", "rpmsign", "nfpm --version", "createrepo_c --version"),
    files=("mirror/kernel",),
)
async def mirror_kernel_repository(
    step: Step[KernelMirrorSettings], debs: DebianKernel
) -> KernelRepository:
    """
    A signed repository of Fedora's format: ``repository.json``, the public key,
    ``Packages/`` and ``repodata/``. https://createrepo-c.readthedocs.io
    """
    await rpm_repository.build(step, Path(debs), step.out, step.settings.key)
    return KernelRepository(str(step.out))
