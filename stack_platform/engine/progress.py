"""One line of progress on a terminal; silence anywhere else."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


class Meter:
    """Shows how far a piece of work has come, where standard error is a terminal."""

    def __init__(self, what: str) -> None:
        self._what = what
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty())
        self._task = self._progress.add_task(what, total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, done: float, total: float, note: str = "") -> None:
        """Say that `done` of `total` is done, in whatever unit both have."""
        self._progress.update(
            self._task, completed=done, total=total, description=f"{self._what} {note}".rstrip()
        )
