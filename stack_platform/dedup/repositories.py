"""Repositories that are another one once more: forks, mirrors and near-copies.

Repositories are walked in order of preference (better license, more stars, more forks, older, name). One leaves
if a repository that stays whole has the same revision, the same root directory, the same contents, or at least
the share `overlap` of its distinct contents; the first such repository is its keeper. So no repository leaves
for one that leaves itself, and what a near-copy has of its own is at most the share 1 - overlap.

Near-copies are searched by rarest contents: of n contents at least one of the n - overlap * n + 1 rarest is in
the keeper (prefix filter, Bayardo, Ma, Srikant, "Scaling up all pairs similarity search", 2007), so all are
found and contents that everybody has are looked up last. Memory: about 60 bytes a file.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stack_platform.dedup.preference import PreferenceConfig, cast_column, preference_order
from stack_platform.errors import ConfigError

REPOSITORY_DUPLICATES = pa.schema(
    [
        ("repo_name", pa.string()),
        ("keeper_repo_name", pa.string()),
        ("reason", pa.string()),  # same_revision, same_root_directory, same_contents, near_copy
        (
            "overlap",
            pa.float64(),
        ),  # share of its distinct contents that the keeper has, null where not counted
    ]
)


@dataclass(frozen=True, slots=True)
class RepositoryConfig:
    """What makes a repository a copy of another.

    Attributes:
        overlap: least share of its distinct contents that the keeper has, 0 < overlap <= 1 (0.9: a fork that went
            on a little)
        min_contents: repositories of fewer distinct contents are never near-copies; a license and a build file
            are shared by strangers (10: our choice)

    """

    overlap: float = 0.9
    min_contents: int = 10

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if not 0 < self.overlap <= 1:
            raise ConfigError(f"overlap is {self.overlap}; write a share above 0 and at most 1, as 0.9")
        if self.min_contents < 1:
            raise ConfigError(f"min_contents is {self.min_contents}; write a whole number of at least 1")


def repository_duplicates(
    files: pa.Table,
    config: RepositoryConfig = RepositoryConfig(),
    preference: PreferenceConfig = PreferenceConfig(),
) -> pa.Table:
    """Name each repository that leaves, its keeper and why; files without repo_name belong to none.

    Needs repo_name, content_id, directory_id (of the root), revision_id and the columns of `preference_order`,
    nulls allowed; a repository's license and numbers are those of its most preferred file. Returns the schema
    REPOSITORY_DUPLICATES, sorted by repo_name.

    Raises:
        SchemaError: a column is missing or has values of another kind.

    """
    text = ("repo_name", "content_id", "directory_id", "revision_id")
    keys = pa.table({name: cast_column(files, name, pa.string()) for name in text})
    ordered = keys.take(preference_order(_as_repositories(files), preference))
    ordered = ordered.filter(pc.is_valid(ordered["repo_name"]))
    if not ordered.num_rows:
        return REPOSITORY_DUPLICATES.empty_table()
    names, repos = _numbers(ordered["repo_name"])
    distinct, contents = _numbers(ordered["content_id"])
    pairs = np.unique((repos * len(distinct) + contents)[contents >= 0])
    offsets = np.searchsorted(pairs, np.arange(len(names) + 1) * len(distinct))
    held = pairs % max(len(distinct), 1)
    marks = np.stack(
        [_mark(ordered["revision_id"], repos, len(names)), _mark(ordered["directory_id"], repos, len(names))]
    )
    keepers, reasons, overlaps = _walk(held, offsets, marks, config)
    gone = np.flatnonzero(keepers >= 0)
    columns = [
        names.take(pa.array(gone)),
        names.take(pa.array(keepers[gone])),
        pa.array(np.array(_REASONS)[reasons[gone]], pa.string()),
        pa.array(overlaps[gone], mask=np.isnan(overlaps[gone])),
    ]
    return pa.Table.from_arrays(columns, schema=REPOSITORY_DUPLICATES).sort_by("repo_name")


_REASONS = ("same_revision", "same_root_directory", "same_contents", "near_copy")


def _as_repositories(files: pa.Table) -> pa.Table:
    """Blank what tells files of a repository apart, so that repositories are ordered by name after their numbers."""
    blank = pa.nulls(files.num_rows, pa.string())
    for name in ("path", "blob_id"):
        if name in files.column_names:
            files = files.drop_columns([name])
        files = files.append_column(name, blank)
    return files


def _numbers(column: pa.ChunkedArray) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return the distinct values in the order they come in, and each row's number, -1 for null."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.dictionary, encoded.indices.fill_null(-1).to_numpy().astype(np.int64)


def _mark(column: pa.ChunkedArray, repos: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the number of each repository's own value, of its first file that has one; -1 without."""
    _, values = _numbers(column)
    marks = np.full(count, -1, np.int64)
    known = np.flatnonzero(values >= 0)[::-1]
    marks[repos[known]] = values[known]
    return marks


def _walk(
    contents: NDArray[np.int64],
    offsets: NDArray[np.int64],
    marks: NDArray[np.int64],
    config: RepositoryConfig,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return each repository's keeper (-1 for those that stay), the number of the reason, and the overlap."""
    from stack_platform.dedup.containment import find_keepers

    frequencies = np.bincount(contents)
    by_rarity = np.argsort(frequencies, kind="stable")
    ranks = np.empty(by_rarity.size, np.int64)
    ranks[by_rarity] = np.arange(by_rarity.size)
    sets = ranks[contents] if contents.size else contents
    for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        sets[start:stop].sort()
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(frequencies[by_rarity])])
    return find_keepers(sets, offsets, marks, starts, config.overlap, config.min_contents)
