import pyarrow as pa
import pytest

from stack_platform.errors import SchemaError
from stack_platform.licenses.judge import judge_files, reason_to_drop
from stack_platform.licenses.summary import license_summary
from stack_platform.schemas import DECISIONS


def judged():
    rows = [
        ("b.py", "# SPDX-License-Identifier: MIT"),
        ("a.py", "# SPDX-License-Identifier: MIT"),
        ("c.py", "x"),
    ]
    columns = {
        "repo_name": ["r"] * 3,
        "path": [path for path, _ in rows],
        "content": pa.array([text for _, text in rows], pa.large_string()),
        "inherited_expression": ["GPL-3.0-only"] * 3,
        "inherited_source": ["repo"] * 3,
        "inherited_path": ["COPYING"] * 3,
    }
    return pa.Table.from_batches([judge_files(pa.RecordBatch.from_pydict(columns))])


def test_licenses_are_counted_and_sampled():
    reason = reason_to_drop("non_permissive")
    decision = dict.fromkeys(DECISIONS.names, "") | {
        "action": "drop",
        "stage": "license_filtered",
        "reason": reason,
    }
    other = decision | {"stage": "deduplicated", "reason": "exact_duplicate"}
    decisions = pa.Table.from_pylist([decision, other], schema=DECISIONS)
    summary = license_summary(judged(), decisions)
    assert summary.by_expression == {"MIT": 2, "GPL-3.0-only": 1}
    assert summary.by_type == {"permissive": 2, "non_permissive": 1}
    assert summary.by_source == {"file": 2, "repo": 1}
    assert summary.by_reason == {"license_non_permissive": 1}
    assert [row["path"] for row in summary.sample] == ["a.py", "c.py"]
    assert summary.sample[0]["chosen"] == "MIT"
    assert "SPDX-License-Identifier" in summary.sample[0]["words"]


def test_missing_columns_are_named():
    with pytest.raises(SchemaError, match="license_evidence"):
        license_summary(judged().drop_columns(["license_evidence"]), DECISIONS.empty_table())
