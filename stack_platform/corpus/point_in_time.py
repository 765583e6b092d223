"""The archive as of a date: what each origin held then, and how a file came to be what it is."""

from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from stack_platform.archive.files import find_roots, walk_files
from stack_platform.archive.git.history import file_history
from stack_platform.corpus.graph import open_graph
from stack_platform.errors import SourceError
from stack_platform.tables import Lake


@dataclass(frozen=True)
class PointInTime:
    """Origins and files as of a date."""

    origins: pa.Table  # archive.files.ROOTS and `files`, the number of paths
    files: pa.Table  # archive.files.WALKED


def look_back(lake: Lake, as_of: datetime | None = None, origins: tuple[str, ...] = ()) -> PointInTime:
    """Walk the archive as of a date; of some origins, or of all.

    Raises:
        TableError: nothing was archived yet.
        SourceError: an origin is not in the archive.

    """
    tables = open_graph(lake).archive()
    known = tables["origin"]["url"].to_pylist()
    for origin in origins:
        if origin not in known:
            raise SourceError(f"the archive has no origin {origin!r}; see `stack-platform snapshot`")
    if origins:
        chosen = pa.array(origins, pa.string())
        tables["origin"] = tables["origin"].filter(pc.is_in(tables["origin"]["url"], chosen))
        statuses = tables["origin_visit_status"]
        tables["origin_visit_status"] = statuses.filter(pc.is_in(statuses["origin"], chosen))
    roots, files = find_roots(tables, as_of), walk_files(tables, as_of)
    counts = {item["values"]: item["counts"] for item in files["repo_name"].value_counts().to_pylist()}
    numbers = [counts.get(name, 0) for name in roots["repo_name"].to_pylist()]
    return PointInTime(roots.append_column("files", pa.array(numbers, pa.int64())), files)


def trace(lake: Lake, origin: str, path: str, as_of: datetime | None = None) -> pa.Table:
    """Tell each commit on the way to an origin's head that changed a file; see `archive.history.file_history`.

    Raises:
        SourceError: the origin is not in the archive, or has no commits.

    """
    (root,) = look_back(lake, as_of, (origin,)).origins.to_pylist()
    if root["revision_id"] is None:
        problem = root["problem"] or "what was visited is no version control system"
        raise SourceError(f"{origin} has no history of commits: {problem}")
    return file_history(open_graph(lake).archive(), root["revision_id"], path)
