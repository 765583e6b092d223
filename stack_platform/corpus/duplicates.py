"""The stage that keeps one of each set of equal or nearly equal files, and cuts a language to its cap at last."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stack_platform import decisions
from stack_platform.corpus.texts import FilesByContent
from stack_platform.dedup.across import duplicates_across
from stack_platform.dedup.config import NearDuplicateConfig
from stack_platform.dedup.exact import exact_duplicates
from stack_platform.dedup.index import build_index, fits, near_duplicates_of, update_index
from stack_platform.dedup.preference import PreferenceConfig, preference_order
from stack_platform.dedup.repositories import RepositoryConfig, repository_duplicates
from stack_platform.engine.stages import Piece, Slice, Texts
from stack_platform.quality.downsample import downsample
from stack_platform.tables import Lake, Partition

NEAR_INDEX = "near_index"  # the stage's table of signatures, for the next snapshot

_STAGE, _VERSION = "deduplicated", "2"


@dataclass(frozen=True, slots=True)
class DedupConfig:
    """All kinds of duplicates within a language, and how many bytes of it may stay."""

    preference: PreferenceConfig = PreferenceConfig()
    repositories: RepositoryConfig | None = RepositoryConfig()
    """forks, mirrors and near-copies leave whole; None leaves them to the comparison of files"""
    near: NearDuplicateConfig = NearDuplicateConfig()
    caps: tuple[tuple[str, int], ...] = ()
    """language, bytes; of the quality policy, applied to what is no duplicate"""


def deduplicate(
    config: DedupConfig, slice_: Slice, previous: pa.Table | None = None, threads: int = 1
) -> Iterator[Piece]:
    """Drop copied repositories, copied files, near duplicates of what is kept, then what is over the language's cap.

    `previous` is the table NEAR_INDEX of the version before: then only new contents are signed, and contents that
    were kept stay kept. Settings that changed since make it useless, and everything is signed anew.
    """
    files = slice_.files
    repositories = _decide_repositories(files, config)
    rest = decisions.apply(files, repositories)
    copies = _decide_copies(rest, exact_duplicates(rest, config.preference))
    rest = decisions.apply(rest, copies)
    rest = rest.take(preference_order(rest, config.preference))
    read = partial(_read_blobs, slice_.texts, rest)
    if previous is not None and fits(previous, config.near):
        index = update_index(previous, rest["blob_id"], read, config.near, threads=threads)
    else:
        index = build_index(rest["blob_id"], read, config.near, threads=threads)
    near = _decide_near(rest, near_duplicates_of(index))
    over = _decide_over_cap(decisions.apply(rest, near), dict(config.caps))
    yield Piece(files, pa.concat_tables([repositories, copies, near, over]), {NEAR_INDEX: index})


def stored_index(partition: Partition | None) -> pa.Table | None:
    """Return what the stage stored for the next snapshot with a version of its partition, None where there is none."""
    if partition is None or NEAR_INDEX not in partition.manifest.tables:
        return None
    return partition.read(NEAR_INDEX)


def decide_across(
    lake: Lake, languages: Sequence[str], texts: Texts, config: NearDuplicateConfig = NearDuplicateConfig()
) -> pa.Table:
    """Decide which deduplicated files leave because a language named before theirs keeps nearly the same.

    An option: no stage applies these decisions by itself. Nothing is signed again.

    Raises:
        TableError: a language was not deduplicated yet, or with other settings.

    """
    indexes, parts = [], []
    for language in languages:
        partition = lake.open(_STAGE, language)
        files = partition.read(
            "files", ["repo_name", "path", "content_id", "blob_id", "language", "src_encoding"]
        )
        index = partition.read(NEAR_INDEX)
        indexes.append(
            (language, index.filter(pc.is_in(index["blob_id"], files["blob_id"].combine_chunks())))
        )
        parts.append(files)
    if not parts:
        return decisions.none()
    files = pa.concat_tables(parts)
    found = duplicates_across(indexes, partial(_read_blobs, texts, files), config)
    names = {(row["language"], row["blob_id"]): row for row in files.to_pylist()}
    leaving = [names[row["language"], row["blob_id"]] for row in found.to_pylist()]
    evidence = [
        _kept(names[row["witness_language"], row["witness"]]) | {"jaccard": round(row["jaccard"], 4)}
        for row in found.to_pylist()
    ]
    return _drop(pa.Table.from_pylist(leaving, files.schema), "near_duplicate_across", evidence)


def _kept(file: Mapping[str, Any]) -> dict[str, Any]:
    place = {name: file[name] for name in ("repo_name", "path", "language")}
    return {"kept": place | {"swhid": f"swh:1:cnt:{file['content_id']}"}}


def _decide_repositories(files: pa.Table, config: DedupConfig) -> pa.Table:
    if config.repositories is None:
        return decisions.none()
    found = repository_duplicates(files, config.repositories, config.preference)
    evidence = {row["repo_name"]: row for row in found.to_pylist()}
    rows = files.filter(pc.is_in(files["repo_name"], found["repo_name"].combine_chunks()))
    rows = rows.sort_by([("repo_name", "ascending"), ("path", "ascending")])
    return _drop(
        rows,
        "repository_duplicate",
        [_repository_evidence(evidence[name]) for name in rows["repo_name"].to_pylist()],
    )


def _repository_evidence(row: Mapping[str, Any]) -> dict[str, Any]:
    found = {"kept": {"repo_name": row["keeper_repo_name"]}, "repository": row["reason"]}
    return found if row["overlap"] is None else found | {"overlap": round(row["overlap"], 4)}


def _decide_copies(files: pa.Table, exact: pa.Table) -> pa.Table:
    keys = ["repo_name", "path"]
    rows = exact.join(files.select([*keys, "language"]), keys).sort_by([(key, "ascending") for key in keys])
    evidence = [
        {"kept": {"repo_name": repo, "path": path}}
        for repo, path in zip(
            rows["keeper_repo_name"].to_pylist(), rows["keeper_path"].to_pylist(), strict=True
        )
    ]
    return _drop(rows, "exact_duplicate", evidence)


def _read_blobs(texts: Texts, files: pa.Table, ids: pa.Array | None) -> Iterator[pa.RecordBatch]:
    wanted = files if ids is None else files.filter(pc.is_in(files["blob_id"], ids))
    by_content = FilesByContent(wanted.select(["content_id", "blob_id"]))
    for batch in texts(wanted):
        yield by_content.join(batch).select(["blob_id", "content"])


def _decide_near(files: pa.Table, near: pa.Table) -> pa.Table:
    ids = files["blob_id"].combine_chunks()
    rows = files.take(pc.index_in(near["blob_id"], ids))
    kept = files.take(pc.index_in(near["witness"], ids))
    evidence = [
        {
            "kept": {"repo_name": repo, "path": path, "swhid": f"swh:1:cnt:{content}"},
            "jaccard": round(jaccard, 4),
        }
        for repo, path, content, jaccard in zip(
            *(kept[name].to_pylist() for name in ("repo_name", "path", "content_id")),
            near["jaccard"].to_pylist(),
            strict=True,
        )
    ]
    return _drop(rows, "near_duplicate", evidence)


def _decide_over_cap(files: pa.Table, caps: dict[str, int]) -> pa.Table:
    reasons, evidence = downsample(files, caps)
    leaving = files.filter(pa.array([reason is not None for reason in reasons], pa.bool_()))
    named = [reason for reason in reasons if reason is not None]
    found = [item for item in evidence if item is not None]
    return decisions.decide(leaving, decisions.DROP, _STAGE, named, found, _VERSION)


def _drop(files: pa.Table, reason: str, evidence: Sequence[Mapping[str, Any]]) -> pa.Table:
    reasons = [reason] * files.num_rows
    return decisions.decide(files, decisions.DROP, _STAGE, reasons, evidence, _VERSION)
