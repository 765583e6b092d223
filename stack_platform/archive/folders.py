"""Plain folders as a source of code: each one an origin, whose HEAD is the folder itself.

The origin's URL is ``dir:<name of the folder>`` unless another one is given, never a path of the machine. Entries are
those that ``git add`` would make, and folders without entries, which Software Heritage has and git has not. Left out
are the folders of version control systems (.git, .hg, .svn) and what the patterns exclude. Symbolic links are kept as
such and never followed; devices, pipes, sockets and folders that cannot be read are reported.
"""

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path
from urllib.parse import quote

from stack_platform.archive.graph import ListedSource
from stack_platform.archive.trees import (
    DIRECTORY,
    FILE,
    Origin,
    Release,
    SourceFile,
    Visit,
    describe,
    state_of,
    unreadable,
)
from stack_platform.errors import ConfigError, SourceError

VISIT_TYPE = "directory"
VERSION_CONTROL = frozenset({b".git", b".hg", b".svn"})


@dataclass(frozen=True, slots=True)
class FoldersConfig:
    """Which folders to archive, and what to hold of them.

    Raises:
        ConfigError: no folder is named, URLs do not fit the folders or come twice, or a size is not positive.

    """

    paths: tuple[str, ...]
    """folders, each one origin"""
    urls: tuple[str, ...] = ()
    """the origins' URLs, one per folder in the same order; empty: `dir:<name of the folder>`"""
    exclude: tuple[str, ...] = ()
    """patterns of what to leave out, as `*.log` (a name at any depth) or `docs/*` (a path from the folder)"""
    max_content_bytes: int = 10 * 1024 * 1024
    """longest content to hold, bytes (The Stack v2: 10 MiB); longer ones are hashed and reported"""
    hold_binary: bool = False
    """hold the bytes of contents with a NUL in the first 8000 bytes, too"""

    def __post_init__(self) -> None:
        if not self.paths:
            raise ConfigError("paths names no folder; write one or more")
        if self.max_content_bytes < 1:
            raise ConfigError(
                f"max_content_bytes is {self.max_content_bytes}; write a size of 1 byte or more"
            )
        if self.urls and len(self.urls) != len(self.paths):
            raise ConfigError(
                f"urls has {len(self.urls)} entries for {len(self.paths)} paths; write one each"
            )
        if not self.urls and any(url == "dir:" for url, _ in self._named()):
            raise ConfigError("the root of a file system has no name to make a URL of; give one in urls")
        twice = [url for url, count in Counter(url for url, _ in self._named()).items() if count > 1]
        if twice:
            raise ConfigError(f"two folders would be the origin {twice[0]!r}; give each its own in urls")

    def open(self) -> ListedSource:
        """Give the source that these settings describe."""
        return ListedSource(self)

    def origins(self) -> list[Origin]:
        """Tell which folders there are and what their records say; no file is read.

        Raises:
            SourceError: none of the folders exists.

        """
        if not any(Path(path).exists() for path in self.paths):
            raise SourceError(
                f"there is no folder {', '.join(map(repr, self.paths))}; name folders that exist"
            )
        return [state_of(self._visit(url, path)) for url, path in self._named()]

    @contextmanager
    def visits(self, origins: Sequence[Origin]) -> Iterator[list[Visit]]:
        """Show one visit per folder."""
        paths = dict(self._named())
        yield [self._visit(origin.url, paths[origin.url]) for origin in origins]

    def _named(self) -> list[tuple[str, str]]:
        """Give (URL, path) of every folder, ordered by URL."""
        urls = self.urls or [f"dir:{quote(os.fsencode(Path(path).resolve().name))}" for path in self.paths]
        return sorted(zip(urls, self.paths, strict=True))

    def _visit(self, url: str, path: str) -> Visit:
        root = os.path.realpath(path)
        if not Path(root).exists():
            return Visit(url, VISIT_TYPE, "not_found", problem="there is no such folder")
        try:
            files = walk_tree(root, _matcher(self.exclude))
        except OSError as error:
            return Visit(url, VISIT_TYPE, "failed", problem=unreadable(error))
        return Visit(url, VISIT_TYPE, "full", (Release(None, root, files),))


def _matcher(patterns: Iterable[str]) -> Callable[[bytes], bool]:
    """Give the function that tells whether a path is left out, with all that lies below it."""
    names: list[str] = []
    paths: list[str] = []
    for pattern in patterns:
        (paths if "/" in pattern.rstrip("/") else names).append(translate(pattern.strip("/")))
    name_match, path_match = (re.compile("|".join(each) or "(?!)").match for each in (names, paths))

    def leave_out(path: bytes) -> bool:
        name = path.rpartition(b"/")[2]
        if name in VERSION_CONTROL:
            return True
        if not names and not paths:
            return False
        return bool(name_match(os.fsdecode(name)) or path_match(os.fsdecode(path)))

    return leave_out


def walk_tree(root: str, leave_out: Callable[[bytes], bool]) -> tuple[SourceFile, ...]:
    """Describe the files of a folder, ordered by path, and the folders without entries; links are not followed.

    Raises:
        OSError: the folder itself cannot be read.

    """
    top = os.fsencode(root)
    found: list[SourceFile] = []
    folders: list[tuple[bytes, SourceFile | None]] = [(b"", None)]
    while folders:
        prefix, folder = folders.pop()
        entries = 0
        try:
            with os.scandir(top + b"/" + prefix) as listed:
                for entry in listed:
                    path = prefix + entry.name
                    if leave_out(path):
                        continue
                    entries += 1
                    file = _entry(path, entry)
                    if file.perms == DIRECTORY:
                        folders.append((path + b"/", file))
                    else:
                        found.append(file)
        except OSError as error:
            if folder is None:
                raise
            found.append(folder._replace(perms=FILE, problem=unreadable(error)))
        else:
            if not entries and folder is not None:
                found.append(folder)
    found.sort(key=lambda file: file.path)
    return tuple(found)


def _entry(path: bytes, entry: os.DirEntry[bytes]) -> SourceFile:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError as error:
        return SourceFile(path, FILE, 0, 0, 0, unreadable(error))
    if stat.S_ISDIR(status.st_mode):
        return SourceFile(path, DIRECTORY, 0, max(status.st_mtime_ns, status.st_ctime_ns), status.st_ino)
    return describe(path, status)
