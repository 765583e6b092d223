"""The Software Heritage graph of all sources together; each source is a partition that only grows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from stack_platform.errors import TableError
from stack_platform.manifests import digest_of
from stack_platform.schemas import ARCHIVE
from stack_platform.tables import Lake, Partition

GRAPH = "software_heritage_graph"


@dataclass(frozen=True)
class Graph:
    """The committed partitions of some sources, read as one archive."""

    parts: tuple[Partition, ...]

    @property
    def digest(self) -> str:
        """Name what all parts hold."""
        return digest_of([part.digest for part in self.parts])

    def sources(self, table: str) -> list[Any]:
        """Return what pyarrow reads a table's files from."""
        return [source for part in self.parts for source in part.sources(table)]

    def read(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a table, or some of its columns, into memory."""
        return pa.concat_tables(part.read(table, columns, ARCHIVE[table]) for part in self.parts)

    def rows(self, table: str) -> int:
        """Count a table's rows without reading it."""
        return sum(part.manifest.rows(table) for part in self.parts)

    def archive(self) -> dict[str, pa.Table]:
        """Read all tables, without the data of contents."""
        return {
            name: self.read(name, [column for column in schema.names if column != "data"])
            for name, schema in ARCHIVE.items()
        }


def find_graph(lake: Lake, sources: Sequence[str] = ()) -> Graph | None:
    """Open the graph of the named sources, of all by default; None where nothing of them was archived yet."""
    found = (lake.latest(GRAPH, name) for name in sources or lake.partitions(GRAPH))
    parts = tuple(part for part in found if part is not None)
    return Graph(parts) if parts else None


def open_graph(lake: Lake, sources: Sequence[str] = ()) -> Graph:
    """Open the graph of the named sources, of all by default.

    Raises:
        TableError: nothing of them was archived yet.

    """
    graph = find_graph(lake, sources)
    if graph is None:
        which = f" of {', '.join(sources)}" if sources else ""
        raise TableError(
            f"{GRAPH}{which} is not in {lake.root} yet; make it with: "
            f"dagster asset materialize -f assets/definitions.py --select {GRAPH}"
        )
    return graph
