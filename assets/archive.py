"""From sources to the index of all their paths: the two assets that languages share."""

from functools import partial
from typing import Any

import dagster as dg
from pydantic import Field

from assets.reporting import describe_index, describe_snapshots
from resources.compute import ComputeResource
from resources.lake import LakeResource
from resources.policies import PoliciesResource
from resources.source import SourceResource
from stack_platform.corpus.graph import open_graph
from stack_platform.corpus.index import build_index
from stack_platform.corpus.snapshot import build_snapshots


class SnapshotConfig(dg.Config):
    """Which sources a run looks at."""

    sources: list[str] = Field(default=[], description="names; empty: all")


@dg.asset(group_name="archive", kinds={"parquet", "python"}, owners=["team:data"])
def software_heritage_graph(
    config: SnapshotConfig, lake: LakeResource, source: SourceResource
) -> dg.MaterializeResult[Any]:
    """Origins, visits, snapshots, releases, directories and contents in Software Heritage's export schema."""
    readings = partial(source.reading, lake.folder("sources"))
    reports = build_snapshots(lake.open(), source.open(config.sources), readings)
    digest = open_graph(lake.open()).digest
    return dg.MaterializeResult(
        metadata={**describe_snapshots(reports), "digest": digest}, data_version=dg.DataVersion(digest)
    )


@dg.asset(
    group_name="archive",
    deps=[software_heritage_graph],
    kinds={"parquet", "duckdb"},
    owners=["team:data"],
    retry_policy=dg.RetryPolicy(max_retries=3, delay=2),  # the run of another source may commit first
)
def file_index(
    lake: LakeResource, source: SourceResource, compute: ComputeResource, policies: PoliciesResource
) -> dg.MaterializeResult[Any]:
    """Every path of the snapshot, or of a date, with its language, marks and the license evidence around it."""
    config = source.index_config(policies.open())
    report = build_index(lake.open(), compute.engine(), config, source.known_repositories())
    metadata = describe_index(lake.open(), report)
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(report.digest))
