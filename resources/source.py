"""What source code to archive."""

import dagster as dg
from pydantic import Field

from stack_platform.archive.distributions import DistributionsConfig


class SourceResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The installed Python distributions: of this environment, or of other site-packages folders."""

    paths: list[str] = Field(
        default=[], description="site-packages folders; empty: those of this interpreter"
    )
    include: list[str] = Field(default=[], description="names to take; empty: all")
    exclude: list[str] = Field(default=["stack-platform"], description="names to leave out")
    max_content_bytes: int = Field(default=10 * 1024 * 1024, description="longest content to hold")

    def open(self) -> DistributionsConfig:
        """Give the source; a wrong value raises ConfigError with what to write instead."""
        return DistributionsConfig(
            paths=tuple(self.paths) or None,
            include=tuple(self.include),
            exclude=tuple(self.exclude),
            max_content_bytes=self.max_content_bytes,
        )
