"""The index: every path of the snapshot with its language, marks and the license evidence around it.

What crosses languages is settled here, before the partitions. One content can have several names; its language is
the one most of its names lead to, the first by name where two lead as often, so a content belongs to exactly one
language. A path that no partition can take (binary, empty, no known language, not held) gets a decision with the
reason. The index is one partition with a table per language, so that a stage sees at once whether its language
changed.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from stack_platform import decisions
from stack_platform.archive.contents import read_contents
from stack_platform.archive.files import walk_files
from stack_platform.archive.repositories import describe_repositories
from stack_platform.corpus.graph import Graph, open_graph
from stack_platform.corpus.stages import INDEX
from stack_platform.corpus.texts import BATCH_BYTES, FilesByContent
from stack_platform.engine.contract import Engine
from stack_platform.engine.progress import Meter
from stack_platform.languages.marks import mark_files
from stack_platform.languages.summary import summarize
from stack_platform.licenses.evidence import Evidence, directory_evidence, evidence_files, evidence_table
from stack_platform.licenses.inherit import InheritConfig, inherit
from stack_platform.manifests import digest_of
from stack_platform.schemas import FILES, conform
from stack_platform.tables import Lake, Partition

VERSION = "2"
DROPPED = "_decisions"  # table names of languages never start with an underscore
LICENSE_EVIDENCE = "_license_evidence"
OF_THE_VISIT = (
    "snapshot_id",
    "release_id",
    "revision_id",
    "directory_id",
    "visit_date",
    "revision_date",
    "committer_date",
)


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What the index holds, for people."""

    paths: int
    indexed: int
    languages: Mapping[str, int]
    dropped: Mapping[str, int]
    as_of: str | None
    point_in_time: Mapping[str, int]  # paths by how the date was met: visit, first-parent
    digest: str
    skipped: bool


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """Which part of the archive the data set is made of."""

    sources: tuple[str, ...] = ()
    """names of sources; empty: every one that was archived"""
    as_of: datetime | None = None
    """the date to go back to, with a time zone; None: the latest visits"""
    inheritance: InheritConfig = InheritConfig()


def build_index(
    lake: Lake, engine: Engine, config: IndexConfig = IndexConfig(), repositories: pa.Table | None = None
) -> IndexReport:
    """Bring the index up to date with the graph and with what is known of repositories (schema REPOSITORIES).

    Raises:
        TableError: the graph was not materialized.

    """
    graph = open_graph(lake, config.sources)
    as_of = config.as_of and config.as_of.isoformat()
    rules = [config.inheritance.policy, sorted(config.inheritance.vendored)]
    fingerprint = digest_of([INDEX, VERSION, rules, as_of, _digest(repositories), graph.digest])
    current = lake.latest(INDEX)
    if current is not None and current.manifest.fingerprint == fingerprint:
        return index_report(current, skipped=True)
    walked = walk_files(graph.archive(), config.as_of)
    unreadable = pc.is_valid(walked["skip_reason"])
    marked, evidence = _mark(graph, walked.filter(pc.invert(unreadable)), engine)
    marked = _one_language_a_content(marked)
    problems = pa.concat_tables(
        [_unread(walked.filter(unreadable), marked.schema), marked.filter(pc.is_valid(marked["problem"]))]
    )
    files = marked.filter(pc.is_null(marked["problem"]))
    if repositories is not None:
        files = describe_repositories(files, repositories)
    files = inherit(files, evidence, config.inheritance)
    with lake.writer(INDEX, fingerprint=fingerprint) as out:
        dropped = _decide_problems(problems)
        out.append(DROPPED, dropped)
        out.append(LICENSE_EVIDENCE, evidence)
        identities = {}
        for language, rows in _by_language(files):
            out.append(language, rows)
            identities[language] = _identity(rows)
        out.counts = {
            "identities": identities,
            "paths": walked.num_rows,
            "as_of": as_of,
            "point_in_time": dict(Counter(walked["point_in_time"].to_pylist())),
            "indexed": files.num_rows,
            "languages": dict(Counter(files["language"].to_pylist())),
            "dropped": decisions.count_reasons(dropped),
        }
    assert out.committed is not None
    return index_report(out.committed, skipped=False)


def index_report(index: Partition, *, skipped: bool) -> IndexReport:
    """Tell what a committed index says of itself."""
    counts = index.manifest.counts
    return IndexReport(
        counts["paths"],
        counts["indexed"],
        counts["languages"],
        counts["dropped"],
        counts["as_of"],
        counts["point_in_time"],
        index.digest,
        skipped,
    )


def language_summary(index: Partition) -> pa.Table:
    """Sum up the indexed languages: schema `languages.summary.SUMMARY`, most bytes first."""
    columns = ["language", "length_bytes", "is_vendor", "is_generated"]
    tables = [index.read(name, columns) for name in indexed_languages(index)]
    return summarize(pa.concat_tables(tables) if tables else FILES.empty_table())


def indexed_languages(index: Partition) -> list[str]:
    """List the languages the index has files of, most files first."""
    counts: Mapping[str, int] = index.manifest.counts["languages"]
    return sorted(counts, key=lambda language: (-counts[language], language))


def _mark(graph: Graph, walked: pa.Table, engine: Engine) -> tuple[pa.Table, pa.Table]:
    """Look at every content once under each of its names; collect license evidence on the way."""
    by_content = FilesByContent(walked)
    wanted = walked["content_id"].unique()
    found: list[Evidence | None] = []

    def named_contents() -> Iterator[pa.RecordBatch]:
        done = 0
        with Meter("naming languages") as meter:
            for contents in read_contents(graph.sources("content"), wanted, batch_bytes=BATCH_BYTES):
                batch = by_content.join(contents)
                found.extend(_evidence_in(batch))
                yield batch
                meter.show(done := done + contents.num_rows, len(wanted))

    marked = [pa.Table.from_batches([batch]) for batch in engine.map(_mark_batch, named_contents())]
    ordered = pa.concat_tables(marked).sort_by([("repo_name", "ascending"), ("path", "ascending")])
    return ordered, evidence_table(found)


def _mark_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Mark files by name and bytes; a content that the graph knows without its bytes is a binary one."""
    marked = mark_files(batch)
    problems = pc.replace_with_mask(
        marked["problem"], pc.equal(pc.fill_null(marked["problem"], ""), "missing"), pa.scalar("binary")
    )
    marked = marked.set_column(marked.schema.get_field_index("problem"), "problem", problems)
    return marked.select([name for name in marked.schema.names if name != "data"])


def _evidence_in(batch: pa.RecordBatch) -> Iterator[Evidence | None]:
    for row, path in enumerate(batch["path"].to_pylist()):
        data = batch["data"][row]
        if evidence_files(path) is not None and data.is_valid:
            yield directory_evidence(batch["repo_name"][row].as_py(), path, data.as_py())


def _one_language_a_content(marked: pa.Table) -> pa.Table:
    votes: dict[str, Counter[str]] = {}
    for content_id, language in zip(
        marked["content_id"].to_pylist(), marked["language"].to_pylist(), strict=True
    ):
        if language is not None:
            votes.setdefault(content_id, Counter())[language] += 1
    chosen = {content: min(names, key=lambda name: (-names[name], name)) for content, names in votes.items()}
    languages = [chosen.get(content_id) for content_id in marked["content_id"].to_pylist()]
    problems = [
        None if problem == "no_language" and language is not None else problem
        for problem, language in zip(marked["problem"].to_pylist(), languages, strict=True)
    ]
    columns = {"language": pa.array(languages, pa.string()), "problem": pa.array(problems, pa.string())}
    for name, values in columns.items():
        marked = marked.set_column(marked.column_names.index(name), name, values)
    return marked


def _unread(walked: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give paths whose content is not held the columns of those that were looked at."""
    rows = walked.append_column("problem", walked["skip_reason"])
    for field in schema:
        if field.name not in rows.column_names:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows.select(schema.names).cast(schema)


def _decide_problems(problems: pa.Table) -> pa.Table:
    reasons = [text.split(":")[0].replace(" ", "_") for text in problems["problem"].to_pylist()]
    evidence = [
        {"length_bytes": length, "detail": text}
        for length, text in zip(
            problems["length_bytes"].to_pylist(), problems["problem"].to_pylist(), strict=True
        )
    ]
    return decisions.decide(problems, decisions.DROP, INDEX, reasons, evidence, VERSION)


def _identity(rows: pa.Table) -> str:
    """Digest what the stages decide by: not the ids and dates of snapshot, revision, release and root directory.

    Those change for every file of a repository when one of its files does. A language whose own files are the same
    is not done again, and its rows name the snapshot they were first seen in, which holds them still.
    """
    return _digest(rows.drop_columns(list(OF_THE_VISIT)))


def _digest(table: pa.Table | None) -> str:
    if table is None:
        return ""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()


def _by_language(files: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    for field in FILES:
        if field.name not in files.column_names:
            files = files.append_column(field, pa.nulls(files.num_rows, field.type))
    for language in sorted(files["language"].unique().to_pylist()):
        yield (
            language,
            conform(files.filter(pc.equal(files["language"], language)), FILES, f"index of {language}"),
        )
