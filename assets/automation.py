"""What runs by itself: a schedule that refreshes the snapshot, and a sensor that follows what changed."""

from typing import Any

import dagster as dg

from assets.archive import file_index, software_heritage_graph
from assets.corpus import deduplicated, license_filtered, raw_snapshot, scrubbed
from assets.models import merged_model, trained_adapter
from assets.releases import sealed_release
from resources.compute import ComputeResource
from resources.lake import LakeResource
from resources.source import SourceResource
from stack_platform.corpus.snapshot import source_changed
from stack_platform.corpus.stages import changed_languages, corpus_stages

snapshot_job = dg.define_asset_job("snapshot", dg.AssetSelection.assets(software_heritage_graph, file_index))
corpus_job = dg.define_asset_job(
    "corpus", dg.AssetSelection.assets(raw_snapshot, license_filtered, deduplicated, scrubbed)
)
models_job = dg.define_asset_job("models", dg.AssetSelection.assets(trained_adapter, merged_model))
release_job = dg.define_asset_job("release_job", dg.AssetSelection.assets(sealed_release))
JOBS = [snapshot_job, corpus_job, models_job, release_job]


@dg.schedule(job=snapshot_job, cron_schedule="0 3 * * *")
def refresh_snapshot() -> dg.RunRequest:
    """Look at the sources every night; the sensor `changed_sources` then refreshes what depends on them."""
    return dg.RunRequest()


@dg.sensor(jobs=[snapshot_job, corpus_job], minimum_interval_seconds=60)
def changed_sources(lake: LakeResource, source: SourceResource, compute: ComputeResource) -> Any:
    """Request a new snapshot when the sources changed, and then just the languages whose files differ."""
    tables = lake.open()
    if (changed := source_changed(tables, source.open())) is not None:
        return dg.RunRequest(run_key=f"snapshot {changed}", job_name="snapshot")
    stale = changed_languages(tables, corpus_stages(compute.engine()))
    requests = [
        dg.RunRequest(run_key=f"{language} {digest}", job_name="corpus", partition_key=language)
        for language, digest in stale.items()
    ]
    return requests or dg.SkipReason("the sources and every language are as they were materialized")
