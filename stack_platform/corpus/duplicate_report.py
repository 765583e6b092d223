"""What left a lake as a duplicate, for people: the decisions of the stage, joined with the files they are about."""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stack_platform.corpus.texts import text_reader
from stack_platform.dedup.report import REMOVED_FILES, Pair, largest_clusters, pair_page, report_page
from stack_platform.errors import SourceError
from stack_platform.tables import Lake, Partition

_STAGE, _UPSTREAM = "deduplicated", "quality_filtered"
_REASONS = pa.array(["exact_duplicate", "near_duplicate", "repository_duplicate"])
_COLUMNS = ["repo_name", "path", "content_id", "src_encoding", "length_bytes"]


def duplicate_report(
    lake: Lake, languages: Sequence[str] = (), *, clusters: int = 50, pairs: int = 20
) -> str:
    """Render a page about the duplicates of some languages, of all that are there by default.

    Raises:
        TableError: a language was not deduplicated yet.

    """
    chosen = list(languages) or lake.partitions(_STAGE)
    totals, found = {}, [REMOVED_FILES.empty_table()]
    for language in chosen:
        partition = lake.open(_STAGE, language)
        counts = partition.manifest.counts
        totals[language] = (counts["files_in"], counts["bytes_in"])
        found.append(_removed(lake, partition))
    removed = pa.concat_tables(found)
    near = removed.filter(pc.equal(removed["reason"], "near_duplicate"))
    examples = [_example(lake, near, row) for row in largest_clusters(near, pairs).to_pylist()]
    return report_page(removed, totals, examples, clusters=clusters)


def duplicate_pair(lake: Lake, language: str, repo_name: str, path: str) -> str:
    """Render a file that left and the file kept for it, side by side.

    Raises:
        SourceError: the file did not leave as a copy or a near duplicate of another file.
        TableError: the language was not deduplicated yet.

    """
    removed = _removed(lake, lake.open(_STAGE, language))
    mask = pc.and_(pc.equal(removed["repo_name"], repo_name), pc.equal(removed["path"], path))
    rows = removed.filter(pc.and_(mask, pc.is_valid(removed["kept_path"]))).to_pylist()
    if not rows:
        raise SourceError(
            f"{repo_name}/{path} did not leave {language} as a duplicate of a file; "
            "ask what became of it with: stack-platform why"
        )
    return pair_page(_pair(lake, rows[0]))


def _removed(lake: Lake, partition: Partition) -> pa.Table:
    """Return a partition's duplicates with the columns REMOVED_FILES."""
    decisions = partition.read("decisions", ["repo_name", "path", "language", "reason", "evidence"])
    decisions = decisions.filter(pc.is_in(decisions["reason"], _REASONS))
    evidence = [json.loads(text) for text in decisions["evidence"].to_pylist()]
    columns: dict[str, Any] = {
        **{name: decisions[name] for name in ("repo_name", "path", "language", "reason")},
        "kept_repo_name": pa.array([found["kept"]["repo_name"] for found in evidence], pa.string()),
        "kept_path": pa.array([found["kept"].get("path") for found in evidence], pa.string()),
        "jaccard": pa.array([found.get("jaccard") for found in evidence], pa.float64()),
    }
    upstream = lake.open(_UPSTREAM, partition.manifest.partition)
    files = upstream.read("files", ["repo_name", "path", "length_bytes"])
    joined = pa.table(columns).join(files, ["repo_name", "path"], join_type="left outer")
    joined = joined.sort_by([(name, "ascending") for name in ("repo_name", "path")])
    return joined.select(REMOVED_FILES.names).cast(REMOVED_FILES)


def _example(lake: Lake, near: pa.Table, cluster: dict[str, Any]) -> Pair:
    """Read the least similar file of a cluster and its witness."""
    names = ("language", "kept_repo_name", "kept_path")
    mask = pc.and_kleene(*(pc.equal(near[name], cluster[name]) for name in names[:2]))
    rows = near.filter(pc.and_kleene(mask, pc.equal(near["kept_path"], cluster["kept_path"])))
    order = [("jaccard", "ascending"), ("repo_name", "ascending"), ("path", "ascending")]
    return _pair(lake, rows.sort_by(order).slice(0, 1).to_pylist()[0])


def _pair(lake: Lake, row: dict[str, Any]) -> Pair:
    files = lake.open(_UPSTREAM, row["language"]).read("files", _COLUMNS)
    texts = []
    for repo_name, path in ((row["kept_repo_name"], row["kept_path"]), (row["repo_name"], row["path"])):
        mask = pc.and_(pc.equal(files["repo_name"], repo_name), pc.equal(files["path"], path))
        batches = list(text_reader(lake)(files.filter(mask)))
        found = [text for batch in batches for text in batch["content"].to_pylist()]
        texts.append(found[0] if found else "(the text is not held in this lake)")
    names = (f"{row['kept_repo_name']}/{row['kept_path']}", f"{row['repo_name']}/{row['path']}")
    return Pair(*names, row["jaccard"], *texts)
