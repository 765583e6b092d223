"""Checks that can fail: each reads what was committed again. The blocking ones stop what comes after.

The checks of one asset are one step, because a step costs more than most checks; any of them can be run alone. In
a run they look at the languages of the run, alone at every language that is committed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import dagster as dg

from assets.archive import file_index
from assets.corpus import deduplicated, license_filtered, quality_filtered, raw_snapshot, scrubbed
from assets.models import merged_model, trained_adapter
from assets.partitions import LANGUAGES
from assets.releases import sealed_release
from resources.lake import LakeResource
from resources.policies import PoliciesResource
from stack_platform.corpus import checks
from stack_platform.corpus.checks import Outcome
from stack_platform.releases.publish import verify_release
from stack_platform.tables import Lake
from stack_platform.training.checks import held_out_loss_improved, merged_equals_adapted

Check = Callable[..., Outcome]  # of lake and language, and of the policy where one decides
PARTITION = "dagster/partition"
FIRST, LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
JUDGED_BY = {"no_copyleft_row": "licenses", "no_secret_found_again": "scrub"}  # checks that a policy decides
BLOCKING = {"no_copyleft_row", "no_exact_duplicate", "no_secret_found_again", "merged_equals_adapted"}


def _result(name: str, outcome: Outcome) -> dg.AssetCheckResult:
    metadata = {"details": dg.MetadataValue.json(dict(outcome.details))} if outcome.details else {}
    return dg.AssetCheckResult(
        check_name=name, passed=outcome.passed, description=outcome.summary, metadata=metadata
    )


def _spec(asset: dg.AssetsDefinition, name: str, check: Any) -> dg.AssetCheckSpec:
    doc = str(check.func.__doc__ if isinstance(check, partial) else check.__doc__)
    return dg.AssetCheckSpec(name, asset=asset, description=doc, blocking=name in BLOCKING)


def languages_of(tags: Mapping[str, str], lake: Lake, stage: str) -> Sequence[str]:
    """Give the languages a run is about; of a run about none in particular, all that are committed."""
    if PARTITION in tags:
        return [tags[PARTITION]]
    if FIRST in tags and LAST in tags:
        return LANGUAGES.get_partition_keys_in_range(dg.PartitionKeyRange(tags[FIRST], tags[LAST]))
    return lake.partitions(stage)


def _per_language(asset: dg.AssetsDefinition, named: Mapping[str, Check]) -> dg.AssetChecksDefinition:
    """Make an asset's checks."""
    stage = asset.key.to_user_string()
    specs = [_spec(asset, name, check) for name, check in named.items()]

    @dg.multi_asset_check(name=f"{stage}_checks", specs=specs, can_subset=True)
    def run(
        context: dg.AssetCheckExecutionContext, lake: LakeResource, policies: PoliciesResource
    ) -> Iterator[dg.AssetCheckResult]:
        tables = lake.open()
        languages = languages_of(context.run.tags, tables, stage)
        for name in sorted(key.name for key in context.selected_asset_check_keys):
            config = {"config": getattr(policies.open(), JUDGED_BY[name])} if name in JUDGED_BY else {}
            yield _result(name, checks.for_all(languages, partial(named[name], tables, **config)))

    return run


def _stage(name: str) -> dict[str, Check]:
    return {
        "counts_add_up": partial(checks.counts_add_up, stage=name),
        "schema_holds": partial(checks.schema_holds, stage=name),
    }


@dg.asset_check(asset=file_index)
def index_adds_up(lake: LakeResource) -> dg.AssetCheckResult:
    """Every path is in exactly one language or has a reason, and no content is in two languages."""
    return _result("index_adds_up", checks.index_adds_up(lake.open()))


@dg.asset_check(asset=sealed_release)
def release_verifies(lake: LakeResource) -> dg.AssetCheckResult:
    """Every file of the newest release has the SHA-256 and the rows it was sealed with."""
    problems = verify_release(lake.open())
    return dg.AssetCheckResult(
        passed=not problems, description="; ".join(problems[:5]) or "every file as sealed"
    )


CHECKS = [
    index_adds_up,
    release_verifies,
    _per_language(raw_snapshot, _stage("raw_snapshot")),
    _per_language(
        license_filtered, {**_stage("license_filtered"), "no_copyleft_row": checks.licenses_allowed}
    ),
    _per_language(quality_filtered, _stage("quality_filtered")),
    _per_language(deduplicated, {**_stage("deduplicated"), "no_exact_duplicate": checks.no_exact_duplicate}),
    _per_language(scrubbed, {**_stage("scrubbed"), "no_secret_found_again": checks.nothing_left_to_scrub}),
    _per_language(trained_adapter, {"held_out_loss_improved": held_out_loss_improved}),
    _per_language(merged_model, {"merged_equals_adapted": merged_equals_adapted}),
]
