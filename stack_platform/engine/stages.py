"""Run a stage over language partitions: skip what is done, decide, apply, commit.

A stage is a function that sees one language and yields pieces: some of its files, with the columns the stage adds,
and the decisions about them. The engine applies the decisions, writes what stays, and commits files, decisions
and the stage's own tables in one manifest, whose counts add up: in = kept + dropped by reason.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from stack_platform import decisions
from stack_platform.errors import TableError
from stack_platform.manifests import digest_of
from stack_platform.schemas import DECISIONS
from stack_platform.tables import Lake, Partition, PartitionWriter

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Texts = Callable[[pa.Table], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class Slice:
    """What a stage sees of one language."""

    language: str
    files: pa.Table
    texts: Texts  # files -> batches of (content_id, content: large_string), each content once, in any order
    previous: Partition | None = None  # what the stage made of this language last, for stages that carry on


@dataclass(frozen=True)
class Piece:
    """Some files of a slice, as the stage describes them, and what it decides about them."""

    files: pa.Table
    decisions: pa.Table = field(default_factory=decisions.none)
    tables: Mapping[str, pa.Table] = field(default_factory=dict)  # evidence of the stage's own


@dataclass(frozen=True)
class Stage:
    """A named step from one set of files to the next."""

    name: str
    upstream: str
    version: str  # raised when the same input gives another output
    config: "DataclassInstance"  # frozen
    decide: Callable[[Slice], Iterator[Piece]]
    find_input: "Callable[[Lake, Stage, str], Input]"


@dataclass(frozen=True, slots=True)
class StageReport:
    """What happened to one language, for people."""

    stage: str
    language: str
    files_in: int
    files_out: int
    bytes_in: int
    bytes_out: int
    dropped: Mapping[str, int]
    redacted: Mapping[str, int]
    digest: str
    skipped: bool  # the inputs had not changed, so nothing was done


@dataclass(frozen=True)
class Input:
    """The files of one language and the digest that names them."""

    files: Callable[[], pa.Table]
    digest: str


def upstream_input(lake: Lake, stage: Stage, language: str) -> Input:
    """Find a stage's input: the table `files` of the same partition of the stage before it."""
    partition = lake.open(stage.upstream, language)
    return Input(lambda: partition.read("files"), partition.manifest.table_digest("files"))


def run_stage(lake: Lake, stage: Stage, languages: Sequence[str], texts: Texts) -> list[StageReport]:
    """Bring the partitions of a stage up to date, one language after the other.

    Raises:
        TableError: the stage before was not materialized, or the counts of a partition do not add up.

    """
    return [_run_one(lake, stage, language, texts) for language in languages]


def is_stale(lake: Lake, stage: Stage, language: str) -> bool:
    """Tell whether a stage's partition is missing, or was made of another input or by other settings.

    Raises:
        TableError: the stage before was not materialized.

    """
    made = lake.latest(stage.name, language)
    return made is None or made.manifest.fingerprint != _fingerprint(
        stage, stage.find_input(lake, stage, language)
    )


def stage_report(partition: Partition, *, skipped: bool) -> StageReport:
    """Tell what a committed partition says of itself."""
    manifest, counts = partition.manifest, partition.manifest.counts
    return StageReport(
        stage=manifest.stage,
        language=manifest.partition,
        files_in=counts["files_in"],
        files_out=counts["files_out"],
        bytes_in=counts["bytes_in"],
        bytes_out=counts["bytes_out"],
        dropped=counts["dropped"],
        redacted=counts["redacted"],
        digest=manifest.digest,
        skipped=skipped,
    )


def _fingerprint(stage: Stage, found: Input) -> str:
    """Name everything that decides what a stage makes of an input."""
    return digest_of([stage.name, stage.version, _plain(asdict(stage.config)), found.digest])


def _run_one(lake: Lake, stage: Stage, language: str, texts: Texts) -> StageReport:
    found = stage.find_input(lake, stage, language)
    fingerprint = _fingerprint(stage, found)
    current = lake.latest(stage.name, language)
    if current is not None and current.manifest.fingerprint == fingerprint:
        return stage_report(current, skipped=True)
    files = found.files()
    with lake.writer(stage.name, language, fingerprint) as out:
        out.counts = _write_pieces(out, stage, Slice(language, files, texts, current), files)
    assert out.committed is not None
    return stage_report(out.committed, skipped=False)


def _write_pieces(out: PartitionWriter, stage: Stage, slice_: Slice, files: pa.Table) -> dict[str, Any]:
    dropped: Counter[str] = Counter()
    redacted: Counter[str] = Counter()
    seen = kept_files = kept_bytes = 0
    out.append("decisions", DECISIONS.empty_table())
    for piece in stage.decide(slice_):
        kept = decisions.apply(piece.files, piece.decisions)
        out.append("files", kept)
        out.append("decisions", piece.decisions)
        for name, table in piece.tables.items():
            out.append(name, table)
        dropped.update(decisions.count_reasons(piece.decisions, decisions.DROP))
        redacted.update(decisions.count_reasons(piece.decisions, decisions.REDACT))
        seen += piece.files.num_rows
        kept_files += kept.num_rows
        kept_bytes += _sum(kept["length_bytes"])
    if seen != files.num_rows or seen != kept_files + sum(dropped.values()):
        raise TableError(
            f"{stage.name}/{slice_.language} does not add up: {files.num_rows} files in, {seen} looked at, "
            f"{kept_files} kept, {sum(dropped.values())} dropped; this is a defect of the stage, please report it"
        )
    return {
        "files_in": seen,
        "files_out": kept_files,
        "bytes_in": _sum(files["length_bytes"]),
        "bytes_out": kept_bytes,
        "dropped": dict(dropped),
        "redacted": dict(redacted),
    }


def _sum(column: pa.ChunkedArray) -> int:
    return int(pc.sum(column).as_py() or 0)


def _plain(value: Any) -> Any:
    """Make a configuration hashable as JSON: bytes become hexadecimal, tuples lists, sets sorted lists."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, frozenset):
        return sorted(value)
    return value
