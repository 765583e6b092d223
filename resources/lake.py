"""Where everything is kept."""

import os
from pathlib import Path

import dagster as dg

from stack_platform.corpus.texts import text_reader
from stack_platform.engine.stages import Texts
from stack_platform.tables import Lake


def home_folder() -> Path:
    """Return the folder named by STACK_PLATFORM_HOME, `.stack_platform` in the working folder by default."""
    return Path(os.environ.get("STACK_PLATFORM_HOME") or ".stack_platform").resolve()


class LakeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The lake of tables and the folder of models, both under one home."""

    home: str = ""  # empty: STACK_PLATFORM_HOME
    url: str = ""  # an object store for the tables, for example s3://bucket/prefix; empty: <home>/lake

    def open(self) -> Lake:
        """Open the lake."""
        return Lake(self.url or self.folder("lake"))

    def texts(self) -> Texts:
        """Read texts from the graph in the lake."""
        return text_reader(self.open())

    def folder(self, name: str) -> Path:
        """Name a folder of the home."""
        return (Path(self.home).resolve() if self.home else home_folder()) / name
