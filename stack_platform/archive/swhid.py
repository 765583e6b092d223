r"""Compute, read and write Software Heritage identifiers (SWHID, ISO/IEC 18670).

A core identifier is ``swh:1:<type>:<40 hexadecimal digits>``; qualifiers may follow, each after a semicolon.
The digits are the SHA-1 of ``<kind> <length>\0<manifest>``, with git's kinds and manifests for contents (blob),
directories (tree), revisions (commit) and releases (tag), and with a manifest of Software Heritage's own for
snapshots. Each function states its manifest as an ordered list.

Source: the SWHID specification 1.2, https://www.swhid.org/specification/v1.2/. Known limit: an object whose
original bytes git accepted although they are not in canonical form has an id that no function here can give.
Checked against git and, as a test oracle, against swh-model.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote, unquote

from stack_platform.errors import ConfigError, SourceError

TYPES = {"cnt": "content", "dir": "directory", "rev": "revision", "rel": "release", "snp": "snapshot"}

_HASH = re.compile(r"[0-9a-f]{40}")
_LINES = re.compile(r"([0-9]+)(?:-([0-9]+))?")
_QUALIFIERS = ("origin", "visit", "anchor", "path", "lines")
_GIT_KINDS = {
    "content": b"blob",
    "directory": b"tree",
    "revision": b"commit",
    "release": b"tag",
    "snapshot": b"refs",
}


@dataclass(frozen=True, slots=True)
class Swhid:
    """One identifier with its qualifiers; ``str()`` gives the text, ``parse`` reads it back.

    Raises:
        ConfigError: a part has a value that the specification does not allow.

    """

    type: str
    """cnt, dir, rev, rel or snp"""
    hash: str
    """40 lowercase hexadecimal digits"""
    version: int = 1
    """version of the scheme; 1 is the only one"""
    origin: str | None = None
    """where the object was seen, a URI"""
    visit: "Swhid | None" = None
    """the snapshot (snp) taken there"""
    anchor: "Swhid | None" = None
    """the dir, rev, rel or snp that `path` starts at"""
    path: str | None = None
    """path from the anchor's root directory; bytes that are not UTF-8 are surrogate escapes"""
    lines: tuple[int, int | None] | None = None
    """first and last line, counted from 1; the last is None for a single line"""

    def __post_init__(self) -> None:
        if self.version != 1:
            raise ConfigError(f"SWHID version {self.version!r} is unknown; write 'swh:1:…'")
        if self.type not in TYPES:
            raise ConfigError(f"SWHID type {self.type!r} is unknown; write one of {', '.join(TYPES)}")
        if not _HASH.fullmatch(self.hash):
            raise ConfigError(f"SWHID hash {self.hash!r} is not 40 lowercase hexadecimal digits")
        _check_relative("visit", self.visit, ("snp",))
        _check_relative("anchor", self.anchor, ("dir", "rev", "rel", "snp"))
        if self.lines is not None:
            first, last = self.lines
            if first < 1 or (last is not None and last < first):
                raise ConfigError(f"lines {self.lines} of a SWHID must ascend from 1, as in 'lines=3-10'")

    @property
    def core(self) -> str:
        """The identifier without qualifiers."""
        return f"swh:{self.version}:{self.type}:{self.hash}"

    @property
    def qualifiers(self) -> dict[str, str]:
        """The qualifiers that are set, in the specification's order, escaped as in the text."""
        first, last = self.lines or (None, None)
        values = {
            "origin": None if self.origin is None else self.origin.replace("%", "%25").replace(";", "%3B"),
            "visit": None if self.visit is None else self.visit.core,
            "anchor": None if self.anchor is None else self.anchor.core,
            "path": None if self.path is None else quote(self.path, errors="surrogateescape"),
            "lines": None if first is None else str(first) if last is None else f"{first}-{last}",
        }
        return {name: value for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        return ";".join([self.core, *(f"{name}={value}" for name, value in self.qualifiers.items())])


def _check_relative(name: str, value: Swhid | None, types: tuple[str, ...]) -> None:
    if value is None:
        return
    if value.type not in types:
        raise ConfigError(
            f"{name}={value.core} of a SWHID points to a {TYPES[value.type]}; it takes {' or '.join(types)}"
        )
    if value.qualifiers:
        raise ConfigError(f"{name}={value} of a SWHID has qualifiers of its own; write {name}={value.core}")


def parse(text: str) -> Swhid:
    """Read a SWHID with or without qualifiers.

    >>> parse("swh:1:cnt:e69de29bb2d1d6434b8b29ae775ad8c2e48c5391;lines=3").lines
    (3, None)

    Raises:
        ConfigError: the text is no SWHID; the message names the part that is wrong.

    """
    core, *parts = text.split(";")
    fields = core.split(":")
    if len(fields) != 4 or fields[0] != "swh":
        raise ConfigError(
            f"{text!r} is not a SWHID; write swh:1:<{'|'.join(TYPES)}>:<40 hexadecimal digits>, "
            "then ';name=value' for each qualifier"
        )
    if fields[1] != "1":
        raise ConfigError(f"SWHID version {fields[1]!r} in {text!r} is unknown; write 'swh:1:…'")
    qualifiers: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if name not in _QUALIFIERS or not equals:
            raise ConfigError(
                f"{part!r} in {text!r} is no qualifier; write one of {', '.join(_QUALIFIERS)} as name=value "
                "(a ';' inside a value is written %3B)"
            )
        if name in qualifiers:
            raise ConfigError(f"{text!r} gives the qualifier {name!r} twice; keep one")
        qualifiers[name] = value
    origin, path, lines = (qualifiers.get(name) for name in ("origin", "path", "lines"))
    visit, anchor = qualifiers.get("visit"), qualifiers.get("anchor")
    return Swhid(
        type=fields[2],
        hash=fields[3],
        origin=None if origin is None else unquote(origin),
        visit=None if visit is None else parse(visit),
        anchor=None if anchor is None else parse(anchor),
        path=None if path is None else unquote(path, errors="surrogateescape"),
        lines=None if lines is None else _parse_lines(lines),
    )


def _parse_lines(text: str) -> tuple[int, int | None]:
    match = _LINES.fullmatch(text)
    if match is None:
        raise ConfigError(f"lines={text!r} of a SWHID is not a line or a range; write lines=3 or lines=3-10")
    first, last = match.groups()
    return int(first), None if last is None else int(last)


class Entry(NamedTuple):
    """One row of a directory, with the fields of the table ``directory_entry``."""

    name: bytes
    """last part of the path; no slash, no NUL"""
    type: str
    """file, dir, rev"""
    target: str
    """40 hexadecimal digits of the content, directory or revision"""
    perms: int
    """0o100644, 0o100755, 0o120000 (symbolic link), 0o40000 (directory), 0o160000 (revision)"""


class Branch(NamedTuple):
    """What a snapshot's branch points to, with the fields of the table ``snapshot_branch``."""

    target_type: str
    """content, directory, revision, release, snapshot, alias"""
    target: str
    """40 hexadecimal digits; of an alias, the other branch's name in hexadecimal, as the export writes it"""


@dataclass(frozen=True, slots=True)
class Signature:
    """Who made a revision or a release, and when."""

    fullname: bytes
    """``Name <email>``, or any bytes"""
    seconds: int | None = None
    """since 1970 UTC; None where no date is given"""
    microseconds: int = 0
    """0 to 999999"""
    offset: bytes = b"+0000"
    """offset from UTC as it was written, ``+HHMM``"""


def object_id(kind: bytes, manifest: bytes | memoryview) -> str:
    """Give the SHA-1 of (1) kind, (2) a space, (3) the manifest's length in decimal, (4) NUL, (5) the manifest."""
    digest = hashlib.sha1(b"%s %d\0" % (kind, len(manifest)), usedforsecurity=False)
    digest.update(manifest)
    return digest.hexdigest()


def content_swhid(data: bytes) -> str:
    """Give the SWHID of a file's bytes, ``swh:1:cnt:…``: git's blob id.

    >>> content_swhid(b"")
    'swh:1:cnt:e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    return f"swh:1:cnt:{object_id(b'blob', data)}"


def tree_order(entry: Entry) -> bytes:
    """Give the key that a directory's entries are sorted by: the name, and a slash after a directory's."""
    return entry.name + b"/" if entry.type == "dir" else entry.name


def directory_id(entries: Iterable[Entry]) -> str:
    """Give the id of a directory: git's tree.

    Manifest: the entries in `tree_order`, for each (1) perms in octal without leading zero, (2) a space,
    (3) the name, (4) NUL, (5) the target's 20 bytes. Nothing between entries.

    Raises:
        SourceError: a name is empty, holds a slash or NUL, or comes twice.

    """
    ordered = sorted(entries, key=tree_order)
    names = {entry.name for entry in ordered}
    bad = next((name for name in names if not name or b"/" in name or b"\0" in name), None)
    if bad is not None:
        raise SourceError(f"{bad!r} cannot be a name in a directory: it is empty or holds '/' or NUL")
    if len(names) < len(ordered):
        twice = next(a.name for a in ordered if sum(b.name == a.name for b in ordered) > 1)
        raise SourceError(f"a directory has two entries named {twice!r}; an id exists only for one of them")
    return object_id(
        b"tree", b"".join(b"%o %s\0%s" % (e.perms, e.name, bytes.fromhex(e.target)) for e in ordered)
    )


def _signed(signature: Signature) -> bytes:
    if signature.seconds is None:
        return signature.fullname
    date = b"%d" % signature.seconds
    if signature.microseconds:
        date += (b".%06d" % signature.microseconds).rstrip(b"0")
    return b"%s %s %s" % (signature.fullname, date, signature.offset)


def _headed(headers: Iterable[tuple[bytes, bytes]], message: bytes | None) -> bytes:
    lines = b"".join(b"%s %s\n" % (key, value.replace(b"\n", b"\n ")) for key, value in headers)
    return lines if message is None else lines + b"\n" + message


def revision_id(
    directory: str,
    parents: Iterable[str] = (),
    author: Signature | None = None,
    committer: Signature | None = None,
    message: bytes | None = None,
    extra_headers: Iterable[tuple[bytes, bytes]] = (),
) -> str:
    """Give the id of a revision: git's commit.

    Manifest: lines of key, space, value, newline: (1) ``tree`` and the directory's id, (2) for each parent
    ``parent`` and its id, (3) ``author``, (4) ``committer``, each with name, space, seconds (a dot and
    microseconds without trailing zeros where they are not 0), space, offset, (5) the extra headers in their
    order; a newline inside a value is followed by a space; then (6), unless the message is None, an empty
    line and the message.
    """
    headers = [(b"tree", directory.encode()), *((b"parent", parent.encode()) for parent in parents)]
    headers += [
        (key, _signed(who))
        for key, who in ((b"author", author), (b"committer", committer))
        if who is not None
    ]
    return object_id(b"commit", _headed([*headers, *extra_headers], message))


def release_id(
    name: bytes,
    target: str,
    target_type: str = "directory",
    message: bytes | None = None,
    author: Signature | None = None,
) -> str:
    """Give the id of a release: git's annotated tag.

    Manifest: lines of key, space, value, newline: (1) ``object`` and the target's id, (2) ``type`` and blob,
    tree, commit, tag or refs, (3) ``tag`` and the name, (4) ``tagger`` as the author of a revision, unless the
    author is None; a newline inside a value is followed by a space; then (5), unless the message is None, an
    empty line and the message.

    Raises:
        SourceError: the target's type is unknown.

    """
    if target_type not in _GIT_KINDS:
        raise SourceError(f"a release cannot point to a {target_type!r}; it takes {', '.join(_GIT_KINDS)}")
    headers = [(b"object", target.encode()), (b"type", _GIT_KINDS[target_type]), (b"tag", name)]
    if author is not None:
        headers.append((b"tagger", _signed(author)))
    return object_id(b"tag", _headed(headers, message))


def snapshot_id(branches: Mapping[bytes, Branch | None]) -> str:
    """Give the id of a snapshot; a branch that is None dangles.

    Manifest: the branches ordered by name, for each (1) the type of the target, ``dangling`` for None, (2) a
    space, (3) the branch's name, (4) NUL, (5) the length of the target in decimal, (6) a colon, (7) the target:
    20 bytes, of an alias the other branch's name, of a dangling branch nothing. Nothing between branches.

    Raises:
        SourceError: a target's type is unknown.

    """
    manifest = []
    for name, branch in sorted(branches.items()):
        if branch is not None and branch.target_type not in (*_GIT_KINDS, "alias"):
            raise SourceError(f"branch {name!r} points to a {branch.target_type!r}; it takes {[*_GIT_KINDS]}")
        kind = b"dangling" if branch is None else branch.target_type.encode()
        target = b"" if branch is None else bytes.fromhex(branch.target)
        manifest.append(b"%s %s\0%d:%s" % (kind, name, len(target), target))
    return object_id(b"snapshot", b"".join(manifest))


def origin_id(url: str) -> str:
    """Give the key of an origin: the SHA-1 of its URL in UTF-8 (no SWHID type of its own)."""
    return hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
