"""
Solve a set of packages with the API of dnf, under the host's own Python

Reads a request on standard input and writes a solution on standard output, both JSON;
of what cannot be solved it writes {"error": class of the exception, "text": ...}.

https://dnf.readthedocs.io/en/latest/api.html
"""

import hashlib
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import dnf
import dnf.exceptions


def configure(base, request):
    """Nothing of the host's configuration is read: all that counts is set here"""
    conf = base.conf
    conf.installroot = request["installroot"]
    conf.cachedir = request["cachedir"]
    conf.persistdir = request["cachedir"]
    conf.logdir = request["cachedir"]
    conf.reposdir = []
    conf.varsdir = []
    conf.pluginpath = []
    conf.install_weak_deps = False
    conf.best = True
    conf.gpgcheck = True
    conf.substitutions["releasever"] = request["releasever"]
    conf.substitutions["arch"] = conf.substitutions["basearch"] = "x86_64"
    for one in request["repositories"]:
        where = {"metalink": one["metalink"]} if "metalink" in one else {}
        if not where:
            where = {"baseurl": [one["baseurl"]]}
        repo = base.repos.add_new_repo(one["id"], conf, **where)
        repo.skip_if_unavailable = False
        repo.gpgcheck = True


def repomd(repo):
    """The digest of the index that was used: an older one is noticed by it"""
    path = Path(repo._repo.getCachedir(), "repodata", "repomd.xml")
    content = path.read_bytes()
    namespace = "{http://linux.duke.edu/metadata/repo}"
    revision = ElementTree.fromstring(content).findtext(f"{namespace}revision")
    return {
        "id": repo.id,
        "repomd_sha256": hashlib.sha256(content).hexdigest(),
        "revision": revision,
    }


def described(package):
    kind, digest = package.returnIdSum()
    if kind != "sha256":
        raise dnf.exceptions.Error(f"{package}: {kind} instead of sha256")
    return {
        "name": package.name,
        "nevra": str(package),
        "sha256": digest,
        "size": package.downloadsize,
        "location": package.location,
        "repository": package.repoid,
    }


def solve(request):
    with dnf.Base() as base:
        configure(base, request)
        base.fill_sack(load_system_repo=False)
        for name in request["packages"]:
            base.install(name)
        base.resolve()
        found = [described(package) for package in base.transaction.install_set]
        return {
            "repositories": [repomd(repo) for repo in base.repos.iter_enabled()],
            "packages": sorted(found, key=lambda one: one["nevra"]),
        }


def main():
    try:
        solution = solve(json.load(sys.stdin))
    except dnf.exceptions.Error as error:
        solution = {"error": type(error).__name__, "text": str(error)}
    json.dump(solution, sys.stdout)


if __name__ == "__main__":
    main()
