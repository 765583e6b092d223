"""Decisions say who leaves and why; `apply` obeys them and nothing else."""

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform import decisions
from stack_platform.errors import SchemaError


def files(n: int) -> pa.Table:
    return pa.table(
        {
            "repo_name": [f"r{i % 2}" for i in range(n)],
            "path": [f"p{i}" for i in range(n)],
            "content_id": [f"{i % 3:040x}" for i in range(n)],
            "language": ["C"] * n,
        }
    )


def drop(table: pa.Table) -> pa.Table:
    n = table.num_rows
    return decisions.decide(table, decisions.DROP, "s", ["why"] * n, [{"b": 1, "a": 2}] * n, "1")


@given(st.sets(st.integers(0, 11)))
def test_exactly_the_decided_files_leave(gone: set[int]) -> None:
    table = files(12)
    kept = decisions.apply(table, drop(table.take(pa.array(sorted(gone), pa.int64()))))
    assert kept["path"].to_pylist() == [f"p{i}" for i in range(12) if i not in gone]


def test_a_file_decision_spares_the_same_path_elsewhere_and_other_copies() -> None:
    table = files(12)
    kept = decisions.apply(table, drop(table.slice(0, 1)))
    assert kept.num_rows == 11
    assert f"{0:040x}" in kept["content_id"].to_pylist()


@pytest.mark.parametrize(("kind", "left"), [("content", 8), ("repository", 6)])
def test_a_wider_decision_takes_all_it_names(kind: str, left: int) -> None:
    table = files(12)
    wide = drop(table.slice(0, 1)).set_column(0, "subject", pa.array([kind]))
    assert decisions.apply(table, wide).num_rows == left


def test_a_redaction_keeps_the_file() -> None:
    table = files(3)
    made = decisions.decide(table, decisions.REDACT, "s", ["email"] * 3, [{}] * 3, "1")
    assert decisions.apply(table, made).num_rows == 3
    assert decisions.count_reasons(made, decisions.REDACT) == {"email": 3}


def test_evidence_is_json_with_sorted_keys() -> None:
    made = drop(files(1))
    assert made["evidence"][0].as_py() == '{"a":2,"b":1}'
    assert json.loads(made["evidence"][0].as_py()) == {"a": 2, "b": 1}
    assert made["swhid"][0].as_py() == f"swh:1:cnt:{0:040x}"


def test_an_unknown_kind_of_subject_is_refused() -> None:
    table = files(1)
    with pytest.raises(SchemaError, match="planet"):
        decisions.apply(table, drop(table).set_column(0, "subject", pa.array(["planet"])))
