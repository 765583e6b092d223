"""Archives as a source of code: sdists, wheels, zip and tar files, unpacked with their wrapper directories.

An archive that says which Python package it holds (PKG-INFO of an sdist, METADATA of a wheel) belongs to the origin
``pkg:pypi/<name>``; every other one is the origin ``archive:<file name>``, below a given folder with the path from
there. A URL in the settings makes one origin of all archives. Several versions are several releases, the newest final
one first, for HEAD; several archives of one version have the file name in their branch, as in Software Heritage. An
archive without a package is a directory that HEAD points to.

Directory ids are those of Software Heritage, which unpacks with the wrapper directory, too; of zip files with Unix
modes only with `zip_modes` off, for it ignores them. Nothing is unpacked into names of the archive's choice: see
`unpacking`. A fingerprint reads the metadata of each archive, once per process as long as the file is the same.
"""

import filecmp
import hashlib
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from functools import lru_cache
from glob import glob
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from packaging.version import InvalidVersion, Version

from stack_platform.archive.distributions import normalize
from stack_platform.archive.graph import ListedSource
from stack_platform.archive.trees import Origin, Release, Visit
from stack_platform.archive.unpacking import Limits, find_member, unpack
from stack_platform.errors import ConfigError, SourceError

VISIT_TYPE = "archive"
SUFFIXES = (
    *(".whl", ".zip", ".egg", ".crate", ".gem", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz"),
    *(".tar.xz", ".txz", ".tar.lzma", ".tar.zst", ".tzst"),
)

_VERSION = re.compile(r"-[vV]?(\d[\w.+!~-]*)$")
_METADATA = re.compile(r"(\./)?([^/]+/PKG-INFO|[^/]+\.dist-info/METADATA)")
_UNPACKED_PER_PACKED = 4  # of source code, roughly


@dataclass(frozen=True, slots=True)
class ArchivesConfig:
    """Which archives to unpack and keep, and what to hold of them.

    Raises:
        ConfigError: nothing is named, or a number is not positive.

    """

    paths: tuple[str, ...]
    """archive files, folders that are searched for them at any depth, or patterns (`*.tar.gz`, `**/*.whl`)"""
    url: str | None = None
    """one origin for all of them; None: `pkg:pypi/<name>` of each one's metadata, else `archive:<file name>`"""
    max_content_bytes: int = 10 * 1024 * 1024
    """longest content to hold, bytes (The Stack v2: 10 MiB); longer ones are hashed and reported"""
    hold_binary: bool = False
    """hold the bytes of contents with a NUL in the first 8000 bytes, too"""
    max_unpacked_bytes: int = 8 << 30
    """bytes that one archive may unpack to"""
    max_ratio: int = 200
    """unpacked bytes per packed byte, once 64 MiB are unpacked"""
    max_members: int = 1_000_000
    """members of one archive"""
    max_depth: int = 256
    """folders above a member"""
    zip_modes: bool = True
    """heed the Unix modes and links of zip files, as `unzip` does; off: files only, as Software Heritage reads them"""

    def __post_init__(self) -> None:
        if not self.paths:
            raise ConfigError("paths names no archive; write files, folders or patterns")
        if self.max_content_bytes < 1:
            raise ConfigError(
                f"max_content_bytes is {self.max_content_bytes}; write a size of 1 byte or more"
            )
        self._limits()

    def open(self) -> ListedSource:
        """Give the source that these settings describe."""
        return ListedSource(self)

    def origins(self) -> list[Origin]:
        """Tell which origins the archives belong to; of each archive its metadata is read.

        Raises:
            SourceError: there is no archive.

        """
        groups = self._groups()
        if not groups:
            raise SourceError(f"there is no archive in {', '.join(map(repr, self.paths))}; see paths")
        limits = (self.max_unpacked_bytes, self.max_ratio, self.max_members, self.max_depth)
        settings = (*limits, self.zip_modes)
        return [_origin(url, groups[url], settings) for url in sorted(groups)]

    @contextmanager
    def visits(self, origins: Sequence[Origin]) -> Iterator[list[Visit]]:
        """Unpack the archives of some origins into a temporary folder and show one visit per origin."""
        groups = self._groups()
        with tempfile.TemporaryDirectory(prefix="archives-") as folder:
            yield [
                self._visit(origin.url, groups.get(origin.url, []), Path(folder, str(number)))
                for number, origin in enumerate(origins)
            ]

    def _limits(self) -> Limits:
        return Limits(self.max_unpacked_bytes, self.max_ratio, self.max_members, self.max_depth)

    def _groups(self) -> dict[str, list["_Archive"]]:
        """Give the archives of every origin, the one for HEAD first."""
        groups: dict[str, list[_Archive]] = {}
        for archive in sorted(_found(self.paths, self._limits()), key=lambda archive: archive.name):
            url = self.url or archive.url
            if self.url and archive.version is None:
                archive = archive._replace(version=_guess(archive.name))
            groups.setdefault(url, []).append(archive)
        for archives in groups.values():
            archives.sort(key=lambda archive: archive.name.endswith((".whl", ".egg")))
            archives.sort(key=_newest, reverse=True)
        return groups

    def _visit(self, url: str, archives: list["_Archive"], folder: Path) -> Visit:
        if not any(archive.exists for archive in archives):
            return Visit(url, VISIT_TYPE, "not_found", problem="there is no such file")
        firsts: dict[tuple[str | None, str], _Archive] = {}
        releases: list[Release] = []
        problems: list[str] = []
        of_version = Counter(version for version, _ in {(each.version, each.file_name) for each in archives})
        for number, archive in enumerate(archives):
            several = archive.version is not None and of_version[archive.version] > 1
            artifact = archive.file_name if several else ""
            first = firsts.setdefault((archive.version, artifact), archive)
            if first is not archive:
                if not _same_bytes(first.path, archive.path):
                    problems.append(f"{archive.name}: another file of this name comes first")
                continue
            place = folder / str(number)
            place.mkdir(parents=True)
            files, problem = unpack(archive.path, place, self._limits(), zip_modes=self.zip_modes)
            if files and all(file.problem for file in files):
                problem = problem or "nothing in it can be read"
            if problem:
                problems.append(f"{archive.name}: {problem}")
            if files or not problem:
                name = None if archive.version is None else os.fsencode(archive.version)
                releases.append(Release(name, str(place), files, os.fsencode(artifact), numbered=True))
        status = "failed" if not releases else "partial" if problems else "full"
        return Visit(url, VISIT_TYPE, status, tuple(releases), _text("; ".join(problems)))


class _Archive(NamedTuple):
    path: Path
    name: str
    """the file's name, below a folder the path from there"""
    exists: bool
    size: int
    changed_ns: int
    package: str | None
    version: str | None

    @property
    def file_name(self) -> str:
        return self.name.rpartition("/")[2]

    @property
    def url(self) -> str:
        if self.package is not None:
            return f"pkg:pypi/{quote(self.package)}"
        return f"archive:{quote(os.fsencode(self.name))}"


def _found(paths: Sequence[str], limits: Limits) -> Iterator[_Archive]:
    """Find every archive that the paths name, each once."""
    seen: set[str] = set()
    for path in paths:
        for file, name in _files(path):
            real = os.path.realpath(file)
            if real not in seen:
                seen.add(real)
                yield _describe(file, name, limits)


def _files(path: str) -> Iterator[tuple[Path, str]]:
    if Path(path).is_dir():
        for folder, _, names in os.walk(path):
            for name in names:
                file = Path(folder, name)
                if name.lower().endswith(SUFFIXES) and file.is_file():
                    yield file, file.relative_to(path).as_posix()
    elif Path(path).exists() or not re.search(r"[*?[]", path):
        yield Path(path), Path(path).name
    else:
        for found in glob(path, recursive=True):  # noqa: PTH207  a pattern may be absolute
            if Path(found).is_file():
                yield Path(found), Path(found).name


def _describe(path: Path, name: str, limits: Limits) -> _Archive:
    try:
        status = path.stat()
    except OSError:
        return _Archive(path, name, False, 0, 0, None, None)
    changed = max(status.st_mtime_ns, status.st_ctime_ns)
    package, version = _identify(str(path), (status.st_size, changed, status.st_ino), limits)
    return _Archive(path, name, True, status.st_size, changed, package, version)


@lru_cache(maxsize=65_536)
def _identify(path: str, _: tuple[int, int, int], limits: Limits) -> tuple[str, str] | tuple[None, None]:
    """Read the name and version of the package that an archive holds, once as long as the file is the same."""
    if not Path(path).is_file():
        return None, None
    metadata = find_member(Path(path), lambda name: _METADATA.fullmatch(name) is not None, limits)
    if metadata is None:
        return None, None
    headers = BytesHeaderParser().parsebytes(metadata)
    name, version = (_text(str(headers.get(field, "")).strip()) for field in ("Name", "Version"))
    return (normalize(name), version) if name and version else (None, None)


def _same_bytes(first: Path, second: Path) -> bool:
    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:
        return False


def _text(value: str) -> str:
    """Escape what UTF-8 cannot write."""
    return value.encode(errors="backslashreplace").decode()


def _guess(name: str) -> str:
    """Take the version from a file's name; where there is none, all of the name but the ending."""
    stem = Path(name).name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if stem.lower().endswith(suffix):
            stem = stem[: -len(suffix)]
            break
    found = _VERSION.search(stem)
    return _text(found[1] if found else stem)


def _newest(archive: _Archive) -> tuple[bool, bool, Version, str]:
    """Give the key that orders versions: final ones above others, and what is no version at the bottom."""
    try:
        version = Version(archive.version or "")
    except InvalidVersion:
        return False, False, Version("0"), archive.version or ""
    return True, not version.is_prerelease, version, ""


def _origin(url: str, archives: list[_Archive], settings: tuple[object, ...]) -> Origin:
    records = [(archive.name, archive.version, archive.size, archive.changed_ns) for archive in archives]
    state = hashlib.sha256(json.dumps([url, settings, records]).encode()).hexdigest()
    size = sum(archive.size for archive in archives) * _UNPACKED_PER_PACKED
    return Origin(url, state, 0, size, max(archive.changed_ns for archive in archives))
