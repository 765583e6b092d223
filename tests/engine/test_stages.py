"""A stage commits what it decides, adds up, and does nothing twice."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_platform import decisions
from stack_platform.engine.stages import Piece, Slice, Stage, is_stale, run_stage, upstream_input
from stack_platform.errors import TableError
from stack_platform.tables import Lake


@dataclass(frozen=True, slots=True)
class Config:
    drop_every: int = 3
    piece_rows: int = 4


def files(n: int) -> pa.Table:
    return pa.table(
        {
            "repo_name": ["r"] * n,
            "path": [f"p{i}" for i in range(n)],
            "content_id": [f"{i:040x}" for i in range(n)],
            "language": ["C"] * n,
            "length_bytes": pa.array([10] * n, pa.int64()),
        }
    )


def no_texts(table: pa.Table) -> Iterator[pa.RecordBatch]:
    raise AssertionError("not asked for")


def stage(config: Config, seen: list[str] | None = None) -> Stage:
    def decide(slice_: Slice) -> Iterator[Piece]:
        if seen is not None:
            seen.append(slice_.language)
        for start in range(0, slice_.files.num_rows, config.piece_rows):
            part = slice_.files.slice(start, config.piece_rows)
            rows = [i for i in range(part.num_rows) if (start + i) % config.drop_every == 0]
            gone = part.take(pa.array(rows, pa.int64()))
            n = gone.num_rows
            yield Piece(part, decisions.decide(gone, "drop", "second", ["third"] * n, [{}] * n, "1"))

    return Stage("second", "first", "1", config, decide, upstream_input)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(tmp_path)
    write(made, 10)
    return made


def write(lake: Lake, n: int) -> None:
    with lake.writer("first", "C") as out:
        out.append("files", files(n))


def test_files_and_decisions_are_committed_together_and_add_up(lake: Lake) -> None:
    (report,) = run_stage(lake, stage(Config()), ["C"], no_texts)
    made = lake.open("second", "C")
    assert made.read("files")["path"].to_pylist() == ["p1", "p2", "p4", "p5", "p7", "p8"]
    assert made.read("decisions")["path"].to_pylist() == ["p0", "p3", "p6", "p9"]
    assert (report.files_in, report.files_out, report.dropped, report.bytes_out) == (10, 6, {"third": 4}, 60)


def test_unchanged_input_is_not_looked_at_again(lake: Lake) -> None:
    seen: list[str] = []
    first = run_stage(lake, stage(Config(), seen), ["C"], no_texts)
    again = run_stage(lake, stage(Config(), seen), ["C"], no_texts)
    assert seen == ["C"]
    assert (first[0].skipped, again[0].skipped) == (False, True)
    assert first[0].digest == again[0].digest


@pytest.mark.parametrize("change", ["config", "input"])
def test_what_changed_is_done_again(lake: Lake, change: str) -> None:
    run_stage(lake, stage(Config()), ["C"], no_texts)
    assert not is_stale(lake, stage(Config()), "C")
    config = Config(drop_every=2) if change == "config" else Config()
    if change == "input":
        write(lake, 11)
    assert is_stale(lake, stage(config), "C")
    assert not run_stage(lake, stage(config), ["C"], no_texts)[0].skipped


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12))
def test_the_result_does_not_depend_on_pieces(tmp_path_factory: pytest.TempPathFactory, rows: int) -> None:
    digests = set()
    for size in (rows, 10):
        lake = Lake(tmp_path_factory.mktemp("lake"))
        write(lake, 10)
        digests.add(run_stage(lake, stage(Config(piece_rows=size)), ["C"], no_texts)[0].digest)
    assert len(digests) == 1


def test_a_stage_that_loses_a_row_is_refused_and_commits_nothing(lake: Lake) -> None:
    losing = Stage(
        "second", "first", "1", Config(), lambda s: iter([Piece(s.files.slice(1))]), upstream_input
    )
    with pytest.raises(TableError, match=r"does not add up: 10 files in, 9 looked at"):
        run_stage(lake, losing, ["C"], no_texts)
    assert lake.latest("second", "C") is None


def test_a_stage_without_its_upstream_says_what_to_materialize(lake: Lake) -> None:
    with pytest.raises(TableError, match="--select first --partition 'Go'"):
        run_stage(lake, stage(Config()), ["Go"], no_texts)
