"""
Debian packages, verified by Debian's keys

An apt root of our own serves any suite, from the archive that the host's own apt uses.
apt checks the signature of InRelease, the hashes of the indexes and those of packages;
nothing of the host's configuration, lists or dpkg database is read or written, but for
the addresses and proxies. https://wiki.debian.org/SecureApt
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, NamedTuple

from ...engine import Step
from ...errors import CommandFailed, UserError
from .apt_failure import failure
from .fetched import Package, packages_of, verify

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"  # has the next release's too
INDEX_TARGETS = (
    *("indextargets", "--format", "$(ORIGIN)|$(RELEASE)|$(SITE)"),
    "Created-By: Packages",
)
SUITE = re.compile(r"[a-z][a-z0-9-]*")
PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]*[a-z0-9+]")  # apt removes "name-"
ADDRESS = re.compile(r"(https?|file|copy):/\S+")

CONFIGURATION = """Dir "{root}";
Dir::Etc "etc";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{root}/sources";
Dir::Etc::trustedparts "/nonexistent";
Dir::Log "{root}";
Dir::State "{root}/state";
Dir::State::lists "{root}/lists";
Dir::State::status "{root}/status";
Dir::Cache "{root}";
Dir::Cache::archives "archives";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false";
APT::Get::AllowUnauthenticated "false";
APT::Update::Error-Mode "any";
APT::Sandbox::User "root";
Acquire::AllowInsecureRepositories "false";
Acquire::ForceHash "SHA256";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Debug::NoLocking "true";
"""
FOLDERS = (
    *("lists/partial", "archives/partial", "sources", "state"),
    *("etc/apt.conf.d", "etc/preferences.d"),
)


class Addresses(NamedTuple):
    """Where an archive is: its packages, and its security updates ('': nowhere)"""

    archive: str
    security: str


def host_addresses(targets: str) -> Addresses:
    """
    Of apt's index targets (a line each: origin, release, site) Debian's archive and
    that of its security updates. The origin is empty before the first `apt update`.
    """
    found: Dict[bool, str] = {}
    for line in targets.splitlines():
        origin, release, site = line.split("|", 2)
        if origin in ("Debian", ""):
            found.setdefault(release.endswith("-security"), site)
    return Addresses(found.get(False, ""), found.get(True, ""))


def sources(addresses: Addresses, suite: str) -> str:
    """deb822 text for a suite, its updates and its security updates"""
    wanted = [(addresses.archive, f"{suite} {suite}-updates")]
    if addresses.security:
        wanted.append((addresses.security, f"{suite}-security"))
    stanzas = (
        f"Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\n"
        f"Signed-By: {KEYRING}\n"
        for uri, suites in wanted
    )
    return "\n".join(stanzas)


def status(assumed: Mapping[str, Iterable[str]]) -> str:
    """
    A dpkg status file in which packages (with what they provide) are installed. The
    epoch: without it, packages with one of their own would be "upgraded".
    """
    return "".join(
        f"Package: {name}\nStatus: install ok installed\nArchitecture: all\n"
        "Multi-Arch: foreign\nVersion: 99:9999\nMaintainer: none <none@localhost>\n"
        "Description: not wanted\n"
        + (f"Provides: {', '.join(provides)}\n" if provides else "")
        + "\n"
        for name, provides in assumed.items()
    )


def proxies(dump: str) -> str:
    """Of what `apt-config dump` prints the lines that say how to reach a server"""
    kept = re.compile(r'Acquire::https?::(Proxy|Proxy-Auto-Detect|CaInfo)(::\S+)? ".+"')
    return "".join(f"{line}\n" for line in dump.splitlines() if kept.match(line))


def checked(name: str, value: str, pattern: "re.Pattern[str]") -> str:
    """A setting which must look like something; it lands in apt's own files"""
    if not pattern.fullmatch(value):
        raise UserError(
            f"the setting {name!r} cannot be {value!r}",
            remedy=f"{name} must match {pattern.pattern}",
        )
    return value


class Apt:
    """An apt root below a step's work folder"""

    def __init__(self, step: Step):
        self.step = step
        self.root = step.work / "apt"
        self.env = {
            "APT_CONFIG": str(self.root / "apt.conf"),
            "DEBIAN_FRONTEND": "noninteractive",
        }

    async def prepare(
        self, suite: str, given: Addresses, assumed: Mapping[str, Iterable[str]]
    ) -> Addresses:
        """Make the root for a suite; the addresses that it uses"""
        checked("suite", suite, SUITE)
        addresses = await self._addresses(given)
        dump = await self.step.run("apt-config", "dump")
        for folder in FOLDERS:
            (self.root / folder).mkdir(parents=True)
        files = {
            "sources/debian.sources": sources(addresses, suite),
            "status": status(assumed),
            "apt.conf": CONFIGURATION.format(root=self.root) + proxies(dump),
        }
        for name, text in files.items():
            (self.root / name).write_text(text)
        return addresses

    async def _addresses(self, given: Addresses) -> Addresses:
        for name, value in given._asdict().items():
            if value:
                checked(name, value, ADDRESS)
        if given.archive:
            return given
        found = host_addresses(await self.step.run("apt-get", *INDEX_TARGETS))
        if not found.archive:
            raise UserError(
                "the host's apt knows no archive of Debian",
                remedy="set `archive` (and `security`) to the address of one",
            )
        return Addresses(found.archive, given.security or found.security)

    async def get(self, *argv: str) -> str:
        """Run apt-get in this root"""
        start = self.step.log.stat().st_size
        try:
            return await self.step.run("apt-get", "-q", "-y", *argv, env=self.env)
        except CommandFailed as error:
            with open(self.step.log, "rb") as log:
                log.seek(start)
                said = log.read().decode("utf-8", "replace")
            raise failure(said, self.step.log) from error

    async def fetch(self, names: List[str], folder: Path) -> List[Package]:
        """
        Download packages, and all that they need and is not taken for installed, into
        a new folder. Each file's hash is compared once more with the verified index's.
        """
        await self.get("update")
        install = ("-o", "Dpkg::Use-Pty=0", "install", *names)
        packages = packages_of(await self.get("--print-uris", *install))
        total = sum(package.size for package in packages)
        self.step.say(f"{len(packages)} packages, {total / 1e6:.1f} MB")
        await self.get("--download-only", *install)
        folder.mkdir()
        for package in packages:
            (self.root / "archives" / package.file).rename(folder / package.file)
        await self.step.thread(verify, folder, packages)
        return sorted(packages, key=lambda package: package.file)
