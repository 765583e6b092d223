"""Download contents of a Software Heritage export: many at a time, verified, and never twice.

The object ``<sha1>`` is the content compressed by gzip. A received object counts when its bytes have the sha1_git
and the length that the export states; they are unpacked no further than that length, so a small object cannot
become a large one. It is then kept in a ledger as it was received, and a later run asks for nothing it has.

What fails is asked again after a pause that doubles and is drawn at random below that (the pauses of many clients
do not fall together): server errors, time-outs, reset connections, bodies cut short. Objects longer than
`large_bytes` go on where they were cut, by a range request, also in a later run. What a repetition does not change
is permanent and remembered: no such object, access denied, an unknown compression, and bytes that are wrong every
time. When nothing arrives any more, a run ends with an error rather than asking for a million objects in vain.
"""

import asyncio
import random
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import obstore
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import ObjectStore

from stack_platform.archive.ledger import Failure, Ledger, Part
from stack_platform.archive.swhid import object_id
from stack_platform.errors import ConfigError, SourceError

_GZIP = b"\x1f\x8b"
_MAGICS = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
    b"\x04\x22\x4d\x18": "lz4",
}
_CHUNK = 1  # bytes of a long object to wait for before writing: what has arrived is kept
_APART = 256 << 10  # longer objects are verified beside the event loop
_DENIED = (PermissionDeniedError, UnauthenticatedError, PermissionError)
_ABSENT = (NotFoundError, FileNotFoundError)


@dataclass(frozen=True, slots=True)
class DownloadConfig:
    """How to download.

    Raises:
        ConfigError: a number is not positive.

    """

    in_flight: int = 48
    """requests under way at a time"""
    attempts: int = 10
    """requests for one object before it is given up for this run"""
    wrong_attempts: int = 3
    """requests after which bytes that are still wrong count as wrong for good"""
    first_pause_s: float = 0.05
    """longest pause before the second request, seconds; doubled each time"""
    longest_pause_s: float = 10.0
    """bound of the doubling, seconds"""
    large_bytes: int = 1 << 20
    """objects that are longer are written while they arrive and continued where they were cut"""
    hopeless: int = 64
    """failures in a row, without one arrival, after which the run ends with an error"""

    def __post_init__(self) -> None:
        for name in ("in_flight", "attempts", "wrong_attempts", "large_bytes", "hopeless"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; write 1 or more")
        if self.first_pause_s < 0 or self.longest_pause_s < self.first_pause_s:
            raise ConfigError(
                f"first_pause_s is {self.first_pause_s} and longest_pause_s {self.longest_pause_s}; "
                "write 0 <= first_pause_s <= longest_pause_s"
            )


class Wanted(NamedTuple):
    """A content to download."""

    sha1: str
    """name of the object, 40 hexadecimal digits"""
    sha1_git: str
    """what its bytes must hash to as git's blob"""
    length: int
    """its bytes, unpacked"""


class Downloaded(NamedTuple):
    """What a run did."""

    asked: int
    """objects that the ledger lacked"""
    arrived: int
    permanent: int
    """failures that are remembered"""
    transient: int
    """failures that the next run asks for again"""
    bytes: int
    """of the objects that arrived, as received"""


class Damaged(Exception):  # noqa: N818  it never leaves the room: a state of received bytes, not an error of ours
    """Received bytes are not the content; `final` where asking again cannot help."""

    def __init__(self, reason: str, final: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.final = reason, final


def unpack(data: bytes, limit: int) -> bytes:
    """Decompress gzip (one member or several) up to a length.

    Raises:
        Damaged: the bytes are no gzip, are incomplete, or give more than `limit` bytes.

    """
    if not data.startswith(_GZIP):
        named = next((name for magic, name in _MAGICS.items() if data.startswith(magic)), None)
        shown = (
            f"it begins with {data[:4].hex()}" + (f" ({named})" if named else "") if data else "it is empty"
        )
        raise Damaged(f"unknown compression: {shown}, not with 1f8b (gzip)", final=bool(data))
    unpacked = bytearray()
    while data:
        member = zlib.decompressobj(wbits=31)
        try:
            unpacked += member.decompress(data, limit + 1 - len(unpacked))
        except zlib.error as error:
            raise Damaged(f"corrupt gzip: {error}") from None
        if len(unpacked) > limit:
            raise Damaged(f"longer than {limit} bytes")
        if not member.eof:
            raise Damaged("corrupt gzip: it ends too early")
        data = member.unused_data
    return bytes(unpacked)


def verified(data: bytes, sha1_git: str, limit: int) -> bytes:
    """Give the content that received bytes hold, unpacked unless the way here unpacked them already.

    Raises:
        Damaged: they are not the content with that sha1_git.

    """
    problem = Damaged("")
    try:
        content = unpack(data, limit)
        actual = object_id(b"blob", content)
        if actual == sha1_git:
            return content
        problem = Damaged(f"wrong hash: the bytes hash to {actual}")
    except Damaged as damaged:
        problem = damaged
    if len(data) <= limit and object_id(b"blob", data) == sha1_git:
        return data
    raise problem


def is_content(data: bytes, sha1_git: str) -> bool:
    """Tell whether received bytes hold a content, for a ledger that recovers."""
    try:
        verified(data, sha1_git, 1 << 31)
    except Damaged:
        return False
    return True


def download(
    store: ObjectStore,
    wanted: Iterable[Wanted],
    ledger: Ledger,
    config: DownloadConfig = DownloadConfig(),
    arrived: Callable[[int], None] | None = None,
) -> Downloaded:
    """Fetch what the ledger lacks; `arrived` is called with the bytes of each object.

    The store should not retry by itself, for retries are counted here. Failures are left in the ledger.

    Raises:
        SourceError: nothing arrives, or the disk is full or cannot be written; what is complete is kept.

    """
    run = _Run(store, ledger, config, arrived)
    # a thread of its own: the caller may be inside of an event loop
    with ThreadPoolExecutor(1, thread_name_prefix="download") as thread:
        return thread.submit(asyncio.run, run.all(iter(wanted))).result()


class _Run:
    def __init__(
        self,
        store: ObjectStore,
        ledger: Ledger,
        config: DownloadConfig,
        arrived: Callable[[int], None] | None,
    ) -> None:
        self.store, self.ledger, self.config, self.arrived = store, ledger, config, arrived
        self.counts = {"asked": 0, "arrived": 0, "permanent": 0, "transient": 0, "bytes": 0}
        self.failed_in_a_row = 0
        self.early: list[
            tuple[str, Failure]
        ] = []  # failures before the first arrival: the address may be wrong

    async def all(self, wanted: Iterator[Wanted]) -> Downloaded:
        workers = [asyncio.create_task(self.work(wanted)) for _ in range(self.config.in_flight)]
        done, pending = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
        for worker in pending:
            worker.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        problems = [problem for worker in done if (problem := worker.exception()) is not None]
        if problems:
            raise problems[0]
        self.note_early()
        self.ledger.commit()
        return Downloaded(**self.counts)

    async def work(self, wanted: Iterator[Wanted]) -> None:
        for item in wanted:
            if not self.ledger.wants(item.sha1_git):
                continue
            self.counts["asked"] += 1
            try:
                data = await self.fetch(item)
            except _GivenUp as given_up:
                self.fail(item, given_up.failure)
                continue
            self.ledger.put(item.sha1, item.sha1_git, data)
            self.failed_in_a_row = 0
            self.note_early()
            self.counts["arrived"] += 1
            self.counts["bytes"] += len(data)
            if self.arrived is not None:
                self.arrived(len(data))

    def fail(self, item: Wanted, failure: Failure) -> None:
        self.counts["permanent" if failure.permanent else "transient"] += 1
        self.failed_in_a_row += 1
        if self.counts["arrived"]:
            self.ledger.fail(item.sha1_git, failure)
        else:
            self.early.append((item.sha1_git, failure))
        if self.failed_in_a_row >= self.config.hopeless:
            raise SourceError(
                f"the last {self.failed_in_a_row} contents could not be had ({self.counts['arrived']} could before), "
                f"the last one, {item.sha1}: {failure.reason}; check where contents are read from, and run again: "
                "what arrived is kept"
            )

    def note_early(self) -> None:
        for sha1_git, failure in self.early:
            self.ledger.fail(sha1_git, failure)
        self.early.clear()

    async def fetch(self, item: Wanted) -> bytes:
        """Ask until the object is here and right."""
        wrong = 0
        failure = Failure("", False)
        for attempt in range(self.config.attempts):
            if attempt:
                await asyncio.sleep(self.pause(attempt))
            try:
                data = await self.receive(item)
                await self.check(data, item)
            except _ABSENT:
                raise _GivenUp(Failure("missing: the store has no such object", True)) from None
            except _DENIED:
                raise _GivenUp(Failure("access denied", True)) from None
            except InvalidPathError as error:
                raise _GivenUp(Failure(f"impossible name: {error}", True)) from None
            except Damaged as damaged:
                self.ledger.drop_part(item.sha1)
                wrong += 1
                final = damaged.final or wrong >= self.config.wrong_attempts
                failure = Failure(damaged.reason, final)
                if final:
                    break
            except (BaseError, OSError) as error:
                if isinstance(error, PreconditionError):
                    self.ledger.drop_part(item.sha1)  # the object changed since the part was begun
                failure = Failure(f"after {attempt + 1} requests: {_reason(error)}", False)
            else:
                return data
        raise _GivenUp(failure)

    def pause(self, attempt: int) -> float:
        longest = min(self.config.first_pause_s * 2 ** (attempt - 1), self.config.longest_pause_s)
        return random.uniform(0, longest)

    async def check(self, data: bytes, item: Wanted) -> None:
        if len(data) < _APART and item.length < _APART:
            content = verified(data, item.sha1_git, item.length)
        else:
            content = await asyncio.to_thread(verified, data, item.sha1_git, item.length)
        if len(content) != item.length:
            raise Damaged(f"wrong length: {len(content)} bytes, the export says {item.length}")

    async def receive(self, item: Wanted) -> bytes:
        """Ask once; a long object goes on from what is there."""
        part = self.ledger.part(item.sha1)
        if part is not None and part.etag and part.path.stat().st_size < part.size:
            return await self.go_on(item, part)
        result = await obstore.get_async(self.store, item.sha1)
        size = result.meta["size"]
        if size <= self.config.large_bytes:
            return bytes(await result.bytes_async())
        part = self.ledger.begin_part(item.sha1, result.meta["e_tag"] or "", size)
        return await self.write(item, part, result)

    async def go_on(self, item: Wanted, part: Part) -> bytes:
        offset = part.path.stat().st_size
        options: dict[str, Any] = {"range": {"offset": offset}, "if_match": part.etag}
        result = await obstore.get_async(self.store, item.sha1, options=options)  # type: ignore[arg-type]
        if result.range[0] != offset:
            part = self.ledger.begin_part(item.sha1, part.etag, part.size)  # the server ignored the range
        return await self.write(item, part, result)

    async def write(self, item: Wanted, part: Part, result: "obstore.GetResult") -> bytes:
        async for chunk in result.stream(min_chunk_size=_CHUNK):
            self.ledger.append_part(part, bytes(chunk))
        data = part.path.read_bytes()
        if len(data) < part.size:
            raise ConnectionError(f"the body ended after {len(data)} of {part.size} bytes")
        self.ledger.drop_part(item.sha1)
        return data


class _GivenUp(Exception):  # noqa: N818  tells one worker to go on to the next object
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


def _reason(error: Exception) -> str:
    """Give the first line of an error without the address, which may differ from run to run."""
    text = str(error).strip().partition("\n")[0]
    for mark in ("status ", "Status "):
        if mark in text:
            return f"the server answered {text.partition(mark)[2][:60]}"
    return text[:120] or type(error).__name__
