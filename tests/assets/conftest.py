"""Run the real definitions over the small environment, with an instance and a home of the test's own."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.definitions import defs
from resources.compute import ComputeResource
from resources.lake import LakeResource
from resources.source import SourceResource

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Platform:
    """The definitions with their resources pointed at a home and a site."""

    def __init__(self, home: Path, site: Path) -> None:
        self.lake = LakeResource(home=str(home))
        self.source = SourceResource(paths=[str(site)])
        self.compute = ComputeResource(workers=1)
        self.instance = dg.DagsterInstance.ephemeral()
        self.settings: dict[str, Any] = {
            "lake": {"config": {"home": str(home)}},
            "source": {"config": {"paths": [str(site)]}},
            "compute": {"config": {"workers": 1}},
        }

    def run(
        self,
        job: str,
        partition: str | None = None,
        tags: dict[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> dg.ExecuteInProcessResult:
        return defs.resolve_job_def(job).execute_in_process(
            run_config={**QUIET, **(config or {}), "resources": self.settings},
            instance=self.instance,
            partition_key=partition,
            tags=tags,
            raise_on_error=False,
        )


@pytest.fixture
def platform(tmp_path: Path, own_site: Path) -> Iterator[Platform]:
    """Return the platform with nothing materialized yet."""
    made = Platform(tmp_path / "home", own_site)
    yield made
    made.instance.dispose()


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {
        f"{e.asset_key.to_user_string()}.{e.check_name}": e.passed
        for e in result.get_asset_check_evaluations()
    }


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}
