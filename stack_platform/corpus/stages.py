"""The five stages between the index and the training set, each a function of one language's slice.

raw_snapshot → license_filtered → quality_filtered → deduplicated → scrubbed. Each stage takes the rooms' pure
functions and writes what they find as decisions; `engine.stages` applies and commits them. Texts are read from the
graph; only `scrubbed` holds text again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from stack_platform.corpus.duplicates import DedupConfig, deduplicate, stored_index
from stack_platform.corpus.judging import filter_licenses, filter_quality
from stack_platform.corpus.scrubbing import scrub_texts
from stack_platform.engine.contract import Engine
from stack_platform.engine.stages import Input, Piece, Slice, Stage, is_stale, upstream_input
from stack_platform.licenses.inherit import InheritConfig
from stack_platform.licenses.policy import LicenseConfig, policy_version
from stack_platform.quality.judge import QualityConfig
from stack_platform.schemas import FILES
from stack_platform.scrub.redact import ScrubConfig
from stack_platform.tables import Lake

INDEX = "file_index"
STAGES = ("raw_snapshot", "license_filtered", "quality_filtered", "deduplicated", "scrubbed")
UPSTREAM = dict(zip(STAGES, (INDEX, *STAGES), strict=False))


@dataclass(frozen=True, slots=True)
class NoConfig:
    """A stage without settings."""


@dataclass(frozen=True, slots=True)
class Policies:
    """Everything that decides about files."""

    inheritance: InheritConfig = InheritConfig()
    licenses: LicenseConfig = LicenseConfig()
    quality: QualityConfig = field(default_factory=QualityConfig)
    dedup: DedupConfig = DedupConfig()
    scrub: ScrubConfig = ScrubConfig()


def corpus_stages(engine: Engine, policies: Policies = Policies()) -> dict[str, Stage]:
    """Give the stages by name, in the order files pass them."""
    licenses, quality, scrub = policies.licenses, policies.quality, policies.scrub
    dedup = replace(policies.dedup, caps=quality.policy.caps)
    stages = (
        Stage("raw_snapshot", INDEX, "2", NoConfig(), _take, _index_input),
        Stage(
            "license_filtered",
            UPSTREAM["license_filtered"],
            f"2 {policy_version(licenses)}",
            licenses,
            partial(filter_licenses, engine, licenses),
            upstream_input,
        ),
        Stage(
            "quality_filtered",
            UPSTREAM["quality_filtered"],
            "1",
            quality,
            partial(filter_quality, engine, quality),
            upstream_input,
        ),
        Stage(
            "deduplicated",
            UPSTREAM["deduplicated"],
            "2",
            dedup,
            partial(_deduplicate, engine.workers, dedup),
            upstream_input,
        ),
        Stage(
            "scrubbed", UPSTREAM["scrubbed"], "2", scrub, partial(scrub_texts, engine, scrub), upstream_input
        ),
    )
    return {stage.name: stage for stage in stages}


def changed_languages(lake: Lake, stages: Mapping[str, Stage]) -> dict[str, str]:
    """Give language → identity of its rows in the index, for each that some stage has not brought up to date.

    A language that was materialized and has no file any more is among them; one that never had is not.
    """
    index = lake.latest(INDEX)
    if index is None:
        return {}
    indexed = {name for name in index.manifest.tables if not name.startswith("_")}
    languages = sorted(indexed | set(lake.partitions(STAGES[0])))
    stale = [name for name in languages if any(is_stale(lake, stage, name) for stage in stages.values())]
    return {name: index.manifest.counts["identities"].get(name, "") for name in stale}


def _index_input(lake: Lake, stage: Stage, language: str) -> Input:
    """Find the index's rows of one language, and the identity of those rows only."""
    index = lake.open(stage.upstream)
    return Input(
        lambda: index.read(language, schema=FILES), index.manifest.counts["identities"].get(language, "")
    )


def _deduplicate(threads: int, config: DedupConfig, slice_: Slice) -> Iterator[Piece]:
    return deduplicate(config, slice_, stored_index(slice_.previous), threads)


def _take(slice_: Slice) -> Iterator[Piece]:
    yield Piece(slice_.files)
