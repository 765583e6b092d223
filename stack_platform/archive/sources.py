"""What every source of code is to the archive: something that tells whether it changed, and gives what is new.

A source (installed distributions, folders, archives, git repositories, a Software Heritage export) writes rows of
the archive's tables. The archive only grows: a source is told what is known of it already and gives the rest, so an
origin whose snapshot is the one of its last visit costs nothing and gets no new visit, and a new visit costs its
new objects.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from stack_platform.errors import ConfigError
from stack_platform.schemas import ARCHIVE

T = TypeVar("T")
Rows = tuple[str, pa.RecordBatch]  # a table of the archive, and rows of it in its schema
NOT_YET = "not fetched yet: "
"""How the reason of a skipped content begins that the next reading may have; others stay skipped."""


class Progress(NamedTuple):
    """How far reading has come, in files or objects and in bytes; a total of 0 is not known."""

    files: int
    files_total: int
    bytes: int
    bytes_total: int


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read a source."""

    visit_date: datetime | None = None
    """when the visit takes place, with a time zone; the library has no clock"""
    threads: int = 2
    batch_bytes: int = 16 << 20
    """contents leave in batches of about this size"""
    scratch: Path | None = None
    """folder that outlives the run, for clones, downloads and caches of this source; None: nothing is kept"""
    progress: Callable[[Progress], None] | None = None


class LastVisit(NamedTuple):
    """The newest visit of an origin."""

    visit: int
    status: str
    snapshot: str | None


class Source(Protocol):
    """Anything that can be archived."""

    def fingerprint(self) -> str:
        """Digest what can be told without reading contents: the same fingerprint means that nothing is new.

        Raises:
            SourceError: the source cannot be reached.

        """

    def read(self, known: "Known", reading: Reading) -> Iterator[Rows]:
        """Give the rows that `known` lacks, table by table in any order; deterministic for the same state."""


class IdSet:
    """Object ids (40 hexadecimal digits) as sorted values of 20 bytes; membership by binary search."""

    def __init__(self, *columns: pa.ChunkedArray) -> None:
        raw = b"".join(bytes.fromhex("".join(column.drop_null().to_pylist())) for column in columns)
        self._ids = np.unique(np.frombuffer(raw, "S20"))

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, identifier: str) -> bool:
        return not self.lacks([identifier])

    def lacks(self, identifiers: Sequence[str]) -> list[str]:
        """Give those of the identifiers that are not in the set, in their order."""
        if not identifiers or not len(self._ids):
            return list(identifiers)
        sought = np.frombuffer(bytes.fromhex("".join(identifiers)), "S20")
        places = np.searchsorted(self._ids, sought).clip(max=len(self._ids) - 1)
        held = (self._ids[places] == sought).tolist()
        return [name for name, there in zip(identifiers, held, strict=True) if not there]


@dataclass(frozen=True)
class Known:
    """What the archive holds of a source already."""

    read: Callable[[str, Sequence[str]], pa.Table] = field(
        default=lambda table, columns: ARCHIVE[table].empty_table().select(list(columns))
    )
    """gives columns of a table of the archive"""

    @cached_property
    def visits(self) -> dict[str, LastVisit]:
        """The last visit of each origin, by URL."""
        rows = self.read("origin_visit_status", ["origin", "visit", "status", "snapshot"]).to_pylist()
        last: dict[str, LastVisit] = {}
        for row in rows:
            if row["origin"] not in last or last[row["origin"]].visit <= row["visit"]:
                last[row["origin"]] = LastVisit(row["visit"], row["status"], row["snapshot"])
        return last

    @cached_property
    def origins(self) -> frozenset[str]:
        """URLs of the origins."""
        return frozenset(self.read("origin", ["url"])["url"].to_pylist())

    @cached_property
    def contents(self) -> IdSet:
        """sha1_git of the contents that are held or known to be skipped."""
        tables = ("content", "skipped_content")
        return IdSet(*(self.read(table, ["sha1_git"])["sha1_git"] for table in tables))

    @cached_property
    def pending(self) -> frozenset[str]:
        """sha1_git of the contents that were not fetched yet, and are not held."""
        rows = self.read("skipped_content", ["sha1_git", "reason"]).to_pylist()
        told = {
            row["sha1_git"] for row in rows if row["sha1_git"] and (row["reason"] or "").startswith(NOT_YET)
        }
        return frozenset(IdSet(self.read("content", ["sha1_git"])["sha1_git"]).lacks(sorted(told)))

    def ids(self, table: str) -> IdSet:
        """Ids of the objects of one table: directory, revision, release or snapshot."""
        return IdSet(self.read(table, ["id"])["id"])


def choose(configured: Mapping[str, T], names: Sequence[str]) -> dict[str, T]:
    """Take the named ones of some configured sources, all where no name is given.

    Raises:
        ConfigError: a name is not configured.

    """
    for name in names:
        if name not in configured:
            known = ", ".join(configured)
            raise ConfigError(f"no source is called {name!r}; sources.yaml has {known}")
    return {name: configured[name] for name in names or configured}
