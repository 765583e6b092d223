"""What source code to archive, and which part of the archive to make the data set of."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pyarrow as pa
from pydantic import Field

from resources.lake import home_folder
from stack_platform.archive.distributions import DistributionsConfig
from stack_platform.archive.files import read_date
from stack_platform.archive.repositories import read_repositories
from stack_platform.archive.sources import Reading, Source, choose
from stack_platform.archive.sources_file import NamedSource, read_sources
from stack_platform.corpus.index import IndexConfig
from stack_platform.corpus.stages import Policies


class SourceResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The sources of a sources.yaml; without one, the Python distributions installed here."""

    file: str = Field(default="", description="a sources.yaml; empty: the one in the home, if there is one")
    paths: list[str] = Field(default=[], description="site-packages folders; empty: this interpreter's")
    include: list[str] = Field(default=[], description="distributions to take; empty: all")
    exclude: list[str] = Field(default=["stack-platform"], description="distributions to leave out")
    max_content_bytes: int = Field(default=10 * 1024 * 1024, description="longest content to hold")
    as_of: str = Field(default="", description="date to go back to, as 2023-09-06; empty: latest visits")
    repositories: str = Field(default="", description="table or GH Archive folder of stars, forks, licenses")

    def named(self) -> tuple[NamedSource, ...]:
        """List the sources; a wrong value raises ConfigError with what to write instead."""
        file = Path(self.file) if self.file else home_folder() / "sources.yaml"
        if self.file or file.is_file():
            return read_sources(file)
        taken = (tuple(self.paths) or None, tuple(self.include), tuple(self.exclude), self.max_content_bytes)
        return (NamedSource("installed", "distributions", DistributionsConfig(*taken), None),)

    def open(self, names: Sequence[str] = ()) -> dict[str, Source]:
        """Give the sources of these names, all by default."""
        configs = {source.name: source.config for source in self.named()}
        return {name: config.open() for name, config in choose(configs, names).items()}

    def reading(self, scratch: Path, name: str) -> Reading:
        """Say how to read a source; the visit takes place now, or at SOURCE_DATE_EPOCH where that is set."""
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        date = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
        return Reading(visit_date=date, scratch=scratch / name)

    def index_config(self, policies: Policies) -> IndexConfig:
        """Say which part of the archive to index."""
        names = tuple(source.name for source in self.named())
        return IndexConfig(names, read_date(self.as_of) if self.as_of else None, policies.inheritance)

    def known_repositories(self) -> pa.Table | None:
        """Read what is known of repositories; None where the user supplied nothing."""
        return read_repositories(Path(self.repositories)) if self.repositories else None
