"""Unpack one archive so that nothing in it can do harm: tar (plain, gzip, bzip2, xz, zstd) and zip.

A member's bytes are written to a file whose name is a number; its path is kept as bytes in a record and never given to
the file system, and links, devices and permissions are records only. So no name leaves the folder (absolute, ``..``,
through a link), none is too long, and none clashes with another that the file system holds for the same. A link to
somewhere else stays what it is: an entry with a text.

What does not become an entry has a record with a reason: names that climb up or name a drive, devices, pipes, hard
links to nothing, members below a link or a file, encrypted or damaged members, all but the last of several with the
same name. Beyond a limit (bytes, ratio, members) and where the archive is cut off or damaged, what was unpacked before
stays and the archive counts as incomplete.

Permissions: the owner's executable bit, as in git; a zip file's Unix modes and links count where it has them.
"""

import bz2
import gzip
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self, cast

import pyarrow as pa

from stack_platform.archive.trees import DIRECTORY, EXECUTABLE, FILE, LINK, SourceFile, unreadable
from stack_platform.errors import ConfigError, SourceError

_CHUNK = 1 << 20
_RATIO_FROM = 64 << 20  # bytes unpacked before the ratio counts
_MAX_HEADER = 1 << 20  # bytes of a tar member's extended header
_CLIMBS = re.compile(rb"(^|[/\\])\.\.([/\\]|$)|^[A-Za-z]:[/\\]|\0", re.DOTALL)
_HEADERS = frozenset(
    {
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
    }
)
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    pa.ArrowException,
    ValueError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    IndexError,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one archive may hold.

    Raises:
        ConfigError: a limit is not positive.

    """

    unpacked_bytes: int = 8 << 30
    """bytes of all members"""
    ratio: int = 200
    """unpacked bytes per packed byte, once 64 MiB are unpacked; the densest honest source reaches some 50"""
    members: int = 1_000_000
    """entries of any kind"""
    depth: int = 256
    """folders above a member; a deeper one is reported"""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ConfigError(f"the limit {name} is {getattr(self, name)}; write 1 or more")


class Unpacked(NamedTuple):
    """What an archive holds."""

    files: tuple[SourceFile, ...]
    """ordered by path; `inode` is the number of the file that holds the bytes"""
    problem: str
    """why the archive is incomplete; empty where it is not"""


class _LimitError(Exception):
    """A limit was reached."""


def unpack(archive: Path, folder: Path, limits: Limits, *, zip_modes: bool = True) -> Unpacked:
    """Unpack an archive into numbered files of an empty folder; whatever is wrong with it becomes a problem."""
    tree = _Tree(folder, limits)
    problem = ""
    try:
        with _opened(archive, limits) as (kind, stream):
            (_unzip if kind == "zip" else _untar)(stream, tree, zip_modes)
    except _LimitError as error:
        problem = str(error)
    except _DAMAGED as error:
        no_bytes = isinstance(error, OSError) and error.errno is not None
        problem = unreadable(error) if no_bytes else f"damaged or not an archive: {_reason(error)}"
    return Unpacked(tree.files(), problem or tree.problem)


def find_member(archive: Path, wanted: Callable[[str], bool], limits: Limits) -> bytes | None:
    """Read the first member with a wanted name, up to 1 MiB; None where there is none or the archive is damaged."""
    try:
        with _opened(archive, limits) as (kind, stream):
            if kind == "zip":
                with zipfile.ZipFile(stream) as opened:
                    name = next((name for name in opened.namelist() if wanted(name)), None)
                    return None if name is None else opened.open(name).read(_CHUNK)
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar:
                while (member := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # else it remembers every one
                    if member.isreg() and wanted(member.name):
                        return cast("BinaryIO", tar.extractfile(member)).read(_CHUNK)
    except (_LimitError, *_DAMAGED):
        pass
    return None


@contextmanager
def _opened(archive: Path, limits: Limits) -> Iterator[tuple[str, BinaryIO]]:
    """Tell zip from tar by the first bytes, and give the bytes, of a tar unpacked."""
    with archive.open("rb") as packed:
        kind = kind_of(packed.read(512))
        packed.seek(0)
        if kind == "zip":
            yield kind, packed
            return
        packed_bytes = os.fstat(packed.fileno()).st_size
        with _DECOMPRESS[kind](packed) as stream:
            yield kind, cast("BinaryIO", _Bounded(stream, _allowed(packed_bytes, limits)))


def kind_of(start: bytes) -> str:
    """Tell what an archive's first bytes say it is: zip, gzip, bzip2, xz, zstd, else tar."""
    return next((kind for magic, kind in _MAGIC if start.startswith(magic)), "tar")


def _zstd(packed: BinaryIO) -> BinaryIO:
    return cast("BinaryIO", pa.CompressedInputStream(pa.PythonFile(packed, "r"), "zstd"))


_MAGIC = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x5d\x00\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
_DECOMPRESS: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    "gzip": lambda packed: cast("BinaryIO", gzip.GzipFile(fileobj=packed)),
    "bzip2": lambda packed: cast("BinaryIO", bz2.BZ2File(packed)),
    "xz": lambda packed: cast("BinaryIO", lzma.LZMAFile(packed)),  # noqa: SIM115  the caller closes it
    "zstd": _zstd,
    "tar": lambda packed: packed,
}


def _allowed(packed_bytes: int, limits: Limits) -> int:
    return min(limits.unpacked_bytes, max(_RATIO_FROM, packed_bytes * limits.ratio))


class _Bounded:
    """A stream, or one after the other, that ends with an error beyond so many bytes."""

    def __init__(self, stream: BinaryIO, allowed: int) -> None:
        self.stream, self._allowed = stream, allowed
        self._seen = 0

    def read(self, size: int = _CHUNK) -> bytes:
        data = self.stream.read(min(size, _CHUNK))
        self._seen += len(data)
        if self._seen > self._allowed:
            raise _LimitError(
                f"it unpacks to more than {self._allowed} bytes; raise the limits if it is no bomb"
            )
        return data


class _Tree:
    """The records of the members so far."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        self.problem = ""
        self._written = self._members = 0
        self._entries: dict[bytes, SourceFile] = {}
        self._reported: list[SourceFile] = []

    def place(self, name: bytes) -> bytes | None:
        """Give the path that a member's name stands for; None for the root, and where it is reported."""
        self._members += 1
        if self._members > self.limits.members:
            raise _LimitError(
                f"it has more than {self.limits.members} members; raise the limit if it is no bomb"
            )
        parts = [part for part in name.split(b"/") if part not in (b"", b".")]
        if _CLIMBS.search(name):
            self.report(name, "unsafe name: it climbs up, names a drive or holds NUL")
        elif len(parts) > self.limits.depth:
            self.report(name, f"more than {self.limits.depth} folders deep")
        elif parts:
            return b"/".join(parts)
        return None

    def report(self, path: bytes, problem: str) -> None:
        """Note a member that does not become an entry."""
        self._reported.append(SourceFile(path, FILE, 0, 0, 0, problem))

    def folder_at(self, path: bytes) -> None:
        """Note a folder."""
        if path not in self._entries:
            self._entries[path] = SourceFile(path, DIRECTORY, 0, 0, 0)
        elif self._entries[path].perms != DIRECTORY:
            self.report(path, "a folder of the name of a file")

    def write(self, path: bytes, perms: int, chunks: Iterator[bytes]) -> None:
        """Write a member's bytes and note it."""
        number = self._written
        self._written += 1
        length = 0
        with (self.folder / str(number)).open("wb", buffering=0) as stream:
            for chunk in chunks:
                length += len(chunk)
                _put(stream, chunk)
        self._enter(SourceFile(path, perms, length, 0, number))

    def link(self, path: bytes, target: bytes) -> None:
        """Note a second name of a member."""
        parts = b"/".join(part for part in target.split(b"/") if part not in (b"", b"."))
        first = self._entries.get(parts)
        if first is None or first.perms == DIRECTORY:
            self.report(path, "a hard link to a member that is not there")
        else:
            self._enter(first._replace(path=path))

    def _enter(self, file: SourceFile) -> None:
        before = self._entries.get(file.path)
        if before is not None and before.perms == DIRECTORY:
            self.report(file.path, "a file of the name of a folder")
            return
        if before is not None:
            self.report(file.path, "replaced by a later member of the same name")
        self._entries[file.path] = file

    def files(self) -> tuple[SourceFile, ...]:
        """Give the records by path: the entries less those below a file or a link, and the reports."""
        kept: list[SourceFile] = []
        held: set[bytes] = set()  # folders that have something in them
        for path, file in self._entries.items():
            above = self._file_above(path)
            if above is None:
                kept.append(file)
                held.add(path.rpartition(b"/")[0])
            else:
                what = "symbolic link" if above.perms == LINK else "file"
                self.report(path, f"behind the {what} {above.path.decode(errors='backslashreplace')}")
        held |= {above for path in held for above in _folders_above(path)}
        kept = [file for file in kept if file.perms != DIRECTORY or file.path not in held]
        return tuple(sorted([*kept, *self._reported], key=lambda file: (file.path, file.problem)))

    def _file_above(self, path: bytes) -> SourceFile | None:
        for folder in _folders_above(path):
            entry = self._entries.get(folder)
            if entry is not None and entry.perms != DIRECTORY:
                return entry
        return None


def _put(stream: RawIOBase, chunk: bytes) -> None:
    try:
        view = memoryview(chunk)
        while view:
            view = view[stream.write(view) :]
    except OSError as error:
        raise SourceError(
            f"an archive cannot be unpacked: {error.strerror}; make room in the folder for temporary files (TMPDIR)"
        ) from error


def _folders_above(path: bytes) -> Iterator[bytes]:
    end = path.rfind(b"/")
    while end > 0:
        yield path[:end]
        end = path.rfind(b"/", 0, end)


class _Member(tarfile.TarInfo):
    """A tar member whose header is told from the end of the archive, and no longer than it may be."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            raise tarfile.ReadError("it has no end mark, so it may be cut off") from None
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from None  # which tarfile takes for the end of the archive

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _HEADERS and self.size > _MAX_HEADER:
            raise tarfile.ReadError(f"an extended header of {self.size} bytes")
        return cast("tarfile.TarInfo", super()._proc_member(archive))  # type: ignore[misc]


def _untar(stream: BinaryIO, tree: _Tree, _: bool) -> None:
    with tarfile.open(
        fileobj=stream, mode="r|", tarinfo=_Member, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # else it remembers every one
            path = tree.place(os.fsencode(member.name))
            if path is not None:
                _untar_member(archive, member, path, tree)
    while stream.read(_CHUNK):  # checksums come last
        pass


def _untar_member(archive: tarfile.TarFile, member: tarfile.TarInfo, path: bytes, tree: _Tree) -> None:
    if member.isdir() or (member.isreg() and member.name.endswith("/")):
        tree.folder_at(path)
    elif member.isreg():
        perms = EXECUTABLE if member.mode & stat.S_IXUSR else FILE
        try:
            tree.write(path, perms, _chunks(archive.extractfile(member)))
        except _LimitError as error:
            tree.report(path, str(error))
            raise
        except _DAMAGED as error:
            tree.report(path, f"damaged: {_reason(error)}")
            raise
    elif member.issym():
        tree.write(path, LINK, iter((os.fsencode(member.linkname),)))
    elif member.islnk():
        tree.link(path, os.fsencode(member.linkname))
    else:
        tree.report(path, "not a regular file")


def _chunks(stream: object) -> Iterator[bytes]:
    while chunk := cast("BinaryIO", stream).read(_CHUNK):
        yield chunk


def _unzip(stream: BinaryIO, tree: _Tree, modes: bool) -> None:
    bounded = _Bounded(stream, _allowed(os.fstat(stream.fileno()).st_size, tree.limits))
    with zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            path = tree.place(os.fsencode(member.filename))
            if path is None:
                continue
            mode = member.external_attr >> 16 if modes and member.create_system == 3 else 0
            if member.is_dir():
                tree.folder_at(path)
            elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFLNK):
                tree.report(path, "not a regular file")
            elif member.flag_bits & 1:
                tree.report(path, "encrypted")
            else:
                perms = LINK if stat.S_ISLNK(mode) else EXECUTABLE if mode & stat.S_IXUSR else FILE
                try:
                    with archive.open(member) as opened:
                        bounded.stream = cast("BinaryIO", opened)
                        tree.write(path, perms, _chunks(bounded))
                except _LimitError as error:
                    tree.report(path, str(error))
                    raise
                except _DAMAGED as error:
                    tree.report(path, f"damaged: {_reason(error)}")
                    tree.problem = "some members are damaged"


def _reason(error: Exception) -> str:
    """Say what is wrong in words without a path of this machine."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
