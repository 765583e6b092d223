"""Why is this file in, or not? The decisions about it, stage by stage, with their evidence."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stack_platform.archive.swhid import content_swhid, parse
from stack_platform.corpus.index import DROPPED
from stack_platform.corpus.stages import INDEX, STAGES
from stack_platform.errors import SourceError
from stack_platform.schemas import FILES
from stack_platform.tables import Lake, Partition

KEY = ["repo_name", "path", "content_id"]
License = tuple[str | None, str | None, str | None]


@dataclass(frozen=True, slots=True)
class Step:
    """What one stage did with the file."""

    stage: str
    verdict: str  # kept, drop, redact, not made yet
    reason: str | None = None
    evidence: Any = None
    policy_version: str | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """One path of the snapshot and its way through the stages, as far as it came."""

    repo_name: str
    path: str
    swhid: str
    language: str | None
    license_expression: str | None
    license_source: str | None  # file, dir, package, repo, none
    license_path: str | None
    steps: tuple[Step, ...]

    @property
    def verdict(self) -> str:
        """Say where the file is now: in the training set, removed by a stage, or not decided yet."""
        last = self.steps[-1]
        if last.verdict == "drop":
            return f"removed by {last.stage}: {last.reason}"
        if last.verdict == "not made yet":
            return f"not decided yet: {last.stage} was not materialized for {self.language}"
        redacted = next((step for step in self.steps if step.verdict == "redact"), None)
        return f"in the training set, redacted: {redacted.reason}" if redacted else "in the training set"


def explain(lake: Lake, subject: str) -> list[Story]:
    """Tell the story of every path that a subject names.

    A subject is a content SWHID, a path of the snapshot (`numpy/version.py`, or with its repository in front,
    `pkg:pypi/numpy/numpy/version.py`), or a file on this machine, which is looked up by its bytes.

    Raises:
        SourceError: the snapshot holds nothing of that name; near names are listed.
        TableError: there is no index yet.

    """
    index = lake.open(INDEX)
    column, value = _selector(subject)
    found = list(_find(index, column, value))
    if not found and Path(subject).is_file():
        found = list(_find(index, "content_id", parse(content_swhid(Path(subject).read_bytes())).hash))
    if not found:
        raise SourceError(_not_found(index, subject))
    return [_tell(lake, *place) for place in sorted(set(found), key=str)]


def _selector(subject: str) -> tuple[str, str]:
    if subject.startswith("swh:"):
        swhid = parse(subject)
        if swhid.type != "cnt":
            raise SourceError(f"{subject} names no file; write the SWHID of a content (swh:1:cnt:…)")
        return "content_id", swhid.hash
    return "path", subject


def _find(index: Partition, column: str, value: str) -> Iterator[tuple[str, str, str, str | None]]:
    """Find paths in the tables of all languages and among those that have none."""
    for language in index.manifest.tables:
        if language.startswith("_"):
            continue
        for source in index.sources(language):
            yield from _places(pq.ParquetFile(source).read(KEY), language, column, value)
    dropped = index.read(DROPPED, ["repo_name", "path", "swhid"])
    ids = pc.utf8_replace_slice(dropped["swhid"], 0, len("swh:1:cnt:"), "")
    yield from _places(dropped.set_column(2, "content_id", ids), None, column, value)


def _places(
    table: pa.Table, language: str | None, column: str, value: str
) -> Iterator[tuple[str, str, str, str | None]]:
    chosen = pc.equal(table[column], value)
    if column == "path":
        whole = pc.binary_join_element_wise(table["repo_name"], table["path"], "/")
        chosen = pc.or_(chosen, pc.equal(whole, value))
    rows = table.filter(chosen)
    for repo_name, path, content_id in zip(*(rows[name].to_pylist() for name in KEY), strict=True):
        yield repo_name, path, content_id, language


def _tell(lake: Lake, repo_name: str, path: str, content_id: str, language: str | None) -> Story:
    steps = []
    license_: License = (None, None, None)
    for stage in (INDEX, *STAGES) if language is not None else (INDEX,):
        partition = lake.latest(stage, "all" if stage == INDEX else str(language))
        step = _step(stage, partition, repo_name, path)
        steps.append(step)
        if stage == "license_filtered" and partition is not None:
            license_ = _license_of(partition, repo_name, path, step)
        if step.verdict in ("drop", "not made yet"):
            break
    return Story(repo_name, path, f"swh:1:cnt:{content_id}", language, *license_, tuple(steps))


def _step(stage: str, partition: Partition | None, repo_name: str, path: str) -> Step:
    if partition is None:
        return Step(stage, "not made yet")
    made = partition.read(DROPPED if stage == INDEX else "decisions")
    rows = _of_file(made, repo_name, path).to_pylist()
    if not rows:
        return Step(stage, "kept")
    row = rows[0]
    return Step(stage, row["action"], row["reason"], json.loads(row["evidence"]), row["policy_version"])


def _license_of(partition: Partition, repo_name: str, path: str, step: Step) -> License:
    if step.verdict == "drop":
        return step.evidence.get("expression"), step.evidence.get("source"), step.evidence.get("path")
    names = ["license_expression", "license_source", "license_path"]
    rows = _of_file(partition.read("files", ["repo_name", "path", *names]), repo_name, path).to_pylist()
    return (rows[0][names[0]], rows[0][names[1]], rows[0][names[2]]) if rows else (None, None, None)


def _of_file(table: pa.Table, repo_name: str, path: str) -> pa.Table:
    return table.filter(pc.and_(pc.equal(table["path"], path), pc.equal(table["repo_name"], repo_name)))


def _not_found(index: Partition, subject: str) -> str:
    message = f"the snapshot holds nothing named {subject!r}"
    if subject.startswith("swh:"):
        return message + "; its id may be right and its origin not among the sources"
    folder, _, name = subject.rpartition("/")
    tables = [index.read(t, ["path"], FILES) for t in index.manifest.tables if not t.startswith("_")]
    paths = [path for table in tables for path in table["path"].to_pylist()]
    akin = [path for path in paths if path.rpartition("/")[0] == folder or path.endswith(f"/{name}")]
    near = get_close_matches(subject, akin, n=3, cutoff=0.3) or akin[:3]
    return message + (
        f"; near it are: {', '.join(near)}" if near else "; write a path as the index has it, or a SWHID"
    )
