"""Quality cut-offs, benchmark items and caps remove files with a reason; a user's policy changes which."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stack_platform.corpus.funnel import funnel
from stack_platform.corpus.index import indexed_languages
from stack_platform.corpus.stages import INDEX, Policies, corpus_stages
from stack_platform.corpus.texts import text_reader
from stack_platform.corpus.why import explain
from stack_platform.engine.local import LocalEngine
from stack_platform.engine.stages import run_stage
from stack_platform.licenses.policy import LicenseConfig
from stack_platform.quality.contamination import ContaminationConfig, pinned
from stack_platform.quality.items import Benchmark
from stack_platform.quality.judge import QualityConfig
from stack_platform.quality.policy import load_policy
from stack_platform.schemas import MEASURED_FILES
from stack_platform.tables import Lake

Rebuild = Callable[[Lake, Path], None]


@pytest.fixture
def lake(own_site: Path, tmp_path: Path, rebuild: Rebuild) -> Lake:
    (own_site / "alpha/copy_b.py").write_text(f"table = {list(range(500))!r}\n")
    lake = Lake(tmp_path / "lake")
    rebuild(lake, own_site)
    return lake


def again(lake: Lake, policies: Policies) -> None:
    with LocalEngine(1) as engine:
        for stage in corpus_stages(engine, policies).values():
            run_stage(lake, stage, indexed_languages(lake.open(INDEX)), text_reader(lake))


def last_step(lake: Lake, path: str):
    (story,) = explain(lake, path)
    return story.steps[-1]


def test_a_long_line_leaves_with_signal_value_and_limit(lake: Lake) -> None:
    step = last_step(lake, "alpha/copy_b.py")
    assert (step.stage, step.reason, step.policy_version) == (
        "quality_filtered",
        "long_average_line",
        "starcoder2-1",
    )
    assert step.evidence["signal"] == "avg_line_length"
    assert step.evidence["value"] > step.evidence["limit"] == 100


def test_kept_files_carry_their_signals(lake: Lake) -> None:
    files = lake.open("quality_filtered", "Python").read("files")
    assert files.schema.equals(MEASURED_FILES)
    row = next(row for row in files.to_pylist() if row["path"] == "alpha/kept.py")
    assert row["num_lines"] == 79
    assert 0.3 < row["alpha_fraction"] < row["alphanum_fraction"] < 1


def test_a_users_policy_file_decides_otherwise(lake: Lake, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "extends: starcoder2\nversion: mine-1\n"
        "cutoffs: {long_line: off, long_average_line: off, low_alpha: off}\ncaps: {C: 0}\n"
    )
    again(lake, Policies(quality=QualityConfig(load_policy(mine))))
    assert last_step(lake, "alpha/copy_b.py").verdict == "kept"
    step = last_step(lake, "alpha/fast.c")
    assert (step.stage, step.reason) == ("deduplicated", "over_cap")
    assert funnel(lake)[2].stage == "quality_filtered"


def test_a_file_that_holds_a_benchmark_item_leaves(lake: Lake, own_site: Path, tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    text = (own_site / "alpha/kept.py").read_text()
    items.write_text(json.dumps({"task_id": "mine/1", "prompt": text[100:400]}) + "\n")
    config = pinned(ContaminationConfig(benchmarks=(Benchmark("mine", str(items)),)))
    again(lake, Policies(quality=replace(QualityConfig(), contamination=config)))
    step = last_step(lake, "alpha/kept.py")
    assert (step.stage, step.reason) == ("quality_filtered", "contaminated")
    assert (step.evidence["benchmark"], step.evidence["item"]) == ("mine", "mine/1")


def test_a_users_license_policy_is_in_each_decision(lake: Lake) -> None:
    again(lake, Policies(licenses=LicenseConfig(allow=("GPL-3.0-or-later",), deny=("MIT",))))
    assert last_step(lake, "beta/core.py").verdict == "kept"
    step = last_step(lake, "alpha/kept.py")
    assert (step.stage, step.reason) == ("license_filtered", "license_non_permissive")
    assert step.policy_version is not None
    assert "+" in step.policy_version
