"""The Python distributions installed in some folders, as a source of code that needs no network.

Each distribution is one origin ``pkg:pypi/<name>`` (a package URL, no host). Its release is its version, and the
release's directory holds what the distribution's own RECORD lists, less what installing adds or changes: RECORD,
INSTALLER, REQUESTED, direct_url.json, compiled bytecode, and scripts outside of the folder. What is left came out
of the wheel, so the ids do not depend on the machine. The same version in a second folder is the same release; a
different version is a second release of the origin, and HEAD stands for the one that Python would import.

Format: recording installed projects, https://packaging.python.org/specifications/recording-installed-packages/.
Known limit: an installer that links files to its cache instead of copying them makes them symbolic links here.
"""

import csv
import difflib
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from stack_platform.archive.graph import ListedSource
from stack_platform.archive.trees import Origin, Release, Visit, list_files, state_of
from stack_platform.errors import ConfigError, SourceError

VISIT_TYPE = "pypi-installed"

_OF_THE_INSTALLER = frozenset({b"RECORD", b"INSTALLER", b"REQUESTED", b"direct_url.json", b"uv_cache.json"})


@dataclass(frozen=True, slots=True)
class DistributionsConfig:
    """Which distributions to archive, and what to hold of them.

    Raises:
        ConfigError: a folder does not exist, a name is both included and excluded, or a size is not positive.

    """

    paths: tuple[str, ...] | None = None
    """site-packages folders; None: those that the running interpreter imports from"""
    include: tuple[str, ...] = ()
    """names to take; empty: all"""
    exclude: tuple[str, ...] = ("stack-platform",)
    """names to leave out; the platform's own code would make a snapshot depend on the platform's version"""
    max_content_bytes: int = 10 * 1024 * 1024
    """longest content to hold, bytes (The Stack v2: 10 MiB); longer ones are hashed and reported"""
    hold_binary: bool = False
    """hold the bytes of contents with a NUL in the first 8000 bytes, too (77 % of the bytes of an environment)"""
    skip_editable: bool = True
    """leave out development installs, whose RECORD lists no code"""

    def __post_init__(self) -> None:
        if self.max_content_bytes < 1:
            raise ConfigError(
                f"max_content_bytes is {self.max_content_bytes}; write a size of 1 byte or more"
            )
        missing = [path for path in self.paths or () if not Path(path).is_dir()]
        if missing:
            raise ConfigError(f"{missing[0]!r} in paths is not a folder; name site-packages folders")
        both = sorted({*map(normalize, self.include)} & {*map(normalize, self.exclude)})
        if both:
            raise ConfigError(f"{both[0]!r} is in include and in exclude; remove it from one of them")

    def open(self) -> ListedSource:
        """Give the source that these settings describe."""
        return ListedSource(self)

    def origins(self) -> list[Origin]:
        """Tell which distributions there are, ordered by origin; only file records and metadata are read.

        Raises:
            ConfigError: `include` names a distribution that is not installed.
            SourceError: the folders hold no distribution.

        """
        found = self._found()
        excluded = {normalize(name) for name in self.exclude}
        wanted = {normalize(name) for name in self.include} or found.keys() - excluded
        for name in sorted(wanted - found.keys()):
            close = difflib.get_close_matches(name, found, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(close)}?" if close else "see `pip list` for the names"
            raise ConfigError(f"include names {name!r}, which is not installed; {hint}")
        visits = (_visit(name, found[name], self.skip_editable) for name in sorted(wanted, key=_url))
        origins = [state_of(visit) for visit in visits if visit is not None]
        if not origins:
            raise SourceError(f"no distribution to archive in {', '.join(self._folders()) or 'no folder'}")
        return origins

    @contextmanager
    def visits(self, origins: Sequence[Origin]) -> Iterator[list[Visit]]:
        """Show one visit per distribution.

        A distribution without a list of files, or removed meanwhile (status `not_found`), or with unusable metadata
        (`failed`) comes with a problem and without a release.
        """
        found = {_url(name): (name, items) for name, items in self._found().items()}
        shown = []
        for origin in origins:
            name, items = found.get(origin.url, ("", []))
            gone = Visit(origin.url, VISIT_TYPE, "not_found", problem="no longer installed")
            shown.append(_visit(name, items, self.skip_editable) or gone)
        yield shown

    def _found(self) -> dict[str, list["_Found"]]:
        found: dict[str, list[_Found]] = {}
        for item in _installed(self._folders()):
            found.setdefault(item.name, []).append(item)
        return found

    def _folders(self) -> list[str]:
        folders = sys.path if self.paths is None else self.paths
        return list(dict.fromkeys(os.path.realpath(path) for path in folders if Path(path).is_dir()))


class _Found(NamedTuple):
    name: str
    version: str
    info: Path
    problem: str


def normalize(name: str) -> str:
    """Write a distribution's name as package indexes do: lowercase, runs of ``-_.`` as one hyphen (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _url(name: str) -> str:
    return f"pkg:pypi/{quote(name)}"


def _installed(folders: list[str]) -> Iterator[_Found]:
    """Find every metadata folder; pip's own leftovers of an interrupted removal start with a tilde."""
    for folder in folders:
        try:
            names = sorted(entry.name for entry in Path(folder).iterdir())
        except OSError as error:
            raise SourceError(
                f"cannot list {folder}: {error.strerror}; make it readable or leave it out"
            ) from error
        for name in names:
            if name.endswith((".dist-info", ".egg-info")) and not name.startswith("~"):
                yield _identify(Path(folder, name))


def _identify(info: Path) -> _Found:
    name, _, version = info.stem.encode(errors="backslashreplace").decode().partition("-")
    guess = _Found(normalize(name), version, info, "")
    metadata = info / ("METADATA" if info.suffix == ".dist-info" else "PKG-INFO")
    try:
        headers = BytesHeaderParser().parsebytes(metadata.read_bytes())
    except OSError as error:
        return guess._replace(problem=f"{info.name}/{metadata.name} cannot be read: {error.strerror}")
    for field in ("Name", "Version"):
        if not str(headers.get(field, "")).strip():
            return guess._replace(problem=f"{info.name}/{metadata.name} has no {field}")
    declared = (str(headers[field]).strip() for field in ("Name", "Version"))
    name, version = (text.encode(errors="backslashreplace").decode() for text in declared)
    return _Found(normalize(name), version, info, "")


def _visit(name: str, found: list[_Found], skip_editable: bool) -> Visit | None:
    """Make one visit of all places where a distribution is installed; None where every one is to be skipped."""
    here = [item for item in found if not (skip_editable and _is_editable(item.info))]
    if not here:
        return None
    releases: dict[str, Release] = {}
    problems: list[str] = []
    status = "not_found"
    for item in here:
        if item.problem:
            status = "failed"
            problems.append(item.problem)
            continue
        try:
            listed = _recorded(item.info)
        except (OSError, csv.Error) as error:
            status = status if isinstance(error, FileNotFoundError) else "failed"
            reason = getattr(error, "strerror", None) or error
            problems.append(f"{item.info.name}/RECORD cannot be read: {reason}")
            continue
        if item.version not in releases:
            root = str(item.info.parent)
            releases[item.version] = Release(item.version.encode(), root, list_files(root, listed))
    status = "full" if releases else status
    return Visit(_url(name), VISIT_TYPE, status, tuple(releases.values()), "; ".join(problems))


def _is_editable(info: Path) -> bool:
    try:
        content = json.loads((info / "direct_url.json").read_bytes())
    except (OSError, ValueError):
        return False
    directory = content.get("dir_info") if isinstance(content, dict) else None
    return isinstance(directory, dict) and directory.get("editable") is True


def _recorded(info: Path) -> list[bytes]:
    """Read the paths that RECORD lists, less those that installing made."""
    text = (info / "RECORD").read_bytes().decode("utf-8", "surrogateescape")
    rows = csv.reader(io.StringIO(text, newline=""))
    paths = [row[0].encode("utf-8", "surrogateescape") for row in rows if row and row[0]]
    folder = os.fsencode(info.name)
    kept = []
    for path in paths:
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        if path.startswith(b"/") or b".." in parts or not parts:
            continue  # scripts, and data outside of the folder
        if b"__pycache__" in parts or path.endswith(b".pyc"):
            continue
        if len(parts) == 2 and parts[0] == folder and parts[1] in _OF_THE_INSTALLER:
            continue
        kept.append(b"/".join(parts))
    return kept
