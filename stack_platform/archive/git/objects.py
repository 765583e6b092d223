"""Turn the bytes of git's commits, tags and trees into the archive's columns, and say where those do not suffice.

An object is parsed leniently, as git itself reads it, and its id is computed again from the columns alone. Where
that gives another id (leading zeros in a date or a mode, headers out of their order, entries out of theirs, a line
that is no header) the row gets a `raw_manifest`: the whole object with git's own header, as Software Heritage
keeps it. So every id can be had from the rows, and every object byte for byte.

People are digests by default, the SHA-256 of the full name as in Software Heritage's public export; `verbatim`
keeps the names. A `raw_manifest` and the text of a message are verbatim in both.
Git publishes no grammar for commits; the canonical form here is the one of `swhid`, checked against swh-model.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from stack_platform.archive.swhid import Signature, object_id, release_id, revision_id
from stack_platform.errors import SourceError

Row = tuple[Any, ...]
Person = Callable[[bytes], bytes]

TARGETS = {b"blob": "content", b"tree": "directory", b"commit": "revision", b"tag": "release"}

_ENTRY = re.compile(rb"([0-7]{1,10}) ([^\0]+)\0(.{20})", re.DOTALL)
_DATE = re.compile(rb"\s*(-?[0-9]+)[ \t]*(.*)", re.DOTALL)
_NO_ANGLE = re.compile(rb"(.*) (-?[0-9]+ [+-][0-9]+)", re.DOTALL)
_OFFSET = re.compile(rb"([+-])([0-9]*?):?([0-9]{1,2})")
_HEX = re.compile(rb"[0-9a-f]{40}")
_INT64, _INT16 = 1 << 63, 1 << 15


class Commit(NamedTuple):
    """Rows of one commit, and what it leads to."""

    revision: Row
    parents: tuple[str, ...]
    extra_headers: tuple[tuple[bytes, bytes], ...]
    directory: str | None


class Tag(NamedTuple):
    """The row of one annotated tag, and what it leads to."""

    release: Row
    target: str | None
    target_type: str | None


class Tree(NamedTuple):
    """The entries of one tree in git's order, as columns."""

    names: Sequence[bytes]
    types: Sequence[str]
    targets: Sequence[str]
    perms: Sequence[int]
    raw_manifest: bytes | None


def digest(fullname: bytes) -> bytes:
    """Stand for a person as the public export does: the SHA-256 of the full name."""
    return hashlib.sha256(fullname).digest()


def verbatim(fullname: bytes) -> bytes:
    """Keep a person's full name."""
    return fullname


def raw_object(kind: bytes, data: bytes) -> bytes:
    """Give an object as git hashes it: its kind and length, NUL, its bytes."""
    return b"%s %d\0%s" % (kind, len(data), data)


def parse_headers(data: bytes) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
    """Split a commit or a tag into headers, continued lines joined, and the message (None without an empty line)."""
    if data.startswith(b"\n"):
        return [], data[1:]
    head, separator, message = data.partition(b"\n\n")
    headers: list[tuple[bytes, bytes]] = []
    for line in head.removesuffix(b"" if separator else b"\n").split(b"\n"):
        if line.startswith(b" ") and headers:
            key, value = headers[-1]
            headers[-1] = (key, value + b"\n" + line[1:])
        else:
            key, _, value = line.partition(b" ")
            headers.append((key, value))
    return headers, message if separator else None


def parse_signature(value: bytes) -> Signature:
    """Split ``Name <email> seconds offset`` after the last ``>``; what is no date leaves the date None."""
    end = value.rfind(b">")
    if end < 0:
        match = _NO_ANGLE.fullmatch(value)
        fullname, rest = (match[1], match[2]) if match else (value, b"")
    else:
        fullname, rest = value[: end + 1], value[end + 1 :]
    date = _DATE.fullmatch(rest)
    if date is None or len(date[1]) > 20 or not -_INT64 <= int(date[1]) < _INT64:
        return Signature(value if not rest.strip() else fullname)
    return Signature(fullname, int(date[1]), 0, date[2])


def offset_minutes(offset: bytes) -> int:
    """Give an offset such as ``+0530`` in minutes; 0 where it is no time, as Software Heritage does."""
    match = _OFFSET.fullmatch(offset)
    if match is None:
        return 0
    hours, minutes = int(match[2] or 0), int(match[3])
    total = (hours * 60 + minutes) * (-1 if match[1] == b"-" else 1)
    return total if minutes < 60 and -_INT16 <= total < _INT16 else 0


def _when(signature: Signature | None) -> tuple[dict[str, int] | None, int | None, bytes | None]:
    if signature is None or signature.seconds is None:
        return None, None, None
    date = {"seconds": signature.seconds, "microseconds": 0}
    return date, offset_minutes(signature.offset), signature.offset


def _hash_of(value: bytes | None) -> str | None:
    return value.decode() if value is not None and _HEX.fullmatch(value) else None


def parse_commit(identifier: str, data: bytes, person: Person) -> Commit:
    """Give the rows of a commit: the first tree, author and committer count, other headers are extra ones."""
    headers, message = parse_headers(data)
    first: dict[bytes, bytes] = {}
    parents: list[str] = []
    extra: list[tuple[bytes, bytes]] = []
    for key, value in headers:
        parent = _hash_of(value) if key == b"parent" and not extra else None
        if parent is not None:
            parents.append(parent)
        elif key in (b"tree", b"author", b"committer") and key not in first:
            first[key] = value
        else:
            extra.append((key, value))
    directory = _hash_of(first.get(b"tree"))
    author, committer = (
        parse_signature(first[key]) if key in first else None for key in (b"author", b"committer")
    )
    same = directory is not None and identifier == revision_id(
        directory, parents, author, committer, message, extra
    )
    row = (
        identifier,
        message,
        None if author is None else person(author.fullname),
        *_when(author),
        None if committer is None else person(committer.fullname),
        *_when(committer),
        directory,
        "git",
        None if same else raw_object(b"commit", data),
    )
    return Commit(row, tuple(parents), tuple(extra), directory)


def parse_tag(identifier: str, data: bytes, person: Person) -> Tag:
    """Give the row of an annotated tag; a release has no columns for headers of other names."""
    headers, message = parse_headers(data)
    first: dict[bytes, bytes] = {}
    for key, value in headers:
        first.setdefault(key, value)
    target, target_type = _hash_of(first.get(b"object")), TARGETS.get(first.get(b"type", b""))
    name = first.get(b"tag", b"")
    author = parse_signature(first[b"tagger"]) if b"tagger" in first else None
    same = (
        target is not None
        and target_type is not None
        and identifier == release_id(name, target, target_type, message, author)
    )
    row = (
        identifier,
        name,
        message,
        target,
        target_type,
        None if author is None else person(author.fullname),
        *_when(author),
        None if same else raw_object(b"tag", data),
    )
    return Tag(row, target, target_type)


_MODES: dict[bytes, tuple[str, int]] = {}


def _mode(text: bytes) -> tuple[str, int]:
    known = _MODES.get(text)
    if known is None:
        perms = int(text, 8)
        kind = {0o040000: "dir", 0o160000: "rev"}.get(perms & 0o170000, "file")
        known = _MODES[text] = (kind, perms)
    return known


def parse_tree(data: bytes) -> Tree:
    """Give the entries of a tree, up to the first bytes that are none."""
    found: list[tuple[bytes, bytes, bytes]] = _ENTRY.findall(data)
    if sum(len(mode) + len(name) for mode, name, _ in found) + 22 * len(found) != len(data):
        found, place = [], 0
        while match := _ENTRY.match(data, place):
            found.append((match[1], match[2], match[3]))
            place = match.end()
        complete = False
    else:
        complete = True
    if not found:
        return Tree((), (), (), (), raw_object(b"tree", data) if data else None)
    modes, names, ids = zip(*found, strict=True)
    types, perms = zip(*map(_mode, modes), strict=True)
    targets = tuple(identifier.hex() for identifier in ids)
    same = complete and _is_canonical(modes, names, types)
    return Tree(names, types, targets, perms, None if same else raw_object(b"tree", data))


def _is_canonical(modes: Sequence[bytes], names: Sequence[bytes], types: Sequence[str]) -> bool:
    """Tell whether sorting the entries and writing them again gives the same bytes."""
    keys = [name + b"/" if kind == "dir" else name for name, kind in zip(names, types, strict=True)]
    return (
        keys == sorted(keys)
        and len(set(names)) == len(names)
        and not any(b"/" in name for name in names)
        and not any(mode.startswith(b"0") for mode in set(modes))
    )


def check_id(identifier: str, kind: bytes, data: bytes) -> None:
    """Compare an object's bytes with its id.

    Raises:
        SourceError: they give another id.

    """
    found = object_id(kind, data)
    if found != identifier:
        raise SourceError(f"its bytes give the id {found}")
