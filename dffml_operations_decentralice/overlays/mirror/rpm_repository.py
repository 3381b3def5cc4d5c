"""Fedora's side of the mirror: Debian packages to a signed ``.rpm`` repository"""

from __future__ import annotations

import functools
import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict, List

from ...engine import Step
from . import deb, fedora, fetched, kernel, keys, own, rpm
from .layout import Claims
from .work import WORKERS, each

KEY = "RPM-GPG-KEY-mirror"
RELEASEVER = "44"  # of the Fedora whose names these are
FILES = "mirror/kernel"
GUEST = "/tmp/packages"  # where the sandbox of rpmsign has them


async def build(step: Step, folder: Path, out: Path, key_file: str = "") -> None:
    """The repository of the Debian packages in a folder"""
    listed = await step.thread(fetched.read_list, folder)
    secret = await keys.rpm_key(step, key_file)
    out.mkdir()
    scripts = _scripts(step, listed["kernel"]["release"])
    configs = await _configs(step, folder, listed, scripts)
    _check(configs)
    # The biggest first, else one of them comes last and alone
    configs.sort(key=lambda one: (-len(one["contents"]), one["name"]))
    await each(step, "rpm", configs, functools.partial(_pack, step, out / "Packages"))
    await _sign(step, out / "Packages", secret)
    await _index(step, out)
    shutil.copyfile(secret / KEY, out / KEY)
    description = describe(listed["suite"])
    (out / "repository.json").write_text(json.dumps(description, indent=1) + "\n")
    step.say(f"kernel {listed['kernel']['release']}, {len(configs)} packages")


def describe(suite: str) -> Dict[str, Any]:
    """``repository.json``: where the packages are, and who signed them"""
    return {
        "variant": "mirror",
        "distribution": f"Debian {suite} in Fedora's format",
        "releasever": RELEASEVER,
        "repositories": [{"id": "mirror", "baseurl": "."}],
        "keys": [KEY],
    }


def _scripts(step: Step, release: str) -> Dict[str, Path]:
    """The %posttrans scripts by package, with the kernel's release filled in"""
    found = {}
    for source in sorted((step.files / FILES / "scripts").glob("*.posttrans")):
        target = step.work / source.name
        target.write_text(source.read_text().replace("@KVER@", release))
        found[source.stem] = target
    return found


async def _configs(
    step: Step, folder: Path, listed: Dict[str, Any], scripts: Dict[str, Path]
) -> List[Dict[str, Any]]:
    """Stage every package; what nfpm shall make of them"""
    files = step.files / FILES
    called = json.loads((files / "names.json").read_text())
    debs = await step.thread(fetched.read_all, folder, listed)
    image = next(one for one in debs if one.name == listed["kernel"]["package"])
    # linux-image-amd64 and the like only name the newest
    others = [one for one in debs if not one.name.startswith("linux-image-")]
    provider = deb.provider_of(others)
    ours = own.usable(own.packages(files), provider)
    common = frozenset(
        member.info.name
        for package in ours
        if package.name == "filesystem"
        for member in package.members
    )
    names = fedora.names_of(others, provider, called, [one.name for one in ours])
    stage = step.work / "stage"

    async def convert(one: deb.Deb) -> List[Dict[str, Any]]:
        where = stage / one.name
        if one is image:
            return await step.thread(kernel.configs, one, where, scripts)
        staged = await step.thread(rpm.stage, one, where)
        return package_configs(one, rpm.telling(staged, common), names, scripts)

    by_size = sorted([image, *others], key=lambda one: -one.path.stat().st_size)
    found = await each(step, "unpacked", by_size, convert)
    made = [one for many in found for one in many]
    for package in ours:
        staged = rpm.stage_own(package, stage / f"own-{package.name}")
        made.append(own_config(package, staged))
    return made


def package_configs(
    one: deb.Deb,
    staged: List[rpm.Staged],
    names: fedora.Names,
    scripts: Dict[str, Path],
) -> List[Dict[str, Any]]:
    """A package of Debian's, and those that Fedora splits from it"""
    name, arch = names.rpm(one.name), one.architecture
    conffiles = (rpm.FEDORA.path(path.lstrip("/")) for path in one.configuration)
    configuration = frozenset(f"/{path}" for path in conffiles)
    found = []
    for package, paths, sub in fedora.SPLITS:
        if package == one.name:
            apart = [e for e in staged if paths.match(e.path) and e.kind != "dir"]
            staged = [entry for entry in staged if entry not in apart]
            found.append(
                rpm.config(
                    sub,
                    one.version,
                    arch,
                    [rpm.content(entry, configuration) for entry in apart],
                    description=f"{sub}, split from {package}",
                    depends=[f"{name} = {fedora.evr_text(one.version)}"],
                )
            )
    main = rpm.config(
        name,
        one.version,
        arch,
        [rpm.content(entry, configuration) for entry in staged],
        description=one.fields.get("Description", name),
        homepage=one.fields.get("Homepage", ""),
        depends=fedora.requires(one, names),
        provides=fedora.provides(one, names),
        posttrans=scripts.get(name),
    )
    return [main, *found]


def own_config(package: own.Own, staged: List[rpm.Staged]) -> Dict[str, Any]:
    """A package of ours; its files below /etc are configuration"""
    etc = frozenset(f"/{e.path}" for e in staged if e.path.startswith("etc/"))
    contents = [rpm.content(entry, etc) for entry in staged]
    return rpm.config(
        package.name,
        package.version,
        "all",
        contents,
        description=package.description,
        depends=package.depends,
        **package.more,
    )


def _check(configs: List[Dict[str, Any]]) -> None:
    claims = Claims()
    for one in configs:
        kinds = ("dir", "ghost")
        paths = [e["dst"] for e in one["contents"] if e.get("type") not in kinds]
        claims.add(one["name"], (path.lstrip("/") for path in paths))
    claims.check()


async def _pack(step: Step, packages: Path, config: Dict[str, Any]) -> None:
    """One rpm, in a folder of its initial as in Fedora's repository"""
    folder = packages / config["name"][0].lower()
    folder.mkdir(parents=True, exist_ok=True)
    file = step.work / f"{config['name']}.json"
    file.write_text(json.dumps(config))
    await step.run("nfpm", "package", "-f", file, "-p", "rpm", "-t", f"{folder}/")


async def _sign(step: Step, packages: Path, secret: Path) -> None:
    """
    Sign all packages. Not by nfpm, whose signatures carry the clock's time. Each worker
    has its own copy of the keys: gpg's agent belongs to one sandbox.
    """
    paths = sorted(str(path.relative_to(packages)) for path in packages.rglob("*.rpm"))
    await step.thread(shutil.rmtree, step.work / "stage")
    name = await keys.fingerprint(step, secret)
    shares = [share for share in (paths[n::WORKERS] for n in range(WORKERS)) if share]

    async def sign(number: int) -> None:
        own_keys = step.work / f"keys{number}"
        own_keys.mkdir(mode=0o700)
        sockets = shutil.ignore_patterns("S.*")
        shutil.copytree(secret / "gnupg", own_keys / "gnupg", ignore=sockets)
        await keys.with_gnupg(
            step,
            own_keys,
            "rpmsign",
            "--addsign",
            *("--define", f"_gpg_name {name}", "--define", "__gpg /usr/bin/gpg"),
            *("--define", f"_gpg_sign_cmd_extra_args --batch {' '.join(keys.CLOCK)}"),
            *(f"{GUEST}/{path}" for path in shares[number]),
            bind={packages: GUEST},
        )

    await each(step, "signed", range(len(shares)), sign)


async def _index(step: Step, out: Path) -> None:
    """The repository's metadata; files' times are part of it"""
    for path in (out / "Packages").rglob("*.rpm"):
        os.utime(path, (step.epoch, step.epoch))
    quiet = step.work / "rpm"  # the wheel's librpm misses rpm's own configuration
    quiet.mkdir()
    for name in ("rpmrc", "macros"):
        (quiet / name).touch()
    await step.run(
        "createrepo_c",
        *("-q", "--general-compress-type=zstd", "--no-database", "--checksum=sha256"),
        *("--revision", step.epoch, "--set-timestamp-to-revision"),
        *("--workers", WORKERS, out),
        env={"RPM_CONFIGDIR": str(quiet)},
    )
