"""Seal what is scrubbed as a release, prove a release, and tell two of them apart."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stack_platform.corpus.funnel import funnel
from stack_platform.corpus.graph import GRAPH, open_graph
from stack_platform.corpus.stages import INDEX, STAGES, Policies
from stack_platform.errors import ConflictError, ReleaseError
from stack_platform.licenses.policy import policy_version
from stack_platform.releases.manifest import FOLDER, Release, list_releases, read_release, version_of
from stack_platform.tables import Lake

LAST = STAGES[-1]


@dataclass(frozen=True, slots=True)
class LanguageChange:
    """How one language differs between two releases, in files counted by their content."""

    language: str
    added: int
    removed: int
    kept: int


def build_release(
    lake: Lake,
    month: tuple[int, int],
    languages: Sequence[str] | None = None,
    policies: Policies = Policies(),
) -> tuple[Release, bool]:
    """Seal the scrubbed partitions; give the release and whether it is new.

    `month` is (year, month) of the name; the patch number follows the newest release of that month. Where nothing
    changed since the newest release, that one is given and nothing is sealed.

    Raises:
        ReleaseError: no language is scrubbed, or a release invariant does not hold.
        ConflictError: another run sealed the same name meanwhile.

    """
    languages = [
        name for name in (languages or lake.partitions(LAST)) if lake.open(LAST, name).manifest.rows("files")
    ]
    if not languages:
        raise ReleaseError("nothing is scrubbed yet; materialize the asset scrubbed for a language first")
    known = list_releases(lake)
    newest = read_release(lake, known[-1]) if known else None
    patches = [version_of(name)[2] for name in known if version_of(name)[:2] == month]
    made = Release(
        release=f"{month[0]:04d}.{month[1]:02d}.{max(patches, default=-1) + 1}",
        parent=newest.release if newest else None,
        files=tuple(file for name in languages for file in _files_of(lake, name)),
        languages={name: _describe(lake, name) for name in languages},
        parents={
            GRAPH: open_graph(lake).digest,
            INDEX: lake.open(INDEX).digest,
            "license_policy": policy_version(policies.licenses),
            "quality_policy": policies.quality.policy.version,
        },
        counts=tuple(asdict(total) for total in funnel(lake, languages)),
    )
    if newest is not None and newest.digest == made.digest:
        return newest, False
    _prove_unique(lake, made)
    try:
        lake.put_new(f"{FOLDER}/{made.release}.json", made.to_json().encode())
    except ConflictError as error:
        raise ConflictError(
            f"release {made.release} was sealed by another run meanwhile; build again"
        ) from error
    return made, True


def verify_release(lake: Lake, name: str | None = None) -> list[str]:
    """Read every byte of a release again and list what is not as it was sealed; an empty list is good news.

    Raises:
        ReleaseError: there is no such release, or its manifest was altered.

    """
    problems = []
    release = read_release(lake, name)
    for file in release.files:
        data = lake.get(file["path"])
        if data is None:
            problems.append(f"{file['path']} is missing")
            continue
        found = lake.sha256(file["path"])
        if found != file["sha256"]:
            problems.append(f"{file['path']} has SHA-256 {found[:16]}…, sealed was {file['sha256'][:16]}…")
            continue
        rows = pq.ParquetFile(lake.source(file["path"])).metadata.num_rows
        if rows != file["rows"]:
            problems.append(f"{file['path']} has {rows} rows, sealed were {file['rows']}")
    return problems


def diff_releases(lake: Lake, old: str, new: str) -> list[LanguageChange]:
    """Count the contents added and removed between two releases, by language, languages without change left out."""
    before, after = (_contents_by_language(lake, read_release(lake, name)) for name in (old, new))
    changes = []
    for language in sorted({*before, *after}):
        a, b = before.get(language, set()), after.get(language, set())
        if a != b:
            changes.append(LanguageChange(language, len(b - a), len(a - b), len(a & b)))
    return changes


def _files_of(lake: Lake, language: str) -> list[Mapping[str, Any]]:
    files = lake.open(LAST, language).manifest.tables["files"]
    fields = ("path", "sha256", "size_bytes", "rows")
    return [{**{name: getattr(file, name) for name in fields}, "language": language} for file in files]


def _describe(lake: Lake, language: str) -> dict[str, Any]:
    partition = lake.open(LAST, language)
    licenses = Counter(partition.read("files", ["license_expression"])["license_expression"].to_pylist())
    stages = {stage: lake.open(stage, language).digest for stage in STAGES}
    counts = partition.manifest.counts
    return {
        "files": counts["files_out"],
        "bytes": counts["bytes_out"],
        "licenses": dict(sorted(licenses.items(), key=lambda item: (-item[1], str(item[0])))),
        "stages": stages,
    }


def _prove_unique(lake: Lake, release: Release) -> None:
    """Refuse a release that holds the same bytes, or the same path of a repository, twice."""
    columns = ["content_id", "repo_name", "path"]
    tables = [pq.ParquetFile(lake.source(f["path"])).read(columns) for f in release.files]
    rows = pa.concat_tables(tables)
    if pc.count_distinct(rows["content_id"]).as_py() != rows.num_rows:
        raise ReleaseError(
            "two files of the release have the same bytes; materialize deduplicated again before sealing"
        )
    places = pc.binary_join_element_wise(rows["repo_name"], rows["path"], "\0")
    if pc.count_distinct(places).as_py() != rows.num_rows:
        raise ReleaseError(
            "a path of a repository is twice in the release; materialize file_index again before sealing"
        )


def _contents_by_language(lake: Lake, release: Release) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for file in release.files:
        rows = pq.ParquetFile(lake.source(file["path"])).read(["content_id"])
        found.setdefault(file["language"], set()).update(rows["content_id"].to_pylist())
    return found
