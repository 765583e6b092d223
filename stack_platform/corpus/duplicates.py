"""The stage that keeps one of each set of equal or nearly equal files, and cuts a language to its cap at last."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from stack_platform import decisions
from stack_platform.corpus.texts import FilesByContent
from stack_platform.dedup.exact import exact_duplicates
from stack_platform.dedup.leaders import NearDuplicateConfig, find_near_duplicates
from stack_platform.dedup.preference import PreferenceConfig, preference_order
from stack_platform.engine.stages import Piece, Slice
from stack_platform.quality.downsample import downsample

_STAGE, _VERSION = "deduplicated", "1"


@dataclass(frozen=True, slots=True)
class DedupConfig:
    """Both kinds of duplicates within a language, and how many bytes of it may stay."""

    preference: PreferenceConfig = PreferenceConfig()
    near: NearDuplicateConfig = NearDuplicateConfig()
    caps: tuple[tuple[str, int], ...] = ()
    """language, bytes; of the quality policy, applied to what is no duplicate"""


def deduplicate(config: DedupConfig, slice_: Slice) -> Iterator[Piece]:
    """Drop copies, then near-duplicates of what is kept, then what is over the language's cap."""
    files = slice_.files
    copies = _decide_copies(files, exact_duplicates(files, config.preference))
    rest = decisions.apply(files, copies)
    rest = rest.take(preference_order(rest, config.preference))
    found = find_near_duplicates(
        rest["blob_id"].combine_chunks(), partial(_read_blobs, slice_, rest), config.near
    )
    near = _decide_near(rest, found)
    over = _decide_over_cap(decisions.apply(rest, near), dict(config.caps))
    yield Piece(files, pa.concat_tables([copies, near, over]))


def _decide_copies(files: pa.Table, exact: pa.Table) -> pa.Table:
    keys = ["repo_name", "path"]
    rows = exact.join(files.select([*keys, "language"]), keys).sort_by([(key, "ascending") for key in keys])
    evidence = [
        {"kept": {"repo_name": repo, "path": path}}
        for repo, path in zip(
            rows["keeper_repo_name"].to_pylist(), rows["keeper_path"].to_pylist(), strict=True
        )
    ]
    reasons = ["exact_duplicate"] * rows.num_rows
    return decisions.decide(rows, decisions.DROP, _STAGE, reasons, evidence, _VERSION)


def _read_blobs(slice_: Slice, files: pa.Table, ids: pa.Array | None) -> Iterator[pa.RecordBatch]:
    wanted = files if ids is None else files.filter(pc.is_in(files["blob_id"], ids))
    by_content = FilesByContent(wanted.select(["content_id", "blob_id"]))
    for texts in slice_.texts(wanted):
        yield by_content.join(texts).select(["blob_id", "content"])


def _decide_near(files: pa.Table, near: pa.Table) -> pa.Table:
    rows = files.take(pc.index_in(near["blob_id"], files["blob_id"].combine_chunks()))
    kept = files.take(pc.index_in(near["witness"], files["blob_id"].combine_chunks()))
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
    reasons = ["near_duplicate"] * rows.num_rows
    return decisions.decide(rows, decisions.DROP, _STAGE, reasons, evidence, _VERSION)


def _decide_over_cap(files: pa.Table, caps: dict[str, int]) -> pa.Table:
    reasons, evidence = downsample(files, caps)
    leaving = files.filter(pa.array([reason is not None for reason in reasons], pa.bool_()))
    named = [reason for reason in reasons if reason is not None]
    found = [item for item in evidence if item is not None]
    return decisions.decide(leaving, decisions.DROP, _STAGE, named, found, _VERSION)
