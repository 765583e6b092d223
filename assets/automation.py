"""What runs by itself: a nightly look at the sources, and just the languages that a new snapshot touches."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from assets.archive import file_index, software_heritage_graph
from assets.corpus import deduplicated, license_filtered, quality_filtered, raw_snapshot, scrubbed
from assets.models import merged_model, trained_adapter
from assets.releases import sealed_release
from resources.compute import ComputeResource
from resources.lake import LakeResource
from resources.policies import PoliciesResource
from resources.source import SourceResource
from stack_platform.archive.sources_file import NamedSource
from stack_platform.corpus.snapshot import find_changes
from stack_platform.corpus.stages import changed_languages, corpus_stages
from stack_platform.engine.stages import Stage
from stack_platform.tables import Lake

snapshot_job = dg.define_asset_job("snapshot", dg.AssetSelection.assets(software_heritage_graph, file_index))
corpus_job = dg.define_asset_job(
    "corpus",
    dg.AssetSelection.assets(raw_snapshot, license_filtered, quality_filtered, deduplicated, scrubbed),
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


def _visit(names: Sequence[str], run_key: str | None = None) -> dg.RunRequest:
    """Request a look at some sources."""
    operations = {"software_heritage_graph": {"config": {"sources": list(names)}}}
    return dg.RunRequest(run_key=run_key, job_name="snapshot", run_config={"ops": operations})


def schedules(sources: Sequence[NamedSource]) -> list[dg.ScheduleDefinition]:
    """Make the schedule of each source that has one in sources.yaml."""
    return [
        dg.ScheduleDefinition(
            name=f"visit_{re.sub(r'[^A-Za-z0-9_]', '_', source.name)}",
            job=snapshot_job,
            cron_schedule=source.schedule,
            execution_fn=lambda _, name=source.name: _visit([name]),
            description=f"Look at the source {source.name}; `follow_snapshot` then refreshes what depends on it.",
        )
        for source in sources
        if source.schedule
    ]


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    monitored_jobs=[snapshot_job],
    request_jobs=[corpus_job],
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def follow_snapshot(
    context: dg.RunStatusSensorContext,
    lake: LakeResource,
    compute: ComputeResource,
    policies: PoliciesResource,
) -> Any:
    """Request the languages whose files a new snapshot changed, whoever asked for the snapshot."""
    return _requests(context.instance, lake.open(), corpus_stages(compute.engine(), policies.open()))


@dg.sensor(jobs=[snapshot_job, corpus_job], minimum_interval_seconds=60)
def changed_sources(
    context: dg.SensorEvaluationContext,
    lake: LakeResource,
    source: SourceResource,
    compute: ComputeResource,
    policies: PoliciesResource,
) -> Any:
    """Request a new snapshot when the sources changed, and else just the languages that are not up to date."""
    tables = lake.open()
    changes = find_changes(tables, source.open())
    for name, problem in changes.unreachable.items():
        context.log.warning("source %s cannot be asked: %s", name, problem)
    if changes.changed:
        return _visit(sorted(changes.changed), "snapshot " + " ".join(sorted(changes.changed.values())))
    return _requests(context.instance, tables, corpus_stages(compute.engine(), policies.open()))


def _requests(instance: dg.DagsterInstance, lake: Lake, stages: Mapping[str, Stage]) -> Any:
    """Request each language that is not up to date and that no run is busy with."""
    under_way = instance.get_runs(dg.RunsFilter(job_name="corpus", statuses=UNDER_WAY))
    busy = {run.tags.get("dagster/partition") for run in under_way}
    stale = changed_languages(lake, stages)
    requests = [
        dg.RunRequest(run_key=f"{language} {identity}", job_name="corpus", partition_key=language)
        for language, identity in stale.items()
        if language not in busy
    ]
    return requests or dg.SkipReason("the sources and every language are as they were materialized")
