import pyarrow as pa
import pytest

from stack_platform.errors import SchemaError
from stack_platform.languages.summary import SUMMARY, added_up, summarize

FILES = pa.table(
    {
        "language": ["TSX", "TypeScript", "Python", None, "TSX"],
        "length_bytes": [10, 20, 60, None, 10],
        "is_vendor": [True, False, False, None, False],
        "is_generated": [False, True, False, False, False],
        "path": list("abcde"),
    }
)


def test_languages_are_counted_with_their_family_and_kind():
    summary = summarize(FILES)
    assert summary.schema == SUMMARY
    assert summary["language"].to_pylist() == ["Python", "TSX", "TypeScript", None]
    tsx = summary.to_pylist()[1]
    assert tsx == {
        "language": "TSX",
        "group": "TypeScript",
        "type": "programming",
        "files": 2,
        "bytes": 20,
        "vendored": 1,
        "generated": 0,
        "share": 0.2,
    }


def test_no_file_is_lost_and_families_add_up():
    summary = summarize(FILES)
    assert sum(summary["files"].to_pylist()) == FILES.num_rows
    families = {row["group"]: row["bytes"] for row in added_up(summary, "group").to_pylist()}
    assert families == {"Python": 60, "TypeScript": 40, None: 0}


def test_no_files_give_no_rows():
    assert summarize(FILES.slice(0, 0)).num_rows == 0


def test_missing_columns_are_named():
    with pytest.raises(SchemaError, match="is_vendor"):
        summarize(FILES.drop_columns(["is_vendor"]))
