"""Trained adapters and merged models as partitions of the lake, one per language.

The partition's table `curve` holds the training loss, its counts hold the report, and the weights lie in a folder
beside the lake that the fingerprint of base, data and settings names:

    <models>/trained_adapter/<language>/<fingerprint, first 16 digits>/
    <models>/merged_model/<language>/<fingerprint, first 16 digits>/

An adapter trains from the committed partition of `scrubbed`, named by its digest. Texts are taken in the order of
their content ids, which is a random sample of the language that does not depend on where the files came from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stack_platform.adapters.config import LoraConfig
from stack_platform.engine.progress import Meter
from stack_platform.errors import AdapterError
from stack_platform.manifests import digest_of
from stack_platform.tables import Lake, Partition
from stack_platform.training.config import TrainingConfig
from stack_platform.training.models import BaseModel, resolve_base_model

ADAPTER, MERGED = "trained_adapter", "merged_model"
CURVE = pa.schema([("step", pa.int64()), ("loss", pa.float64())])
CHECK = pa.schema([("difference", pa.float64()), ("allowed", pa.float64()), ("effect", pa.float64())])
VERSION = "2"
_BYTES_A_TOKEN = 4  # of code, at least two; what is read beyond need costs a second
_SAMPLE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to train, on what base, how."""

    base: str
    lora: LoraConfig
    training: TrainingConfig
    prompt: str = "def fibonacci(n):\n"


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One committed adapter or merged model, for people."""

    language: str
    folder: Path
    digest: str
    facts: dict[str, Any]
    skipped: bool


def train_adapters(
    lake: Lake,
    models: Path,
    languages: Sequence[str],
    recipe: Recipe,
) -> list[ModelReport]:
    """Train an adapter for each language whose data, base or settings changed.

    Raises:
        TableError: a language is not scrubbed yet.
        AdapterError: there is too little text, or the loss stops being a number.
        ModelError: the base model cannot be loaded.

    """
    base = resolve_base_model(recipe.base, models / "base")
    return [_train_one(lake, models, language, base, recipe) for language in languages]


def merge_adapters(lake: Lake, models: Path, languages: Sequence[str], recipe: Recipe) -> list[ModelReport]:
    """Merge each language's adapter into its base as a dense model, and check its logits.

    Raises:
        TableError: there is no adapter of a language yet.
        AdapterError: the merged model is not base + adapter.

    """
    base = resolve_base_model(recipe.base, models / "base")
    return [_merge_one(lake, models, language, base, recipe) for language in languages]


def model_report(models: Path, partition: Partition, *, skipped: bool) -> ModelReport:
    """Tell what a committed adapter or merged model says of itself."""
    manifest = partition.manifest
    folder = _folder(models, manifest.stage, manifest.partition, manifest.fingerprint)
    return ModelReport(manifest.partition, folder, manifest.digest, dict(manifest.counts), skipped)


def _train_one(
    lake: Lake,
    models: Path,
    language: str,
    base: BaseModel,
    recipe: Recipe,
) -> ModelReport:
    from stack_platform.training.runs import train_adapter

    data = lake.open("scrubbed", language)
    named = data.manifest.table_digest("files")
    settings = [recipe.lora.to_dict(), asdict(recipe.training)]
    fingerprint = digest_of([ADAPTER, VERSION, base.digest, named, settings])
    done = _done(lake, models, ADAPTER, language, fingerprint)
    if done is not None:
        return done
    wanted = recipe.training.blocks_needed * recipe.training.block_size * _BYTES_A_TOKEN
    sample = _sample(data, max(4 * wanted, _SAMPLE_BYTES))
    folder = _folder(models, ADAPTER, language, fingerprint)
    with Meter(f"training on {language}") as meter:

        def show(step: int, total: int, loss: float) -> None:
            meter.show(step, total, f"loss {loss:.3f}")

        report = train_adapter(lambda: iter(sample), base, folder, recipe.lora, recipe.training, show, named)
    with lake.writer(ADAPTER, language, fingerprint) as out:
        steps, losses = zip(*report.losses, strict=True)
        out.append(
            "curve", pa.table([pa.array(steps, pa.int64()), pa.array(losses, pa.float64())], schema=CURVE)
        )
        facts = asdict(report)
        facts.pop("folder")
        facts.pop("losses")
        out.counts = {**facts, "base": {"name": base.name, "digest": base.digest}, "data": named}
    assert out.committed is not None
    return model_report(models, out.committed, skipped=False)


def _merge_one(lake: Lake, models: Path, language: str, base: BaseModel, recipe: Recipe) -> ModelReport:
    from stack_platform.training.runs import merge_adapter_into

    adapter = lake.open(ADAPTER, language)
    fingerprint = digest_of([MERGED, VERSION, adapter.digest, base.digest, recipe.prompt])
    done = _done(lake, models, MERGED, language, fingerprint)
    if done is not None:
        return done
    trained = model_report(models, adapter, skipped=True).folder
    if not trained.is_dir():
        raise AdapterError(
            f"the adapter's folder {trained} is gone; materialize trained_adapter for {language!r} again"
        )
    report = merge_adapter_into(base, trained, _folder(models, MERGED, language, fingerprint), recipe.prompt)
    with lake.writer(MERGED, language, fingerprint) as out:
        row = {name: [getattr(report, name)] for name in CHECK.names}
        out.append("check", pa.table(row, schema=CHECK))
        facts = asdict(report)
        facts.pop("folder")
        out.counts = {**facts, "adapter": adapter.digest, "prompt": recipe.prompt}
    assert out.committed is not None
    return model_report(models, out.committed, skipped=False)


def _done(lake: Lake, models: Path, stage: str, language: str, fingerprint: str) -> ModelReport | None:
    current = lake.latest(stage, language)
    if current is None or current.manifest.fingerprint != fingerprint:
        return None
    report = model_report(models, current, skipped=True)
    return report if report.folder.is_dir() else None


def _folder(models: Path, stage: str, language: str, fingerprint: str) -> Path:
    return models / stage / quote(language, safe=" ") / fingerprint[:16]


def _sample(data: Partition, wanted_bytes: int) -> list[tuple[str, str]]:
    """Take texts in the order of their content ids until there are enough bytes."""
    files = data.read("files", ["content_id", "length_bytes"]).sort_by("content_id")
    enough = int(np.searchsorted(np.cumsum(files["length_bytes"].to_numpy()), wanted_bytes)) + 1
    chosen = files["content_id"].slice(0, enough).combine_chunks()
    return sorted(_texts(data, chosen))


def _texts(data: Partition, chosen: pa.Array) -> Iterator[tuple[str, str]]:
    for batch in data.batches("files", ["content_id", "content"]):
        rows = batch.filter(pc.is_in(batch["content_id"], chosen))
        yield from zip(rows["content_id"].to_pylist(), rows["content"].to_pylist(), strict=True)
