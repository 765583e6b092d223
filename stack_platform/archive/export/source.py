"""A Software Heritage export as a source: downloaded into a folder, or public on S3.

From an allow-list of origins: their visits, the snapshots and branches, the head's releases and revisions, the
directories below level by level, the contents of their files. Every step is one pass over one table, by column
projection, for all origins at once; nothing grows with the export but the time to scan it. Ids and rows are the
export's own, visits keep their numbers and dates, and only what the archive lacks is given. An object that the
export or the object store lacks is a row of skipped_content, and the visits that need it are `partial`.

Layout and tables: https://docs.softwareheritage.org/devel/swh-export/graph/. The public export of 500 popular Python
repositories (36 GiB of tables) is the target to begin with: ``location=POPULAR_PYTHON, contents=CONTENTS``.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from stack_platform.archive.downloads import DownloadConfig, is_content
from stack_platform.archive.export.contents import Bytes
from stack_platform.archive.export.reading import Chosen, ExportReading
from stack_platform.archive.export.tables import FORMATS, ExportTables
from stack_platform.archive.export.walk import Workspace
from stack_platform.archive.ledger import Ledger
from stack_platform.archive.remote import check_location, open_store
from stack_platform.archive.sources import Known, Reading, Rows
from stack_platform.errors import ConfigError

POPULAR_PYTHON = "s3://softwareheritage/graph/2024-08-23-popular-500-python"
CONTENTS = "s3://softwareheritage/content"
FORMAT = "export/1"  # part of every fingerprint: raise it when the same export gives other rows

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """Which export to read, and what of it.

    Raises:
        ConfigError: a location, URL, name or number is none that can be used.

    """

    location: str
    """folder or ``s3://bucket/prefix`` that holds ``parquet`` or ``orc``, or the tables themselves"""
    contents: str | None = None
    """folder, ``s3://`` or ``https://`` URL of the objects ``<sha1>``; None: only bytes that the export holds"""
    origins: tuple[str, ...] = ()
    """URLs to take, exact or with ``*`` for anything; empty, and no `origins_file`: all"""
    origins_file: str | None = None
    """file with one such URL per line; lines that start with # do not count"""
    visits: str = "latest"
    """``latest``: the newest full visit of each origin; ``all``: each visit that found a new snapshot"""
    branches: tuple[str, ...] = ("HEAD", "refs/heads/main", "refs/heads/master", "main", "master")
    """branches in the order of preference; the first that ends at a directory is read (The Stack v2 takes
    main or master)"""
    format: str = "auto"
    """``parquet`` or ``orc``; ``auto``: Parquet where there are both"""
    endpoint: str | None = None
    """URL of an S3-compatible store; None: Amazon"""
    region: str = "us-east-1"
    """region of the bucket"""
    max_content_bytes: int = 10 * 1024 * 1024
    """longest content to hold, bytes (The Stack v2: 10 MiB); longer ones are reported"""
    hold_binary: bool = False
    """hold the bytes of contents with a NUL in the first 8000 bytes, too"""
    in_flight: int = 48
    """contents requested at a time"""
    attempts: int = 10
    """requests for one content before it is left to the next reading"""
    memory_bytes: int = 2 << 30
    """memory for joins, bytes; more goes to disk"""

    def __post_init__(self) -> None:
        check_location(self.location, "location")
        if self.location.startswith(("http://", "https://")):
            raise ConfigError(
                f"location {self.location!r} cannot be listed; write s3://bucket/prefix with `endpoint`, or a folder"
            )
        if self.contents is not None:
            check_location(self.contents, "contents")
        for name, value, values in (
            ("visits", self.visits, ("latest", "all")),
            ("format", self.format, ("auto", *FORMATS)),
        ):
            if value not in values:
                raise ConfigError(f"{name} is {value!r}; write one of {', '.join(values)}")
        if not self.branches:
            raise ConfigError("branches is empty; name at least one, such as HEAD")
        if self.endpoint is not None and not re.fullmatch(r"https?://[^/\s]+\S*", self.endpoint):
            raise ConfigError(f"endpoint is {self.endpoint!r}; write a URL such as https://s3.example.org")
        if self.max_content_bytes < 1 or self.memory_bytes < 64 << 20:
            raise ConfigError(
                f"max_content_bytes is {self.max_content_bytes} and memory_bytes {self.memory_bytes}; "
                "write at least 1 and 64 MiB"
            )
        DownloadConfig(self.in_flight, self.attempts)
        self.patterns()

    def patterns(self) -> tuple[str, ...]:
        """Give the URLs and patterns of the allow-list.

        Raises:
            ConfigError: one is no URL, or the file cannot be read or is empty.

        """
        given = list(self.origins)
        if self.origins_file is not None:
            try:
                lines = Path(self.origins_file).read_text().splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"origins_file {self.origins_file!r} cannot be read: {error}") from error
            listed = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
            if not listed:
                raise ConfigError(
                    f"origins_file {self.origins_file!r} names no origin; write one URL per line"
                )
            given += listed
        for url in given:
            if "*" not in url and not _URL.fullmatch(url):
                raise ConfigError(
                    f"the origin {url!r} is no URL; write one such as https://example.org/repository"
                )
        return tuple(given)

    def open(self) -> "Export":
        """Give the source."""
        return Export(self)


class Export:
    """The export as a `Source`."""

    def __init__(self, config: ExportConfig) -> None:
        """Prepare; nothing is read yet."""
        self._config = config

    def _tables(self) -> ExportTables:
        config = self._config
        store = open_store(config.location, config.endpoint, config.region)
        return ExportTables(store, config.location, config.format)

    def _chosen(self) -> Chosen:
        config = self._config
        store = None
        if config.contents is not None:
            endpoint = config.endpoint if config.contents.startswith("s3://") else None
            store = open_store(config.contents, endpoint, config.region, retries=0)
        downloads = DownloadConfig(config.in_flight, config.attempts)
        held = Bytes(store, downloads, config.max_content_bytes, config.hold_binary)
        return Chosen(config.location, config.patterns(), config.visits == "all", config.branches, held)

    def fingerprint(self) -> str:
        """Digest the listing of the export and the settings.

        Raises:
            SourceError: the export cannot be listed, or is none.

        """
        settings = asdict(self._config)
        for name in ("location", "endpoint", "origins_file", "in_flight", "attempts", "memory_bytes"):
            del settings[name]
        settings["contents"] = bool(self._config.contents)
        settings["origins"] = self._config.patterns()
        stated = json.dumps([FORMAT, settings, self._tables().digest()], sort_keys=True)
        return hashlib.sha256(stated.encode()).hexdigest()

    def read(self, known: Known, reading: Reading) -> Iterator[Rows]:
        """Give the rows that `known` lacks.

        Raises:
            SourceError: the export cannot be read, or no content can be had from where they should be.
            ConfigError: a setting cannot be used.

        """
        if reading.visit_date is not None and reading.visit_date.tzinfo is None:
            raise ConfigError(
                f"visit_date {reading.visit_date.isoformat()} has no time zone; add one, as in '+00:00'"
            )
        tables = self._tables()
        with ExitStack() as stack:
            scratch = reading.scratch or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            ledger = stack.enter_context(Ledger(scratch / "contents", is_content))
            ledger.forget(known.contents.lacks)
            folder = scratch / "walk"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            workspace = stack.enter_context(Workspace(folder, reading.threads, self._config.memory_bytes))
            yield from ExportReading(self._chosen(), tables, workspace, known, reading).read(ledger)
