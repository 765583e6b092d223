"""The definitions as Dagster's users use them: jobs, partitions, backfills, checks, schedule, sensor."""

from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from assets import automation, checks
from assets.definitions import defs
from assets.partitions import LANGUAGES
from resources.policies import PoliciesResource
from resources.source import SourceResource
from stack_platform.corpus.checks import licenses_allowed
from stack_platform.corpus.stages import STAGES
from tests.assets.conftest import Platform, checks_of, metadata_of


def test_the_card_is_on_the_graph_with_its_lineage() -> None:
    graph = defs.resolve_asset_graph()
    parents = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert parents == {
        "software_heritage_graph": set(),
        "file_index": {"software_heritage_graph"},
        "raw_snapshot": {"file_index"},
        "license_filtered": {"raw_snapshot"},
        "quality_filtered": {"license_filtered"},
        "deduplicated": {"quality_filtered"},
        "scrubbed": {"deduplicated"},
        "trained_adapter": {"scrubbed"},
        "merged_model": {"trained_adapter"},
        "release": {"scrubbed"},
    }
    partitioned = {
        key.to_user_string() for key in graph.get_all_asset_keys() if graph.get(key).partitions_def
    }
    assert partitioned == {*STAGES, "trained_adapter", "merged_model"}
    assert {"Python", "C++", "C#", "F*"} <= set(LANGUAGES.get_partition_keys())


def test_the_data_half_runs_and_every_check_passes(platform: Platform) -> None:
    snapshot = platform.run("snapshot")
    corpus = platform.run("corpus", "Python")
    release = platform.run("release_job")
    assert snapshot.success
    assert corpus.success
    assert release.success
    passed = {**checks_of(snapshot), **checks_of(corpus), **checks_of(release)}
    assert all(passed.values())
    assert {
        "file_index.index_adds_up",
        "license_filtered.no_copyleft_row",
        "deduplicated.no_exact_duplicate",
        "scrubbed.no_secret_found_again",
        "release.release_verifies",
        *(f"{stage}.counts_add_up" for stage in STAGES),
        *(f"{stage}.schema_holds" for stage in STAGES),
    } == set(passed)


def test_people_see_counts_reasons_samples_and_plots(platform: Platform) -> None:
    platform.run("snapshot")
    corpus = platform.run("corpus", "Python")
    filtered = metadata_of(corpus, "license_filtered")
    assert "| license_non_permissive | 2 |" in filtered["dropped"]
    assert "alpha/kept.py" in filtered["sample"] or "alpha/" in filtered["sample"]
    assert filtered["dagster/row_count"] == 7
    assert "data:image/png;base64," in metadata_of(corpus, "scrubbed")["funnel"]
    assert "wonderland" not in str(metadata_of(corpus, "scrubbed"))


def test_a_second_run_does_no_work_and_says_so(platform: Platform) -> None:
    for _ in range(2):
        snapshot = platform.run("snapshot")
        corpus = platform.run("corpus", "Python")
    assert metadata_of(snapshot, "software_heritage_graph")["unchanged"]
    assert metadata_of(snapshot, "file_index")["unchanged"]
    assert all(metadata_of(corpus, stage)["unchanged"] for stage in STAGES)


def test_a_range_of_languages_is_one_run_with_metadata_for_each(platform: Platform) -> None:
    platform.run("snapshot")
    names = LANGUAGES.get_partition_keys()
    start, end = names[names.index("C")], names[names.index("C") + 2]
    tags = {"dagster/asset_partition_range_start": start, "dagster/asset_partition_range_end": end}
    result = platform.run("corpus", tags=tags)
    assert result.success
    assert len(checks_of(result)) == 13
    assert all(checks_of(result).values())
    made = result.asset_materializations_for_node("scrubbed")
    assert {event.partition: event.metadata["dagster/row_count"].value for event in made} == {
        start: 1,
        names[names.index("C") + 1]: 0,
        end: 0,
    }


def test_checks_look_at_the_languages_of_the_run_and_alone_at_all(platform: Platform) -> None:
    platform.run("snapshot")
    platform.run("corpus", "Python")
    platform.run("corpus", "C")
    lake = platform.lake.open()
    bounds = {"dagster/asset_partition_range_start": "C", "dagster/asset_partition_range_end": "C++"}
    assert checks.languages_of({"dagster/partition": "Go"}, lake, "scrubbed") == ["Go"]
    assert checks.languages_of(bounds, lake, "scrubbed") == ["C", "C#", "C++"]
    assert checks.languages_of({}, lake, "scrubbed") == ["C", "Python"]


def test_a_failing_check_blocks_what_comes_after(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copyleft row in the lake stops the run at the blocking check, before the next stage is written."""
    from stack_platform.corpus import judging

    monkeypatch.setattr(judging, "reason_to_drop", lambda kind, config: None)
    platform.run("snapshot")
    result = platform.run("corpus", "Python")
    assert not result.success
    assert checks_of(result)["license_filtered.no_copyleft_row"] is False
    assert platform.lake.open().latest("deduplicated", "Python") is None


def test_checks_judge_by_the_policy_of_the_run(platform: Platform, tmp_path: Path) -> None:
    """What a policy lets in, its check accepts; the same rows fail under another policy."""
    policy = tmp_path / "licenses.toml"
    policy.write_text('keep = ["permissive", "no_license", "non_permissive", "unknown"]\n')
    platform.settings["policies"] = {"config": {"licenses": str(policy)}}
    platform.run("snapshot")
    kept = platform.run("corpus", "Python")
    assert checks_of(kept)["license_filtered.no_copyleft_row"]
    found = licenses_allowed(platform.lake.open(), "Python")
    assert not found.passed
    assert "GPL-3.0-only" in found.details


def test_every_check_is_defined_on_an_asset_of_ours() -> None:
    keys = {key for check in checks.CHECKS for key in check.check_keys}
    assert len(keys) == 17
    assert {key.asset_key for key in keys} < set(defs.resolve_asset_graph().get_all_asset_keys())


def test_the_schedule_requests_a_new_snapshot() -> None:
    tick = automation.refresh_snapshot.evaluate_tick(dg.build_schedule_context())
    assert len(tick.run_requests or []) == 1
    assert automation.refresh_snapshot.job_name == "snapshot"


def look(platform: Platform) -> list[dg.RunRequest] | dg.SkipReason:
    context = dg.build_sensor_context(instance=platform.instance)
    found = automation.changed_sources(
        context,
        lake=platform.lake,
        source=platform.source,
        compute=platform.compute,
        policies=PoliciesResource(),
    )
    return [found] if isinstance(found, dg.RunRequest) else found


def test_a_new_snapshot_is_followed_by_the_languages_it_changed(platform: Platform) -> None:
    """So the schedule alone refreshes what depends on the snapshot; a language in work is not asked for again."""
    result = platform.run("snapshot")
    context = dg.build_run_status_sensor_context(
        sensor_name="follow_snapshot",
        dagster_instance=platform.instance,
        dagster_run=result.dagster_run,
        dagster_event=next(
            event for event in result.all_events if event.event_type_value == "PIPELINE_SUCCESS"
        ),
    )
    requests = automation.follow_snapshot(
        context, lake=platform.lake, compute=platform.compute, policies=PoliciesResource()
    )
    assert {request.partition_key for request in requests} == {"Python", "C", "Text"}
    platform.instance.create_run_for_job(
        defs.resolve_job_def("corpus"), tags={"dagster/partition": "C"}, status=dg.DagsterRunStatus.STARTED
    )
    assert {request.partition_key for request in look(platform)} == {"Python", "Text"}


def test_the_sensor_asks_for_a_snapshot_and_then_for_just_the_languages_touched(
    platform: Platform, own_site: Path
) -> None:
    (first,) = look(platform)
    assert (first.job_name, first.partition_key) == ("snapshot", None)
    platform.run("snapshot")
    requests = look(platform)
    assert {request.partition_key for request in requests} == {"Python", "C", "Text"}
    assert {request.job_name for request in requests} == {"corpus"}
    for request in requests:
        assert platform.run("corpus", request.partition_key).success
    assert isinstance(look(platform), dg.SkipReason)

    (own_site / "alpha/fast.c").write_text("int other(void) { return 1; }\n")
    (changed,) = look(platform)
    assert changed.job_name == "snapshot"
    assert changed.run_key != first.run_key
    platform.run("snapshot")
    (only,) = look(platform)
    assert (only.job_name, only.partition_key) == ("corpus", "C")


def test_a_killed_run_is_taken_up_where_it_was(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was committed before is not done again, and the end is what an undisturbed run gives."""
    platform.run("snapshot")
    assert platform.run("corpus", "Python").success
    lake = platform.lake.open()
    undisturbed = {stage: lake.open(stage, "Python").digest for stage in STAGES}
    for stage in ("deduplicated", "scrubbed"):
        for path in Path(lake.root, stage, "Python", "_manifests").iterdir():
            path.unlink()
    assert {request.partition_key for request in look(platform)} == {"Python", "C", "Text"}
    result = platform.run("corpus", "Python")
    assert [metadata_of(result, stage)["unchanged"] for stage in STAGES] == [True, True, True, False, False]
    assert {stage: lake.open(stage, "Python").digest for stage in STAGES} == undisturbed


def test_a_wrong_config_value_says_what_to_write(platform: Platform) -> None:
    platform.settings["source"] = {"config": {"include": ["alhpa"], "paths": platform.source.paths}}
    result = platform.run("snapshot")
    assert not result.success
    (failure,) = [e for e in result.all_events if e.is_step_failure and "graph" in str(e.step_key)]
    assert "did you mean alpha?" in str(failure.step_failure_data.error)


def test_the_lake_is_readable_by_anything_that_reads_parquet(platform: Platform) -> None:
    platform.run("snapshot")
    platform.run("corpus", "Python")
    partition = platform.lake.open().open("scrubbed", "Python")
    assert pq.ParquetDataset(partition.sources("files")).read().num_rows == partition.manifest.rows("files")


def test_a_source_of_the_file_is_read_alone_and_on_its_own_schedule(
    platform: Platform, own_site: Path, tmp_path: Path
) -> None:
    file = tmp_path / "sources.yaml"
    file.write_text(
        "sources:\n"
        f"- {{name: mine, kind: distributions, paths: [{own_site}], include: [alpha], schedule: 30 2 * * *}}\n"
        f"- {{name: other, kind: distributions, paths: [{own_site}], include: [beta]}}\n"
    )
    source = SourceResource(file=str(file))
    (nightly,) = automation.schedules(source.named())
    assert (nightly.name, nightly.cron_schedule) == ("visit_mine", "30 2 * * *")
    (request,) = nightly.evaluate_tick(dg.build_schedule_context()).run_requests or []
    platform.settings["source"] = {"config": {"file": str(file)}}
    result = platform.run("snapshot", config=request.run_config)
    assert result.success
    lake = platform.lake.open()
    assert lake.partitions("software_heritage_graph") == ["mine"]
    assert platform.run("snapshot").success
    assert lake.partitions("software_heritage_graph") == ["mine", "other"]
    paths = lake.open("file_index").read("Python", ["path"])["path"].to_pylist()
    assert {"alpha/kept.py", "beta/core.py"} <= set(paths)


def test_people_see_where_licenses_came_from_and_what_languages_there_are(platform: Platform) -> None:
    index = metadata_of(platform.run("snapshot"), "file_index")
    assert "| `Python` |" in index["languages"]
    assert "data:image/png;base64," in index["families and types"]
    filtered = metadata_of(platform.run("corpus", "Python"), "license_filtered")
    assert "| MIT | 7 |" in filtered["licenses"]
    assert "| package | 7 |" in filtered["license found in"]
    assert "alpha-1.0.dist-info/METADATA" in filtered["evidence"]


def test_a_policy_file_of_the_users_decides(platform: Platform, tmp_path: Path) -> None:
    policy = tmp_path / "licenses.toml"
    policy.write_text("allow = ['GPL-3.0-or-later']\n")
    platform.settings["policies"] = {"config": {"licenses": str(policy), "inheritance": "strictest"}}
    platform.run("snapshot")
    platform.run("corpus", "Python")
    kept = platform.lake.open().open("license_filtered", "Python").read("files", ["path"])["path"].to_pylist()
    assert "beta/core.py" in kept
    platform.settings["policies"] = {"config": {"inheritance": "farthest"}}
    assert not platform.run("snapshot").success
