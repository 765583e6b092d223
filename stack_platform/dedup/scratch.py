"""Shingle sets laid aside in a temporary file, so that only those being compared are in memory."""

import os
import tempfile
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stack_platform.errors import SourceError


class ShingleFile:
    """Sorted sets of 32-bit hashes by number, written once in any order; use it in a `with` statement.

    `sizes` (n,) holds how many hashes each set has, -1 where it was not written. The file lies in the system's
    folder for temporary files, takes 4 bytes a hash and has no name there where the system allows that.
    """

    def __init__(self, count: int) -> None:
        self.sizes = np.full(count, -1, np.int64)
        self._starts = np.zeros(count, np.int64)
        self._used = 0
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115, closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(
        self, numbers: NDArray[np.int64], hashes: NDArray[np.uint32], offsets: NDArray[np.int64]
    ) -> None:
        """Append the sets hashes[offsets[i]:offsets[i + 1]] under their numbers; the first of a number counts.

        Raises:
            SourceError: the disk is full.

        """
        new = np.flatnonzero(self.sizes[numbers] < 0)
        self._starts[numbers[new[::-1]]] = self._used + offsets[new[::-1]]
        self.sizes[numbers[new[::-1]]] = np.diff(offsets)[new[::-1]]
        data = hashes[: offsets[-1]].data.cast("B")
        while data:
            try:
                data = data[self._file.write(data) :]
            except OSError as error:
                raise SourceError(
                    f"cannot lay shingles aside in {tempfile.gettempdir()}: {error}; "
                    "free some space there or name another folder in TMPDIR"
                ) from error
        self._used += int(offsets[-1])

    def read(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Return the chosen sets one after another and their n + 1 offsets."""
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.sizes[numbers])])
        hashes = np.empty(offsets[-1], np.uint32)
        for place, number in enumerate(numbers.tolist()):
            size, start = 4 * int(self.sizes[number]), 4 * int(self._starts[number])
            data = os.pread(self._file.fileno(), size, start)
            hashes[offsets[place] : offsets[place + 1]] = np.frombuffer(data, np.uint32)
        return hashes, offsets
