"""The Arrow schema of every table, in one place.

The archive's tables have the names, columns and types of the Software Heritage graph export in its Parquet
flavor (ids are hexadecimal strings, names and messages are bytes, dates are seconds and microseconds since
1970 UTC). The file table has the columns of The Stack v2, unchanged, and ours after them.
"""

import pyarrow as pa

from stack_platform.errors import SchemaError

DATE = pa.struct([("seconds", pa.int64()), ("microseconds", pa.uint32())])

ARCHIVE: dict[str, pa.Schema] = {
    "origin": pa.schema([("id", pa.string()), ("url", pa.string())]),
    "origin_visit": pa.schema(
        [("origin", pa.string()), ("visit", pa.int64()), ("date", DATE), ("type", pa.string())]
    ),
    "origin_visit_status": pa.schema(
        [
            ("origin", pa.string()),
            ("visit", pa.int64()),
            ("date", DATE),
            ("status", pa.string()),  # created, ongoing, full, partial, not_found, failed
            ("snapshot", pa.string()),
            ("type", pa.string()),
        ]
    ),
    "snapshot": pa.schema([("id", pa.string())]),
    "snapshot_branch": pa.schema(
        [
            ("snapshot_id", pa.string()),
            ("name", pa.binary()),
            ("target", pa.string()),
            ("target_type", pa.string()),  # content, directory, revision, release, snapshot, alias
        ]
    ),
    "release": pa.schema(
        [
            ("id", pa.string()),
            ("name", pa.binary()),
            ("message", pa.binary()),
            ("target", pa.string()),
            ("target_type", pa.string()),
            ("author", pa.binary()),
            ("date", DATE),
            ("date_offset", pa.int16()),
            ("date_raw_offset_bytes", pa.binary()),
            ("raw_manifest", pa.binary()),
        ]
    ),
    "revision": pa.schema(
        [
            ("id", pa.string()),
            ("message", pa.binary()),
            ("author", pa.binary()),
            ("date", DATE),
            ("date_offset", pa.int16()),
            ("date_raw_offset_bytes", pa.binary()),
            ("committer", pa.binary()),
            ("committer_date", DATE),
            ("committer_offset", pa.int16()),
            ("committer_date_raw_offset_bytes", pa.binary()),
            ("directory", pa.string()),
            ("type", pa.string()),
            ("raw_manifest", pa.binary()),
        ]
    ),
    "revision_history": pa.schema(
        [("id", pa.string()), ("parent_id", pa.string()), ("parent_rank", pa.int32())]
    ),
    "revision_extra_headers": pa.schema([("id", pa.string()), ("key", pa.binary()), ("value", pa.binary())]),
    "directory": pa.schema([("id", pa.string()), ("raw_manifest", pa.binary())]),
    "directory_entry": pa.schema(
        [
            ("directory_id", pa.string()),
            ("name", pa.binary()),
            ("type", pa.string()),  # file, dir, rev
            ("target", pa.string()),
            ("perms", pa.int32()),
        ]
    ),
    "content": pa.schema(
        [
            ("sha1", pa.string()),
            ("sha1_git", pa.string()),
            ("sha256", pa.string()),
            ("blake2s256", pa.string()),
            ("length", pa.int64()),
            ("status", pa.string()),  # visible, hidden
            ("data", pa.large_binary()),  # null where the bytes are not held here
        ]
    ),
    "skipped_content": pa.schema(
        [
            ("sha1", pa.string()),
            ("sha1_git", pa.string()),
            ("sha256", pa.string()),
            ("blake2s256", pa.string()),
            ("length", pa.int64()),
            ("status", pa.string()),  # absent
            ("reason", pa.string()),
            ("origin", pa.string()),  # ours: where it was seen, as the id may be unknown
            ("path", pa.binary()),
            ("visit", pa.int64()),  # ours: the visit that met it; null in exports of others
        ]
    ),
}

TIMESTAMP = pa.timestamp("us", tz="UTC")

STACK_V2_COLUMNS: tuple[pa.Field, ...] = (
    pa.field("blob_id", pa.string()),  # sha1 of the bytes
    pa.field("directory_id", pa.string()),  # root directory of the repository
    pa.field("path", pa.string()),
    pa.field("content_id", pa.string()),  # sha1_git of the bytes
    pa.field("detected_licenses", pa.list_(pa.string())),
    pa.field("license_type", pa.string()),
    pa.field("repo_name", pa.string()),
    pa.field("snapshot_id", pa.string()),
    pa.field("revision_id", pa.string()),
    pa.field("branch_name", pa.string()),
    pa.field("visit_date", TIMESTAMP),
    pa.field("revision_date", TIMESTAMP),
    pa.field("committer_date", TIMESTAMP),
    pa.field("github_id", pa.int64()),
    pa.field("star_events_count", pa.int64()),
    pa.field("fork_events_count", pa.int64()),
    pa.field("gha_license_id", pa.string()),
    pa.field("gha_event_created_at", TIMESTAMP),
    pa.field("gha_created_at", TIMESTAMP),
    pa.field("gha_language", pa.string()),
    pa.field("src_encoding", pa.string()),
    pa.field("language", pa.string()),
    pa.field("is_vendor", pa.bool_()),
    pa.field("is_generated", pa.bool_()),
    pa.field("length_bytes", pa.int64()),
    pa.field("extension", pa.string()),
)

OUR_FILE_COLUMNS: tuple[pa.Field, ...] = (
    pa.field("release_id", pa.string()),  # where the snapshot points to a release
    pa.field("inherited_expression", pa.string()),  # SPDX, from the directories above or the package
    pa.field("inherited_source", pa.string()),  # dir, package, repo, none
    pa.field("inherited_path", pa.string()),
    pa.field("inherited_precedence", pa.string()),  # REUSE: closest, aggregate, override
    pa.field("is_documentation", pa.bool_()),
    pa.field("is_test", pa.bool_()),
    pa.field("is_configuration", pa.bool_()),
    pa.field("point_in_time", pa.string()),  # visit, partial-visit, first-parent: how the date was met
)

LICENSE_COLUMNS: tuple[pa.Field, ...] = (
    pa.field("license_expression", pa.string()),  # SPDX expression, NONE or UNKNOWN
    pa.field("license_source", pa.string()),  # file, dir, package, repo, none
    pa.field("license_path", pa.string()),
    pa.field("license_evidence", pa.string()),  # JSON: rules, spans, matched text
)

QUALITY = pa.schema(
    [
        pa.field("alphanum_fraction", pa.float32()),  # of code points
        pa.field("alpha_fraction", pa.float32()),  # of code points
        pa.field("num_lines", pa.int32()),
        pa.field("avg_line_length", pa.float32()),  # code points, mean over the lines; 0 without lines
        pa.field("max_line_length", pa.int32()),  # code points
        pa.field("autogenerated_marker", pa.string()),
        pa.field("longest_encoded_run", pa.int32()),  # code points
        pa.field("encoded_fraction", pa.float32()),  # of code points
        pa.field("visible_text_chars", pa.int32()),  # code points; null where it is not HTML
        pa.field("visible_text_fraction", pa.float32()),  # of code points
    ]
)

FILES = pa.schema([*STACK_V2_COLUMNS, *OUR_FILE_COLUMNS])
LICENSED_FILES = pa.schema([*FILES, *LICENSE_COLUMNS])
MEASURED_FILES = pa.schema([*LICENSED_FILES, *QUALITY])
SCRUBBED_FILES = pa.schema([*MEASURED_FILES, pa.field("content", pa.large_string())])

DECISIONS = pa.schema(
    [
        ("subject", pa.string()),  # file, content, repository
        ("swhid", pa.string()),
        ("repo_name", pa.string()),
        ("path", pa.string()),
        ("language", pa.string()),
        ("action", pa.string()),  # drop, redact
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("evidence", pa.string()),  # JSON, sorted keys
        ("policy_version", pa.string()),
    ]
)

SPANS = pa.schema(
    [
        ("content_id", pa.string()),
        ("swhid", pa.string()),  # of the content before scrubbing
        ("path", pa.string()),
        ("start", pa.int64()),  # code points of the text before scrubbing
        ("end", pa.int64()),
        ("type", pa.string()),
        ("rule", pa.string()),
        ("score", pa.float64()),
        ("action", pa.string()),
        ("value_digest", pa.string()),  # keyed; never the value
        ("surrogate", pa.string()),
        ("length", pa.int64()),
    ]
)


def conform(table: pa.Table, schema: pa.Schema, what: str) -> pa.Table:
    """Select the schema's columns in its order and cast them.

    Raises:
        SchemaError: a column is missing or its values do not fit the type.

    """
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise SchemaError(f"{what} lacks the columns {', '.join(missing)}; it has {table.column_names}")
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise SchemaError(f"{what} does not fit its schema: {error}") from error
