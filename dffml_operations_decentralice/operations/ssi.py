"""
The Self-Sovereign Identity service: built from its published Go module, packaged as a
signed .apk, and installed from there as Wolfi's packages are

The service: https://pkg.go.dev/github.com/tbd54566975/ssi-service@v0.0.3, through the
launcher in ``go/ssi_service``. Its units, account and configuration are in
``files/ssi_service``, a tree as it lands in the image.
"""

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any, Dict, List, Set

from ..engine import Step, operation, setting, settings
from ..errors import CommandFailed, UserError
from ..types import SsiServicePackage, SsiServiceProgram, SsiServiceTree
from . import apk, apko, golang, spdx
from .tree import clamp_times

NAME = "ssi-service"
MODULE = "github.com/tbd54566975/ssi-service"
RELEASE = "0"
LICENCE = "Apache-2.0"
SOURCES = "../go/ssi_service"
SUPPLY_CHAIN = "../go/supply_chain"
KEY = "factory.rsa"
MACHINE = "x86_64"
DATABASE = "usr/lib/apk/db/installed"
# A wheel keeps no symbolic links, so they are not in the tree of files
LINKS = {
    "etc/skel/.config/systemd/user/sockets.target.wants/ssi-service.socket": (
        "../ssi-service.socket"
    )
}


@settings
class SsiServiceSettings:
    goproxy: str = setting(
        "Go module proxy (GOPROXY); empty: the environment's, else Go's own default",
        default="",
    )


@operation(tools=(golang.VERSION,), files=(SOURCES, SUPPLY_CHAIN), space=1600)
async def build_ssi_service(step: Step[SsiServiceSettings]) -> SsiServiceProgram:
    """
    Build the service: a directory of ``ssi-service``, a static program,
    ``modules.json``, its build information with each module's checksum, and
    ``licences.json``, an SPDX expression by ``module@version``

    https://pkg.go.dev/runtime/debug#BuildInfo
    """
    program, goproxy = step.work / NAME, step.settings.goproxy
    await golang.build(step, goproxy, SOURCES, program, tags="jwx_es256k")
    info = json.loads(await golang.build_information(step, program))
    module_version(info)
    await step.thread(golang.require_static, program)
    licences = await licences_of(step, info)
    step.out.mkdir()
    os.rename(program, step.out / NAME)
    (step.out / "modules.json").write_text(pretty(info))
    (step.out / "licences.json").write_text(pretty(licences))
    return SsiServiceProgram(str(step.out))


@settings
class SsiPackageSettings:
    key: str = setting(
        "RSA private key that signs the package, a PEM file; empty: one that the store "
        "makes. With the same key, two stores make the same package",
        default="",
        file=True,
    )


@operation(tools=("nfpm --version", "melange", "openssl"), files=("ssi_service",))
async def package_ssi_service(
    step: Step[SsiPackageSettings], program: SsiServiceProgram
) -> SsiServicePackage:
    """
    Package the service: a signed repository of one .apk, with ``repository.json``
    telling what it is and ``factory.rsa.pub`` to verify it

    https://wiki.alpinelinux.org/wiki/Apk_spec
    """
    info = json.loads(Path(program, "modules.json").read_text())
    version = module_version(info)
    key = await factory_key(step, step.settings.key)
    sbom = step.work / "sbom.json"
    licences = json.loads(Path(program, "licences.json").read_text())
    locator = spdx.purl(MODULE, f"v{version}")
    top = spdx.package(NAME, NAME, f"{version}-r{RELEASE}", LICENCE, locator)
    sbom.write_text(pretty(spdx.document(top, info, licences, step.epoch)))
    contents = package_contents(step.files / "ssi_service", step.epoch)
    contents += [
        file_entry(Path(program, NAME), f"usr/bin/{NAME}", step.epoch, mode=0o755),
        file_entry(sbom, sbom_path(version), step.epoch),
    ]
    config = step.work / "nfpm.json"  # JSON is YAML
    config.write_text(pretty(nfpm_config(version, contents, key, step.epoch)))
    folder = step.out / MACHINE
    folder.mkdir(parents=True)
    made = folder / f"{NAME}-{version}-r{RELEASE}.apk"
    await step.run("nfpm", "package", "-f", config, "-p", "apk", "-t", made)
    index = folder / "APKINDEX.tar.gz"
    await step.run("melange", "index", "-o", index, "--signing-key", key, made)
    public = step.out / f"{KEY}.pub"
    await step.run("openssl", "rsa", "-in", key, "-pubout", "-out", public)
    (step.out / "repository.json").write_text(pretty(REPOSITORY))
    return SsiServicePackage(str(step.out))


@operation(tools=("apko-tree",), space=55)
async def install_ssi_service(step: Step, package: SsiServicePackage) -> SsiServiceTree:
    """
    Install the package with apko: ``root/`` has its files and, as
    ``usr/lib/apk/db/installed``, its paragraph of apk's database; ``apk.json`` says
    which package that is
    """
    root = step.out / "root"
    step.out.mkdir()
    (step.work / "repository").symlink_to(package)
    [entry] = await apko.resolve(step, APKO, step.work)
    file, stem = step.work / entry["url"], step.work / NAME
    data = await step.thread(apk.unpack, file, entry["checksum"], None, stem)
    await apko.install(step, APKO, [entry], [NAME], step.work, root)
    own = await step.thread(paths_of, step.work / f"{NAME}{apk.DATA}")
    await step.thread(prune, root, own | {DATABASE})
    await step.thread(clamp_times, root, step.epoch)
    told = {name: entry[name] for name in ("name", "version", "checksum")}
    told["data"] = data
    (step.out / "apk.json").write_text(pretty(told))
    return SsiServiceTree(str(step.out))


# Of a repository as the userspace's is: where it is and who signs it
REPOSITORY = {"variant": "factory", "repositories": ["."], "keys": [f"{KEY}.pub"]}
APKO = {
    "archs": [MACHINE],
    "contents": {
        "build_repositories": ["./repository"],
        "keyring": [f"./repository/{KEY}.pub"],
        "packages": [NAME],
        # apko fails at its end without one; it comes into a file that is not kept
        "runtime_repositories": ["https://decentralice.invalid/factory"],
    },
}


async def licences_of(step: Step, info: Dict[str, Any]) -> Dict[str, str]:
    """The licence of each module, by ``path@version``, from what Go has unpacked"""
    teller = step.work / "licences"
    goproxy = step.settings.goproxy
    await golang.build(step, goproxy, SUPPLY_CHAIN, teller, "./licences")
    modules = step.cache(golang.CACHE) / golang.MODULES
    said = await step.run(teller, modules, input=json.dumps(info).encode())
    found: Dict[str, str] = json.loads(said)
    unknown = [name for name, one in found.items() if one == spdx.NOASSERTION]
    if unknown:
        step.say(f"no licence that is known: {', '.join(sorted(unknown))}")
    return found


def module_version(info: Dict[str, Any]) -> str:
    """The version of the service that a program has in it, in apk's grammar"""
    for module in info.get("Deps") or []:
        if module["Path"].lower() == MODULE:
            found = re.fullmatch(r"v(\d+\.\d+\.\d+)", module["Version"])
            if found:
                return found[1]
            raise UserError(
                f"{MODULE} {module['Version']} is not a release",
                remedy="require a version vN.N.N in go/ssi_service/go.mod",
            )
    raise UserError(
        f"the program has no {MODULE} in it",
        remedy="require it in go/ssi_service/go.mod",
    )


async def factory_key(step: Step, given: str = "") -> Path:
    """
    The private key of the store's own packages: given, or made once, and kept out of
    results
    """
    if given:
        return await given_key(step, Path(given))
    folder = step.cache("factory-keys")
    folder.chmod(0o700)
    key, new = folder / KEY, step.work / KEY
    if not key.exists():
        await step.run("openssl", "genrsa", "-traditional", "-out", new, "4096")
        new.chmod(0o600)
        with contextlib.suppress(FileExistsError):  # the first of two builds wins
            os.link(new, key)
    return key


async def given_key(step: Step, given: Path) -> Path:
    """A copy of a key in the form that melange reads; `UserError` if it is none"""
    key = step.work / KEY
    try:
        await step.run("openssl", "rsa", "-in", given, "-traditional", "-out", key)
    except CommandFailed as error:
        raise UserError(
            f"{given} is no RSA key that can be used: {error.cause}",
            remedy="a PEM file without a passphrase: setting `key`",
            log=error.log,
        ) from error
    return key


def package_contents(tree: Path, epoch: int) -> List[Dict[str, Any]]:
    """nfpm's entries of a tree of files, and of the links that belong to it"""
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    entries = [file_entry(path, path.relative_to(tree), epoch) for path in files]
    for path, target in sorted(LINKS.items()):
        info = {"mtime": spdx.iso(epoch)}
        link = {"src": target, "dst": f"/{path}", "type": "symlink", "file_info": info}
        entries.append(link)
    return entries


def file_entry(source: Path, path: Any, epoch: int, mode: int = 0o644):
    """nfpm's entry of a file, with mode and owner as they shall be, not as found"""
    info = {"mode": mode, "owner": "root", "group": "root", "mtime": spdx.iso(epoch)}
    return {"src": str(source), "dst": f"/{path}", "file_info": info}


def nfpm_config(version: str, contents: List, key: Path, epoch: int) -> Dict[str, Any]:
    """https://nfpm.goreleaser.com/docs/configuration/"""
    return {
        "name": NAME,
        "arch": MACHINE,
        "platform": "linux",
        "version": version,
        "version_schema": "none",  # else it is normalised
        "release": RELEASE,
        "maintainer": "decentralice",
        "description": "Self-Sovereign Identity service",
        "homepage": f"https://{MODULE}",
        "license": LICENCE,
        "mtime": spdx.iso(epoch),
        "disable_globbing": True,
        "contents": contents,
        "apk": {
            "arch": MACHINE,
            "signature": {"key_file": str(key), "key_name": f"{KEY}.pub"},
        },
    }


def sbom_path(version: str) -> str:
    """Where apko looks for what a package is made of, for the image's SBOM"""
    return f"var/lib/db/sbom/{NAME}-{version}-r{RELEASE}.spdx.json"


def paths_of(data: Path) -> Set[str]:
    """What a package's unpacked data installs"""
    with open(data, "rb") as file:
        return {member.path for member in apk.entries(file)}


def prune(root: Path, keep: Set[str]) -> None:
    """
    Remove from a tree what is neither in ``keep`` (paths relative to it) nor a
    directory above that: apko adds accounts, its own configuration, /proc, /tmp
    """
    for folder, folders, files in os.walk(root, topdown=False):
        for name in files + folders:
            path = os.path.join(folder, name)
            if os.path.relpath(path, root) in keep:
                continue
            if os.path.islink(path) or not os.path.isdir(path):
                os.unlink(path)
            elif not os.listdir(path):
                os.rmdir(path)


def pretty(value: Any) -> str:
    """The same text for the same value"""
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
