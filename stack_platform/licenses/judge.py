"""Judges files: own statement first, else what they inherit, and whether that is permissive.

Method: `detect_license` reads the file; a file that states nothing inherits (`inherit.py`). A permissive
statement of the file wins over a restrictive folder, a restrictive one over a permissive folder. What the
file says and nobody can name (UNKNOWN) also wins: it is never made permissive by its folder. Statements
about a part of the file ("portions of this file", "adapted from", or far below its head) do not speak for
the rest: they are AND-ed with what the file inherits, and alone they leave it without a license. Every
row keeps why: `license_evidence` is canonical JSON with rules, byte spans, the words, the policy, and in
`chosen` the part of the expression that makes it permissive (one arm of each OR; null when nothing does).

With `LicenseConfig(scancode=True)` ScanCode is asked about statements that nobody could name: 0.3 s and more for
each such content, 1.5 GB for the process.

Annotations of REUSE (`inherited_precedence`): `aggregate` adds what is inherited to the file's statement;
`override` replaces it, unless the statement is restrictive or unnamed: then both hold.

Cost: 45 MB/s of one core on all source files of a site-packages folder (30,170 files, 358 MB; measured by
benchmarks/inheritance.py), nearly all of it in `detect_license`; a file without a license keyword passes at
prefilter speed.

Columns in: path (string), content (string, large_string, binary or large_binary), inherited_expression,
inherited_source, inherited_path, and inherited_precedence if there is one. Columns out: those and
detected_licenses (list<string>), license_expression, license_type, license_source (file, dir, package, repo,
none), license_path,
license_evidence.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

import pyarrow as pa

from stack_platform.errors import PolicyError, SchemaError
from stack_platform.licenses import spdx
from stack_platform.licenses.detect import LicenseFinding, detect_license, is_license_file
from stack_platform.licenses.directories import Inherited
from stack_platform.licenses.policy import (
    LicenseConfig,
    license_type,
    permissive_arm,
    policy_version,
    reason_to_drop,
)
from stack_platform.licenses.scancode import load_scancode, read_with_scancode
from stack_platform.licenses.tokens import locate_keywords

__all__ = ["JUDGMENT", "LicenseConfig", "judge_files", "reason_to_drop"]

_INPUT = ("path", "content", "inherited_expression", "inherited_source", "inherited_path")
_HEAD = 8192  # bytes; a statement further down is about a part
_BEFORE = 160  # bytes before a statement in which it says that it is about borrowed code
_BORROWED = re.compile(
    rb"(?i)\b(?:portions?|parts|snippets?|sections) (?:of|are|is|from|copied|taken)\b"
    rb"|\b(?:adapted|borrowed|copied|derived|taken|ported|inspired|excerpted|vendored) from\b|\bbased (?:up)?on\b"
    rb"|\b(?:original|upstream) (?:code|source|implementation|version)\b"
    rb"|\bthis (?:function|class|method|algorithm|snippet|section|part)\b"
)
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
JUDGMENT = pa.schema(
    [
        pa.field("detected_licenses", pa.list_(pa.string())),
        pa.field("license_expression", pa.string()),
        pa.field("license_type", pa.string()),
        pa.field("license_source", pa.string()),
        pa.field("license_path", pa.string()),
        pa.field("license_evidence", pa.string()),
    ]
)
"""The columns that `judge_files` adds."""


class _Judgment(NamedTuple):
    detected: list[str]
    expression: str
    type: str
    source: str
    path: str | None
    evidence: str


def judge_files(batch: pa.RecordBatch, config: LicenseConfig = LicenseConfig()) -> pa.RecordBatch:
    """Add the license columns to a batch of files; see the module docstring for the columns.

    Raises SchemaError when a column is missing, ConfigError when ScanCode is asked for and not installed.
    """
    residual = read_with_scancode if config.scancode and load_scancode() else None
    missing = [name for name in _INPUT if name not in batch.schema.names]
    if missing:
        raise SchemaError(f"files lack the columns {missing}; run `inherit` on their paths first")
    hits = locate_keywords(batch.column("content"))
    contents = batch.column("content").cast(pa.large_binary())
    known = "inherited_precedence" in batch.schema.names
    precedence = batch.column("inherited_precedence").to_pylist() if known else [None] * batch.num_rows
    others = (batch.column(name).to_pylist() for name in ("path", *_INPUT[2:]))
    rows = []
    for i, (path, expression, source, origin) in enumerate(zip(*others, strict=True)):
        content = (contents[i].as_py() or b"") if hits[i] != [] or is_license_file(path) else b""
        finding = detect_license(content, path, hits[i], residual) if content else LicenseFinding(spdx.NONE)
        inherited = Inherited(expression or spdx.NONE, source or "none", origin, precedence[i] or "closest")
        permissive = license_type(finding.expression, config) == "permissive"
        verdict = _conclude(path, content, finding, inherited, permissive=permissive)
        rows.append(_describe(verdict, finding, inherited, config))
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(JUDGMENT)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, JUDGMENT, strict=True)]
    return pa.RecordBatch.from_arrays(
        [*batch.columns, *arrays],
        schema=pa.schema([*batch.schema, *JUDGMENT], metadata=batch.schema.metadata),
    )


class _Verdict(NamedTuple):
    expression: str
    source: str
    path: str | None


def _conclude(
    path: str, content: bytes, finding: LicenseFinding, inherited: Inherited, *, permissive: bool
) -> _Verdict:
    """Settle what holds for a file: its own statement (permissive or not), what it inherits, or both."""
    own, other = finding.expression, inherited.expression
    verdict = _Verdict(other, inherited.source, inherited.path)
    if own != spdx.NONE:
        if other != spdx.NONE and inherited.precedence == "override":
            verdict = verdict if permissive else _Verdict(_add(other, own), "file", path)
        elif inherited.precedence == "aggregate":
            verdict = _Verdict(_add(other, own), "file", path)
        elif not _speaks_for_a_part(content, finding):
            verdict = _Verdict(own, "file", path)
        elif not permissive:
            verdict = _Verdict(_add(other, own), "file", path)
        elif other != spdx.NONE:
            verdict = verdict._replace(expression=_add(other, own))
    return _Verdict(spdx.NONE, "none", None) if verdict.expression == spdx.NONE else verdict


def _describe(
    verdict: _Verdict, finding: LicenseFinding, inherited: Inherited, config: LicenseConfig
) -> _Judgment:
    evidence = {
        "chosen": permissive_arm(verdict.expression, config),
        "inherited": {
            "expression": inherited.expression,
            "path": inherited.path,
            "precedence": inherited.precedence,
            "source": inherited.source,
        },
        "policy": policy_version(config),
        "statements": [
            {
                "end": end,
                "expression": e.expression,
                "rule": e.rule,
                "start": start,
                "text": e.text,
                "tier": e.tier,
            }
            for (start, end), e in zip(finding.spans, finding.evidence, strict=True)
        ],
    }
    return _Judgment(
        detected=list(spdx.symbols(finding.expression)),
        expression=verdict.expression,
        type=license_type(verdict.expression, config),
        source=verdict.source,
        path=verdict.path,
        evidence=_JSON.encode(evidence),
    )


def _speaks_for_a_part(content: bytes, finding: LicenseFinding) -> bool:
    """Say whether every statement is about borrowed code or stands far below the head of the file."""
    starts = [
        start
        for (start, _), evidence in zip(finding.spans, finding.evidence, strict=True)
        if evidence.tier != "tag" or start == 0
    ]
    if len(starts) < len(finding.spans):
        return False
    return all(s > _HEAD or _BORROWED.search(content[max(0, s - _BEFORE) : s]) for s in starts) and bool(
        starts
    )


def _add(expression: str, other: str) -> str:
    try:
        return spdx.combine([expression, other])
    except PolicyError:
        return spdx.UNKNOWN
