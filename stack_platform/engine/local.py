"""The embedded engine: this process for little work, a pool of processes for much.

Processes, not threads, because the maps hold Python's lock most of the time. A batch crosses to a worker and back
as Arrow buffers, which costs about a tenth of what the cheapest map does with it.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

import pyarrow as pa

from stack_platform.errors import ConfigError

T = TypeVar("T")

INLINE_BYTES = 4 << 20  # below this a pool costs more than it saves


class LocalEngine:
    """Maps over at most `workers` processes, started when first needed and kept until `close`."""

    def __init__(self, workers: int = 0) -> None:
        if workers < 0:
            raise ConfigError(f"workers is {workers}; write a positive number, or 0 for one per core")
        self.workers = workers or os.cpu_count() or 1
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the worker processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def map(self, function: Callable[[pa.RecordBatch], T], batches: Iterable[pa.RecordBatch]) -> Iterator[T]:
        """Apply the function to every batch, in order, holding at most two batches a worker in memory."""
        source = iter(batches)
        first, size = [], 0
        for batch in source:
            first.append(batch)
            size += batch.nbytes
            if size > INLINE_BYTES:
                break
        if self.workers == 1 or size <= INLINE_BYTES:
            yield from map(function, first)
            yield from map(function, source)
            return
        waiting: deque[Future[T]] = deque()
        for batch in _chain(first, source):
            waiting.append(self._executor().submit(function, batch))
            if len(waiting) > 2 * self.workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _executor(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Fork would copy the locks of threads that numba, Arrow and Dagster hold.
            self._pool = ProcessPoolExecutor(self.workers, mp_context=multiprocessing.get_context("spawn"))
        return self._pool


def _chain(first: list[pa.RecordBatch], rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    while first:
        yield first.pop(0)
    yield from rest
