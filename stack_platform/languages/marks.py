"""Add to a batch of files what the platform can tell of each from its path and bytes alone.

Columns in: `path: string`, `data: binary or large_binary`. Columns out, after the batch's own:

1. `language: string`, linguist's name, null where nothing tells;
2. `src_encoding: string`, the Python codec that decodes the bytes, null for binary and undecodable files;
3. `is_vendor: bool` and 4. `is_generated: bool`;
5. `extension: string`, the text after the last dot of the file name in lower case, "" without a dot (The Stack v2);
6. `problem: string`, null or the first of `PROBLEMS` that applies;
7. `is_documentation: bool`, 8. `is_test: bool` and 9. `is_configuration: bool`, by the habits of `purpose`.

Each row depends on itself only, so batches may be split anywhere. Nothing is dropped: a policy reads `problem`.
"""

import pyarrow as pa

from stack_platform.errors import SchemaError
from stack_platform.languages.detect import detect_language
from stack_platform.languages.encoding import is_binary, src_encoding
from stack_platform.languages.generated import is_generated, is_vendor
from stack_platform.languages.purpose import is_configuration, is_documentation, is_test

PROBLEMS = ("missing", "empty", "binary", "undecodable", "no_language")
"""Why a file cannot be used, in the order they are tried; "missing" means that `data` is null."""

MARKS = pa.schema(
    [
        ("language", pa.string()),
        ("src_encoding", pa.string()),
        ("is_vendor", pa.bool_()),
        ("is_generated", pa.bool_()),
        ("extension", pa.string()),
        ("problem", pa.string()),
        ("is_documentation", pa.bool_()),
        ("is_test", pa.bool_()),
        ("is_configuration", pa.bool_()),
    ]
)
"""The columns that `mark_files` adds."""


def mark_files(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with the columns of `MARKS` after its own; columns of these names are replaced.

    Raises:
        SchemaError: `path` or `data` is missing or has another type.

    """
    _check(batch.schema)
    rows = [
        _marks(path, data)
        for path, data in zip(batch["path"].to_pylist(), batch["data"].to_pylist(), strict=True)
    ]
    kept = [name for name in batch.schema.names if name not in MARKS.names]
    marks = pa.RecordBatch.from_pylist(rows, schema=MARKS)
    return pa.RecordBatch.from_arrays(
        [batch[name] for name in kept] + marks.columns,
        schema=pa.schema([batch.schema.field(name) for name in kept] + list(MARKS), batch.schema.metadata),
    )


def extension(path: str) -> str:
    """Return the text after the last dot of a path's file name in lower case, "" without a dot.

    >>> extension("src/Main.JAVA"), extension(".gitignore"), extension("a.b/Makefile")
    ('java', 'gitignore', '')
    """
    name = path.rsplit("/", 1)[-1]
    return name.rsplit(".", 1)[1].lower() if "." in name else ""


def _check(schema: pa.Schema) -> None:
    expected = {"path": (pa.string(), pa.large_string()), "data": (pa.binary(), pa.large_binary())}
    for name, types in expected.items():
        if name not in schema.names:
            raise SchemaError(f"files to mark need the column {name!r}; the batch has {schema.names}")
        if schema.field(name).type not in types:
            raise SchemaError(
                f"column {name!r} of files to mark is {schema.field(name).type}; cast it to {types[0]}"
            )


def _marks(path: str | None, data: bytes | None) -> dict[str, object]:
    path, held = path or "", data or b""
    encoding = src_encoding(held) if held else None
    language = detect_language(path, held)
    return {
        "language": language,
        "src_encoding": encoding,
        "is_vendor": is_vendor(path),
        "is_generated": is_generated(path, held),
        "extension": extension(path),
        "problem": _problem(data, encoding, language),
        "is_documentation": is_documentation(path),
        "is_test": is_test(path),
        "is_configuration": is_configuration(path, language),
    }


def _problem(data: bytes | None, encoding: str | None, language: str | None) -> str | None:
    if data is None:
        return "missing"
    if not data:
        return "empty"
    if encoding is None:
        return "binary" if is_binary(data) else "undecodable"
    return "no_language" if language is None else None
