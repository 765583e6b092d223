"""How to run maps."""

from functools import lru_cache

import dagster as dg

from stack_platform.engine.local import LocalEngine


class ComputeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The embedded engine; its worker processes are shared by all runs of one process."""

    workers: int = 0  # 0: one per core

    def engine(self) -> LocalEngine:
        """Give the engine."""
        return _engine(self.workers)


@lru_cache
def _engine(workers: int) -> LocalEngine:
    return LocalEngine(workers)
