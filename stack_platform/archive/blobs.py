"""Read and hash many files with a few threads, and give the results in a fixed order.

Files up to the limit are read whole and hashed; longer ones are hashed as a stream and never held. Small files
travel in groups, at most a few groups are under way, so memory is bounded by the groups, not by the source. The
long ones start first, in the background: nothing waits for them but the end.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from stack_platform.archive.hashing import Hashes, hash_bytes, hash_file
from stack_platform.archive.trees import LINK, SourceFile, unreadable
from stack_platform.errors import SourceError

_BINARY_PREFIX = 8000  # bytes in which git looks for a NUL
_GROUP_BYTES = 2 << 20
_GROUP_FILES = 256
_OPEN = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class Located(NamedTuple):
    """A file of a source and where it belongs."""

    tree: int
    """number of the release that it belongs to"""
    place: int
    """its number among the files of the release"""
    local: str
    """where the bytes lie on this machine"""
    file: SourceFile
    text: bool = False
    """a link's text is a file of its own"""


class Blob(NamedTuple):
    """What reading a file gave: hashes unless it was impossible, data where it is to be held."""

    located: Located
    hashes: Hashes | None
    data: bytes | None
    problem: str


def is_binary(data: bytes) -> bool:
    """Tell binary from text as git does: a NUL in the first 8000 bytes."""
    return b"\0" in data[:_BINARY_PREFIX]


def read_blob(located: Located, max_content_bytes: int, hold_binary: bool) -> Blob:
    """Read and hash one file; what goes wrong becomes a problem, never an exception."""
    file = located.file
    if file.problem:
        return Blob(located, None, None, file.problem)
    path = located.local
    try:
        if file.perms == LINK and not located.text:
            data = os.fsencode(os.readlink(path))  # noqa: PTH115  a Path would tidy the text
        elif file.length > max_content_bytes:
            return _too_large(located, path, max_content_bytes)
        else:
            with open(os.open(path, _OPEN), "rb", buffering=0) as stream:  # noqa: PTH123  not through a new link
                if os.fstat(stream.fileno()).st_size > max_content_bytes:
                    return _too_large(located, path, max_content_bytes)
                data = stream.read() or b""
    except FileNotFoundError:
        return Blob(located, None, None, "missing")
    except OSError as error:
        return Blob(located, None, None, unreadable(error))
    except SourceError:
        return Blob(located, None, None, "unreadable: it changed while it was read")
    held = data if hold_binary or not is_binary(data) else None
    return Blob(located, hash_bytes(data), held, "")


def _too_large(located: Located, path: str, max_content_bytes: int) -> Blob:
    hashes = hash_file(path)
    return Blob(located, hashes, None, f"too large: {hashes.length} bytes, the limit is {max_content_bytes}")


def read_in_order(
    files: Iterable[Located], long: Sequence[Located], limits: tuple[int, bool], threads: int
) -> Iterator[list[Blob]]:
    """Give groups of results in order: first the `files`, then the `long` ones; limits as for `read_blob`."""

    def read(group: list[Located]) -> list[Blob]:
        return [read_blob(located, *limits) for located in group]

    groups = _groups(files)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="archive")
    try:
        background = {
            id(located): pool.submit(read, [located])
            for located in sorted(long, key=lambda item: item.file.length, reverse=True)
        }
        under_way: deque[Future[list[Blob]]] = deque(
            pool.submit(read, group) for group in islice(groups, 2 * threads)
        )
        while under_way:
            yield under_way.popleft().result()
            under_way.extend(pool.submit(read, group) for group in islice(groups, 1))
        for located in long:
            yield background[id(located)].result()
    finally:
        pool.shutdown(cancel_futures=True)


def _groups(files: Iterable[Located]) -> Iterator[list[Located]]:
    group: list[Located] = []
    size = 0
    for located in files:
        group.append(located)
        size += located.file.length
        if size >= _GROUP_BYTES or len(group) >= _GROUP_FILES:
            yield group
            group, size = [], 0
    if group:
        yield group
