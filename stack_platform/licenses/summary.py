"""Counts licenses for people: by expression, type and source, why files left, and a sample of the evidence."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from stack_platform.decisions import DROP, count_reasons
from stack_platform.errors import SchemaError

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = ("repo_name", "path", "license_expression", "license_type", "license_source", "license_path")
_MAX_WORDS = 120  # characters of a statement shown


@dataclass(frozen=True, slots=True)
class LicenseSummary:
    """Licenses of files and decisions; each count is sorted, most first."""

    files: int
    by_expression: dict[str, int]
    by_type: dict[str, int]
    by_source: dict[str, int]
    by_reason: dict[str, int]  # files that left, by reason
    sample: tuple[dict[str, Any], ...]  # some files of each expression with the words that decided


def license_summary(
    files: pa.Table, decisions: pa.Table, stage: str = "license_filtered", sample: int = 20
) -> LicenseSummary:
    """Summarize judged files and the decisions of their stage.

    Columns in: files as LICENSE_COLUMNS, decisions as DECISIONS. The sample takes the first file by repository
    and path of each expression, the most frequent expressions first. Raises SchemaError for missing columns.
    """
    missing = [name for name in (*_COLUMNS, "license_evidence") if name not in files.column_names]
    if missing:
        raise SchemaError(f"files lack the columns {missing}; give judged files")
    expressions = _count(files, "license_expression")
    ours = decisions.filter(pc.equal(decisions["stage"], stage))
    return LicenseSummary(
        files=files.num_rows,
        by_expression=expressions,
        by_type=_count(files, "license_type"),
        by_source=_count(files, "license_source"),
        by_reason=count_reasons(ours, DROP),
        sample=tuple(_sample(files, list(expressions)[:sample])),
    )


def _count(files: pa.Table, column: str) -> dict[str, int]:
    counts = Counter(str(value) for value in files[column].to_pylist())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _sample(files: pa.Table, expressions: list[str]) -> list[dict[str, Any]]:
    first: dict[str, tuple[str, str, int]] = {}
    names = (files[name].to_pylist() for name in ("license_expression", "repo_name", "path"))
    for i, (expression, repo, path) in enumerate(zip(*names, strict=True)):
        key = (str(repo), str(path), i)
        if str(expression) not in first or key < first[str(expression)]:
            first[str(expression)] = key
    rows = []
    for expression in expressions:
        row = files.slice(first[expression][2], 1).select([*_COLUMNS, "license_evidence"]).to_pylist()[0]
        evidence = json.loads(row.pop("license_evidence") or "{}")
        statements = evidence.get("statements") or [{}]
        rows.append(
            {
                **row,
                "rule": statements[0].get("rule"),
                "words": " ".join((statements[0].get("text") or "").split())[:_MAX_WORDS],
                "chosen": evidence.get("chosen"),
            }
        )
    return rows
