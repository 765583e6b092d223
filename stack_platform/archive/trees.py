"""What a listing hands to the graph: origins and their states, and visits of them with releases of files.

A place that is no version control system (installed packages, archives, folders) lists its files here; nothing is
read but the file system's own records, 10 µs per file, and a state made of them tells whether there is anything new.
Symbolic links are entries of their own and are never followed, as in git: a path behind a linked folder is reported,
not read.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

FILE, EXECUTABLE, LINK, DIRECTORY = 0o100644, 0o100755, 0o120000, 0o040000


class SourceFile(NamedTuple):
    """One file of a release, or a directory without entries, as the file system describes it."""

    path: bytes
    """relative to the release's root, parts separated by slashes"""
    perms: int
    """`FILE`, `EXECUTABLE`, `LINK` or `DIRECTORY`"""
    length: int
    """bytes; of a link, of the text it holds"""
    changed_ns: int
    """the later one of the times of the last change of bytes and of record, nanoseconds since 1970"""
    inode: int
    """number of the file on its file system; in a numbered release, the name of the file that holds the bytes"""
    problem: str = ""
    """why the file cannot be read; empty where it can"""


class Release(NamedTuple):
    """A named version and its files, ordered by path."""

    name: bytes | None
    """version; None: a directory without one, to which HEAD points by itself"""
    root: str
    """folder on this machine that the paths are relative to"""
    files: tuple[SourceFile, ...]
    artifact: bytes = b""
    """which of several packings of the version, part of the branch's name; empty where there is one"""
    numbered: bool = False
    """the bytes lie in `root` under numbers instead of their paths, those of a link as a file of its text"""


class Visit(NamedTuple):
    """What one visit found at one origin; the first release is the one that HEAD stands for."""

    origin: str
    """URL"""
    type: str
    """kind of origin, as `pypi-installed`"""
    status: str
    """full, partial, or failed and not_found, which come without releases"""
    releases: tuple[Release, ...] = ()
    problem: str = ""
    """what went wrong, for people"""


class Origin(NamedTuple):
    """What can be told of an origin without reading it."""

    url: str
    state: str
    """digest that changes whenever the origin does: names, sizes, times, settings"""
    files: int
    """number of files; 0 where it is not known"""
    bytes: int
    """about the bytes of the files"""
    changed_ns: int
    """latest time of change that went into the state, nanoseconds since 1970"""


class Listing(Protocol):
    """Anything that lists origins, shows the changed ones, and says which contents the archive shall hold."""

    @property
    def max_content_bytes(self) -> int:
        """The longest content to hold; longer ones are hashed only."""

    @property
    def hold_binary(self) -> bool:
        """Whether the bytes of binary contents are held."""

    def origins(self) -> list[Origin]:
        """Tell what is there, ordered by URL.

        Raises:
            ConfigError: a setting names what is not there.
            SourceError: there is nothing at all.

        """

    def visits(self, origins: Sequence[Origin]) -> AbstractContextManager[list[Visit]]:
        """Show some of the origins, one visit each in their order; the files stay readable in the context."""


def state_of(visit: Visit, *settings: object) -> Origin:
    """Describe the origin of a visit whose files lie ready, by the records of the files and some settings."""
    digest = hashlib.sha256(
        json.dumps([visit.origin, visit.type, visit.status, visit.problem, settings]).encode()
    )
    files = size = changed = 0
    for release in visit.releases:
        name = b"" if release.name is None else release.name
        digest.update(
            b"\n%d %s %s\n" % (len(release.files), name.hex().encode(), release.artifact.hex().encode())
        )
        for path, perms, length, changed_ns, _, problem in release.files:
            digest.update(b"%s\0%o %d %d %s\n" % (path, perms, length, changed_ns, problem.encode()))
            size += length
            changed = max(changed, changed_ns)
        files += len(release.files)
    return Origin(visit.origin, digest.hexdigest(), files, size, changed)


def list_files(root: str, paths: Iterable[bytes]) -> tuple[SourceFile, ...]:
    """Describe the files of a tree: one record per path, ordered by path, and one per link in the way.

    A path that is gone, is no file, or lies behind a linked folder comes with a `problem`.
    """
    records: dict[bytes, SourceFile] = {}
    links: dict[bytes, bool] = {}
    for path in sorted(set(paths)):
        link = _link_above(root, path, links)
        if link is None:
            records[path] = _describe(root, path)
            continue
        records[link] = _describe(root, link)
        problem = f"behind the symbolic link {link.decode(errors='backslashreplace')}"
        records[path] = SourceFile(path, FILE, 0, 0, 0, problem)
    return tuple(records[path] for path in sorted(records))


def _link_above(root: str, path: bytes, links: dict[bytes, bool]) -> bytes | None:
    """Find the topmost folder on the way to a path that is a symbolic link."""
    end = path.find(b"/")
    while end != -1:
        folder = path[:end]
        if folder not in links:
            links[folder] = _is_link(local(root, folder))
        if links[folder]:
            return folder
        end = path.find(b"/", end + 1)
    return None


def _is_link(path: str) -> bool:
    try:
        return stat.S_ISLNK(Path(path).lstat().st_mode)
    except (OSError, ValueError):
        return False  # the path below will say what is wrong


def _describe(root: str, path: bytes) -> SourceFile:
    try:
        status = Path(local(root, path)).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return SourceFile(path, FILE, 0, 0, 0, "missing")
    except (OSError, ValueError) as error:
        return SourceFile(path, FILE, 0, 0, 0, unreadable(error))
    return describe(path, status)


def describe(path: bytes, status: os.stat_result) -> SourceFile:
    """Make the record of one file out of what the file system says of it, links not followed."""
    changed = max(status.st_mtime_ns, status.st_ctime_ns)
    if stat.S_ISLNK(status.st_mode):
        return SourceFile(path, LINK, status.st_size, changed, status.st_ino)
    perms = EXECUTABLE if status.st_mode & stat.S_IXUSR else FILE
    if stat.S_ISREG(status.st_mode):
        return SourceFile(path, perms, status.st_size, changed, status.st_ino)
    return SourceFile(path, FILE, 0, changed, status.st_ino, "not a regular file")


def local(root: str, path: bytes) -> str:
    """Say where a path of a folder lies on this machine."""
    return f"{root}/{os.fsdecode(path)}"


def unreadable(error: Exception) -> str:
    """Say why a file could not be read, without the machine's path."""
    return f"unreadable: {getattr(error, 'strerror', None) or error}"
