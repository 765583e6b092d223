"""An object store that fails on purpose, for tests and benchmarks.

It serves a folder as an S3-compatible store does, path style and without signatures: GET, HEAD, ranges, If-Match,
and ListObjectsV2 (`/<bucket>/<key>` is the file `<root>/<bucket>/<key>`). A share of the GETs answers 503, and a
share ends in the middle of the body although Content-Length promised all of it. What was asked for and what was
sent is counted by path. Run as a program it serves until it is ended, and tells its port on the first line.
"""

import argparse
import asyncio
import hashlib
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass
class Faults:
    """What goes wrong, in shares of the GETs of objects."""

    unavailable: float = 0.0
    truncated: float = 0.0
    forbidden: frozenset[str] = frozenset()
    """paths that answer 403"""
    broken: frozenset[str] = frozenset()
    """paths that answer 500 whenever asked"""
    pause_s: float = 0.0
    """pause before each chunk of 64 KiB"""
    seed: int = 0


@dataclass
class Counts:
    """What the server saw."""

    requests: Counter[str] = field(default_factory=Counter)
    bytes_sent: Counter[str] = field(default_factory=Counter)
    ranges: list[tuple[str, str]] = field(default_factory=list)
    listings: int = 0

    def clear(self) -> None:
        self.requests.clear()
        self.bytes_sent.clear()
        self.ranges.clear()
        self.listings = 0


class ObjectServer:
    """The server, in a thread of its own."""

    def __init__(self, root: Path, faults: Faults | None = None) -> None:
        self.root = root
        self.faults = faults or Faults()
        self.counts = Counts()
        self.random = random.Random(self.faults.seed)
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                method, target, _ = lines[0].split(" ", 2)
                headers = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in lines[1:])
                }
                if not await self._answer(method, target, headers, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, method: str, target: str, headers: dict[str, str], writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; False: the connection is to be cut."""
        parts = urlsplit(target)
        query = parse_qs(parts.query)
        path = unquote(parts.path).strip("/")
        if "list-type" in query:
            self.counts.listings += 1
            return await _send(
                writer, 200, self._listing(path, query), {"Content-Type": "application/xml"}, method
            )
        file = self.root / path
        if path in self.faults.forbidden:
            return await self._count(path, await _send(writer, 403, b"<Error/>", {}, method))
        if path in self.faults.broken:
            return await self._count(path, await _send(writer, 500, b"<Error/>", {}, method))
        if not file.is_file():
            return await self._count(
                path, await _send(writer, 404, b"<Error><Code>NoSuchKey</Code></Error>", {}, method)
            )
        if method == "GET" and self.random.random() < self.faults.unavailable:
            return await self._count(
                path, await _send(writer, 503, b"<Error><Code>SlowDown</Code></Error>", {}, method)
            )
        return await self._object(method, path, file.read_bytes(), headers, writer)

    async def _count(self, path: str, going_on: bool) -> bool:
        self.counts.requests[path] += 1
        return going_on

    async def _object(
        self, method: str, path: str, data: bytes, headers: dict[str, str], writer: asyncio.StreamWriter
    ) -> bool:
        self.counts.requests[path] += 1
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        given = {"ETag": etag, "Last-Modified": "Sat, 01 Jan 2022 00:00:00 GMT", "Accept-Ranges": "bytes"}
        if headers.get("if-match", etag) != etag:
            return await _send(writer, 412, b"", given, method)
        status, total = 200, len(data)
        if wanted := headers.get("range", "").removeprefix("bytes="):
            self.counts.ranges.append((path, wanted))
            first, _, last = wanted.partition("-")
            start = int(first) if first else max(total - int(last), 0)
            end = min(int(last) + 1, total) if first and last else total
            if start >= total:
                return await _send(writer, 416, b"", given, method)
            data, status = data[start:end], 206
            given["Content-Range"] = f"bytes {start}-{end - 1}/{total}"
        if method == "HEAD":
            return await _send(writer, status, data, given, method)
        cut = len(data) // 2 if data and self.random.random() < self.faults.truncated else None
        await _send(writer, status, data, given, "HEAD")
        for offset in range(0, len(data), 1 << 16):
            chunk = data[offset : min(offset + (1 << 16), len(data) if cut is None else cut)]
            if self.faults.pause_s:
                await asyncio.sleep(self.faults.pause_s)
            writer.write(chunk)
            self.counts.bytes_sent[path] += len(chunk)
            await writer.drain()
            if cut is not None and offset + (1 << 16) >= cut:
                return False
        return True

    def _listing(self, bucket: str, query: dict[str, list[str]]) -> bytes:
        """Give one page of ListObjectsV2; the continuation token is the last key."""
        prefix = query.get("prefix", [""])[0]
        delimiter = query.get("delimiter", [""])[0]
        most = int(query.get("max-keys", ["1000"])[0])
        after = query.get("continuation-token", query.get("start-after", [""]))[0]
        folder = self.root / bucket
        names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        contents: list[str] = []
        prefixes: set[str] = set()
        last, truncated = "", False
        for key in sorted(name for name in names if name.startswith(prefix) and name > after):
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            if end >= 0:
                prefixes.add(key[: end + 1])
                continue
            if len(contents) == most:
                truncated = True
                break
            last = key
            size = (folder / key).stat().st_size
            contents.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>2022-01-01T00:00:00.000Z</LastModified>"
                f"<ETag>&quot;{hashlib.md5(key.encode()).hexdigest()}&quot;</ETag><Size>{size}</Size></Contents>"
            )
        token = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>" if truncated else ""
        common = "".join(
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(prefixes)
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            f"<ListBucketResult><Name>{escape(bucket)}</Name><Prefix>{escape(prefix)}</Prefix>"
            f"<KeyCount>{len(contents) + len(prefixes)}</KeyCount><MaxKeys>{most}</MaxKeys>"
            f"<IsTruncated>{str(truncated).lower()}</IsTruncated>{token}{''.join(contents)}{common}"
            "</ListBucketResult>"
        ).encode()


async def _send(
    writer: asyncio.StreamWriter, status: int, body: bytes, headers: dict[str, str], method: str
) -> bool:
    lines = [
        f"HTTP/1.1 {status} X",
        *(f"{name}: {value}" for name, value in headers.items()),
        f"Content-Length: {len(body)}",
    ]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    writer.write(head if method == "HEAD" else head + body)
    await writer.drain()
    return True


def main() -> None:
    """Serve a folder until ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--unavailable", type=float, default=0.0)
    parser.add_argument("--truncated", type=float, default=0.0)
    given = parser.parse_args()
    with ObjectServer(given.root, Faults(given.unavailable, given.truncated)) as server:
        print(server.port, flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
