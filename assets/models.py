"""From a scrubbed language to a model one may publish."""

from collections.abc import Callable
from functools import partial
from typing import Any

import dagster as dg

from assets.corpus import scrubbed
from assets.partitions import IN_BATCHES, LANGUAGES
from assets.reporting import Metadata, loss_plot, report_partitions
from resources.lake import LakeResource
from resources.models import ModelsResource
from stack_platform.tables import Lake
from stack_platform.training.partitions import ModelReport, merge_adapters, train_adapters


def _model(after: dg.AssetsDefinition) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Declare a model per language, made of the asset it comes after; one is made at a time."""
    return dg.asset(
        partitions_def=LANGUAGES,
        backfill_policy=IN_BATCHES,
        deps=[after],
        group_name="models",
        kinds={"pytorch", "huggingface"},
        owners=["team:ml"],
        pool="training",
    )


@_model(scrubbed)
def trained_adapter(
    context: dg.AssetExecutionContext, lake: LakeResource, models: ModelsResource
) -> dg.MaterializeResult[Any]:
    """A LoRA adapter trained on the language, with its loss on held-out files before and after."""
    tables = lake.open()
    reports = train_adapters(tables, lake.folder("models"), context.partition_keys, models.recipe())
    return report_partitions(context, reports, partial(describe_adapter, tables))


@_model(trained_adapter)
def merged_model(
    context: dg.AssetExecutionContext, lake: LakeResource, models: ModelsResource
) -> dg.MaterializeResult[Any]:
    """The adapter merged into its base: a dense model that transformers loads, its logits compared."""
    reports = merge_adapters(lake.open(), lake.folder("models"), context.partition_keys, models.recipe())
    return report_partitions(context, reports, describe_merged)


def describe_adapter(lake: Lake, report: ModelReport) -> Metadata:
    """Losses, curve, sizes and origin of an adapter."""
    curve = lake.open("trained_adapter", report.language).read("curve").to_pydict()
    before, after = report.facts["before"], report.facts["after"]
    return {
        "held-out loss before": float(before["nats_per_token"]),
        "held-out loss after": float(after["nats_per_token"]),
        "training": loss_plot(
            curve["step"], curve["loss"], before["nats_per_token"], after["nats_per_token"]
        ),
        "trainable parameters": report.facts["trainable_parameters"],
        "tokens": report.facts["tokens"],
        "files trained on": report.facts["train_files"],
        "files held out": report.facts["held_out_files"],
        "precision": report.facts["precision"],
        "base": dg.MetadataValue.json(report.facts["base"]),
        "data": report.facts["data"],
        "folder": dg.MetadataValue.path(str(report.folder)),
        "unchanged": report.skipped,
    }


def describe_merged(report: ModelReport) -> Metadata:
    """How far the merged model is from base and adapter, and what it writes."""
    facts = report.facts
    return {
        "largest logit difference": float(facts["difference"]),
        "allowed by rounding": float(facts["allowed"]),
        "effect of the adapter": float(facts["effect"]),
        "completion": dg.MetadataValue.md(f"```\n{facts['prompt']}{facts['completion']}\n```"),
        "dtype": facts["dtype"],
        "load": dg.MetadataValue.md(f"`AutoModelForCausalLM.from_pretrained({str(report.folder)!r})`"),
        "folder": dg.MetadataValue.path(str(report.folder)),
        "unchanged": report.skipped,
    }
