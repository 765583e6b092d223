"""What an engine does: map a function over batches, in order. Nothing in a room knows which engine runs it.

A map is a module-level function of one record batch or, where it has settings, `functools.partial` of one with a
frozen config, so that any engine can send it to other processes or machines. Most maps give a record batch with
more columns; one that also gives evidence gives a tuple.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

import pyarrow as pa

T = TypeVar("T")


class Engine(Protocol):
    """Runs maps."""

    @property
    def workers(self) -> int:
        """How many processes a map takes, and how many threads a stage may take that is no map."""
        ...

    def map(self, function: Callable[[pa.RecordBatch], T], batches: Iterable[pa.RecordBatch]) -> Iterator[T]:
        """Apply the function to every batch and give the results in the order of the batches."""
        ...
