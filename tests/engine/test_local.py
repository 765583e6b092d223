"""The embedded engine gives results in order, whether inline or in processes."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from stack_platform.engine import local
from stack_platform.engine.local import LocalEngine
from stack_platform.errors import ConfigError


def double(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch({"n": pc.multiply(batch["n"], 2)})


def fail(batch: pa.RecordBatch) -> pa.RecordBatch:
    raise ValueError(f"row {batch['n'][0].as_py()}")


def batches(n: int, rows: int = 100) -> Iterator[pa.RecordBatch]:
    for i in range(n):
        yield pa.record_batch({"n": pa.array(range(i * rows, (i + 1) * rows))})


def values(found: Iterator[pa.RecordBatch]) -> list[int]:
    return [value for batch in found for value in batch["n"].to_pylist()]


def test_little_work_stays_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalEngine, "_executor", lambda self: pytest.fail("started a pool"))
    assert values(LocalEngine(2).map(double, batches(3))) == [2 * n for n in range(300)]


def test_processes_give_the_same_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "INLINE_BYTES", 1000)
    with LocalEngine(2) as engine:
        assert values(engine.map(double, batches(20))) == [2 * n for n in range(2000)]
        with pytest.raises(ValueError, match="row 0"):
            list(engine.map(fail, batches(20)))
        assert values(engine.map(double, batches(20))) == [2 * n for n in range(2000)]


def test_no_batches_give_nothing() -> None:
    assert list(LocalEngine(2).map(double, iter([]))) == []


def test_a_wrong_number_of_workers_says_what_to_write() -> None:
    with pytest.raises(ConfigError, match="write a positive number, or 0"):
        LocalEngine(-1)
