"""What must hold of committed partitions, proven by reading them again; nothing a stage said is believed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stack_platform import decisions
from stack_platform.corpus.graph import open_graph
from stack_platform.corpus.index import DROPPED
from stack_platform.corpus.stages import INDEX, UPSTREAM
from stack_platform.errors import StackError
from stack_platform.licenses.policy import LicenseConfig, disallowed
from stack_platform.schemas import FILES, LICENSED_FILES, MEASURED_FILES, SCRUBBED_FILES
from stack_platform.scrub.audit import rescan
from stack_platform.scrub.redact import ScrubConfig
from stack_platform.tables import Lake

SCHEMAS = {
    "raw_snapshot": FILES,
    "license_filtered": LICENSED_FILES,
    "quality_filtered": MEASURED_FILES,
    "deduplicated": MEASURED_FILES,
    "scrubbed": SCRUBBED_FILES,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether something holds, in a sentence and in numbers."""

    passed: bool
    summary: str
    details: Mapping[str, Any] = field(default_factory=dict)


def for_all(languages: Sequence[str], check: Callable[[str], Outcome]) -> Outcome:
    """Run a check over languages: it passes where it passes for each; failures are named."""
    outcomes = {language: _run(check, language) for language in languages}
    failed = {language: outcome for language, outcome in outcomes.items() if not outcome.passed}
    shown = failed or outcomes
    summary = "; ".join(f"{language}: {outcome.summary}" for language, outcome in list(shown.items())[:10])
    details = {language: outcome.details for language, outcome in shown.items() if outcome.details}
    return Outcome(not failed, summary or "no partition to look at", details)


def _run(check: Callable[[str], Outcome], language: str) -> Outcome:
    try:
        return check(language)
    except StackError as error:
        return Outcome(passed=False, summary=str(error))


def counts_add_up(lake: Lake, language: str, stage: str) -> Outcome:
    """Check that what went in is what stayed plus what was dropped by reason, counted in the tables themselves."""
    partition = lake.open(stage, language)
    kept = partition.read("files", ["repo_name", "path"])
    dropped = decisions.count_reasons(partition.read("decisions"))
    if stage == "raw_snapshot":
        before = lake.open(INDEX).read(language, ["repo_name"], FILES).num_rows
    else:
        before = lake.open(UPSTREAM[stage], language).manifest.rows("files")
    after = kept.num_rows + sum(dropped.values())
    stated = partition.manifest.counts
    passed = before == after and stated["files_out"] == kept.num_rows and dict(stated["dropped"]) == dropped
    said = ", ".join(f"{n} {reason}" for reason, n in dropped.items()) or "none dropped"
    return Outcome(
        passed, f"{before} in, {kept.num_rows} kept, {said}", {"in": before, "kept": kept.num_rows, **dropped}
    )


def schema_holds(lake: Lake, language: str, stage: str) -> Outcome:
    """Check that the files have the columns and types that are written down for the stage, and no null id."""
    partition = lake.open(stage, language)
    found, wanted = partition.schema("files"), SCHEMAS[stage]
    wrong = [
        field.name
        for field in wanted
        if field.name not in found.names or found.field(field.name).type != field.type
    ]
    wrong += [name for name in found.names if name not in wanted.names]
    if wrong:
        return Outcome(passed=False, summary=f"wrong columns {wrong}")
    ids = partition.read("files", ["content_id", "repo_name", "path", "language"])
    nulls = [name for name in ids.column_names if ids[name].null_count]
    return Outcome(not nulls, f"nulls in {nulls}" if nulls else f"{len(wanted)} columns as written down")


def index_adds_up(lake: Lake) -> Outcome:
    """Check that every path of the graph is in exactly one language or has a reason, and no content in two."""
    index = lake.open(INDEX)
    tables = [name for name in index.manifest.tables if not name.startswith("_")]
    indexed = sum(index.manifest.rows(name) for name in tables)
    dropped = index.manifest.rows(DROPPED)
    paths = index.manifest.counts["paths"]
    contents = [index.read(name, ["content_id"])["content_id"].unique() for name in tables]
    ids = pa.chunked_array(contents) if contents else pa.chunked_array([[]], pa.string())
    shared = len(ids) - pc.count_distinct(ids).as_py()
    known = open_graph(lake).rows("content")
    passed = paths == indexed + dropped and shared == 0 and len(ids) <= known
    summary = (
        f"{paths} paths, {indexed} in {len(tables)} languages, {dropped} with a reason, "
        f"{shared} contents in two languages"
    )
    return Outcome(passed, summary, index.manifest.counts["dropped"])


def licenses_allowed(lake: Lake, language: str, config: LicenseConfig = LicenseConfig()) -> Outcome:
    """Judge the expression of every kept row again: none may be of a type that the policy does not keep."""
    rows = lake.open("license_filtered", language).read("files", ["license_expression", "path"])
    expressions = pc.count_distinct(rows["license_expression"], mode="all").as_py()
    wrong = disallowed(rows, config)
    if wrong.num_rows:
        counts = wrong["license_expression"].value_counts().to_pylist()
        return Outcome(
            passed=False,
            summary=f"{wrong.num_rows} rows are not {' or '.join(config.keep)}",
            details={str(count["values"]): count["counts"] for count in counts},
        )
    return Outcome(
        passed=True,
        summary=f"{rows.num_rows} rows, {expressions} expressions, all {' or '.join(config.keep)}",
    )


def no_exact_duplicate(lake: Lake, language: str) -> Outcome:
    """Check that no two kept files have the same bytes."""
    ids = lake.open("deduplicated", language).read("files", ["content_id"])["content_id"]
    twice = len(ids) - pc.count_distinct(ids).as_py()
    return Outcome(twice == 0, f"{len(ids)} files, {twice} exact duplicates", {"duplicates": twice})


def nothing_left_to_scrub(lake: Lake, language: str, config: ScrubConfig = ScrubConfig()) -> Outcome:
    """Scan the scrubbed texts again: no secret of high confidence may be found."""
    partition = lake.open("scrubbed", language)
    found = [rescan(batch, config) for batch in partition.batches("files", ["content_id", "path", "content"])]
    left = pa.concat_tables(found) if found else None
    n = left.num_rows if left is not None else 0
    paths = left.select(["path", "type", "rule"]).slice(0, 5).to_pylist() if left is not None else []
    return Outcome(n == 0, f"{n} secrets found again", {"first": paths} if n else {})
