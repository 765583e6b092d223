"""Scrub batches of files and keep the account: which span, which rule, what became of it, never its value.

The account is a table with one row per replaced span. `value_digest` is a keyed BLAKE2b, so equal secrets are
recognized across files by whoever holds the key and by nobody else. `rescan` is the proof after the fact: it
returns the high-confidence spans that a scrubbed set still holds, which must be none. `counts` sums an account up.
"""

import hashlib
from collections import Counter
from dataclasses import replace
from typing import Any

import pyarrow as pa

from stack_platform.errors import SchemaError
from stack_platform.scrub.detect import find_spans
from stack_platform.scrub.policy import LEVELS
from stack_platform.scrub.redact import Scrubbed, ScrubConfig, scrub_text
from stack_platform.scrub.spans import TYPES, Span

_FOUND = [
    pa.field("content_id", pa.string()),
    pa.field("swhid", pa.string()),  # of the content before scrubbing
    pa.field("path", pa.string()),
    pa.field("start", pa.int64()),  # code points of the text before scrubbing
    pa.field("end", pa.int64()),  # code points, exclusive
    pa.field("type", pa.string()),
    pa.field("rule", pa.string()),
    pa.field("score", pa.float64()),
]
RESCAN_SCHEMA = pa.schema(_FOUND)
SPANS_SCHEMA = pa.schema(
    [
        *_FOUND,
        pa.field("action", pa.string()),  # surrogate, token, mask; masked where these broke the syntax
        pa.field("value_digest", pa.string()),  # keyed BLAKE2b-128 of the value, hexadecimal
        pa.field("surrogate", pa.string()),  # the new text
        pa.field("length", pa.int64()),  # code points of the value
    ]
)


def scrub_batch(
    batch: pa.RecordBatch, config: ScrubConfig = ScrubConfig()
) -> tuple[pa.RecordBatch, pa.Table]:
    """Scrub the contents of a batch; return the batch with new contents and the account of its spans.

    batch: columns content_id, path and content (large_string or string), and repo_name where surrogates are
    consistent in a repository; others pass through; a null content stays null. Account: SPANS_SCHEMA, rows in the
    order of the batch. Raises SchemaError for a missing column.
    """
    contents, paths, ids = _columns(batch)
    places = _places(batch, config)
    new: list[str | None] = []
    rows: list[dict[str, object]] = []
    for content, path, content_id, place in zip(contents, paths, ids, places, strict=True):
        if content is None:
            new.append(None)
            continue
        scrubbed = scrub_text(content, path or "", config, within=place or "")
        new.append(scrubbed.text)
        rows.extend(_account(content, path, content_id, scrubbed, config))
    place = batch.schema.get_field_index("content")
    field = batch.schema.field(place)
    return (
        batch.set_column(place, field, pa.array(new, field.type)),
        pa.Table.from_pylist(rows, schema=SPANS_SCHEMA),
    )


def rescan(batch: pa.RecordBatch, config: ScrubConfig = ScrubConfig()) -> pa.Table:
    """Return the high-confidence spans of an already scrubbed batch (RESCAN_SCHEMA): empty when all is well.

    High confidence is that of the sensitivity `permissive`; what the policy allows may stay.
    """
    policy = config.rules()
    never = {kind: max(LEVELS["permissive"], policy.threshold(kind)) for kind in TYPES}
    high = replace(policy, thresholds=never)
    rows: list[dict[str, object]] = []
    for content, path, content_id in zip(*_columns(batch), strict=True):
        spans = find_spans(content or "", path or "", policy=high, cache_dir=config.cache_dir)
        rows.extend(_found(path, content_id, span) for span in spans)
    return pa.Table.from_pylist(rows, schema=RESCAN_SCHEMA)


def counts(spans: pa.Table, top: int = 20) -> dict[str, Any]:
    """Sum an account up for people: spans and distinct values by type, the rules that found most, characters."""
    kinds, rules = spans["type"].to_pylist(), spans["rule"].to_pylist()
    distinct = Counter(kind for kind, _ in set(zip(kinds, spans["value_digest"].to_pylist(), strict=True)))
    return {
        "spans": spans.num_rows,
        "files": len(set(spans["content_id"].to_pylist())),
        "characters": sum(spans["length"].to_pylist()),
        "by_type": dict(sorted(Counter(kinds).items())),
        "distinct_by_type": dict(sorted(distinct.items())),
        "top_rules": dict(sorted(Counter(rules).items(), key=lambda item: (-item[1], item[0]))[:top]),
    }


def _places(batch: pa.RecordBatch, config: ScrubConfig) -> list[str | None]:
    """Return the file or repository of each row, in which surrogates are consistent."""
    column = "repo_name" if config.scope == "repository" else "content_id"
    if column not in batch.schema.names:
        raise SchemaError(
            f"surrogates that are consistent in a {config.scope} need the column {column}; the batch has "
            f"{', '.join(batch.schema.names)}"
        )
    places: list[str | None] = batch.column(column).to_pylist()
    return places


def _columns(batch: pa.RecordBatch) -> tuple[list[str | None], list[str | None], list[str | None]]:
    missing = {"content_id", "path", "content"} - set(batch.schema.names)
    if missing:
        raise SchemaError(
            f"scrubbing needs the columns {', '.join(sorted(missing))}; the batch has {', '.join(batch.schema.names)}"
        )
    return (
        batch.column("content").to_pylist(),
        batch.column("path").to_pylist(),
        batch.column("content_id").to_pylist(),
    )


def value_digest(value: str, key: bytes) -> str:
    """Return what recognizes a value for whoever holds the key, and for nobody else."""
    inner = hashlib.sha256(key).digest()
    return hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16, key=inner).hexdigest()


def swhid(content_id: str | None) -> str | None:
    """Return the SWHID of a content from its sha1_git."""
    return f"swh:1:cnt:{content_id}" if content_id and ":" not in content_id else content_id


def _found(path: str | None, content_id: str | None, span: Span) -> dict[str, object]:
    return {
        "content_id": content_id,
        "swhid": swhid(content_id),
        "path": path,
        "start": span.start,
        "end": span.end,
        "type": span.type,
        "rule": span.rule,
        "score": span.score,
    }


def _account(
    content: str, path: str | None, content_id: str | None, scrubbed: Scrubbed, config: ScrubConfig
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for span, replacement in zip(scrubbed.spans, scrubbed.replacements, strict=True):
        digest = value_digest(content[span.start : span.end], config.key)
        rows.append(
            _found(path, content_id, span)
            | {
                "action": "masked" if scrubbed.masked else config.mode,
                "value_digest": digest,
                "surrogate": replacement,
                "length": span.end - span.start,
            }
        )
    return rows
