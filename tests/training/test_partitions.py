"""Adapters and merged models are partitions that name their data, and are not made twice."""

from pathlib import Path

import pytest

from stack_platform.adapters.config import LoraConfig
from stack_platform.errors import AdapterError, TableError
from stack_platform.tables import Lake
from stack_platform.training.checks import held_out_loss_improved, merged_equals_adapted
from stack_platform.training.config import TrainingConfig
from stack_platform.training.models import BaseModel
from stack_platform.training.partitions import Recipe, merge_adapters, train_adapters


@pytest.fixture
def recipe(base: BaseModel) -> Recipe:
    training = TrainingConfig(
        steps=12,
        batch_size=2,
        block_size=16,
        learning_rate=2e-2,
        warmup_steps=1,
        held_out_share=0.5,
        eval_blocks=4,
        precision="fp32",
    )
    return Recipe(str(base.path), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"), training, "def")


def test_an_adapter_is_trained_merged_and_passes_its_checks(
    corpus: Lake, tmp_path: Path, recipe: Recipe
) -> None:
    lake = copy_of(corpus, tmp_path)
    (trained,) = train_adapters(lake, tmp_path / "models", ["Python"], recipe)
    assert trained.facts["data"] == lake.open("scrubbed", "Python").manifest.table_digest("files")
    assert lake.open("trained_adapter", "Python").read("curve").num_rows == 12
    assert (trained.folder / "adapter_model.safetensors").is_file()
    assert held_out_loss_improved(lake, "Python").passed

    (merged,) = merge_adapters(lake, tmp_path / "models", ["Python"], recipe)
    assert (merged.folder / "model.safetensors").is_file()
    assert merged_equals_adapted(lake, "Python").passed
    for make, first in ((train_adapters, trained), (merge_adapters, merged)):
        (again,) = make(lake, tmp_path / "models", ["Python"], recipe)
        assert (again.skipped, again.digest) == (True, first.digest)


def test_a_lost_folder_is_made_again_with_the_same_bytes(
    corpus: Lake, tmp_path: Path, recipe: Recipe
) -> None:
    import shutil

    lake = copy_of(corpus, tmp_path)
    (first,) = train_adapters(lake, tmp_path / "models", ["Python"], recipe)
    weights = (first.folder / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(first.folder)
    with pytest.raises(AdapterError, match="materialize trained_adapter for 'Python' again"):
        merge_adapters(lake, tmp_path / "models", ["Python"], recipe)
    (again,) = train_adapters(lake, tmp_path / "models", ["Python"], recipe)
    assert not again.skipped
    assert (again.folder / "adapter_model.safetensors").read_bytes() == weights


def test_a_language_that_is_not_scrubbed_says_what_to_do(
    corpus: Lake, tmp_path: Path, recipe: Recipe
) -> None:
    with pytest.raises(TableError, match="--select scrubbed --partition 'Go'"):
        train_adapters(corpus, tmp_path, ["Go"], recipe)


def test_a_worse_adapter_and_a_wrong_merge_fail_their_checks(tmp_path: Path) -> None:
    import pyarrow as pa

    lake = Lake(tmp_path)
    with lake.writer("trained_adapter", "C") as out:
        out.counts = {"before": {"nats_per_token": 1.0}, "after": {"nats_per_token": 1.5}}
    assert not held_out_loss_improved(lake, "C").passed
    for wrong in (
        {"difference": 2.0, "allowed": 1.0, "effect": 3.0},
        {"difference": 0.0, "allowed": 1.0, "effect": 0.0},
    ):
        with lake.writer("merged_model", "C", str(wrong)) as out:
            out.append("check", pa.table({name: [value] for name, value in wrong.items()}))
        assert not merged_equals_adapted(lake, "C").passed


def copy_of(corpus: Lake, folder: Path) -> Lake:
    import shutil

    shutil.copytree(corpus.root, folder / "lake")
    return Lake(folder / "lake")
