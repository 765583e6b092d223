"""Scrub batches of files and keep the account: which span, which rule, what became of it, never its value.

The account is a table with one row per replaced span. `value_digest` is a keyed BLAKE2b, so equal secrets are
recognized across files by whoever holds the key and by nobody else. `rescan` is the proof after the fact: it
returns the high-confidence spans that a scrubbed set still holds, which must be none.
"""

import hashlib

import pyarrow as pa

from stack_platform.errors import SchemaError
from stack_platform.scrub.detect import find_spans
from stack_platform.scrub.redact import Scrubbed, ScrubConfig, scrub_text
from stack_platform.scrub.spans import Span

_FOUND = [
    pa.field("content_id", pa.string()),
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
        pa.field("action", pa.string()),  # mode of the configuration: surrogate, token or mask
        pa.field("value_digest", pa.string()),  # keyed BLAKE2b-128 of the value, hexadecimal
        pa.field("surrogate", pa.string()),  # the new text
        pa.field("length", pa.int64()),  # code points of the value
    ]
)


def scrub_batch(
    batch: pa.RecordBatch, config: ScrubConfig = ScrubConfig()
) -> tuple[pa.RecordBatch, pa.Table]:
    """Scrub the contents of a batch; return the batch with new contents and the account of its spans.

    batch: columns content_id, path and content (large_string or string), others pass through; a null content
    stays null. Account: SPANS_SCHEMA, rows in the order of the batch. Raises SchemaError for a missing column.
    """
    contents, paths, ids = _columns(batch)
    new: list[str | None] = []
    rows: list[dict[str, object]] = []
    for content, path, content_id in zip(contents, paths, ids, strict=True):
        if content is None:
            new.append(None)
            continue
        scrubbed = scrub_text(content, path or "", config)
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

    High confidence is the sensitivity `permissive`, whatever the configuration scrubbed with.
    """
    rows: list[dict[str, object]] = []
    for content, path, content_id in zip(*_columns(batch), strict=True):
        spans = find_spans(content or "", path or "", "permissive", cache_dir=config.cache_dir)
        rows.extend(_found(path, content_id, span) for span in spans)
    return pa.Table.from_pylist(rows, schema=RESCAN_SCHEMA)


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


def _found(path: str | None, content_id: str | None, span: Span) -> dict[str, object]:
    return {
        "content_id": content_id,
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
    key = hashlib.sha256(config.key).digest()
    rows: list[dict[str, object]] = []
    for span, replacement in zip(scrubbed.spans, scrubbed.replacements, strict=True):
        value = content[span.start : span.end].encode("utf-8")
        digest = hashlib.blake2b(value, digest_size=16, key=key).hexdigest()
        rows.append(
            _found(path, content_id, span)
            | {
                "action": config.mode,
                "value_digest": digest,
                "surrogate": replacement,
                "length": span.end - span.start,
            }
        )
    return rows
