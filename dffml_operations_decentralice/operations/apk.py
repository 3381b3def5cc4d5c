"""
What is in an .apk file, and whether it is the one that an index or a lock names

An .apk (version 2) is gzip members one after another: a signature (none in an unsigned
package), the control member with ``.PKGINFO``, the data. The chain of trust: the signed
index has ``Q1`` and the base64 of the SHA-1 of the control member's raw bytes,
``.PKGINFO`` has as ``datahash`` the SHA-256 of the raw bytes of the data.

https://wiki.alpinelinux.org/wiki/Apk_spec
"""

import base64
import contextlib
import gzip
import hashlib
import io
import tarfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ..errors import SignatureError, UserError

CONTROL_LIMIT = 1 << 20  # bytes, packed or not; real ones have some KiB
HEADER_LIMIT = 1 << 20  # bytes of one header of the data's tar (PAX attributes)
CHUNK = 1 << 16
DATA_LIMIT = 1 << 32  # bytes unpacked
CONTROL, DATA = ".control.tar.gz", ".data.tar"  # as apko-tree reads them
GZIP = 31  # zlib's name for a gzip header and trailer
TYPES = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "dir",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
    tarfile.FIFOTYPE: "fifo",
}
FETCH_AGAIN = "fetch it again; if that does not help, its repository is damaged"


class Member(NamedTuple):
    """An entry of a package; ``path`` is relative and has no ``..``"""

    path: str
    mode: int
    uname: str
    gname: str
    uid: int
    gid: int
    type: str
    linkname: str


class Control(NamedTuple):
    """The control member: its raw bytes, its tar, the offset of the data behind it"""

    raw: bytes
    tar: bytes
    end: int


def members(path: Path) -> Iterator[Member]:
    """What a package installs, in its order"""
    with _opened(path) as file, _refused(path):
        file.seek(_control(file).end)
        with gzip.GzipFile(fileobj=file) as data:
            yield from entries(data)


def entries(data: Any) -> Iterator[Member]:
    """What a package's unpacked data installs, in its order"""
    with _tar(_Bounded(data)) as tar:
        while True:
            entry = tar.next()
            if entry is None:
                break
            # else it keeps all of them
            tar.members.clear()  # type: ignore[attr-defined]
            if _relative(entry.name):
                yield _member(entry)


def pkginfo(path: Path) -> Dict[str, List[str]]:
    """The values of each key of a package's ``.PKGINFO``"""
    with _opened(path) as file, _refused(path):
        return _pkginfo(_control(file))


def verify(path: Path, q1: str, data_sha256: Optional[str] = None) -> str:
    """
    The SHA-256 of a package's data; `SignatureError` unless it is the one that is meant

    q1: checksum of the index or lock, ``Q1`` and base64
    data_sha256: of the data, hexadecimal or as a lock has it, ``sha256-`` and base64
    """
    with _opened(path) as file, _refused(path):
        control = _checked_control(path, file, q1)
        data = _Hashed(file)
        while data.read(CHUNK):
            pass
        return _check_data(path, control, data, data_sha256)


def unpack(path: Path, q1: str, data_sha256: Optional[str], stem: Path) -> str:
    """
    `verify` a package, and take it apart: ``<stem>.control.tar.gz`` is its control part
    as it is, ``<stem>.data.tar`` its data unpacked. Of another package neither stays.
    """
    whole = Path(f"{stem}{CONTROL}"), Path(f"{stem}{DATA}")
    try:
        with _opened(path) as file, _refused(path), open(whole[1], "wb") as target:
            control = _checked_control(path, file, q1)
            whole[0].write_bytes(control.raw)
            data = _Hashed(file)
            _gunzip_to(data, target)
            return _check_data(path, control, data, data_sha256)
    except BaseException:
        for one in whole:
            one.unlink(missing_ok=True)
        raise


class _Hashed:
    """A file, and the SHA-256 of what was read of it"""

    def __init__(self, file: BinaryIO):
        self.file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self.file.read(size)
        self.digest.update(chunk)
        return chunk


def _gunzip_to(source: _Hashed, target: BinaryIO) -> None:
    """Unpack gzip members, one behind another, to their end"""
    unpacker, written = zlib.decompressobj(GZIP), 0
    for chunk in iter(lambda: source.read(CHUNK), b""):
        while chunk:
            if unpacker.eof:
                unpacker = zlib.decompressobj(GZIP)
            written += target.write(unpacker.decompress(chunk))
            chunk = unpacker.unused_data
        if written > DATA_LIMIT:
            raise ValueError(f"its data is larger than {DATA_LIMIT} bytes")
    if not unpacker.eof:
        raise EOFError("it ends too early")


def _checked_control(path: Path, file: BinaryIO, q1: str) -> Control:
    """The control part, the file then being at its data"""
    control = _control(file)
    found = base64.b64encode(hashlib.sha1(control.raw).digest()).decode()
    if q1 != f"Q1{found}":
        raise _bad(path, f"its checksum is Q1{found}, not {q1}")
    file.seek(control.end)
    return control


def _check_data(
    path: Path, control: Control, data: _Hashed, wanted: Optional[str]
) -> str:
    said, found = _pkginfo(control).get("datahash", []), data.digest.hexdigest()
    expected = said if wanted is None else [*said, _hexadecimal(wanted)]
    if not said or any(one != found for one in expected):
        raise _bad(path, f"the SHA-256 of its data is {found}")
    return found


def _hexadecimal(checksum: str) -> str:
    kind, dash, value = checksum.partition("-")
    if not dash:
        return checksum.lower()
    with contextlib.suppress(ValueError):
        if kind == "sha256":
            return base64.b64decode(value, validate=True).hex()
    return checksum


def _control(file: BinaryIO) -> Control:
    """Read the control member, past a signature"""
    start = 0
    end, unpacked = _gunzip(file, start)
    if _first_name(unpacked).startswith(".SIGN."):
        start = end
        end, unpacked = _gunzip(file, start)
    file.seek(start)
    return Control(file.read(end - start), unpacked, end)


def _gunzip(file: BinaryIO, start: int) -> Tuple[int, bytes]:
    """The end of the gzip member at ``start``, and what is in it"""
    file.seek(start)
    unpacker, unpacked, packed = zlib.decompressobj(GZIP), bytearray(), 0
    while not unpacker.eof:
        chunk = unpacker.unconsumed_tail
        if not chunk:
            chunk = file.read(CHUNK)
            packed += len(chunk)
        if not chunk:
            raise EOFError("it ends too early")
        unpacked += unpacker.decompress(chunk, CONTROL_LIMIT + 1 - len(unpacked))
        if max(len(unpacked), packed - CHUNK) > CONTROL_LIMIT:
            raise ValueError(f"its control part is larger than {CONTROL_LIMIT} bytes")
    return file.tell() - len(unpacker.unused_data), bytes(unpacked)


def _first_name(tar: bytes) -> str:
    with _tar(io.BytesIO(tar)) as opened:
        first = opened.next()
        return first.name if first else ""


def _pkginfo(control: Control) -> Dict[str, List[str]]:
    found: Dict[str, List[str]] = {}
    with _tar(io.BytesIO(control.tar)) as tar:
        text = tar.extractfile(".PKGINFO")
        if text is None:
            raise ValueError("its .PKGINFO is no file")
        for line in text.read().decode("utf-8", "replace").splitlines():
            key, equals, value = line.partition(" = ")
            if equals and not key.startswith("#"):
                found.setdefault(key.strip(), []).append(value.strip())
    return found


def _member(entry: tarfile.TarInfo) -> Member:
    if entry.type not in TYPES:
        raise ValueError(f"{entry.name}: entries of type {entry.type!r} are not known")
    return Member(
        path=_relative(entry.name),
        mode=entry.mode & 0o7777,
        uname=entry.uname,
        gname=entry.gname,
        uid=entry.uid,
        gid=entry.gid,
        type=TYPES[entry.type],
        linkname=entry.linkname,
    )


def _relative(name: str) -> str:
    """A path below the root; empty for the root itself"""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or name.startswith("/"):
        raise ValueError(f"the path {name!r} leads out of the root")
    return "/".join(parts)


class _Bounded:
    """A stream of which tarfile cannot ask for a gigabyte at once"""

    def __init__(self, stream: Any):
        self.seek, self.tell, self._read = stream.seek, stream.tell, stream.read

    def read(self, size: int) -> bytes:
        if not 0 <= size <= HEADER_LIMIT:
            raise ValueError(f"a header is larger than {HEADER_LIMIT} bytes")
        return self._read(size)


def _tar(stream: Any) -> tarfile.TarFile:
    return tarfile.open(fileobj=stream, mode="r:")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = open(path, "rb")
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}",
            remedy="check the path, and that you may read it",
        ) from error
    with file:
        yield file


@contextlib.contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Whatever a hostile file makes gzip and tarfile say is one kind of error"""
    try:
        yield
    except (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise _bad(path, f"it is no .apk, or damaged: {error}") from error
    except (ValueError, KeyError, OverflowError, RecursionError) as error:
        raise _bad(path, str(error.args[0] if error.args else error)) from error


def _bad(path: Path, why: str) -> SignatureError:
    return SignatureError(
        f"{Path(path).name} is not the package that it should be: {why}",
        remedy=FETCH_AGAIN,
    )
