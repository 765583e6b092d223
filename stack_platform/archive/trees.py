"""What a source hands to the graph: visits of origins, each with releases that are lists of files.

A source that is not a version control system (installed packages, unpacked archives, folders) lists its files
here; nothing is read but the file system's own records, so that a listing costs 10 µs per file and a fingerprint
of it tells whether there is anything new. Symbolic links are entries of their own and are never followed, as in
git: a path behind a linked folder is reported, not read.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

FILE, EXECUTABLE, LINK = 0o100644, 0o100755, 0o120000


class SourceFile(NamedTuple):
    """One file of a release, as the file system describes it."""

    path: bytes
    """relative to the release's root, parts separated by slashes"""
    local: str
    """where the bytes lie on this machine"""
    perms: int
    """`FILE`, `EXECUTABLE` or `LINK`"""
    length: int
    """bytes; of a link, of the text it holds"""
    mtime_ns: int
    """time of the last change, nanoseconds since 1970"""
    problem: str = ""
    """why the file cannot be read; empty where it can"""


class Release(NamedTuple):
    """A named version and its files, ordered by path."""

    name: bytes
    files: tuple[SourceFile, ...]


class Visit(NamedTuple):
    """What one visit found at one origin; the first release is the one that HEAD stands for."""

    origin: str
    """URL"""
    type: str
    """kind of origin, as `pypi-installed`"""
    status: str
    """full, or failed and not_found, which come without releases"""
    releases: tuple[Release, ...] = ()
    problem: str = ""
    """what went wrong, for people"""


class Source(Protocol):
    """Anything that lists visits and says which contents the archive shall hold."""

    @property
    def max_content_bytes(self) -> int:
        """The longest content to hold; longer ones are hashed only."""

    @property
    def hold_binary(self) -> bool:
        """Whether the bytes of binary contents are held."""

    def visits(self) -> list[Visit]:
        """List what is there, ordered by origin."""


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
        records[path] = SourceFile(path, f"{root}/{os.fsdecode(path)}", FILE, 0, 0, problem)
    return tuple(records[path] for path in sorted(records))


def _link_above(root: str, path: bytes, links: dict[bytes, bool]) -> bytes | None:
    """Find the topmost folder on the way to a path that is a symbolic link."""
    end = path.find(b"/")
    while end != -1:
        folder = path[:end]
        if folder not in links:
            links[folder] = _is_link(f"{root}/{os.fsdecode(folder)}")
        if links[folder]:
            return folder
        end = path.find(b"/", end + 1)
    return None


def _is_link(local: str) -> bool:
    try:
        return stat.S_ISLNK(Path(local).lstat().st_mode)
    except (OSError, ValueError):
        return False  # the path below will say what is wrong


def _describe(root: str, path: bytes) -> SourceFile:
    local = f"{root}/{os.fsdecode(path)}"
    try:
        status = Path(local).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return SourceFile(path, local, FILE, 0, 0, "missing")
    except (OSError, ValueError) as error:
        return SourceFile(path, local, FILE, 0, 0, unreadable(error))
    if stat.S_ISLNK(status.st_mode):
        return SourceFile(path, local, LINK, status.st_size, status.st_mtime_ns)
    perms = EXECUTABLE if status.st_mode & stat.S_IXUSR else FILE
    problem = "" if stat.S_ISREG(status.st_mode) else "not a regular file"
    return SourceFile(path, local, perms, status.st_size, status.st_mtime_ns, problem)


def unreadable(error: Exception) -> str:
    """Say why a file could not be read, without the machine's path."""
    return f"unreadable: {getattr(error, 'strerror', None) or error}"
