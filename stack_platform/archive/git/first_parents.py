"""Find what a branch held at a date by its commits alone, for origins that were not visited by then.

From the head of the earliest visit back along first parents to the first commit whose committer date is not after
the date: what ``git rev-list -1 --first-parent --before`` answers. It is an approximation, and labeled so: a commit
states the date its author's machine had, and may have been pushed, or rebased away, at another time.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class FirstParents:
    """First parents and committer dates of revisions, as arrays: some 36 bytes a revision."""

    def __init__(self, revisions: pa.Table, history: pa.Table) -> None:
        """Columns in: revisions `id`, `seconds` (committer date, since 1970); history `id`, `parent_id` (rank 0)."""
        ids = _packed(revisions["id"])
        order = np.argsort(ids, kind="stable")
        self._ids = ids[order]
        self._seconds = revisions["seconds"].combine_chunks().fill_null(np.iinfo(np.int64).max)
        self._seconds = np.asarray(self._seconds)[order]
        self._parent: NDArray[np.int64] = np.full(len(ids), -1, np.int64)
        children, parents = self._find(_packed(history["id"])), self._find(_packed(history["parent_id"]))
        known = children >= 0
        self._parent[children[known]] = parents[known]

    def _find(self, wanted: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """Give the place of each id, -1 where it is not there."""
        if not len(self._ids):
            return np.full(len(wanted), -1, np.int64)
        places = np.searchsorted(self._ids, wanted).clip(max=len(self._ids) - 1)
        return np.where(self._ids[places] == wanted, places, -1)

    def before(self, heads: Sequence[str], seconds: int) -> list[str | None]:
        """Give for each head the nearest first-parent ancestor, itself included, that is not after the date."""
        found: list[str | None] = []
        for place in self._find(_packed(pa.chunked_array([pa.array(heads, pa.string())]))).tolist():
            while place >= 0 and self._seconds[place] > seconds:
                place = int(self._parent[place])
            found.append(self._ids[place].ljust(20, b"\0").hex() if place >= 0 else None)
        return found


def _packed(ids: pa.ChunkedArray) -> NDArray[np.bytes_]:
    return np.frombuffer(bytes.fromhex("".join(ids.to_pylist())), "S20")
