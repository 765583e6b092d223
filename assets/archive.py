"""From a source to the index of all its paths: the two assets that languages share."""

from typing import Any

import dagster as dg

from assets.reporting import Metadata, reasons_table
from resources.compute import ComputeResource
from resources.lake import LakeResource
from resources.source import SourceResource
from stack_platform.corpus.index import build_index
from stack_platform.corpus.snapshot import build_snapshot


@dg.asset(group_name="archive", kinds={"parquet", "python"}, owners=["team:data"])
def software_heritage_graph(lake: LakeResource, source: SourceResource) -> dg.MaterializeResult[Any]:
    """Origins, visits, snapshots, releases, directories and contents in Software Heritage's export schema."""
    report = build_snapshot(lake.open(), source.open())
    metadata: Metadata = {
        "rows": reasons_table(report.rows),
        "visits": reasons_table(report.visits),
        "skipped contents": reasons_table(report.skipped),
        "unchanged": report.unchanged,
        "digest": report.digest,
    }
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(report.digest))


@dg.asset(
    group_name="archive", deps=[software_heritage_graph], kinds={"parquet", "duckdb"}, owners=["team:data"]
)
def file_index(lake: LakeResource, compute: ComputeResource) -> dg.MaterializeResult[Any]:
    """Every path of the snapshot with its language, marks and the license evidence around it."""
    report = build_index(lake.open(), compute.engine())
    metadata: Metadata = {
        "dagster/row_count": report.indexed,
        "paths": report.paths,
        "languages": reasons_table(report.languages),
        "in no language": reasons_table(report.dropped),
        "unchanged": report.skipped,
        "digest": report.digest,
    }
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(report.digest))
