"""Reach a folder, a web server or an S3 bucket through one interface (obstore's).

``s3://bucket/prefix`` is read without credentials (`skip_signature`), at Amazon or at any compatible endpoint;
``https://host/prefix`` and ``http://`` are read by plain GETs and cannot be listed; anything else is a folder.
`ObjectFile` lets pyarrow and pyorc read a table file of a store by ranges, so that only the chosen columns travel.
"""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import HTTPStore, LocalStore, ObjectStore, S3Store

from stack_platform.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_TAIL = 64 << 10  # bytes at the end of a table file that are read at once: footers lie there
_TRIES = 4  # reads of a range whose body was cut; obstore itself retries what failed before the body


class StoredFile(NamedTuple):
    """One object of a store."""

    path: str
    """relative to the store's root"""
    size: int
    """bytes"""
    etag: str
    """what the store says changes with the bytes; empty for a folder, where it would hold a time"""


def check_location(location: str, what: str) -> None:
    """Refuse what is neither an existing folder nor a URL that can be read.

    Raises:
        ConfigError: it is not.

    """
    scheme, rest = location.partition("://")[::2] if "://" in location else ("", location)
    if not location.strip():
        raise ConfigError(f"{what} is empty; write a folder, s3://bucket/prefix or https://host/prefix")
    if scheme in ("s3", "http", "https"):
        if not _has_host(location):
            raise ConfigError(f"{what} {location!r} names no bucket or host; write s3://bucket/prefix")
    elif scheme:
        raise ConfigError(
            f"{what} {location!r} has the scheme {scheme!r}; s3, https and http URLs and folders can be read"
        )
    elif not Path(rest).is_dir():
        raise ConfigError(f"{what} {location!r} is neither a folder nor a URL such as s3://bucket/prefix")


def _has_host(location: str) -> bool:
    try:
        return bool(urlsplit(location).hostname)
    except ValueError:
        return False


def open_store(
    location: str,
    endpoint: str | None = None,
    region: str = "us-east-1",
    timeout_s: float = 60,
    retries: int = 8,
) -> ObjectStore:
    """Open the store behind a folder or URL; `endpoint` and `region` are for ``s3://``.

    Raises:
        ConfigError: the location or the endpoint is none that can be read.

    """
    check_location(location, "the location")
    client: ClientConfig = {
        "allow_http": (endpoint or location).startswith("http://"),
        "timeout": timedelta(seconds=timeout_s),
        "connect_timeout": timedelta(seconds=min(timeout_s, 10)),
    }
    retry: RetryConfig = {
        "max_retries": retries,
        "retry_timeout": timedelta(seconds=timeout_s * (retries + 1)),
    }
    try:
        if location.startswith("s3://"):
            bucket, _, prefix = location.removeprefix("s3://").partition("/")
            return S3Store(
                bucket,
                prefix=prefix.strip("/") or None,
                endpoint=endpoint,
                region=region,
                skip_signature=True,
                virtual_hosted_style_request=False,
                client_options=client,
                retry_config=retry,
            )
        if location.startswith(("http://", "https://")):
            return HTTPStore(location, client_options=client, retry_config=retry)
        return LocalStore(Path(location).absolute())
    except (BaseError, ValueError) as error:
        raise ConfigError(
            f"{location!r} (endpoint {endpoint!r}) cannot be opened: {_first_line(error)}"
        ) from error


def folders_and_files(store: ObjectStore, prefix: str = "") -> tuple[list[str], list[StoredFile]]:
    """List what lies directly under a prefix: names of folders, and files; ordered.

    Raises:
        SourceError: the store does not answer or cannot be listed.

    """
    with reading_errors(f"listing {prefix or 'the location'!r}"):
        found = obstore.list_with_delimiter(store, prefix or None)
    local = isinstance(store, LocalStore)
    files = [
        StoredFile(meta["path"], meta["size"], "" if local else meta["e_tag"] or "")
        for meta in found["objects"]
    ]
    return sorted(str(name).rpartition("/")[2] for name in found["common_prefixes"]), sorted(files)


@contextmanager
def reading_errors(doing: str) -> Iterator[None]:
    """Turn what obstore raises into a SourceError that says what was being done."""
    try:
        yield
    except BaseError as error:
        raise SourceError(
            f"{doing} failed: {_first_line(error)}; check the location, its endpoint and the network"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


class ObjectFile(io.RawIOBase):
    """Read-only file over the ranges of one object; the end, where footers lie, is read once and kept."""

    def __init__(self, store: ObjectStore, file: StoredFile) -> None:
        self._store, self._file = store, file
        self._place = 0
        self._tail_start = max(file.size - _TAIL, 0)
        self._tail: bytes | None = None

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read anywhere."""
        return True

    def tell(self) -> int:
        """Give the place of the next read."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the place of the next read."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._file.size}[whence]
        self._place = max(base + offset, 0)
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes from the place."""
        end = self._file.size if size is None or size < 0 else min(self._place + size, self._file.size)
        start, self._place = self._place, max(end, self._place)
        if start >= end:
            return b""
        if start >= self._tail_start:
            if self._tail is None:
                self._tail = self._range(self._tail_start, self._file.size)
            return self._tail[start - self._tail_start : end - self._tail_start]
        return self._range(start, end)

    def _range(self, start: int, end: int) -> bytes:
        return retried(lambda: bytes(obstore.get_range(self._store, self._file.path, start=start, end=end)))


def retried(read: Callable[[], bytes]) -> bytes:
    """Read again where a body was cut."""
    for _ in range(_TRIES - 1):
        try:
            return read()
        except (FileNotFoundError, PermissionError):
            raise
        except BaseError:
            continue
    return read()
