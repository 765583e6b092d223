"""Walk a repository's objects from its references and give the rows that the archive lacks.

1. Tags and commits: git's own list of commits is read in one go, and what commits name is followed as well, so
   that a damaged or cut history is read as far as it is there. Grafts and replacements play no part.
2. Trees, level by level below all new commits together, newest commit first; each object is read once.
3. Contents, ordered by extension and path (of the paths that an object has, the first found), so that one
   language's lie together and versions of a file, which git packs as differences, are neighbors. They are read by
   one thread and hashed by `threads`.

What is known is neither read nor walked below, unless some origin's last visit was partial: then a known directory
may lack its children, and everything is walked. Every object's id is computed again from its bytes. Memory: ids and
first paths of the new objects (about 250 bytes each), and batches.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from stack_platform.archive.blobs import is_binary
from stack_platform.archive.git.objects import Person, check_id, parse_commit, parse_tag, parse_tree
from stack_platform.archive.git.rows import Batches, Held
from stack_platform.archive.git.store import GitObject, Repository
from stack_platform.archive.hashing import Hashes, hash_bytes
from stack_platform.archive.sources import Progress, Reading, Rows
from stack_platform.errors import SourceError

_GROUP_BYTES, _GROUP_OBJECTS = 2 << 20, 256


@dataclass(frozen=True, slots=True)
class Holding:
    """What to hold of contents and of people."""

    max_content_bytes: int
    hold_binary: bool
    person: Person


class _Hashed(NamedTuple):
    id: str
    hashes: Hashes | None
    data: bytes | None
    problem: str


@dataclass(slots=True)
class Walk:
    """One reading of one repository."""

    repository: Repository
    origin: str
    visit: int
    held: Held
    holding: Holding
    reading: Reading
    problems: list[str] = field(default_factory=list)
    """what could not be read, less contents, which have rows of their own"""
    _batches: Batches = field(default_factory=Batches)
    _seen: set[str] = field(default_factory=set)
    _roots: list[tuple[int, str, str]] = field(default_factory=list)
    _trees: list[tuple[str, bytes]] = field(default_factory=list)
    _blobs: list[tuple[str, bytes]] = field(default_factory=list)
    _named: list[str] = field(default_factory=list)

    def rows(self, types: dict[str, str], known: Sequence[str]) -> Iterator[Rows]:
        """Give rows from the references' targets, whose types are given, down; `known` are earlier heads."""
        commits = self._new(i for i, kind in types.items() if kind == "revision")
        yield from self._read_tags([i for i, kind in types.items() if kind == "release"], commits)
        for identifier, kind in types.items():
            self._follow(identifier, kind, commits)
        yield from self._read_commits(commits, known)
        roots = sorted(self._roots, key=lambda root: (-root[0], root[1]))
        self._trees += [(root, b"") for _, _, root in roots if self._is_new(root)]
        yield from self._read_trees()
        self._blobs += [(identifier, b"") for identifier in self._new(self._named)]
        yield from self._read_contents()
        yield from self._batches.rest()

    def _is_new(self, identifier: str) -> bool:
        if identifier in self._seen:
            return False
        self._seen.add(identifier)
        return True

    def _new(self, ids: Iterable[str]) -> list[str]:
        return [identifier for identifier in ids if self._is_new(identifier)]

    def _follow(self, identifier: str, kind: str | None, commits: list[str]) -> None:
        """Note what a reference or a tag names, unless it is a tag."""
        if kind == "content":
            self._named.append(identifier)  # a tree may give it a path
        elif kind in ("revision", "directory") and self._is_new(identifier):
            if kind == "revision":
                commits.append(identifier)
            else:
                self._trees.append((identifier, b""))

    def _read(self, ids: Sequence[str], table: str, kind: bytes) -> Iterator[tuple[GitObject, bool]]:
        """Read objects that are to be walked, and tell which of them the archive lacks; note problems."""
        lacked = self.held.lacks(table, ids)
        new = set(lacked)
        for found in self.repository.read(lacked if self.held.closed else ids, 1 << 62):
            problem = found.problem
            if not problem and found.kind != kind:
                problem = f"is a {found.kind.decode()}"
            if not problem:
                try:
                    check_id(found.id, kind, found.data)
                except SourceError as error:
                    problem = f"is damaged: {error}"
            if problem:
                self.problems.append(f"{table} {found.id}: {problem}")
                continue
            if found.id in new:
                self.held.add(table, found.id)
            yield found, found.id in new

    def _read_tags(self, ids: list[str], commits: list[str]) -> Iterator[Rows]:
        while ids := self._new(ids):
            below: list[str] = []
            for found, new in self._read(ids, "release", b"tag"):
                tag = parse_tag(found.id, found.data, self.holding.person)
                if new:
                    self._batches.add("release", tag.release)
                if tag.target is not None and tag.target_type == "release":
                    below.append(tag.target)
                elif tag.target is not None:
                    self._follow(tag.target, tag.target_type, commits)
            ids = below
            yield from self._batches.full(self.reading.batch_bytes)

    def _read_commits(self, ids: list[str], known: Sequence[str]) -> Iterator[Rows]:
        ids += self._new(self.repository.history(ids, known if self.held.closed else ())) if ids else []
        cut = self.repository.shallow()
        while ids:
            above: list[str] = []
            for found, new in self._read(ids, "revision", b"commit"):
                commit = parse_commit(found.id, found.data, self.holding.person)
                if found.id not in cut:
                    above += self._new(commit.parents)
                if commit.directory is not None:
                    seconds = (commit.revision[7] or {}).get("seconds", 0)
                    self._roots.append((seconds, found.id, commit.directory))
                if new:
                    self._batches.add("revision", commit.revision)
                    for rank, parent in enumerate(commit.parents):
                        self._batches.add("revision_history", (found.id, parent, rank))
                    for key, value in commit.extra_headers:
                        self._batches.add("revision_extra_headers", (found.id, key, value))
                yield from self._batches.full(self.reading.batch_bytes)
            ids = above

    def _read_trees(self) -> Iterator[Rows]:
        seen, blobs = self._seen, self._blobs
        while self._trees:
            level, self._trees = dict(self._trees), []
            for found, new in self._read(list(level), "directory", b"tree"):
                tree = parse_tree(found.data)
                if new:
                    self._batches.add("directory", (found.id, tree.raw_manifest))
                    columns = ([found.id] * len(tree.names), tree.names, tree.types, tree.targets, tree.perms)
                    self._batches.extend("directory_entry", columns)
                    yield from self._batches.full(self.reading.batch_bytes)
                if seen.issuperset(tree.targets):
                    continue
                above = level[found.id] + b"/" if level[found.id] else b""
                for name, kind, target in zip(tree.names, tree.types, tree.targets, strict=True):
                    if target not in seen and kind != "rev":
                        seen.add(target)
                        (self._trees if kind == "dir" else blobs).append((target, above + name))

    def _read_contents(self) -> Iterator[Rows]:
        lacked = set(self.held.lacks("content", [identifier for identifier, _ in self._blobs]))
        paths = {identifier: path for identifier, path in self._blobs if identifier in lacked}
        self._blobs = []
        ids = sorted(paths, key=lambda identifier: (extension(paths[identifier]), paths[identifier]))
        files = size = 0
        for group in self._hashed(ids):
            for blob in group:
                self.held.add("content", blob.id)
                self._add_content(blob, paths[blob.id] or None)
                size += blob.hashes.length if blob.hashes else 0
            files += len(group)
            yield from self._batches.full(self.reading.batch_bytes)
            if self.reading.progress is not None:
                self.reading.progress(Progress(files, len(ids), size, 0))

    def _add_content(self, blob: _Hashed, path: bytes | None) -> None:
        if blob.problem:
            known = blob.hashes or (None, blob.id, None, None, None)
            seen = (self.origin, path, self.visit)
            self._batches.add("skipped_content", (*known, "absent", blob.problem, *seen))
        else:
            assert blob.hashes is not None
            self._batches.add("content", (*blob.hashes, "visible", blob.data), len(blob.data or b""))

    def _hashed(self, ids: list[str]) -> Iterator[list[_Hashed]]:
        """Read in one thread and hash in others, in order; a few groups are under way."""

        def hash_group(group: list[GitObject]) -> list[_Hashed]:
            return [hash_blob(found, self.holding) for found in group]

        groups = _groups(self.repository.read(ids, self.holding.max_content_bytes))
        with ThreadPoolExecutor(self.reading.threads, thread_name_prefix="git") as pool:
            under_way: deque[Future[list[_Hashed]]] = deque()
            for group in groups:
                under_way.append(pool.submit(hash_group, group))
                if len(under_way) > 2 * self.reading.threads:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()


def hash_blob(found: GitObject, holding: Holding) -> _Hashed:
    """Hash a blob, and say whether its bytes are held."""
    if found.problem or found.kind != b"blob":
        return _Hashed(found.id, None, None, found.problem or f"is a {found.kind.decode()}")
    hashes = found.hashes or hash_bytes(found.data)
    if hashes.sha1_git != found.id:
        return _Hashed(found.id, None, None, f"damaged: its bytes give the id {hashes.sha1_git}")
    if hashes.length > holding.max_content_bytes:
        limit = f"too large: {hashes.length} bytes, the limit is {holding.max_content_bytes}"
        return _Hashed(found.id, hashes, None, limit)
    data = found.data if holding.hold_binary or not is_binary(found.data) else None
    return _Hashed(found.id, hashes, data, "")


def extension(path: bytes) -> bytes:
    """Give what follows the last dot of a file's name, in lower case."""
    name = path.rpartition(b"/")[2].lower()
    return name.rpartition(b".")[2] if b"." in name[1:] else b""


def _groups(objects: Iterator[GitObject]) -> Iterator[list[GitObject]]:
    group: list[GitObject] = []
    size = 0
    for found in objects:
        group.append(found)
        size += len(found.data)
        if size >= _GROUP_BYTES or len(group) >= _GROUP_OBJECTS:
            yield group
            group, size = [], 0
    if group:
        yield group
