"""
Kernel, modules, firmware and initrd from Fedora

dnf solves, once; the lock is replayed without it: each RPM is checked against the lock
and the pinned key, then installed by rpm, which is faster and needs no index.

Packages of the kernel, which go into the image, and those of the tree in which dracut
runs, which do not, are kept apart, so that a new kernel leaves the latter as it is.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any, Dict, List, Optional

from ..engine import Step, operation, setting, settings
from ..engine.download import Download, fetch_all
from ..errors import CommandFailed, NetworkError, SignatureError, UserError
from ..types import (
    FedoraTree,
    Initrd,
    InitrdRpms,
    KernelLock,
    KernelModules,
    KernelRepository,
    KernelRpms,
)
from . import lock as lock_file
from . import repository as repositories
from .tree import clamp_times

LINUX = "https://dl.fedoraproject.org/pub/fedora/linux"
METALINK = "https://mirrors.fedoraproject.org/metalink"
RPMDB = "/usr/lib/sysimage/rpm"
VERIFY_ALL = ("--define", "_pkgverify_level all")  # else an unsigned RPM passes
INTO_IMAGE = re.compile(r"kernel(-|$)|linux-firmware|.*-firmware$")
SCRIPTLET_FAILED = re.compile(r"scriptlet failed|Error in .* scriptlet")
DRACUT_FAILED = re.compile(r"ERROR|FAILED|Failed to")
MISMATCH = "checksum doesn't match"
SOLVER_ERRORS = {
    "MarkingError": UserError,
    "MarkingErrors": UserError,
    "PackageNotFoundError": UserError,
    "PackagesNotAvailableError": UserError,
    "DepsolveError": UserError,
    "RepoError": NetworkError,
}


@settings
class KernelRepositorySettings:
    releasever: str = setting("Release of Fedora", default="44")
    key: str = setting(
        "OpenPGP key of that release, a file; empty: the one that comes along",
        default="",
        file=True,
    )


@operation(files=("keys",))
async def kernel_repository(
    step: Step[KernelRepositorySettings],
) -> KernelRepository:
    """
    Fedora's repositories and the key that signs each of their packages

    https://docs.fedoraproject.org/en-US/quick-docs/repositories/
    """
    releasever = step.settings.releasever
    name = f"RPM-GPG-KEY-fedora-{releasever}-primary"
    key = Path(step.settings.key) if step.settings.key else step.files / "keys" / name
    if not key.is_file():
        raise UserError(
            f"no key of Fedora {releasever} comes along",
            remedy="give its file: setting `key` of kernel_repository",
        )
    step.out.mkdir()
    shutil.copyfile(key, step.out / name)
    repositories.write(step.out, fedora(releasever, name))
    return KernelRepository(str(step.out))


def fedora(releasever: str, key: str) -> Dict[str, Any]:
    """Fedora's description: metalinks for the solver, an address for the lock"""
    release = f"{LINUX}/releases/{releasever}/Everything/x86_64/os"
    updates = f"{LINUX}/updates/{releasever}/Everything/x86_64"
    query = f"{METALINK}?arch=x86_64&repo="
    return {
        "variant": "",
        "distribution": f"Fedora {releasever}",
        "releasever": releasever,
        "keys": [key],
        "repositories": [
            {
                "id": "fedora",
                "metalink": f"{query}fedora-{releasever}",
                "baseurl": release,
            },
            {
                "id": "updates",
                "metalink": f"{query}updates-released-f{releasever}",
                "baseurl": updates,
            },
        ],
    }


@settings
class KernelLockSettings:
    kernel: List[str] = setting(
        "Packages of the image: the kernel and its modules",
        default_factory=list,
    )
    firmware: List[str] = setting(
        "Packages of the image with firmware, as linux-firmware, amd-gpu-firmware",
        default_factory=list,
        pattern=r"[A-Za-z0-9_.+-]*firmware[A-Za-z0-9_.+-]*",
    )
    initrd: List[str] = setting(
        "Packages of the tree in which dracut makes the initrd", default_factory=list
    )
    lock: str = setting("Lock file, used if there", default="os.lock.json", file=True)


@operation(tools=("/usr/bin/python3",), files=("../host",), volatile=True)
async def lock_kernel_rpms(
    step: Step[KernelLockSettings], repository: KernelRepository
) -> KernelLock:
    """The exact RPMs: from the lock file if there is one, else solved by dnf's API"""
    wanted = step.settings
    source = repositories.read(repository)
    request = {
        "packages": sorted({*wanted.kernel, *wanted.firmware, *wanted.initrd}),
        "releasever": source["releasever"],
        "repositories": source["repositories"],
        "keys": repositories.key_digests(repository),
    }
    found = lock_file.locked(wanted.lock, "kernel", request)
    if found is None:
        found = {"request": request, **await solve(step, repository, request)}
        if lock_file.set_aside(wanted.lock):
            step.unpinned()
    check_lock(found)
    step.out.write_text(lock_file.dump(found))
    return KernelLock(str(step.out))


async def solve(step: Step, repository: str, request: Dict[str, Any]) -> Dict[str, Any]:
    """Ask dnf which packages it would install into an empty root"""
    question = {
        **request,
        "installroot": str(step.work / "root"),
        "cachedir": str(step.work / "cache"),
        "repositories": [
            {**one, "baseurl": repositories.url(repository, one["baseurl"])}
            for one in request["repositories"]
        ],
    }
    script = Path(__file__).parent.parent / "host" / "solve_rpms.py"
    answer = json.loads(
        await step.run(
            *("/usr/bin/python3", "-I", script), input=json.dumps(question).encode()
        )
    )
    if "error" in answer:
        raise solver_error(answer["error"], answer["text"], step.log)
    return answer


def solver_error(kind: str, text: str, log: Optional[Path] = None):
    """The error of what dnf raised"""
    first = text.strip().splitlines()[0] if text.strip() else kind
    # dnf's API says only that all mirrors failed; librepo says on stderr why
    said = log.read_text(errors="replace") if log else ""
    if "checksum" in text or "GPG" in text or MISMATCH in said:
        return SignatureError(
            f"the index is not what its hash or signature says: {first}",
            remedy="do not use this mirror",
            log=log,
        )
    found = SOLVER_ERRORS.get(kind, CommandFailed)
    remedy = {
        UserError: "check the package names in the settings of lock_kernel_rpms",
        NetworkError: "check the connection and the addresses of kernel_repository",
    }.get(found, "see the log")
    return found(f"dnf: {first}", remedy=remedy, log=log)


def check_lock(lock: Dict[str, Any]) -> None:
    """Refuse a lock that does not say exactly what each package is"""
    packages = lock.get("packages")
    known = {one["id"] for one in lock["request"]["repositories"]}
    listed: List[Any] = packages if isinstance(packages, list) else [packages]
    for one in listed:
        if not is_exact(one) or one["repository"] not in known:
            named = one.get("nevra") if isinstance(one, dict) else one
            raise UserError(
                f"the lock's package {named!r} is damaged", remedy=lock_file.ANEW
            )
    names = {one["name"] for one in lock["packages"]}
    missing = [one for one in lock["request"]["packages"] if one not in names]
    if missing:
        raise UserError(f"the lock lacks {', '.join(missing)}", remedy=lock_file.ANEW)


def is_exact(package: Any) -> bool:
    """Whether a lock says all of a package, and nothing that leads elsewhere"""
    if not isinstance(package, dict):
        return False
    fields = ("name", "nevra", "sha256", "location", "repository")
    words = [package.get(field) for field in fields]
    if not all(isinstance(one, str) for one in words):
        return False
    location = package["location"].split("/")
    return bool(
        re.fullmatch(r"[0-9a-f]{64}", package["sha256"])
        and re.fullmatch(r"[^/\s]+", package["nevra"])
        and ".." not in location
        and location[0]
        and isinstance(package.get("size"), int)
    )


@operation(tools=("rpmkeys",), space=80)
async def fetch_kernel_rpms(
    step: Step, repository: KernelRepository, lock: KernelLock
) -> KernelRpms:
    """The RPMs that go into the image, signed by the pinned key"""
    await fetch(step, repository, lock, into_image=True)
    return KernelRpms(str(step.out))


@operation(tools=("rpmkeys",), space=80)
async def fetch_initrd_rpms(
    step: Step, repository: KernelRepository, lock: KernelLock
) -> InitrdRpms:
    """The RPMs of the tree in which dracut runs, signed by the pinned key"""
    await fetch(step, repository, lock, into_image=False)
    return InitrdRpms(str(step.out))


async def fetch(step: Step, repository: str, lock: str, into_image: bool) -> None:
    """Download what the lock names; verify hash and signature of each file"""
    content = json.loads(Path(lock).read_text())
    mine = [
        one
        for one in content["packages"]
        if bool(INTO_IMAGE.match(one["name"])) == into_image
    ]
    bases = {
        one["id"]: repositories.resolve(repository, one["baseurl"])
        for one in content["request"]["repositories"]
    }
    step.out.mkdir()
    step.say(f"{len(mine)} packages, {sum(one['size'] for one in mine) / 1e6:.0f} MB")
    await fetch_all(
        (
            Download(
                source=f"{bases[one['repository']]}/{one['location']}",
                target=step.out / f"{one['nevra']}.rpm",
                sha256=one["sha256"],
                size=one["size"],
            )
            for one in mine
        ),
        parts=step.cache(f"downloads/{step.name}"),
    )
    await check_signatures(step, repositories.keys(repository))


async def check_signatures(step: Step, keys: List[Path]) -> None:
    """Refuse all if one RPM is not signed by a pinned key"""
    database = step.work / "keys"
    database.mkdir()
    await step.run("rpmkeys", "--dbpath", database, "--import", *keys)
    files = sorted(step.out.iterdir())
    try:
        await step.run(
            *("rpmkeys", *VERIFY_ALL, "--dbpath", database, "--checksig", *files)
        )
    except CommandFailed as error:
        raise SignatureError(
            f"an RPM is not signed by {', '.join(key.name for key in keys)}: "
            f"{error.cause}",
            remedy="do not use it; check the repository and the pinned key",
            log=step.log,
        ) from error


async def rpm_install(step: Step, root: Path, keys: List[Path], files, *options):
    """Install RPMs into a root by rpm, which checks signatures once more"""
    (root / RPMDB.lstrip("/")).mkdir(parents=True)
    home = step.work / "rpm-home"
    home.mkdir()
    where = ("--root", root, "--dbpath", RPMDB)
    env = {
        "HOME": str(home),
        "RPM_FORCE_DEBIAN": "1",
        "KERNEL_INSTALL_BYPASS": "1",
        "SYSTEMD_IN_CHROOT": "1",
        "SYSTEMD_OFFLINE": "1",
        "SYSTEMD_HWDB_UPDATE_BYPASS": "1",
    }
    await step.run("rpmkeys", *where, "--import", *keys, env=env)
    await step.run(*("rpm", *where, *VERIFY_ALL, "--nodocs", *options, *files), env=env)
    said = step.log.read_text(errors="replace")
    failed = SCRIPTLET_FAILED.search(said)
    if failed:  # rpm exits with 0 then
        line = next(line for line in said.splitlines() if failed[0] in line)
        raise CommandFailed(f"rpm: {line}", remedy="see the log", log=step.log)


@operation(tools=("rpm", "rpmkeys"), space=110)
async def install_fedora(
    step: Step, repository: KernelRepository, rpms: InitrdRpms
) -> FedoraTree:
    """
    The tree in which dracut runs: Fedora's packages with their scriptlets, no kernel
    """
    root = step.out
    root.mkdir()
    files = sorted(Path(rpms).iterdir())
    await rpm_install(step, root, repositories.keys(repository), files, "-U")
    await step.thread(tidy_fedora, root)
    await step.thread(clamp_times, root, step.epoch)
    return FedoraTree(str(root))


def tidy_fedora(root: Path) -> None:
    """
    Scriptlets that redirect to /dev/null make a regular file of it; the RPM database
    and caches hold times of installation
    """
    for path in (root / "dev").iterdir():
        if path.is_file():
            path.unlink()
    for name in ("usr/lib/sysimage/rpm", "var/cache/ldconfig"):
        shutil.rmtree(root / name, ignore_errors=True)
    for name in ("etc/.pwd.lock", "etc/passwd-", "etc/group-", "etc/shadow-"):
        (root / name).unlink(missing_ok=True)
    for name in ("usr/lib/modules", "var/tmp", "proc", "sys", "run", "tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)


@operation(tools=("rpm", "rpmkeys", "depmod"), space=60)
async def depmod(
    step: Step, repository: KernelRepository, rpms: KernelRpms
) -> KernelModules:
    """
    The kernel's own files: ``modules/<release>/``, with the lists of dependencies that
    depmod makes, and ``firmware/``. https://man7.org/linux/man-pages/man8/depmod.8.html
    """
    root = step.work / "root"
    root.mkdir()
    files = sorted(Path(rpms).iterdir())
    keys = repositories.keys(repository)
    # Without scriptlets: they would need a whole Fedora, and all that they do follows
    await rpm_install(step, root, keys, files, "-i", "--nodeps", "--noscripts")
    step.out.mkdir()
    release = await step.thread(gather_kernel, root, step.out)
    # depmod looks below lib/modules of its base
    base = step.work / "base"
    (base / "lib").mkdir(parents=True)
    (step.out / "modules").rename(base / "lib" / "modules")
    await step.run("depmod", "--basedir", base, release)
    (base / "lib" / "modules").rename(step.out / "modules")
    check_modules(step.out / "modules" / release, step.log)
    await step.thread(clamp_times, step.out, step.epoch)
    return KernelModules(str(step.out))


def gather_kernel(root: Path, out: Path) -> str:
    """Move modules and firmware out of the root; the kernel's release"""
    found = [
        path for top in ("lib", "usr/lib") for path in root.glob(f"{top}/modules/*")
    ]
    if len(found) != 1:
        raise UserError(
            f"{len(found)} kernels in the packages: {[path.name for path in found]}",
            remedy="lock one kernel: setting `kernel` of lock_kernel_rpms",
        )
    (out / "modules").mkdir()
    found[0].rename(out / "modules" / found[0].name)
    (out / "firmware").mkdir()
    for top in ("lib", "usr/lib"):
        for path in root.glob(f"{top}/firmware/*"):
            path.rename(out / "firmware" / path.name)
    return found[0].name


def check_modules(modules: Path, log: Path) -> None:
    """depmod leaves out silently what it cannot decompress"""
    missing = [
        name
        for name in ("vmlinuz", "modules.dep", "modules.builtin")
        if not (modules / name).is_file()
    ]
    if missing:
        raise CommandFailed(
            f"no {missing[0]} in {modules.name}", remedy="see the log", log=log
        )
    listed = len((modules / "modules.dep").read_text().splitlines())
    there = sum(1 for _ in modules.rglob("*.ko*"))
    if listed != there:
        raise CommandFailed(
            f"depmod lists {listed} of {there} modules",
            remedy="this kmod may not read the kernel's compression",
            log=log,
        )


def kernel_release(modules: str) -> str:
    """The release of the one kernel in a `KernelModules`"""
    (found,) = Path(modules, "modules").iterdir()
    return found.name


OMITTED = """kernel-modules kernel-modules-extra crypt dm nvdimm virtiofs lunmask resume
    qemu overlay-root terminfo""".split()


@settings
class InitrdSettings:
    drivers: List[str] = setting(
        "Kernel modules to find and mount the root; what the kernel lacks is left out",
        default_factory=list,
    )
    omit: List[str] = setting(
        "Modules of dracut to leave out", default_factory=lambda: list(OMITTED)
    )
    add: List[str] = setting(
        "Modules of dracut to add, also such as `omit` has",
        default_factory=list,
        pattern=r"[a-z0-9-]+",
    )
    compress: str = setting("Compressor's command", default="zstd -3 -T1 -q")


@operation(result="initrd.img")
async def dracut_initrd(
    step: Step[InitrdSettings], fedora: FedoraTree, modules: KernelModules
) -> Initrd:
    """
    A lean initrd, the same bits each time, made by Fedora's dracut in Fedora's tree

    https://github.com/dracut-ng/dracut-ng/blob/main/man/dracut.8.adoc
    """
    release = kernel_release(modules)
    there = available(Path(modules, "modules", release))
    drivers = [one for one in step.settings.drivers if one.replace("-", "_") in there]
    left_out = sorted(set(step.settings.drivers) - set(drivers))
    if left_out:
        step.say(f"not in this kernel: {' '.join(left_out)}")
    target = step.work / "out"
    target.mkdir()
    await step.run_in(
        fedora,
        *dracut_argv(release, drivers, step.settings),
        ro_bind={f"{modules}/modules": "/usr/lib/modules"},
        bind={target: "/run/out"},
        # Only root can make device nodes, and others' initrd shall be the same: the
        # kernel brings /dev/console, systemd mounts /dev before anything needs it
        env={"HOME": "/tmp", "DRACUT_NO_MKNOD": "1"},
    )
    check_dracut(step.log)
    (target / "initrd.img").rename(step.out)
    step.out.chmod(0o644)
    return Initrd(str(step.out))


def dracut_argv(release: str, drivers: List[str], want: InitrdSettings) -> List[str]:
    """dracut's arguments: never --hostonly, it would look at the machine that builds"""
    omit = [one for one in want.omit if one not in want.add]
    return [
        *("dracut", "--force", "--reproducible", "--kver", release),
        *("--no-hostonly", "--no-hostonly-cmdline", "--nostrip"),
        *("--no-early-microcode", "--compress", want.compress),
        *("--omit", " ".join(omit)),
        *(["--add", " ".join(want.add)] if want.add else []),
        *("--add-drivers", " ".join(drivers)),
        "/run/out/initrd.img",
    ]


def available(modules: Path) -> set:
    """Names of all modules of a kernel, built in or not, with underscores"""
    files = [
        line.partition(":")[0]
        for name in ("modules.dep", "modules.builtin")
        for line in (modules / name).read_text().splitlines()
    ]
    return {Path(one).name.partition(".ko")[0].replace("-", "_") for one in files}


def check_dracut(log: Path) -> None:
    """dracut says that something failed, and exits with 0"""
    for line in log.read_text(errors="replace").splitlines():
        if not line.startswith(("$", "#")) and DRACUT_FAILED.search(line):
            raise CommandFailed(
                f"dracut: {line.strip()}", remedy="see the log", log=log
            )
