"""Examine a folder that is in no archive with the same functions that the stages use, file by file.

What needs many files (duplicates) or another place (history, repository metadata) is left out.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from stack_platform.corpus.stages import Policies
from stack_platform.languages.encoding import decode
from stack_platform.languages.marks import mark_files
from stack_platform.licenses.evidence import directory_evidence, evidence_files, evidence_table
from stack_platform.licenses.inherit import inherit
from stack_platform.licenses.judge import judge_files
from stack_platform.quality.judge import judge_quality

_BATCH_BYTES = 4 << 20


def examine(place: Path, policies: Policies = Policies()) -> pa.Table:
    """Give one row per file, ordered by path: marks, license with its source and evidence, signals, why it would leave.

    Columns of The Stack v2, LICENSE_COLUMNS and QUALITY; `path` is relative to the folder, `problem` says why a file
    cannot be used, `quality_reason` which cut-off it is over.
    """
    root = place.parent if place.is_file() else place
    files = files_under(place)
    found = [
        directory_evidence("", path.relative_to(root).as_posix(), path.read_bytes())
        for path in files
        if evidence_files(path.relative_to(root).as_posix()) is not None
    ]
    evidence = evidence_table(found)
    tables = [_judge(batch, evidence, policies) for batch in _batches(root, files)]
    return pa.concat_tables(tables) if tables else pa.table({"path": pa.array([], pa.string())})


def files_under(place: Path) -> list[Path]:
    """List a file, or the files below a folder but those of git, ordered by path."""
    if place.is_file():
        return [place]
    return sorted(
        path
        for path in place.rglob("*")
        if path.is_file() and not path.is_symlink() and ".git" not in path.relative_to(place).parts
    )


def _batches(root: Path, files: list[Path]) -> Iterator[pa.RecordBatch]:
    size = 0

    def group(path: Path) -> int:
        nonlocal size
        size += path.stat().st_size
        return size // _BATCH_BYTES

    for _, some in groupby(files, key=group):
        paths = list(some)
        data = [path.read_bytes() for path in paths]
        names = [path.relative_to(root).as_posix() for path in paths]
        yield pa.record_batch(
            {
                "repo_name": pa.array([""] * len(paths), pa.string()),
                "path": pa.array(names, pa.string()),
                "length_bytes": pa.array([len(item) for item in data], pa.int64()),
                "data": pa.array(data, pa.large_binary()),
            }
        )


def _judge(batch: pa.RecordBatch, evidence: pa.Table, policies: Policies) -> pa.Table:
    marked = mark_files(batch)
    texts = [
        decode(data, encoding) if encoding is not None else ""
        for data, encoding in zip(marked["data"].to_pylist(), marked["src_encoding"].to_pylist(), strict=True)
    ]
    described = pa.Table.from_batches([marked.drop_columns(["data"])])
    described = described.append_column("content", pa.array(texts, pa.large_string()))
    described = inherit(described, evidence, policies.inheritance).combine_chunks()
    licensed = judge_files(described.to_batches()[0], policies.licenses)
    measured, reasons, _ = judge_quality(licensed, policies.quality)
    usable = pc.is_null(measured["problem"])
    shown = pc.if_else(usable, pa.array(reasons, pa.string()), None)
    return pa.Table.from_batches([measured]).append_column("quality_reason", shown)
