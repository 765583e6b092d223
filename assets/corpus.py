"""The data wing, one partition per language.

raw_snapshot → license_filtered → quality_filtered → deduplicated → scrubbed.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import dagster as dg

from assets.archive import file_index
from assets.partitions import IN_BATCHES, LANGUAGES
from assets.reporting import (
    Metadata,
    describe_licenses,
    describe_quality,
    describe_scrubbed,
    describe_stage,
    report_partitions,
)
from resources.compute import ComputeResource
from resources.lake import LakeResource
from resources.policies import PoliciesResource
from stack_platform.corpus.stages import corpus_stages
from stack_platform.engine.stages import StageReport, run_stage
from stack_platform.tables import Lake


def _stage(
    after: dg.AssetsDefinition, *, eager: bool = True, kinds: frozenset[str] = frozenset({"parquet"})
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Declare a stage: a partition per language, which follows the stage it comes after."""
    return dg.asset(
        partitions_def=LANGUAGES,
        backfill_policy=IN_BATCHES,
        deps=[after],
        automation_condition=dg.AutomationCondition.eager() if eager else None,
        group_name="corpus",
        kinds=set(kinds),
        owners=["team:data"],
    )


def _run(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    compute: ComputeResource,
    policies: PoliciesResource,
    describe: Callable[[Lake, StageReport], Metadata] = describe_stage,
) -> dg.MaterializeResult[Any]:
    """Bring the run's languages up to date in the stage that has the asset's name."""
    tables = lake.open()
    stage = corpus_stages(compute.engine(), policies.open())[context.asset_key.to_user_string()]
    reports = run_stage(tables, stage, context.partition_keys, lake.texts())
    return report_partitions(context, reports, partial(describe, tables))


@_stage(file_index, eager=False)
def raw_snapshot(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    compute: ComputeResource,
    policies: PoliciesResource,
) -> dg.MaterializeResult[Any]:
    """All files of a language, with the columns of The Stack v2."""
    return _run(context, lake, compute, policies)


@_stage(raw_snapshot)
def license_filtered(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    compute: ComputeResource,
    policies: PoliciesResource,
) -> dg.MaterializeResult[Any]:
    """Files whose license, their own or the nearest above them, the policy allows; the evidence of each."""
    return _run(context, lake, compute, policies, describe_licenses)


@_stage(license_filtered)
def quality_filtered(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    compute: ComputeResource,
    policies: PoliciesResource,
) -> dg.MaterializeResult[Any]:
    """Files within the cut-offs of the quality policy, free of benchmark items and malware; the signals of each."""
    return _run(context, lake, compute, policies, partial(describe_quality, policies.open().quality))


@_stage(quality_filtered, kinds=frozenset({"parquet", "duckdb"}))
def deduplicated(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    compute: ComputeResource,
    policies: PoliciesResource,
) -> dg.MaterializeResult[Any]:
    """One of each set of equal files, and none that has a kept near-duplicate; the witness of each removal."""
    return _run(context, lake, compute, policies)


@_stage(deduplicated)
def scrubbed(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    compute: ComputeResource,
    policies: PoliciesResource,
) -> dg.MaterializeResult[Any]:
    """Texts with secrets and personal data replaced, and where each replacement was made."""
    return _run(context, lake, compute, policies, describe_scrubbed)
