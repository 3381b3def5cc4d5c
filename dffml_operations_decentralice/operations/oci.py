"""
The root tree as a container image, too: a layer for each world that it comes from

What is written is an image layout, a directory that other tools read:
https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

import datetime
import hashlib
import json
import os
import stat
import tarfile
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, List, NamedTuple, Tuple

from ..engine import Step, operation, setting, settings
from ..engine.digest import entries, sha256
from ..errors import UserError
from ..guest.document import os_release
from ..types import (
    KernelModules,
    OciImage,
    OsRelease,
    PublishedOci,
    PublishedResult,
    RootTree,
    SsiServiceTree,
    ToolsTree,
    UserspaceTree,
)
from .publish import check_link, link_result

BLOBS = "blobs/sha256"
MEDIA = "application/vnd.oci.image"
ANNOTATION = "org.opencontainers.image"
WHITEOUT = ".wh."  # https://github.com/opencontainers/image-spec/blob/main/layer.md
XATTR = "SCHILY.xattr."  # as tar and all container tools know it
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHUT_DOWN = "SIGRTMIN+3"  # https://systemd.io/CONTAINER_INTERFACE
REFERENCE = r"([A-Za-z0-9]+(([-._:@+/]|--)[A-Za-z0-9]+)*)?"
Entries = Dict[str, str]  # what each path of a tree is


class Layer(NamedTuple):
    """Paths of a tree, where else than in the image's root, and paths that are gone"""

    origin: str
    tree: Path
    names: Dict[str, str]  # path in the image: path in the tree
    gone: List[str]


@settings
class OciSettings:
    command: List[str] = setting(
        "What a container runs; empty: /sbin/init", default_factory=list
    )
    reference: str = setting(
        "Name in the layout's index; empty: the system's id and version",
        default="",
        pattern=REFERENCE,
    )


@operation(result="oci", space=120)
async def write_oci(
    step: Step[OciSettings],
    userspace: UserspaceTree,
    modules: KernelModules,
    service: SsiServiceTree,
    root: RootTree,
    release: OsRelease,
    tools: ToolsTree,
) -> OciImage:
    """
    An OCI image layout: userspace, kernel modules, SSI service, configuration

    https://github.com/opencontainers/image-spec/blob/main/spec.md
    """
    fields = os_release(Path(release).read_text())
    trees = [Path(userspace), Path(modules), Path(service, "root"), Path(root)]
    (step.out / BLOBS).mkdir(parents=True)
    found = await step.thread(layers, *trees, fields)
    made = [await write_layer(step, layer, tools) for layer in found]
    write_index(step.out, step.settings, fields, made, step.epoch)
    return OciImage(str(step.out))


class Written(NamedTuple):
    """A layer in the layout: the digest of its archive, and what it is packed"""

    origin: str
    diff_id: str
    blob: Dict[str, Any]


async def write_layer(step: Step, layer: Layer, tools: str) -> Written:
    """A layer among the layout's blobs"""
    tar, packed = step.work / "layer.tar", step.work / "layer.tar.gz"
    digest = await step.thread(write_tar, layer, tar, step.epoch)
    # By the locked userspace's: zlib and zlib-ng, say, give other bytes
    argv = ("gzip", "-n", "/run/work/layer.tar")
    await step.run_in(tools, *argv, bind={step.work: "/run/work"})
    blob = step.out / BLOBS / await step.thread(sha256, packed)
    packed.rename(blob)
    found = described("layer.v1.tar+gzip", blob)
    step.say(f"{layer.origin}: {found['size'] / 1e6:.1f} MB")
    return Written(layer.origin, f"sha256:{digest}", found)


def layers(
    userspace: Path, modules: Path, service: Path, root: Path, fields: Dict[str, str]
) -> List[Layer]:
    """
    The lowest one is the userspace as it was installed, whatever the settings: images
    share it. The last one has all in which the root tree differs from those below.
    """
    names = {
        "userspace": fields.get("DECENTRALICE_USERSPACE", ""),
        "kernel modules": fields.get("DECENTRALICE_KERNEL", ""),
    }
    wanted, known = dict(entries(root)), dict(entries(userspace))
    found = [Layer("userspace", userspace, {name: name for name in known}, [])]
    for origin, tree, prefix in (
        ("kernel modules", modules, "usr/lib/"),
        ("SSI service", service, ""),
    ):
        new = {
            prefix + name: (name, what)
            for name, what in entries(tree)
            if prefix + name in wanted and prefix + name not in known
        }
        known.update({name: what for name, (_, what) in new.items()})
        inside = {name: own for name, (own, _) in new.items()}
        found.append(Layer(origin, tree, inside, []))
    changed = {name: name for name, what in wanted.items() if known.get(name) != what}
    found.append(Layer("configuration", root, changed, removed(known, wanted)))
    return [
        one._replace(
            origin=": ".join(filter(None, (one.origin, names.get(one.origin))))
        )
        for one in found
    ]


def removed(known: Entries, wanted: Entries) -> List[str]:
    """
    Paths that a layer has to say are gone. Not what was in a directory that is gone
    itself, or is something else now.
    """
    return [
        name
        for name in sorted(known)
        if name not in wanted and is_directory(wanted, os.path.dirname(name))
    ]


def is_directory(found: Entries, name: str) -> bool:
    """Whether a path is one in a tree, whose root is"""
    return not name or stat.S_ISDIR(int(found.get(name, "0").split()[0], 8))


class Hashed:
    """A file that is written once, and the SHA-256 of it"""

    def __init__(self, file: BinaryIO):
        self._file, self.digest = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        """As that of a file"""
        self.digest.update(data)
        return self._file.write(data)


def write_tar(layer: Layer, target: Path, epoch: int) -> str:
    """A layer, uncompressed; its SHA-256"""
    with open(target, "wb") as raw:
        file = Hashed(raw)
        with tarfile.open(
            fileobj=file,  # type: ignore[call-overload]
            mode="w|",
            format=tarfile.PAX_FORMAT,
        ) as tar:
            for member, source in members(layer, epoch):
                if member.isreg() and source:
                    with open(source, "rb") as content:
                        tar.addfile(member, content)
                else:
                    tar.addfile(member)
    return file.digest.hexdigest()


def members(layer: Layer, epoch: int) -> Iterator[Tuple[tarfile.TarInfo, str]]:
    """
    What a layer's archive has, and from which file: directories before what is in them,
    one time, owners by number. Each name of a file is one of its own.
    """
    for name in layer.gone:
        path = Path(name)
        yield _member(str(path.with_name(WHITEOUT + path.name)), epoch), ""
    for name in sorted(layer.names, key=lambda name: name.split("/")):
        source = os.path.join(layer.tree, layer.names[name])
        yield read_member(name, source, epoch), source


def _member(name: str, epoch: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mtime = epoch
    return member


def read_member(name: str, source: str, epoch: int) -> tarfile.TarInfo:
    """A file, directory or link with its owner, mode and extended attributes"""
    info = os.lstat(source)
    member = _member(name, epoch)
    member.mode = stat.S_IMODE(info.st_mode)
    member.uid, member.gid = info.st_uid, info.st_gid
    if stat.S_ISREG(info.st_mode):
        member.size = info.st_size
    elif stat.S_ISDIR(info.st_mode):
        member.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(info.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(source)
    else:
        raise UserError(
            f"/{name} is a device, a socket or a pipe",
            remedy="a container's come with its start: leave it out of the image",
        )
    if os.path.basename(name).startswith(WHITEOUT):
        raise UserError(
            f"/{name} would say in a layer that something is gone",
            remedy=f"no name of an image may begin with {WHITEOUT}",
        )
    names = sorted(os.listxattr(source, follow_symlinks=False))
    member.pax_headers = {XATTR + name: attribute(source, name) for name in names}
    return member


def attribute(source: str, name: str) -> str:
    """An extended attribute's value, its bytes as `tarfile` takes them"""
    value = os.getxattr(source, name, follow_symlinks=False)
    return value.decode("utf-8", "surrogateescape")


def described(kind: str, blob: Path) -> Dict[str, Any]:
    """https://github.com/opencontainers/image-spec/blob/main/descriptor.md"""
    return {
        "mediaType": f"{MEDIA}.{kind}",
        "digest": f"sha256:{blob.name}",
        "size": blob.stat().st_size,
    }


def write_index(
    out: Path,
    want: OciSettings,
    fields: Dict[str, str],
    made: List[Written],
    epoch: int,
) -> None:
    """Configuration, manifest and index of layers"""
    created = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc)
    when = created.strftime("%Y-%m-%dT%H:%M:%SZ")
    notes = annotations(fields, when)
    config = {
        "created": when,
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": [f"PATH={PATH}"],
            "Cmd": want.command or ["/sbin/init"],
            "StopSignal": SHUT_DOWN,
            "Labels": notes,
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": [one.diff_id for one in made],
        },
        "history": [{"created": when, "created_by": one.origin} for one in made],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA}.manifest.v1+json",
        "config": write_blob(out, "config.v1+json", config),
        "layers": [one.blob for one in made],
        "annotations": notes,
    }
    reference = want.reference or f"{fields['IMAGE_ID']}:{fields['IMAGE_VERSION']}"
    index = {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA}.index.v1+json",
        "manifests": [
            {
                **write_blob(out, "manifest.v1+json", manifest),
                "platform": {"architecture": "amd64", "os": "linux"},
                "annotations": {f"{ANNOTATION}.ref.name": reference},
            }
        ],
    }
    (out / "index.json").write_bytes(dumped(index))
    (out / "oci-layout").write_bytes(dumped({"imageLayoutVersion": "1.0.0"}))


def annotations(fields: Dict[str, str], created: str) -> Dict[str, str]:
    """https://github.com/opencontainers/image-spec/blob/main/annotations.md"""
    worlds = [fields.get(f"DECENTRALICE_{one}", "") for one in ("USERSPACE", "KERNEL")]
    said = {
        "created": created,
        "title": fields.get("NAME", ""),
        "version": fields.get("IMAGE_VERSION", ""),
        "description": f"userspace of {worlds[0]}, kernel modules of {worlds[1]}",
        "source": fields.get("HOME_URL", ""),
    }
    return {f"{ANNOTATION}.{name}": text for name, text in said.items() if text}


def write_blob(out: Path, kind: str, content: Dict[str, Any]) -> Dict[str, Any]:
    """A document under its digest; its descriptor"""
    data = dumped(content)
    blob = out / BLOBS / hashlib.sha256(data).hexdigest()
    blob.write_bytes(data)
    return described(kind, blob)


def dumped(content: Dict[str, Any]) -> bytes:
    """JSON, the same for the same content"""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


@settings
class PublishOciSettings:
    link: str = setting("Where to link the image layout", default="result.oci")


@operation(result="published-oci.json", cached=False)
async def publish_oci(
    step: Step[PublishOciSettings], image: OciImage, result: PublishedResult
) -> PublishedOci:
    """Link the layout, once it is known that the system boots"""
    link = Path(step.settings.link)
    check_link(link)
    await link_result(step, link, image)
    said = json.loads(Path(result).read_text())
    step.out.write_bytes(dumped({**said, "oci": str(link.absolute())}) + b"\n")
    return PublishedOci(str(step.out))
