"""What runs by itself: a nightly look at the sources, and just the languages that a new snapshot touches."""

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
from stack_platform.tables import Lake

snapshot_job = dg.define_asset_job("snapshot", dg.AssetSelection.assets(software_heritage_graph, file_index))
corpus_job = dg.define_asset_job(
    "corpus", dg.AssetSelection.assets(raw_snapshot, license_filtered, deduplicated, scrubbed)
)
models_job = dg.define_asset_job("models", dg.AssetSelection.assets(trained_adapter, merged_model))
release_job = dg.define_asset_job("release_job", dg.AssetSelection.assets(sealed_release))
UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]
JOBS = [snapshot_job, corpus_job, models_job, release_job]


@dg.schedule(job=snapshot_job, cron_schedule="0 3 * * *")
def refresh_snapshot() -> dg.RunRequest:
    """Look at the sources every night; `follow_snapshot` then refreshes what depends on the snapshot."""
    return dg.RunRequest()


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    monitored_jobs=[snapshot_job],
    request_jobs=[corpus_job],
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def follow_snapshot(context: dg.RunStatusSensorContext, lake: LakeResource, compute: ComputeResource) -> Any:
    """Request the languages whose files a new snapshot changed, whoever asked for the snapshot."""
    return _requests(context.instance, lake.open(), compute)


@dg.sensor(jobs=[snapshot_job, corpus_job], minimum_interval_seconds=60)
def changed_sources(
    context: dg.SensorEvaluationContext, lake: LakeResource, source: SourceResource, compute: ComputeResource
) -> Any:
    """Request a new snapshot when the sources changed, and else just the languages that are not up to date."""
    tables = lake.open()
    if (changed := source_changed(tables, source.open())) is not None:
        return dg.RunRequest(run_key=f"snapshot {changed}", job_name="snapshot")
    return _requests(context.instance, tables, compute)


def _requests(instance: dg.DagsterInstance, lake: Lake, compute: ComputeResource) -> Any:
    """Request each language that is not up to date and that no run is busy with."""
    under_way = instance.get_runs(dg.RunsFilter(job_name="corpus", statuses=UNDER_WAY))
    busy = {run.tags.get("dagster/partition") for run in under_way}
    stale = changed_languages(lake, corpus_stages(compute.engine()))
    requests = [
        dg.RunRequest(run_key=f"{language} {identity}", job_name="corpus", partition_key=language)
        for language, identity in stale.items()
        if language not in busy
    ]
    return requests or dg.SkipReason("the sources and every language are as they were materialized")
